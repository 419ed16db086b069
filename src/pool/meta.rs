//! What the pool knows of a connection.

use std::sync::Arc;
use std::time::Instant;

/// What the pool knows of one connection, wherever that connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// Number of the connection, unique within its pool and never used again.
    pub id: u64,
    /// When it was put into the pool.
    pub opened: Instant,
    /// The epoch in which its opening began.
    pub epoch: u64,
    /// The worker that used it last; the reason why it is preferred for that worker.
    pub worker: u16,
    /// How often it was leased, this time included.
    pub uses: u64,
    /// It will be closed instead of given on when it comes back.
    pub retire: bool,
    /// It nears the end of its lifetime and has asked for a successor.
    pub ageing: bool,
}

/// Where a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the pool, free to be leased.
    Idle,
    /// With a session, or handed to a waiter that has not looked yet.
    Leased,
}

/// One connection as shown by [`PoolCore::each`](crate::PoolCore::each).
pub struct Seen<'a, C, I> {
    /// What the pool knows of it.
    pub meta: &'a Meta,
    /// Where it is.
    pub place: Place,
    /// The record its opener supplied, shared with the connection for as long as that lives.
    pub info: &'a Arc<I>,
    /// The connection itself, if it is idle.
    pub conn: Option<&'a C>,
}
