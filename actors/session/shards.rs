//! Where the statements of a sharded database run.
//!
//! Before a server is taken, the messages that are here are looked through for the first statement whose
//! keys say where it runs, and the session leads to that shard's pool, as if it had logged in there: all
//! that holds for one database holds from then on. This is only a choice. What counts is the second look,
//! when a statement is sent: it is planned with what its parameters are, and what does not surely give on
//! this shard alone what one Postgres would give is refused, wherever it has come from.

mod names;
pub(super) mod scatter;
mod word;

use std::num::NonZeroU64;
use std::sync::Arc;

use pgherd_planner::{Names, Param, Params, Plan, Refusal, Route, Statement};
use pgherd_session::Unnamed;
use pgherd_wire::backend::TransactionStatus;
use pgherd_wire::error::ErrorReport;
use pgherd_wire::frame;
use pgherd_wire::frontend::{self, Bind, Parse, tag};
use pgherd_wire::sqlstate::{self, SqlState};

use crate::judgement::{self, Listens};
use crate::session::checkout::Denied;
use crate::session::relay::Relay;
use crate::session::requests::is_held;
use crate::session::turn::Turn;
use crate::shards::{Group, Known};
use word::Word;

/// The first OID that a server gives to what its users make, which differs between servers.
const FIRST_OWN: u32 = 16_384;

/// What a session of a sharded database has besides.
#[derive(Debug)]
pub struct Spread {
    group: Arc<Group>,
    /// The shard whose pool the session has now.
    at: u16,
    /// When it wrote last on each of the shards.
    wrote: Box<[Option<NonZeroU64>]>,
}

impl Spread {
    /// One that begins on the first shard.
    pub fn new(group: Arc<Group>) -> Self {
        let wrote = group.pools.iter().map(|_| None).collect();
        Self {
            group,
            at: 0,
            wrote,
        }
    }
}

/// Where a statement may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// On any shard.
    Any,
    /// On this one.
    On(u16),
}

/// Whether all is here that has to be looked through before a server is taken: a request up to its Sync or
/// Flush, or so much that no more is waited for.
pub(super) fn is_whole(relay: &Relay) -> bool {
    let here = relay.up.unjudged();
    let mut rest = here;
    while let Ok(Some(header)) = frame::header(rest) {
        let Some(behind) = rest.get(header.total()..) else {
            break;
        };
        rest = behind;
        if matches!(
            header.tag,
            tag::QUERY | tag::SYNC | tag::FLUSH | tag::FUNCTION_CALL
        ) {
            return true;
        }
    }
    here.len() >= relay.pool.settings().limits.max_held_message.get()
        || matches!(frame::header(rest), Ok(Some(header)) if !is_held(relay, header.total()))
}

/// Where a request is to be run.
pub(super) enum Way {
    /// On a server of the pool that the session has now.
    Usual,
    /// It is one query of this text, which these shards answer one behind the other.
    Several(Vec<u16>, Box<[u8]>),
}

/// Leads a session of a sharded database to the shard of what its client has sent.
pub(super) async fn lead(relay: &mut Relay) -> Result<Way, Denied> {
    let Some(spread) = relay.spread.as_deref() else {
        return Ok(Way::Usual);
    };
    let group = Arc::clone(&spread.group);
    if group.is_retired() {
        let text = "the sharding of this database was changed by a reload";
        let report = ErrorReport::fatal(sqlstate::ADMIN_SHUTDOWN, text);
        return Err(Denied::Fatal(Box::new(report)));
    }
    if relay.kept.is_some() || relay.lost_block {
        return Ok(Way::Usual);
    }
    let refused = |report| Denied::Refused(Box::new(report));
    let known = group.known().await.map_err(refused)?;
    if let Some(several) = scattered(relay, &known) {
        return Ok(several);
    }
    match wanted(relay, &known).map_err(refused)? {
        Place::On(shard) => enter(relay, shard),
        Place::Any => {
            let held = |pool: &crate::pool::Pool| pool.core.held().is_some();
            if held(&relay.pool)
                && let Some(other) = group.pools.iter().position(|pool| !held(pool))
            {
                enter(relay, u16::try_from(other).unwrap_or_default());
            }
        }
    }
    Ok(Way::Usual)
}

/// A simple query outside of a block that only reads, and whose rows are those of several shards.
fn scattered(relay: &Relay, known: &Known) -> Option<Way> {
    if relay.opened.is_some() || !relay.pins.is_empty() {
        return None;
    }
    let here = relay.up.unjudged();
    let header = frame::header(here).ok().flatten()?;
    let body = here.get(frame::HEADER_LEN..header.total())?;
    if header.tag != tag::QUERY || !is_held(relay, header.total()) {
        return None;
    }
    let query = frontend::Query::parse(body).ok()?;
    let Ok(Told::Planned(statement)) = read(relay, known, query.text) else {
        return None;
    };
    let params = Params {
        foreign_encoding: names::is_foreign(relay, known),
        ..Params::default()
    };
    let judgement = relay.judge(query.text);
    // A COPY gives no rows of the protocol.
    if !judgement.plain || judgement.follows || !judgement::is_analysed(query.text, relay.lexing) {
        return None;
    }
    match statement.route(&params) {
        Ok(Route::Concat {
            shards,
            writes: false,
        }) => {
            let shards = shards.into_iter().map(|shard| shard.0).collect();
            Some(Way::Several(shards, query.text.into()))
        }
        _ => None,
    }
}

/// Takes the pool of a shard for the session's own.
fn enter(relay: &mut Relay, shard: u16) {
    let Some(spread) = relay.spread.as_deref_mut() else {
        return;
    };
    let (from, to) = (usize::from(spread.at), usize::from(shard));
    if from == to {
        return;
    }
    spread.wrote[from] = relay.wrote;
    relay.wrote = spread.wrote[to];
    spread.at = shard;
    relay.pool = Arc::clone(&spread.group.pools[to]);
}

/// Where the messages that are here want to run: where the first of them does that says so. An error is
/// that of the first; others come to light in their turn.
fn wanted(relay: &Relay, known: &Known) -> Result<Place, ErrorReport> {
    let mut parsed: Vec<(&[u8], &[u8])> = Vec::new();
    let mut likely = Place::Any;
    let mut rest = relay.up.unjudged();
    let mut first = true;
    while let Ok(Some(header)) = frame::header(rest) {
        let Some((message, behind)) = rest.split_at_checked(header.total()) else {
            break;
        };
        rest = behind;
        let body = &message[frame::HEADER_LEN..];
        let found = match header.tag {
            tag::QUERY => {
                let query = frontend::Query::parse(body);
                query.map(|query| place(relay, known, query.text, &Params::default()))
            }
            tag::PARSE => Parse::parse(body).map(|parse| {
                let tail = &body[parse.name.len() + 1..];
                parsed.push((parse.name, tail));
                let found = prepared(relay, known, tail)?;
                if likely == Place::Any {
                    likely = found;
                }
                Ok(Place::Any)
            }),
            tag::BIND => Bind::parse(body).map(|bind| {
                let of_name = |(name, _): &&(&[u8], &[u8])| *name == bind.statement;
                let here = parsed.iter().rev().find(of_name).map(|(_, tail)| *tail);
                match here.or_else(|| tail_of(relay, bind.statement)) {
                    Some(tail) => bound(relay, known, tail, &bind),
                    None => Ok(Place::Any),
                }
            }),
            tag::SYNC => break,
            _ => Ok(Ok(Place::Any)),
        };
        match found {
            Ok(Ok(Place::On(shard))) => return Ok(Place::On(shard)),
            Ok(Err(report)) if first => return Err(report),
            _ => {}
        }
        if header.tag == tag::QUERY {
            break;
        }
        first = false;
    }
    Ok(likely)
}

/// What the client has prepared by this name, as its Parse message was behind the name.
fn tail_of<'a>(relay: &'a Relay, name: &[u8]) -> Option<&'a [u8]> {
    let statements = relay.statements.as_deref()?;
    match (name, &statements.unnamed) {
        (b"", Unnamed::Parsed { tail, .. }) => Some(tail),
        (b"", Unnamed::None) => None,
        _ => statements.get(name).map(|held| &*held.statement.tail),
    }
}

/// A tail's text and the types that it gives to parameters.
fn parts(tail: &[u8]) -> (&[u8], Vec<u32>) {
    let end = tail.iter().position(|byte| *byte == 0);
    let (text, types) = tail.split_at(end.unwrap_or(tail.len()));
    let types = types.get(3..).unwrap_or_default();
    let oids = types
        .chunks_exact(4)
        .map(|oid| u32::from_be_bytes([oid[0], oid[1], oid[2], oid[3]]));
    (text, oids.collect())
}

/// Whether and where a statement that is prepared could run, whatever its parameters.
fn prepared(relay: &Relay, known: &Known, tail: &[u8]) -> Result<Place, ErrorReport> {
    let (text, types) = parts(tail);
    if types.iter().any(|oid| *oid >= FIRST_OWN) {
        let text = "parameters of types of the users' own are not supported on a sharded database";
        return Err(unsupported(text).hint("Leave the type out, or give a text and a cast."));
    }
    let told = read(relay, known, text)?;
    let Told::Planned(statement) = &told else {
        return told.place(&Params::default());
    };
    match statement.plan() {
        Plan::Refused(refusal) => Err(worded(refusal)),
        // What its keys are is known when it is bound.
        _ => Ok(told.place(&Params::default()).unwrap_or(Place::Any)),
    }
}

/// Where a statement runs with what is bound to it.
fn bound(relay: &Relay, known: &Known, tail: &[u8], bind: &Bind<'_>) -> Result<Place, ErrorReport> {
    let (text, types) = parts(tail);
    let told = read(relay, known, text)?;
    let formats: Vec<bool> = bind
        .formats
        .chunks_exact(2)
        .map(|code| code == [0, 1])
        .collect();
    let is_binary = |at: usize| match formats[..] {
        [] => false,
        [all] => all,
        _ => formats.get(at).copied().unwrap_or_default(),
    };
    let values: Vec<Param<'_>> = bind
        .parameters()
        .enumerate()
        .map(|(at, value)| Param {
            oid: types.get(at).copied().unwrap_or_default(),
            binary: is_binary(at),
            value,
        })
        .collect();
    told.place(&Params {
        values: &values,
        foreign_encoding: names::is_foreign(relay, known),
    })
}

/// Where a text runs.
fn place(
    relay: &Relay,
    known: &Known,
    text: &[u8],
    params: &Params<'_>,
) -> Result<Place, ErrorReport> {
    let foreign_encoding = names::is_foreign(relay, known);
    read(relay, known, text)?.place(&Params {
        foreign_encoding,
        ..*params
    })
}

/// What is told of a text before its parameters are known.
enum Told {
    /// It is about the session or the transaction, or nothing.
    Anywhere,
    /// The planner knows.
    Planned(Arc<Statement>),
}

/// Reads a text, and refuses what never runs on a sharded database.
fn read(relay: &Relay, known: &Known, text: &[u8]) -> Result<Told, ErrorReport> {
    let Some(spread) = relay.spread.as_deref() else {
        return Ok(Told::Anywhere);
    };
    let word = word::first(text, relay.lexing);
    if word == Word::Nothing {
        return Ok(Told::Anywhere);
    }
    let judgement = relay.judge(text);
    if judgement.listens != Listens::Nothing {
        return Err(unsupported(
            "LISTEN and UNLISTEN are not supported on a sharded database",
        ));
    }
    if judgement.alters {
        let text = "definitions cannot be changed over a sharded database yet";
        return Err(unsupported(text).hint("Do it on each of the shards by its own name."));
    }
    if !judgement.pins.is_empty() {
        let text = "this would bind the session to one of the shards";
        return Err(unsupported(text).detail(crate::pins::names(judgement.pins)));
    }
    let text = names::readable(relay, known, text)?;
    // What is about the session names nothing that a schema has, and may be what gets it out of a role.
    let names = match word {
        Word::OfSession => Names::default(),
        Word::Nothing | Word::Other => names::of(relay, known)?,
    };
    let statement = spread.group.plan(text, &names, known);
    match (statement.plan(), word) {
        (Plan::Session, Word::OfSession) => Ok(Told::Anywhere),
        (Plan::Session, Word::Nothing | Word::Other) => {
            let text = "this statement is not supported on a sharded database";
            Err(unsupported(text).hint("Prepare by the protocol; notify on a shard."))
        }
        (Plan::Refused(_), _) | (_, Word::Other) => Ok(Told::Planned(statement)),
        // By its first word it were of the session, which the planner does not say.
        (_, Word::OfSession | Word::Nothing) => Err(unsupported("this statement cannot be read")),
    }
}

impl Told {
    fn place(&self, params: &Params<'_>) -> Result<Place, ErrorReport> {
        let Self::Planned(statement) = self else {
            return Ok(Place::Any);
        };
        match statement
            .route(params)
            .map_err(|refusal| worded(&refusal))?
        {
            Route::Any => Ok(Place::Any),
            Route::One(shard) => Ok(Place::On(shard.0)),
            Route::Session => Ok(Place::Any),
            Route::Concat { shards, writes } => Err(several(shards.len()).hint(match writes {
                true => "Writes over several shards are not supported yet.",
                false => "Run it as a simple query, outside of a transaction block.",
            })),
            Route::Merge { shards, .. } => Err(several(shards.len())
                .hint("Rows of several shards are not sorted, counted or combined yet.")),
            Route::All => Err(unsupported(
                "a write to all shards at once is not supported yet",
            )),
            Route::Pieces(_) => Err(unsupported(
                "an INSERT of rows on several shards is not supported yet",
            )
            .hint("Insert the rows of each key by themselves.")),
            Route::CopyIn(_) => Err(unsupported(
                "COPY is not supported on a sharded database yet",
            )),
        }
    }
}

fn several(count: usize) -> ErrorReport {
    let text = format!("this statement has rows on {count} shards, and runs on one only");
    unsupported(text)
}

fn unsupported(text: impl Into<String>) -> ErrorReport {
    ErrorReport::error(sqlstate::FEATURE_NOT_SUPPORTED, text)
}

fn worded(refusal: &Refusal) -> ErrorReport {
    let code = SqlState::from_bytes(refusal.code.as_bytes());
    let code = code.unwrap_or(sqlstate::FEATURE_NOT_SUPPORTED);
    let text = match code {
        // No server would run it, and these are its words.
        sqlstate::SYNTAX_ERROR => refusal.reason.clone(),
        _ => refusal.to_string(),
    };
    let report = ErrorReport::error(code, text);
    match refusal.hint {
        Some(hint) => report.hint(hint),
        None => report,
    }
}

/// Why a text must not be sent to the server at hand, if it must not.
pub(super) fn objection(turn: &Turn<'_>, text: &[u8]) -> Option<ErrorReport> {
    object(turn, |relay, known| {
        place(relay, known, text, &Params::default())
    })
}

/// The same of what is to be prepared: a Parse message behind its name.
pub(super) fn objection_to_parse(turn: &Turn<'_>, tail: &[u8]) -> Option<ErrorReport> {
    // On which shard it is prepared does not matter.
    object(turn, |relay, known| {
        prepared(relay, known, tail).map(|_| Place::Any)
    })
}

/// The same of what is to be bound, by the body of a Bind message.
pub(super) fn objection_to_bind(turn: &Turn<'_>, body: &[u8]) -> Option<ErrorReport> {
    object(turn, |relay, known| {
        let Ok(bind) = Bind::parse(body) else {
            return Err(violation());
        };
        match tail_of(relay, bind.statement) {
            Some(tail) => bound(relay, known, tail, &bind),
            // The server will say that there is none; it has none that was not planned.
            None if bind.statement.is_empty() => Ok(Place::Any),
            None => Err(missing(bind.statement)),
        }
    })
}

/// What is said of what is too large to be read, or cannot be.
pub(super) fn unread() -> ErrorReport {
    let text = "the message is too large to be read on a sharded database (max_held_message)";
    ErrorReport::error(sqlstate::PROGRAM_LIMIT_EXCEEDED, text)
}

/// What is said of a function call by the protocol.
pub(super) fn no_function_call() -> ErrorReport {
    unsupported("function calls are not supported on a sharded database")
}

fn violation() -> ErrorReport {
    ErrorReport::error(sqlstate::PROTOCOL_VIOLATION, "invalid Bind message")
}

fn missing(name: &[u8]) -> ErrorReport {
    let name = String::from_utf8_lossy(name);
    let text = format!("prepared statement \"{name}\" does not exist");
    ErrorReport::error(sqlstate::INVALID_SQL_STATEMENT_NAME, text)
}

fn object(
    turn: &Turn<'_>,
    find: impl FnOnce(&Relay, &Known) -> Result<Place, ErrorReport>,
) -> Option<ErrorReport> {
    let relay = &*turn.relay;
    let spread = relay.spread.as_deref()?;
    let report = match spread.group.current().map(Known::agreed) {
        Some(Ok(known)) => match find(relay, &known) {
            Ok(Place::Any) => return None,
            Ok(Place::On(shard)) if shard == spread.at => return None,
            Ok(Place::On(shard)) => elsewhere(spread, shard),
            Err(report) => report,
        },
        Some(Err(report)) => report,
        None => {
            let text = "the schema of the shards has changed under this transaction";
            ErrorReport::error(sqlstate::SERIALIZATION_FAILURE, text).hint("Try it again.")
        }
    };
    if turn.server.exchange.status() == TransactionStatus::Failed {
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

/// Whether what comes next hangs on a statement that is not answered: what it sets may change the meaning.
pub(super) fn must_wait(turn: &Turn<'_>) -> bool {
    turn.relay.spread.is_some() && turn.server.exchange.follows()
}
