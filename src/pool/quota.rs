//! Bounds shared by several pools.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use crate::sync::Mutex;

/// A pool as its siblings see it. None of these is called while any lock is held.
pub(crate) trait Sibling: Send + Sync {
    /// When the connection it could best do without was laid down; the oldest first, `None` if it can spare none.
    /// An idle connection that no sweep has seen yet counts from its opening.
    fn spare(&self) -> Option<Instant>;
    /// Closes one connection it can do without; false if there is none any more.
    fn yield_one(&self) -> bool;
    /// A permit was freed, or can be: its manager should look.
    fn nudge(&self);
}

/// A bound on the connections of several pools together: of a database, a user, a host, or all of them. Every
/// connection, and every attempt to open one, holds a permit of each quota of its pool until it leaves the pool.
pub struct Quota {
    name: Arc<str>,
    state: Mutex<State>,
    /// Was anybody refused and not told since? Written under the lock, read without it.
    starved: AtomicBool,
}

struct State {
    max: Option<usize>,
    used: usize,
    members: Vec<Weak<dyn Sibling>>,
    /// Pools that were refused, each once, in order.
    refused: VecDeque<Weak<dyn Sibling>>,
}

/// How a quota stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pressure {
    /// Connections allowed; none if there is no bound.
    pub max: Option<usize>,
    /// Permits in use.
    pub used: usize,
    /// Pools that were refused and have not been told of a change since.
    pub refused: usize,
}

impl Quota {
    /// A quota with a name to be shown in errors. Without a maximum it only counts.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, max: Option<usize>) -> Arc<Self> {
        let state = State {
            max,
            used: 0,
            members: Vec::new(),
            refused: VecDeque::new(),
        };
        Arc::new(Self {
            name: name.into(),
            state: Mutex::new(state),
            starved: AtomicBool::new(false),
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// How it stands.
    #[must_use]
    pub fn pressure(&self) -> Pressure {
        let state = self.state.lock();
        Pressure {
            max: state.max,
            used: state.used,
            refused: state.refused.len(),
        }
    }

    /// Changes the maximum. Permits given out stay; if it grew, the pools that were refused are told.
    pub fn resize(&self, max: Option<usize>) {
        let mut state = self.state.lock();
        state.max = max;
        let told = if state.full() {
            VecDeque::new()
        } else {
            self.forget_refused(&mut state)
        };
        drop(state);
        nudge(told);
    }

    /// Permits left; none if there is no bound.
    pub(crate) fn left(&self) -> Option<usize> {
        let state = self.state.lock();
        state.max.map(|max| max.saturating_sub(state.used))
    }

    pub(crate) fn join(&self, member: Weak<dyn Sibling>) {
        let mut state = self.state.lock();
        state.members.retain(|known| known.strong_count() > 0);
        state.members.push(member);
    }

    /// Forgets a pool whose connections count here no more.
    pub(crate) fn leave(&self, member: &Weak<dyn Sibling>) {
        let mut state = self.state.lock();
        state.members.retain(|known| !same(known, member));
        state.refused.retain(|known| !same(known, member));
        self.starved
            .store(!state.refused.is_empty(), Ordering::Release);
    }

    /// Takes a permit; closes the longest idle connection of a sibling if there is none. If that does not help, `me`
    /// stays noted as refused, and is nudged when that may change. Gives the maximum then.
    ///
    /// It is noted before the siblings are asked: what one of them lays down is either found by asking, or its giver
    /// finds the note.
    pub(crate) fn take(&self, me: &Weak<dyn Sibling>) -> Result<(), usize> {
        if self.take_or_note(me).is_ok() {
            return Ok(());
        }
        self.relieve(me);
        self.take_or_note(me)
    }

    fn take_or_note(&self, me: &Weak<dyn Sibling>) -> Result<(), usize> {
        let mut state = self.state.lock();
        let noted = state.refused.iter().position(|known| same(known, me));
        if state.try_take() {
            if let Some(index) = noted {
                state.refused.remove(index);
            }
            self.starved
                .store(!state.refused.is_empty(), Ordering::Release);
            return Ok(());
        }
        if noted.is_none() {
            state.refused.retain(|known| known.strong_count() > 0);
            state.refused.push_back(Weak::clone(me));
        }
        self.starved.store(true, Ordering::Release);
        Err(state.max.unwrap_or(usize::MAX))
    }

    /// Gives a permit back and tells all that were refused, in order; so none waits for one that lost interest.
    pub(crate) fn release(&self) {
        let mut state = self.state.lock();
        state.used = state.used.saturating_sub(1);
        let told = if state.full() {
            VecDeque::new()
        } else {
            self.forget_refused(&mut state)
        };
        drop(state);
        nudge(told);
    }

    /// Was anybody refused and not told since? Costs one load.
    pub(crate) fn is_starved(&self) -> bool {
        self.starved.load(Ordering::Acquire)
    }

    /// A member has a connection to spare: tells all that were refused.
    pub(crate) fn offer(&self) {
        let told = self.forget_refused(&mut self.state.lock());
        nudge(told);
    }

    fn forget_refused(&self, state: &mut State) -> VecDeque<Weak<dyn Sibling>> {
        self.starved.store(false, Ordering::Release);
        std::mem::take(&mut state.refused)
    }

    fn relieve(&self, me: &Weak<dyn Sibling>) {
        let members = self.state.lock().members.clone();
        let siblings = members
            .iter()
            .filter(|other| !same(other, me))
            .filter_map(Weak::upgrade);
        let mut sparing: Vec<_> = siblings
            .filter_map(|pool| pool.spare().map(|since| (since, pool)))
            .collect();
        sparing.sort_by_key(|(since, _)| *since);
        // The first may have leased its connection meanwhile; then the next is asked.
        let _ = sparing.iter().any(|(_, pool)| pool.yield_one());
    }
}

impl State {
    fn full(&self) -> bool {
        self.max.is_some_and(|max| self.used >= max)
    }

    fn try_take(&mut self) -> bool {
        let free = !self.full();
        self.used += usize::from(free);
        free
    }
}

fn nudge(told: VecDeque<Weak<dyn Sibling>>) {
    for pool in told.iter().filter_map(Weak::upgrade) {
        pool.nudge();
    }
}

fn same(a: &Weak<dyn Sibling>, b: &Weak<dyn Sibling>) -> bool {
    std::ptr::addr_eq(a.as_ptr(), b.as_ptr())
}
