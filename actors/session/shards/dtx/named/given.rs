//! What `EXECUTE` gives a statement: constants, which are the same wherever they are read.

use pgherd_sql::{LexOptions, Lexer, Token, TokenKind};
use pgherd_wire::error::ErrorReport;

use crate::session::shards::plan::unsupported;

const BOOL: u32 = 16;
const INTS: [u32; 3] = [21, 23, 20];
const TEXTS: [u32; 2] = [25, 1043];
/// `numeric`, `real` and `double precision`.
const DECIMALS: [u32; 3] = [1700, 700, 701];

/// A constant.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Given<'t> {
    value: Value<'t>,
    /// The type that it is cast to.
    cast: Option<&'t [u8]>,
}

#[derive(Debug, PartialEq, Eq)]
enum Value<'t> {
    Null,
    Bool(bool),
    /// A string, without its quotes.
    Text(Vec<u8>),
    /// Digits, and whether there is a minus before them.
    Number(&'t [u8], bool),
}

impl<'t> Given<'t> {
    /// The name of the type that it is cast to.
    pub(super) fn cast(&self) -> Option<&'t [u8]> {
        self.cast
    }

    /// The text that is bound for it to a parameter of a type, 0 for one that only the server knows. `cast` is the
    /// type that it has been given.
    ///
    /// Where Postgres would make another value of it on the way to the parameter, or an error, it is refused.
    pub(super) fn of(&self, oid: u32, cast: Option<u32>) -> Result<Option<Vec<u8>>, ErrorReport> {
        let both_texts = |cast| TEXTS.contains(&cast) && TEXTS.contains(&oid);
        if cast.is_some_and(|cast| cast != oid && !both_texts(cast)) {
            return Err(unfit());
        }
        match &self.value {
            Value::Null => Ok(None),
            Value::Text(text) => Ok(Some(text.clone())),
            Value::Bool(value) if oid == BOOL => {
                Ok(Some(if *value { b"t".to_vec() } else { b"f".to_vec() }))
            }
            Value::Bool(_) => Err(unfit()),
            Value::Number(digits, negative) => {
                let whole = digits.iter().all(u8::is_ascii_digit);
                let fits = DECIMALS.contains(&oid)
                    || whole && (INTS.contains(&oid) || TEXTS.contains(&oid) && cast.is_none());
                let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
                // What a number is as a text has none in front.
                let digits = match whole {
                    true => &digits[zeros.min(digits.len() - 1)..],
                    false => digits,
                };
                let sign: &[u8] = if *negative && !is_zero(digits) {
                    b"-"
                } else {
                    b""
                };
                fits.then(|| Some([sign, digits].concat()))
                    .ok_or_else(unfit)
            }
        }
    }
}

/// Whether a number is zero, which has no sign.
fn is_zero(digits: &[u8]) -> bool {
    let before = digits.split(|byte| byte.eq_ignore_ascii_case(&b'e')).next();
    before.is_some_and(|it| it.iter().all(|byte| matches!(byte, b'0' | b'.')))
}

fn unfit() -> ErrorReport {
    unsupported("what EXECUTE gives here is not of the type of its parameter")
        .hint("Give it as a string, or prepare the statement with types.")
}

fn unclear() -> ErrorReport {
    unsupported("only constants are supported in an EXECUTE on a sharded database")
        .hint("Give each as a number or a string.")
}

/// The constants in the parentheses behind the name of a statement.
pub(super) fn split<'t>(text: &'t [u8], lexing: LexOptions) -> Result<Vec<Given<'t>>, ErrorReport> {
    let mut lexer = Lexer::new(text, lexing);
    let mut tokens: Vec<Token<'t>> = Vec::new();
    while let Some(token) = lexer.token().map_err(|_| unclear())? {
        tokens.push(token);
    }
    while tokens.last().is_some_and(|last| last.is(b';')) {
        tokens.pop();
    }
    let inside = match tokens.as_slice() {
        [] => return Ok(Vec::new()),
        [open, inside @ .., close] if open.is(b'(') && close.is(b')') => inside,
        _ => return Err(unclear()),
    };
    inside
        .split(|token| token.is(b','))
        .map(|tokens| one(text, tokens))
        .collect()
}

fn one<'t>(text: &'t [u8], tokens: &[Token<'t>]) -> Result<Given<'t>, ErrorReport> {
    let (negative, tokens) = match tokens {
        [sign, rest @ ..] if sign.kind == TokenKind::Operator && sign.text == b"-" => (true, rest),
        all => (false, all),
    };
    let (first, rest) = tokens.split_first().ok_or_else(unclear)?;
    // A type in front of a string.
    if let [string] = rest
        && first.kind == TokenKind::Word
        && !negative
    {
        let value = Value::Text(string_of(string).ok_or_else(unclear)?);
        let cast = Some(type_of(text, std::slice::from_ref(first)).ok_or_else(unclear)?);
        return Ok(Given { value, cast });
    }
    let value = match first.kind {
        TokenKind::Number if is_plain(first.text) => Value::Number(first.text, negative),
        _ if negative => return Err(unclear()),
        TokenKind::String => Value::Text(string_of(first).ok_or_else(unclear)?),
        _ if first.is_word(b"null") => Value::Null,
        _ if first.is_word(b"true") => Value::Bool(true),
        _ if first.is_word(b"false") => Value::Bool(false),
        _ => return Err(unclear()),
    };
    let cast = match rest {
        [] => None,
        // A cast binds tighter than a minus.
        _ if negative => return Err(unclear()),
        [one, two, name @ ..] if one.is(b':') && two.is(b':') => {
            Some(type_of(text, name).ok_or_else(unclear)?)
        }
        _ => return Err(unclear()),
    };
    Ok(Given { value, cast })
}

/// A name of a type without anything that changes the value: no length, no second cast.
fn type_of<'t>(text: &'t [u8], tokens: &[Token<'t>]) -> Option<&'t [u8]> {
    let (first, last) = (tokens.first()?, tokens.last()?);
    let is_part = |token: &Token<'_>| {
        matches!(token.kind, TokenKind::Word | TokenKind::QuotedWord)
            || [b'.', b'[', b']'].iter().any(|byte| token.is(*byte))
    };
    // By themselves these are of one character or bit.
    const SHORT: [&[u8]; 5] = [b"char", b"character", b"nchar", b"national", b"bit"];
    let is_short = |token: &Token<'_>| SHORT.iter().any(|word| token.is_word(word));
    // Behind it may stand what is left of the value, as in `interval day`.
    let is_cut = first.is_word(b"interval")
        && tokens[1..]
            .iter()
            .any(|token| token.kind == TokenKind::Word);
    let plain = tokens
        .iter()
        .all(|token| is_part(token) && !is_short(token));
    (plain && !is_cut)
        .then(|| text.get(first.start..last.start + last.text.len()))
        .flatten()
}

/// Digits as all versions read them.
fn is_plain(number: &[u8]) -> bool {
    let is_part =
        |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-');
    number.iter().all(is_part)
}

/// The inside of a string in which a backslash has no meaning.
fn string_of(token: &Token<'_>) -> Option<Vec<u8>> {
    if token.kind != TokenKind::String {
        return None;
    }
    let inside = token.text.strip_prefix(b"'")?.strip_suffix(b"'")?;
    let mut quotes = 0;
    let mut pieces = false;
    let kept = inside.iter().filter(|byte| {
        let quote = **byte == b'\'';
        quotes += usize::from(quote);
        // Between two pieces of a string are blanks.
        pieces |= !quote && quotes % 2 == 1;
        !quote || quotes % 2 == 0
    });
    let text: Vec<u8> = kept.copied().collect();
    (!pieces).then_some(text)
}

#[cfg(test)]
mod tests {
    use pgherd_sql::LexOptions;

    use super::split;

    fn read(text: &str, types: &[(u32, Option<u32>)]) -> Option<Vec<String>> {
        let given = split(text.as_bytes(), LexOptions::default()).ok()?;
        assert_eq!(given.len(), types.len(), "{text}");
        let values = given.iter().zip(types).map(|(given, (oid, cast))| {
            let value = given.of(*oid, *cast).ok()?;
            Some(value.map_or_else(|| "NULL".to_owned(), |it| String::from_utf8(it).unwrap()))
        });
        values.collect()
    }

    #[test]
    fn constants_are_read_as_postgres_reads_them() {
        for (text, types, expected) in [
            ("", &[][..], &[][..]),
            (
                " (7, -007, 'it''s', NULL, true);",
                &[(20, None), (25, None), (25, None), (23, None), (16, None)],
                &["7", "-7", "it's", "NULL", "t"],
            ),
            (
                "(-0, 1.50, -1e3, -0.0)",
                &[(25, None), (1700, None), (701, None), (701, None)],
                &["0", "1.50", "-1e3", "0.0"],
            ),
            (
                "('7'::bigint, date '2020-01-01', 'x'::pg_catalog.text)",
                &[(20, Some(20)), (1082, Some(1082)), (1043, Some(25))],
                &["7", "2020-01-01", "x"],
            ),
            ("('open', NULL)", &[(0, None), (0, None)], &["open", "NULL"]),
            ("('5'::interval)", &[(1186, Some(1186))], &["5"]),
        ] {
            let expected = expected.iter().map(|it| (*it).to_owned()).collect();
            assert_eq!(read(text, types), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_may_become_another_value_is_refused() {
        for (text, types) in [
            ("(1 + 1)", &[(20, None)][..]),
            ("(now())", &[(1184, None)]),
            ("(7)", &[(16, None)]),
            ("(7)", &[(0, None)]),
            ("(1.5)", &[(23, None)]),
            ("(1.50)", &[(25, None)]),
            ("(true)", &[(25, None)]),
            ("('7'::int)", &[(20, Some(23))]),
            ("('abc'::varchar(2))", &[(1043, Some(1043))]),
            ("('abc'::char)", &[(1042, Some(1042))]),
            ("(char 'abc')", &[(1042, Some(1042))]),
            ("('5'::interval day)", &[(1186, Some(1186))]),
            ("(-5::int)", &[(23, Some(23))]),
            ("('a'::text::int)", &[(23, Some(23))]),
            ("('a' 'b')", &[(25, None)]),
            ("(E'a')", &[(25, None)]),
            ("(0x1f)", &[(23, None)]),
            ("(1) + (1)", &[(23, None)]),
            ("(select 1)", &[(23, None)]),
            ("(a)", &[(23, None)]),
        ] {
            let read = || split(text.as_bytes(), LexOptions::default()).ok();
            let refused = read().is_none_or(|given| given.len() != types.len())
                || self::read(text, types).is_none();
            assert!(refused, "{text}");
        }
    }
}
