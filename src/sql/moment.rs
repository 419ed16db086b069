//! Whether a text says a moment in words that are understood once, when it is prepared.

use std::borrow::Cow;

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
            Ok(Some(token)) if token.is_string() && is_moment(&token, lexer) => return true,
            Ok(Some(_)) => {}
            Ok(None) => return false,
            Err(_) => return true,
        }
    }
}

/// Whether a constant may be a moment; `behind` reads on behind it.
fn is_moment(token: &Token<'_>, mut behind: Lexer<'_>) -> bool {
    let text = token.text;
    let said = match token.kind {
        TokenKind::EscapeString => decoded(text, false),
        TokenKind::UnicodeString => match behind.token() {
            // Then it is another character that escapes.
            Ok(Some(next)) if next.is_word(b"uescape") => None,
            _ => decoded(text, true),
        },
        TokenKind::String => Some(Cow::Borrowed(text)),
        // Between dollars nothing can be hidden.
        _ => return has_word(text),
    };
    // A word may also be cut in two by the end of a line.
    let pieces = text.contains(&b'\n') || text.contains(&b'\r');
    let cut = pieces && text.iter().filter(|byte| **byte == b'\'').count() > 2;
    cut || said.is_none_or(|said| has_word(&said))
}

/// A constant without its escapes, of whose characters only those of ASCII are right; None where it is not certain.
fn decoded(text: &[u8], unicode: bool) -> Option<Cow<'_, [u8]>> {
    const OTHER: u8 = 0x80;
    if !text.contains(&b'\\') {
        return Some(Cow::Borrowed(text));
    }
    let mut said = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, behind)) = rest.split_first() {
        if *first != b'\\' {
            said.push(*first);
            rest = behind;
            continue;
        }
        let (kind, more) = behind.split_first()?;
        // The radix of a number, the least and greatest count of its digits, and where they begin.
        let (radix, least, most, digits) = match (unicode, *kind) {
            (true, b'+') => (16, 6, 6, more),
            (true, byte) if byte != b'\\' => (16, 4, 4, behind),
            (false, b'x') => (16, 1, 2, more),
            (false, b'u') => (16, 4, 4, more),
            (false, b'U') => (16, 8, 8, more),
            (false, b'0'..=b'7') => (8, 1, 3, behind),
            (_, byte) => {
                said.push(match byte {
                    b'b' | b'f' | b'n' | b'r' | b't' => b' ',
                    byte => byte,
                });
                rest = more;
                continue;
            }
        };
        let found = digits.iter().take(most);
        let found: Vec<u32> = found
            .map_while(|byte| char::from(*byte).to_digit(radix))
            .collect();
        if found.len() < least {
            return None;
        }
        rest = &digits[found.len()..];
        let code = found.iter().fold(0_u64, |code, digit| {
            code * u64::from(radix) + u64::from(*digit)
        });
        // Of three octal digits, a byte is kept.
        let code = if radix == 8 { code & 0xff } else { code };
        let byte = u8::try_from(code).ok().filter(u8::is_ascii);
        said.push(byte.unwrap_or(OTHER));
    }
    Some(Cow::Owned(said))
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
            ("select E'n\\557w'::timestamp", true),
            ("select E'\\x6e\\u006f\\U00000077'::timestamp", true),
            ("select U&'\\+00006eow'::timestamp", true),
            ("select U&'!006eow' UESCAPE '!'", true),
            ("select U&'\\zzzz'", true),
            ("select E'\\u00'", true),
            (
                "select U&'d\\0061t\\+000061, \\00e4 \\\\', E'\\\\d+\\n\\'\\344\\x41'",
                false,
            ),
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
