//! The Prometheus page.

mod hosts;
mod listeners;
mod replication;
mod sharded;
pub(super) mod transactions;

use std::sync::Arc;
use std::time::Duration;

use pgherd_supervise::TreeNode;
use pgherd_telemetry::{Exposition, ExpositionError, Labels};

use crate::console::figures::{Figures, survey};
use crate::facts::Facts;
use crate::failures::FailureCounts;
use crate::http::page::hosts::HostSights;
use crate::http::page::transactions::TransactionSights;
use crate::session::replication::Census;
use crate::shards::Counts;

/// What the page says of itself.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All that a page shows, taken at one moment.
#[derive(Debug)]
pub struct Sights {
    /// The pools.
    pub pools: Vec<Figures>,
    /// The servers of databases with several.
    pub hosts: Vec<HostSights>,
    /// Logins that wait for their turn, by server.
    pub logins: Vec<(String, usize)>,
    /// Client connections, those that are logging in too.
    pub sessions: usize,
    /// Client connections that have not proved who they are.
    pub unauthenticated: usize,
    /// Bytes that are kept of what clients sent that wait for a server.
    pub kept: usize,
    /// Clients that replicate.
    pub replication: Census,
    /// Transactions over several shards.
    pub transactions: TransactionSights,
    /// Statements of sharded databases.
    pub sharded: Vec<(String, Arc<Counts>)>,
    /// Logins and sessions that failed.
    pub failures: FailureCounts,
    /// Whether clients are wanted.
    pub ready: bool,
    /// How long the proxy has run.
    pub age: Duration,
    /// The supervision tree, if it has answered.
    pub tree: Option<TreeNode>,
}

impl Sights {
    /// What there is to see now.
    pub fn of(facts: &Facts, tree: Option<TreeNode>) -> Self {
        Self {
            pools: survey(facts),
            hosts: HostSights::of(facts),
            logins: facts.memory.waiting_logins(),
            sessions: facts.sessions.count(),
            unauthenticated: facts.sessions.logins.count(),
            kept: facts.keeping.bytes(),
            replication: facts.replications.census(),
            transactions: TransactionSights::of(&facts.transactions),
            sharded: facts.groups.counts.all(),
            failures: facts.failures.counts(),
            ready: facts.is_ready(),
            age: facts.started.elapsed().unwrap_or_default(),
            tree,
        }
    }
}

/// The page, in Prometheus' text format 0.0.4.
///
/// # Errors
/// A name that Prometheus does not take, which would be a mistake in this file.
pub fn page(sights: &Sights) -> Result<Vec<u8>, ExpositionError> {
    let mut page = Exposition::default();
    process(&mut page, sights)?;
    failures(&mut page, &sights.failures)?;
    replication::write(&mut page, &sights.replication)?;
    transactions::write(&mut page, &sights.transactions)?;
    for database in &sights.sharded {
        sharded::write(&mut page, database)?;
    }
    for cluster in &sights.hosts {
        hosts::write(&mut page, cluster)?;
    }
    for (host, waiting) in &sights.logins {
        page.gauge(
            "pgherd_host_logins_waiting",
            "Server connections whose login waits for its turn (limits.max_host_logins).",
            &[("host", host)],
            *waiting as f64,
        )?;
    }
    for pool in &sights.pools {
        gauges(&mut page, pool)?;
        counters(&mut page, pool)?;
        reasons(&mut page, pool)?;
        listeners::write(&mut page, &pool.key, &pool.audience)?;
    }
    if let Some(tree) = &sights.tree {
        restarts(&mut page, tree, "")?;
    }
    page.text()
}

fn process(page: &mut Exposition, sights: &Sights) -> Result<(), ExpositionError> {
    let version: Labels<'_> = &[("version", env!("CARGO_PKG_VERSION"))];
    page.gauge(
        "pgherd_info",
        "Always 1; the version is a label.",
        version,
        1.0,
    )?;
    let numbers = [
        (
            "pgherd_ready",
            "1 if clients are wanted.",
            f64::from(u8::from(sights.ready)),
        ),
        (
            "pgherd_uptime_seconds",
            "How long the proxy has run.",
            sights.age.as_secs_f64(),
        ),
        (
            "pgherd_sessions",
            "Client connections.",
            sights.sessions as f64,
        ),
        (
            "pgherd_waiting_bytes",
            "What clients that wait for a server have sent, if it is more than 16 KiB of one.",
            sights.kept as f64,
        ),
        (
            "pgherd_sessions_unauthenticated",
            "Client connections that have not proved who they are.",
            sights.unauthenticated as f64,
        ),
    ];
    numbers
        .into_iter()
        .try_for_each(|(name, help, value)| page.gauge(name, help, &[], value))
}

fn failures(page: &mut Exposition, counts: &FailureCounts) -> Result<(), ExpositionError> {
    for (reason, count) in counts.logins() {
        page.counter(
            "pgherd_login_failures_total",
            "Clients that were not let in, by reason.",
            &[("reason", reason)],
            count,
        )?;
    }
    for (reason, count) in counts.sessions() {
        page.counter(
            "pgherd_session_failures_total",
            "Sessions that ended otherwise than by their client's goodbye, by reason.",
            &[("reason", reason)],
            count,
        )?;
    }
    page.counter(
        "pgherd_cancels_dropped_total",
        "Cancel requests that came while as many were under way as may be, to all hosts or to theirs.",
        &[],
        counts.cancels,
    )
}

fn gauges(page: &mut Exposition, pool: &Figures) -> Result<(), ExpositionError> {
    let (database, user) = (pool.key.database.as_str(), pool.key.user.as_str());
    let reader = pool.key.reader_name();
    let labels: Labels<'_> = &[("database", database), ("user", user), ("reader", reader)];
    let servers = &pool.servers;
    let wait = servers.oldest_wait.unwrap_or_default();
    let numbers = [
        (
            "pgherd_pool_clients",
            "Clients that do not wait.",
            pool.clients as f64,
        ),
        (
            "pgherd_pool_waiting",
            "Clients that wait for a server.",
            servers.waiting as f64,
        ),
        (
            "pgherd_pool_oldest_wait_seconds",
            "How long the first in the queue has waited.",
            wait.as_secs_f64(),
        ),
        (
            "pgherd_pool_size",
            "Server connections allowed.",
            servers.limits.size as f64,
        ),
        (
            "pgherd_pool_paused",
            "1 if the pool is paused.",
            f64::from(u8::from(servers.paused)),
        ),
        (
            "pgherd_pool_held",
            "1 if the pool waits for a primary.",
            f64::from(u8::from(servers.held.is_some())),
        ),
    ];
    for (name, help, value) in numbers {
        page.gauge(name, help, labels, value)?;
    }
    let states = [
        ("idle", servers.idle),
        ("active", servers.leased.saturating_sub(pool.cancelled)),
        ("being_canceled", pool.cancelled),
        ("login", servers.opening),
    ];
    for (state, count) in states {
        let labels = [
            ("database", database),
            ("user", user),
            ("reader", reader),
            ("state", state),
        ];
        page.gauge(
            "pgherd_pool_servers",
            "Server connections by state.",
            &labels,
            count as f64,
        )?;
    }
    Ok(())
}

fn counters(page: &mut Exposition, pool: &Figures) -> Result<(), ExpositionError> {
    let labels: Labels<'_> = &[
        ("database", pool.key.database.as_str()),
        ("user", pool.key.user.as_str()),
        ("reader", pool.key.reader_name()),
    ];
    let totals = &pool.totals;
    let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let numbers = [
        ("transactions", "Transactions.", totals.xact_count),
        ("queries", "Queries.", totals.query_count),
        (
            "received_bytes",
            "Bytes from clients.",
            totals.bytes_received,
        ),
        ("sent_bytes", "Bytes to clients.", totals.bytes_sent),
        (
            "transaction_microseconds",
            "Time in transactions.",
            micros(totals.xact_time),
        ),
        (
            "query_microseconds",
            "Time in transactions without what clients took to go on.",
            micros(totals.query_time),
        ),
        (
            "wait_microseconds",
            "Time that clients waited for a server.",
            micros(totals.wait_time),
        ),
        (
            "waits",
            "How often a client had to wait.",
            pool.servers.waits,
        ),
        (
            "assignments",
            "How often a client was given a server.",
            totals.server_assignment_count,
        ),
        (
            "client_parses",
            "Named statements that clients prepared.",
            totals.client_parse_count,
        ),
        (
            "server_parses",
            "Named statements that servers prepared.",
            totals.server_parse_count,
        ),
        (
            "server_parses_again",
            "Named statements that servers prepared for clients who had prepared them before.",
            totals.server_parse_again_count,
        ),
        (
            "prepared_evictions",
            "Named statements that were closed on a server to make room.",
            totals.eviction_count,
        ),
        (
            "binds",
            "Executions of named statements.",
            totals.bind_count,
        ),
        ("logins", "Logins of clients.", totals.client_login_count),
        (
            "pinned",
            "Transactions after which a session stayed pinned.",
            totals.pinned_count,
        ),
        (
            "function_checks",
            "Looks at a server's session for what functions left in it.",
            totals.check_count,
        ),
        (
            "function_surveys",
            "Looks at the catalogue for functions that run unseen.",
            totals.survey_count,
        ),
        (
            "servers_opened",
            "Server connections that were opened.",
            pool.servers.opened,
        ),
    ];
    for (name, help, value) in numbers {
        page.counter(&format!("pgherd_pool_{name}_total"), help, labels, value)?;
    }
    Ok(())
}

/// All that is counted of a pool by a reason or the like.
fn reasons(page: &mut Exposition, pool: &Figures) -> Result<(), ExpositionError> {
    let lost = pool.servers.lost.iter();
    let lost = lost.map(|(reason, count)| (reason.name(), count));
    let losses = (
        "pgherd_pool_servers_lost_total",
        "Server connections that ended, by reason.",
    );
    each(page, pool, losses, "reason", lost)?;
    let refusals = (
        "pgherd_pool_refusals_total",
        "Clients that were told an error in the place of a server they had to wait for, by reason.",
    );
    each(page, pool, refusals, "reason", pool.refusals.iter())?;
    let limits = pool.hindrances.iter();
    let limits = limits.map(|(limit, count)| (&**limit, *count));
    let hindrances = (
        "pgherd_pool_limited_total",
        "How often a limit that pools share kept a pool from opening a server connection, by limit.",
    );
    each(page, pool, hindrances, "limit", limits)?;
    let retries = (
        "pgherd_pool_retries_total",
        "Requests that were sent again, unseen by their client, by reason.",
    );
    each(page, pool, retries, "reason", pool.retries.iter())?;
    let outcomes = (
        "pgherd_pool_commits_resolved_total",
        "Transactions whose COMMIT was not answered, by what was found out (commit_resolution).",
    );
    each(page, pool, outcomes, "outcome", pool.outcomes.iter())?;
    let bound = pool.totals.pins.iter();
    let bound = bound.map(|(reason, count)| (reason.name(), count));
    let pins = (
        "pgherd_pool_pins_total",
        "How often a session came to be bound to its server, by reason.",
    );
    each(page, pool, pins, "reason", bound)
}

/// Counts of a pool under one name, with what it says of it, by what a label of theirs says.
fn each<'a>(
    page: &mut Exposition,
    pool: &Figures,
    (name, help): (&str, &str),
    label: &str,
    counts: impl Iterator<Item = (&'a str, u64)>,
) -> Result<(), ExpositionError> {
    for (value, count) in counts {
        let labels = [
            ("database", pool.key.database.as_str()),
            ("user", pool.key.user.as_str()),
            ("reader", pool.key.reader_name()),
            (label, value),
        ];
        page.counter(name, help, &labels, count)?;
    }
    Ok(())
}

/// Counts restarts by actor; the label is the way from the root, since names repeat in the tree.
fn restarts(page: &mut Exposition, node: &TreeNode, above: &str) -> Result<(), ExpositionError> {
    let path = if above.is_empty() {
        node.name.clone()
    } else {
        format!("{above}/{}", node.name)
    };
    page.counter(
        "pgherd_actor_restarts_total",
        "How often a supervisor has started an actor again.",
        &[("actor", &path)],
        node.restarts,
    )?;
    node.children
        .iter()
        .try_for_each(|child| restarts(page, child, &path))
}
