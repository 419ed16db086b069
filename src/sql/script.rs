//! What the statements of a text do to the settings of their session, one by one, where that can be
//! told from the text.
//!
//! The values are kept as `set_config` takes them, so that another server can be brought to them.
//! A statement with a backslash or a character beyond ASCII is never told: what it means depends on
//! the session that reads it.

mod config;
mod name;
mod set;
#[cfg(test)]
mod tests;
mod value;

pub(crate) use config::{Named, named};

use crate::block::{Block, block};
use crate::effect::{CopyEffect, Effects, Pin, PinSet, TransactionEffect, effects};
use crate::lexer::{Depth, LexError, LexOptions, Lexer, Token};

/// A longer statement is not told.
const TEXT_MAX: usize = 16 * 1024;
/// Nor is a text of more statements, if one of them is of interest.
const STATEMENTS_MAX: usize = 64;
/// Nor is a statement of more tokens.
const TOKENS_MAX: usize = 256;

/// Reasons to stay on a server that following the settings makes needless.
pub const FOLLOWED: PinSet = PinSet::of(&[Pin::Set, Pin::SetConfig, Pin::Role]);

/// For how long a setting is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// For the session, unless the transaction is rolled back.
    Session,
    /// Up to the end of the transaction.
    Local,
    /// As the parameter of this number says, counted from 0: true is for the transaction.
    Parameter(u16),
}

/// What a setting is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// This text, as `set_config` takes it.
    Text(Box<str>),
    /// What the session began with.
    Default,
    /// The parameter of this number, counted from 0, that is bound to the statement.
    Parameter(u16),
    /// Something that is not told, and is over with the transaction.
    Untold,
    /// The same, if anything at all.
    Unknown,
}

/// One change of one setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The setting, in lower case; empty for one that is not told and only local, or that a parameter names.
    pub name: Box<str>,
    /// The parameter, counted from 0, whose value is the name.
    pub named_by: Option<u16>,
    /// What it is given.
    pub value: Value,
    /// For how long.
    pub span: Span,
}

/// What one statement does once it has succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing that is followed here.
    Other,
    /// It changes settings, in this order.
    Change(Vec<Change>),
    /// `RESET ALL`.
    ResetAll,
    /// `SAVEPOINT` of this name.
    Savepoint(Box<str>),
    /// `RELEASE` of this name.
    Release(Box<str>),
    /// `ROLLBACK TO` this name.
    RollbackTo(Box<str>),
}

/// One statement of a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// What it does.
    pub step: Step,
    /// Offset in the text behind its last token.
    pub end: usize,
}

/// What a text as a whole says about settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// Nothing.
    Nothing,
    /// This, a part for each statement.
    Script(Vec<Part>),
    /// Something that cannot be told and may stay behind on the server.
    Unclear,
}

/// Whether [`script`] of a text with these effects may say more than nothing.
pub fn is_followed(effects: &Effects<'_>) -> bool {
    effects.configures
        || !effects
            .pins
            .without(effects.pins.without(FOLLOWED))
            .is_empty()
        || (effects.unpins.contains(Pin::Set) && effects.unpins != PinSet::DISCARD_ALL)
        || matches!(
            effects.transaction,
            TransactionEffect::Savepoint
                | TransactionEffect::Release
                | TransactionEffect::RollbackTo
                | TransactionEffect::Mixed
        )
}

/// Reads what the statements of `text` do to settings and savepoints.
pub fn script(text: &[u8], options: LexOptions) -> Reading {
    let mut lexer = Lexer::new(text, options);
    let mut parts = Vec::new();
    let (mut found, mut unclear, mut many) = (false, false, false);
    loop {
        let Ok(next) = statement(&mut lexer) else {
            // Who asks has heard of it from the effects of the text.
            return Reading::Unclear;
        };
        let Some(Statement { start, end, tokens }) = next else {
            break;
        };
        match step(&text[start..end], &tokens, options) {
            None => unclear = true,
            Some(step) => {
                found |= step != Step::Other;
                parts.push(Part { step, end });
            }
        }
        if parts.len() > STATEMENTS_MAX {
            // What is in each of them still has to be known.
            many = true;
            parts.clear();
        }
    }
    match (unclear || (many && found), found) {
        (true, _) => Reading::Unclear,
        (false, true) => Reading::Script(parts),
        (false, false) => Reading::Nothing,
    }
}

/// The settings that the first statement of `text` makes, in lower case, if it does nothing else and reads none:
/// `SET`, or a `SELECT` of nothing but `set_config` of constants and parameters.
pub fn sets_at_first(text: &[u8], options: LexOptions) -> Option<Vec<Box<str>>> {
    let mut lexer = Lexer::new(text, options);
    let Statement { start, end, tokens } = statement(&mut lexer).ok()??;
    let plain = is_plain(&text[start..end]);
    let [first, rest @ ..] = tokens.as_slice() else {
        return None;
    };
    if !plain || tokens.len() > TOKENS_MAX {
        return None;
    }
    let changes = if first.is_word(b"set") {
        match set::set(rest)? {
            Step::Change(changes) => changes,
            _ => return None,
        }
    } else if first.is_word(b"select") {
        config::select(rest)?
    } else {
        return None;
    };
    // What a parameter names is known when it is bound.
    let names = changes.into_iter().map(|change| change.name);
    Some(names.filter(|name| !name.is_empty()).collect())
}

/// Where the `COMMIT` stands in a text that begins with a `BEGIN` and ends with that `COMMIT`, both as
/// [`block`] knows them, with statements between that do nothing to the transaction and copy nothing with the client. `None` for every other text.
pub fn closed_block(text: &[u8], options: LexOptions) -> Option<usize> {
    let mut lexer = Lexer::new(text, options);
    let first = statement(&mut lexer).ok()??;
    if !matches!(
        block(&text[first.start..first.end], options),
        Some(Block::Begin | Block::Start)
    ) {
        return None;
    }
    let mut last: Option<(usize, usize)> = None;
    while let Some(Statement { start, end, .. }) = statement(&mut lexer).ok()? {
        if let Some((start, end)) = last.replace((start, end)) {
            let effects = effects(&text[start..end], options);
            if effects.transaction != TransactionEffect::None || effects.copy != CopyEffect::None {
                return None;
            }
        }
    }
    let (start, end) = last?;
    (block(&text[start..end], options) == Some(Block::Commit)).then_some(start)
}

/// Where a statement is, and its first tokens.
struct Statement<'a> {
    start: usize,
    end: usize,
    tokens: Vec<Token<'a>>,
}

/// The next statement that is not empty.
fn statement<'a>(lexer: &mut Lexer<'a>) -> Result<Option<Statement<'a>>, LexError> {
    let mut depth = Depth::default();
    let mut found: Option<Statement<'a>> = None;
    while let Some(token) = lexer.token()? {
        if depth.step(&token) {
            if found.is_some() {
                break;
            }
            continue;
        }
        let statement = found.get_or_insert_with(|| Statement {
            start: token.start,
            end: token.start,
            tokens: Vec::new(),
        });
        statement.end = token.start + token.text.len();
        if statement.tokens.len() <= TOKENS_MAX {
            statement.tokens.push(token);
        }
    }
    Ok(found)
}

/// What one statement does; `None` if it cannot be told.
fn step(text: &[u8], tokens: &[Token<'_>], options: LexOptions) -> Option<Step> {
    let effects = effects(text, options);
    if !is_followed(&effects) {
        return Some(Step::Other);
    }
    let plain = is_plain(text) && tokens.len() <= TOKENS_MAX;
    let resets = effects.unpins.contains(Pin::Set);
    if !resets && effects.transaction == TransactionEffect::None && !pins_followed(&effects) {
        return Some(Step::Change(local(tokens, plain)));
    }
    if !plain || effects.pins.contains(Pin::Unknown) {
        return None;
    }
    match effects.transaction {
        TransactionEffect::None => {}
        TransactionEffect::Savepoint => return name::savepoint(&tokens[1..]).map(Step::Savepoint),
        TransactionEffect::Release => return name::savepoint(&tokens[1..]).map(Step::Release),
        TransactionEffect::RollbackTo => {
            let to = tokens.iter().position(|token| token.is_word(b"to"))?;
            return name::savepoint(&tokens[to + 1..]).map(Step::RollbackTo);
        }
        _ => return None,
    }
    let first = tokens.first()?;
    if first.is_word(b"set") {
        set::set(&tokens[1..])
    } else if first.is_word(b"reset") {
        set::reset(&tokens[1..])
    } else if first.is_word(b"select") {
        config::select(&tokens[1..]).map(Step::Change)
    } else {
        None
    }
}

/// Whether a statement means the same in every session, and is not too long to be told.
fn is_plain(text: &[u8]) -> bool {
    text.is_ascii() && !text.contains(&b'\\') && text.len() <= TEXT_MAX
}

/// Whether the `SELECT` that stands first in a statement of `text` has nothing behind it but calls of `set_config`
/// that [`script`] tells of. `rest` reads on behind it.
pub(crate) fn only_configures(text: &[u8], select: &Token<'_>, mut rest: Lexer<'_>) -> bool {
    // The second word tells it of nearly all others.
    let begins = |token: Token<'_>| token.is_word(b"set_config") || token.is_word(b"pg_catalog");
    if !matches!(rest.peek_token(), Ok(Some(token)) if begins(token)) {
        return false;
    }
    let mut depth = Depth::default();
    let mut end = select.start;
    let mut tokens = Vec::new();
    loop {
        match rest.token() {
            Ok(Some(token)) if !depth.step(&token) => {
                end = token.start + token.text.len();
                tokens.push(token);
            }
            Ok(_) => break,
            Err(_) => return false,
        }
        // With the first word, there are as many of them as are told.
        if tokens.len() >= TOKENS_MAX {
            return false;
        }
    }
    let Some(changes) = config::select(&tokens) else {
        return false;
    };
    // What outlives the transaction must be told by its value, too.
    let local = |change: &Change| change.span == Span::Local;
    text.get(select.start..end).is_some_and(is_plain) || changes.iter().all(local)
}

/// The name of a setting as it is kept here, of one that a parameter names. `None` for those that no other server
/// can be brought to.
pub fn setting_name(text: &[u8]) -> Option<Box<str>> {
    let name = std::str::from_utf8(text).ok()?;
    name::canonical(name.to_owned())
        .filter(|name| name.is_ascii())
        .map(Into::into)
}

/// What a statement does that sets nothing for longer than its transaction.
fn local(tokens: &[Token<'_>], plain: bool) -> Vec<Change> {
    let set = match tokens {
        [set, rest @ ..] if plain && set.is_word(b"set") => set::set(rest),
        [select, rest @ ..] if tokens.len() <= TOKENS_MAX && select.is_word(b"select") => {
            if let Some(changes) = config::select(rest) {
                return changes;
            }
            match plain {
                true => return config::local(tokens),
                false => None,
            }
        }
        _ if plain => return config::local(tokens),
        _ => None,
    };
    match set {
        Some(Step::Change(changes)) => changes,
        Some(_) => Vec::new(),
        None => vec![Change {
            name: "".into(),
            named_by: None,
            value: Value::Unknown,
            span: Span::Local,
        }],
    }
}

fn pins_followed(effects: &Effects<'_>) -> bool {
    FOLLOWED.iter().any(|pin| effects.pins.contains(pin))
}
