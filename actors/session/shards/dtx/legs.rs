//! How a transaction comes to another shard.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use pgherd_net::poll_write_from;
use pgherd_session::{Again, Verdict, literal};
use pgherd_sql::Step;
use pgherd_wire::backend::{ReadyForQuery, TransactionStatus, tag};
use pgherd_wire::error::ErrorReport;
use pgherd_wire::{frame, sqlstate};

use super::statement::listens_alone;
use super::{Dtx, Fault};
use crate::clock;
use crate::control::Standing;
use crate::session::checkout;
use crate::session::follow;
use crate::session::listen;
use crate::session::relay::Relay;
use crate::session::setup::{self, Answer};
use crate::session::shards::NOTIFIER;
use crate::session::shards::gather::{Deadlines, End, Next, poll_presence, watched};
use crate::session::shards::legs::{Leg, Readable, all_led, take};
use crate::session::shards::plan::unsupported;
use crate::session::shards::scatter::suspect;
use crate::transactions::deadlocks::Badge;
use crate::transactions::decisions;
use crate::unserved::Unserved;

/// How long somebody who holds connections of some shards waits for one of another: those whom they are taken
/// from may be waiting for each other.
const WAIT: Duration = Duration::from_secs(5);
/// How long to wait before another connection is taken in place of one that broke.
const PAUSE: Duration = Duration::from_millis(20);
/// A larger description is none of a server's.
const ANSWER_MAX: usize = 1024 * 1024;

/// What a server says of its block, whether a portal of the client's is open there, which one that comes behind
/// would not find (a cursor stays where it is, unless its name may be one of ours), and whether there are any; and the
/// badge of the transaction there, by which its waits are known. The portals of these names are ours.
fn facts(badge: Badge, ours: &[String]) -> String {
    const FACTS: &str = "SELECT pg_catalog.current_setting('transaction_isolation'), \
        pg_catalog.current_setting('max_prepared_transactions') <> '0', \
        pg_catalog.to_regclass('pgherd.decisions') IS NOT NULL, \
        pg_catalog.current_setting('transaction_read_only'), \
        pg_catalog.pg_current_xact_id_if_assigned() IS NOT NULL, \
        EXISTS (SELECT FROM pg_catalog.pg_cursors \
        WHERE (pg_catalog.starts_with(name, 'pgherd_') OR statement !~* ";
    let ours = literal(&format!("{{{}}}", ours.join(",")));
    let declares = literal(DECLARES);
    let taken = badge.taken();
    let cursors = "EXISTS (SELECT FROM pg_catalog.pg_cursors)";
    format!("{FACTS}{declares}) AND name <> ALL ({ours})), {cursors}, {taken}")
}

/// With what a text begins that declares a cursor, where its comments have no others in them: one that begins otherwise is
/// taken for that of a portal.
const DECLARES: &str =
    r"^([[:space:];]|--[^\n\r]*[\n\r]|/\*([^*/]|\*+[^*/]|/+[^*/])*\*+/)*declare\M";

/// Which of these shards are read on their replicas.
fn readable(relay: &Relay, shards: &[u16]) -> Readable {
    match relay.reading {
        true => Readable::all(shards),
        false => Readable::default(),
    }
}

/// What a shard can do for a transaction over several of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Abilities {
    /// It takes `PREPARE TRANSACTION`.
    prepares: bool,
    /// It has the table for decisions.
    decides: bool,
    /// Something that may write was sent there.
    writes: bool,
}

impl Dtx {
    /// Takes the shard on that the block has had alone so far.
    pub(super) async fn adopt(&mut self, relay: &mut Relay, mut leg: Leg) -> Result<(), Fault> {
        let shard = leg.shard;
        if let Some(spread) = relay.spread.as_deref_mut() {
            spread.holds = true;
        }
        self.home = Some(shard);
        if shard == NOTIFIER {
            // What it notifies is the session's already, if that listens.
            self.hears = true;
        }
        if !leg.sent {
            leg.lost = true;
            self.legs.insert(shard, leg);
            return Err(self.lost("the server closed the connection"));
        }
        self.legs.insert(shard, leg);
        self.unproven = Some(shard);
        self.prove(relay).await
    }

    /// Asks the server that the block has had alone whether the block may come to others, and how it is opened there.
    /// As long as the answer is no, a ROLLBACK TO a savepoint makes it none that may.
    async fn prove(&mut self, relay: &mut Relay) -> Result<(), Fault> {
        let Some(shard) = self.unproven else {
            return Ok(());
        };
        let facts = facts(self.badge(relay), &self.open_on(shard));
        let Some(leg) = self.legs.get_mut(&shard) else {
            return Err(self.lost("it is gone"));
        };
        let asked = leg.run(facts.as_bytes()).await;
        leg.lease.flow.hand_over(&mut relay.down);
        leg.lost = asked.is_err();
        let answer = asked.map_err(|report| self.lost(&report.message))?;
        // What was set in a pipeline is reported only now that its server is asked something.
        self.heed(relay);
        let read_only = self.learn(relay, shard, &answer)?;
        if relay.spread.as_deref().is_some_and(|it| it.listened) {
            return Err(listens_alone().into());
        }
        let access = if read_only { "ONLY" } else { "WRITE" };
        self.opening = format!("BEGIN ISOLATION LEVEL READ COMMITTED READ {access}")
            .into_bytes()
            .into();
        self.unproven = None;
        Ok(())
    }

    /// Sees to it that there is a block on each of these shards.
    pub(super) async fn open(&mut self, relay: &mut Relay, shards: &[u16]) -> Result<(), Fault> {
        if self.legs.is_empty() && shards.len() > 1 {
            // Who holds nothing yet waits for one that is away as others do, and keeps no other from anybody meanwhile.
            let asked = clock::now();
            let readable = readable(relay, shards);
            all_led(relay, shards, &readable, asked).await?;
            self.began += clock::since(asked);
        }
        for shard in shards {
            if !self.legs.contains_key(shard) {
                self.prove(relay).await?;
                self.open_one(relay, *shard).await?;
            }
        }
        Ok(())
    }

    async fn open_one(&mut self, relay: &mut Relay, shard: u16) -> Result<(), Fault> {
        let spread = relay.spread.as_deref();
        let spread = spread.filter(|spread| !spread.defers);
        let steps = spread.and_then(|spread| spread.journal.statements(&relay.startup));
        let Some(steps) = steps else {
            let text = "what this transaction has set cannot be set on another shard";
            return Err(unsupported(text).into());
        };
        let mut text = self.opening.to_vec();
        let facts = facts(self.badge(relay), &[]);
        // A comment may be behind it.
        text.extend_from_slice(format!("\n; {facts}; {steps}").as_bytes());
        let asked = clock::now();
        let (mut leg, answer) = loop {
            let mut leg = self.take_one(relay, shard, asked).await?;
            relay.control.stand(Standing::Active);
            let report = match leg.run(&text).await {
                Ok(answer) => break (leg, answer),
                Err(report) => report,
            };
            leg.lost = true;
            suspect(relay, &leg);
            if clock::since(asked) < WAIT {
                // Nothing of the client's was sent there, and with the connection it is over: another will do.
                relay.pool.retries.count(Again::Unsent);
                drop(leg);
                checkout::pause(relay, PAUSE).await?;
                continue;
            }
            return Err(match self.legs.is_empty() {
                // Nothing has run yet.
                true => Fault::Refused(Box::new(report)),
                false => self.lost(&report.message),
            });
        };
        match (&answer.error, relay.spread.as_deref()) {
            (Some(_), Some(spread)) => {
                // Nobody knows how far it has come.
                let steps = spread.journal.steps();
                steps.for_each(|step| leg.may_have_taken(step));
            }
            _ => leg.lease.is_set_to(&relay.parameters),
        }
        if let Some(spread) = relay.spread.as_deref() {
            let mut steps = spread.journal.steps();
            leg.lease.misread |= steps.any(|step| follow::rereads(relay, step));
        }
        let mut held = Ok(());
        if shard == NOTIFIER {
            self.hears = true;
            held = listen::hold(relay, &mut leg.lease).await;
        }
        if let Some(spread) = relay.spread.as_deref_mut() {
            spread.holds = true;
        }
        self.legs.insert(shard, leg);
        self.home.get_or_insert(shard);
        held.map_err(|untold| Fault::Over(untold.bye(relay)))?;
        if let Some(error) = answer.error {
            return Err(error.into());
        }
        self.learn(relay, shard, &answer).map(drop)
    }

    /// A connection of a shard, with what was set before the transaction.
    async fn take_one(
        &mut self,
        relay: &mut Relay,
        shard: u16,
        asked: Instant,
    ) -> Result<Leg, Fault> {
        let (before, tried) = (Arc::clone(&self.before), clock::now());
        let readable = readable(relay, &[shard]);
        let taken = take(relay, shard, &readable, asked, &before);
        let mut leg = match self.legs.is_empty() {
            true => taken.await?,
            false => match tokio::time::timeout(WAIT, taken).await {
                Ok(taken) => taken?,
                Err(_elapsed) => return Err(self.crowded(shard).into()),
            },
        };
        // That has a limit of its own.
        self.began += clock::since(tried);
        leg.lease.touched = true;
        Ok(leg)
    }

    /// Takes note of what a server can; answers whether nothing may be written.
    fn learn(&mut self, relay: &Relay, shard: u16, answer: &Answer) -> Result<bool, Fault> {
        let row = answer.rows.first().map(Vec::as_slice);
        let Some(
            [
                Some(isolation),
                prepares,
                decides,
                read_only,
                writes,
                portals,
                cursors,
                _badge,
            ],
        ) = row
        else {
            let unknown = || unsupported("a shard does not say what it can");
            return Err(answer.error.clone().unwrap_or_else(unknown).into());
        };
        let is = |value: &Option<Vec<u8>>, text: &[u8]| value.as_deref() == Some(text);
        let read_only = is(read_only, b"on");
        // What notifies others has no id before its commit.
        let spread = relay.spread.as_deref();
        let notified = shard == NOTIFIER && spread.is_some_and(|spread| spread.notified);
        let abilities = Abilities {
            prepares: is(prepares, b"t"),
            decides: is(decides, b"t"),
            writes: is(writes, b"t") || notified,
        };
        self.abilities.insert(shard, abilities);
        self.had_cursors |= is(cursors, b"t");
        if isolation != b"read committed" && !self.still {
            let text =
                "a transaction over several shards must be of isolation level READ COMMITTED";
            let hint = "The shards have no common snapshot.";
            return Err(unsupported(text).hint(hint).into());
        }
        if is(portals, b"t") {
            let text = "another shard is not supported while a portal of the transaction is open";
            let hint = "Close it, or fetch all of its rows, and close it.";
            return Err(unsupported(text).hint(hint).into());
        }
        Ok(read_only)
    }

    /// The badge of the transaction, by which others know of its waits from now on.
    pub(super) fn badge(&mut self, relay: &mut Relay) -> Badge {
        let waiters = &self.group.transactions.waiters;
        let waiter = self.waiter.get_or_insert_with(|| waiters.enter());
        if let Some(spread) = relay.spread.as_deref_mut() {
            spread.waiter = Some(Arc::clone(waiter));
        }
        waiter.badge
    }

    /// Takes note that these shards may be written to. Where that makes them several, they must be able to
    /// commit together.
    pub(super) async fn writes(&mut self, relay: &Relay, shards: &[u16]) -> Result<(), Fault> {
        for shard in shards {
            if let Some(abilities) = self.abilities.get_mut(shard) {
                abilities.writes = true;
            }
        }
        let writers = self.abilities.iter().filter(|(_, it)| it.writes);
        let writers: Vec<(u16, Abilities)> = writers.map(|(at, it)| (*at, *it)).collect();
        if writers.len() < 2 {
            return Ok(());
        }
        for (shard, abilities) in writers {
            let pool = &self.group.pools[usize::from(shard)];
            let name = &pool.key.database;
            if !abilities.prepares {
                let text = format!(
                    "a write to several shards takes two-phase commit, and \"{name}\" has none"
                );
                let hint = "Set max_prepared_transactions there, to no less than max_connections, and restart it.";
                return Err(unsupported(text).hint(hint).into());
            }
            // Which of them decides is known only at the end.
            if !abilities.decides {
                decisions::make(&self.group.transactions, pool).await?;
                if let Some(abilities) = self.abilities.get_mut(&shard) {
                    abilities.decides = true;
                }
                tracing::info!(
                    shard = name,
                    client = relay.control.id,
                    "made pgherd.decisions"
                );
            }
        }
        Ok(())
    }

    /// Whether something may have been written.
    pub(super) fn may_have_written(&self) -> bool {
        self.abilities.values().any(|it| it.writes)
    }

    /// The connections of these shards, out of their places.
    pub(super) fn pick(&mut self, shards: &[u16]) -> Vec<Leg> {
        let legs = shards.iter().filter_map(|shard| self.legs.remove(shard));
        legs.collect()
    }

    /// Back to their places.
    pub(super) fn put_back(&mut self, legs: Vec<Leg>) {
        self.legs
            .extend(legs.into_iter().map(|leg| (leg.shard, leg)));
    }

    /// The shard for what may run anywhere.
    pub(super) fn anywhere(&self, relay: &Relay) -> u16 {
        let at = || relay.spread.as_deref().map_or(0, |spread| spread.at);
        self.home.unwrap_or_else(at)
    }

    /// The connection to a shard has broken, and nothing of the transaction can be committed any more.
    pub(super) fn lost(&self, why: &str) -> Fault {
        let text = "the transaction was rolled back, as the connection to a shard was lost";
        let report = ErrorReport::error(sqlstate::SERIALIZATION_FAILURE, text);
        Fault::Lost(Box::new(report.detail(why).hint("Run it again.")))
    }

    /// No connection of a shard came in time for a transaction that holds others.
    fn crowded(&self, shard: u16) -> ErrorReport {
        let pool = &self.group.pools[usize::from(shard)];
        let name = &pool.key.database;
        if pool.core.held().is_some() {
            pool.refusals.count(Unserved::Hold);
            let text = format!("shard \"{name}\" has no primary, and the transaction holds others");
            let report = ErrorReport::error(sqlstate::SERIALIZATION_FAILURE, text);
            return report.hint("Run it again: one that holds no others waits for it.");
        }
        pool.refusals.count(Unserved::Checkout);
        let text = format!(
            "no server connection of shard \"{name}\" became free within {} s for a transaction that holds others",
            WAIT.as_secs()
        );
        ErrorReport::error(sqlstate::TOO_MANY_CONNECTIONS, text)
    }
}

impl Leg {
    /// Runs a simple query of ours, and keeps what its server reports meanwhile.
    pub(super) async fn run(&mut self, sql: &[u8]) -> Result<Answer, ErrorReport> {
        self.run_into(sql, Answer::default()).await
    }

    /// As [`Leg::run`], into an answer that says what is kept.
    pub(super) async fn run_into(
        &mut self,
        sql: &[u8],
        answer: Answer,
    ) -> Result<Answer, ErrorReport> {
        let answer = setup::run_into(&mut self.lease, sql, answer).await?;
        for (name, value) in &answer.reported {
            self.report(name, value);
        }
        Ok(answer)
    }

    /// What this step sets its server may have had, or not.
    pub(super) fn may_have_taken(&mut self, step: &Step) {
        let Step::Change(changes) = step else {
            return;
        };
        for change in changes {
            match change.named_by {
                None if !change.name.is_empty() => self.lease.doubt([change.name.clone()]),
                _ => self.lease.doubt_unnamed(),
            }
        }
    }

    /// Whether its server is in the block, and nothing has failed there.
    pub(super) fn is_sound(&self) -> bool {
        self.lease.exchange.status() == TransactionStatus::InTransaction
    }

    /// Sends what waits, and answers how it ends and the messages of these kinds, once all that is owed has come or a
    /// deadline has.
    pub(super) async fn hear(
        &mut self,
        relay: &mut Relay,
        kinds: &[u8],
        deadlines: &Deadlines,
    ) -> (Vec<Box<[u8]>>, End) {
        let (mut heard, mut failed) = (Vec::new(), None);
        let end = watched(relay, deadlines, |relay, cx| {
            match self.poll_heard(kinds, &mut heard, &mut failed, cx) {
                Poll::Ready(end) => Poll::Ready(end),
                Poll::Pending => poll_presence(relay, cx).map(|()| End::Gone),
            }
        })
        .await;
        (heard, end)
    }

    fn poll_heard(
        &mut self,
        kinds: &[u8],
        heard: &mut Vec<Box<[u8]>>,
        failed: &mut Option<Box<[u8]>>,
        cx: &mut Context<'_>,
    ) -> Poll<End> {
        match poll_write_from(&mut self.lease.stream, cx, &mut self.out) {
            Poll::Ready(Ok(())) => self.sent = true,
            Poll::Ready(Err(error)) => return Poll::Ready(self.lost(&error.to_string())),
            Poll::Pending => {}
        }
        loop {
            if let Err(why) = self.hear_here(kinds, heard, failed) {
                return Poll::Ready(self.lost(&why));
            }
            if !self.lease.exchange.owes() {
                return Poll::Ready(failed.take().map_or(End::Answered, End::Failed));
            }
            match self.poll_read(cx) {
                Ok(Poll::Ready(())) => {}
                Ok(Poll::Pending) => return Poll::Pending,
                Err(end) => return Poll::Ready(end),
            }
        }
    }

    fn hear_here(
        &mut self,
        kinds: &[u8],
        heard: &mut Vec<Box<[u8]>>,
        failed: &mut Option<Box<[u8]>>,
    ) -> Result<(), String> {
        let crate::server::ServerConn { flow, exchange, .. } = &mut **self.lease;
        let mut reports = Vec::new();
        while flow.resume() {
            let header = frame::header(flow.unjudged()).map_err(|error| error.to_string())?;
            let Some(header) = header else { break };
            let total = header.total();
            if total > ANSWER_MAX {
                return Err("the server's answer is too large".to_owned());
            }
            let Some(message) = flow.unjudged().get(..total) else {
                break;
            };
            let message: Box<[u8]> = message.into();
            flow.hide(total);
            let body = &message[frame::HEADER_LEN..];
            let verdict = match header.tag {
                tag::READY_FOR_QUERY => {
                    let ready = ReadyForQuery::parse(body).map_err(|error| error.to_string())?;
                    exchange.ready(ready.status)
                }
                tag::NOTICE_RESPONSE | tag::PARAMETER_STATUS => Verdict::Swallow,
                other => exchange.received(other, |_| {}),
            };
            if verdict == Verdict::Unexpected {
                return Err("the server broke the protocol".to_owned());
            }
            if header.tag == tag::PARAMETER_STATUS {
                reports.push(message);
            } else if header.tag == tag::ERROR_RESPONSE {
                let report = ErrorReport::parse(body);
                if report.is_fatal() {
                    return Err(report.message);
                }
                *failed = Some(message);
            } else if kinds.contains(&header.tag) {
                heard.push(message);
            }
        }
        for report in reports {
            self.report_of(&report[frame::HEADER_LEN..]);
        }
        Ok(())
    }

    /// Something has come without being asked for.
    pub(super) fn overheard(&mut self, cx: &mut Context<'_>) -> Result<(), Box<ErrorReport>> {
        loop {
            let gone = match self.poll_read(cx) {
                Ok(std::task::Poll::Pending) => return Ok(()),
                Ok(std::task::Poll::Ready(())) => match self.next() {
                    Ok(Next::More | Next::Over) => continue,
                    Ok(Next::Row(_)) => "the server broke the protocol".to_owned(),
                    Err(end) => said(end),
                },
                Err(end) => said(end),
            };
            self.lost = true;
            let text = "the transaction was rolled back, as the connection to a shard was lost";
            let report = ErrorReport::error(sqlstate::SERIALIZATION_FAILURE, text);
            return Err(Box::new(report.detail(gone).hint("Run it again.")));
        }
    }
}

fn said(end: End) -> String {
    match end {
        End::Lost(report) => report.detail.unwrap_or(report.message),
        _ => "the server said an error".to_owned(),
    }
}

/// Takes note of a text that is sent to a server.
pub(super) fn sent(relay: &Relay, leg: &mut Leg, text: &[u8]) {
    leg.note(relay, &relay.judge(text), text);
}
