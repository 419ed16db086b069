//! How often requests were sent again, and what a pool has seen of its server that says whether to.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use pgherd_session::{Again, Role};

/// The counters of a pool; they only grow.
#[derive(Debug, Default)]
pub struct Retries {
    counts: [AtomicU64; Again::ALL.len()],
    wrote: AtomicBool,
}

/// The counters at one moment, in the order of [`Again::ALL`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RetryCounts([u64; Again::ALL.len()]);

impl Retries {
    /// A request is sent again.
    pub fn count(&self, why: Again) {
        self.counts[why as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// The counters as they are.
    pub fn counts(&self) -> RetryCounts {
        RetryCounts(std::array::from_fn(|at| {
            self.counts[at].load(Ordering::Relaxed)
        }))
    }

    /// A server of the pool says what it is.
    pub fn saw(&self, role: Role) {
        if role == Role::Writable {
            self.wrote.store(true, Ordering::Relaxed);
        }
    }

    /// Whether a server of the pool has been one that takes writes: then one that does not is a matter of
    /// time, and not of where the pool leads.
    pub fn has_seen_writes(&self) -> bool {
        self.wrote.load(Ordering::Relaxed)
    }
}

impl RetryCounts {
    /// Each with its reason.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Again::ALL.map(Again::name).into_iter().zip(self.0)
    }
}

#[cfg(test)]
mod tests {
    use pgherd_session::{Again, Role};

    use super::Retries;

    #[test]
    fn reasons_are_counted_apart() {
        let retries = Retries::default();
        retries.count(Again::Read);
        retries.count(Again::Read);
        retries.count(Again::Turned);
        let counts: Vec<_> = retries
            .counts()
            .iter()
            .filter(|(_, count)| *count > 0)
            .collect();
        assert_eq!(counts, [("read", 2), ("turned_away", 1)]);
    }

    #[test]
    fn only_a_primary_is_one_that_writes() {
        let retries = Retries::default();
        retries.saw(Role::Recovering);
        retries.saw(Role::Unknown);
        assert!(!retries.has_seen_writes());
        retries.saw(Role::Writable);
        assert!(retries.has_seen_writes());
    }
}
