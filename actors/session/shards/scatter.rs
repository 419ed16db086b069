//! A read whose rows are on several shards, and whose answer is the answers one behind the other.
//!
//! It takes a connection of each shard, in the order of the shards, so that no two sessions wait for each
//! other; sends the text to all; and passes the rows of one after the other on ([`gather`](super::gather)). One
//! error ends all of them, and so do a cancel request, the query timeout and a client that leaves. A
//! connection goes back when it was found to be idle, and is closed otherwise.

use std::time::Instant;

use pgherd_session::Unnamed;
use pgherd_wire::backend::{self, TransactionStatus};
use pgherd_wire::frame;

use super::concat::Concat;
use super::gather::{End, gather, left, put};
use super::legs::{Leg, check_in, give_back, retire, take_all};
use super::{Several, enter};
use crate::clock;
use crate::control::Standing;
use crate::session::Bye;
use crate::session::relay::Relay;

/// Runs the query in front on several shards; answers how the session ends, if it does.
pub(in crate::session) async fn run(
    relay: &mut Relay,
    several: &Several,
    asked: Instant,
) -> Option<Bye> {
    let mut legs = match take_all(relay, &several.shards, asked).await {
        Ok(legs) => legs,
        Err(denied) => return relay.denied(denied),
    };
    if !is_planned_for(relay, several) {
        // The query is still in front: it is led anew, by what is known now.
        check_in(relay, legs);
        return None;
    }
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
    let left = left(relay, asked);
    let mut sink = Concat::default();
    put(relay, &mut legs, &several.text);
    let end = gather(relay, &mut legs, &mut sink, left).await;
    let stats = &relay.pool.stats;
    stats.queries(1);
    stats.transaction(clock::since(started));
    if matches!(end, End::Answered) {
        let done = format!("SELECT {}", sink.rows);
        let built = backend::command_complete(relay.down.made(), done.as_bytes());
        debug_assert!(built.is_ok(), "the tag is short");
    }
    part(relay, legs, end).await
}

/// Whether what the query was planned by still holds, when its connections are there.
fn is_planned_for(relay: &Relay, several: &Several) -> bool {
    let Some(spread) = relay.spread.as_deref() else {
        return false;
    };
    let known = spread.group.current().and_then(|known| known.agreed().ok());
    !spread.group.is_retired() && known.is_some_and(|known| known.number() == several.schemas)
}

/// Tells the client how it ended, if it did not end well, and that it may go on; and parts with the connections.
async fn part(relay: &mut Relay, legs: Vec<Leg>, end: End) -> Option<Bye> {
    let (report, said) = match end {
        End::Gone => {
            for leg in legs {
                retire(relay, leg, true);
            }
            return Some(Bye::Gone);
        }
        End::Answered => {
            backend::ready_for_query(relay.down.made(), TransactionStatus::Idle);
            for leg in legs {
                give_back(relay, leg).await;
            }
            return None;
        }
        End::Failed(message) => (None, Some(message)),
        End::Stopped(report) | End::Lost(report) => (Some(report), None),
    };
    let mut cut = false;
    for mut leg in legs {
        cut |= hand_over(relay, &mut leg);
        if leg.lost {
            suspect(relay, &leg);
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
