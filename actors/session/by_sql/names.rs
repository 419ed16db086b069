//! Names that come and go, and names that stand on a server for a moment.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;

use pgherd_session::{Edit, Held, Owed, Placed, ServerName, Undo};
use pgherd_sql::Pin;
use pgherd_wire::backend::tag;
use pgherd_wire::error::ErrorReport;
use pgherd_wire::frontend::{self, Target};
use pgherd_wire::sqlstate;

use crate::judgement::Judgement;
use crate::session::attempt;
use crate::session::replies::take_back;
use crate::session::statements::close_hidden;
use crate::session::turn::{Check, Turn};

/// What is under way of the names that come and go.
#[derive(Debug, Default)]
pub(in crate::session) struct Names {
    /// In the order in which the server will say that they did.
    pub(super) changes: VecDeque<Change>,
    /// Names of ours in the text under way, and the client's in whose place they stand, where the
    /// server may have none of them any more when it names one.
    pub(super) shown: HashMap<String, Box<[u8]>>,
    /// What is on the server under names that have no business there once this is answered.
    pub(super) rubbish: Vec<Box<[u8]>>,
    /// Where the text that was bound last differs from the client's.
    pub(super) edits: Vec<Edit>,
    /// Whether the server has the client's own names for the text in front.
    pub(super) laid: Laid,
}

/// How far a server is with having all statements of the client under the client's names.
#[derive(Debug, Default)]
pub(super) enum Laid {
    /// It was not asked.
    #[default]
    No,
    /// It is at it.
    Asked,
    /// It has them.
    Open,
    /// One of them cannot be prepared any more.
    Failed(Box<ErrorReport>),
}

impl Names {
    /// Whether names will come or go.
    pub(in crate::session) fn change(&self) -> bool {
        !self.changes.is_empty()
    }

    /// Whether something is on the server that has no business there once this is answered.
    pub(in crate::session) fn leave(&self) -> bool {
        !self.rubbish.is_empty()
    }

    /// Whether what the server says has anything to do with them.
    #[inline]
    pub(in crate::session) fn is_under_way(&self) -> bool {
        self.change() || !self.shown.is_empty()
    }

    /// Where a name of ours stands in what a server says, and what the client calls it.
    pub(in crate::session) fn find(&self, said: &str) -> Option<(Range<usize>, &[u8])> {
        if self.shown.is_empty() {
            return None;
        }
        let quotes = said.match_indices('"').map(|(at, _)| at + 1);
        let mut quoted = quotes.filter(|at| ServerName::is_reserved(&said.as_bytes()[*at..]));
        quoted.find_map(|at| {
            let length = said[at..].find('"')?;
            let own = self.shown.get(&said[at..at + length])?;
            Some((at..at + length, &**own))
        })
    }

    /// Why the server does not have the client's statements under their own names, if it was to; told once.
    pub(super) fn take_failure(&mut self) -> Option<Box<ErrorReport>> {
        match std::mem::take(&mut self.laid) {
            Laid::Failed(report) => Some(report),
            other => {
                self.laid = other;
                None
            }
        }
    }

    /// Where the text of the portal that is executed next differs from the client's; told once.
    pub(in crate::session) fn take_edits(&mut self) -> Vec<Edit> {
        std::mem::take(&mut self.edits)
    }
}

/// What a statement that has succeeded does to the client's names.
#[derive(Debug)]
pub(super) enum Change {
    Prepare {
        name: Box<[u8]>,
        held: Held<Judgement>,
        /// Where the server has it, unless it is there under the client's own name for a moment.
        placed: Option<Placed>,
    },
    Deallocate {
        name: Box<[u8]>,
    },
}

/// A statement of the client's has succeeded, and said so with this tag.
pub(in crate::session) fn completed(turn: &mut Turn<'_>, tag: &[u8]) {
    let said = match turn.names.changes.front() {
        Some(Change::Prepare { .. }) => b"PREPARE\0".as_slice(),
        Some(Change::Deallocate { .. }) => b"DEALLOCATE\0".as_slice(),
        None => return,
    };
    if tag != said || !turn.server.exchange.completes_clients() {
        return;
    }
    // The client will be told, and what it knows by then is not taken back.
    attempt::end(turn);
    match turn.names.changes.pop_front() {
        Some(Change::Prepare { name, held, .. }) => {
            let client = turn.relay.statements.get_or_insert_default();
            client.insert(&name, held);
        }
        Some(Change::Deallocate { name }) => {
            if let Some(client) = turn.relay.statements.as_deref_mut() {
                client.remove(&name);
            }
        }
        None => {}
    }
}

/// Whether what the server answers is only whether it has the client's statements under their own names.
#[inline]
pub(in crate::session) fn are_laid(turn: &Turn<'_>) -> bool {
    matches!(turn.names.laid, Laid::Asked)
}

/// One of them cannot be prepared: the client asks for something else, and is told in its place.
pub(in crate::session) fn not_laid(turn: &mut Turn<'_>, total: usize, report: &ErrorReport) {
    let server: &mut crate::server::ServerConn = &mut *turn.server;
    let statements = &mut server.statements;
    let mut client = turn.relay.statements.as_deref_mut();
    server.exchange.received(tag::ERROR_RESPONSE, |undo| {
        take_back(statements, client.as_deref_mut(), undo);
    });
    server.flow.hide(total);
    let text = "pg_prepared_statements is not supported while a prepared statement cannot be prepared anew";
    let told = ErrorReport::error(sqlstate::FEATURE_NOT_SUPPORTED, text);
    let told = told.detail(format!("The server said: {}.", report.message));
    turn.names.laid = Laid::Failed(Box::new(told));
}

/// The server has said all about it.
pub(in crate::session) fn laid(turn: &mut Turn<'_>) {
    match turn.names.laid {
        Laid::No | Laid::Open => return,
        Laid::Asked => turn.names.laid = Laid::Open,
        Laid::Failed(_) => {}
    }
    turn.check = Check::None;
}

/// The turn is over, perhaps in the middle.
pub(in crate::session) fn end(turn: &mut Turn<'_>) {
    if turn.names.is_under_way() {
        settle(turn);
    }
    if !turn.names.rubbish.is_empty() {
        turn.relay.pins.insert(Pin::Prepare);
    }
}

/// What has not been said to have happened by now does not happen any more.
pub(in crate::session) fn settle(turn: &mut Turn<'_>) {
    turn.names.shown.clear();
    for change in turn.names.changes.drain(..) {
        if let Change::Prepare {
            placed: Some(placed),
            ..
        } = change
        {
            turn.server.statements.remove(placed);
        }
    }
}

impl Names {
    /// Has what the server knows by this name closed behind the client's own Sync.
    pub(in crate::session) fn discard(&mut self, name: &[u8]) {
        if !self.rubbish.iter().any(|known| **known == *name) {
            self.rubbish.push(name.into());
        }
    }
}

/// Closes what is on the server only for what has just been sent. Within a pipeline it waits for the client's
/// own Sync: one of ours would end the skipping of what has failed.
pub(in crate::session) fn clear_away(turn: &mut Turn<'_>) {
    if turn.names.rubbish.is_empty() || turn.server.exchange.unsynced() {
        return;
    }
    for name in std::mem::take(&mut turn.names.rubbish) {
        close_hidden(turn, Target::Statement, &name, Undo::Nothing);
    }
    turn.relay.up.insert(&frontend::SYNC);
    turn.server.exchange.sent(Owed::OurSync);
}

#[cfg(test)]
mod tests {
    use super::Names;

    #[test]
    fn names_of_ours_are_found_in_what_a_server_says() {
        let mut names = Names::default();
        let find = |names: &Names, said: &str| {
            let (at, own) = names.find(said)?;
            Some((
                said[at].to_owned(),
                String::from_utf8_lossy(own).into_owned(),
            ))
        };
        let said = "prepared statement \"pgherd_12\" does not exist";
        assert_eq!(find(&names, said), None);
        for (ours, own) in [
            ("pgherd_1", "a"),
            ("pgherd_12", "b"),
            ("pgherd_nothing", "c"),
        ] {
            names.shown.insert(ours.to_owned(), own.as_bytes().into());
        }
        let found = |ours: &str, own: &str| Some((ours.to_owned(), own.to_owned()));
        assert_eq!(find(&names, said), found("pgherd_12", "b"));
        let said = "\"x\" \"pgherd_2\"\"pgherd_nothing\"";
        assert_eq!(find(&names, said), found("pgherd_nothing", "c"));
        for said in [
            "pgherd_1",
            "\"pgherd_1",
            "\"pgherd_\"",
            "\"",
            "é\"é\"pgherd",
        ] {
            assert_eq!(find(&names, said), None, "{said}");
        }
    }
}
