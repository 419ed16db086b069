//! What remains to be done once the lock is released.

use std::task::Waker;

use crate::permits::{Permits, Quotas};

/// Consequences of an operation that must not happen under the lock. Empty ones cost no allocation.
pub(crate) struct Effects<C> {
    /// Tasks to wake.
    pub(crate) wake: Wakers,
    /// Wakers of no more use; dropping one may run foreign code.
    pub(crate) spent: Wakers,
    /// A connection may have become dispensable.
    pub(crate) spare: bool,
    /// The manager should look.
    pub(crate) hint: bool,
    /// Nothing is leased, and somebody waits for that.
    pub(crate) quiet: bool,
    /// What began to open before is not taken in any more.
    pub(crate) turned: bool,
    /// What seldom comes about, kept apart so that there is little to look through mostly.
    pub(crate) rare: Option<Box<Rare<C>>>,
}

/// Consequences that end connections, or help other pools to some.
pub(crate) struct Rare<C> {
    /// Connections to drop.
    closed: Vec<C>,
    /// Permits to give back, after the connections that held them are closed.
    freed: Vec<Permits>,
    /// Quotas of which siblings lack a permit, and should know of the dispensable connection.
    offer: Option<(Quotas, usize)>,
}

impl<C> Effects<C> {
    pub(crate) const fn new() -> Self {
        Self {
            wake: Wakers::new(),
            spent: Wakers::new(),
            spare: false,
            hint: false,
            quiet: false,
            turned: false,
            rare: None,
        }
    }

    /// Has a connection dropped.
    pub(crate) fn close(&mut self, conn: C) {
        self.rare().closed.push(conn);
    }

    /// Has permits given back.
    pub(crate) fn free(&mut self, permits: Permits) {
        self.rare().freed.push(permits);
    }

    /// Has the siblings that lack a permit of these know of the dispensable connection of a pool that has so many.
    pub(crate) fn offer(&mut self, quotas: Quotas, total: usize) {
        self.rare().offer = Some((quotas, total));
    }

    /// The connections to drop, for the caller to do so.
    pub(crate) fn take_closed(&mut self) -> Vec<C> {
        let rare = self.rare.as_deref_mut();
        let closed = rare.map(|rare| std::mem::take(&mut rare.closed));
        closed.unwrap_or_default()
    }

    fn rare(&mut self) -> &mut Rare<C> {
        self.rare.get_or_insert_with(|| {
            Box::new(Rare {
                closed: Vec::new(),
                freed: Vec::new(),
                offer: None,
            })
        })
    }
}

impl<C> Rare<C> {
    /// Carries them out, in this order.
    pub(crate) fn carry_out(self) {
        drop(self.closed);
        drop(self.freed);
        let Some((quotas, total)) = self.offer else {
            return;
        };
        for quota in quotas.iter().filter(|quota| quota.is_starved(total)) {
            quota.offer();
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
