//! What an identifier in a text stands for, as Postgres folds, unescapes and cuts it (`scan.l`, `parser.c`,
//! `scansup.c`).

use std::borrow::Cow;
use std::char::{decode_utf16, from_u32};

use crate::lexer::{Lexer, Names, Token, TokenKind};

/// What is longer is cut, in bytes (`NAMEDATALEN`).
const LENGTH_MAX: usize = 63;

/// A name, and how it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identifier<'a> {
    /// The name as Postgres keeps it; `None` if that cannot be told.
    pub(crate) name: Option<Cow<'a, [u8]>>,
    /// Postgres refuses it, and the whole text with it.
    pub(crate) refused: bool,
    /// Postgres cuts it, and remarks on that.
    pub(crate) cut: bool,
    /// Offset in the text behind it.
    pub(crate) end: usize,
}

/// What a token stands for that may be a name. `behind` reads on behind the token, and is moved behind what else
/// belongs to the name.
pub(crate) fn identifier<'a>(
    token: &Token<'a>,
    behind: &mut Lexer<'a>,
    names: Names,
) -> Identifier<'a> {
    let mut end = token.start + token.text.len();
    let mut refused = false;
    let whole = match token.kind {
        TokenKind::Word => folded(token.text, names),
        TokenKind::QuotedWord => {
            let inner = unquoted(&token.text[1..token.text.len() - 1]);
            // What has another length for the server is not known to be kept whole.
            let told = is_told(&inner, names) || inner.len() < LENGTH_MAX;
            told.then_some(inner)
        }
        TokenKind::UnicodeWord => {
            let escape = escape(behind, &mut end);
            let inner = unquoted(&token.text[3..token.text.len() - 1]);
            let name = escape.and_then(|escape| unescaped(&inner, escape));
            refused = name.is_none();
            name.filter(|name| is_told(name, names)).map(Cow::Owned)
        }
        _ => None,
    };
    let whole = whole.filter(|name| !name.is_empty());
    let cut = whole.as_ref().is_some_and(|name| name.len() > LENGTH_MAX);
    Identifier {
        name: whole.map(shortened),
        refused,
        cut,
        end,
    }
}

/// Whether the server has the very bytes of a name.
fn is_told(name: &[u8], names: Names) -> bool {
    name.is_ascii() || names == Names::Utf8 && std::str::from_utf8(name).is_ok()
}

/// Other letters than those of ASCII are folded by the rules of a language where a character is one byte.
fn folded(text: &[u8], names: Names) -> Option<Cow<'_, [u8]>> {
    is_told(text, names).then(|| Cow::Owned(text.to_ascii_lowercase()))
}

fn unquoted(inner: &[u8]) -> Cow<'_, [u8]> {
    if !inner.contains(&b'"') {
        return Cow::Borrowed(inner);
    }
    let mut quotes = 0;
    let single = inner.iter().copied().filter(|byte| {
        quotes += usize::from(*byte == b'"');
        *byte != b'"' || quotes % 2 == 1
    });
    Cow::Owned(single.collect())
}

/// Cuts between two characters, as the server does.
fn shortened(name: Cow<'_, [u8]>) -> Cow<'_, [u8]> {
    if name.len() <= LENGTH_MAX {
        return name;
    }
    let goes_on = |at: &usize| name.get(*at).is_some_and(|byte| byte & 0xc0 == 0x80);
    let end = (0..=LENGTH_MAX).rev().find(|at| !goes_on(at));
    Cow::Owned(name[..end.unwrap_or(LENGTH_MAX)].to_vec())
}

/// The escape character of a `U&"…"`, behind which `behind` reads on; `None` if the server will refuse it.
fn escape(behind: &mut Lexer<'_>, end: &mut usize) -> Option<u8> {
    let mut ahead = *behind;
    if !matches!(ahead.token(), Ok(Some(next)) if next.is_word(b"uescape")) {
        return Some(b'\\');
    }
    let Ok(Some(said)) = ahead.token() else {
        return None;
    };
    let [b'\'', escape, b'\''] = *said.text else {
        return None;
    };
    let refused = escape.is_ascii_hexdigit() || escape.is_ascii_whitespace();
    if refused || !escape.is_ascii() || matches!(escape, b'+' | b'\'' | b'"') {
        return None;
    }
    *behind = ahead;
    *end = said.start + said.text.len();
    Some(escape)
}

/// What a name with such escapes stands for; `None` if the server will refuse it.
fn unescaped(name: &[u8], escape: u8) -> Option<Vec<u8>> {
    let mut out = String::with_capacity(name.len());
    let mut rest = std::str::from_utf8(name).ok()?;
    while let Some(at) = rest.find(char::from(escape)) {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(behind) = rest.strip_prefix(char::from(escape)) {
            out.push(char::from(escape));
            rest = behind;
            continue;
        }
        let first = code(&mut rest)?;
        let pair = matches!(first, 0xd800..=0xdbff);
        out.push(if pair {
            rest = rest.strip_prefix(char::from(escape))?;
            let units = [first, code(&mut rest)?].map(u16::try_from);
            let [Ok(first), Ok(second)] = units else {
                return None;
            };
            let mut decoded = decode_utf16([first, second]);
            decoded.next()?.ok()?
        } else {
            from_u32(first).filter(|c| *c != '\0')?
        });
    }
    out.push_str(rest);
    Some(out.into_bytes())
}

/// The number behind an escape character: four digits, or a plus and six.
fn code(rest: &mut &str) -> Option<u32> {
    let (digits, behind) = match rest.strip_prefix('+') {
        Some(behind) => behind.split_at_checked(6)?,
        None => rest.split_at_checked(4)?,
    };
    *rest = behind;
    let all = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    all.then(|| u32::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::identifier;
    use crate::lexer::{LexOptions, Lexer, Names};

    fn read(text: &str, names: Names) -> String {
        let mut lexer = Lexer::new(text.as_bytes(), LexOptions::default());
        let first = lexer.token().expect("it can be read").expect("a token");
        let found = identifier(&first, &mut lexer, names);
        assert_eq!(found.end, text.len(), "{text}");
        let name = found.name.as_deref();
        let name = name.map_or_else(|| "?".into(), String::from_utf8_lossy);
        format!("{name}{}", if found.cut { "…" } else { "" })
    }

    #[test]
    fn names_are_what_postgres_makes_of_them() {
        for (text, name) in [
            ("Abc", "abc"),
            ("\"A\"\"b\"", "A\"b"),
            ("\"\"", "?"),
            (r#"U&"d\0061t\+000061""#, "data"),
            (r#"u&"a\\b""#, r"a\b"),
            (r#"U&"a""b""#, "a\"b"),
            (r#"U&"d!0061t" UESCAPE '!'"#, "dat"),
            (r#"U&"\d83d\de00""#, "😀"),
            (r#"U&"\D83D""#, "?"),
            (r#"U&"\0000""#, "?"),
            (r#"U&"\00""#, "?"),
            (r#"U&"é""#, "é"),
            ("Éa", "Éa"),
            ("\"é\"", "é"),
        ] {
            assert_eq!(read(text, Names::Utf8), name, "{text}");
        }
        for (text, name) in [
            ("Éa", "?"),
            ("\"é\"", "é"),
            (r#"U&"\00e9""#, "?"),
            (r#"U&"\0065""#, "e"),
        ] {
            assert_eq!(read(text, Names::Ascii), name, "{text}");
        }
        // No escape characters, so that the name is refused.
        for text in ["u&\"a\" uescape 'a'", "u&\"a\" uescape '++'"] {
            let mut lexer = Lexer::new(text.as_bytes(), LexOptions::default());
            let first = lexer.token().expect("it can be read").expect("a token");
            let found = identifier(&first, &mut lexer, Names::Utf8);
            assert!(found.refused && found.name.is_none());
        }
    }

    #[test]
    fn long_names_are_cut_between_characters() {
        let x = |count: usize| "x".repeat(count);
        assert_eq!(read(&x(63), Names::Ascii), x(63));
        assert_eq!(read(&x(64), Names::Ascii), x(63) + "…");
        assert_eq!(read(&format!("\"{}\"", x(70)), Names::Ascii), x(63) + "…");
        let wide = format!("{}é", x(62));
        assert_eq!(read(&wide, Names::Utf8), x(62) + "…");
        let even = format!("{}éé", x(61));
        assert_eq!(read(&even, Names::Utf8), x(61) + "é…");
        let quoted = format!("\"{wide}\"");
        assert_eq!(read(&quoted, Names::Ascii), "?");
        let escaped = format!("U&\"{}\\00e9\"", x(62));
        assert_eq!(read(&escaped, Names::Utf8), x(62) + "…");
    }
}
