//! Statements that a client has prepared by the protocol and names in SQL: on Postgres both have
//! the same names.
//!
//! Only a text that is one such statement is taken up. What SQL itself prepares (`PREPARE x AS …`)
//! is on the client's server alone, under that very name, and binds the client to it.

use std::borrow::Cow;
use std::ops::Range;

use pgherd_config::PoolMode;
use pgherd_session::Owed;
use pgherd_sql::{LexOptions, Lexer, Pin, Token, TokenKind};
use pgherd_wire::backend::{self, TransactionStatus};
use pgherd_wire::{frame, frontend};

use crate::session::behind;
use crate::session::requests::note;
use crate::session::sequence::{self, Way};
use crate::session::statements::{put, taken};
use crate::session::turn::{Check, Turn};

/// Names of this length are cut by Postgres (NAMEDATALEN).
const NAME_MAX: usize = 64;

/// What a text does with the name of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    Prepare,
    Execute,
    Deallocate,
}

/// What has become of a simple query.
pub(super) enum Taken {
    /// It is no business of this place.
    No,
    /// It is to be looked at again when nothing is owed any more.
    Later,
    /// It is answered.
    Answered,
    /// It is to be passed on with this text in place of its own.
    Rewritten(Vec<u8>),
}

/// Takes a simple query of `total` bytes, which is here as a whole.
pub(super) fn take(turn: &mut Turn<'_>, total: usize) -> Taken {
    let Some(client) = turn
        .relay
        .statements
        .as_deref()
        .filter(|client| !client.is_empty())
    else {
        return Taken::No;
    };
    let body = &turn.relay.up.unjudged()[frame::HEADER_LEN..total];
    let text = body.strip_suffix(&[0]).unwrap_or(body);
    let Some((deed, name, at)) = read(text, turn.relay.lexing) else {
        return Taken::No;
    };
    if client.get(&name).is_none() || turn.relay.mode == PoolMode::Session {
        return Taken::No;
    }
    let (name, text) = (name.into_owned(), text.to_vec());
    let exchange = &turn.server.exchange;
    // A failed block refuses all of this by itself, and a pipeline has its own end.
    if exchange.status() == TransactionStatus::Failed || exchange.unsynced() || exchange.skipping()
    {
        return Taken::No;
    }
    if deed != Deed::Execute && exchange.owes() {
        // Where the transaction stands by then is part of the answer.
        turn.check = Check::Quiet;
        return Taken::Later;
    }
    turn.check = Check::None;
    match deed {
        Deed::Execute => execute(turn, text, &name, at),
        Deed::Deallocate => {
            deallocate(turn, &name);
            answered(turn, total)
        }
        Deed::Prepare if exchange.status() == TransactionStatus::Idle => {
            let report = taken(&name);
            turn.relay.record(&report);
            report.encode_error(turn.server.flow.made());
            answered(turn, total)
        }
        // The server must fail the block, which it does where it is prepared to.
        Deed::Prepare => Taken::No,
    }
}

/// Has the server run the statement under the name that it knows.
fn execute(turn: &mut Turn<'_>, mut text: Vec<u8>, name: &[u8], at: Range<usize>) -> Taken {
    let known = turn.relay.statements.as_deref();
    let Some(held) = known.and_then(|client| client.get(name)).cloned() else {
        return Taken::No;
    };
    let (judgement, tail) = (held.statement.judgement, &held.statement.tail);
    if sequence::must_wait(turn, &judgement) {
        turn.check = Check::Quiet;
        return Taken::Later;
    }
    note(turn, judgement);
    if judgement.follows {
        // What it does to settings is only followed where it is bound by the protocol.
        turn.relay.pins.insert(Pin::SetConfig);
    }
    behind::sent(turn.server, &judgement, tail, turn.relay.lexing);
    sequence::sent(turn, &judgement, Way::Simple);
    let there = turn.server.statements.touch(held.statement.id);
    let placed = there.unwrap_or_else(|| {
        turn.relay.pool.stats.server_parse_again();
        let placed = put(turn, &held.statement, None);
        // Should it fail, the server must not wait for a Sync that the client has no reason to send.
        turn.relay.up.insert(&frontend::SYNC);
        turn.server.exchange.sent(Owed::OurSync);
        placed
    });
    text.splice(at, placed.name.text().as_bytes().iter().copied());
    Taken::Rewritten(text)
}

/// Forgets the statement for this client; others may be using what servers have of it.
fn deallocate(turn: &mut Turn<'_>, name: &[u8]) {
    if let Some(client) = turn.relay.statements.as_deref_mut() {
        client.remove(name);
    }
    let built = backend::command_complete(turn.server.flow.made(), b"DEALLOCATE");
    debug_assert!(built.is_ok(), "a tag is short");
}

/// Ends the answer to a query that the server does not see; nothing else is owed before it.
fn answered(turn: &mut Turn<'_>, total: usize) -> Taken {
    let status = turn.server.exchange.status();
    backend::ready_for_query(turn.server.flow.made(), status);
    turn.relay.up.hide(total);
    turn.queries += 1;
    Taken::Answered
}

/// What the only statement of a text does with a name, the name, and where that stands.
fn read(text: &[u8], options: LexOptions) -> Option<(Deed, Cow<'_, [u8]>, Range<usize>)> {
    let mut lexer = Lexer::new(text, options);
    let mut next = || lexer.token().ok().flatten();
    let first = next()?;
    let deed = if first.is_word(b"execute") {
        Deed::Execute
    } else if first.is_word(b"deallocate") {
        Deed::Deallocate
    } else if first.is_word(b"prepare") {
        Deed::Prepare
    } else {
        return None;
    };
    let mut named = next()?;
    let mut behind = next();
    if deed == Deed::Deallocate && named.is_word(b"prepare") && behind.is_some_and(|t| !t.is(b';'))
    {
        named = behind?;
        behind = next();
    }
    let name = name(&named)?;
    let at = named.start..named.start + named.text.len();
    let ends = |token: Option<Token<'_>>| token.is_none_or(|token| token.is(b';'));
    let fits = match deed {
        Deed::Deallocate => ends(behind) && !named.is_word(b"all"),
        Deed::Execute => ends(behind) || behind.is_some_and(|token| token.is(b'(')),
        Deed::Prepare => behind.is_some_and(|token| token.is(b'(') || token.is_word(b"as")),
    };
    if !fits {
        return None;
    }
    // One statement only: nothing but its end comes behind a semicolon.
    let mut semicolon = behind.is_some_and(|token| token.is(b';'));
    loop {
        match lexer.token() {
            Ok(None) => return Some((deed, name, at)),
            Ok(Some(token)) if !semicolon => semicolon = token.is(b';'),
            Ok(Some(_)) | Err(_) => return None,
        }
    }
}

/// The name that a token means, as Postgres understands identifiers. What it folds or cuts in its
/// own way is left to it, and so are the words that are no names.
fn name<'a>(token: &Token<'a>) -> Option<Cow<'a, [u8]>> {
    let text = token.text;
    match token.kind {
        TokenKind::Word if text.is_ascii() && text.len() < NAME_MAX => {
            Some(Cow::Owned(text.to_ascii_lowercase()))
        }
        TokenKind::QuotedWord if text.len() < NAME_MAX => {
            let inner = &text[1..text.len() - 1];
            (!inner.is_empty() && !inner.contains(&b'"')).then_some(Cow::Borrowed(inner))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use pgherd_sql::LexOptions;

    use super::{Deed, read};

    #[test]
    fn names_are_found_in_single_statements() {
        for (text, expected) in [
            ("execute S1", Some((Deed::Execute, "s1", "S1"))),
            ("EXECUTE s (1, 'a;b') ;", Some((Deed::Execute, "s", "s"))),
            (
                "/* x */ execute \"S\";",
                Some((Deed::Execute, "S", "\"S\"")),
            ),
            ("deallocate s", Some((Deed::Deallocate, "s", "s"))),
            ("deallocate prepare s;", Some((Deed::Deallocate, "s", "s"))),
            (
                "deallocate prepare",
                Some((Deed::Deallocate, "prepare", "prepare")),
            ),
            (
                "prepare s(int) as select $1",
                Some((Deed::Prepare, "s", "s")),
            ),
            ("prepare s as select 1", Some((Deed::Prepare, "s", "s"))),
            ("deallocate all", None),
            ("deallocate s; select 1", None),
            ("prepare transaction 's'", None),
            ("prepare s as select 1; execute s", None),
            ("execute 1", None),
            ("execute U&\"s\"", None),
            ("execute \"a\"\"b\"", None),
            ("select 1", None),
            ("", None),
        ] {
            let found = read(text.as_bytes(), LexOptions::default());
            let found = found.map(|(deed, name, at)| {
                let name = String::from_utf8(name.into_owned()).expect("ASCII");
                (deed, name, text[at].to_owned())
            });
            let expected = expected.map(|(deed, name, at)| (deed, name.to_owned(), at.to_owned()));
            assert_eq!(found, expected, "{text}");
        }
    }
}
