//! What a text is, and where it may run: the planner's word, and what is refused besides.

use std::collections::BTreeSet;
use std::sync::Arc;

use pgherd_planner::{Count, Merge, Names, Param, Params, Plan, Refusal, Route, Statement, Wanted};
use pgherd_session::{Reach, Unnamed};
use pgherd_sql::{LexOptions, Lexer};
use pgherd_wire::error::ErrorReport;
use pgherd_wire::frontend::Bind;
use pgherd_wire::sqlstate::{self, SqlState};

use super::dtx;
use super::hint;
use super::names;
use super::request::{Bound, Request};
use super::word::{self, Word};
use crate::judgement::{self, Listens};
use crate::session::relay::Relay;
use crate::shards::{FIRST_OWN, Known};

/// The OID of `bigint`.
const INT8: u32 = 20;

/// Where a statement may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// On any shard.
    Any,
    /// On this one.
    On(u16),
}

/// What the client has prepared by this name, as its Parse message was behind the name.
pub(super) fn tail_of<'a>(relay: &'a Relay, name: &[u8]) -> Option<&'a [u8]> {
    let statements = relay.statements.as_deref()?;
    match (name, &statements.unnamed) {
        (b"", Unnamed::Parsed { tail, .. }) => Some(tail),
        (b"", Unnamed::None) => None,
        _ => statements.get(name).map(|held| &*held.statement.tail),
    }
}

/// The same, to be read by several servers, or without being prepared there: under the settings of now.
///
/// # Errors
/// Postgres has read its constants under those of then, which may mean something else.
pub(super) fn tail_now<'a>(relay: &'a Relay, name: &[u8]) -> Result<Option<&'a [u8]>, ErrorReport> {
    let statements = relay.statements.as_deref();
    let held = statements.and_then(|statements| statements.get(name));
    let Some(held) = held.filter(|_| !name.is_empty()) else {
        return Ok(tail_of(relay, name));
    };
    let (now, then) = (&relay.parameters, &held.statement.read_under);
    let is_alike = Arc::ptr_eq(now, then) || now.reads_as(then);
    if !is_alike && has_constants(text_of(&held.statement.tail), relay.lexing) {
        let text =
            "the statement was prepared under other settings, by which its constants are read";
        return Err(unsupported(text).hint("Prepare it again."));
    }
    Ok(Some(&held.statement.tail))
}

/// Whether a text has constants whose value may hang on settings.
fn has_constants(text: &[u8], lexing: LexOptions) -> bool {
    let mut lexer = Lexer::new(text, lexing);
    loop {
        match lexer.token() {
            // `x = NULL` is read in two ways (`transform_null_equals`).
            Ok(Some(token)) if token.is_string() || token.is_word(b"null") => return true,
            Ok(Some(_)) => {}
            Ok(None) => return false,
            Err(_) => return true,
        }
    }
}

/// A tail's text and the types that it gives to parameters.
pub(super) fn parts(tail: &[u8]) -> (&[u8], Vec<u32>) {
    let end = tail.iter().position(|byte| *byte == 0);
    let (text, types) = tail.split_at(end.unwrap_or(tail.len()));
    let types = types.get(3..).unwrap_or_default();
    let oids = types
        .chunks_exact(4)
        .map(|oid| u32::from_be_bytes([oid[0], oid[1], oid[2], oid[3]]));
    (text, oids.collect())
}

/// The text of a tail.
pub(super) fn text_of(tail: &[u8]) -> &[u8] {
    parts(tail).0
}

/// Whether and where a statement that is prepared could run, whatever its parameters.
pub(super) fn prepared(relay: &Relay, known: &Known, tail: &[u8]) -> Result<Place, ErrorReport> {
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
        // With one time for all, it may run.
        Plan::Refused(refusal) => match statement.route(&Params::default()) {
            Ok(_) => Ok(Place::Any),
            Err(_) => match dtx::explained(relay, known, text, None) {
                Some(Ok(_)) => Ok(Place::Any),
                Some(Err(report)) => Err(report),
                None => Err(worded(refusal)),
            },
        },
        // What its keys are is known when it is bound.
        _ => Ok(told.place(&Params::default()).unwrap_or(Place::Any)),
    }
}

/// Where a statement runs with what is bound to it.
pub(super) fn bound(
    relay: &Relay,
    known: &Known,
    tail: &[u8],
    bind: &Bind<'_>,
) -> Result<Place, ErrorReport> {
    let told = read(relay, known, text_of(tail))?;
    let plan = match &told {
        Told::Planned(statement) => Some(statement.plan()),
        Told::Anywhere => None,
    };
    with_params(relay, known, plan, Some((tail, bind)), |params| {
        told.place(params)
    })
}

/// Gives what is bound to a statement to who asks for it.
pub(super) fn with_params<T>(
    relay: &Relay,
    known: &Known,
    plan: Option<&Plan>,
    bound: Option<(&[u8], &Bind<'_>)>,
    ask: impl FnOnce(&Params<'_>) -> T,
) -> T {
    let values = bound.map_or_else(Vec::new, |(tail, bind)| {
        let types = parts(tail).1;
        let types = plan.map_or_else(|| types.clone(), |plan| with_counts(plan, &types));
        values(&types, bind)
    });
    ask(&Params {
        values: &values,
        foreign_encoding: names::is_foreign(relay, known),
    })
}

/// Whether what is bound names keys that are to be looked up first.
pub(super) fn wants_keys(relay: &Relay, known: &Known, tail: &[u8], bind: &Bind<'_>) -> bool {
    let looks_up = relay.spread.as_deref().map(|it| it.group.looks_up());
    if looks_up != Some(true) {
        return false;
    }
    let Ok(Told::Planned(statement)) = read(relay, known, text_of(tail)) else {
        return false;
    };
    let plan = Some(statement.plan());
    with_params(relay, known, plan, Some((tail, bind)), |params| {
        statement.wanted(params) == Some(Wanted::Named)
    })
}

/// What is asked of several shards by a statement with what is bound to it; nothing if it is not a read of
/// several.
pub(super) fn routed(
    relay: &Relay,
    known: &Known,
    tail: &[u8],
    bind: &Bind<'_>,
) -> Result<Option<Request>, ErrorReport> {
    let (text, types) = parts(tail);
    let Told::Planned(statement) = read(relay, known, text)? else {
        return Ok(None);
    };
    let types_of_counts = with_counts(statement.plan(), &types);
    let values = values(&types_of_counts, bind);
    let foreign_encoding = names::is_foreign(relay, known);
    let params = Params {
        values: &values,
        foreign_encoding,
    };
    let Ok(route) = statement.route(&params) else {
        return Ok(None);
    };
    if matches!(route, Route::One(_) | Route::Any | Route::Session) {
        return Ok(None);
    }
    // A text that names a moment is read only once.
    let shared = judgement::reach(text, relay.lexing) == Reach::Shared;
    if !shared || !is_read(relay, text) {
        return Ok(None);
    }
    let bound = Bound::of(types.clone(), bind);
    let request = Request::of(&route, text, Some(bound), known.number());
    Ok(request.filter(|request| {
        request.is_ordered(foreign_encoding) && request.is_legible(foreign_encoding)
    }))
}

/// The types of parameters, and of those that LIMIT and OFFSET are given, if they are not said, that which
/// Postgres gives them.
fn with_counts(plan: &Plan, types: &[u32]) -> Vec<u32> {
    let mut types = types.to_vec();
    let merge = match plan {
        Plan::Merged { merge, .. } => merge,
        Plan::OneShard { otherwise, .. } => return with_counts(otherwise, &types),
        _ => return types,
    };
    let (Merge::Sorted { limit, offset, .. } | Merge::Limited { limit, offset, .. }) = merge else {
        return types;
    };
    for count in [limit, offset] {
        if let Some(Count::Param(number)) = count
            && let Some(at) = usize::try_from(*number)
                .ok()
                .and_then(|it| it.checked_sub(1))
            && at < usize::from(u16::MAX)
        {
            types.resize(types.len().max(at + 1), 0);
            if types[at] == 0 {
                types[at] = INT8;
            }
        }
    }
    types
}

/// Whether a text is one of rows and nothing else.
pub(super) fn is_read(relay: &Relay, text: &[u8]) -> bool {
    let judgement = relay.judge(text);
    judgement.plain && !judgement.follows && judgement::is_analysed(text, relay.lexing)
}

pub(super) fn values<'b>(types: &[u32], bind: &Bind<'b>) -> Vec<Param<'b>> {
    let is_binary = |at: usize| match bind.formats {
        [] => false,
        [high, low] => [*high, *low] == [0, 1],
        codes => codes.get(2 * at..2 * at + 2) == Some(&[0, 1]),
    };
    let values = bind.parameters().enumerate().map(|(at, value)| Param {
        oid: types.get(at).copied().unwrap_or_default(),
        binary: is_binary(at),
        value,
    });
    values.collect()
}

/// Where a text runs.
pub(super) fn place(
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
pub(super) enum Told {
    /// It is about the session or the transaction, or nothing.
    Anywhere,
    /// The planner knows.
    Planned(Arc<Statement>),
}

/// Reads a text, and refuses what never runs on a sharded database.
pub(super) fn read(relay: &Relay, known: &Known, text: &[u8]) -> Result<Told, ErrorReport> {
    read_as(relay, known, text, false)
}

/// The same of a query whose rows have to come of one server.
pub(super) fn together(relay: &Relay, known: &Known, text: &[u8]) -> Result<Told, ErrorReport> {
    read_as(relay, known, text, true)
}

fn read_as(relay: &Relay, known: &Known, text: &[u8], together: bool) -> Result<Told, ErrorReport> {
    let Some(spread) = relay.spread.as_deref() else {
        return Ok(Told::Anywhere);
    };
    let word = word::first(text, relay.lexing);
    if word == Word::Nothing {
        return Ok(Told::Anywhere);
    }
    let judgement = relay.judge(text);
    if judgement.listens == Listens::Opaque {
        let text = "what this listens to cannot be told";
        return Err(unsupported(text).hint("Send LISTEN and UNLISTEN by themselves."));
    }
    if !judgement.pins.is_empty() {
        let text = "this would bind the session to one of the shards";
        return Err(unsupported(text).detail(crate::pins::names(judgement.pins)));
    }
    if judgement.inspects && spread.prepares {
        let text = "pg_prepared_statements is not supported on a sharded database behind a PREPARE";
        return Err(unsupported(text));
    }
    if judgement.follows {
        names::of_transaction(relay, text)?;
    }
    let text = names::readable(relay, known, text)?;
    // What is about the session names nothing that a schema has, and may be what gets it out of a role.
    let names = match word {
        Word::OfSession => Names::default(),
        Word::Nothing | Word::Other => {
            let mut names = names::of(relay, known)?;
            // What stands with the statement itself counts.
            let own = hint::of_text(relay, text.as_bytes())?;
            names.hint = own.or(names.hint);
            names.together = together;
            names
        }
    };
    let statement = spread.group.plan(text, &names, known);
    // A definition of it must be possible, as is any other statement that does not come to that.
    let runs = !matches!(statement.plan(), Plan::Refused(_));
    if let Some(report) = known
        .lacks_unique(text.as_bytes(), &spread.group.pools)
        .filter(|_| runs)
    {
        return Err(report);
    }
    if judgement.alters && !may_alter(spread.group.pools.len(), statement.plan()) {
        let text = "this definition cannot be changed over a sharded database";
        return Err(unsupported(text).hint("Do it on each of the shards by its own name."));
    }
    match (statement.plan(), word) {
        (Plan::Session, Word::OfSession) => Ok(Told::Anywhere),
        (Plan::Session, Word::Nothing | Word::Other) => {
            let text = "this statement is not supported on a sharded database";
            Err(unsupported(text).hint("Send EXECUTE by itself."))
        }
        (Plan::Refused(_), _) | (_, Word::Other) => Ok(Told::Planned(statement)),
        // By its first word it were of the session, which the planner does not say.
        (_, Word::OfSession | Word::Nothing) => Err(unsupported("this statement cannot be read")),
    }
}

/// Whether a definition by this plan is the same on all shards, of which there are so many.
pub(super) fn may_alter(shards: usize, plan: &Plan) -> bool {
    match plan {
        Plan::All | Plan::Refused(_) => true,
        Plan::OneShard { .. } => shards == 1,
        _ => false,
    }
}

impl Told {
    pub(super) fn place(&self, params: &Params<'_>) -> Result<Place, ErrorReport> {
        let Self::Planned(statement) = self else {
            return Ok(Place::Any);
        };
        let alone = match statement.copied() {
            Some(_) => IN_UTF8,
            None => ALONE,
        };
        match statement
            .route(params)
            .map_err(|refusal| worded(&refusal))?
        {
            Route::Any => Ok(Place::Any),
            Route::One(shard) => Ok(Place::On(shard.0)),
            Route::Session => Ok(Place::Any),
            Route::Concat {
                shards,
                writes: true,
            } => Err(several(shards.len()).hint(BY_ITSELF)),
            Route::Concat { shards, .. } | Route::Merge { shards, .. } => {
                Err(several(shards.len()).hint(alone))
            }
            Route::Pull { pulls, .. } => {
                let shards: BTreeSet<_> = pulls.iter().flat_map(|(shards, _)| shards).collect();
                Err(several(shards.len()).hint(alone))
            }
            Route::At { route, .. } => match *route {
                // Its time is that of the one shard.
                Route::One(shard) => Ok(Place::On(shard.0)),
                Route::Any => Ok(Place::Any),
                Route::Concat { shards, .. } | Route::Merge { shards, .. } => {
                    Err(several(shards.len()).hint(alone))
                }
                _ => Err(unsupported("now() is not the same on several shards")),
            },
            Route::All => Err(unsupported("this is a write to all shards").hint(BY_ITSELF)),
            Route::Pieces(_) => {
                Err(unsupported("this stores rows on several shards").hint(BY_ITSELF))
            }
            Route::Move { .. } => {
                Err(unsupported("this moves rows to another shard").hint(BY_ITSELF))
            }
            Route::CopyIn(_) | Route::Deal { .. } => {
                Err(unsupported("this stores rows on several shards").hint(BY_ITSELF))
            }
        }
    }
}

/// Where writes to several shards run.
const BY_ITSELF: &str = "Send it by itself, or in a block that has begun before.";

/// Where reads of several shards run.
const ALONE: &str =
    "Run it outside of a transaction block, and in a pipeline with nothing else than such reads.";

/// How rows of several shards are copied.
const IN_UTF8: &str = "SET client_encoding = UTF8, and copy without ENCODING.";

pub(super) fn several(count: usize) -> ErrorReport {
    let text = format!("this statement has rows on {count} shards, and runs on one only");
    unsupported(text)
}

pub(super) fn unsupported(text: impl Into<String>) -> ErrorReport {
    ErrorReport::error(sqlstate::FEATURE_NOT_SUPPORTED, text)
}

pub(super) fn worded(refusal: &Refusal) -> ErrorReport {
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
