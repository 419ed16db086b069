//! The servers of databases whose primary is found out.

use std::sync::Arc;
use std::time::Instant;

use pgherd_cluster::{Health, HostState, Offer, Verdict};
use pgherd_telemetry::{Exposition, ExpositionError, Labels};

use crate::clock;
use crate::cluster::holds::HoldTotals;
use crate::cluster::traits::AllTraits;
use crate::facts::Facts;

/// What is known of the servers of a database at one moment.
#[derive(Debug)]
pub struct HostSights {
    database: String,
    verdict: Arc<Verdict>,
    traits: Arc<AllTraits>,
    shared: bool,
    changes: u64,
    failovers: u64,
    holds: HoldTotals,
    at: Instant,
}

impl HostSights {
    /// What there is to see of all databases with several servers.
    pub fn of(facts: &Facts) -> Vec<Self> {
        let at = clock::now();
        let clusters = facts.topology.all().into_iter();
        clusters
            .filter(|cluster| cluster.is_watched())
            .map(|cluster| Self {
                database: cluster.name.clone(),
                verdict: cluster.verdict(),
                traits: cluster.traits(),
                shared: cluster.is_shared(),
                changes: cluster.changes(),
                failovers: cluster.failovers(),
                holds: cluster.holds.totals(),
                at,
            })
            .collect()
    }
}

/// Writes them.
///
/// # Errors
/// A name that Prometheus does not take.
pub(super) fn write(page: &mut Exposition, sights: &HostSights) -> Result<(), ExpositionError> {
    let verdict = &sights.verdict;
    let labels: Labels<'_> = &[("database", &sights.database)];
    let numbers = [
        (
            "pgherd_cluster_writable",
            "1 if there is a primary to write to.",
            truth(verdict.writer().is_some()),
        ),
        (
            "pgherd_cluster_shared_storage",
            "1 if its servers share one volume, as Aurora's do.",
            truth(sights.shared),
        ),
        (
            "pgherd_cluster_timeline",
            "The highest timeline on which a primary was seen.",
            f64::from(verdict.timeline),
        ),
        (
            "pgherd_cluster_epoch",
            "Rises with each reign of a primary: its timeline times 2^32, and the number of its reign on that.",
            verdict.epoch.as_u64() as f64,
        ),
        (
            "pgherd_cluster_alarms",
            "What an operator should look at; the log says what.",
            verdict.alarms.len() as f64,
        ),
    ];
    for (name, help, value) in numbers {
        page.gauge(name, help, labels, value)?;
    }
    let counters = [
        (
            "changes",
            "How often it changed who may be written to, nobody included.",
            sights.changes,
        ),
        (
            "failovers",
            "How often another server than before came to be written to.",
            sights.failovers,
        ),
        (
            "holds",
            "How often work went on that had waited for a primary, or was cut off.",
            sights.holds.count,
        ),
        (
            "hold_microseconds",
            "For how long work waited for a primary.",
            u64::try_from(sights.holds.time.as_micros()).unwrap_or(u64::MAX),
        ),
        (
            "hold_waits",
            "How many clients waited for a primary when there was one.",
            sights.holds.waited,
        ),
        (
            "cuts",
            "How many transactions and statements were cut off with a primary.",
            sights.holds.cut,
        ),
    ];
    for (name, help, value) in counters {
        page.counter(&format!("pgherd_cluster_{name}_total"), help, labels, value)?;
    }
    verdict
        .hosts
        .iter()
        .try_for_each(|state| host(page, sights, state))
}

fn host(
    page: &mut Exposition,
    sights: &HostSights,
    state: &HostState,
) -> Result<(), ExpositionError> {
    let labels: Labels<'_> = &[
        ("database", &sights.database),
        ("host", state.name.as_str()),
    ];
    let writes = sights.verdict.writer() == Some(&state.name);
    let age = state
        .seen
        .map(|seen| sights.at.saturating_duration_since(seen));
    let numbers = [
        (
            "pgherd_host_up",
            "1 if the server answers.",
            Some(truth(state.health == Health::Well)),
        ),
        (
            "pgherd_host_writer",
            "1 if writes go to the server.",
            Some(truth(writes)),
        ),
        (
            "pgherd_host_readable",
            "1 if the server may be read from.",
            Some(truth(!matches!(state.offer, Offer::Withheld(_)))),
        ),
        (
            "pgherd_host_fenced",
            "1 if nothing may be sent to the server, whatever it says of itself.",
            Some(truth(state.fence.is_some())),
        ),
        (
            "pgherd_host_lag_bytes",
            "What the server had not replayed when it was last seen.",
            state.lag.bytes.map(|bytes| bytes as f64),
        ),
        (
            "pgherd_host_lag_seconds",
            "For how long the primary had been further than the server.",
            state.lag.time.map(|lag| lag.as_secs_f64()),
        ),
        (
            "pgherd_host_weight",
            "How much the server is read from, compared to others.",
            Some(f64::from(sights.traits.of(&state.name).weight)),
        ),
        (
            "pgherd_host_seen_age_seconds",
            "How long ago the server answered last.",
            age.map(|age| age.as_secs_f64()),
        ),
        (
            "pgherd_host_latency_seconds",
            "How long its last answer took.",
            state.latency.map(|latency| latency.as_secs_f64()),
        ),
    ];
    numbers
        .into_iter()
        .filter_map(|(name, help, value)| Some((name, help, value?)))
        .try_for_each(|(name, help, value)| page.gauge(name, help, labels, value))
}

fn truth(is: bool) -> f64 {
    f64::from(u8::from(is))
}
