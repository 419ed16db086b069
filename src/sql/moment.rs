//! Whether a text says a moment in words that are understood once, when it is prepared.

use crate::lexer::{LexOptions, Lexer, Token, TokenKind};

/// The words that date and time constants take from the clock (`datetktbl` of Postgres' datetime.c).
const WORDS: [&[u8]; 4] = [b"now", b"today", b"tomorrow", b"yesterday"];

/// Whether a string constant of `text` may mean another moment when it is read again later, as
/// `'today'::date` does. A constant that cannot be seen through counts as one, and so does a text
/// that cannot be followed.
pub fn names_moment(text: &[u8], options: LexOptions) -> bool {
    let mut lexer = Lexer::new(text, options);
    loop {
        match lexer.token() {
            Ok(Some(token)) if token.is_string() && is_moment(&token) => return true,
            Ok(Some(_)) => {}
            Ok(None) => return false,
            Err(_) => return true,
        }
    }
}

fn is_moment(token: &Token<'_>) -> bool {
    let text = token.text;
    let hidden = match token.kind {
        TokenKind::EscapeString => text.contains(&b'\\'),
        TokenKind::UnicodeString => true,
        TokenKind::String => false,
        // Between dollars nothing can be hidden.
        _ => return has_word(text),
    };
    // A word may also be cut in two by the end of a line.
    let pieces = text.contains(&b'\n') || text.contains(&b'\r');
    let cut = pieces && text.iter().filter(|byte| **byte == b'\'').count() > 2;
    hidden || cut || has_word(text)
}

fn has_word(text: &[u8]) -> bool {
    text.split(|byte| !byte.is_ascii_alphabetic())
        .any(|part| WORDS.iter().any(|word| word.eq_ignore_ascii_case(part)))
}

#[cfg(test)]
mod tests {
    use super::names_moment;
    use crate::lexer::LexOptions;

    #[test]
    fn moments_are_found_in_constants_only() {
        for (text, moment) in [
            ("select 'now'::timestamptz", true),
            ("select date 'Today'", true),
            ("select '[yesterday,tomorrow 04:05)'::daterange", true),
            ("select $$now$$::timestamp", true),
            ("select E'n\\157w'::timestamp", true),
            ("select U&'\\006eow'::timestamp", true),
            ("select 'no'\n'w'::timestamp", true),
            ("select now(), today from tomorrow", false),
            ("select 'unknown', 'nowhere', E'it is known'", false),
            ("select 'two\nlines'", false),
            ("select $1::timestamptz -- 'now'", false),
            ("select 'never closed", true),
        ] {
            let found = names_moment(text.as_bytes(), LexOptions::default());
            assert_eq!(found, moment, "{text}");
        }
    }
}
