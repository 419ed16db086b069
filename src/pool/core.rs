//! The pool itself.

use std::sync::Arc;
use std::sync::Weak;
use std::time::{Duration, Instant};

use pgherd_planted::{self as planted, Bug};
use tokio::sync::Notify;

use crate::effects::Effects;
use crate::error::{Failure, LeaseError, Refused};
use crate::lease::Lease;
use crate::limits::Limits;
use crate::lost::LostReason;
use crate::meta::{Meta, Place, Seen};
use crate::opening::OpenSlot;
use crate::permits::{Hindrance, Permits};
use crate::quota::{Asker, Quota, Sibling};
use crate::snapshot::Snapshot;
use crate::state::{Holding, State, Wants};
use crate::sweep::{Age, SweepRules};
use crate::sync::{Flag, Mutex};
use crate::waiter::Waiter;

/// The accounting of one pool of connections `C`, each with a record `I` that can be shown while it is on loan.
///
/// Nothing here opens a connection. When one is wanted or was lost the `hint` is fired, once until the manager says
/// [`Self::heard`]; the manager then looks at [`Self::wanted`]. Giving a connection back to the idle ones fires no
/// hint, so that ordinary traffic sends no message: what is idle for too long is found by a regular [`Self::sweep`].
pub struct PoolCore<C: Send + 'static, I: Send + Sync + 'static = ()> {
    state: Mutex<State<C, I>>,
    dirty: Flag,
    hint: Box<dyn Fn() + Send + Sync>,
    quiet: Notify,
    /// Told when what began to open before is not taken in any more.
    pub(crate) turned: Notify,
}

/// The answer to a request for a connection.
#[must_use]
pub enum Ask<C: Send + 'static, I: Send + Sync + 'static = ()> {
    /// There was an idle one.
    Ready(Lease<C, I>),
    /// A place in the queue.
    Wait(Waiter<C, I>),
}

/// A moment in the queue of a pool, between those who had come by then and those who came later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark(u64);

impl<C: Send + 'static, I: Send + Sync + 'static> PoolCore<C, I> {
    /// An empty pool. `hint` may be called from any thread, never under a lock of the pool; it must not block.
    #[must_use]
    pub fn new(
        limits: Limits,
        quotas: Vec<Arc<Quota>>,
        hint: impl Fn() + Send + Sync + 'static,
    ) -> Arc<Self> {
        let core = Arc::new(Self {
            state: Mutex::new(State::new(limits, quotas.into())),
            dirty: Flag::new(),
            hint: Box::new(hint),
            quiet: Notify::new(),
            turned: Notify::new(),
        });
        let (me, quotas) = (
            core.sibling(),
            core.with(|state, _| Arc::clone(&state.quotas)),
        );
        for quota in quotas.iter() {
            quota.join(Weak::clone(&me));
        }
        core
    }

    /// Takes an idle connection, the next in the order of the limits, or one nearly as near that the same worker used.
    /// `None` if there is none, or the pool is paused or closed. Costs no allocation. The time is not needed yet for anything but order.
    #[must_use]
    pub fn try_lease(self: &Arc<Self>, worker: u16, _now: Instant) -> Option<Lease<C, I>> {
        // To lend what lay idle has no consequences that `with` would have to carry out.
        let grant = self.state.lock().take(worker)?;
        Some(Lease::new(Arc::clone(self), grant))
    }

    /// Takes an idle connection, or a place in the queue.
    ///
    /// # Errors
    /// [`LeaseError::QueueFull`] if too many wait, [`LeaseError::Closed`] if the pool was closed.
    pub fn lease(self: &Arc<Self>, worker: u16, now: Instant) -> Result<Ask<C, I>, LeaseError> {
        enum Got<G> {
            Grant(G),
            Ticket(u64),
        }
        let got = self.with(|state, fx| {
            if let Some(reason) = &state.closed {
                return Err(LeaseError::Closed(Arc::clone(reason)));
            }
            if let Some(grant) = state.take(worker) {
                return Ok(Got::Grant(grant));
            }
            let limit = state.limits.max_waiters;
            if state.queue.len() >= limit {
                return Err(LeaseError::QueueFull { limit });
            }
            let ticket = state.enqueue(worker, Wants::Any, now);
            // The first waiter is always told of: the manager must know when the reserve may be opened.
            let first = state.queue.len() == 1 && state.total() < state.limits.ceiling();
            fx.hint |= first || state.wants_more();
            Ok(Got::Ticket(ticket))
        })?;
        let core = Arc::clone(self);
        Ok(match got {
            Got::Grant(grant) => Ask::Ready(Lease::new(core, grant)),
            Got::Ticket(ticket) => Ask::Wait(Waiter::new(core, ticket, now)),
        })
    }

    /// Takes the idle connection used last that `fits`, which runs under the lock: it must be short, and must not
    /// touch the pool.
    #[must_use]
    pub fn pick(self: &Arc<Self>, worker: u16, fits: impl Fn(&C) -> bool) -> Option<Lease<C, I>> {
        let grant = self.state.lock().pick(worker, fits)?;
        Some(Lease::new(Arc::clone(self), grant))
    }

    /// Gives up a clean connection for one that is new. It goes back if there is room for another beside it, and is
    /// closed otherwise. Who waits so comes before all others, since it had had its turn, but only for what is opened
    /// from now on.
    ///
    /// # Errors
    /// [`LeaseError::Closed`] if the pool was closed.
    pub fn exchange(
        self: &Arc<Self>,
        lease: Lease<C, I>,
        worker: u16,
        now: Instant,
    ) -> Result<Waiter<C, I>, LeaseError> {
        let (slot, conn) = lease.into_parts();
        let ticket = self.with(|state, fx| {
            state.exchange(slot, conn, fx);
            if let Some(reason) = &state.closed {
                return Err(LeaseError::Closed(Arc::clone(reason)));
            }
            fx.hint = true;
            Ok(state.enqueue(worker, Wants::New, now))
        })?;
        Ok(Waiter::new(Arc::clone(self), ticket, now))
    }

    /// Adds to the sum of waiting times that [`Self::snapshot`] shows; told by whoever waited, since the pool has no
    /// clock.
    pub fn record_wait(&self, wait: Duration) {
        self.with(|state, _| {
            state.totals.wait_time = state.totals.wait_time.saturating_add(wait);
        });
    }

    /// The manager has heard the hint and is about to look; to be called before looking, or a hint may be missed.
    pub fn heard(&self) {
        self.dirty.lower();
    }

    /// How many connections the manager should begin to open now, for waiters, the minimum and successors of ageing
    /// ones, within all limits. Where a quota is used up it is still one, since [`Self::begin_open`] may relieve it. If it
    /// is none, the pool withdraws, too.
    #[must_use]
    pub fn wanted(self: &Arc<Self>, now: Instant) -> usize {
        let (wanted, quotas) = self.with(|state, fx| {
            if state.is_cramped() {
                state.make_room(fx);
            }
            let room = state.allowed(now).saturating_sub(state.total());
            let logins = state.limits.max_opening.saturating_sub(state.opening);
            let wanted = state.missing().min(room).min(logins);
            (wanted, Arc::clone(&state.quotas))
        });
        if wanted == 0 {
            self.withdraw();
            return 0;
        }
        let left = quotas.iter().filter_map(|quota| quota.left()).min();
        wanted.min(left.unwrap_or(usize::MAX).max(1))
    }

    /// Nothing is opened here for the time being: what siblings would have to give this pool, as quotas have refused it,
    /// they keep until it asks again.
    pub fn withdraw(self: &Arc<Self>) {
        let quotas = self.with(|state, _| Arc::clone(&state.quotas));
        let me = self.sibling();
        quotas.iter().for_each(|quota| quota.withdraw(&me));
    }

    /// Takes a place, and a permit of each quota, for a connection to be opened. A quota that is used up is relieved,
    /// if possible, by closing the longest idle connection of a sibling pool above its minimum. A pool refused by a
    /// quota gets a hint when a permit is freed or a sibling can spare a connection. Siblings that have more than it
    /// close what comes back to them in its favour, whoever waits there, until it asks no more or is as well off.
    ///
    /// # Errors
    /// The limit that forbids it.
    pub fn begin_open(self: &Arc<Self>, now: Instant) -> Result<OpenSlot<C, I>, Refused> {
        let asked = self.with(|state, _| {
            if let Some(reason) = &state.closed {
                return Err(Refused::Closed(Arc::clone(reason)));
            }
            let limit = state.allowed(now);
            if state.total() >= limit {
                return Err(Refused::Size { limit });
            }
            let limit = state.limits.max_opening;
            if state.opening >= limit {
                return Err(Refused::Opening { limit });
            }
            let (held, floor) = (state.total(), state.limits.floor());
            state.opening += 1;
            let limits = (Arc::clone(&state.quotas), state.hindered.clone());
            Ok((state.epoch, state.generation, limits, held, floor))
        });
        let (epoch, generation, (quotas, last), held, floor) = match asked {
            Ok(asked) => asked,
            Err(refused) => {
                // What it was told of is for others.
                self.withdraw();
                return Err(refused);
            }
        };
        let asker = Asker {
            pool: &self.sibling(),
            held,
            floor,
            now,
        };
        match Permits::take(Arc::clone(&quotas), last.as_ref(), &asker) {
            Ok(permits) => {
                if last.is_some() {
                    self.with(|state, _| state.hindered = None);
                }
                Ok(OpenSlot::new(Arc::clone(self), epoch, generation, permits))
            }
            Err(Hindrance { quota, max }) => {
                let name = Arc::clone(quota.name());
                let now = self.with(|state, fx| {
                    state.opening -= 1;
                    state.make_room(fx);
                    state.hindered = has(&state.quotas, &quota).then_some(quota);
                    Arc::clone(&state.quotas)
                });
                // A pool that was moved meanwhile was noted behind the move, which has looked for its claims.
                for left in quotas.iter().filter(|quota| !has(&now, quota)) {
                    left.withdraw(asker.pool);
                }
                Err(Refused::Quota { name, max })
            }
        }
    }

    /// Takes out what is too old, too idle or too many, to be closed by the caller. Idleness never brings the pool
    /// below its minimum. Leased connections at their end are closed when they come back.
    #[must_use]
    pub fn sweep(&self, now: Instant, rules: &SweepRules<impl Fn(&Meta) -> Age>) -> Vec<C> {
        self.with(|state, fx| {
            state.sweep(now, rules, fx);
            fx.take_closed()
        })
    }

    /// Answers all waiters with an error; says how many there were.
    pub fn fail_waiters(&self, error: Failure) -> usize {
        self.fail_waiters_before(Mark(u64::MAX), error)
    }

    /// A mark behind all who wait by now.
    #[must_use]
    pub fn mark(&self) -> Mark {
        self.with(|state, _| Mark(state.next_ticket()))
    }

    /// Answers those waiters with an error who came before a mark; says how many there were.
    pub fn fail_waiters_before(&self, mark: Mark, error: Failure) -> usize {
        let error = LeaseError::Failed(error);
        self.with(|state, fx| state.fail(&error, mark.0, fx))
    }

    /// Raises the epoch: idle connections are given out for closing, those on loan or being opened are closed when
    /// they come. A connection that a waiter was given and has not seen is taken back, and the waiter keeps its place.
    /// Does nothing if the epoch is not above the current one.
    #[must_use]
    pub fn fence(&self, epoch: u64) -> Vec<C> {
        self.with(|state, fx| {
            if epoch <= state.epoch {
                return Vec::new();
            }
            state.epoch = epoch;
            state.generation += 1;
            if !planted::is(Bug::SkipFence) {
                state.clear(LostReason::Fenced, fx);
            }
            fx.turned = true;
            fx.take_closed()
        })
    }

    /// The epoch: connections of an earlier one are not used any more.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.state.lock().epoch
    }

    /// Takes an epoch of another cluster, whose count may be below the current one: then all connections are replaced as
    /// by [`Self::retire_all`], since nothing tells from which of the two they are.
    #[must_use]
    pub fn rebase(&self, epoch: u64) -> Vec<C> {
        let is_below = self.with(|state, _| {
            let is_below = epoch < state.epoch;
            if is_below {
                state.epoch = epoch;
            }
            is_below
        });
        match is_below {
            true => self.retire_all(),
            false => self.fence(epoch),
        }
    }

    /// Replaces all connections: idle ones are given out for closing, the others are closed when they come back.
    #[must_use]
    pub fn retire_all(&self) -> Vec<C> {
        self.with(|state, fx| {
            state.generation += 1;
            state.clear(LostReason::Retired, fx);
            fx.turned = true;
            for record in state.records.iter_mut().flatten() {
                record.meta.retire = true;
            }
            fx.take_closed()
        })
    }

    /// Gives no leases until [`Self::resume`]; who asks, waits.
    pub fn pause(&self) {
        self.with(|state, _| state.paused = true);
    }

    /// Ends a pause and serves the waiters.
    pub fn resume(&self) {
        self.with(|state, fx| {
            state.paused = false;
            state.serve(fx);
            fx.hint |= state.missing() > 0;
        });
    }

    /// Gives no leases and opens nothing until [`Self::release`], since there is no server to connect to; who asks,
    /// waits. It is apart from a pause: each ends by itself.
    pub fn hold(&self, now: Instant) {
        self.with(|state, _| {
            state.held.get_or_insert(now);
        });
    }

    /// Ends [`Self::hold`] and serves the waiters.
    pub fn release(&self, now: Instant) {
        self.with(|state, fx| {
            if state.held.take().is_some() {
                state.released = Some(now);
            }
            state.serve(fx);
            fx.hint |= state.missing() > 0;
        });
    }

    /// Since when the pool is held, if it is.
    #[must_use]
    pub fn held(&self) -> Option<Instant> {
        self.state.lock().held
    }

    /// When the last hold has ended, if there was one.
    #[must_use]
    pub fn released(&self) -> Option<Instant> {
        self.state.lock().released
    }

    /// Is the pool paused?
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.state.lock().paused
    }

    /// Is nothing leased at this moment?
    #[must_use]
    pub fn quiesced(&self) -> bool {
        self.with(|state, _| state.leased() == 0)
    }

    /// Waits until nothing is leased. Unless the pool is paused or closed this may already be over when it returns.
    pub async fn quiet(&self) {
        let _watch = Watch::new(self);
        loop {
            let mut notified = std::pin::pin!(self.quiet.notified());
            // Registered before looking, so that a lease that ends in between is not missed.
            notified.as_mut().enable();
            if self.quiesced() {
                return;
            }
            notified.await;
        }
    }

    /// Closes the pool for good: waiters and later requests are told the reason, idle connections are given out for
    /// closing, those on loan are closed when they come back. Only the first reason counts.
    #[must_use]
    pub fn close(&self, reason: impl Into<Arc<str>>) -> Vec<C> {
        let reason = reason.into();
        self.with(|state, fx| {
            if state.closed.is_none() {
                state.closed = Some(Arc::clone(&reason));
                state.clear(LostReason::Closed, fx);
                fx.turned = true;
                state.fail(&LeaseError::Closed(reason), u64::MAX, fx);
            }
            fx.take_closed()
        })
    }

    /// Changes the limits. What is too many is closed when it comes back or at the next sweep.
    pub fn resize(&self, limits: Limits) {
        self.with(|state, fx| {
            state.limits = limits;
            fx.spare = true;
            fx.hint = true;
        });
    }

    /// Makes connections opened from now on count towards these quotas. Those that exist count where they did, until
    /// they end; so whoever moves a pool to another host also retires them.
    pub fn move_to(self: &Arc<Self>, quotas: Vec<Arc<Quota>>) {
        let me = self.sibling();
        let before = self.with(|state, fx| {
            fx.hint = true;
            state.hindered = None;
            std::mem::replace(&mut state.quotas, quotas.clone().into())
        });
        for quota in before.iter().filter(|quota| !has(&quotas, quota)) {
            quota.leave(&me);
        }
        for quota in quotas.iter().filter(|quota| !has(&before, quota)) {
            quota.join(Weak::clone(&me));
        }
    }

    /// How many have a connection or wait for one.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.with(|state, _| state.leased() + state.waiting())
    }

    /// Gives up to `count` idle connections for closing, the longest idle first, so that another pool may have their
    /// permits: none while somebody waits here, and none of the minimum.
    #[must_use]
    pub fn reclaim(&self, count: usize) -> Vec<C> {
        self.with(|state, fx| {
            for _ in 0..count {
                let slot = spare_slot(state).filter(|_| state.queue.is_empty());
                let Some(slot) = slot else { break };
                state.evict(slot, LostReason::Reclaimed, fx);
            }
            fx.take_closed()
        })
    }

    /// The figures of this moment.
    #[must_use]
    pub fn snapshot(&self, now: Instant) -> Snapshot {
        self.with(|state, _| Snapshot {
            limits: state.limits,
            idle: state.idle.len(),
            leased: state.leased(),
            opening: state.opening,
            waiting: state.waiting(),
            oldest_wait: state.oldest_wait(now),
            epoch: state.epoch,
            paused: state.paused,
            held: state.held,
            closed: state.closed.is_some(),
            lost: state.totals.lost,
            opened: state.totals.opened,
            leases: state.totals.leases,
            waits: state.totals.waits,
            wait_time: state.totals.wait_time,
        })
    }

    /// Shows every connection. `show` runs under the lock: it must be short, and must not touch the pool.
    pub fn each(&self, mut show: impl FnMut(Seen<'_, C, I>)) {
        self.with(|state, _| {
            for record in state.records.iter().flatten() {
                let (place, conn) = match &record.holding {
                    Holding::Idle { conn, .. } => (Place::Idle, Some(conn)),
                    Holding::Leased => (Place::Leased, None),
                };
                show(Seen {
                    meta: &record.meta,
                    place,
                    info: &record.info,
                    conn,
                });
            }
        });
    }

    /// Acts under the lock, then carries out the consequences without it.
    pub(crate) fn with<R>(&self, act: impl FnOnce(&mut State<C, I>, &mut Effects<C>) -> R) -> R {
        let mut fx = Effects::new();
        let result = {
            let mut state = self.state.lock();
            let result = act(&mut state, &mut fx);
            state.check();
            // Looked at under the lock: who was refused before it was taken is seen, who is refused after it looks here.
            let total = state.total();
            let starved = fx.spare && state.quotas.iter().any(|quota| quota.is_starved(total));
            if starved && spare_slot(&state).is_some() {
                fx.offer(Arc::clone(&state.quotas), total);
            }
            fx.quiet = state.watched > 0 && state.leased() == 0;
            result
        };
        self.carry_out(&mut fx);
        result
    }

    /// Mostly there is nothing to do.
    #[inline]
    fn carry_out(&self, fx: &mut Effects<C>) {
        fx.wake.wake();
        fx.spent.clear();
        if let Some(rare) = fx.rare.take() {
            rare.carry_out();
        }
        if fx.quiet {
            self.quiet.notify_waiters();
        }
        if fx.turned {
            self.turned.notify_waiters();
        }
        if fx.hint {
            self.nudge();
        }
    }

    fn sibling(self: &Arc<Self>) -> Weak<dyn Sibling> {
        let me: Weak<Self> = Arc::downgrade(self);
        me
    }
}

fn has(all: &[Arc<Quota>], one: &Arc<Quota>) -> bool {
    all.iter().any(|it| Arc::ptr_eq(it, one))
}

/// The longest idle connection, if the pool can do without it. Who waits while one lies idle is not served for now.
fn spare_slot<C, I>(state: &State<C, I>) -> Option<usize> {
    let spare = state.queue.is_empty() || state.is_stopped();
    let spare = spare && state.live > state.limits.floor();
    state.idle.front().copied().filter(|_| spare)
}

/// Since when that has lain idle, if the pool can do without it in favour of one that whoever has `from` can help.
fn spare_for<C, I>(state: &State<C, I>, from: usize) -> Option<(usize, Instant)> {
    let slot = spare_slot(state)?;
    let record = state.records[slot].as_ref()?;
    match record.holding {
        Holding::Idle {
            since: Some(since), ..
        } => Some((slot, since)),
        Holding::Idle { since: None, .. } if from <= state.total() => {
            Some((slot, record.meta.opened))
        }
        Holding::Idle { .. } | Holding::Leased => None,
    }
}

impl<C: Send + 'static, I: Send + Sync + 'static> Sibling for PoolCore<C, I> {
    fn spare(&self, from: usize) -> Option<Instant> {
        self.with(|state, _| spare_for(state, from).map(|(_, since)| since))
    }

    fn yield_one(&self, from: usize) -> bool {
        self.with(|state, fx| {
            let spare = spare_for(state, from);
            if let Some((slot, _)) = spare {
                state.evict(slot, LostReason::Reclaimed, fx);
            }
            spare.is_some()
        })
    }

    fn nudge(&self) {
        if self.dirty.raise() {
            (self.hint)();
        }
    }
}

impl<C: Send + 'static, I: Send + Sync + 'static> Drop for PoolCore<C, I> {
    fn drop(&mut self) {
        // Leases, waiters and slots keep the pool alive, so only idle connections are left.
        let idle = self.close("the pool is gone");
        drop(idle);
        let quotas = self.with(|state, _| Arc::clone(&state.quotas));
        quotas.iter().for_each(|quota| quota.forget_the_gone());
    }
}

/// Counts one who waits for quiet, for as long as it waits.
struct Watch<'a, C: Send + 'static, I: Send + Sync + 'static>(&'a PoolCore<C, I>);

impl<'a, C: Send + 'static, I: Send + Sync + 'static> Watch<'a, C, I> {
    fn new(core: &'a PoolCore<C, I>) -> Self {
        core.with(|state, _| state.watched += 1);
        Self(core)
    }
}

impl<C: Send + 'static, I: Send + Sync + 'static> Drop for Watch<'_, C, I> {
    fn drop(&mut self) {
        self.0.with(|state, _| state.watched -= 1);
    }
}
