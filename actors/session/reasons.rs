//! Why a session is bound to its server: what a text adds to that, and what its failure takes back.
//!
//! What a transaction has made goes with it: a temporary table, a cursor. What a session has got stays, whatever
//! becomes of the statement that has got it: an advisory lock, a library, a seed. Where the text does not tell what of
//! it is over, but says that something may be, the server is looked at behind the turn ([`crate::session::behind`]).

use pgherd_session::{Owed, Undo};
use pgherd_sql::{Deed, Pin, PinSet, mentions};
use pgherd_wire::error::{ErrorReport, Field};
use pgherd_wire::sqlstate;

use crate::judgement::Judgement;
use crate::session::turn::Turn;

/// What the end of a transaction without a commit takes back.
const OF_TRANSACTION: PinSet = PinSet::of(&[
    Pin::Set,
    Pin::SetConfig,
    Pin::Role,
    Pin::Listen,
    Pin::TempTable,
    Pin::HoldCursor,
]);

/// Of that, what a look at the server shows to be over.
const SHOWN: PinSet = PinSet::of(&[Pin::TempTable, Pin::HoldCursor]);

/// What of them leaves it open what is set.
const SETS: PinSet = PinSet::of(&[Pin::Set, Pin::SetConfig, Pin::Unknown]);

/// The function of Postgres whose syntax errors are those of its parser (`scan.l`).
const PARSER: &str = "scanner_yyerror";

/// What the failure of a simple query takes back that nothing else is under way with.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Undone {
    /// If it fails while it runs.
    run: PinSet,
    /// If it cannot even be read: nothing of it has run then.
    read: PinSet,
}

impl Undone {
    /// What that of a simple query is which is about to be sent.
    #[inline]
    pub(super) fn of(turn: &Turn<'_>, judgement: &Judgement) -> Self {
        let new = judgement.pins.without(turn.relay.pins);
        if new.is_empty() || !is_alone(turn) {
            return Self::default();
        }
        Self {
            // A COMMIT in it, or in what it calls, leaves what comes before that.
            run: match judgement.lasts {
                true => PinSet::EMPTY,
                false => new.both(OF_TRANSACTION),
            },
            read: new,
        }
    }

    /// What of it something else binds the session for, too, is not taken back.
    fn without(self, pins: PinSet) -> Self {
        Self {
            run: self.run.without(pins),
            read: self.read.without(pins),
        }
    }
}

/// Whether nothing of the client's is under way, so that an error is that of what is sent next.
fn is_alone(turn: &Turn<'_>) -> bool {
    let exchange = &turn.server.exchange;
    !exchange.owes_client() && !exchange.unsynced() && !exchange.skipping() && !exchange.doubtful()
}

/// The session is bound for these reasons by what is sent now, so that what was sent before it takes them back only
/// where this is skipped with it.
#[inline]
pub(super) fn bind(turn: &mut Turn<'_>, pins: PinSet) {
    if pins.is_empty() {
        return;
    }
    turn.server.misread |= pins.without(SETS) != pins;
    turn.server.exchange.keep_bound(pins);
    turn.undone = turn.undone.without(pins);
    turn.relay.pins = turn.relay.pins.union(pins);
}

/// The same by what has been answered, whatever becomes of all that was sent behind it.
pub(super) fn have(turn: &mut Turn<'_>, pins: PinSet) {
    if pins.is_empty() {
        return;
    }
    turn.server.misread |= pins.without(SETS) != pins;
    turn.server.exchange.have_bound(pins);
    turn.undone = turn.undone.without(pins);
    turn.relay.pins = turn.relay.pins.union(pins);
}

/// A text is sent.
#[inline]
pub(super) fn add(turn: &mut Turn<'_>, judgement: &Judgement) {
    bind(turn, judgement.pins);
    turn.server.frees = turn.server.frees.union(judgement.frees);
    if judgement.leaves {
        let new = turn.relay.pins.without(turn.before);
        turn.server.frees = turn.server.frees.union(new.both(SHOWN));
    }
}

/// The same of one that may stand behind others in a pipeline: should one of these fail, it does not run.
#[inline]
pub(super) fn add_behind(turn: &mut Turn<'_>, judgement: &Judgement) {
    let new = judgement.pins.without(turn.relay.pins);
    if !new.is_empty() && turn.server.exchange.unsynced() {
        turn.server.exchange.sent(Owed::Local {
            reply: b"",
            undo: Undo::Bound(new),
        });
    }
    add(turn, judgement);
}

/// In session mode a text is prepared, and nobody takes note of when it runs: from here on the session is bound by what it
/// may leave on the server that no `DISCARD ALL` takes back, and nobody has the server behind it.
pub(super) fn prepared(turn: &mut Turn<'_>, text: &[u8]) {
    let judgement = turn.relay.judge(text);
    let mut pins = judgement.pins;
    if judgement.names
        && let Ok(named) = mentions(text, turn.relay.lexing)
    {
        for mention in &named.found {
            if let Deed::Prepare { query } = mention.deed
                && let Some(inner) = text.get(query..)
            {
                pins = pins.union(turn.relay.judge(inner).pins);
            }
        }
    }
    bind(turn, pins.without(PinSet::DISCARD_ALL));
}

/// A simple query is sent that nobody has read.
pub(super) fn unread(turn: &mut Turn<'_>) {
    const UNKNOWN: PinSet = PinSet::of(&[Pin::Unknown]);
    let was_bound = turn.relay.pins.contains(Pin::Unknown);
    bind(turn, UNKNOWN);
    turn.undone = match !was_bound && is_alone(turn) {
        true => Undone {
            run: PinSet::EMPTY,
            read: UNKNOWN,
        },
        false => Undone::default(),
    };
}

/// The server has answered with an error.
pub(super) fn failed(turn: &mut Turn<'_>, report: &ErrorReport) {
    let undone = std::mem::take(&mut turn.undone);
    let over = match turn.statements == 0 && is_of_parser(report) {
        // What of ours goes before it has failed, and the text runs all the same.
        _ if !turn.server.exchange.is_text() => PinSet::EMPTY,
        true => undone.read,
        false => undone.run,
    };
    turn.relay.pins = turn.relay.pins.without(over);
    // Whatever else the turn has bound the session for may be gone with its transaction.
    let new = turn.relay.pins.without(turn.before);
    turn.server.frees = turn.server.frees.union(new.both(SHOWN));
}

/// Whether the server could not read the text, which it reads as a whole before it runs any of it. What a function
/// runs has a context, or a text of its own.
fn is_of_parser(report: &ErrorReport) -> bool {
    const INSIDE: [Field; 3] = [Field::Where, Field::InternalQuery, Field::InternalPosition];
    report.code == sqlstate::SYNTAX_ERROR
        && report.other(Field::Routine) == Some(PARSER)
        && !INSIDE.iter().any(|field| report.other(*field).is_some())
}

#[cfg(test)]
mod tests {
    use pgherd_wire::error::{ErrorReport, Field};
    use pgherd_wire::sqlstate;

    use super::is_of_parser;

    #[test]
    fn only_what_the_parser_refuses_has_run_nothing() {
        let report = |code, others: &[(Field, &str)]| {
            let mut report = ErrorReport::error(code, "syntax error");
            let others = others.iter();
            report.others = others
                .map(|(field, text)| (*field, (*text).to_owned()))
                .collect();
            report
        };
        let parser = (Field::Routine, "scanner_yyerror");
        let position = (Field::Position, "8");
        assert!(is_of_parser(&report(
            sqlstate::SYNTAX_ERROR,
            &[position, parser]
        )));
        for others in [
            &[position, (Field::Routine, "transformInsertRow")][..],
            &[(Field::Where, "PL/pgSQL function f() line 1"), parser],
            &[(Field::InternalQuery, "selec"), parser],
            &[],
        ] {
            assert!(
                !is_of_parser(&report(sqlstate::SYNTAX_ERROR, others)),
                "{others:?}"
            );
        }
        assert!(!is_of_parser(&report(sqlstate::QUERY_CANCELED, &[parser])));
    }
}
