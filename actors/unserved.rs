//! How often clients were answered with an error in the place of a server that they had to wait for.

use std::sync::atomic::{AtomicU64, Ordering};

/// Why a client that wanted a server was given none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Unserved {
    /// None became free in time (`timeouts.checkout`).
    Checkout,
    /// There was no primary in time (`timeouts.hold`).
    Hold,
    /// So many waited already as may (`pool.max_waiters`).
    QueueFull,
    /// As much was kept already as may be for those who wait (`limits.max_waiting_bytes`).
    Crowded,
}

impl Unserved {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Checkout, Self::Hold, Self::QueueFull, Self::Crowded];

    /// Its name among the metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Checkout => "checkout_timeout",
            Self::Hold => "hold_timeout",
            Self::QueueFull => "queue_full",
            Self::Crowded => "waiting_bytes",
        }
    }
}

/// The counters of a pool; they only grow.
#[derive(Debug, Default)]
pub struct Refusals([AtomicU64; Unserved::ALL.len()]);

/// The counters at one moment, in the order of [`Unserved::ALL`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RefusalCounts([u64; Unserved::ALL.len()]);

impl Refusals {
    /// A client is refused.
    pub fn count(&self, why: Unserved) {
        self.0[why as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// The counters as they are.
    pub fn counts(&self) -> RefusalCounts {
        RefusalCounts(std::array::from_fn(|at| self.0[at].load(Ordering::Relaxed)))
    }
}

impl RefusalCounts {
    /// Each with its reason.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Unserved::ALL.map(Unserved::name).into_iter().zip(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::{Refusals, Unserved};

    #[test]
    fn reasons_are_counted_apart() {
        let refusals = Refusals::default();
        refusals.count(Unserved::QueueFull);
        refusals.count(Unserved::QueueFull);
        refusals.count(Unserved::Checkout);
        let counts: Vec<_> = refusals.counts().iter().collect();
        assert_eq!(
            counts,
            [
                ("checkout_timeout", 1),
                ("hold_timeout", 0),
                ("queue_full", 2),
                ("waiting_bytes", 0)
            ]
        );
    }
}
