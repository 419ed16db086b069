//! A read whose rows are on several shards, and whose answer is the answers one behind the other.
//!
//! It takes a connection of each shard, in the order of the shards, so that no two sessions wait for each
//! other; sends the text to all; and passes the rows of one after the other on. What the others have
//! meanwhile waits in their sockets, so little of it is held here. One error ends all of them, and so
//! do a cancel request, the query timeout and a client that leaves. A connection goes back when it was
//! found to be idle, and is closed otherwise.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use pgherd_net::{poll_read_into, poll_write_from};
use pgherd_session::{Flow, Owed, Unnamed, Verdict};
use pgherd_wire::backend::{self, RowDescription, TransactionStatus, tag};
use pgherd_wire::error::ErrorReport;
use pgherd_wire::{frame, frontend, sqlstate};
use tokio::time::Sleep;

use super::legs::{Leg, check_in, give_back, retire, take_all};
use super::{Several, enter};
use crate::clock;
use crate::control::Standing;
use crate::session::relay::Relay;
use crate::session::{Bye, behind};

/// How much is read at once.
const READ: usize = 64 * 1024;
/// A message other than a row that is larger is none of a server's.
const MESSAGE_MAX: usize = 1024 * 1024;
/// What the client may send meanwhile.
const KEPT_MAX: usize = 64 * 1024;

/// How it ends.
enum End {
    /// All rows have come.
    Answered,
    /// A server has said this error: the message, for the client.
    Failed(Box<[u8]>),
    /// The client is told this.
    Stopped(Box<ErrorReport>),
    /// The leg of this number has broken.
    Lost(usize, Box<ErrorReport>),
    /// The client is gone, or cannot be told anything any more.
    Gone,
}

/// All of them.
struct Scatter {
    legs: Vec<Leg>,
    /// The leg whose rows are passed on.
    at: usize,
    rows: u64,
}

/// Runs the query in front on several shards; answers how the session ends, if it does.
pub(in crate::session) async fn run(
    relay: &mut Relay,
    several: &Several,
    asked: Instant,
) -> Option<Bye> {
    let legs = match take_all(relay, &several.shards, asked).await {
        Ok(legs) => legs,
        Err(denied) => return relay.denied(denied),
    };
    if !is_planned_for(relay, several) {
        // The query is still in front: it is led anew, by what is known now.
        check_in(relay, legs);
        return None;
    }
    let text = &several.text;
    if let Some(first) = several.shards.first() {
        // The session's own pool is one of them, and not that which was waited for last.
        enter(relay, *first);
    }
    let started = clock::now();
    if let Ok(Some(header)) = frame::header(relay.up.unjudged()) {
        relay.up.hide(header.total());
    }
    if let Some(statements) = relay.statements.as_deref_mut() {
        // A simple query ends the unnamed statement.
        statements.unnamed = Unnamed::None;
    }
    relay.control.stand(Standing::Active);
    let mut scatter = Scatter {
        legs,
        at: 0,
        rows: 0,
    };
    scatter.send(relay, text);
    let end = scatter.watch(relay, asked).await;
    let stats = &relay.pool.stats;
    stats.queries(1);
    stats.transaction(clock::since(started));
    scatter.end(relay, end).await
}

/// Whether what the query was planned by still holds, when its connections are there.
fn is_planned_for(relay: &Relay, several: &Several) -> bool {
    let Some(spread) = relay.spread.as_deref() else {
        return false;
    };
    let known = spread.group.current().and_then(|known| known.agreed().ok());
    !spread.group.is_retired() && known.is_some_and(|known| known.number() == several.schemas)
}

impl Scatter {
    fn send(&mut self, relay: &Relay, text: &[u8]) {
        let judgement = relay.judge(text);
        for leg in &mut self.legs {
            let built = frontend::query(leg.out.made(), text);
            debug_assert!(built.is_ok(), "it came in a message");
            leg.lease.exchange.sent(Owed::Query);
            leg.lease.touched = true;
            behind::sent(&mut leg.lease, &judgement, text, relay.lexing);
        }
    }

    /// Passes rows on, until all have come or something else ends it.
    async fn watch(&mut self, relay: &mut Relay, asked: Instant) -> End {
        let control = Arc::clone(&relay.control);
        let mut called_off = pin!(control.called_off.notified());
        let timer = |limit: Option<Duration>| limit.map(tokio::time::sleep).map(Box::pin);
        let (mut query, mut whole) = {
            let settings = relay.pool.settings();
            let gone = clock::since(asked);
            let whole = settings.timeouts.transaction;
            let whole = whole.map(|limit| limit.saturating_sub(gone));
            (timer(settings.timeouts.query), timer(whole))
        };
        poll_fn(|cx| {
            if let Poll::Ready(end) = self.poll(relay, cx) {
                return Poll::Ready(end);
            }
            if poll_presence(relay, cx).is_ready() {
                return Poll::Ready(End::Gone);
            }
            if called_off.as_mut().poll(cx).is_ready() {
                let text = "canceling statement due to user request";
                return Poll::Ready(stopped(text));
            }
            let mut is_over = |timer: &mut Option<Pin<Box<Sleep>>>| {
                let timer = timer.as_mut();
                timer.is_some_and(|timer| timer.as_mut().poll(cx).is_ready())
            };
            if is_over(&mut query) {
                let text = "canceling statement due to the query timeout of the pool";
                return Poll::Ready(stopped(text));
            }
            if is_over(&mut whole) {
                let text = "canceling statement due to the transaction timeout of the pool";
                return Poll::Ready(stopped(text));
            }
            Poll::Pending
        })
        .await
    }

    fn poll(&mut self, relay: &mut Relay, cx: &mut Context<'_>) -> Poll<End> {
        for (at, leg) in self.legs.iter_mut().enumerate() {
            if leg.sent {
                continue;
            }
            match poll_write_from(&mut leg.lease.stream, cx, &mut leg.out) {
                Poll::Ready(Ok(())) => leg.sent = true,
                Poll::Ready(Err(error)) => return Poll::Ready(lost(at, leg, &error.to_string())),
                Poll::Pending => {}
            }
        }
        if self.at == 0 && self.rows == 0 && self.legs.iter().any(|leg| leg.columns.is_none()) {
            match self.poll_columns(relay, cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(end)) => return Poll::Ready(end),
                Poll::Pending => return self.look_ahead(0, cx),
            }
        }
        while self.at < self.legs.len() {
            match self.poll_leg(relay, cx) {
                Poll::Ready(Ok(())) => self.at += 1,
                Poll::Ready(Err(end)) => return Poll::Ready(end),
                Poll::Pending => return self.look_ahead(self.at + 1, cx),
            }
        }
        Poll::Ready(End::Answered)
    }

    /// Waits for what the shards say of the columns, which must be the same, and passes the first on.
    fn poll_columns(&mut self, relay: &mut Relay, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        let mut all = true;
        for at in 0..self.legs.len() {
            while self.legs[at].columns.is_none() {
                if self.judge(at)? {
                    continue;
                }
                match self.poll_read(at, cx)? {
                    Poll::Ready(()) => {}
                    Poll::Pending => {
                        all = false;
                        break;
                    }
                }
            }
        }
        if !all {
            return Poll::Pending;
        }
        let shape = |leg: &Leg| leg.columns.as_deref().and_then(shape);
        let first = self.legs.first().and_then(shape);
        if first.is_none() || self.legs.iter().any(|leg| shape(leg) != first) {
            let text = "the shards give columns of different types";
            let report = ErrorReport::error(sqlstate::FEATURE_NOT_SUPPORTED, text);
            return Poll::Ready(Err(End::Stopped(Box::new(report))));
        }
        if let Some(columns) = self.legs.first().and_then(|leg| leg.columns.as_deref()) {
            relay.down.insert(columns);
        }
        Poll::Ready(Ok(()))
    }

    /// Looks whether a leg whose turn has not come, of those from this one on, says an error: nobody has to wait
    /// for its turn then.
    fn look_ahead(&mut self, from: usize, cx: &mut Context<'_>) -> Poll<End> {
        for at in from..self.legs.len() {
            if self.legs[at].columns.is_some()
                && let Err(end) = self.look_at(at, cx)
            {
                return Poll::Ready(end);
            }
        }
        Poll::Pending
    }

    fn look_at(&mut self, at: usize, cx: &mut Context<'_>) -> Result<(), End> {
        while !self.legs[at].lease.flow.is_mid_message() {
            match frame::header(self.legs[at].lease.flow.unjudged()) {
                Ok(Some(header)) if header.tag == tag::ERROR_RESPONSE => {
                    self.judge(at)?;
                }
                Ok(None) if self.legs[at].lease.exchange.owes() => {}
                _ => break,
            }
            // Until there is something to look at, its coming has to wake us.
            if self.poll_read(at, cx)?.is_pending() {
                break;
            }
        }
        Ok(())
    }

    /// Passes the rows of the present leg on until its answer is over.
    fn poll_leg(&mut self, relay: &mut Relay, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        let at = self.at;
        loop {
            let over = self.judge(at)?;
            let leg = &mut self.legs[at];
            match poll_to_client(relay, &mut leg.lease.flow, cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Err(End::Gone)),
                Poll::Pending => return Poll::Pending,
            }
            if over || !self.legs[at].lease.exchange.owes() {
                return Poll::Ready(Ok(()));
            }
            match self.poll_read(at, cx)? {
                Poll::Ready(()) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn poll_read(&mut self, at: usize, cx: &mut Context<'_>) -> Result<Poll<()>, End> {
        let leg = &mut self.legs[at];
        let server: &mut crate::server::ServerConn = &mut leg.lease;
        match poll_read_into(&mut server.stream, cx, &mut server.flow.buffer, READ) {
            Poll::Pending => Ok(Poll::Pending),
            Poll::Ready(Ok(0)) => Err(lost(at, leg, "the server closed the connection")),
            Poll::Ready(Err(error)) => Err(lost(at, leg, &error.to_string())),
            Poll::Ready(Ok(_)) => Ok(Poll::Ready(())),
        }
    }

    /// Judges what has come of a leg. Of one that has not described its columns yet, only up to there; true if it
    /// went so far. Of another, all; true if its answer is over.
    fn judge(&mut self, at: usize) -> Result<bool, End> {
        let first = at == 0;
        let leg = &mut self.legs[at];
        while leg.lease.flow.resume() {
            let header = match frame::header(leg.lease.flow.unjudged()) {
                Ok(Some(header)) => header,
                Ok(None) => break,
                Err(error) => return Err(lost(at, leg, &error.to_string())),
            };
            let total = header.total();
            if header.tag == tag::DATA_ROW {
                if leg.columns.is_none() {
                    return Err(lost(at, leg, "a row without a description"));
                }
                leg.lease.exchange.received(tag::DATA_ROW, |_| {});
                leg.lease.flow.pass(total);
                self.rows += 1;
                continue;
            }
            if total > MESSAGE_MAX {
                return Err(lost(at, leg, "the server broke the protocol"));
            }
            let Some(message) = leg.lease.flow.unjudged().get(..total) else {
                break;
            };
            let body = &message[frame::HEADER_LEN..];
            let verdict = match header.tag {
                tag::READY_FOR_QUERY => match backend::ReadyForQuery::parse(body) {
                    Ok(ready) => leg.lease.exchange.ready(ready.status),
                    Err(error) => return Err(lost(at, leg, &error.to_string())),
                },
                tag::ERROR_RESPONSE => {
                    let report = ErrorReport::parse(body);
                    if report.is_fatal() {
                        return Err(lost(at, leg, &report.message));
                    }
                    let message: Box<[u8]> = message.into();
                    leg.lease.exchange.received(tag::ERROR_RESPONSE, |_| {});
                    leg.lease.flow.hide(total);
                    // Half a row of the present leg may be on its way: it goes behind that.
                    return Err(End::Failed(message));
                }
                tag::ROW_DESCRIPTION if leg.columns.is_none() => {
                    let message: Box<[u8]> = message.into();
                    leg.columns = Some(message);
                    leg.lease.exchange.received(header.tag, |_| {});
                    leg.lease.flow.hide(total);
                    return Ok(true);
                }
                // What all of them remark on is said once.
                tag::NOTICE_RESPONSE if first => {
                    let message: Box<[u8]> = message.into();
                    leg.lease.flow.hide(total);
                    leg.lease.flow.insert(&message);
                    continue;
                }
                tag::NOTICE_RESPONSE | tag::PARAMETER_STATUS => Verdict::Swallow,
                tag::COMMAND_COMPLETE => leg.lease.exchange.received(header.tag, |_| {}),
                _ => Verdict::Unexpected,
            };
            if verdict == Verdict::Unexpected {
                return Err(lost(at, leg, "the server broke the protocol"));
            }
            leg.lease.flow.hide(total);
            if !leg.lease.exchange.owes() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Tells the client how it ended, and parts with the connections.
    async fn end(self, relay: &mut Relay, end: End) -> Option<Bye> {
        let (lost, report, said) = match end {
            End::Gone => {
                for leg in self.legs {
                    retire(relay, leg, true);
                }
                return Some(Bye::Gone);
            }
            End::Answered => {
                let done = format!("SELECT {}", self.rows);
                let built = backend::command_complete(relay.down.made(), done.as_bytes());
                debug_assert!(built.is_ok(), "the tag is short");
                backend::ready_for_query(relay.down.made(), TransactionStatus::Idle);
                for leg in self.legs {
                    give_back(relay, leg).await;
                }
                return None;
            }
            End::Failed(message) => (None, None, Some(message)),
            End::Stopped(report) => (None, Some(report), None),
            End::Lost(at, report) => (Some(at), Some(report), None),
        };
        let mut cut = false;
        for (at, mut leg) in self.legs.into_iter().enumerate() {
            if at == self.at {
                cut = leg.lease.flow.is_mid_message();
                leg.lease.flow.hand_over(&mut relay.down);
            }
            if Some(at) == lost {
                enter(relay, leg.shard);
                let cluster = relay.pool.cluster.load();
                cluster.suspect(&leg.lease.about.upstream.name, clock::now());
                continue;
            }
            let cancels = leg.lease.exchange.owes();
            retire(relay, leg, cancels);
        }
        if cut {
            // Half a row was sent on already: the client's framing cannot be mended.
            return Some(Bye::Gone);
        }
        if let Some(said) = said {
            relay.down.insert(&said);
        }
        if let Some(report) = report {
            relay.record(&report);
            report.encode_error(relay.down.made());
        }
        backend::ready_for_query(relay.down.made(), TransactionStatus::Idle);
        None
    }
}

/// Gives the client what waits for it: first what is ours, then what is a server's.
fn poll_to_client(
    relay: &mut Relay,
    flow: &mut Flow,
    cx: &mut Context<'_>,
) -> Poll<std::io::Result<()>> {
    if relay.down.backlog() == 0 && flow.backlog() == 0 && !relay.held {
        return Poll::Ready(Ok(()));
    }
    // Where this is pending, TLS may hold some of it.
    relay.held = true;
    if relay.down.backlog() > 0 {
        match poll_write_from(&mut relay.client, cx, &mut relay.down) {
            Poll::Ready(Ok(())) => {}
            other => return other,
        }
    }
    let written = poll_write_from(&mut relay.client, cx, flow);
    relay.held = written.is_pending();
    written
}

/// The client has left if it is ready. What it sends meanwhile is kept, up to a bound.
fn poll_presence(relay: &mut Relay, cx: &mut Context<'_>) -> Poll<()> {
    while relay.up.buffer.len() < KEPT_MAX {
        match poll_read_into(&mut relay.client, cx, &mut relay.up.buffer, 4096) {
            Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
            Poll::Ready(Ok(_)) => {}
            Poll::Pending => return Poll::Pending,
        }
    }
    Poll::Pending
}

/// What is said of a column that a client may decode its values by: its name, type, modifier and format. The
/// numbers of tables each shard has of its own.
type Column = (Vec<u8>, u32, i32, i16);

fn shape(message: &[u8]) -> Option<Vec<Column>> {
    let described = RowDescription::parse(message.get(frame::HEADER_LEN..)?).ok()?;
    let columns = described.columns().map(|it| {
        let name = it.name.to_vec();
        (name, it.type_oid, it.modifier, it.format)
    });
    Some(columns.collect())
}

fn stopped(text: &str) -> End {
    End::Stopped(Box::new(ErrorReport::error(sqlstate::QUERY_CANCELED, text)))
}

fn lost(at: usize, leg: &Leg, why: &str) -> End {
    let name = &leg.lease.about.upstream.name;
    let text = format!("connection to server {name} was lost");
    let report = ErrorReport::error(sqlstate::CONNECTION_FAILURE, text).detail(why);
    End::Lost(at, Box::new(report))
}
