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

#[cfg(test)]
mod tests {
    use pgherd_sql::LexOptions;

    use super::{Word, first};

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
