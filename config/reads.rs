use std::time::Duration;

use crate::section::Check;

section! {
    /// Which servers of a database with several are read from.
    pub struct Reads {
        /// Where statements and transactions that only read run.
        [Now] from: ReadFrom,
        /// Which of several hosts is taken.
        [Now] strategy: ReadStrategy,
        /// The zone that pgherd is in, whose hosts are read from as long as they can take it.
        [Now] zone: Option<String>,
        /// Whether a session's reads see its own writes.
        [Now] own_writes: bool,
        /// Replicas that are further behind, in time, are not read from; `None` is any distance.
        [Now] max_lag: Option<Duration>,
        /// Replicas that are further behind, in bytes of the log, are not read from.
        [Now] max_lag_bytes: Option<std::num::NonZeroUsize>,
    }
}

overrides! {
    /// Which servers of one database are read from.
    pub struct ReadOverrides over Reads {
        /// Where statements and transactions that only read run.
        from: ReadFrom,
        /// Which of several hosts is taken.
        strategy: ReadStrategy,
        /// The zone that pgherd is in, whose hosts are read from as long as they can take it.
        zone: Option<String>,
        /// Whether a session's reads see its own writes.
        own_writes: bool,
        /// Replicas that are further behind, in time, are not read from.
        max_lag: Option<Duration>,
        /// Replicas that are further behind, in bytes of the log, are not read from.
        max_lag_bytes: Option<std::num::NonZeroUsize>,
    }
}

/// Where what only reads is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFrom {
    /// On the primary, as everything: nobody reads what is out of date.
    Primary,
    /// On the primary, unless a client asks for a replica.
    Asked,
    /// On the replicas, and on the primary while none of them may be read from.
    Replicas,
    /// On the replicas and the primary alike.
    Any,
}

/// Which of several hosts is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadStrategy {
    /// Of two at random, the one with fewer clients for its weight.
    LeastOutstanding,
    /// One after the other.
    RoundRobin,
    /// At random, by weight.
    Weighted,
    /// Of two at random, the one that answers faster.
    Latency,
}

words! { ReadStrategy {
    LeastOutstanding = "least_outstanding", RoundRobin = "round_robin", Weighted = "weighted", Latency = "latency",
} }
words! { ReadFrom { Primary = "primary", Asked = "asked", Replicas = "replicas", Any = "any", } }

impl Check for Reads {}
impl Check for ReadOverrides {}
