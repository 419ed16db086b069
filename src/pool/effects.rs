//! What remains to be done once the lock is released.

use std::task::Waker;

/// Consequences of an operation that must not happen under the lock. Empty ones cost no allocation.
pub(crate) struct Effects<C> {
    /// Tasks to wake.
    pub(crate) wake: Vec<Waker>,
    /// Wakers of no more use; dropping one may run foreign code.
    pub(crate) spent: Vec<Waker>,
    /// Connections to drop.
    pub(crate) closed: Vec<C>,
    /// Permits to give back to each quota.
    pub(crate) freed: usize,
    /// A connection may have become dispensable: siblings that lack a permit should know.
    pub(crate) spare: bool,
    /// The manager should look.
    pub(crate) hint: bool,
    /// Nothing is leased, and somebody waits for that.
    pub(crate) quiet: bool,
}

impl<C> Effects<C> {
    pub(crate) const fn new() -> Self {
        Self {
            wake: Vec::new(),
            spent: Vec::new(),
            closed: Vec::new(),
            freed: 0,
            spare: false,
            hint: false,
            quiet: false,
        }
    }
}
