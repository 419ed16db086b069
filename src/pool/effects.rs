//! What remains to be done once the lock is released.

use std::task::Waker;

use crate::permits::{Permits, Quotas};

/// Consequences of an operation that must not happen under the lock. Empty ones cost no allocation.
pub(crate) struct Effects<C> {
    /// Tasks to wake.
    pub(crate) wake: Vec<Waker>,
    /// Wakers of no more use; dropping one may run foreign code.
    pub(crate) spent: Vec<Waker>,
    /// Connections to drop.
    pub(crate) closed: Vec<C>,
    /// Permits to give back, after the connections that held them are closed.
    pub(crate) freed: Vec<Permits>,
    /// A connection may have become dispensable.
    pub(crate) spare: bool,
    /// Quotas of which siblings lack a permit, and should know of the dispensable connection.
    pub(crate) offer: Option<Quotas>,
    /// The manager should look.
    pub(crate) hint: bool,
    /// Nothing is leased, and somebody waits for that.
    pub(crate) quiet: bool,
    /// What began to open before is not taken in any more.
    pub(crate) turned: bool,
}

impl<C> Effects<C> {
    pub(crate) const fn new() -> Self {
        Self {
            wake: Vec::new(),
            spent: Vec::new(),
            closed: Vec::new(),
            freed: Vec::new(),
            spare: false,
            offer: None,
            hint: false,
            quiet: false,
            turned: false,
        }
    }
}
