//! Texts that differ in nothing but literals.
//!
//! A literal that is a plain number or a plain string means what a parameter of its type means that has its value,
//! wherever one may stand. So one plan does for all texts that have the same [`Slots::text`], as far as it leads
//! to the one shard of their keys, where the text is sent as it is. Where no parameter may stand, or where it
//! says less than the literal (the number of a column, the name of a sequence), the plan is another or none, and the
//! text is planned by itself.

use pgherd_sql::{LexOptions, Lexer, Token, TokenKind};

use crate::plan::Param;

/// A text with more literals is planned by itself.
const MOST: usize = 64;
/// A number of so many digits fits into 64 bits.
const DIGITS: usize = 18;
/// The OIDs of `integer` and `bigint`.
const INT: [u32; 2] = [23, 20];

/// A text in which literals are parameters.
#[derive(Debug)]
pub struct Slots<'t> {
    /// The text, with `$1`, `$2` and so on for the literals.
    pub text: String,
    /// What the literals are; a string has no type, as it has none on a server.
    pub values: Vec<Param<'t>>,
}

impl<'t> Slots<'t> {
    /// Takes the literals out of a text; nothing if it has none, or anything in it that is not certain to mean the
    /// same by itself.
    pub fn of(text: &'t str) -> Option<Self> {
        let bytes = text.as_bytes();
        // Where a backslash has a meaning, and what letters beyond ASCII are, hangs on settings.
        if !text.is_ascii() || bytes.contains(&b'\\') {
            return None;
        }
        let mut found = Self {
            text: String::with_capacity(text.len() + 8),
            values: Vec::new(),
        };
        let mut lexer = Lexer::new(bytes, LexOptions::default());
        let mut taken = 0;
        let mut before = None;
        while let Some(token) = lexer.token().ok()? {
            if token.kind == TokenKind::Param || found.values.len() > MOST {
                return None;
            }
            if let Some(value) = literal(text, &token, before) {
                found.values.push(value);
                found.text.push_str(&text[taken..token.start]);
                found.text.push('$');
                push(&mut found.text, found.values.len());
                taken = token.start + token.text.len();
            }
            before = Some(token.kind);
        }
        found.text.push_str(&text[taken..]);
        (!found.values.is_empty()).then_some(found)
    }
}

/// Writes a number of two digits at most, which takes no formatter.
fn push(text: &mut String, number: usize) {
    let digit = |number: usize| char::from(b'0' + (number % 10) as u8);
    if number > 9 {
        text.push(digit(number / 10));
    }
    text.push(digit(number));
}

/// The value of a literal that a parameter may stand for.
fn literal<'t>(text: &'t str, token: &Token<'t>, before: Option<TokenKind>) -> Option<Param<'t>> {
    let (oid, value) = match token.kind {
        TokenKind::Number => (kind_of(token.text)?, token.text),
        // Behind a word it may be a value of the type that the word names.
        TokenKind::String if !matches!(before, Some(TokenKind::Word | TokenKind::QuotedWord)) => {
            let inside = token.text.strip_prefix(b"'")?.strip_suffix(b"'")?;
            // Another quote is a doubled one, or there are several pieces.
            if inside.contains(&b'\'') {
                return None;
            }
            (0, inside)
        }
        _ => return None,
    };
    let bytes = text.as_bytes();
    let first = token.start.checked_sub(1).and_then(|at| bytes.get(at));
    let next = bytes.get(token.start + token.text.len());
    let apart = |byte: Option<&u8>| byte.is_none_or(|byte| is_border(*byte));
    (apart(first) && apart(next)).then_some(Param {
        oid,
        binary: false,
        value: Some(value),
    })
}

/// The type of a whole number, as a server tells it by its digits.
fn kind_of(digits: &[u8]) -> Option<u32> {
    if digits.len() > DIGITS || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits
        .iter()
        .fold(0_i64, |value, digit| value * 10 + i64::from(digit - b'0'));
    Some(INT[usize::from(i32::try_from(value).is_err())])
}

/// What may touch a literal without being a part of it, in whichever version.
fn is_border(byte: u8) -> bool {
    matches!(
        byte,
        b' ' | b'\t'
            | b'\n'
            | b'\r'
            | b'('
            | b')'
            | b','
            | b';'
            | b'['
            | b']'
            | b'='
            | b'<'
            | b'>'
            | b'+'
            | b'-'
            | b'*'
            | b':'
    )
}

#[cfg(test)]
mod tests {
    use super::Slots;

    fn taken(text: &str) -> Option<(String, Vec<(u32, String)>)> {
        let slots = Slots::of(text)?;
        let values = slots.values.iter().map(|value| {
            let text = String::from_utf8(value.value.unwrap().to_vec()).unwrap();
            (value.oid, text)
        });
        Some((slots.text.clone(), values.collect()))
    }

    #[test]
    fn plain_numbers_and_strings_are_taken_out() {
        let of = |oid: u32, text: &str| (oid, text.to_owned());
        assert_eq!(
            taken("select * from t where k=7 and b in ('x', 3000000000);"),
            Some((
                "select * from t where k=$1 and b in ($2, $3);".to_owned(),
                vec![of(23, "7"), of(0, "x"), of(20, "3000000000")]
            ))
        );
        assert_eq!(
            taken("select -2147483648, 2147483647, 2147483648"),
            Some((
                "select -$1, $2, $3".to_owned(),
                vec![
                    of(20, "2147483648"),
                    of(23, "2147483647"),
                    of(20, "2147483648")
                ]
            ))
        );
        let many: Vec<String> = (1..=12).map(|number| number.to_string()).collect();
        let (text, values) = taken(&many.join(",")).unwrap();
        assert!(text.ends_with(",$9,$10,$11,$12"), "{text}");
        assert_eq!(values.len(), 12);
    }

    #[test]
    fn all_that_may_mean_something_else_stays() {
        for text in [
            "select k from t",
            "select a1, \"$1 7 'x'\", t2.b3 from t2",
            "select 1.5, .5, 5., 1e3, 1e-3",
            "select 0x1f, 1_000, 0b1, 12a",
            "select 1000000000000000000000000",
            "select e'x', E'x', b'1', x'1f', n'x', U&'x', $$x$$, $a$7$a$",
            "select 'it''s', 'x'\n'y'",
            "select date '2020-01-01', interval '1 day', \"date\" '2020-01-01'",
            "select /* 7 'x' */ k -- 7 'x'",
        ] {
            assert_eq!(taken(text), None, "{text}");
        }
        for text in [
            "select $1, 7",
            "select 'a\\b', 7",
            "select '\u{e9}', 7",
            "select 7, 'x",
            "select 7 /* x",
        ] {
            assert_eq!(taken(text), None, "{text}");
        }
        let too_many = vec!["7"; 100].join(",");
        assert_eq!(taken(&too_many), None);
    }
}
