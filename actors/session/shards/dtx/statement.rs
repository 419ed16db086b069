//! Statements that read and write rows: where they go, and how their answers become one.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use pgherd_config::PoolMode;
use pgherd_planner::{Params, Piece, Plan, Route, Statement};
use pgherd_session::{Owed, Reach, Undo};
use pgherd_sql::{LexOptions, Lexer};
use pgherd_wire::backend;
use pgherd_wire::error::ErrorReport;
use pgherd_wire::frame;
use pgherd_wire::frontend::{self, Bind, Describe, Parse, Target, tag};
use pgherd_wire::sqlstate;

use super::cursors::{Gathered, held, outside, some_of};
use super::deals;
use super::explain;
use super::extended::{Bound, Parsed};
use super::legs::sent;
use super::named::is_named;
use super::reads::{self, Use};
use super::rows::{Behind, Kept, Passed};
use super::script;
use super::session::{Deed, deed, failed, moment, other, uncommitted};
use super::way::Way;
use super::{Dtx, Fault, Kind, gone};
use crate::clock;
use crate::control::Standing;
use crate::judgement::{self, Judgement, Listens};
use crate::server::Cancels;
use crate::session::Bye;
use crate::session::reads as replicas;
use crate::session::relay::Relay;
use crate::session::shards::concat::Concat;
use crate::session::shards::copied::Copied;
use crate::session::shards::count;
use crate::session::shards::gather::{Deadlines, End, Sink, gather, is_unbound};
use crate::session::shards::hint;
use crate::session::shards::legs::Leg;
use crate::session::shards::note_notice;
use crate::session::shards::objection::resharded;
use crate::session::shards::pipeline::told::{self, Prepared};
use crate::session::shards::plan::{
    Place, Told, may_alter, parts, read, tail_of, unsupported, with_params, worded,
};
use crate::session::shards::remark;
use crate::session::shards::scatter::{hand_over, is_planned_for};
use crate::session::shards::verifies;
use crate::session::shards::verify;
use crate::session::shards::wait;
use crate::session::shards::word::{self, Word};
use crate::session::statements;
use crate::session::turn::Turn;
use crate::shards::{Known, Tier};
use crate::transactions::{REPLICATED, deadlocks};
use crate::upstream;

/// How a statement has ended that has not failed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Done {
    /// With this tag.
    Complete(Box<[u8]>),
    /// It was none.
    Empty,
    /// There are more rows.
    Suspended,
}

/// What is sent to one server.
#[derive(Debug, Clone)]
pub(super) enum Form {
    /// A simple query.
    Simple(Vec<u8>),
    /// A Parse behind its name, and a Bind behind its names.
    Bound { tail: Vec<u8>, values: Vec<u8> },
}

/// Where a server gives rows in pieces.
pub(super) enum Source {
    /// There, as it is.
    There(u16),
    /// Where they were brought.
    Brought(Box<Gathered>),
}

/// By what a statement was planned before its shards were there.
#[derive(Debug)]
pub(super) struct Planned {
    /// The number of the schemas.
    pub(super) schemas: u64,
    /// How the client has prepared it, if by a name.
    prepared: Option<Parsed>,
}

impl Planned {
    fn of(relay: &Relay, known: &Known, given: Option<(&[u8], &Bind<'_>)>) -> Self {
        let prepared = given.and_then(|(tail, bind)| {
            let name = reads::named(relay, tail, bind.statement)?;
            let tail = tail.into();
            Some(Parsed { name, tail })
        });
        Self {
            schemas: known.number(),
            prepared,
        }
    }
}

/// Held on each shard, to the end of its transaction, by whoever writes what is to be the same on all: each statement
/// then finds the same writes behind it on every one of them. It is asked for by itself, as a statement sees what was
/// committed before it began, and is kept by what is prepared.
fn alone() -> Vec<u8> {
    format!("SELECT pg_catalog.pg_advisory_xact_lock({REPLICATED})").into_bytes()
}

/// Whether a route cannot be gone without a transaction over several shards.
fn is_spread(statement: &Statement, route: &Route<'_>, in_block: bool) -> bool {
    match route {
        Route::Concat { writes, .. } => *writes || in_block,
        Route::Merge { .. } | Route::Pull { .. } => in_block,
        Route::All
        | Route::Pieces(_)
        | Route::Move { .. }
        | Route::Deal { .. }
        | Route::CopyIn(_) => true,
        Route::At { route, .. } => is_spread(statement, route, in_block),
        // Behind it in the block, such rows may be written to.
        _ => in_block && statement.locks_replicated(),
    }
}

/// Whether what is in front has to be run in a transaction over several shards.
pub(in crate::session::shards) fn needs(relay: &Relay, known: &Known) -> bool {
    if !relay.pins.is_empty() || relay.spread.is_none() {
        return false;
    }
    let mut in_block = relay.opened.is_some();
    let mut parsed: Vec<(&[u8], &[u8])> = Vec::new();
    let mut shard = None;
    let mut rest = relay.up.unjudged();
    while let Ok(Some(header)) = frame::header(rest) {
        let Some((message, behind)) = rest.split_at_checked(header.total()) else {
            return false;
        };
        rest = behind;
        let body = &message[frame::HEADER_LEN..];
        let (text, bound) = match header.tag {
            tag::QUERY => match frontend::Query::parse(body) {
                Ok(query) if script::parts(relay, query.text).is_some() => return true,
                Ok(query) if is_named(query.text, relay.lexing) => return true,
                Ok(query) => (query.text, None),
                Err(_) => return false,
            },
            tag::PARSE => {
                if let Ok(parse) = Parse::parse(body) {
                    if is_named(parse.query, relay.lexing) {
                        return true;
                    }
                    parsed.push((parse.name, &body[parse.name.len() + 1..]));
                }
                continue;
            }
            tag::DESCRIBE => {
                let tail = Describe::parse(body)
                    .ok()
                    .filter(|described| described.kind == Target::Statement)
                    .and_then(|described| tail_of(relay, described.name));
                if tail.is_some_and(|tail| is_named(parts(tail).0, relay.lexing)) {
                    return true;
                }
                continue;
            }
            tag::BIND => {
                let Ok(bind) = Bind::parse(body) else {
                    return false;
                };
                let here = parsed
                    .iter()
                    .rev()
                    .find(|(name, _)| *name == bind.statement);
                let tail = here.map(|(_, tail)| *tail);
                let tail = tail.or_else(|| tail_of(relay, bind.statement));
                let Some(tail) = tail else {
                    return false;
                };
                (parts(tail).0, Some((tail, bind)))
            }
            tag::SYNC => return false,
            _ => continue,
        };
        if is_named(text, relay.lexing) {
            return true;
        }
        if bound.is_some() && matches!(deed(relay, text), Some(Deed::Begin(_))) {
            // Drivers send the block's first statement along.
            in_block = true;
            continue;
        }
        if bound.is_some() && hint::is_set_by(text, relay.lexing) {
            // Where the rest of the pipeline runs is known behind it.
            return true;
        }
        let Ok(Told::Planned(statement)) = read(relay, known, text) else {
            return false;
        };
        let due = verify::is_due(relay, text, &statement);
        // What reads several shards by itself was found to stand with something else in its pipeline.
        // What it is told outside of a block is told there.
        let declares = held(relay, text).is_some();
        let is_read = judgement::reach(text, relay.lexing) == Reach::Shared;
        let is_piped = bound.is_some()
            && relay.mode != PoolMode::Session
            && (is_read || statement.copied().is_some());
        let bound = bound.as_ref().map(|(tail, bind)| (*tail, bind));
        let plan = Some(statement.plan());
        let found = with_params(relay, known, plan, bound, |params| {
            Some(match statement.route(params) {
                Ok(route @ Route::One(shard)) => (
                    due || is_spread(&statement, &route, in_block),
                    Some(shard.0),
                ),
                Ok(route) => (
                    due || is_spread(&statement, &route, in_block || is_piped || declares),
                    None,
                ),
                // Its keys are looked up there.
                Err(refusal) if refusal.unknown => (true, None),
                Err(_) => return None,
            })
        });
        match found {
            Some((true, _)) => return true,
            Some((false, Some(at))) if shard.is_some_and(|shard| shard != at) => return true,
            Some((false, at)) => shard = shard.or(at),
            None => return explain::find(relay, known, text, bound).is_some(),
        }
        if header.tag == tag::QUERY {
            return false;
        }
    }
    false
}

/// Whether a text of a block that has one shard so far is for another, or for several.
pub(in crate::session) fn runs_elsewhere(turn: &Turn<'_>, text: &[u8]) -> bool {
    is_for(turn, text, None)
}

/// The same of what is to be bound, by the body of a Bind message.
pub(in crate::session) fn runs_elsewhere_bound(turn: &Turn<'_>, body: &[u8]) -> bool {
    if turn.relay.spread.is_none() {
        return false;
    }
    let Ok(bind) = Bind::parse(body) else {
        return false;
    };
    let tail = tail_of(turn.relay, bind.statement);
    tail.is_some_and(|tail| is_for(turn, parts(tail).0, Some((tail, &bind))))
}

/// Whether a text that is to be prepared names a statement by SQL, which is read here.
pub(in crate::session) fn prepares_by_sql(turn: &Turn<'_>, text: &[u8]) -> bool {
    turn.relay.spread.is_some() && is_named(text, turn.relay.lexing) && is_for(turn, text, None)
}

/// The same of a prepared statement that is to be described.
pub(in crate::session) fn describes_by_sql(turn: &Turn<'_>, name: &[u8]) -> bool {
    let tail = tail_of(turn.relay, name);
    tail.is_some_and(|tail| prepares_by_sql(turn, parts(tail).0))
}

fn is_for(turn: &Turn<'_>, text: &[u8], bind: Option<(&[u8], &Bind<'_>)>) -> bool {
    let relay = &*turn.relay;
    let Some(spread) = relay.spread.as_deref() else {
        return false;
    };
    let in_block = turn.server.exchange.status() == backend::TransactionStatus::InTransaction;
    // What a block reads from a replica is not verified, and says so where it is.
    let unverified = relay.reading && verifies(relay);
    if !in_block
        || spread.ended
        || unverified
        || !relay.pins.is_empty()
        || spread.group.is_retired()
    {
        return false;
    }
    let Some(Ok(known)) = spread.group.current().map(Known::agreed) else {
        return false;
    };
    if bind.is_none() && script::parts(relay, text).is_some() || is_named(text, relay.lexing) {
        return true;
    }
    let Ok(Told::Planned(statement)) = read(relay, &known, text) else {
        return false;
    };
    let plan = Some(statement.plan());
    let due = verify::is_due(relay, text, &statement);
    with_params(relay, &known, plan, bind, |params| {
        match statement.route(params) {
            Ok(_) if due => true,
            Ok(Route::One(shard)) if shard.0 != spread.at => true,
            Ok(route) => is_spread(&statement, &route, true),
            // Its keys are looked up there.
            Err(refusal) if refusal.unknown => true,
            Err(_) => explain::find(relay, &known, text, bind).is_some(),
        }
    })
}

impl Dtx {
    /// Runs a simple query.
    pub(super) async fn query(&mut self, relay: &mut Relay, text: &[u8]) -> Result<(), Fault> {
        self.check(relay).await?;
        if let Some(parts) = script::parts(relay, text) {
            return self.script(relay, text, &parts).await;
        }
        let done = match word::first(text, relay.lexing) {
            Word::Nothing => Done::Empty,
            Word::OfSession | Word::Other => self.one(relay, text).await?,
        };
        if self.kind == Kind::Implicit && !self.legs.is_empty() && !self.finish(relay, true).await?
        {
            return Err(uncommitted().into());
        }
        tell(relay, &done);
        Ok(())
    }

    /// Runs what reads or writes rows, and gives the client those that it answers with.
    pub(super) async fn rows(
        &mut self,
        relay: &mut Relay,
        text: &[u8],
        bound: Option<&Bound<'_>>,
        shows: bool,
    ) -> Result<Done, Fault> {
        if self.failed {
            return Err(failed().into());
        }
        let word = word::word(text, relay.lexing).unwrap_or_default();
        let by_itself = self.kind == Kind::Implicit && !self.scripted;
        if by_itself && word.eq_ignore_ascii_case(b"lock") {
            return Err(outside("LOCK TABLE").into());
        }
        let given = bound.map(|bound| (bound.tail, &bound.bind));
        let known = self.known_for(relay, text, given).await?;
        let told = read(relay, &known, text)?;
        let judgement = admit(relay, text, &told)?;
        let Told::Planned(statement) = told else {
            return Err(other().into());
        };
        if let Plan::CopyIn(_) = statement.plan() {
            relay.pool.stats.queries(1);
            count(relay, Tier::Written);
            self.acknowledge(relay);
            return self.copy_in(relay, text, &statement, &known).await;
        }
        let bind = bound.map(|bound| &bound.bind);
        if word.eq_ignore_ascii_case(b"explain")
            && let Some(explain) = explain::find(relay, &known, text, given)
        {
            relay.pool.stats.queries(1);
            self.acknowledge(relay);
            return self.explain(relay, explain?, shows).await;
        }
        let form = match bound {
            None => Form::Simple(text.to_vec()),
            Some(bound) => Form::Bound {
                tail: bound.tail.to_vec(),
                values: bound.values.to_vec(),
            },
        };
        let planned = Planned::of(relay, &known, given);
        let copied = Copied::of(relay, &statement, text);
        let what = match (&copied, held(relay, text)) {
            (Some(copied), _) => Use::Copied(copied),
            (None, Some(query)) => Use::Held(query),
            (None, None) => Use::Given,
        };
        let plan = Some(statement.plan());
        let checked = verify::is_due(relay, text, &statement)
            .then(|| reads::checked(relay, &known, text, given, &statement, self.home));
        if let Some(Err(why)) = &checked {
            verify::unverified(relay, why);
        }
        if let Some(Ok((request, check))) = checked {
            relay.pool.stats.queries(1);
            count(relay, request.tier());
            if by_itself && self.legs.is_empty() && bound.is_none() {
                // Both answers are then of one moment; nothing comes behind it.
                self.opening = b"BEGIN ISOLATION LEVEL REPEATABLE READ"[..].into();
                self.still = true;
            }
            return self
                .read(relay, request, given, false, shows, Some(check))
                .await;
        }
        let found = with_params(relay, &known, plan, given, |params| {
            let route = statement
                .route(params)
                .map_err(|refusal| worded(&refusal))?;
            if matches!(what, Use::Given)
                && let Some(found) = deals::found(relay, &known, given, &route, self.home)?
            {
                return Ok(found);
            }
            match reads::request(relay, &known, text, given, &route, what)? {
                Some(request) => Ok((Way::Read(Box::new(request)), None)),
                None => Way::of(route),
            }
        });
        let (way, moment) = found?;
        let moment = match (&way, self.home, what) {
            // Another shard than the first has begun later.
            (Way::One(shard), Some(home), Use::Given) if *shard != home => statement
                .timed()
                .map(|(text, number)| (text.to_owned(), number)),
            _ => moment,
        };
        // A COPY has no parameters; where its rows are not merged, its time is that of one shard.
        let moment = moment.filter(|_| copied.is_none());
        relay.pool.stats.queries(1);
        count(relay, way.tier());
        let reads = match what {
            Use::Given => judgement.steady,
            Use::Copied(_) => judgement.only_reads,
            Use::Held(query) => relay.judge(query).steady,
        };
        let writes = !reads || locks_rows(text, relay.lexing);
        let mut now = None;
        let form = match moment {
            None => form,
            Some((text, number)) => {
                let shards = self.shards_of(&way);
                self.open(relay, &shards).await?;
                let time = self.now(relay, shards.first().copied()).await?;
                let form = with_moment(&form, &text, number, &time, bind);
                now = Some((number, time));
                form
            }
        };
        let most = bound.map_or(0, |bound| bound.max_rows);
        if most > 0 && !matches!(way, Way::Any | Way::One(_)) {
            let text = "rows of several shards in pieces are not supported";
            return Err(unsupported(text).hint("Fetch all of them at once.").into());
        }
        let alone = match way {
            Way::Any => Some(self.anywhere(relay)),
            Way::One(shard) => Some(shard),
            _ => None,
        };
        if let (Use::Held(_), Some(shard)) = (what, alone) {
            self.names(relay, text, shard).await?;
        }
        if let Some(shard) = alone.filter(|_| word::explains(text, relay.lexing)) {
            remark(relay, &statement, shard);
        }
        self.altered |= judgement.alters;
        let sink = Passed {
            shows,
            rows: Concat::framed(Copied::framing(statement.copied())),
        };
        match way {
            Way::Any => {
                let home = self.anywhere(relay);
                self.on_each(relay, &[home], vec![form], writes, sink, Some(&planned))
                    .await
            }
            Way::One(shard) => {
                if statement.locks_replicated() {
                    self.alone(relay, &[shard]).await?;
                }
                self.on_each(relay, &[shard], vec![form], writes, sink, Some(&planned))
                    .await
            }
            Way::Concat(shards) => {
                if writes && statement.writes_by_replicated() {
                    self.unmoved(relay, &shards).await?;
                }
                let forms = vec![form; shards.len()];
                self.on_each(relay, &shards, forms, writes, sink, Some(&planned))
                    .await
            }
            // Definitions lock their tables by themselves, and read none.
            Way::All => {
                let counts = [&b"analyze"[..], b"analyse"];
                let counts = counts.iter().any(|it| word.eq_ignore_ascii_case(it));
                let alone = !judgement.alters && !counts;
                self.on_all(relay, form, shows, alone, &planned).await
            }
            Way::Pieces(pieces) => {
                if statement.writes_by_replicated() {
                    let shards: Vec<u16> = pieces.iter().map(|piece| piece.shard.0).collect();
                    self.unmoved(relay, &shards).await?;
                }
                self.in_pieces(relay, &pieces, bound, now, shows, &planned)
                    .await
            }
            Way::Deal(dealing) => {
                self.deals(relay, *dealing, &statement, now, shows, &planned)
                    .await
            }
            Way::Move(moving) => {
                self.moves(relay, &moving, given, now, shows, &planned)
                    .await
            }
            Way::Read(request) if matches!(what, Use::Held(_)) => {
                self.declare(relay, text, *request, writes).await
            }
            Way::Read(request) => self.read(relay, *request, given, writes, shows, None).await,
        }
    }

    /// Runs what asks the session something, where that is known.
    pub(super) async fn ask(&mut self, relay: &mut Relay, text: &[u8]) -> Result<Done, Fault> {
        let shards = self.asked(relay, text)?;
        let forms = vec![Form::Simple(text.to_vec()); shards.len()];
        self.open(relay, &shards).await?;
        let sink = Passed::showing(true);
        self.on_each(relay, &shards, forms, false, sink, None).await
    }

    /// The one shard of a statement whose rows are wanted in pieces, with a block there; or what was brought to one.
    pub(super) async fn source(
        &mut self,
        relay: &mut Relay,
        tail: &[u8],
        bind: &Bind<'_>,
    ) -> Result<Source, Fault> {
        let text = parts(tail).0;
        let known = self.known_for(relay, text, Some((tail, bind))).await?;
        let mut locks = false;
        let planned = Planned::of(relay, &known, Some((tail, bind)));
        let told = read(relay, &known, text)?;
        let judgement = admit(relay, text, &told)?;
        let place = match told {
            Told::Anywhere => {
                let asked = self.asked(relay, text)?;
                asked.first().map_or(Place::Any, |shard| Place::On(*shard))
            }
            Told::Planned(statement) => {
                if verify::is_due(relay, text, &statement) {
                    verify::unverified(relay, "its rows are given in pieces");
                }
                locks = statement.locks_replicated();
                let plan = Some(statement.plan());
                let given = Some((tail, bind));
                let found = with_params(relay, &known, plan, given, |params| {
                    match statement.route(params) {
                        Ok(Route::One(shard)) => Ok(Some(Place::On(shard.0))),
                        Ok(Route::Any) => Ok(Some(Place::Any)),
                        Ok(_) => Ok(None),
                        Err(refusal) => Err(worded(&refusal)),
                    }
                });
                match found? {
                    Some(place) => place,
                    None => {
                        let request = some_of(relay, &known, text, (tail, bind))?;
                        count(relay, request.tier());
                        let (home, _) = self.around(relay, &request);
                        self.open(relay, &[home]).await?;
                        self.holds(relay, &[home], &planned).await?;
                        let gathered = self.gathered(relay, request, !judgement.steady).await?;
                        return Ok(Source::Brought(Box::new(gathered)));
                    }
                }
            }
        };
        let shard = match place {
            Place::On(shard) => shard,
            Place::Any => self.anywhere(relay),
        };
        count(relay, Tier::OneShard);
        self.open(relay, &[shard]).await?;
        if locks {
            self.alone(relay, &[shard]).await?;
        }
        if !judgement.steady || locks_rows(text, relay.lexing) {
            self.writes(relay, &[shard]).await?;
        }
        self.holds(relay, &[shard], &planned).await?;
        Ok(Source::There(shard))
    }

    /// As [`Self::known`], behind a look for the keys that a statement names and that are not known, or that it may come
    /// upon.
    async fn known_for(
        &self,
        relay: &mut Relay,
        text: &[u8],
        given: Option<(&[u8], &Bind<'_>)>,
    ) -> Result<Arc<Known>, Fault> {
        let known = self.known(relay).await?;
        if !self.group.looks_up() {
            return Ok(known);
        }
        let Ok(Told::Planned(statement)) = read(relay, &known, text) else {
            return Ok(known);
        };
        let plan = Some(statement.plan());
        let wanted = |params: &Params<'_>| statement.wanted(params);
        let Some(keys) = with_params(relay, &known, plan, given, wanted) else {
            return Ok(known);
        };
        let group = Arc::clone(&self.group);
        wait::looked_up(relay, &group, keys).await?;
        relay.control.stand(Standing::Active);
        self.known(relay).await
    }

    pub(super) async fn known(&self, relay: &mut Relay) -> Result<Arc<Known>, Fault> {
        if self.group.is_retired() {
            return Err(resharded().into());
        }
        if self.altered {
            let text = "what comes behind a changed definition in its transaction is not supported over several shards";
            return Err(unsupported(text).hint("Commit it first.").into());
        }
        let group = Arc::clone(&self.group);
        let known = wait::known(relay, &group, clock::now()).await?;
        relay.control.stand(Standing::Active);
        Ok(known)
    }

    /// Looks whether what was planned still holds now that its shards are there: they may have been waited for.
    pub(super) async fn holds(
        &mut self,
        relay: &mut Relay,
        shards: &[u16],
        planned: &Planned,
    ) -> Result<(), Fault> {
        if let Some(Parsed { name, tail }) = &planned.prepared {
            let (text, types) = parts(tail);
            let prepared = Prepared {
                name,
                text,
                types: &types,
                schemas: planned.schemas,
            };
            self.is_as_told(relay, shards, &prepared).await?;
        }
        self.still_planned(relay, planned.schemas)
    }

    /// Looks whether the client may decode what a statement gives by what it was told of it. That was told by any of the
    /// shards, as which of the users' own types are numbered.
    async fn is_as_told(
        &mut self,
        relay: &mut Relay,
        shards: &[u16],
        prepared: &Prepared<'_>,
    ) -> Result<(), Fault> {
        let all = self.shards_of(&Way::All);
        let others = all.iter().filter(|shard| !shards.contains(shard));
        for shard in shards.iter().chain(others) {
            self.open(relay, &[*shard]).await?;
            let deadlines = Deadlines::new(relay, self.began);
            let mut legs = self.pick(&[*shard]);
            let told = told::is_as_told(relay, &mut legs, prepared, &deadlines).await;
            let (same, end) = match told {
                Ok(same) => (same, End::Answered),
                Err(end) => (false, end),
            };
            self.ended(relay, legs, end).await?;
            if same {
                return Ok(());
            }
        }
        // Postgres says so in the place of the BindComplete.
        self.owes = false;
        Err(statements::reshaped().into())
    }

    /// Whether what was planned by the schemas of this number still holds.
    pub(super) fn still_planned(&self, relay: &Relay, schemas: u64) -> Result<(), Fault> {
        if is_planned_for(relay, schemas) {
            return Ok(());
        }
        Err(replanned().into())
    }

    fn shards_of(&self, way: &Way) -> Vec<u16> {
        match way {
            Way::Any => self.home.into_iter().collect(),
            Way::One(shard) => vec![*shard],
            Way::Concat(shards) => shards.clone(),
            Way::All => (0..).take(self.group.pools.len()).collect(),
            Way::Pieces(pieces) => pieces.iter().map(|piece| piece.shard.0).collect(),
            Way::Move(moving) => vec![moving.from, moving.to],
            Way::Deal(dealing) => dealing.request.shards.clone(),
            Way::Read(request) => request.shards.clone(),
        }
    }

    /// The moment at which the transaction began, for all shards: that of one of them.
    pub(super) async fn now(
        &mut self,
        relay: &mut Relay,
        shard: Option<u16>,
    ) -> Result<Vec<u8>, Fault> {
        let shard = self.home.or(shard).unwrap_or_default();
        self.open(relay, &[shard]).await?;
        let Some(leg) = self.legs.get_mut(&shard) else {
            return Err(self.lost("it is gone"));
        };
        match leg.run(moment().as_bytes()).await {
            Ok(answer) => match (answer.first(), &answer.error) {
                (Some(now), _) => Ok(now.to_vec()),
                (None, Some(error)) => Err(error.clone().into()),
                (None, None) => Err(unsupported("a shard does not tell its time").into()),
            },
            Err(report) => {
                leg.lost = true;
                Err(self.lost(&report.message))
            }
        }
    }

    /// Runs a form on each of these shards at once, and passes their rows on one behind the other.
    async fn on_each(
        &mut self,
        relay: &mut Relay,
        shards: &[u16],
        forms: Vec<Form>,
        writes: bool,
        mut sink: Passed,
        planned: Option<&Planned>,
    ) -> Result<Done, Fault> {
        self.open(relay, shards).await?;
        if writes {
            self.writes(relay, shards).await?;
        }
        if let Some(planned) = planned {
            self.holds(relay, shards, planned).await?;
        }
        let done = self.send(relay, shards, &forms, &mut sink).await?;
        sink.rows.end_copy(relay);
        Ok(added(done))
    }

    /// Waits until nobody else is about to write there what is to be the same on every shard.
    pub(super) async fn alone(&mut self, relay: &mut Relay, shards: &[u16]) -> Result<(), Fault> {
        self.open(relay, shards).await?;
        let forms = vec![Form::Simple(alone()); shards.len()];
        let mut unseen = Kept::default();
        self.send(relay, shards, &forms, &mut unseen).await?;
        Ok(())
    }

    /// Sees to it that what is the same on every shard is so for a statement that reads it on several, each of which has a
    /// snapshot of its own: nobody is about to write it. The first shard comes first, as for those who do.
    pub(super) async fn unmoved(&mut self, relay: &mut Relay, shards: &[u16]) -> Result<(), Fault> {
        let others: Vec<u16> = shards.iter().copied().filter(|shard| *shard != 0).collect();
        if !others.is_empty() {
            self.alone(relay, &[0]).await?;
            self.alone(relay, &others).await?;
        }
        Ok(())
    }

    /// Does the same on every shard, `alone` where it depends on rows. The first goes first: whoever else does so waits
    /// there, and on the others only for what is committed on the first already.
    async fn on_all(
        &mut self,
        relay: &mut Relay,
        form: Form,
        shows: bool,
        alone: bool,
        planned: &Planned,
    ) -> Result<Done, Fault> {
        let all = self.shards_of(&Way::All);
        self.open(relay, &all).await?;
        self.writes(relay, &all).await?;
        let mut sink = Passed::showing(shows);
        let (first, others) = all.split_at(1.min(all.len()));
        if alone {
            self.alone(relay, first).await?;
        }
        self.holds(relay, first, planned).await?;
        let done = self
            .send(relay, first, std::slice::from_ref(&form), &mut sink)
            .await?;
        if alone {
            self.alone(relay, others).await?;
            self.still_planned(relay, planned.schemas)?;
        }
        let forms = vec![form; others.len()];
        let mut unseen = Kept::default();
        let rest = self.send(relay, others, &forms, &mut unseen).await?;
        if rest.iter().any(|other| Some(other) != done.first()) {
            let text = "the shards have not done the same: a table that is to be the same on all of them is not";
            let report = ErrorReport::error(sqlstate::FEATURE_NOT_SUPPORTED, text);
            return Err(report.hint("Make its rows the same.").into());
        }
        Ok(added(done.into_iter().take(1).collect()))
    }

    /// Stores rows, each on its shard.
    async fn in_pieces(
        &mut self,
        relay: &mut Relay,
        pieces: &[Piece],
        bound: Option<&Bound<'_>>,
        now: Option<(u32, Vec<u8>)>,
        shows: bool,
        planned: &Planned,
    ) -> Result<Done, Fault> {
        let shards: Vec<u16> = pieces.iter().map(|piece| piece.shard.0).collect();
        self.open(relay, &shards).await?;
        self.writes(relay, &shards).await?;
        self.holds(relay, &shards, planned).await?;
        let now = now
            .as_ref()
            .map(|(number, time)| (*number, time.as_slice()));
        let forms = pieces.iter().map(|piece| piece_of(piece, bound, now));
        let forms: Vec<Form> = forms.collect();
        let different: BTreeSet<u16> = shards.iter().copied().collect();
        if different.len() < shards.len() {
            return self.one_by_one(relay, &shards, forms, shows).await;
        }
        let mut sink = Kept {
            shows,
            ..Kept::default()
        };
        let done = self.send(relay, &shards, &forms, &mut sink).await?;
        let places: Vec<Vec<usize>> = pieces.iter().map(|piece| piece.rows.clone()).collect();
        for row in sink.in_order(&places) {
            relay.down.insert(&row);
        }
        Ok(added(done))
    }

    /// Sends each form to its shard, once those before it are answered.
    async fn one_by_one(
        &mut self,
        relay: &mut Relay,
        shards: &[u16],
        forms: Vec<Form>,
        shows: bool,
    ) -> Result<Done, Fault> {
        let mut done = Vec::with_capacity(forms.len());
        let mut first: Option<(u16, Option<Box<[u8]>>)> = None;
        let mut bytes = 0;
        for (shard, form) in shards.iter().zip(&forms) {
            let behind = first.clone().map(|(first, columns)| Behind {
                first,
                columns,
                shard: *shard,
            });
            let mut sink = Kept {
                shows,
                behind,
                bytes,
                ..Kept::default()
            };
            let form = std::slice::from_ref(form);
            done.extend(self.send(relay, &[*shard], form, &mut sink).await?);
            bytes = sink.bytes;
            for row in sink.rows.into_iter().flatten() {
                relay.down.insert(&row);
            }
            let leg = self.legs.get(shard);
            first.get_or_insert_with(|| (*shard, leg.and_then(|leg| leg.columns.clone())));
        }
        Ok(added(done))
    }

    /// Sends a form to each of these shards, and has the sink take the answers; answers what each has completed with.
    pub(super) async fn send(
        &mut self,
        relay: &mut Relay,
        shards: &[u16],
        forms: &[Form],
        sink: &mut dyn Sink,
    ) -> Result<Vec<Option<Box<[u8]>>>, Fault> {
        let mut legs = self.pick(shards);
        for (leg, form) in legs.iter_mut().zip(forms) {
            put(relay, leg, form);
            if let Form::Bound { .. } = form {
                leg.acks = std::mem::take(&mut self.owes);
            }
        }
        let deadlines = Deadlines::new(relay, self.began);
        let end = gather(relay, &mut legs, sink, &deadlines).await;
        let done = legs.iter_mut().map(|leg| leg.done.take()).collect();
        self.ended(relay, legs, end).await?;
        Ok(done)
    }

    /// Takes connections back on which something has ended, in this way.
    pub(super) async fn ended(
        &mut self,
        relay: &mut Relay,
        mut legs: Vec<Leg>,
        end: End,
    ) -> Result<(), Fault> {
        let alone = legs.len() == 1;
        // Nobody has taken what was bound if that is to be told still.
        let owed = legs.iter_mut().any(|leg| std::mem::take(&mut leg.acks));
        self.owes = (self.owes || owed) && !is_unbound(&legs, &end);
        let mut gives_way = false;
        let fault = match end {
            End::Answered => {
                legs.iter_mut().for_each(|leg| leg.passes = false);
                self.put_back(legs);
                return Ok(());
            }
            End::Gone => {
                let cut = legs
                    .iter_mut()
                    .fold(false, |cut, leg| hand_over(relay, leg) | cut);
                self.put_back(legs);
                return Err(match cut {
                    true => Fault::Over(Bye::Gone),
                    false => gone(relay),
                });
            }
            End::Failed(message) => Fault::Said(message),
            End::Stopped(report) => {
                gives_way = report.code == sqlstate::DEADLOCK_DETECTED;
                Fault::Refused(report)
            }
            End::Lost(report) => self.lost(report.detail.as_deref().unwrap_or(&report.message)),
        };
        let mut cut = false;
        for leg in &mut legs {
            cut |= hand_over(relay, leg);
        }
        let cancels = !(alone && matches!(fault, Fault::Said(_)));
        if !cut && !matches!(fault, Fault::Lost(_)) {
            quiet(&mut legs, cancels).await;
        }
        let broken = legs.iter().any(|leg| leg.lost);
        self.put_back(legs);
        if gives_way && !broken {
            self.give_way().await?;
        }
        match (cut, broken, &fault) {
            // Half a row was sent on already: the client's framing cannot be mended.
            (true, ..) => Err(Fault::Over(Bye::Gone)),
            (false, true, Fault::Said(_) | Fault::Refused(_)) => {
                Err(self.lost("it did not end what was under way"))
            }
            _ => Err(fault),
        }
    }
}

impl Dtx {
    /// Gives back what is locked on all servers, as one does whose wait is ended for a deadlock: not only on that where it
    /// waited, and not only once the client has ended the block.
    async fn give_way(&mut self) -> Result<(), Fault> {
        let mut broken = None;
        for leg in self
            .legs
            .values_mut()
            .filter(|leg| !leg.lost && leg.is_sound())
        {
            if let Err(report) = leg.run(deadlocks::FAIL).await {
                leg.lost = true;
                broken = Some(report);
            }
        }
        broken.map_or(Ok(()), |report| Err(self.lost(&report.message)))
    }
}

/// Refuses what never runs here, and takes note of what may notify others, before any of it is sent.
fn admit(relay: &mut Relay, text: &[u8], told: &Told) -> Result<Judgement, ErrorReport> {
    if let Some(report) = unfit(relay, text, told) {
        return Err(report);
    }
    let judgement = relay.judge(text);
    if let Some(report) = replicas::objection(relay, text, &judgement) {
        return Err(report);
    }
    let lexing = relay.lexing;
    if let Some(spread) = relay.spread.as_deref_mut() {
        note_notice(spread, text, &judgement, lexing);
    }
    if judgement.inspects {
        let text = "pg_prepared_statements is not supported in a transaction over several shards";
        return Err(unsupported(text));
    }
    Ok(judgement)
}

/// Why what reads or writes rows never runs here, whatever stands before it.
pub(super) fn unfit(relay: &Relay, text: &[u8], told: &Told) -> Option<ErrorReport> {
    let plan = match told {
        Told::Planned(statement) => statement.plan(),
        Told::Anywhere => return None,
    };
    // It says why itself.
    if let Plan::Refused(_) = plan {
        return None;
    }
    let judgement = relay.judge(text);
    if judgement.listens != Listens::Nothing {
        return Some(listens_alone());
    }
    if judgement.follows {
        let text = "set_config is not supported in a transaction over several shards";
        let hint = "Use SET, or call it before the second shard is used.";
        return Some(unsupported(text).hint(hint));
    }
    let shards = relay.spread.as_deref();
    let shards = shards.map_or(0, |spread| spread.group.pools.len());
    if judgement.alters && !may_alter(shards, plan) {
        let text = "definitions of what is on one shard cannot be changed over a sharded database";
        return Some(unsupported(text).hint("Do it on that shard by its own name."));
    }
    None
}

/// Whether a query may lock rows, which its server commits as it does a write.
fn locks_rows(text: &[u8], lexing: LexOptions) -> bool {
    const HOW: [&[u8]; 4] = [b"update", b"share", b"no", b"key"];
    let mut lexer = Lexer::new(text, lexing);
    let mut behind_for = false;
    while let Ok(Some(token)) = lexer.token() {
        if behind_for && HOW.iter().any(|word| token.is_word(word)) {
            return true;
        }
        behind_for = token.is_word(b"for");
    }
    false
}

/// A shard was found to be another than that by which a statement was planned. All are asked before the next one is: what
/// was changed on one was on the others.
pub(super) fn outdated(relay: &Relay) -> ErrorReport {
    let spread = relay.spread.as_deref().into_iter();
    for pool in spread.flat_map(|spread| spread.group.pools.iter()) {
        pool.upstream.load().hidden.0.has_heard();
    }
    replanned()
}

fn replanned() -> ErrorReport {
    let text = "the schema of the shards has changed under this statement";
    ErrorReport::error(sqlstate::SERIALIZATION_FAILURE, text).hint("Try it again.")
}

/// What is said of LISTEN where there are other shards.
pub(super) fn listens_alone() -> ErrorReport {
    let text = "LISTEN and UNLISTEN are not supported in a transaction over several shards, nor in a text with others";
    unsupported(text).hint("Send it by itself.")
}

/// Brings connections to where nothing is owed.
async fn quiet(legs: &mut [Leg], cancels: bool) {
    for leg in legs
        .iter_mut()
        .filter(|leg| !leg.lost && leg.lease.exchange.owes())
    {
        if !leg.sent {
            // Whatever comes next would be taken for the rest of what was sent in part.
            leg.lost = true;
            continue;
        }
        let about = Arc::clone(&leg.lease.about);
        if cancels {
            upstream::cancel(Cancels::begin(&about)).await;
        }
        leg.lease
            .flow
            .hand_over(&mut pgherd_session::Flow::default());
        let answer = leg.run(b"").await;
        leg.lost |= answer.is_err() || leg.lease.exchange.owes();
        // A cancel that has got lost may arrive at any time.
        leg.lost |= !about.cancels.settled().await;
    }
}

fn put(relay: &Relay, leg: &mut Leg, form: &Form) {
    match form {
        Form::Simple(text) => put_simple(relay, leg, text),
        Form::Bound { tail, values } => put_bound(relay, leg, b"", Some((tail, values)), 0),
    }
    leg.begin();
}

/// Sends a text as a simple query.
pub(super) fn put_simple(relay: &Relay, leg: &mut Leg, text: &[u8]) {
    let built = frontend::query(leg.out.made(), text);
    debug_assert!(built.is_ok(), "it came in a message");
    leg.lease.exchange.sent(Owed::Query);
    sent(relay, leg, text);
    leg.begin();
}

/// Sends what was prepared and bound, unless the portal is there already, and has it described and executed.
pub(super) fn put_bound(
    relay: &Relay,
    leg: &mut Leg,
    portal: &[u8],
    bound: Option<(&[u8], &[u8])>,
    most: i32,
) {
    let out = leg.out.made();
    let mut built = Ok(());
    if let Some((tail, values)) = bound {
        built = frame::build(out, tag::PARSE, |out| {
            out.put_u8(0);
            out.extend_from_slice(tail);
        })
        .and_then(|()| {
            frame::build(out, tag::BIND, |out| {
                out.extend_from_slice(portal);
                out.extend_from_slice(&[0, 0]);
                out.extend_from_slice(values);
            })
        });
        leg.lease.exchange.sent(Owed::Parse {
            hidden: true,
            undo: Undo::Nothing,
        });
        leg.lease.exchange.sent(Owed::Bind { of: None });
    }
    let out = leg.out.made();
    // Rows that nobody has described are none of a server's: what comes of it is looked at.
    built = built
        .and_then(|()| frontend::describe(out, Target::Portal, portal))
        .and_then(|()| frontend::execute(out, portal, most));
    debug_assert!(built.is_ok(), "it came in a message");
    leg.lease.exchange.sent(Owed::DescribePortal { of: None });
    leg.lease.exchange.sent(Owed::Execute);
    frontend::sync(leg.out.made());
    leg.lease.exchange.sent(Owed::OurSync);
    if let Some((tail, _)) = bound {
        sent(relay, leg, parts(tail).0);
    }
    leg.begin();
}

/// The form of a piece, in which the parameter of one number is the moment.
fn piece_of(piece: &Piece, bound: Option<&Bound<'_>>, now: Option<(u32, &[u8])>) -> Form {
    let text = piece.text.as_bytes();
    match (bound, now) {
        (Some(bound), _) => {
            let is_now = |number: u32| now.is_some_and(|(moment, _)| moment == number);
            let params = piece.params.iter();
            let numbers = params.map(|number| (!is_now(*number)).then_some(*number));
            let time = now.map(|(_, time)| time);
            rebound(text, numbers, time, bound.tail, &bound.bind)
        }
        (None, Some((_, time))) if !piece.params.is_empty() => at_moment(text, time),
        (None, _) => Form::Simple(text.to_vec()),
    }
}

/// A statement in which the moment is a parameter.
fn with_moment(form: &Form, text: &str, number: u32, now: &[u8], bind: Option<&Bind<'_>>) -> Form {
    match (form, bind) {
        (Form::Bound { tail, .. }, Some(bind)) => {
            let numbers = (1..=number).map(|it| (it < number).then_some(it));
            rebound(text.as_bytes(), numbers, Some(now), tail, bind)
        }
        _ => at_moment(text.as_bytes(), now),
    }
}

/// A statement that has no other parameter than the moment.
fn at_moment(text: &[u8], now: &[u8]) -> Form {
    let mut tail = text.to_vec();
    tail.extend_from_slice(&[0, 0, 0]);
    let mut values = BytesMut::new();
    values.put_u16(0);
    values.put_u16(1);
    frame::put_value(&mut values, Some(now));
    values.put_u16(0);
    Form::Bound {
        tail,
        values: values.to_vec(),
    }
}

/// What was bound, to another text: `numbers` are the parameters that it has, from 1, or none for `extra`.
pub(super) fn rebound(
    text: &[u8],
    numbers: impl Iterator<Item = Option<u32>>,
    extra: Option<&[u8]>,
    tail: &[u8],
    bind: &Bind<'_>,
) -> Form {
    let types = parts(tail).1;
    let given: Vec<Option<&[u8]>> = bind.parameters().collect();
    let codes: Vec<u16> = bind
        .formats
        .chunks_exact(2)
        .map(|code| u16::from_be_bytes([code[0], code[1]]))
        .collect();
    let code = |at: usize| match codes[..] {
        [] => 0,
        [all] => all,
        _ => codes.get(at).copied().unwrap_or_default(),
    };
    let places: Vec<Option<usize>> = numbers
        .map(|number| number.and_then(|number| usize::try_from(number).ok()?.checked_sub(1)))
        .collect();
    let count = u16::try_from(places.len()).unwrap_or(u16::MAX);
    let mut prepared = BytesMut::from(text);
    prepared.put_u8(0);
    prepared.put_u16(count);
    let mut values = BytesMut::new();
    values.put_u16(count);
    for place in &places {
        let oid = place.and_then(|at| types.get(at).copied());
        prepared.put_u32(oid.unwrap_or_default());
        values.put_u16(place.map_or(0, code));
    }
    values.put_u16(count);
    for place in &places {
        let value = match place {
            Some(at) => given.get(*at).copied().flatten(),
            None => extra,
        };
        frame::put_value(&mut values, value);
    }
    values.put_u16(u16::try_from(bind.results.len() / 2).unwrap_or_default());
    values.extend_from_slice(bind.results);
    Form::Bound {
        tail: prepared.to_vec(),
        values: values.to_vec(),
    }
}

/// One tag of those of several servers: what they count is added up.
pub(super) fn added(done: Vec<Option<Box<[u8]>>>) -> Done {
    let mut tags = done.into_iter();
    let Some(Some(first)) = tags.next() else {
        return Done::Empty;
    };
    let split = |tag: &[u8]| -> Option<(Vec<u8>, u64)> {
        let at = tag.iter().rposition(|byte| *byte == b' ')? + 1;
        let count = std::str::from_utf8(&tag[at..]).ok()?.parse().ok()?;
        Some((tag[..at].to_vec(), count))
    };
    let Some((mut tag, mut count)) = split(&first) else {
        return Done::Complete(first);
    };
    for other in tags.flatten() {
        count += split(&other).map_or(0, |(_, count)| count);
    }
    tag.extend_from_slice(count.to_string().as_bytes());
    Done::Complete(tag.into())
}

/// Tells the client how a statement has ended.
pub(super) fn tell(relay: &mut Relay, done: &Done) {
    let out = relay.down.made();
    match done {
        Done::Complete(tag) => {
            let built = backend::command_complete(out, tag);
            debug_assert!(built.is_ok(), "a server has sent as much");
        }
        Done::Empty => backend::empty_query(out),
        Done::Suspended => out.extend_from_slice(&[b's', 0, 0, 0, 4]),
    }
}

#[cfg(test)]
mod tests {
    use super::{Done, added};

    #[test]
    fn what_servers_count_is_added_up() {
        let tags = |tags: &[&str]| {
            let tags = tags.iter().map(|tag| Some(tag.as_bytes().into()));
            match added(tags.collect()) {
                Done::Complete(tag) => String::from_utf8(tag.into()).unwrap(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(tags(&["UPDATE 3", "UPDATE 0", "UPDATE 14"]), "UPDATE 17");
        assert_eq!(tags(&["INSERT 0 2", "INSERT 0 1"]), "INSERT 0 3");
        assert_eq!(tags(&["CREATE TABLE"]), "CREATE TABLE");
    }
}
