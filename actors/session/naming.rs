//! By which search path the names in a prepared statement are read.
//!
//! Postgres analyses one anew where the path is another, but keeps the types of its parameters, and in a block refuses
//! to give other columns. So clients share a statement only where they have the same path, and what one of them had to
//! put on a server under another is put there anew for the next.

use std::sync::Arc;

use pgherd_session::{Parameters, Reach, Statement};
use pgherd_sql::{Change, Pin, PinSet, Span, Step, Value};

use crate::judgement::Judgement;
use crate::session::attempt::Left;
use crate::session::turn::Turn;

/// The setting.
pub(super) const PATH: &str = "search_path";

/// Settings may be others than those that are known.
const UNCLEAR: PinSet = PinSet::of(&[Pin::Set, Pin::SetConfig, Pin::Function, Pin::Unknown]);

/// What the transaction under way has made of the path, for itself alone.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Path {
    /// Nothing.
    #[default]
    Usual,
    /// This.
    Local(Box<str>),
    /// Something that is not known.
    Unknown,
}

/// Takes note of changes that have been made.
pub(super) fn changed(turn: &mut Turn<'_>, changes: &[Change]) {
    for change in changes {
        let is_path = &*change.name == PATH;
        let is_untold = change.name.is_empty() || change.named_by.is_some();
        if !is_path && !is_untold {
            continue;
        }
        turn.path = match (&change.value, change.span) {
            (Value::Text(path), Span::Local) if is_path => Path::Local(path.clone()),
            // A savepoint may bring back what it was before.
            (_, Span::Session) if is_path && turn.path == Path::Usual => Path::Usual,
            _ => Path::Unknown,
        };
    }
}

/// The transaction has gone back to a savepoint, or may end and be followed by another.
pub(super) fn goes_back(turn: &mut Turn<'_>) {
    if turn.path != Path::Usual {
        turn.path = Path::Unknown;
    }
}

/// The server is idle, and nothing is owed.
#[inline]
pub(super) fn settled(turn: &mut Turn<'_>) {
    turn.path = Path::Usual;
    turn.server.statements.settle();
}

/// The settings under which names are read now; `None` where they are not known.
pub(super) fn here(turn: &Turn<'_>) -> Option<Arc<Parameters>> {
    let sets = |step: &Step| matches!(step, Step::Change(_) | Step::ResetAll | Step::RollbackTo(_));
    let is_unclear = turn.relay.pins.without(UNCLEAR) != turn.relay.pins;
    // What a block has set, an end that is under way may take back.
    let ends = turn.attempt.left != Left::No && turn.relay.block.is_some();
    if is_unclear || ends || turn.server.exchange.steps().any(sets) {
        return None;
    }
    match &turn.path {
        Path::Usual => Some(Arc::clone(&turn.relay.parameters)),
        Path::Local(path) => {
            let mut here = (*turn.relay.parameters).clone();
            here.set(PATH, path);
            Some(Arc::new(here))
        }
        Path::Unknown => None,
    }
}

/// Whether a statement that goes to the server now will be there what it is to all who share it.
pub(super) fn fits(turn: &Turn<'_>, statement: &Statement<Judgement>) -> bool {
    statement.reach != Reach::Shared || here(turn).is_some_and(|here| statement.names_as(&here))
}
