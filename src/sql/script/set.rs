//! `SET` and `RESET` (`gram.y`, VariableSetStmt and VariableResetStmt).

use super::{Change, Span, Step, Value, name, value};
use crate::lexer::{Token, TokenKind};

/// Reads on behind `SET`.
pub(super) fn set(tokens: &[Token<'_>]) -> Option<Step> {
    let (span, rest) = span(tokens)?;
    let changes = changes(span, rest)?;
    Some(step(changes))
}

/// Reads on behind `RESET`.
pub(super) fn reset(tokens: &[Token<'_>]) -> Option<Step> {
    let words = |words: &[&[u8]]| {
        tokens.len() == words.len() && words.iter().zip(tokens).all(|(word, t)| t.is_word(word))
    };
    if words(&[b"all"]) {
        return Some(Step::ResetAll);
    }
    let name = if words(&[b"time", b"zone"]) {
        "timezone".to_owned()
    } else if words(&[b"session", b"authorization"]) {
        "session_authorization".to_owned()
    } else if words(&[b"transaction", b"isolation", b"level"]) {
        "transaction_isolation".to_owned()
    } else {
        let (name, taken) = name::setting(tokens)?;
        (taken == tokens.len()).then_some(name)?
    };
    Some(step(vec![change(Span::Session, &name, Value::Default)]))
}

fn step(mut changes: Vec<Change>) -> Step {
    changes.retain(|change| !name::is_of_transaction(&change.name));
    if changes.is_empty() {
        Step::Other
    } else {
        Step::Change(changes)
    }
}

fn change(span: Span, name: &str, value: Value) -> Change {
    Change {
        name: name.into(),
        named_by: None,
        value,
        span,
    }
}

/// Whether `LOCAL` or `SESSION` stands in front, and is no name itself.
fn span<'t, 'a>(tokens: &'t [Token<'a>]) -> Option<(Span, &'t [Token<'a>])> {
    let (first, rest) = tokens.split_first()?;
    let next = rest.first()?;
    let is_name = next.is(b'.') || next.is_word(b"to") || next.kind == TokenKind::Operator;
    Some(if is_name {
        (Span::Session, tokens)
    } else if first.is_word(b"local") {
        (Span::Local, rest)
    } else if first.is_word(b"session") && !next.is_word(b"authorization") {
        (Span::Session, rest)
    } else {
        (Span::Session, tokens)
    })
}

fn changes(span: Span, tokens: &[Token<'_>]) -> Option<Vec<Change>> {
    let one = |name: &str, value: Value| Some(vec![change(span, name, value)]);
    let (first, rest) = tokens.split_first()?;
    let generic = rest
        .first()
        .is_some_and(|t| t.is(b'.') || t.is_word(b"to") || t.kind == TokenKind::Operator);
    if generic {
        let (name, taken) = name::setting(tokens)?;
        let value = value::assigned(&name, tokens.get(taken..)?)?;
        return one(&name, value);
    }
    let after = |word: &[u8]| {
        let (next, behind) = rest.split_first()?;
        next.is_word(word).then_some(behind)
    };
    if first.is_word(b"role") {
        return one("role", value::role(rest)?);
    }
    if first.is_word(b"session")
        && let Some(who) = after(b"authorization")
    {
        return one("session_authorization", value::authorization(who)?);
    }
    if first.is_word(b"time")
        && let Some(zone) = after(b"zone")
    {
        return one("timezone", value::zone(zone)?);
    }
    if first.is_word(b"names") {
        return one("client_encoding", value::encoding(rest)?);
    }
    if first.is_word(b"schema") {
        return one("search_path", value::schema(rest)?);
    }
    if first.is_word(b"xml")
        && let Some([what]) = after(b"option")
    {
        return one("xmloption", value::word(what)?);
    }
    if first.is_word(b"characteristics")
        && let Some(behind) = after(b"as")
    {
        let (word, modes) = behind.split_first()?;
        return word
            .is_word(b"transaction")
            .then(|| characteristics(modes))?;
    }
    None
}

/// The modes of transactions: `ISOLATION LEVEL …`, `READ ONLY`, `READ WRITE`, `[NOT] DEFERRABLE`.
fn characteristics(mut modes: &[Token<'_>]) -> Option<Vec<Change>> {
    const MODES: [(&[&[u8]], &str, &str); 8] = [
        (
            &[b"isolation", b"level", b"serializable"],
            "default_transaction_isolation",
            "serializable",
        ),
        (
            &[b"isolation", b"level", b"repeatable", b"read"],
            "default_transaction_isolation",
            "repeatable read",
        ),
        (
            &[b"isolation", b"level", b"read", b"committed"],
            "default_transaction_isolation",
            "read committed",
        ),
        (
            &[b"isolation", b"level", b"read", b"uncommitted"],
            "default_transaction_isolation",
            "read uncommitted",
        ),
        (&[b"read", b"only"], "default_transaction_read_only", "on"),
        (&[b"read", b"write"], "default_transaction_read_only", "off"),
        (&[b"deferrable"], "default_transaction_deferrable", "on"),
        (
            &[b"not", b"deferrable"],
            "default_transaction_deferrable",
            "off",
        ),
    ];
    let mut changes = Vec::new();
    while !modes.is_empty() {
        let fits = |words: &[&[u8]]| {
            words.len() <= modes.len() && words.iter().zip(modes).all(|(word, t)| t.is_word(word))
        };
        let (words, name, value) = MODES.iter().find(|(words, ..)| fits(words))?;
        changes.push(change(Span::Session, name, Value::Text((*value).into())));
        modes = &modes[words.len()..];
        if let [comma, rest @ ..] = modes
            && comma.is(b',')
        {
            modes = rest;
        }
    }
    Some(changes)
}
