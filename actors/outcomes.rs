//! What was found out about transactions whose COMMIT was not answered, and what that takes to be known.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use pgherd_cluster::Lsn;
use pgherd_cluster::outcome::Outcome;

/// More promotions than these are not remembered; the oldest is forgotten.
const PROMOTIONS_MAX: usize = 64;

/// How an answer was lost, and what became of that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolved {
    /// The transaction is committed, and its client was told so.
    Committed,
    /// It is not, and its client was told so.
    Lost,
    /// Nobody knows, or nobody could be asked in time.
    Unknown,
}

impl Resolved {
    /// All, in the order of their counters.
    pub const ALL: [Self; 3] = [Self::Committed, Self::Lost, Self::Unknown];

    /// The word for it in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::Lost => "lost",
            Self::Unknown => "unknown",
        }
    }
}

/// The counters of a pool, which only grow, and what is known of its servers' promotions.
#[derive(Debug, Default)]
pub struct Outcomes {
    counts: [AtomicU64; Resolved::ALL.len()],
    /// Where the timelines of servers began, by system identifier and timeline; `None` where two of that number began at
    /// different places.
    promotions: Mutex<BTreeMap<(u64, u32), Option<Lsn>>>,
}

/// The counters at one moment, in the order of [`Resolved::ALL`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OutcomeCounts([u64; Resolved::ALL.len()]);

impl Outcomes {
    /// One more was resolved so.
    pub fn count(&self, resolved: Resolved) {
        self.counts[resolved as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// The counters as they are.
    pub fn counts(&self) -> OutcomeCounts {
        OutcomeCounts(std::array::from_fn(|at| {
            self.counts[at].load(Ordering::Relaxed)
        }))
    }

    /// A server was seen behind its promotion, before its first checkpoint: its timeline begins where its recovery
    /// ended.
    pub fn began(&self, system: u64, timeline: u32, at: Lsn) {
        let mut promotions = self.promotions.lock();
        let known = promotions.entry((system, timeline)).or_insert(Some(at));
        if *known != Some(at) {
            *known = None;
        }
        if promotions.len() > PROMOTIONS_MAX {
            promotions.pop_first();
        }
    }

    /// Where a timeline begins, if that was seen, and of no two.
    pub fn beginning(&self, system: u64, timeline: u32) -> Option<Lsn> {
        self.promotions.lock().get(&(system, timeline)).copied()?
    }
}

impl OutcomeCounts {
    /// Each with its word.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Resolved::ALL.map(Resolved::name).into_iter().zip(self.0)
    }
}

impl From<Outcome> for Resolved {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Committed => Self::Committed,
            Outcome::Lost => Self::Lost,
            Outcome::Open | Outcome::Unknown => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use pgherd_cluster::Lsn;

    use super::{Outcomes, PROMOTIONS_MAX, Resolved};

    #[test]
    fn outcomes_are_counted_apart() {
        let outcomes = Outcomes::default();
        outcomes.count(Resolved::Lost);
        outcomes.count(Resolved::Committed);
        outcomes.count(Resolved::Lost);
        let counts: Vec<_> = outcomes.counts().iter().collect();
        assert_eq!(counts, [("committed", 1), ("lost", 2), ("unknown", 0)]);
    }

    #[test]
    fn the_beginning_of_a_timeline_is_what_was_seen_unless_there_were_two() {
        let outcomes = Outcomes::default();
        outcomes.began(1, 2, Lsn::new(100));
        outcomes.began(1, 2, Lsn::new(100));
        assert_eq!(outcomes.beginning(1, 2), Some(Lsn::new(100)));
        for at in [900, 100, 900] {
            outcomes.began(1, 2, Lsn::new(at));
            assert_eq!(outcomes.beginning(1, 2), None);
        }
        assert_eq!(
            (outcomes.beginning(1, 3), outcomes.beginning(2, 2)),
            (None, None)
        );
        for timeline in 3..100 {
            outcomes.began(1, timeline, Lsn::new(1));
        }
        assert_eq!(outcomes.promotions.lock().len(), PROMOTIONS_MAX);
        assert!(outcomes.beginning(1, 99).is_some());
    }
}
