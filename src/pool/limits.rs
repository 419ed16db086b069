//! How large a pool may grow.

use std::time::Duration;

/// Which idle connection is taken first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Order {
    /// The one last used: few connections stay warm, the others may end.
    #[default]
    Lifo,
    /// The one longest unused: load is spread evenly.
    Fifo,
}

/// The bounds of one pool. They may be changed while it runs, see [`PoolCore::resize`](crate::PoolCore::resize).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections the pool may hold in ordinary times: idle, leased and being opened together.
    pub size: usize,
    /// Connections kept open even when nobody asks, and the share that other pools cannot reclaim. Never above `size`.
    pub min: usize,
    /// Connections beyond `size` that may be opened once somebody has waited for `reserve_after`.
    pub reserve: usize,
    /// How long the oldest waiter must have waited before the reserve is touched.
    pub reserve_after: Duration,
    /// How many may wait for a connection; the next one is refused.
    pub max_waiters: usize,
    /// How many connections may be opening at once.
    pub max_opening: usize,
    /// Which idle connection is taken first.
    pub order: Order,
}

impl Limits {
    /// Those of a pool for one connection, which is never idle and never waited for.
    pub const ALONE: Self = Self {
        size: 1,
        min: 0,
        reserve: 0,
        reserve_after: Duration::ZERO,
        max_waiters: 0,
        max_opening: 1,
        order: Order::Fifo,
    };

    /// The most connections the pool may ever hold.
    #[must_use]
    pub const fn ceiling(&self) -> usize {
        self.size.saturating_add(self.reserve)
    }

    /// The guaranteed share: the minimum, as far as the size allows it.
    #[must_use]
    pub fn floor(&self) -> usize {
        self.min.min(self.size)
    }
}
