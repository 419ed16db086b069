//! Why what a client wants to send must not go to the server at hand.

use pgherd_planner::Params;
use pgherd_wire::backend::TransactionStatus;
use pgherd_wire::error::ErrorReport;
use pgherd_wire::frontend::Bind;
use pgherd_wire::sqlstate;

use super::Spread;
use super::plan::{Place, bound, place, prepared, tail_of, text_of, unsupported};
use super::verify;
use super::word::{self, Word};
use crate::session::relay::Relay;
use crate::session::turn::Turn;
use crate::shards::Known;
pub(super) use crate::shards::resharded;

/// Why a text must not be sent to the server at hand, if it must not.
pub(in crate::session) fn objection(turn: &Turn<'_>, text: &[u8]) -> Option<ErrorReport> {
    object(turn, Some(text), |relay, known| {
        match verify::objection(relay, known, text) {
            Some(report) => Err(report),
            None => place(relay, known, text, &Params::default()),
        }
    })
}

/// The same of what is to be prepared: a Parse message behind its name.
pub(in crate::session) fn to_parse(turn: &Turn<'_>, tail: &[u8]) -> Option<ErrorReport> {
    // Without shards, the end of the text need not be looked for at each Parse.
    turn.relay.spread.as_ref()?;
    // On which shard it is prepared does not matter.
    object(turn, Some(text_of(tail)), |relay, known| {
        prepared(relay, known, tail).map(|_| Place::Any)
    })
}

/// The same of what is to be bound, by the body of a Bind message.
pub(in crate::session) fn to_bind(turn: &Turn<'_>, body: &[u8]) -> Option<ErrorReport> {
    let bind = Bind::parse(body).ok();
    let tail = bind
        .as_ref()
        .and_then(|bind| tail_of(turn.relay, bind.statement));
    object(turn, tail.map(text_of), |relay, known| {
        let Some(bind) = bind else {
            return Err(violation());
        };
        match tail {
            Some(tail) => match verify::objection(relay, known, text_of(tail)) {
                Some(report) => Err(report),
                None => bound(relay, known, tail, &bind),
            },
            // The server will say that there is none; it has none that was not planned.
            None if bind.statement.is_empty() => Ok(Place::Any),
            None => Err(missing(bind.statement)),
        }
    })
}

/// What is said of what is too large to be read, or cannot be.
pub(in crate::session) fn unread() -> ErrorReport {
    let text = "the message is too large to be read on a sharded database (max_held_message)";
    ErrorReport::error(sqlstate::PROGRAM_LIMIT_EXCEEDED, text)
}

/// What is said of a function call by the protocol.
pub(in crate::session) fn no_function_call() -> ErrorReport {
    unsupported("function calls are not supported on a sharded database")
}

fn violation() -> ErrorReport {
    ErrorReport::error(sqlstate::PROTOCOL_VIOLATION, "invalid Bind message")
}

/// What Postgres says of a statement that the client has not prepared.
pub(super) fn missing(name: &[u8]) -> ErrorReport {
    let name = String::from_utf8_lossy(name);
    let text = format!("prepared statement \"{name}\" does not exist");
    ErrorReport::error(sqlstate::INVALID_SQL_STATEMENT_NAME, text)
}

fn object(
    turn: &Turn<'_>,
    text: Option<&[u8]>,
    find: impl FnOnce(&Relay, &Known) -> Result<Place, ErrorReport>,
) -> Option<ErrorReport> {
    let relay = &*turn.relay;
    let spread = relay.spread.as_deref()?;
    let ends = text.is_some_and(|text| word::ends(text, relay.lexing));
    let known = match (ends, spread.group.last()) {
        // It names nothing of a schema, and a block can be left whatever is known.
        (true, Some(known)) => Some(Ok(known)),
        _ => spread.group.current().map(Known::agreed),
    };
    // What it has written may be where nobody looks for it any more.
    let has_failed = turn.server.exchange.status() == TransactionStatus::Failed;
    let is_let_go =
        ends && (has_failed || text.is_some_and(|text| word::takes_back(text, relay.lexing)));
    let report = match known {
        _ if !is_let_go && spread.group.is_retired() => resharded(),
        Some(Ok(_)) if is_reset(turn, text) => unsupported(
            "what comes behind DISCARD ALL in a pipeline is not supported on a sharded database",
        )
        .hint("Send a Sync between."),
        Some(Ok(known)) => match find(relay, &known) {
            Ok(Place::Any) => return None,
            Ok(Place::On(shard)) if shard == spread.at => return None,
            Ok(Place::On(shard)) => elsewhere(spread, shard),
            Err(report) => report,
        },
        Some(Err(report)) => report,
        None => {
            spread.group.look_again();
            let text = "the schema of the shards has changed under this transaction";
            ErrorReport::error(sqlstate::SERIALIZATION_FAILURE, text).hint("Try it again.")
        }
    };
    // Its end may be answered already, and no ReadyForQuery has come since.
    if has_failed && !spread.ended {
        let text =
            "current transaction is aborted, commands ignored until end of transaction block";
        return Some(ErrorReport::error(
            sqlstate::IN_FAILED_SQL_TRANSACTION,
            text,
        ));
    }
    Some(report)
}

fn elsewhere(spread: &Spread, shard: u16) -> ErrorReport {
    let name = |at: u16| {
        let name = spread.group.config.shards.get(usize::from(at));
        name.map_or("", String::as_str)
    };
    let text = format!(
        "this transaction is on shard \"{}\", and the statement is for shard \"{}\"",
        name(spread.at),
        name(shard)
    );
    unsupported(text).hint("Transactions over several shards are not supported yet.")
}

/// Whether something in front of this text in its pipeline takes back settings that are not taken back here yet.
fn is_reset(turn: &Turn<'_>, text: Option<&[u8]>) -> bool {
    let relay = &*turn.relay;
    let word = text.map_or(Word::Other, |text| word::first(text, relay.lexing));
    turn.clears && word == Word::Other && relay.parameters != relay.startup
}

/// Whether what comes next hangs on a statement that is not answered: what it sets may change the meaning, and
/// the end of a transaction may take back what was set in it, or end one that has failed.
pub(in crate::session) fn must_wait(turn: &Turn<'_>) -> bool {
    let (relay, exchange) = (&*turn.relay, &turn.server.exchange);
    let hangs = relay.block.is_some() || exchange.status() == TransactionStatus::Failed;
    relay.spread.is_some() && (exchange.follows() || hangs && exchange.executes())
}
