//! The figures of all pools at one moment, for the console's tables and for metrics.

use std::collections::HashMap;
use std::sync::Arc;

use pgherd_config::PoolMode;
use pgherd_pool::{Place, Snapshot};
use pgherd_sql::Runs;

use crate::clock;
use crate::control::Standing;
use crate::facts::Facts;
use crate::herald::audience::Census;
use crate::outcomes::OutcomeCounts;
use crate::pool::{Pool, PoolKey, Totals};
use crate::retries::RetryCounts;
use crate::unserved::RefusalCounts;

/// One pool.
#[derive(Debug, Clone)]
pub struct Figures {
    /// Its name.
    pub key: PoolKey,
    /// Its connections and its queue.
    pub servers: Snapshot,
    /// Leased connections that a cancel request is on its way to, or may yet hit.
    pub cancelled: usize,
    /// Its counters.
    pub totals: Totals,
    /// What they have counted in the last period; in the first, so far.
    pub recent: Totals,
    /// Its requests that were sent again.
    pub retries: RetryCounts,
    /// Its clients that were given no server.
    pub refusals: RefusalCounts,
    /// What became of its COMMITs that were not answered.
    pub outcomes: OutcomeCounts,
    /// How often limits have kept it from opening a connection, and which.
    pub hindrances: Vec<(Arc<str>, u64)>,
    /// Its clients, those that wait left out.
    pub clients: usize,
    /// Which transactions may run code of the database that changes a session.
    pub hidden: Runs,
    /// Its clients that listen.
    pub audience: Census,
    /// When its server connections go back.
    pub mode: PoolMode,
}

impl Figures {
    /// Counts another pool's server connections and waiters along.
    pub fn add_servers(&mut self, other: &Self) {
        let (servers, others) = (&mut self.servers, &other.servers);
        servers.idle += others.idle;
        servers.leased += others.leased;
        servers.opening += others.opening;
        servers.waiting += others.waiting;
        servers.oldest_wait = servers.oldest_wait.max(others.oldest_wait);
        self.cancelled += other.cancelled;
    }

    /// Its server connections in any state, those being opened too.
    pub fn connections(&self) -> usize {
        self.servers.idle + self.servers.leased + self.servers.opening
    }
}

/// The figures of every pool, by database and user.
pub fn survey(facts: &Facts) -> Vec<Figures> {
    let clients = clients(facts);
    let now = clock::now();
    let first = facts.periods.last().is_none();
    let routes = facts.routes.load();
    let mut figures: Vec<_> = routes
        .values()
        .map(|pool| Figures {
            key: pool.key.clone(),
            servers: pool.core.snapshot(now),
            cancelled: cancelled(pool),
            totals: pool.stats.totals(),
            recent: match first {
                true => pool.stats.totals(),
                false => pool.stats.last_period(),
            },
            retries: pool.retries.counts(),
            refusals: pool.refusals.counts(),
            outcomes: pool.outcomes.counts(),
            hindrances: pool.hindrance.counts(),
            clients: clients.get(&pool.key).copied().unwrap_or(0),
            hidden: pool.upstream.load().hidden.0.threshold(),
            audience: pool.audience.census(&pool.circle),
            mode: pool.settings().pool.mode,
        })
        .collect();
    figures.sort_by(|one, other| one.key.cmp(&other.key));
    figures
}

/// How many clients that do not wait there are of each database and user.
fn clients(facts: &Facts) -> HashMap<PoolKey, usize> {
    let mut clients = HashMap::new();
    for control in facts.sessions.all() {
        if matches!(control.standing(), Standing::Login | Standing::Waiting) {
            continue;
        }
        if let Some(who) = control.identity() {
            let key = PoolKey::new(who.database.clone(), who.user.clone());
            *clients.entry(key).or_insert(0) += 1;
        }
    }
    clients
}

fn cancelled(pool: &Pool) -> usize {
    let mut count = 0;
    pool.core.each(|seen| {
        count += usize::from(seen.place == Place::Leased && !seen.info.cancels.quiet());
    });
    count
}
