//! Which connection is idle, leased or awaited: the accounting of a pool, generic over the connection.
//!
//! There are no sockets, tasks or clocks here: time is a parameter, and whoever opens connections asks
//! [`PoolCore::wanted`] how many. A [`PoolCore`] is shared by `Arc` and outlives the actor that manages it, so that a
//! crash of the manager stops no traffic. Everything happens under one short lock; connections are dropped, wakers
//! woken and hints fired after it is released, and no code ever holds the locks of two pools.

mod core;
mod effects;
mod error;
mod lease;
mod limits;
mod line;
mod lost;
mod meta;
mod opening;
mod permits;
mod quota;
mod snapshot;
mod state;
mod sweep;
mod sync;
mod waiter;

pub use crate::core::{Ask, Mark, PoolCore};
pub use crate::error::{Failure, LeaseError, Refused};
pub use crate::lease::Lease;
pub use crate::limits::{Limits, Order};
pub use crate::lost::{LostCounts, LostReason};
pub use crate::meta::{Meta, Place, Seen};
pub use crate::opening::OpenSlot;
pub use crate::quota::{Pressure, Quota};
pub use crate::snapshot::Snapshot;
pub use crate::sweep::{Age, SweepRules};
pub use crate::waiter::Waiter;

#[cfg(test)]
mod tests;
