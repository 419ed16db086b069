//! How far a replica is behind.

use std::time::Duration;

/// How far a replica was behind when it was last looked at. Both are upper bounds as of that look, or the most that is known of
/// one that is further behind than is remembered; `None` where nothing is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lag {
    /// What it had not replayed of what the primary had written, in bytes.
    pub bytes: Option<u64>,
    /// How long the primary had been further than the replica.
    pub time: Option<Duration>,
}

/// How far a replica may be behind and still be read from. `None`: any distance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LagBounds {
    /// In bytes of the write-ahead log.
    pub bytes: Option<u64>,
    /// In time.
    pub time: Option<Duration>,
}

impl LagBounds {
    /// Whether this lag is known to be above a bound. What is unknown is above none: while there is no primary to
    /// compare with, the replicas go on being read.
    #[must_use]
    pub fn exceeded_by(&self, lag: &Lag) -> bool {
        let over = |bound: Option<u64>, is: Option<u64>| bound.zip(is).is_some_and(|(b, i)| i > b);
        let late = self.time.zip(lag.time).is_some_and(|(b, i)| i > b);
        over(self.bytes, lag.bytes) || late
    }

    /// Whether there is any bound.
    #[must_use]
    pub const fn any(&self) -> bool {
        self.bytes.is_some() || self.time.is_some()
    }
}
