//! What stands before the first row of a COPY and behind the last, where several shards give the rows: once.

use pgherd_sql::{LexOptions, Lexer, Token, TokenKind};
use pgherd_wire::frontend::copy_data;

use super::gather::End;
use super::legs::Leg;

/// The signature of the binary format; two numbers of four bytes follow it, the second of which says how much
/// else does before the rows.
const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// What ends it.
pub(super) const TRAILER: &[u8] = b"\xff\xff";

/// How rows are framed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Framing {
    /// They are not.
    #[default]
    Plain,
    /// There is a line with the columns' names before them.
    Header,
    /// It is the binary format.
    Binary,
}

/// Whether the text of a COPY asks for a line with names; `None` if that is not clear.
pub(super) fn has_header(text: &[u8], lexing: LexOptions) -> Option<bool> {
    let tokens: Vec<Token<'_>> = tokens(text, lexing)?;
    let mut depth = 0_usize;
    let mut options = None;
    for (at, pair) in tokens.windows(2).enumerate() {
        match pair[0].kind {
            TokenKind::Punct(b'(') => depth += 1,
            TokenKind::Punct(b')') => depth = depth.checked_sub(1)?,
            _ if depth == 0 && pair[0].is_word(b"to") && pair[1].is_word(b"stdout") => {
                options = Some(&tokens[at + 2..]);
                break;
            }
            _ => {}
        }
    }
    let options = options?;
    let Some(at) = options.iter().position(|token| token.is_word(b"header")) else {
        let quoted = |token: &Token<'_>| {
            matches!(token.kind, TokenKind::QuotedWord | TokenKind::UnicodeWord)
        };
        // A name in quotes may be this one.
        return (!options.iter().any(quoted)).then_some(false);
    };
    let depth = options[..at]
        .iter()
        .fold(0_i32, |depth, token| match token.kind {
            TokenKind::Punct(b'(') => depth + 1,
            TokenKind::Punct(b')') => depth - 1,
            _ => depth,
        });
    let before = at.checked_sub(1).and_then(|at| options.get(at))?;
    // Elsewhere it may be the name of a column.
    if depth != 1 || !(before.is(b'(') || before.is(b',')) {
        return None;
    }
    let said = options.get(at + 1)?;
    if options[at + 1..]
        .iter()
        .any(|token| token.is_word(b"header"))
    {
        return None;
    }
    let is = |words: [&[u8]; 2]| words.iter().any(|word| said.is_word(word));
    match () {
        () if said.is(b',') || said.is(b')') || is([b"true", b"on"]) => Some(true),
        () if is([b"false", b"off"]) => Some(false),
        () => None,
    }
}

fn tokens(text: &[u8], lexing: LexOptions) -> Option<Vec<Token<'_>>> {
    let mut lexer = Lexer::new(text, lexing);
    let mut tokens = Vec::new();
    while let Some(token) = lexer.token().ok()? {
        tokens.push(token);
    }
    Some(tokens)
}

/// Passes the first message of a leg's COPY on, which is here as a whole and has so many bytes: of the first leg with
/// what stands before the rows, of others without.
pub(super) fn begin(leg: &mut Leg, framing: Framing, total: usize, first: bool) -> Result<(), End> {
    match framing {
        Framing::Header if !first => leg.lease.flow.hide(total),
        Framing::Plain | Framing::Header => leg.lease.flow.pass(total),
        Framing::Binary => {
            let data = leg.lease.flow.unjudged()[5..total].to_vec();
            let Some((head, rows)) = split(&data) else {
                return Err(leg.broken());
            };
            leg.lease.flow.hide(total);
            let shown = if first { head } else { b"" };
            let rows = rows
                .strip_suffix(TRAILER)
                .filter(|rest| rest.is_empty())
                .unwrap_or(rows);
            for part in [shown, rows].into_iter().filter(|part| !part.is_empty()) {
                let built = copy_data(leg.lease.flow.made(), part);
                debug_assert!(built.is_ok(), "it came in a message");
            }
        }
    }
    Ok(())
}

/// Passes a later message on, unless it is what ends the rows.
pub(super) fn go_on(leg: &mut Leg, framing: Framing, total: usize) {
    let here = leg.lease.flow.unjudged();
    let ends = framing == Framing::Binary && here.get(5..total) == Some(TRAILER);
    match ends {
        true => leg.lease.flow.hide(total),
        false => leg.lease.flow.pass(total),
    }
}

/// What stands before the rows, and the rest.
fn split(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let behind = data.strip_prefix(SIGNATURE)?;
    let more = behind.get(4..8)?;
    let more = u32::from_be_bytes(more.try_into().ok()?);
    let length = (SIGNATURE.len() + 8).checked_add(usize::try_from(more).ok()?)?;
    data.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use pgherd_sql::LexOptions;

    use super::{has_header, split};

    #[test]
    fn a_header_is_asked_for_in_its_place_only() {
        for (text, expected) in [
            ("copy t to stdout", Some(false)),
            ("copy t (header) to stdout (format csv)", Some(false)),
            ("copy (select header from t) to stdout csv", Some(false)),
            ("copy t to stdout with (format csv, header)", Some(true)),
            ("COPY t TO STDOUT (HEADER true, FORMAT csv)", Some(true)),
            ("copy t to stdout (header off)", Some(false)),
            ("copy t to stdout csv header", None),
            ("copy t to stdout (format csv, force_quote (header))", None),
            ("copy t to stdout (header 1)", None),
            ("copy t to stdout (\"header\")", None),
        ] {
            let found = has_header(text.as_bytes(), LexOptions::default());
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn the_binary_format_begins_with_its_header() {
        let data = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\x02abrow";
        let (head, rows) = split(data).unwrap();
        assert_eq!((head.len(), rows), (21, &b"row"[..]));
        assert_eq!(split(b"PGCOPX"), None);
    }
}
