//! Times in which work waits because nobody may be written to.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What the times were that have ended; it only grows.
#[derive(Debug, Default)]
pub struct Holds {
    count: AtomicU64,
    micros: AtomicU64,
    waited: AtomicU64,
    cut: AtomicU64,
}

/// The same at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HoldTotals {
    /// How many there were.
    pub count: u64,
    /// How long they were.
    pub time: Duration,
    /// How many waited when they ended.
    pub waited: u64,
    /// How many were cut off, from the beginning to the end.
    pub cut: u64,
}

/// The end of one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HoldEnd {
    /// How long it was; zero if another took the writes as soon as the former was left.
    pub held: Duration,
    /// How many wait for it.
    pub waited: u64,
    /// How many were cut off, from its beginning on.
    pub cut: u64,
}

impl HoldEnd {
    /// That of several pools of one cluster.
    #[must_use]
    pub fn join(self, other: Self) -> Self {
        Self {
            held: self.held.max(other.held),
            waited: self.waited + other.waited,
            cut: self.cut + other.cut,
        }
    }
}

impl Holds {
    /// One has ended.
    pub fn ended(&self, database: &str, end: HoldEnd) {
        let micros = u64::try_from(end.held.as_micros()).unwrap_or(u64::MAX);
        let (held_ms, waited, cut) = (micros / 1000, end.waited, end.cut);
        tracing::info!(database, held_ms, waited, cut, "work goes on");
        self.count.fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(micros, Ordering::Relaxed);
        self.waited.fetch_add(end.waited, Ordering::Relaxed);
        self.cut.fetch_add(end.cut, Ordering::Relaxed);
    }

    /// What they were up to now.
    pub fn totals(&self) -> HoldTotals {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        HoldTotals {
            count: get(&self.count),
            time: Duration::from_micros(get(&self.micros)),
            waited: get(&self.waited),
            cut: get(&self.cut),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{HoldEnd, HoldTotals, Holds};

    #[test]
    fn the_pools_of_a_cluster_wait_at_the_same_time() {
        let end = |held, waited, cut| HoldEnd {
            held: Duration::from_millis(held),
            waited,
            cut,
        };
        let holds = Holds::default();
        holds.ended("shop", end(100, 2, 1).join(end(90, 3, 0)));
        holds.ended("shop", end(0, 0, 4));
        let expected = HoldTotals {
            count: 2,
            time: Duration::from_millis(100),
            waited: 5,
            cut: 5,
        };
        assert_eq!(holds.totals(), expected);
    }
}
