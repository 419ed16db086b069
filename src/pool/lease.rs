//! A connection on loan.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use crate::core::PoolCore;
use crate::lost::LostReason;
use crate::meta::Meta;
use crate::state::Grant;

/// A connection on loan from a pool. It is born dirty: only one that was marked clean goes back when dropped, and only
/// if its epoch is current, it is not retiring, the pool is open and the thread is not panicking. Any other is closed
/// and counted.
#[must_use = "a lease that is dropped at once closes its connection"]
pub struct Lease<C: Send + 'static, I: Send + Sync + 'static = ()> {
    core: Arc<PoolCore<C, I>>,
    slot: usize,
    meta: Meta,
    /// Why the connection may not go back; none if it is clean.
    fault: Option<LostReason>,
    /// What ends with the loan.
    guard: Option<Box<dyn Send + Sync>>,
    conn: Option<C>,
}

impl<C: Send + 'static, I: Send + Sync + 'static> Lease<C, I> {
    pub(crate) fn new(core: Arc<PoolCore<C, I>>, grant: Grant<C>) -> Self {
        let Grant { slot, meta, conn } = grant;
        Self {
            core,
            slot,
            meta,
            fault: Some(LostReason::Dirty),
            guard: None,
            conn: Some(conn),
        }
    }

    /// Says that the connection may serve another session: the server is idle, owes nothing, and no cancel is in flight.
    pub const fn mark_clean(&mut self) {
        self.fault = None;
    }

    /// Says that the connection is in use, and must be closed if the lease ends now.
    pub const fn mark_dirty(&mut self) {
        self.fault = Some(LostReason::Dirty);
    }

    /// As [`Self::mark_dirty`], with a better reason to be counted.
    pub const fn condemn(&mut self, reason: LostReason) {
        self.fault = Some(reason);
    }

    /// Has what is made here end with the loan, however that ends: it is dropped before anybody else can have the
    /// connection. What was to end with it so far is dropped before the new one is made.
    pub fn guard_by<G: Send + Sync + 'static>(&mut self, make: impl FnOnce() -> Option<G>) {
        self.guard = None;
        self.guard = make().map(|guard| Box::new(guard) as Box<dyn Send + Sync>);
    }

    /// Would the connection go back, as far as its holder is concerned?
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.fault.is_none()
    }

    /// What the pool knew of the connection when it was leased; a retirement since then is not seen here.
    #[must_use]
    pub const fn meta(&self) -> &Meta {
        &self.meta
    }

    /// The pool the connection belongs to.
    #[must_use]
    pub const fn core(&self) -> &Arc<PoolCore<C, I>> {
        &self.core
    }

    /// Ends the loan with the connection in hand; whoever asks for it sees to it that it is accounted for.
    pub(crate) fn into_parts(mut self) -> (usize, C) {
        self.guard = None;
        (self.slot, self.conn.take().expect(HELD))
    }

    /// Takes the connection out of the pool for good. Its place and its permits are free at once.
    #[must_use]
    pub fn into_inner_lost(mut self, reason: LostReason) -> C {
        let conn = self.conn.take().expect(HELD);
        self.core
            .with(|state, fx| state.forget(self.slot, reason, fx));
        conn
    }
}

const HELD: &str = "a lease holds its connection until it is consumed";

impl<C: Send + 'static, I: Send + Sync + 'static> Deref for Lease<C, I> {
    type Target = C;

    fn deref(&self) -> &C {
        self.conn.as_ref().expect(HELD)
    }
}

impl<C: Send + 'static, I: Send + Sync + 'static> DerefMut for Lease<C, I> {
    fn deref_mut(&mut self) -> &mut C {
        self.conn.as_mut().expect(HELD)
    }
}

impl<C: Send + 'static, I: Send + Sync + 'static> Drop for Lease<C, I> {
    fn drop(&mut self) {
        self.guard = None;
        let Some(conn) = self.conn.take() else { return };
        let panic = std::thread::panicking().then_some(LostReason::Panic);
        let fault = panic.or(self.fault);
        self.core
            .with(|state, fx| state.give_back(self.slot, conn, fault, fx));
    }
}
