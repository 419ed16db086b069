//! Names of savepoints and settings.

use crate::lexer::{Token, TokenKind};

/// Identifiers are cut behind so many bytes (NAMEDATALEN - 1); longer ones are not told.
const NAME_MAX: usize = 63;

/// A name as PostgreSQL folds it.
pub(super) fn identifier(token: &Token<'_>) -> Option<String> {
    let name = match token.kind {
        TokenKind::Word => token.text.to_ascii_lowercase(),
        TokenKind::QuotedWord => unquoted(token.text, b'"'),
        _ => return None,
    };
    let name = String::from_utf8(name).ok()?;
    (name.len() <= NAME_MAX && !name.is_empty()).then_some(name)
}

/// What stands between quotes, doubled ones as one.
pub(super) fn unquoted(text: &[u8], quote: u8) -> Vec<u8> {
    let inner = text
        .get(1..text.len().saturating_sub(1))
        .unwrap_or_default();
    let mut plain = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter();
    while let Some(&byte) = bytes.next() {
        plain.push(byte);
        if byte == quote {
            bytes.next();
        }
    }
    plain
}

/// `[SAVEPOINT] name`, and nothing behind it.
pub(super) fn savepoint(tokens: &[Token<'_>]) -> Option<Box<str>> {
    let name = match tokens {
        [name] => name,
        [word, name] if word.is_word(b"savepoint") => name,
        _ => return None,
    };
    identifier(name).map(Into::into)
}

/// The dotted name that `tokens` begin with, and how many of them it takes.
pub(super) fn setting(tokens: &[Token<'_>]) -> Option<(String, usize)> {
    let mut name = part(tokens.first()?)?;
    let mut taken = 1;
    while tokens.get(taken).is_some_and(|token| token.is(b'.')) {
        name.push('.');
        name.push_str(&part(tokens.get(taken + 1)?)?);
        taken += 2;
    }
    Some((canonical(name)?, taken))
}

/// A server keeps the case in which a name was first written and shows it, so that only names
/// without capitals are the same everywhere.
fn part(token: &Token<'_>) -> Option<String> {
    identifier(token).filter(|name| !name.bytes().any(|byte| byte.is_ascii_uppercase()))
}

/// A setting's present name, in lower case. `None` for those that no other server can be brought to.
pub(super) fn canonical(name: String) -> Option<String> {
    if name.contains('.') && name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    let name = name.to_ascii_lowercase();
    match &*name {
        // Names that older releases had (`map_old_guc_names`).
        "sort_mem" => Some("work_mem".to_owned()),
        "vacuum_mem" => Some("maintenance_work_mem".to_owned()),
        // The first is state rather than a setting, the second may only be set before temporary
        // tables are used, and the others have two names, depending on the release.
        "seed"
        | "temp_buffers"
        | "force_parallel_mode"
        | "debug_parallel_query"
        | "ssl_ecdh_curve"
        | "ssl_groups" => None,
        "" => None,
        _ => Some(name),
    }
}

/// Settings that are of the transaction, however they are set: each begins with its defaults.
pub(super) fn is_of_transaction(name: &str) -> bool {
    matches!(
        name,
        "transaction_isolation" | "transaction_read_only" | "transaction_deferrable"
    )
}
