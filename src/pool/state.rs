//! What the lock guards: where every connection is, and who waits.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use pgherd_planted::{self as planted, Bug};

use crate::effects::Effects;
use crate::error::LeaseError;
use crate::limits::{Limits, Order};
use crate::line::Line;
use crate::lost::{LostCounts, LostReason};
use crate::meta::Meta;
use crate::permits::{Permits, Quotas};
use crate::quota::Quota;

/// How many of the idle connections next in order are looked at for one last used by the asking worker.
const AFFINITY_DEPTH: usize = 8;

/// How long a pool keeps its only connection although it owes it to another.
const TURN: Duration = Duration::from_millis(250);

/// Where a connection's value is.
pub(crate) enum Holding<C> {
    Idle { conn: C, since: Option<Instant> },
    Leased,
}

pub(crate) struct Record<C, I> {
    pub(crate) meta: Meta,
    pub(crate) info: Arc<I>,
    pub(crate) holding: Holding<C>,
    permits: Permits,
}

/// A connection on its way out of the pool.
pub(crate) struct Grant<C> {
    pub(crate) slot: usize,
    pub(crate) meta: Meta,
    pub(crate) conn: C,
}

pub(crate) struct Wait {
    pub(crate) since: Instant,
    pub(crate) worker: u16,
    pub(crate) wants: Wants,
    pub(crate) waker: Option<Waker>,
}

/// What a waiter takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wants {
    Any,
    /// One that nobody has used yet.
    New,
}

/// A waiter that was answered and has not yet looked.
struct Answered<C> {
    wait: Wait,
    answer: Result<Grant<C>, LeaseError>,
}

#[derive(Default)]
pub(crate) struct Totals {
    pub(crate) lost: LostCounts,
    pub(crate) opened: u64,
    pub(crate) leases: u64,
    pub(crate) waits: u64,
    pub(crate) wait_time: Duration,
}

pub(crate) struct State<C, I> {
    pub(crate) limits: Limits,
    pub(crate) quotas: Quotas,
    /// The one of them that has refused the last attempt to open.
    pub(crate) hindered: Option<Arc<Quota>>,
    pub(crate) records: Vec<Option<Record<C, I>>>,
    free: Vec<usize>,
    /// Slots of the idle connections, the one used last at the back.
    pub(crate) idle: VecDeque<usize>,
    /// Connections that exist: idle and leased.
    pub(crate) live: usize,
    pub(crate) opening: usize,
    /// Waiters by ticket, and so in the order of their coming.
    pub(crate) queue: Line<Wait>,
    /// Those of them who take nothing but what was opened just now; for each there is room or will be.
    pub(crate) choosy: Line<Wait>,
    answered: Line<Answered<C>>,
    next_ticket: u64,
    next_id: u64,
    pub(crate) epoch: u64,
    /// Raised by every fence and retirement: what began to open before is not taken in afterwards.
    pub(crate) generation: u64,
    pub(crate) paused: bool,
    /// There is nothing to connect to since then.
    pub(crate) held: Option<Instant>,
    /// When there was something to connect to again.
    pub(crate) released: Option<Instant>,
    pub(crate) closed: Option<Arc<str>>,
    /// How many wait for the pool to be quiet.
    pub(crate) watched: usize,
    pub(crate) totals: Totals,
}

impl<C, I> State<C, I> {
    pub(crate) fn new(limits: Limits, quotas: Quotas) -> Self {
        Self {
            limits,
            quotas,
            hindered: None,
            records: Vec::new(),
            free: Vec::new(),
            idle: VecDeque::new(),
            live: 0,
            opening: 0,
            queue: Line::new(),
            choosy: Line::new(),
            answered: Line::new(),
            next_ticket: 0,
            next_id: 1,
            epoch: 0,
            generation: 0,
            paused: false,
            held: None,
            released: None,
            closed: None,
            watched: 0,
            totals: Totals::default(),
        }
    }

    /// Whether no leases are given.
    pub(crate) fn is_stopped(&self) -> bool {
        self.paused || self.held.is_some()
    }

    pub(crate) fn leased(&self) -> usize {
        self.live - self.idle.len()
    }

    pub(crate) fn total(&self) -> usize {
        self.live + self.opening
    }

    pub(crate) fn oldest_wait(&self, now: Instant) -> Option<Duration> {
        let wait = self.queue.first()?;
        Some(now.saturating_duration_since(wait.since))
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        self.queue.len() + self.choosy.len()
    }

    /// How many connections may exist at this moment, the reserve included if it is open.
    pub(crate) fn allowed(&self, now: Instant) -> usize {
        let patient = self
            .oldest_wait(now)
            .is_none_or(|wait| wait < self.limits.reserve_after);
        if patient {
            self.limits.size
        } else {
            self.limits.ceiling()
        }
    }

    /// Connections missing for the waiters, the minimum and the successors, whatever the limits say.
    pub(crate) fn missing(&self) -> usize {
        if self.is_stopped() || self.closed.is_some() {
            return 0;
        }
        let ageing = self
            .records
            .iter()
            .flatten()
            .filter(|r| r.meta.ageing || r.meta.retire)
            .count();
        let lasting = self.total() - ageing;
        let for_waiters = self.waiting().saturating_sub(self.opening);
        for_waiters.max(self.limits.floor().saturating_sub(lasting))
    }

    /// Is a connection missing that could be opened without the reserve?
    pub(crate) fn wants_more(&self) -> bool {
        self.total() < self.limits.size
            && self.opening < self.limits.max_opening
            && self.missing() > 0
    }

    /// Takes an idle connection: the next in order, or one nearly as near that this worker used.
    pub(crate) fn take(&mut self, worker: u16) -> Option<Grant<C>> {
        if self.is_stopped() || self.closed.is_some() {
            return None;
        }
        let last = self.idle.len().checked_sub(1)?;
        let index = match self.limits.order {
            Order::Lifo => (self.idle.len().saturating_sub(AFFINITY_DEPTH)..=last)
                .rev()
                .find(|&index| self.used_by(index, worker))
                .unwrap_or(last),
            // Whoever asks for turns gets turns, also between workers.
            Order::Fifo => 0,
        };
        self.take_at(index, worker)
    }

    fn take_at(&mut self, index: usize, worker: u16) -> Option<Grant<C>> {
        let slot = self.idle.remove(index)?;
        let (meta, conn) = self.check_out(slot, worker)?;
        Some(Grant { slot, meta, conn })
    }

    /// Takes the idle connection used last that `fits`.
    pub(crate) fn pick(&mut self, worker: u16, fits: impl Fn(&C) -> bool) -> Option<Grant<C>> {
        if self.is_stopped() || self.closed.is_some() {
            return None;
        }
        let index = self.idle.iter().rposition(|&slot| {
            let record = self.records[slot].as_ref();
            record.is_some_and(|record| match &record.holding {
                Holding::Idle { conn, .. } => fits(conn),
                Holding::Leased => false,
            })
        })?;
        self.take_at(index, worker)
    }

    fn used_by(&self, index: usize, worker: u16) -> bool {
        self.records[self.idle[index]]
            .as_ref()
            .is_some_and(|record| record.meta.worker == worker)
    }

    fn check_out(&mut self, slot: usize, worker: u16) -> Option<(Meta, C)> {
        let record = self.records[slot].as_mut()?;
        let Holding::Idle { conn, .. } = std::mem::replace(&mut record.holding, Holding::Leased)
        else {
            return None;
        };
        record.meta.worker = worker;
        record.meta.uses += 1;
        self.totals.leases += 1;
        Some((record.meta, conn))
    }

    pub(crate) fn enqueue(&mut self, worker: u16, wants: Wants, now: Instant) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.line_up(
            ticket,
            Wait {
                since: now,
                worker,
                wants,
                waker: None,
            },
        );
        self.totals.waits += 1;
        ticket
    }

    fn line_up(&mut self, ticket: u64, wait: Wait) {
        match wait.wants {
            Wants::Any => self.queue.insert(ticket, wait),
            Wants::New => self.choosy.insert(ticket, wait),
        };
    }

    /// Ends a lease because its holder takes nothing but a new connection: this one goes back, unless its place is
    /// needed.
    pub(crate) fn exchange(&mut self, slot: usize, conn: C, fx: &mut Effects<C>) {
        let room = self.total() + self.choosy.len() < self.limits.size;
        let fault = (!room).then_some(LostReason::Exchanged);
        self.give_back(slot, conn, fault, fx);
    }

    /// Whether somebody waits for a new connection for which there is no room any more.
    pub(crate) fn is_cramped(&self) -> bool {
        self.opening < self.choosy.len() && self.total() >= self.limits.size
    }

    /// Closes an idle connection if somebody waits for a new one, which has no place or no permit.
    pub(crate) fn make_room(&mut self, fx: &mut Effects<C>) {
        if !self.choosy.is_empty()
            && let Some(&slot) = self.idle.front()
        {
            self.evict(slot, LostReason::Exchanged, fx);
        }
    }

    /// Takes in a connection that was opened; it goes to the oldest waiter or to the idle ones.
    pub(crate) fn admit(
        &mut self,
        conn: C,
        info: Arc<I>,
        epoch: u64,
        permits: Permits,
        now: Instant,
        fx: &mut Effects<C>,
    ) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        let meta = Meta {
            id,
            opened: now,
            epoch,
            worker: 0,
            uses: 0,
            retire: false,
            ageing: false,
        };
        let record = Record {
            meta,
            info,
            holding: Holding::Leased,
            permits,
        };
        let slot = self.free.pop().unwrap_or(self.records.len());
        if slot == self.records.len() {
            self.records.push(Some(record));
        } else {
            self.records[slot] = Some(record);
        }
        self.live += 1;
        self.totals.opened += 1;
        self.settle(slot, conn, fx);
        id
    }

    /// Ends a lease: the connection goes on if nothing speaks against it, and is closed otherwise.
    pub(crate) fn give_back(
        &mut self,
        slot: usize,
        conn: C,
        fault: Option<LostReason>,
        fx: &mut Effects<C>,
    ) {
        match fault.or_else(|| self.objection(slot)) {
            Some(reason) => {
                fx.close(conn);
                self.forget(slot, reason, fx);
            }
            None => self.settle(slot, conn, fx),
        }
    }

    fn objection(&self, slot: usize) -> Option<LostReason> {
        let meta = self.records[slot].as_ref()?.meta;
        if self.closed.is_some() {
            Some(LostReason::Closed)
        } else if meta.epoch < self.epoch && !planted::is(Bug::SkipFence) {
            Some(LostReason::Fenced)
        } else if meta.retire {
            Some(LostReason::Retired)
        } else if self.live > self.limits.ceiling() {
            Some(LostReason::Surplus)
        } else if self.is_cramped() {
            Some(LostReason::Exchanged)
        } else if self.is_owed(&meta) {
            Some(LostReason::Reclaimed)
        } else {
            None
        }
    }

    /// Whether a connection that comes back has to make room for one of another pool, which has less than this one and
    /// was refused. Where something lies idle, the other takes that instead.
    fn is_owed(&self, meta: &Meta) -> bool {
        let total = self.total();
        self.idle.is_empty()
            && self.live > self.limits.floor()
            && (total > 1 || self.has_had_its_turn(meta))
            && self.quotas.iter().any(|quota| quota.asks(total))
    }

    /// Whether the only connection has been here for a while, as the last in the queue tells, or more pools than there may
    /// be connections would open one for each transaction.
    fn has_had_its_turn(&self, meta: &Meta) -> bool {
        let last = self.queue.last();
        last.is_some_and(|wait| wait.since.saturating_duration_since(meta.opened) >= TURN)
    }

    /// Hands a good connection to the oldest waiter, or lays it with the idle ones.
    fn settle(&mut self, slot: usize, conn: C, fx: &mut Effects<C>) {
        let Some(record) = self.records[slot].as_mut() else {
            return;
        };
        record.holding = Holding::Idle { conn, since: None };
        let new = record.meta.uses == 0;
        let next = if self.is_stopped() {
            None
        } else if new && !self.choosy.is_empty() {
            self.choosy.pop_first()
        } else {
            self.queue.pop_first()
        };
        match next {
            Some((ticket, wait)) => self.answer(ticket, wait, slot, fx),
            None => {
                self.idle.push_back(slot);
                fx.spare = true;
            }
        }
    }

    fn answer(&mut self, ticket: u64, mut wait: Wait, slot: usize, fx: &mut Effects<C>) {
        let Some((meta, conn)) = self.check_out(slot, wait.worker) else {
            return;
        };
        fx.wake.extend(wait.waker.take());
        let answer = Ok(Grant { slot, meta, conn });
        self.answered.insert(ticket, Answered { wait, answer });
    }

    /// Serves waiters from the idle connections, after a pause.
    pub(crate) fn serve(&mut self, fx: &mut Effects<C>) {
        while !self.queue.is_empty() && !self.is_stopped() {
            let next = match self.limits.order {
                Order::Lifo => self.idle.pop_back(),
                Order::Fifo => self.idle.pop_front(),
            };
            let Some(slot) = next else {
                break;
            };
            let Some((ticket, wait)) = self.queue.pop_first() else {
                break;
            };
            self.answer(ticket, wait, slot, fx);
        }
    }

    /// Removes a connection that is neither idle nor to be found here again.
    pub(crate) fn forget(&mut self, slot: usize, reason: LostReason, fx: &mut Effects<C>) {
        let Some(record) = self.records[slot].take() else {
            return;
        };
        self.free.push(slot);
        self.live -= 1;
        self.totals.lost.add(reason);
        fx.free(record.permits);
        fx.hint = true;
    }

    /// Closes an idle connection.
    pub(crate) fn evict(&mut self, slot: usize, reason: LostReason, fx: &mut Effects<C>) {
        self.idle.retain(|&other| other != slot);
        if let Some(record) = self.records[slot].as_mut()
            && let Holding::Idle { conn, .. } =
                std::mem::replace(&mut record.holding, Holding::Leased)
        {
            fx.close(conn);
        }
        self.forget(slot, reason, fx);
    }

    /// Closes all idle connections, and takes back those handed to waiters who have not looked yet: these keep their
    /// tickets, and so their places in the order.
    pub(crate) fn clear(&mut self, reason: LostReason, fx: &mut Effects<C>) {
        for slot in std::mem::take(&mut self.idle) {
            self.evict(slot, reason, fx);
        }
        for (ticket, answered) in std::mem::replace(&mut self.answered, Line::new()) {
            match answered.answer {
                Ok(grant) => {
                    fx.close(grant.conn);
                    self.forget(grant.slot, reason, fx);
                    self.totals.leases -= 1;
                    self.line_up(ticket, answered.wait);
                }
                Err(_) => self.answered.insert(ticket, answered),
            }
        }
    }

    /// The number of who waits next.
    pub(crate) const fn next_ticket(&self) -> u64 {
        self.next_ticket
    }

    /// Answers every waiter below a number with the same error; says how many there were.
    pub(crate) fn fail(&mut self, error: &LeaseError, below: u64, fx: &mut Effects<C>) -> usize {
        let mut count = 0;
        let queue = std::mem::replace(&mut self.queue, Line::new());
        let choosy = std::mem::replace(&mut self.choosy, Line::new());
        for (ticket, mut wait) in queue.into_iter().chain(choosy) {
            if ticket >= below {
                self.line_up(ticket, wait);
                continue;
            }
            count += 1;
            fx.wake.extend(wait.waker.take());
            self.answered.insert(
                ticket,
                Answered {
                    wait,
                    answer: Err(error.clone()),
                },
            );
        }
        count
    }

    pub(crate) fn poll(
        &mut self,
        ticket: u64,
        waker: &Waker,
        fx: &mut Effects<C>,
    ) -> Poll<Result<Grant<C>, LeaseError>> {
        if let Some(Answered { wait, answer }) = self.answered.remove(ticket) {
            fx.spent.extend(wait.waker);
            return Poll::Ready(answer);
        }
        let waiting = match self.queue.get_mut(ticket) {
            Some(wait) => Some(wait),
            None => self.choosy.get_mut(ticket),
        };
        if let Some(wait) = waiting
            && !wait
                .waker
                .as_ref()
                .is_some_and(|known| known.will_wake(waker))
        {
            fx.spent.extend(wait.waker.replace(waker.clone()));
        }
        Poll::Pending
    }

    /// A waiter goes away; what it was given at that very moment goes to the next.
    pub(crate) fn leave(&mut self, ticket: u64, fx: &mut Effects<C>) {
        let left = self.queue.remove(ticket);
        if let Some(wait) = left.or_else(|| self.choosy.remove(ticket)) {
            fx.spent.extend(wait.waker);
            fx.spare = true;
        }
        if let Some(Answered { wait, answer }) = self.answered.remove(ticket) {
            fx.spent.extend(wait.waker);
            if let Ok(grant) = answer {
                self.give_back(grant.slot, grant.conn, None, fx);
            }
        }
    }

    /// What must hold after every operation.
    pub(crate) fn check(&self) {
        debug_assert!(
            self.idle.len() <= self.live,
            "an idle connection is not counted"
        );
        debug_assert_eq!(
            self.live + self.free.len(),
            self.records.len(),
            "a slot is lost or used twice"
        );
        debug_assert!(
            self.is_stopped() || self.queue.is_empty() || self.idle.is_empty(),
            "somebody waits while a connection is idle"
        );
        debug_assert_eq!(
            self.idle.len(),
            self.records
                .iter()
                .flatten()
                .filter(|r| matches!(r.holding, Holding::Idle { .. }))
                .count(),
            "a connection is not where the list of idle ones says"
        );
    }
}
