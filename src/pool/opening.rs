//! A place held while a connection is being opened.

use std::sync::Arc;
use std::time::Instant;

use crate::core::PoolCore;
use crate::lost::LostReason;
use crate::permits::Permits;

/// A place in the pool, and a permit of each quota, held while a connection is being opened. Dropped unfilled, the
/// attempt is given up and the place is free.
#[must_use = "a slot that is dropped gives up its place"]
pub struct OpenSlot<C: Send + 'static, I: Send + Sync + 'static = ()> {
    core: Arc<PoolCore<C, I>>,
    epoch: u64,
    generation: u64,
    /// Present until it is filled.
    permits: Option<Permits>,
}

impl<C: Send + 'static, I: Send + Sync + 'static> OpenSlot<C, I> {
    pub(crate) const fn new(
        core: Arc<PoolCore<C, I>>,
        epoch: u64,
        generation: u64,
        permits: Permits,
    ) -> Self {
        Self {
            core,
            epoch,
            generation,
            permits: Some(permits),
        }
    }

    /// Resolves when the connection would not be taken any more: the pool was closed, fenced or retired since.
    pub async fn outdated(&self) {
        loop {
            let mut turned = std::pin::pin!(self.core.turned.notified());
            // Registered before looking, so that a change in between is not missed.
            turned.as_mut().enable();
            let outdated = self
                .core
                .with(|state, _| state.closed.is_some() || self.generation < state.generation);
            if outdated {
                return;
            }
            turned.await;
        }
    }

    /// The epoch in which the opening began, and to which the connection will belong.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Puts an opened connection into the pool, with the record to be shown for it: it goes to the oldest waiter, or
    /// to the idle ones. Gives its number.
    ///
    /// # Errors
    /// If the pool was closed, fenced or retired since the opening began, the connection is dropped and the reason
    /// is given.
    pub fn fill_with(mut self, conn: C, info: Arc<I>, now: Instant) -> Result<u64, LostReason> {
        let permits = self.permits.take().expect(HELD);
        self.core.with(|state, fx| {
            state.opening -= 1;
            let objection = if state.closed.is_some() {
                Some(LostReason::Closed)
            } else if self.epoch < state.epoch {
                Some(LostReason::Fenced)
            } else if self.generation < state.generation {
                Some(LostReason::Retired)
            } else {
                None
            };
            if let Some(reason) = objection {
                fx.close(conn);
                fx.free(permits);
                fx.hint = true;
                state.totals.lost.add(reason);
                return Err(reason);
            }
            let id = state.admit(conn, info, self.epoch, permits, now, fx);
            fx.hint |= state.wants_more();
            Ok(id)
        })
    }
}

const HELD: &str = "a slot holds its permits until it is consumed";

impl<C: Send + 'static> OpenSlot<C> {
    /// As [`Self::fill_with`], where there is no record to show.
    ///
    /// # Errors
    /// As there.
    pub fn fill(self, conn: C, now: Instant) -> Result<u64, LostReason> {
        self.fill_with(conn, Arc::new(()), now)
    }
}

impl<C: Send + 'static, I: Send + Sync + 'static> Drop for OpenSlot<C, I> {
    fn drop(&mut self) {
        let Some(permits) = self.permits.take() else {
            return;
        };
        self.core.with(|state, fx| {
            state.opening -= 1;
            state.totals.lost.add(LostReason::GivenUp);
            fx.free(permits);
            fx.hint = true;
        });
    }
}
