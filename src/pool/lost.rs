//! Why connections left a pool, counted.

/// Why a connection left the pool, or never got into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum LostReason {
    /// The lease ended without having been marked clean.
    Dirty,
    /// The lease was dropped by a panic.
    Panic,
    /// The connection belongs to an epoch that was fenced off.
    Fenced,
    /// All connections were told to be replaced.
    Retired,
    /// The connection reached the end of its lifetime.
    Lifetime,
    /// The connection was idle for too long.
    Idle,
    /// The pool held more connections than its limits allow.
    Surplus,
    /// Another pool sharing a quota needed the place.
    Reclaimed,
    /// The pool was closed.
    Closed,
    /// The connection broke: the peer closed it, or I/O failed.
    Broken,
    /// The holder took the connection out for a use of its own.
    Taken,
    /// A new connection was wanted in its place.
    Exchanged,
    /// Opening was given up before there was a connection.
    GivenUp,
}

impl LostReason {
    /// All reasons, in the order in which they are counted.
    pub const ALL: [Self; 13] = [
        Self::Dirty,
        Self::Panic,
        Self::Fenced,
        Self::Retired,
        Self::Lifetime,
        Self::Idle,
        Self::Surplus,
        Self::Reclaimed,
        Self::Closed,
        Self::Broken,
        Self::Taken,
        Self::Exchanged,
        Self::GivenUp,
    ];

    /// The word for metrics and the console.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dirty => "dirty",
            Self::Panic => "panic",
            Self::Fenced => "fenced",
            Self::Retired => "retired",
            Self::Lifetime => "lifetime",
            Self::Idle => "idle",
            Self::Surplus => "surplus",
            Self::Reclaimed => "reclaimed",
            Self::Closed => "closed",
            Self::Broken => "broken",
            Self::Taken => "taken",
            Self::Exchanged => "exchanged",
            Self::GivenUp => "given_up",
        }
    }
}

/// How many connections were lost since the pool was made, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LostCounts([u64; LostReason::ALL.len()]);

impl LostCounts {
    /// How many were lost for this reason.
    #[must_use]
    pub const fn get(&self, reason: LostReason) -> u64 {
        self.0[reason as usize]
    }

    /// Every reason with its count.
    pub fn iter(&self) -> impl Iterator<Item = (LostReason, u64)> + '_ {
        LostReason::ALL
            .into_iter()
            .map(|reason| (reason, self.get(reason)))
    }

    /// The sum over all reasons.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    pub(crate) const fn add(&mut self, reason: LostReason) {
        self.0[reason as usize] += 1;
    }
}
