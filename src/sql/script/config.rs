//! Calls of `set_config`.

use super::{Change, Span, Value, name, value};
use crate::lexer::{Token, TokenKind};

/// `SELECT set_config(…)[, set_config(…)]…` behind the first word, and nothing else; `None` if it is
/// more than that, or has arguments that are no constants.
pub(super) fn select(tokens: &[Token<'_>]) -> Option<Vec<Change>> {
    let mut changes = Vec::new();
    let mut rest = tokens;
    loop {
        let (change, behind) = call(rest)?;
        changes.push(change);
        rest = label(behind)?;
        match rest.split_first() {
            None => return Some(changes),
            Some((comma, behind)) if comma.is(b',') => rest = behind,
            Some(_) => return None,
        }
    }
}

fn call<'t, 'a>(mut tokens: &'t [Token<'a>]) -> Option<(Change, &'t [Token<'a>])> {
    if let [schema, dot, rest @ ..] = tokens
        && schema.is_word(b"pg_catalog")
        && dot.is(b'.')
    {
        tokens = rest;
    }
    let (function, rest) = tokens.split_first()?;
    if !function.is_word(b"set_config") {
        return None;
    }
    let (named, rest) = argument(behind(b'(', rest)?, &[b"text"])?;
    let (value, rest) = given(behind(b',', rest)?)?;
    let (local, rest) = argument(behind(b',', rest)?, &[b"bool", b"boolean"])?;
    let rest = behind(b')', rest)?;
    let named_by = match named.kind {
        TokenKind::Param => Some(number(named)?),
        _ => None,
    };
    let name = match named_by {
        Some(_) => String::new(),
        None => name::canonical(constant(named).filter(|name| is_plain(name))?)?,
    };
    let span = if local.kind == TokenKind::Param {
        Span::Parameter(number(local)?)
    } else if is_bool(local, true) {
        Span::Local
    } else {
        is_bool(local, false).then_some(Span::Session)?
    };
    if value == Value::Untold && span != Span::Local {
        return None;
    }
    let change = Change {
        name: name.into(),
        named_by,
        value,
        span,
    };
    Some((change, rest))
}

/// The value up to the comma behind it.
fn given<'t, 'a>(tokens: &'t [Token<'a>]) -> Option<(Value, &'t [Token<'a>])> {
    if let Some((one, rest)) = argument(tokens, &[b"text", b"varchar"])
        && rest.first().is_some_and(|next| next.is(b','))
    {
        let value = match one.kind {
            TokenKind::Param => Some(Value::Parameter(number(one)?)),
            TokenKind::Word if one.is_word(b"null") => Some(Value::Default),
            _ => plain(one).map(|text| Value::Text(text.into())),
        };
        if let Some(value) = value {
            return Some((value, rest));
        }
    }
    // What calls nothing gives something, or the statement fails. A parameter in it may get another type by that,
    // which it has wherever it stands.
    let end = tokens.iter().position(|token| token.is(b','))?;
    let (value, rest) = tokens.split_at(end);
    let calls = |token: &Token<'_>| {
        matches!(
            token.kind,
            TokenKind::Punct(b'(' | b')' | b'[' | b']') | TokenKind::UnicodeWord | TokenKind::Param
        )
    };
    let fits = !value.is_empty() && !value.iter().any(calls);
    fits.then_some((Value::Untold, rest))
}

/// A constant of text that means the same in every session.
fn plain(token: &Token<'_>) -> Option<String> {
    value::string(token).filter(|text| is_plain(text))
}

fn is_plain(text: &str) -> bool {
    text.is_ascii() && !text.contains('\\')
}

/// A constant of text in one piece and any form, but for those that have to be decoded.
fn constant(token: &Token<'_>) -> Option<String> {
    match token.kind {
        TokenKind::DollarString => {
            let tag = 2 + token.text.get(1..)?.iter().position(|byte| *byte == b'$')?;
            let inner = token.text.get(tag..token.text.len().checked_sub(tag)?)?;
            String::from_utf8(inner.to_vec()).ok()
        }
        TokenKind::EscapeString if !token.text.contains(&b'\\') => {
            let open = token.text.iter().position(|byte| *byte == b'\'')?;
            value::string(&Token {
                kind: TokenKind::String,
                text: token.text.get(open..)?,
                start: token.start + open,
            })
        }
        _ => value::string(token),
    }
}

/// How a call of `set_config` says which setting it makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Named {
    /// By a constant that says this.
    Plainly(String),
    /// By a constant that is not read here.
    Unread,
    /// By what is known only when it runs.
    Computed,
}

/// Reads the name among arguments, given from behind the parenthesis that opens them.
pub(crate) fn named(arguments: &[Token<'_>]) -> Named {
    let (label, arguments) = labelled(arguments);
    let Some((first, rest)) = arguments.split_first() else {
        return Named::Computed;
    };
    match label {
        // Where each says which it is, they may stand in any order.
        Some(label) if !label.is_word(b"setting_name") => return Named::Unread,
        _ if !first.is_string() => return Named::Computed,
        _ => {}
    }
    let is_over = |rest: &[Token<'_>]| {
        let next = rest.first();
        next.is_some_and(|next| next.is(b',') || next.is(b')'))
    };
    let cast = match rest {
        [colon, other, kind @ ..] if colon.is(b':') && other.is(b':') => Some(kind),
        _ => None,
    };
    // What it is cast to may cut it.
    let Some(rest) = cast.map_or(Some(rest), behind_text) else {
        return Named::Unread;
    };
    if is_over(rest) {
        constant(first).map_or(Named::Unread, Named::Plainly)
    } else if rest.first().is_some_and(|next| next.is_word(b"uescape")) {
        Named::Unread
    } else {
        Named::Computed
    }
}

/// What says which argument the first is, if anything does, and what stands behind that.
fn labelled<'t, 'a>(arguments: &'t [Token<'a>]) -> (Option<&'t Token<'a>>, &'t [Token<'a>]) {
    match arguments {
        [label, arrow, rest @ ..] if arrow.text == b"=>" => (Some(label), rest),
        [label, colon, equal, rest @ ..] if colon.is(b':') && equal.text == b"=" => {
            (Some(label), rest)
        }
        _ => (None, arguments),
    }
}

/// What stands behind the name of a type that leaves a text as it is.
fn behind_text<'t, 'a>(kind: &'t [Token<'a>]) -> Option<&'t [Token<'a>]> {
    let kind = match kind {
        [schema, dot, kind @ ..] if schema.is_word(b"pg_catalog") && dot.is(b'.') => kind,
        _ => kind,
    };
    let rest = match kind {
        [one, two, rest @ ..] if one.is_word(b"character") && two.is_word(b"varying") => rest,
        [one, rest @ ..] if one.is_word(b"text") || one.is_word(b"varchar") => rest,
        _ => return None,
    };
    // With a length, or as an array, it is another.
    let is_more = |next: &Token<'_>| next.is(b'(') || next.is(b'[');
    (!rest.first().is_some_and(is_more)).then_some(rest)
}

/// What stands behind this mark, which must be there.
fn behind<'t, 'a>(mark: u8, tokens: &'t [Token<'a>]) -> Option<&'t [Token<'a>]> {
    let (first, rest) = tokens.split_first()?;
    first.is(mark).then_some(rest)
}

/// A constant or a parameter, perhaps with a cast to one of these types, which it is taken for without it, too.
fn argument<'t, 'a>(
    tokens: &'t [Token<'a>],
    types: &[&[u8]],
) -> Option<(&'t Token<'a>, &'t [Token<'a>])> {
    let (value, rest) = tokens.split_first()?;
    match rest {
        [colon, other, kind, rest @ ..] if colon.is(b':') && other.is(b':') => {
            let fits = types.iter().any(|name| kind.is_word(name));
            fits.then_some((value, rest))
        }
        _ => Some((value, rest)),
    }
}

/// The number of `$n`, counted from 0.
fn number(token: &Token<'_>) -> Option<u16> {
    let digits = std::str::from_utf8(token.text.get(1..)?).ok()?;
    digits.parse::<u16>().ok()?.checked_sub(1)
}

fn is_bool(token: &Token<'_>, wanted: bool) -> bool {
    let (word, texts): (&[u8], [&[u8]; 2]) = if wanted {
        (b"true", [b"'true'", b"'t'"])
    } else {
        (b"false", [b"'false'", b"'f'"])
    };
    token.is_word(word) || (token.kind == TokenKind::String && texts.contains(&token.text))
}

/// What follows a column's label.
fn label<'t, 'a>(tokens: &'t [Token<'a>]) -> Option<&'t [Token<'a>]> {
    let is_name = |token: &Token<'_>| {
        matches!(token.kind, TokenKind::Word | TokenKind::QuotedWord) && !ends(token)
    };
    Some(match tokens {
        [word, _name, rest @ ..] if word.is_word(b"as") => rest,
        [name, rest @ ..] if is_name(name) => rest,
        _ => tokens,
    })
}

/// Words with which a query goes on behind its columns.
fn ends(token: &Token<'_>) -> bool {
    const CLAUSES: [&[u8]; 15] = [
        b"from",
        b"where",
        b"group",
        b"having",
        b"window",
        b"union",
        b"intersect",
        b"except",
        b"order",
        b"limit",
        b"offset",
        b"fetch",
        b"for",
        b"into",
        b"collate",
    ];
    CLAUSES.iter().any(|clause| token.is_word(clause))
}

/// The settings that calls anywhere in a statement make for the transaction only. What such a call
/// names is known to the server from then on, so the names matter.
pub(super) fn local(tokens: &[Token<'_>]) -> Vec<Change> {
    let calls = (0..tokens.len()).filter_map(|at| arguments(&tokens[at..]));
    calls
        .map(|arguments| {
            let name = match named(arguments) {
                Named::Plainly(name) => name::canonical(name),
                Named::Unread | Named::Computed => None,
            };
            Change {
                name: name.unwrap_or_default().into(),
                named_by: None,
                value: Value::Unknown,
                span: Span::Local,
            }
        })
        .collect()
}

/// What stands behind the parenthesis of a call of `set_config`, if one begins here.
fn arguments<'t, 'a>(tokens: &'t [Token<'a>]) -> Option<&'t [Token<'a>]> {
    let [function, open, arguments @ ..] = tokens else {
        return None;
    };
    let name = match function.kind {
        TokenKind::QuotedWord => &function.text[1..function.text.len() - 1],
        _ => function.text,
    };
    (name.eq_ignore_ascii_case(b"set_config") && open.is(b'(')).then_some(arguments)
}
