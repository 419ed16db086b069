//! The figures of a pool at one moment.

use std::time::{Duration, Instant};

use crate::limits::Limits;
use crate::lost::LostCounts;

/// The figures of a pool, all taken under one lock, so that they fit each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Snapshot {
    /// The limits in force.
    pub limits: Limits,
    /// Connections free to be leased.
    pub idle: usize,
    /// Connections with a session, those just handed to a waiter included.
    pub leased: usize,
    /// Connections being opened.
    pub opening: usize,
    /// Sessions waiting for a connection.
    pub waiting: usize,
    /// How long the oldest of them has waited.
    pub oldest_wait: Option<Duration>,
    /// The current epoch; connections of older ones are not given out.
    pub epoch: u64,
    /// No leases are given for the time being.
    pub paused: bool,
    /// Since when there is no server to connect to, if there is none.
    pub held: Option<Instant>,
    /// The pool was closed for good.
    pub closed: bool,
    /// Connections lost since the pool was made.
    pub lost: LostCounts,
    /// Connections that were opened since the pool was made.
    pub opened: u64,
    /// Leases given since the pool was made.
    pub leases: u64,
    /// How often somebody had to wait.
    pub waits: u64,
    /// The sum of the waits told by [`PoolCore::record_wait`](crate::PoolCore::record_wait).
    pub wait_time: Duration,
}
