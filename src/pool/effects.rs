//! What remains to be done once the lock is released.

use std::task::Waker;

use crate::permits::{Permits, Quotas};

/// Consequences of an operation that must not happen under the lock. Empty ones cost no allocation.
pub(crate) struct Effects<C> {
    /// Tasks to wake.
    pub(crate) wake: Wakers,
    /// Wakers of no more use; dropping one may run foreign code.
    pub(crate) spent: Wakers,
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
            wake: Wakers::new(),
            spent: Wakers::new(),
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

/// Wakers, of which there is seldom more than one: the first costs no allocation.
pub(crate) struct Wakers {
    first: Option<Waker>,
    more: Vec<Waker>,
}

impl Wakers {
    const fn new() -> Self {
        Self {
            first: None,
            more: Vec::new(),
        }
    }

    /// Wakes them all, in the order of their coming.
    #[inline]
    pub(crate) fn wake(&mut self) {
        if let Some(first) = self.first.take() {
            first.wake();
        }
        if !self.more.is_empty() {
            self.more.drain(..).for_each(Waker::wake);
        }
    }

    #[inline]
    pub(crate) fn clear(&mut self) {
        self.first = None;
        self.more.clear();
    }
}

impl Extend<Waker> for Wakers {
    fn extend<I: IntoIterator<Item = Waker>>(&mut self, wakers: I) {
        for waker in wakers {
            match &mut self.first {
                None => self.first = Some(waker),
                Some(_) => self.more.push(waker),
            }
        }
    }
}
