//! Which statements about the session and the transaction run on any shard.

use pgherd_sql::{LexOptions, Lexer};

/// What a text begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    /// Nothing but blanks, comments and semicolons.
    Nothing,
    /// A statement that means the same on whichever shard the session is, and follows the session.
    OfSession,
    /// Anything else.
    Other,
}

/// Tells by the first words.
pub(super) fn first(text: &[u8], options: LexOptions) -> Word {
    const WORDS: [&[u8]; 16] = [
        b"begin",
        b"start",
        b"commit",
        b"end",
        b"rollback",
        b"abort",
        b"savepoint",
        b"release",
        b"set",
        b"reset",
        b"show",
        b"discard",
        b"deallocate",
        b"fetch",
        b"move",
        b"close",
    ];
    let mut lexer = Lexer::new(text, options);
    let first = loop {
        match lexer.token() {
            Ok(Some(token)) if token.is(b';') => {}
            Ok(Some(token)) => break token,
            Ok(None) => return Word::Nothing,
            Err(_) => return Word::Other,
        }
    };
    // PREPARE TRANSACTION and its ends are about a server, not a session.
    let two_phase = matches!(lexer.token(), Ok(Some(second)) if second.is_word(b"prepared"));
    let known = WORDS.iter().any(|word| first.is_word(word));
    match known && !two_phase {
        true => Word::OfSession,
        false => Word::Other,
    }
}

/// The first word of a text, as it stands there.
pub(super) fn word(text: &[u8], options: LexOptions) -> Option<&[u8]> {
    let mut lexer = Lexer::new(text, options);
    let mut tokens = std::iter::from_fn(|| lexer.token().ok().flatten());
    tokens.find(|token| !token.is(b';')).map(|token| token.text)
}

/// Whether a text asks for a plan.
pub(super) fn explains(text: &[u8], options: LexOptions) -> bool {
    word(text, options).is_some_and(|word| word.eq_ignore_ascii_case(b"explain"))
}

/// Whether what ends a block takes it back, or a part of it, or is nothing at all.
pub(super) fn takes_back(text: &[u8], options: LexOptions) -> bool {
    let is = |word: &[u8], name: &[u8]| word.eq_ignore_ascii_case(name);
    word(text, options).is_none_or(|word| is(word, b"rollback") || is(word, b"abort"))
}

/// Whether rows may come of a text, of which a client may want some only.
pub(super) fn gives_rows(text: &[u8], options: LexOptions) -> bool {
    const WRITES: [&[u8]; 4] = [b"insert", b"update", b"delete", b"merge"];
    const OTHERS: [&[u8]; 14] = [
        b"alter",
        b"analyse",
        b"analyze",
        b"comment",
        b"copy",
        b"create",
        b"declare",
        b"drop",
        b"grant",
        b"lock",
        b"notify",
        b"reindex",
        b"revoke",
        b"truncate",
    ];
    let mut lexer = Lexer::new(text, options);
    let mut tokens = std::iter::from_fn(|| lexer.token().ok().flatten());
    let Some(first) = tokens.find(|token| !token.is(b';')) else {
        return false;
    };
    let is_one = |words: &[&[u8]]| words.iter().any(|word| first.is_word(word));
    // Behind a WITH may stand anything.
    let gives_none = is_one(&OTHERS) || is_one(&WRITES);
    !gives_none || is_one(&WRITES) && tokens.any(|token| token.is_word(b"returning"))
}

/// Whether a text only ends a block or takes it back, by its first words, or is none at all: what a client must
/// be able to say whatever is known of the shards.
pub(super) fn ends(text: &[u8], options: LexOptions) -> bool {
    const WORDS: [&[u8]; 4] = [b"commit", b"end", b"rollback", b"abort"];
    match first(text, options) {
        Word::Nothing => true,
        Word::Other => false,
        Word::OfSession => {
            let mut lexer = Lexer::new(text, options);
            let word =
                std::iter::from_fn(|| lexer.token().ok().flatten()).find(|token| !token.is(b';'));
            word.is_some_and(|first| WORDS.iter().any(|word| first.is_word(word)))
        }
    }
}

#[cfg(test)]
mod tests {
    use pgherd_sql::LexOptions;

    use super::{Word, ends, first, gives_rows};

    #[test]
    fn what_gives_rows_is_told_by_its_words() {
        for (text, expected) in [
            ("select 1", true),
            ("; Update t set a = 1", false),
            ("insert into t values ('returning')", false),
            ("delete from t returning a", true),
            ("with w as (select 1) insert into t select * from w", true),
            ("truncate t", false),
            ("explain update t set a = 1", true),
            ("", false),
        ] {
            let found = gives_rows(text.as_bytes(), LexOptions::default());
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn what_ends_a_block_is_told_by_its_first_word() {
        for (text, expected) in [
            ("", true),
            ("; COMMIT", true),
            ("rollback to s", true),
            ("commit prepared 'x'", false),
            ("begin", false),
            ("set a = 1", false),
            ("select 1", false),
        ] {
            assert_eq!(
                ends(text.as_bytes(), LexOptions::default()),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_of_the_session_is_told_by_its_first_words() {
        for (text, expected) in [
            ("", Word::Nothing),
            (" ; -- ping", Word::Nothing),
            ("BEGIN", Word::OfSession),
            ("/* x */ commit and chain", Word::OfSession),
            ("commit prepared 'x'", Word::Other),
            ("ROLLBACK PREPARED 'x'", Word::Other),
            ("prepare transaction 'x'", Word::Other),
            ("execute s", Word::Other),
            ("notify c", Word::Other),
            ("select 1", Word::Other),
            ("set a = 1", Word::OfSession),
        ] {
            assert_eq!(
                first(text.as_bytes(), LexOptions::default()),
                expected,
                "{text}"
            );
        }
    }
}
