//! Whether what is known of the shards is what they have: another proxy may have changed their schemas.
//!
//! A plan for several shards must not be older than a change that was committed before its statement came. So its
//! shards are asked for the versions of their schemas first, all at once; where one has another than what was
//! planned by, the statement is planned anew. What runs on one shard does not ask: it hears of a change within some
//! seconds, by [`recovery`](crate::transactions::recovery).

use std::task::{Context, Poll, ready};
use std::time::Instant;

use pgherd_session::{Again, Owed};
use pgherd_wire::backend::DataRow;
use pgherd_wire::error::ErrorReport;
use pgherd_wire::{frame, frontend};

use super::gather::{Deadlines, End, Sink, gather, is_unheard};
use super::legs::{Leg, check_in, take_all};
use super::scatter::{finish, is_planned_for, part};
use crate::clock;
use crate::control::Order;
use crate::session::checkout::Denied;
use crate::session::relay::Relay;
use crate::shards::Known;
use crate::shards::version::{self, Version};

/// A row with a version is no larger.
const ROW_MAX: usize = 4096;

/// Connections of these shards, if what was planned by the schemas of this number still holds there; nothing if the
/// statement, which is still in front, is to be led anew.
pub(super) async fn take(
    relay: &mut Relay,
    shards: &[u16],
    schemas: u64,
    asked: Instant,
) -> Result<Option<Vec<Leg>>, Denied> {
    let mut renewed = false;
    loop {
        let mut legs = take_all(relay, shards, asked).await?;
        if !is_planned_for(relay, schemas) {
            check_in(relay, legs);
            return Ok(None);
        }
        match told(relay, &mut legs).await {
            Ok(false) if is_planned_for(relay, schemas) => return Ok(Some(legs)),
            Ok(_) => {
                // Where one has failed, others may not have answered yet.
                match legs.iter().any(|leg| leg.lease.exchange.owes()) {
                    true => part(relay, legs),
                    false => finish(relay, legs).await,
                }
                return Ok(None);
            }
            // Connections may lie in a pool whose servers are gone.
            Err(End::Lost(_)) if !renewed && is_unheard(&legs) => {
                relay.pool.retries.count(Again::Read);
                renewed = true;
                part(relay, legs);
            }
            Err(end) => {
                part(relay, legs);
                return Err(denied(relay, end));
            }
        }
    }
}

fn denied(relay: &Relay, end: End) -> Denied {
    match end {
        End::Failed(message) => {
            let report = ErrorReport::parse(&message[frame::HEADER_LEN..]);
            Denied::Refused(Box::new(report))
        }
        End::Stopped(report) | End::Lost(report) => Denied::Refused(report),
        End::Answered | End::Gone => match relay.control.ordered() {
            Order::Terminate => Denied::Ordered,
            _ => Denied::Gone,
        },
    }
}

/// Asks the servers for the versions of their schemas; answers whether one is another than what is known.
async fn told(relay: &mut Relay, legs: &mut [Leg]) -> Result<bool, End> {
    let known = relay.spread.as_deref().and_then(|it| it.group.last());
    let Some(known) = known else { return Ok(true) };
    put(legs, &known);
    let mut versions = Versions::default();
    let deadlines = Deadlines::new(relay, clock::now());
    match gather(relay, legs, &mut versions, &deadlines).await {
        End::Answered => Ok(versions.compare(relay, legs, &known)),
        End::Failed(message) if is_missing(&message) => {
            forget(relay, legs, &known);
            Ok(true)
        }
        end => Err(end),
    }
}

/// Whether a server says that there is no table of ours any more, or that it may not be read: somebody has dropped it, or
/// the server was replaced.
pub(super) fn is_missing(message: &[u8]) -> bool {
    let report = ErrorReport::parse(&message[frame::HEADER_LEN..]);
    matches!(
        report.code.to_string().as_str(),
        "42P01" | "3F000" | "42501"
    )
}

/// Has all that is known of these shards read anew.
pub(super) fn forget(relay: &Relay, legs: &[Leg], known: &Known) {
    if let Some(spread) = relay.spread.as_deref() {
        for leg in legs {
            spread.group.heard(known, leg.shard, &None);
        }
    }
}

/// Has each leg ask for the version of its shard.
pub(super) fn put(legs: &mut [Leg], known: &Known) {
    for leg in legs {
        let question = version::question(known.version_of(leg.shard));
        let built = frontend::query(leg.out.made(), question.as_bytes());
        debug_assert!(built.is_ok(), "it is short");
        leg.lease.exchange.sent(Owed::Query);
        leg.begin();
    }
}

/// What the legs tell of it.
#[derive(Debug, Default)]
pub(super) struct Versions(Vec<Version>);

impl Versions {
    /// Takes note of what is another than what is known; answers whether something is.
    pub(super) fn compare(&self, relay: &Relay, legs: &[Leg], known: &Known) -> bool {
        let Some(spread) = relay.spread.as_deref() else {
            return false;
        };
        let mut outrun = false;
        for (leg, version) in legs.iter().zip(&self.0) {
            if spread.group.heard(known, leg.shard, version) {
                let (database, shard) = (&spread.group.config.name, leg.shard);
                tracing::info!(database, shard, "another proxy has changed the schema");
                outrun = true;
            }
        }
        outrun
    }
}

impl Sink for Versions {
    fn columns(&mut self, _: &mut Relay, _: Option<&[u8]>) -> Result<(), End> {
        Ok(())
    }

    fn poll(
        &mut self,
        _: &mut Relay,
        legs: &mut [Leg],
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), End>> {
        self.0.resize(legs.len(), None);
        for (leg, version) in legs.iter_mut().zip(&mut self.0) {
            while let Some(total) = ready!(leg.poll_row(ROW_MAX, cx))? {
                if total > ROW_MAX {
                    return Poll::Ready(Err(leg.broken()));
                }
                leg.count();
                let row = DataRow::parse(&leg.lease.flow.unjudged()[frame::HEADER_LEN..total]);
                let value = row.ok().and_then(|row| row.values().next().flatten());
                *version = value.map(version::told);
                leg.lease.flow.hide(total);
            }
        }
        Poll::Ready(Ok(()))
    }
}
