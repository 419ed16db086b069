//! A simple query, outside of a block, whose rows are on several shards.
//!
//! It takes a connection of each shard, in the order of the shards, so that no two sessions wait for each
//! other; has all of them begin; and what comes goes into one answer ([`gather`](super::gather)). One error
//! ends all of them, and so do a cancel request, the query timeout and a client that leaves. One that breaks, or a
//! standby that refuses, before anything of the answer went to the client has all of it read once more. A connection
//! goes back when it was found to be idle, and is closed otherwise.

use std::time::{Duration, Instant};

use pgherd_session::{Again, Unnamed};
use pgherd_wire::backend::{self, TransactionStatus};
use pgherd_wire::error::{ErrorReport, Field};
use pgherd_wire::{frame, sqlstate};

use super::concat::Concat;
use super::copied::Copied;
use super::enter;
use super::gather::{Deadlines, End, gather, put};
use super::legs::{Leg, Readable, check_in, drain, give_back, retire, take_all};
use super::request::{Request, Work};
use super::start::start;
use crate::clock;
use crate::control::{Order, Standing};
use crate::session::Bye;
use crate::session::attempt::is_of_standby;
use crate::session::checkout::Denied;
use crate::session::relay::Relay;

/// Runs the query in front on several shards; answers how the session ends, if it does.
pub(in crate::session) async fn run(
    relay: &mut Relay,
    request: Request,
    asked: Instant,
) -> Option<Bye> {
    relay.control.begin_waiting();
    let homes = Vec::from_iter(request.home());
    let readable = Readable::of(relay, &request.shards, &homes);
    let mut legs = match take_all(relay, &request.shards, &readable, asked).await {
        Ok(legs) => legs,
        Err(denied) => return relay.denied(denied),
    };
    if !is_planned_for(relay, request.schemas) {
        // The query is still in front: it is led anew, by what is known now.
        check_in(relay, legs);
        return None;
    }
    if let Some(first) = request.shards.first() {
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
    super::count(relay, request.tier());
    let deadlines = Deadlines::new(relay, started);
    let mut told = false;
    let mut first = request.clone();
    let mut end = answer(relay, &mut legs, &mut first, &deadlines, &mut told).await;
    if !told
        && let Err(failure) = &end
        && is_passing(&legs, failure)
    {
        let readable = readable.behind(failure);
        part(relay, std::mem::take(&mut legs));
        end = match take_anew(relay, &request.shards, &readable, request.schemas).await {
            Ok(taken) => {
                legs = taken;
                let mut again = request.clone();
                answer(relay, &mut legs, &mut again, &deadlines, &mut told).await
            }
            Err(end) => Err(end),
        };
    }
    let stats = &relay.pool.stats;
    stats.queries(1);
    stats.transaction(clock::since(started), Duration::ZERO);
    let bye = match end {
        Ok(()) => {
            finish(relay, legs).await;
            None
        }
        Err(end) => fail(relay, legs, request.told(end), request.is_rewritten()),
    };
    if bye.is_none() {
        backend::ready_for_query(relay.down.made(), TransactionStatus::Idle);
    }
    bye
}

/// Gives the client the answer, up to its end; `told` is whether anything of it went to the client.
async fn answer(
    relay: &mut Relay,
    legs: &mut [Leg],
    request: &mut Request,
    deadlines: &Deadlines,
    told: &mut bool,
) -> Result<(), End> {
    let plain = matches!(request.work, Work::Concat) && request.moment.is_none();
    if plain && request.bound.is_none() {
        let copied = request.copied.as_ref().map(|copied| &copied.out);
        let mut sink = Concat::framed(Copied::framing(copied));
        put(relay, legs, &request.text);
        let end = gather(relay, legs, &mut sink, deadlines).await;
        *told = sink.is_told();
        ended(end)?;
        sink.complete(relay, legs);
        return Ok(());
    }
    request.is_made_by(legs.first());
    let (mut merged, count) = start(relay, legs, request, &mut None, deadlines).await?;
    merged.announces = true;
    let end = gather(relay, &mut legs[..count], &mut merged, deadlines).await;
    *told |= merged.columns.is_some();
    ended(end)?;
    let command = merged.end(relay);
    complete(relay, command, merged.rows);
    Ok(())
}

fn ended(end: End) -> Result<(), End> {
    match end {
        End::Answered => Ok(()),
        end => Err(end),
    }
}

/// Whether a read that has failed so may be answered if it is asked once more: a connection broke, which may have lain
/// in a pool, a standby has said what a primary may not say, or it was too much for what a replica makes.
pub(super) fn is_passing(legs: &[Leg], end: &End) -> bool {
    let reads = legs.iter().any(|leg| leg.reading);
    match end {
        End::Lost(_) => true,
        End::Failed(message) => {
            let said = ErrorReport::parse(message.get(frame::HEADER_LEN..).unwrap_or_default());
            reads && is_of_standby(&said)
        }
        End::Stopped(report) => {
            let most = sqlstate::CONFIGURATION_LIMIT_EXCEEDED;
            reads && (report.code == most || is_of_standby(report))
        }
        End::Answered | End::Gone => false,
    }
}

/// Says that a command is over that has given so many rows.
pub(super) fn complete(relay: &mut Relay, command: &str, rows: u64) {
    let done = format!("{command} {rows}");
    let built = backend::command_complete(relay.down.made(), done.as_bytes());
    debug_assert!(built.is_ok(), "the tag is short");
}

/// Whether what was planned by the schemas of this number still holds, when the connections are there.
pub(super) fn is_planned_for(relay: &Relay, schemas: u64) -> bool {
    let Some(spread) = relay.spread.as_deref() else {
        return false;
    };
    let known = spread.group.current().and_then(|known| known.agreed().ok());
    !spread.group.is_retired() && known.is_some_and(|known| known.number() == schemas)
}

/// Parts with connections whose answers the client has.
pub(super) async fn finish(relay: &mut Relay, legs: Vec<Leg>) {
    for mut leg in legs {
        // It may have remarked something since.
        leg.lease
            .flow
            .hand_over(&mut pgherd_session::Flow::default());
        match leg.lease.exchange.owes() {
            true => drain(relay, leg),
            false => give_back(relay, leg).await,
        }
    }
}

/// Tells the client how it ended, and parts with the connections; answers how the session ends, if it does. What
/// a server says of places in a text that is not the client's is left out.
pub(super) fn fail(relay: &mut Relay, legs: Vec<Leg>, end: End, is_rewritten: bool) -> Option<Bye> {
    let (report, said) = match end {
        End::Gone => {
            let mut cut = false;
            for mut leg in legs {
                cut |= hand_over(relay, &mut leg);
                retire(relay, leg, true);
            }
            // It may be gone because it was sent away, and is told why unless half a row was sent on.
            let sent = !cut && relay.control.ordered() == Order::Terminate;
            let farewell = sent.then(|| relay.control.farewell()).flatten();
            return Some(farewell.map_or(Bye::Gone, Bye::Sent));
        }
        End::Failed(message) if is_rewritten => {
            let mut report = ErrorReport::parse(&message[frame::HEADER_LEN..]);
            report.others.retain(|(field, _)| *field != Field::Position);
            let mut said = bytes::BytesMut::new();
            report.encode_error(&mut said);
            (None, Some(said[..].into()))
        }
        End::Failed(message) => (None, Some(message)),
        End::Stopped(report) | End::Lost(report) => (Some(report), None),
        End::Answered => (None, None),
    };
    let mut legs = legs;
    let cut = legs
        .iter_mut()
        .fold(false, |cut, leg| hand_over(relay, leg) | cut);
    part(relay, legs);
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
    None
}

/// Other connections for what has failed before its client was told anything: what only reads may be asked again.
pub(super) async fn take_anew(
    relay: &mut Relay,
    shards: &[u16],
    readable: &Readable,
    schemas: u64,
) -> Result<Vec<Leg>, End> {
    relay.pool.retries.count(Again::Read);
    // However long it had been read by then.
    let taken = take_all(relay, shards, readable, clock::now()).await;
    let legs = taken.map_err(|denied| match denied {
        Denied::Gone | Denied::Ordered => End::Gone,
        Denied::Refused(report) | Denied::Fatal(report) | Denied::Lost(report) => {
            End::Stopped(report)
        }
    })?;
    relay.control.stand(Standing::Active);
    if is_planned_for(relay, schemas) {
        return Ok(legs);
    }
    check_in(relay, legs);
    let text = "the schema of the shards has changed under this query";
    let report = ErrorReport::error(sqlstate::SERIALIZATION_FAILURE, text);
    Err(End::Stopped(Box::new(report.hint("Try it again."))))
}

/// Parts with connections on which something has failed.
pub(super) fn part(relay: &mut Relay, legs: Vec<Leg>) {
    for leg in legs {
        if leg.lost {
            suspect(relay, &leg);
            continue;
        }
        let cancels = leg.lease.exchange.owes();
        retire(relay, leg, cancels);
    }
}

/// Takes what a leg has passed on for the client; true if half a message of it is missing.
pub(super) fn hand_over(relay: &mut Relay, leg: &mut Leg) -> bool {
    let passes = std::mem::take(&mut leg.passes);
    if passes {
        leg.lease.flow.hand_over(&mut relay.down);
    }
    passes && leg.lease.flow.is_mid_message()
}

/// Has the monitor look at the server of a leg that has broken.
pub(super) fn suspect(relay: &mut Relay, leg: &Leg) {
    enter(relay, leg.shard);
    let cluster = relay.pool.cluster.load();
    cluster.suspect(&leg.lease.about.upstream.name, clock::now());
}
