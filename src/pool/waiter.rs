//! A place in the queue.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use crate::core::PoolCore;
use crate::error::LeaseError;
use crate::lease::Lease;

/// A place in the queue of a pool; a future of the lease. Waiters are answered in the order of their coming. To drop
/// one is to leave: a connection given to it at that very moment goes to the next. Deadlines are the caller's.
///
/// Once it has answered, it stays pending for ever.
#[must_use = "a waiter that is dropped leaves the queue"]
pub struct Waiter<C: Send + 'static, I: Send + Sync + 'static = ()> {
    core: Arc<PoolCore<C, I>>,
    /// None once it was answered: then it has no place any more that it would have to leave.
    ticket: Option<u64>,
    since: Instant,
}

impl<C: Send + 'static, I: Send + Sync + 'static> Waiter<C, I> {
    pub(crate) const fn new(core: Arc<PoolCore<C, I>>, ticket: u64, since: Instant) -> Self {
        Self {
            core,
            ticket: Some(ticket),
            since,
        }
    }

    /// When the waiting began, by the caller's clock.
    #[must_use]
    pub const fn waiting_since(&self) -> Instant {
        self.since
    }

    /// How many wait before this one; none if it was answered.
    #[must_use]
    pub fn position(&self) -> Option<usize> {
        let ticket = self.ticket?;
        self.core.with(|state, _| state.queue.position(ticket))
    }
}

impl<C: Send + 'static, I: Send + Sync + 'static> Future for Waiter<C, I> {
    type Output = Result<Lease<C, I>, LeaseError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(ticket) = self.ticket else {
            return Poll::Pending;
        };
        let answer = self
            .core
            .with(|state, fx| state.poll(ticket, cx.waker(), fx));
        if answer.is_ready() {
            self.ticket = None;
        }
        answer.map_ok(|grant| Lease::new(Arc::clone(&self.core), grant))
    }
}

impl<C: Send + 'static, I: Send + Sync + 'static> Drop for Waiter<C, I> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.core.with(|state, fx| state.leave(ticket, fx));
        }
    }
}
