//! Keys whose shards are looked up: what a group of pools knows of them, and when it was read.
//!
//! What lookups give is read with the schemas, when a key is named of which nothing is known, and behind each RELOAD, before
//! anything is run by what was known before. A key that is known keeps its shard: where another one is given for it, its
//! statements are refused up to the next RELOAD, which takes that up as it takes up another configuration, by ending the
//! group. Until it is read, nobody sees that a key has moved; so keys move as buckets do, while nobody runs anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pgherd_planner::Wanted;
use pgherd_wire::error::ErrorReport;

use super::lookup::{Given, Lookup};
use super::{Group, known, resharded};
use crate::clock;
use crate::pool::Pool;

/// Between two readings there is this much of the time that the first took, so that they take a part of a server only.
const REST: u32 = 4;
/// But no more than this.
const REST_MAX: Duration = Duration::from_secs(1);
/// Before what comes upon keys while it runs, they are not looked up again within this time.
const LATELY: Duration = Duration::from_secs(1);

/// The lookups of a group of pools, and when they were read.
#[derive(Debug)]
pub(super) struct Lookups {
    each: Box<[Lookup]>,
    /// The number of the last RELOAD, from 1.
    reloads: AtomicU64,
    /// The number of the one that they were read behind, 0 if they never were.
    read: AtomicU64,
    last: Mutex<Option<Last>>,
}

/// The last reading.
#[derive(Debug)]
struct Last {
    began: Instant,
    ended: Instant,
    answer: Result<(), ErrorReport>,
}

/// What a reading has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// All keys that were known are where they were.
    Alike,
    /// Some are not, and are refused from here on.
    Moved,
    /// The same behind a RELOAD: all of it is to be known anew.
    Elsewhere,
}

impl Lookups {
    pub(super) fn new(each: Vec<Lookup>) -> Self {
        Self {
            each: each.into(),
            reloads: AtomicU64::new(1),
            read: AtomicU64::new(0),
            last: Mutex::new(None),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.each.is_empty()
    }

    /// The shards that are asked.
    pub(super) fn shards(&self) -> impl Iterator<Item = u16> {
        self.each.iter().map(Lookup::at)
    }

    /// A RELOAD has come, and what was known holds no more before it is read again.
    pub(super) fn expire(&self) {
        self.reloads.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether no RELOAD has come behind what is known. Where nothing is, nothing can be wrong.
    pub(super) fn hold(&self) -> bool {
        let read = self.read.load(Ordering::Acquire);
        read == 0 || read == self.reloads.load(Ordering::Acquire)
    }

    pub(super) fn are_read(&self) -> bool {
        self.read.load(Ordering::Acquire) != 0
    }

    /// What came of the last reading, if it began at this moment or later.
    pub(super) fn answered(&self, since: Instant) -> Option<Result<(), ErrorReport>> {
        let last = self.last.lock();
        let last = last.as_ref().filter(|last| last.began >= since)?;
        Some(last.answer.clone())
    }

    /// Waits until they may be read again.
    pub(super) async fn rest(&self) {
        let until = self.last.lock().as_ref().map(|last| {
            let took = last.ended.saturating_duration_since(last.began);
            last.ended + (took * REST).min(REST_MAX)
        });
        if let Some(until) = until {
            tokio::time::sleep_until(until.into()).await;
        }
    }

    /// Reads all of them, over these pools. One reads at a time.
    ///
    /// # Errors
    /// If one cannot be read.
    pub(super) async fn read(&self, pools: &[Arc<Pool>]) -> Result<Found, ErrorReport> {
        let reloads = self.reloads.load(Ordering::Acquire);
        let behind = self.read.load(Ordering::Acquire) != reloads;
        let began = clock::now();
        let given = self.given(pools).await;
        let answer = given.as_ref().map(drop).map_err(Clone::clone);
        *self.last.lock() = Some(Last {
            began,
            ended: clock::now(),
            answer,
        });
        let (mut moved, mut has_moved) = (false, false);
        for (lookup, given) in self.each.iter().zip(given?) {
            moved |= lookup.mapping().take(given);
            has_moved |= lookup.mapping().has_moved();
        }
        if behind && has_moved {
            // It never holds again.
            return Ok(Found::Elsewhere);
        }
        self.read.store(reloads, Ordering::Release);
        Ok(if moved { Found::Moved } else { Found::Alike })
    }

    async fn given(&self, pools: &[Arc<Pool>]) -> Result<Vec<Given>, ErrorReport> {
        let mut given = Vec::with_capacity(self.each.len());
        for lookup in &self.each {
            // The shards of a group are those that its lookups are of.
            if let Some(pool) = pools.get(usize::from(lookup.at())) {
                given.push(lookup.ask_one(pool).await?);
            }
        }
        Ok(given)
    }
}

impl Group {
    /// Has what is looked up read again before anything is run by it.
    pub(super) fn expire(self: &Arc<Self>) {
        if !self.lookups.is_empty() {
            self.lookups.expire();
            self.look_again();
        }
    }

    /// Whether there are keys that are looked up.
    pub fn looks_up(&self) -> bool {
        !self.lookups.is_empty()
    }

    /// Has keys looked up of which nothing is known.
    ///
    /// # Errors
    /// If that cannot be done.
    pub async fn look_up(&self, keys: Wanted) -> Result<(), ErrorReport> {
        let now = clock::now();
        let since = match keys {
            Wanted::Named => now,
            Wanted::Met => now.checked_sub(LATELY).unwrap_or(now),
        };
        if let Some(answer) = self.lookups.answered(since) {
            return answer;
        }
        let _asks = self.asking.lock().await;
        // All who have waited for the same question get the same answer.
        if let Some(answer) = self.lookups.answered(since) {
            return answer;
        }
        self.lookups.rest().await;
        self.read_lookups().await
    }

    /// Reads all lookups. Whoever does so holds `asking`.
    async fn read_lookups(&self) -> Result<(), ErrorReport> {
        match self.lookups.read(&self.pools).await? {
            Found::Alike => Ok(()),
            Found::Moved => {
                let database = &self.config.name;
                tracing::warn!(
                    database,
                    "the lookup gives other shards for keys than before, which are refused up to a RELOAD"
                );
                // What was planned by where they were does not run any more.
                if let Some(known) = self.known.load_full() {
                    self.known.store(Some(Arc::new(known.renumbered())));
                }
                Ok(())
            }
            Found::Elsewhere => {
                self.retire();
                Err(resharded())
            }
        }
    }

    /// Whether the lookups are to be read with the schemas.
    fn are_lookups_due(&self, age: known::Age) -> bool {
        if self.lookups.is_empty() {
            return false;
        }
        if !self.lookups.are_read() || !self.lookups.hold() {
            return true;
        }
        let known = self.known.load();
        self.lookups.shards().map(usize::from).any(|at| {
            let has_primary = self.pools[at].core.held().is_none();
            let known = known.as_deref();
            let has_changed = known.is_none_or(|known| !known.is_current_on(at, &self.pools[at]));
            has_changed || age == known::Age::Any && has_primary
        })
    }

    /// Reads the lookups, if it is time to.
    pub(super) async fn renew_lookups(&self, age: known::Age) -> Result<(), ErrorReport> {
        if !self.are_lookups_due(age) {
            return Ok(());
        }
        match self.read_lookups().await {
            // Where nothing is known of keys, only what names them is refused.
            Err(report) if !self.lookups.are_read() => {
                let (database, error) = (&self.config.name, &report.message);
                let detail = report.detail.as_deref().unwrap_or_default();
                tracing::warn!(database, error, detail, "keys cannot be looked up");
                Ok(())
            }
            read => read,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::Lookups;

    #[test]
    fn a_reload_takes_effect_before_what_is_read() {
        let lookups = Lookups::new(Vec::new());
        assert!(lookups.hold() && !lookups.are_read());
        lookups.expire();
        assert!(lookups.hold(), "nothing is known");
        lookups.read.store(2, Ordering::Release);
        assert!(lookups.hold() && lookups.are_read());
        lookups.expire();
        assert!(!lookups.hold());
    }
}
