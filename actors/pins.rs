//! Why sessions are bound to their servers: shown, counted, and written to the log.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use parking_lot::Mutex;
use pgherd_sql::{Pin, PinSet};

/// Why one session keeps its server between transactions, and since when.
#[derive(Debug, Default)]
pub struct Bound {
    now: Mutex<Option<(PinSet, SystemTime)>>,
}

impl Bound {
    /// The session stays on its server for these reasons. Answers those that are new.
    pub fn bind(&self, pins: PinSet) -> PinSet {
        let mut now = self.now.lock();
        let (before, since) = now.unwrap_or((PinSet::EMPTY, SystemTime::now()));
        *now = Some((pins, since));
        pins.without(before)
    }

    /// The session is free of its server; true if it was bound.
    pub fn free(&self) -> bool {
        self.now.lock().take().is_some()
    }

    /// The reasons and the time.
    pub fn get(&self) -> Option<(PinSet, SystemTime)> {
        *self.now.lock()
    }
}

/// How often sessions were bound, by reason.
#[derive(Debug, Default)]
pub struct PinCounts([AtomicU64; Pin::ALL.len()]);

/// The same at one moment.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct PinTotals([u64; Pin::ALL.len()]);

impl PinCounts {
    /// A session came to be bound for each of these reasons.
    pub fn add(&self, pins: PinSet) {
        let counters = Pin::ALL.iter().zip(&self.0);
        for (_, counter) in counters.filter(|(pin, _)| pins.contains(**pin)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The counters as they are.
    pub fn totals(&self) -> PinTotals {
        PinTotals(std::array::from_fn(|at| self.0[at].load(Ordering::Relaxed)))
    }
}

impl PinTotals {
    /// Each reason and its count.
    pub fn iter(&self) -> impl Iterator<Item = (Pin, u64)> + '_ {
        Pin::ALL.into_iter().zip(self.0)
    }
}

/// The names of reasons as the console and the log write them.
pub fn names(pins: PinSet) -> String {
    pins.iter().map(Pin::name).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use pgherd_sql::{Pin, PinSet};

    use super::{Bound, PinCounts, names};

    #[test]
    fn only_new_reasons_are_told_and_the_time_stays() {
        let bound = Bound::default();
        assert_eq!(bound.get(), None);
        let lock = PinSet::of(&[Pin::AdvisoryLock]);
        assert_eq!(bound.bind(lock), lock);
        let (_, since) = bound.get().expect("it is bound");
        let both = PinSet::of(&[Pin::AdvisoryLock, Pin::TempTable]);
        assert_eq!(bound.bind(both), PinSet::of(&[Pin::TempTable]));
        assert_eq!(bound.get(), Some((both, since)));
        assert!(bound.free() && !bound.free());
    }

    #[test]
    fn each_reason_has_its_count() {
        let counts = PinCounts::default();
        counts.add(PinSet::of(&[Pin::Listen, Pin::Unknown]));
        counts.add(PinSet::of(&[Pin::Listen]));
        let some: Vec<_> = counts.totals().iter().filter(|(_, n)| *n > 0).collect();
        assert_eq!(some, [(Pin::Listen, 2), (Pin::Unknown, 1)]);
        assert_eq!(names(PinSet::of(&[Pin::Set, Pin::Role])), "set,role");
    }
}
