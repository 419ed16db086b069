//! What was found out about transactions whose COMMIT was not answered.

use std::sync::atomic::{AtomicU64, Ordering};

use pgherd_cluster::outcome::Outcome;

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

/// The counters of a pool, which only grow.
#[derive(Debug, Default)]
pub struct Outcomes {
    counts: [AtomicU64; Resolved::ALL.len()],
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
    use super::{Outcomes, Resolved};

    #[test]
    fn outcomes_are_counted_apart() {
        let outcomes = Outcomes::default();
        outcomes.count(Resolved::Lost);
        outcomes.count(Resolved::Committed);
        outcomes.count(Resolved::Lost);
        let counts: Vec<_> = outcomes.counts().iter().collect();
        assert_eq!(counts, [("committed", 1), ("lost", 2), ("unknown", 0)]);
    }
}
