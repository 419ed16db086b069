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
    let [
        function,
        open,
        name,
        comma,
        value,
        other,
        local,
        close,
        rest @ ..,
    ] = tokens
    else {
        return None;
    };
    let shaped = function.is_word(b"set_config")
        && open.is(b'(')
        && comma.is(b',')
        && other.is(b',')
        && close.is(b')');
    if !shaped {
        return None;
    }
    let name = name::canonical(value::string(name)?)?;
    let value = match value.kind {
        TokenKind::Param => Value::Parameter(number(value)?),
        TokenKind::Word if value.is_word(b"null") => Value::Default,
        _ => Value::Text(value::string(value)?.into()),
    };
    let span = if is_bool(local, true) {
        Span::Local
    } else {
        is_bool(local, false).then_some(Span::Session)?
    };
    let name = name.into();
    Some((Change { name, value, span }, rest))
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
    let calls = tokens.windows(4).filter(|head| {
        let name = match head[0].kind {
            TokenKind::QuotedWord => &head[0].text[1..head[0].text.len() - 1],
            _ => head[0].text,
        };
        name.eq_ignore_ascii_case(b"set_config") && head[1].is(b'(')
    });
    calls
        .map(|head| {
            let name = value::string(&head[2])
                // It may be but the begin of an expression.
                .filter(|_| head[3].is(b','))
                .and_then(name::canonical);
            Change {
                name: name.unwrap_or_default().into(),
                value: Value::Unknown,
                span: Span::Local,
            }
        })
        .collect()
}
