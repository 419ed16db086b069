use super::{Pin, PinSet};
use crate::lexer::{LexError, Lexer, Token, TokenKind};
use crate::word::Word;

/// What is done to a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// `SET` for the session.
    Set,
    /// `SET LOCAL`.
    SetLocal,
    /// `RESET`.
    Reset,
    /// `SHOW`.
    Show,
}

/// The parameter of a `SET`, `RESET` or `SHOW`. Its value, if needed, is told by [`crate::parse::set_statement`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting<'a> {
    /// Its name as written, without quotes; to be compared without regard to case. The names behind
    /// `TIME ZONE`, `NAMES`, `ROLE`, … are filled in.
    pub name: &'a [u8],
    /// What is done.
    pub action: Action,
    /// Whether the server reports it by ParameterStatus (in any supported version).
    pub reported: bool,
}

/// Parameters marked GUC_REPORT in PostgreSQL 14 to 18 (`guc_tables.c`).
const REPORTED: [&[u8]; 15] = [
    b"application_name",
    b"client_encoding",
    b"datestyle",
    b"default_transaction_read_only",
    b"in_hot_standby",
    b"integer_datetimes",
    b"intervalstyle",
    b"is_superuser",
    b"scram_iterations",
    b"search_path",
    b"server_encoding",
    b"server_version",
    b"session_authorization",
    b"standard_conforming_strings",
    b"timezone",
];

/// What a `SET`, `RESET` or `SHOW` does.
pub(super) struct Change<'a> {
    pub(super) pins: PinSet,
    pub(super) unpins: PinSet,
    pub(super) setting: Option<Setting<'a>>,
}

impl<'a> Change<'a> {
    const NOTHING: Self = Self {
        pins: PinSet::EMPTY,
        unpins: PinSet::EMPTY,
        setting: None,
    };
}

/// Reads on behind the first word.
pub(super) fn change<'a>(
    first: Word,
    text: &'a [u8],
    mut rest: Lexer<'a>,
) -> Result<Change<'a>, LexError> {
    let action = match first {
        Word::Reset => Action::Reset,
        Word::Show => Action::Show,
        _ => return set(text, rest),
    };
    let Some(token) = rest.token()? else {
        return Ok(Change::NOTHING);
    };
    if token.is_word(b"all") {
        let mut change = Change::NOTHING;
        if action == Action::Reset {
            change.unpins.insert(Pin::Set);
        }
        return Ok(change);
    }
    Ok(named(action, name(&token, text, rest)?))
}

fn set<'a>(text: &'a [u8], mut rest: Lexer<'a>) -> Result<Change<'a>, LexError> {
    let Some(token) = rest.token()? else {
        return Ok(Change::NOTHING);
    };
    let behind = rest;
    let next = rest.token()?;
    // `SET local.x = 1` and `SET transaction.x = 1` set a parameter of that name.
    if next.is_some_and(|next| assigns(&next)) {
        return Ok(named(Action::Set, name(&token, text, behind)?));
    }
    if token.is_word(b"transaction") || token.is_word(b"constraints") {
        return Ok(Change::NOTHING);
    }
    let Some(next) = next else {
        return Ok(Change::NOTHING);
    };
    if token.is_word(b"local") {
        return Ok(named(Action::SetLocal, name(&next, text, rest)?));
    }
    if token.is_word(b"session") && !next.is_word(b"authorization") {
        return Ok(named(Action::Set, name(&next, text, rest)?));
    }
    Ok(named(Action::Set, name(&token, text, behind)?))
}

fn assigns(token: &Token<'_>) -> bool {
    token.is(b'.') || token.is_word(b"to") || is_equal(token)
}

fn is_equal(token: &Token<'_>) -> bool {
    token.kind == TokenKind::Operator && token.text.starts_with(b"=")
}

fn named(action: Action, name: Option<&[u8]>) -> Change<'_> {
    let mut pins = PinSet::EMPTY;
    if matches!(action, Action::Set | Action::Reset) {
        let role = name.is_some_and(|name| {
            name.eq_ignore_ascii_case(b"role")
                || name.eq_ignore_ascii_case(b"session_authorization")
        });
        pins.insert(if role { Pin::Role } else { Pin::Set });
    }
    let setting = name.map(|name| Setting {
        name,
        action,
        reported: REPORTED
            .iter()
            .any(|known| known.eq_ignore_ascii_case(name)),
    });
    Change {
        pins,
        unpins: PinSet::EMPTY,
        setting,
    }
}

/// The parameter that `first` begins to name, None where it is not one plain name.
fn name<'a>(
    first: &Token<'a>,
    text: &'a [u8],
    mut rest: Lexer<'a>,
) -> Result<Option<&'a [u8]>, LexError> {
    let behind = rest;
    let next = rest.token()?;
    if first.kind == TokenKind::Word
        && !next.is_some_and(|next| assigns(&next))
        && let Some(name) = special(first, next.as_ref())
    {
        return Ok(name);
    }
    match first.kind {
        TokenKind::Word => dotted(first, text, behind),
        TokenKind::QuotedWord if !next.is_some_and(|next| next.is(b'.')) => {
            let inner = &first.text[1..first.text.len() - 1];
            Ok((!inner.contains(&b'"')).then_some(inner))
        }
        _ => Ok(None),
    }
}

/// The forms of the grammar that name a parameter without its name (`gram.y`, set_rest_more).
fn special<'a>(first: &Token<'_>, next: Option<&Token<'_>>) -> Option<Option<&'a [u8]>> {
    let follows = |word: &[u8]| next.is_some_and(|next| next.is_word(word));
    if first.is_word(b"time") && follows(b"zone") {
        Some(Some(b"TimeZone"))
    } else if first.is_word(b"names") {
        Some(Some(b"client_encoding"))
    } else if first.is_word(b"session") && follows(b"authorization") {
        Some(Some(b"session_authorization"))
    } else if first.is_word(b"schema") && next.is_some_and(Token::is_string) {
        Some(Some(b"search_path"))
    } else if first.is_word(b"xml") && follows(b"option") {
        Some(Some(b"xmloption"))
    } else if first.is_word(b"transaction") && follows(b"isolation") {
        Some(Some(b"transaction_isolation"))
    } else if first.is_word(b"transaction") || first.is_word(b"characteristics") {
        // Several parameters at once.
        Some(None)
    } else {
        None
    }
}

fn dotted<'a>(
    first: &Token<'a>,
    text: &'a [u8],
    mut rest: Lexer<'a>,
) -> Result<Option<&'a [u8]>, LexError> {
    let mut end = first.start + first.text.len();
    loop {
        match rest.token()? {
            Some(dot) if dot.is(b'.') && dot.start == end => {}
            Some(dot) if dot.is(b'.') => return Ok(None),
            _ => return Ok(Some(&text[first.start..end])),
        }
        match rest.token()? {
            Some(part) if part.kind == TokenKind::Word && part.start == end + 1 => {
                end = part.start + part.text.len();
            }
            _ => return Ok(None),
        }
    }
}
