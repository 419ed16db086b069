//! What a field says: `CopyReadAttributesText`, `CopyReadAttributesCSV`.

use std::borrow::Cow;

use crate::placement::{KeyType, KeyValue};
use crate::plan::copy::{Form, Shape};
use crate::plan::insert::stays;
use crate::refusal::{Refusal, Result};

/// A field as it has come.
#[derive(Debug, Clone, Copy)]
pub(super) enum Field<'a> {
    /// As it is written, in text or CSV.
    Written(&'a [u8]),
    /// In binary; None for NULL.
    Binary(Option<&'a [u8]>),
}

/// What it says.
enum Said<'a> {
    Null,
    Default,
    Value(Cow<'a, [u8]>),
}

/// How a field of the key is read.
pub(super) struct Reading<'a> {
    pub(super) form: &'a Form,
    /// Which column of the key it is.
    pub(super) number: usize,
    pub(super) kind: KeyType,
    pub(super) modifier: i32,
    /// Texts beyond ASCII are not what the servers store.
    pub(super) foreign: bool,
}

impl Reading<'_> {
    /// The value of the key, or why it is not certain what the server would store.
    pub(super) fn key(&self, field: Field<'_>) -> Result<KeyValue> {
        let binary = matches!(field, Field::Binary(_));
        let value = match self.said(field) {
            Said::Null => {
                return Err(Refusal::new("COPY", "the key of a row is NULL").with("23502"));
            }
            Said::Default => {
                let reason = "the key of a row is its column's default";
                return Err(Refusal::new("COPY", reason));
            }
            Said::Value(value) => value,
        };
        // What is written is brought to the servers' encoding before it is read: a `bytea` may have such characters, too.
        let text = !binary || matches!(self.kind, KeyType::Text | KeyType::Bpchar);
        if text && self.foreign && !value.is_ascii() {
            let reason = "the key of a row is in another encoding than the servers'";
            return Err(Refusal::new("COPY", reason));
        }
        let read = match binary {
            true => KeyValue::from_binary(self.kind, &value),
            false => KeyValue::from_text(self.kind, &value),
        };
        let value = read.map_err(|error| {
            let reason = format!("the key of a row {error}");
            Refusal::new("COPY", reason)
        })?;
        if !stays(&value, self.modifier) {
            let reason = "the key of a row is longer or finer than its column stores";
            return Err(Refusal::new("COPY", reason));
        }
        Ok(value)
    }

    fn said<'f>(&self, field: Field<'f>) -> Said<'f> {
        let said = field.said(self.form);
        let Form::Csv(shape, quotes) = self.form else {
            return said;
        };
        let is = |list: &[bool]| list.get(self.number).copied().unwrap_or_default();
        match said {
            Said::Null if is(&quotes.never_null) => Said::Value(Cow::Owned(shape.null.to_vec())),
            Said::Value(value) if is(&quotes.null_in_quotes) && *value == *shape.null => Said::Null,
            said => said,
        }
    }
}

impl<'a> Field<'a> {
    fn said(self, form: &Form) -> Said<'a> {
        let marks = |shape: &Shape, raw: &[u8]| match &shape.default {
            _ if *raw == *shape.null => Some(Said::Null),
            Some(default) if *raw == **default => Some(Said::Default),
            _ => None,
        };
        match (self, form) {
            (Self::Binary(None), _) => Said::Null,
            (Self::Binary(Some(value)), _) => Said::Value(Cow::Borrowed(value)),
            (Self::Written(raw), Form::Text(shape)) => {
                marks(shape, raw).unwrap_or_else(|| Said::Value(without_escapes(raw)))
            }
            (Self::Written(raw), Form::Csv(shape, quotes)) => match raw.contains(&quotes.quote) {
                true => Said::Value(without_quotes(raw, quotes.quote, quotes.escape)),
                false => marks(shape, raw).unwrap_or(Said::Value(Cow::Borrowed(raw))),
            },
            (Self::Written(raw), Form::Binary) => Said::Value(Cow::Borrowed(raw)),
        }
    }

    /// Whether it has one of the words that a date or time takes from the clock of whoever reads it.
    pub(super) fn names_moment(self, form: &Form) -> bool {
        const WORDS: [&str; 4] = ["now", "today", "tomorrow", "yesterday"];
        let Self::Written(raw) = self else {
            return false;
        };
        // A word may be written by numbers.
        if !raw
            .iter()
            .any(|byte| byte.is_ascii_alphabetic() || *byte == b'\\')
        {
            return false;
        }
        let Said::Value(value) = self.said(form) else {
            return false;
        };
        let mut words = value.split(|byte| !byte.is_ascii_alphabetic());
        words.any(|word| {
            let is = |known: &&str| word.eq_ignore_ascii_case(known.as_bytes());
            WORDS.iter().any(is)
        })
    }
}

/// A field of text. Whatever follows a backslash has come with it.
fn without_escapes(raw: &[u8]) -> Cow<'_, [u8]> {
    let Some(first) = memchr::memchr(b'\\', raw) else {
        return Cow::Borrowed(raw);
    };
    let mut value = raw[..first].to_vec();
    let mut rest = &raw[first..];
    while let [byte, behind @ ..] = rest {
        rest = behind;
        let (b'\\', [escaped, behind @ ..]) = (*byte, rest) else {
            value.push(*byte);
            continue;
        };
        rest = behind;
        value.push(match escaped {
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'v' => 11,
            b'0'..=b'7' => number(*escaped - b'0', 8, &mut rest),
            b'x' => match rest.split_first() {
                Some((digit, behind)) if digit.is_ascii_hexdigit() => {
                    rest = behind;
                    let first = char::from(*digit).to_digit(16).unwrap_or_default();
                    number(first as u8, 16, &mut rest)
                }
                _ => b'x',
            },
            other => *other,
        });
    }
    Cow::Owned(value)
}

/// A byte that is written by up to three octal or two hexadecimal digits, of which the first has been read.
fn number(first: u8, radix: u32, rest: &mut &[u8]) -> u8 {
    let mut value = u32::from(first);
    for _ in 0..if radix == 8 { 2 } else { 1 } {
        let Some((digit, behind)) = rest.split_first() else {
            break;
        };
        let Some(digit) = char::from(*digit).to_digit(radix) else {
            break;
        };
        value = value * radix + digit;
        *rest = behind;
    }
    // Three octal digits may be more than a byte, of which a server takes the lower part.
    (value & 0xff) as u8
}

/// A field of CSV that has quotes somewhere.
fn without_quotes(raw: &[u8], quote: u8, escape: u8) -> Cow<'_, [u8]> {
    let mut value = Vec::with_capacity(raw.len());
    let mut quoted = false;
    let mut bytes = raw.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        if quoted && byte == escape {
            let next = bytes.next_if(|next| *next == escape || *next == quote);
            if let Some(next) = next {
                value.push(next);
                continue;
            }
        }
        match byte == quote {
            true => quoted = !quoted,
            false => value.push(byte),
        }
    }
    Cow::Owned(value)
}
