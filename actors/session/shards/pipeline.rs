//! Statements of the extended protocol whose rows are on several shards, up to their Sync.
//!
//! The client's messages are answered one after the other. What it prepares is kept by its names as ever, and
//! described by one server as it stands; what it binds is planned with its parameters, and sent to the shards
//! when it is described or executed. A portal that is not read to its end keeps its connections until the Sync.

mod found;
pub(super) mod told;

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use pgherd_net::poll_read_into;
use pgherd_session::{Flow, Unnamed};
use pgherd_wire::backend::{self, TransactionStatus};
use pgherd_wire::error::ErrorReport;
use pgherd_wire::frontend::{Bind, Close, Describe, Execute, Parse, Target, tag};
use pgherd_wire::{frame, sqlstate};

use super::gather::{Deadlines, End, gather, is_unbound, poll_to_client};
use super::legs::{Leg, Readable, check_in, take_all};
use super::merged::{Merged, Until};
use super::plan::{prepared, routed, tail_now, tail_of, unsupported};
use super::request::{self, Request};
use super::scatter::{complete, fail, finish, is_passing, is_planned_for, part, take_anew};
use super::start::{Through, describe, start};
use super::{enter, objection};
use crate::clock;
use crate::control::{Order, Standing};
use crate::session::relay::Relay;
use crate::session::{Bye, statements};
use crate::shards::Known;
use told::{Prepared, check, learn};

pub(super) use found::find;
pub(in crate::session) use found::{Bound, begins};

/// Messages up to a Sync or Flush all of whose statements read several shards.
#[derive(Debug)]
pub(in crate::session) struct Pipeline {
    /// All shards that they read.
    pub(super) shards: Vec<u16>,
    /// Those of them that make answers of tables of their own.
    pub(super) homes: Vec<u16>,
    /// The number of the schemas that they were planned by.
    pub(super) schemas: u64,
}

/// What the client has bound.
struct Portal {
    name: Box<[u8]>,
    statement: Box<[u8]>,
    request: Request,
    /// Its rows, once it has begun.
    running: Option<Running>,
    /// All rows have been given.
    over: bool,
    /// The description of its columns, once all have.
    columns: Option<Box<[u8]>>,
}

struct Running {
    legs: Vec<Leg>,
    /// How many of the legs give the rows.
    count: usize,
    merged: Merged,
}

/// How a portal has failed.
struct Failed {
    end: End,
    /// A server has taken its statement.
    parsed: bool,
    /// Something of its answer went to the client, or may have.
    told: bool,
}

impl Failed {
    /// Before any server was asked for it.
    fn unasked(end: End) -> Self {
        Self {
            end,
            parsed: true,
            told: false,
        }
    }
}

/// What has come of a message.
enum Step {
    More,
    Synced,
}

/// How the client's messages end.
enum Last {
    /// By their Sync.
    Sync,
    /// By one that is none of a pipeline, and still in front.
    Other,
}

struct Line {
    /// When its connections were there.
    began: Instant,
    /// The connections that no portal has.
    legs: Vec<Leg>,
    portals: Vec<Portal>,
    /// Statements that were prepared here and that no server has seen yet.
    fresh: Vec<Box<[u8]>>,
    /// The portal that was bound last, whose BindComplete waits for what a server says of its parameters.
    unbound: Option<Box<[u8]>>,
    /// The client is owed a BindComplete before whatever comes next.
    owes: bool,
    /// The text that was sent last was not the client's.
    is_rewritten: bool,
    /// The message that was taken last is the end of all of them.
    ends: bool,
    /// The time of all statements, once one has asked for it.
    moment: Option<Vec<u8>>,
    /// Which shards may be read on their replicas.
    readable: Readable,
    /// Other connections were taken in place of those that failed.
    renewed: bool,
}

/// Answers the messages in front; answers how the session ends, if it does.
pub(in crate::session) async fn run(
    relay: &mut Relay,
    pipeline: Pipeline,
    asked: Instant,
) -> Option<Bye> {
    let readable = Readable::of(relay, &pipeline.shards, &pipeline.homes);
    let legs = match take_all(relay, &pipeline.shards, &readable, asked).await {
        Ok(legs) => legs,
        Err(denied) => return relay.denied(denied),
    };
    if !is_planned_for(relay, pipeline.schemas) {
        check_in(relay, legs);
        return None;
    }
    if let Some(first) = pipeline.shards.first() {
        enter(relay, *first);
    }
    let started = clock::now();
    relay.control.stand(Standing::Active);
    let mut line = Line {
        began: started,
        legs,
        portals: Vec::new(),
        fresh: Vec::new(),
        unbound: None,
        owes: false,
        is_rewritten: false,
        ends: false,
        moment: None,
        readable,
        renewed: false,
    };
    let end = line.answer(relay).await;
    let stats = &relay.pool.stats;
    stats.transaction(clock::since(started), Duration::ZERO);
    let (rewritten, ends) = (line.is_rewritten, line.ends);
    let legs = line.into_legs();
    match end {
        Ok(last) => {
            finish(relay, legs).await;
            if let Last::Sync = last {
                backend::ready_for_query(relay.down.made(), TransactionStatus::Idle);
            }
            None
        }
        Err(end) => {
            let bye = fail(relay, legs, end, rewritten);
            if ends && bye.is_none() {
                backend::ready_for_query(relay.down.made(), TransactionStatus::Idle);
            }
            // What remains up to the Sync is discarded, if it is not here.
            relay.refusing = !ends;
            bye
        }
    }
}

impl Line {
    async fn answer(&mut self, relay: &mut Relay) -> Result<Last, End> {
        while let Some((kind, body)) = self.message(relay).await? {
            let step = self.take(relay, kind, &body).await;
            if matches!(step?, Step::Synced) {
                return Ok(Last::Sync);
            }
        }
        Ok(Last::Other)
    }

    /// The client's next message, taken out of what it has sent; none if one is in front that ends the pipeline
    /// without a Sync.
    async fn message(&self, relay: &mut Relay) -> Result<Option<(u8, Box<[u8]>)>, End> {
        loop {
            if relay.up.resume() {
                let header = frame::header(relay.up.unjudged());
                let header = header.map_err(|error| violated(&error.to_string()))?;
                if let Some(header) = header {
                    let leaves = match header.tag {
                        tag::TERMINATE => true,
                        // Its now() would have to be that of the statements before it.
                        tag::QUERY | tag::FUNCTION_CALL => self.moment.is_none(),
                        _ => false,
                    };
                    if leaves {
                        return Ok(None);
                    }
                    let total = header.total();
                    if total > relay.pool.settings().limits.max_held_message.get() {
                        return Err(End::Stopped(Box::new(objection::unread())));
                    }
                    if let Some(message) = relay.up.unjudged().get(..total) {
                        let body: Box<[u8]> = message[frame::HEADER_LEN..].into();
                        relay.up.hide(total);
                        return Ok(Some((header.tag, body)));
                    }
                }
            }
            self.more(relay).await?;
        }
    }

    /// Waits until the client has sent more.
    async fn more(&self, relay: &mut Relay) -> Result<(), End> {
        self.awaited(relay, |relay, cx| {
            ready!(poll_flushed(relay, cx))?;
            match poll_read_into(&mut relay.client, cx, &mut relay.up.buffer, 4096) {
                Poll::Ready(Ok(0) | Err(_)) => Poll::Ready(Err(End::Gone)),
                Poll::Ready(Ok(_)) => Poll::Ready(Ok(())),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    /// Waits for something that the client has to do, for as long as it may hold connections meanwhile.
    async fn awaited(
        &self,
        relay: &mut Relay,
        mut poll: impl FnMut(&mut Relay, &mut Context<'_>) -> Poll<Result<(), End>>,
    ) -> Result<(), End> {
        let whole = Deadlines::new(relay, self.began).whole;
        let idle = relay.pool.settings().timeouts.idle_in_transaction;
        let idle = idle.map(|limit| clock::now() + limit);
        let done = poll_fn(|cx| {
            if relay.control.poll_ordered(cx).is_ready()
                && relay.control.ordered() == Order::Terminate
            {
                return Poll::Ready(Err(End::Gone));
            }
            poll(relay, cx)
        });
        let Some(at) = whole.into_iter().chain(idle).min() else {
            return done.await;
        };
        match tokio::time::timeout_at(at.into(), done).await {
            Ok(done) => done,
            Err(_) => {
                let code = sqlstate::IDLE_IN_TRANSACTION_SESSION_TIMEOUT;
                let text = match relay.down.backlog() > 0 {
                    true => "the answers of the pipeline were not taken in time",
                    false => "the rest of the pipeline did not come in time",
                };
                Err(refused(ErrorReport::error(code, text)))
            }
        }
    }

    async fn take(&mut self, relay: &mut Relay, kind: u8, body: &[u8]) -> Result<Step, End> {
        relay.control.begin_waiting();
        self.ends = matches!(kind, tag::SYNC | tag::QUERY | tag::FUNCTION_CALL);
        // Where what was bound last is run next, it comes to light there how that was taken.
        if self.unbound.as_deref() != request::run_by(kind, body) {
            self.settle(relay).await?;
        }
        match kind {
            tag::PARSE => self.parse(relay, body)?,
            tag::BIND => self.bind(relay, body)?,
            tag::DESCRIBE => self.describe(relay, body).await?,
            tag::EXECUTE => self.execute(relay, body).await?,
            tag::CLOSE => self.close(relay, body)?,
            tag::FLUSH => self.awaited(relay, poll_flushed).await?,
            tag::SYNC => {
                self.prove(relay).await?;
                return Ok(Step::Synced);
            }
            _ => {
                let text = "this message is not supported in a pipeline over several shards";
                return Err(refused(unsupported(text).hint("Send a Sync before.")));
            }
        }
        Ok(Step::More)
    }

    fn parse(&mut self, relay: &mut Relay, body: &[u8]) -> Result<(), End> {
        let parse = Parse::parse(body).map_err(|error| violated(&error.to_string()))?;
        let tail = &body[parse.name.len() + 1..];
        if parse.name.is_empty() {
            relay.statements.get_or_insert_default().unnamed = Unnamed::None;
        }
        let known = known(relay)?;
        prepared(relay, &known, tail).map_err(refused)?;
        statements::remember(relay, &parse, tail).map_err(refused)?;
        self.fresh.push(parse.name.into());
        relay.down.insert(&backend::PARSE_COMPLETE);
        Ok(())
    }

    fn bind(&mut self, relay: &Relay, body: &[u8]) -> Result<(), End> {
        let bind = Bind::parse(body).map_err(|error| violated(&error.to_string()))?;
        let Some(tail) = tail_now(relay, bind.statement).map_err(refused)? else {
            return Err(refused(objection::missing(bind.statement)));
        };
        let known = known(relay)?;
        let Some(request) = routed(relay, &known, tail, &bind).map_err(refused)? else {
            let text =
                "a statement in a pipeline with others reads several shards, and another does not";
            return Err(refused(unsupported(text).hint("Send a Sync between.")));
        };
        match self.portals.iter().position(|it| *it.name == *bind.portal) {
            Some(_) if !bind.portal.is_empty() => {
                let name = String::from_utf8_lossy(bind.portal);
                let text = format!("cursor \"{name}\" already exists");
                let report = ErrorReport::error(sqlstate::DUPLICATE_CURSOR, text);
                return Err(refused(report));
            }
            Some(at) => self.drop_portal(at),
            None => {}
        }
        self.portals.push(Portal {
            name: bind.portal.into(),
            statement: bind.statement.into(),
            request,
            running: None,
            over: false,
            columns: None,
        });
        self.unbound = Some(bind.portal.into());
        Ok(())
    }

    /// Has a server look at what was bound last, where it is not run next; if none is free, that is left to its first use.
    async fn settle(&mut self, relay: &mut Relay) -> Result<(), End> {
        let Some(name) = self.unbound.take() else {
            return Ok(());
        };
        let is_free = |leg: &Leg| !leg.lease.exchange.owes();
        let free = self.legs.iter().position(is_free);
        let portal = self.portals.iter().find(|it| it.name == name);
        if let (Some(at), Some(portal)) = (free, portal) {
            let deadlines = Deadlines::new(relay, self.began);
            let leg = &mut self.legs[at];
            let none = request::Bound::default();
            let bound = portal.request.bound.as_ref().unwrap_or(&none);
            request::put_bind(leg, &portal.request.original, bound)
                .map_err(|error| End::Stopped(request::too_long(error)))?;
            self.is_rewritten = false;
            let end = gather(relay, std::slice::from_mut(leg), &mut Through, &deadlines).await;
            let (parsed, statement) = (leg.parsed, portal.statement.clone());
            match end {
                End::Answered => self.fresh.retain(|name| *name != statement),
                end => {
                    if !parsed {
                        self.forget_fresh(relay, &statement);
                    }
                    return Err(end);
                }
            }
        }
        relay.down.insert(&backend::BIND_COMPLETE);
        Ok(())
    }

    /// Forgets a portal; its connections are free, or have rows to give that nobody wants.
    fn drop_portal(&mut self, at: usize) {
        let portal = self.portals.remove(at);
        self.legs
            .extend(portal.running.into_iter().flat_map(|it| it.legs));
    }

    async fn describe(&mut self, relay: &mut Relay, body: &[u8]) -> Result<(), End> {
        let asked = Describe::parse(body).map_err(|error| violated(&error.to_string()))?;
        if asked.kind == Target::Portal {
            let at = self.portal(asked.name)?;
            self.advance(relay, at, Until::Columns).await?;
            let portal = &self.portals[at];
            let merged = portal.running.as_ref().map(|it| &it.merged);
            let columns = merged.map_or(&portal.columns, |merged| &merged.columns);
            let columns = columns.as_deref();
            match columns {
                Some(columns) if !columns.is_empty() => relay.down.insert(columns),
                _ => relay.down.insert(&backend::NO_DATA),
            }
            return Ok(());
        }
        let Some(tail) = tail_of(relay, asked.name) else {
            return Err(refused(objection::missing(asked.name)));
        };
        let (text, types) = super::plan::parts(tail);
        let text: Box<[u8]> = text.into();
        let first = self.legs.iter().map(|leg| leg.shard).min();
        let mut home = self.claim(relay, &Vec::from_iter(first)).await?;
        let deadlines = Deadlines::new(relay, self.began);
        self.is_rewritten = false;
        let told = match home.first_mut() {
            Some(home) => describe(relay, home, &text, &types, &deadlines).await,
            None => Err(busy()),
        };
        if told.is_err() {
            self.forget_fresh(relay, asked.name);
        }
        self.fresh.retain(|name| **name != *asked.name);
        if let (Ok(()), Some(home)) = (&told, home.first()) {
            let (parameters, columns) = (home.parameters.as_deref(), home.columns.as_deref());
            learn(relay, asked.name, parameters, columns);
            relay
                .down
                .insert(home.parameters.as_deref().unwrap_or_default());
            relay
                .down
                .insert(home.columns.as_deref().unwrap_or(&backend::NO_DATA));
        }
        self.legs.extend(home);
        told
    }

    async fn execute(&mut self, relay: &mut Relay, body: &[u8]) -> Result<(), End> {
        let asked = Execute::parse(body).map_err(|error| violated(&error.to_string()))?;
        let at = self.portal(asked.portal)?;
        let until = match u64::try_from(asked.max_rows) {
            Ok(0) | Err(_) => Until::End,
            Ok(most) => Until::Rows(most),
        };
        if self.portals[at].over {
            complete(relay, "SELECT", 0);
            return Ok(());
        }
        self.advance(relay, at, until).await?;
        relay.pool.stats.queries(1);
        let Some(running) = &mut self.portals[at].running else {
            return Ok(());
        };
        if running.merged.suspended {
            relay.down.insert(&backend::PORTAL_SUSPENDED);
            return Ok(());
        }
        let rows = running.merged.rows;
        complete(relay, "SELECT", rows);
        let columns = running.merged.columns.take();
        self.portals[at].columns = columns;
        self.portals[at].over = true;
        let legs = running_legs(&mut self.portals[at]);
        self.legs.extend(legs);
        Ok(())
    }

    /// Has a portal go so far.
    async fn advance(&mut self, relay: &mut Relay, at: usize, until: Until) -> Result<(), End> {
        let name = &self.portals[at].name;
        let owed = self.unbound.take_if(|bound| *bound == *name).is_some();
        self.owes = owed;
        let request = self.portals[at].request.clone();
        let mut done = self.go(relay, at, until).await;
        if let Err(failed) = &done
            && self.may_renew(at, failed)
        {
            let shards: Vec<u16> = self.legs.iter().map(|leg| leg.shard).collect();
            let readable = self.readable.behind(&failed.end);
            part(relay, std::mem::take(&mut self.legs));
            let taken = take_anew(relay, &shards, &readable, request.schemas).await;
            done = match taken {
                Ok(legs) => {
                    self.legs = legs;
                    self.portals[at].request = request;
                    self.owes = owed;
                    self.go(relay, at, until).await
                }
                Err(end) => Err(Failed::unasked(end)),
            };
        }
        if std::mem::take(&mut self.owes) {
            relay.down.insert(&backend::BIND_COMPLETE);
        }
        done.map_err(|failed| {
            // What no server has seen may be right.
            if !failed.parsed && !matches!(failed.end, End::Lost(_)) {
                self.forget_fresh(relay, &self.portals[at].statement);
            }
            self.portals[at].request.told(failed.end)
        })
    }

    /// Whether all that the connections have is what this portal was about to run there, and it may be run once more.
    fn may_renew(&mut self, at: usize, failed: &Failed) -> bool {
        let legs = running_legs(&mut self.portals[at]);
        self.legs.extend(legs);
        self.legs.sort_by_key(|leg| leg.shard);
        let alone = self.portals.iter().all(|it| it.running.is_none());
        let passing = !failed.told && is_passing(&self.legs, &failed.end);
        let may = alone && !self.renewed && passing;
        self.renewed |= may;
        may
    }

    async fn go(&mut self, relay: &mut Relay, at: usize, until: Until) -> Result<(), Failed> {
        let deadlines = Deadlines::new(relay, self.began);
        if self.portals[at].running.is_none() && !self.portals[at].over {
            let shards = self.portals[at].request.shards.clone();
            let claimed = self.claim(relay, &shards).await;
            let mut legs = claimed.map_err(Failed::unasked)?;
            let portal = &mut self.portals[at];
            self.is_rewritten = portal.request.is_rewritten();
            let prepared = Prepared::of(&portal.statement, &portal.request);
            let told = check(relay, &mut legs, &prepared, &deadlines).await;
            let started = match told {
                Ok(()) => {
                    let (request, moment) = (&mut portal.request, &mut self.moment);
                    request.is_made_by(legs.first());
                    start(relay, &mut legs, request, moment, &deadlines).await
                }
                Err(end) => Err(end),
            };
            match started {
                Ok((merged, count)) => {
                    if let Some(first) = legs.first_mut() {
                        first.acks = std::mem::take(&mut self.owes);
                    }
                    let running = Running {
                        legs,
                        count,
                        merged,
                    };
                    portal.running = Some(running);
                    super::count(relay, portal.request.tier());
                }
                Err(end) => {
                    self.owes &= !is_unbound(&legs, &end);
                    let parsed = legs.iter().any(|leg| leg.parsed);
                    self.legs.extend(legs);
                    return Err(Failed {
                        end,
                        parsed,
                        told: false,
                    });
                }
            }
        }
        let Some(running) = &mut self.portals[at].running else {
            return Ok(());
        };
        running.merged.until = until;
        running.merged.rows = 0;
        let (legs, merged) = (&mut running.legs[..running.count], &mut running.merged);
        let end = gather(relay, legs, merged, &deadlines).await;
        // Nobody has taken it yet if it is owed still.
        let owed = legs.iter_mut().any(|leg| std::mem::take(&mut leg.acks));
        self.owes = owed && !is_unbound(legs, &end);
        let told = merged.columns.is_some();
        let parsed = told || legs.iter().any(|leg| leg.parsed);
        match end {
            End::Answered => {
                let statement = self.portals[at].statement.clone();
                self.fresh.retain(|name| *name != statement);
                Ok(())
            }
            end => Err(Failed { end, parsed, told }),
        }
    }

    /// The connections of these shards, with nothing under way on them.
    async fn claim(&mut self, relay: &mut Relay, shards: &[u16]) -> Result<Vec<Leg>, End> {
        let is_wanted = |leg: &Leg| shards.contains(&leg.shard);
        let (mut found, others): (Vec<Leg>, Vec<Leg>) = self.legs.drain(..).partition(is_wanted);
        self.legs = others;
        if found.len() < shards.len() {
            self.legs.extend(found);
            return Err(busy());
        }
        found.sort_by_key(|leg| leg.shard);
        if found.iter().any(|leg| leg.lease.exchange.owes()) {
            // What is behind a LIMIT, of which there is no more than that.
            let deadlines = Deadlines::new(relay, self.began);
            match gather(relay, &mut found, &mut Through, &deadlines).await {
                End::Answered => {}
                end => {
                    self.legs.extend(found);
                    return Err(end);
                }
            }
        }
        Ok(found)
    }

    /// Has a server look at what was prepared and that none has seen yet: where it has an error, it is not there, nor is
    /// what was prepared behind it. That is left to its first use if no server is free.
    async fn prove(&mut self, relay: &mut Relay) -> Result<(), End> {
        while let Some(name) = self.fresh.first().cloned() {
            let is_free = |leg: &Leg| !leg.lease.exchange.owes();
            let free = self.legs.iter().position(is_free);
            let (Some(at), Some(tail)) = (free, tail_of(relay, &name)) else {
                self.fresh.remove(0);
                continue;
            };
            let (text, types) = super::plan::parts(tail);
            let text: Box<[u8]> = text.into();
            let deadlines = Deadlines::new(relay, self.began);
            self.is_rewritten = false;
            let told = describe(relay, &mut self.legs[at], &text, &types, &deadlines).await;
            if told.is_err() {
                for name in &self.fresh {
                    self.forget_fresh(relay, name);
                }
                return told;
            }
            self.fresh.retain(|it| *it != name);
        }
        Ok(())
    }

    /// A statement that no server could prepare is not there.
    fn forget_fresh(&self, relay: &mut Relay, name: &[u8]) {
        let Some(statements) = relay.statements.as_deref_mut() else {
            return;
        };
        if self.fresh.iter().any(|fresh| **fresh == *name) {
            if name.is_empty() {
                statements.unnamed = Unnamed::None;
            } else {
                statements.remove(name);
            }
        }
    }

    fn portal(&self, name: &[u8]) -> Result<usize, End> {
        let found = self.portals.iter().position(|it| *it.name == *name);
        found.ok_or_else(|| {
            let text = format!(
                "portal \"{}\" does not exist",
                String::from_utf8_lossy(name)
            );
            refused(ErrorReport::error(sqlstate::INVALID_CURSOR_NAME, text))
        })
    }

    fn close(&mut self, relay: &mut Relay, body: &[u8]) -> Result<(), End> {
        let close = Close::parse(body).map_err(|error| violated(&error.to_string()))?;
        match close.kind {
            Target::Portal => {
                if let Ok(at) = self.portal(close.name) {
                    self.drop_portal(at);
                }
            }
            Target::Statement => {
                if let Some(statements) = relay.statements.as_deref_mut() {
                    if close.name.is_empty() {
                        statements.unnamed = Unnamed::None;
                    } else {
                        statements.remove(close.name);
                    }
                }
            }
        }
        relay.down.insert(&backend::CLOSE_COMPLETE);
        Ok(())
    }

    fn into_legs(self) -> Vec<Leg> {
        let of_portals = self.portals.into_iter().filter_map(|portal| portal.running);
        let mut legs = self.legs;
        legs.extend(of_portals.flat_map(|running| running.legs));
        legs
    }
}

/// Ready when the client has taken all that waits for it.
fn poll_flushed(relay: &mut Relay, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
    poll_to_client(relay, &mut Flow::default(), cx).map_err(|_| End::Gone)
}

fn running_legs(portal: &mut Portal) -> Vec<Leg> {
    portal.running.take().map(|it| it.legs).unwrap_or_default()
}

/// What is known of the shards, by which something is planned now.
fn known(relay: &Relay) -> Result<Arc<Known>, End> {
    let spread = relay.spread.as_deref();
    let known = spread.and_then(|spread| spread.group.current());
    match known {
        Some(known) => known.agreed().map_err(refused),
        None => {
            let text = "the schema of the shards has changed under this pipeline";
            let report = ErrorReport::error(sqlstate::SERIALIZATION_FAILURE, text);
            Err(refused(report.hint("Try it again.")))
        }
    }
}

fn busy() -> End {
    let text = "another portal over several shards is not read to its end";
    refused(unsupported(text).hint("Read it to its end, or send a Sync."))
}

fn refused(report: ErrorReport) -> End {
    End::Stopped(Box::new(report))
}

fn violated(why: &str) -> End {
    refused(ErrorReport::error(sqlstate::PROTOCOL_VIOLATION, why))
}
