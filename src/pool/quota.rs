//! Bounds shared by several pools.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::sync::Mutex;

/// A pool as its siblings see it. None of these is called while any lock is held.
pub(crate) trait Sibling: Send + Sync {
    /// When the connection it could best do without was laid down; the oldest first, `None` if it can spare none for a
    /// pool that has so many itself. An idle connection that no sweep has seen yet counts from its opening; one that has
    /// as many or more waits for that sweep, or what a small pool lays down for a moment would be opened again and again.
    fn spare(&self, held: usize) -> Option<Instant>;
    /// Closes one connection it can do without in favour of such a pool; false if there is none any more.
    fn yield_one(&self, held: usize) -> bool;
    /// A permit was freed, or can be: its manager should look.
    fn nudge(&self);
}

/// A pool that asks for a permit, and how it stands.
pub(crate) struct Asker<'a> {
    pub(crate) pool: &'a Weak<dyn Sibling>,
    /// Connections that it has, or is opening, besides the one that it asks for.
    pub(crate) held: usize,
    /// Connections that are guaranteed to it.
    pub(crate) floor: usize,
    pub(crate) now: Instant,
}

/// A pool without any connection that was refused for so long is given its turn by one that has no more than one.
const PATIENCE: Duration = Duration::from_millis(500);

/// Whoever has not asked again for so long is told of changes, and nobody makes room for it: managers ask each second.
const LASTING: Duration = Duration::from_secs(3);

/// A bound on the connections of several pools together: of a database, a user, a host, or all of them. Every
/// connection, and every attempt to open one, holds a permit of each quota of its pool until it leaves the pool.
pub struct Quota {
    name: Arc<str>,
    state: Mutex<State>,
    /// How many connections a pool has that can help one that was refused and not told since, or more; [`NOBODY`] if
    /// there is none. Written under the lock, read without it.
    starved: AtomicUsize,
    /// How many connections a pool has that owes one to another, or more; [`NOBODY`] if none does. Written under the
    /// lock, read without it.
    asked: AtomicUsize,
}

struct State {
    max: Option<usize>,
    used: usize,
    members: Vec<Weak<dyn Sibling>>,
    /// Pools that were refused, each once, in order, until they get a permit or want none any more.
    claims: Vec<Claim>,
    /// The latest moment at which anybody has asked.
    now: Option<Instant>,
}

/// No pool has so many connections.
const NOBODY: usize = usize::MAX;

/// What a pool that was refused is entitled to.
///
/// Permits go from pools that have more to pools that have less until they differ by no more than one, so that none goes
/// back and forth: each that goes brings the two nearer to each other. What is guaranteed comes before that, and whoever
/// has nothing at all is given a turn after a while, as there may be more pools than permits.
struct Claim {
    pool: Weak<dyn Sibling>,
    /// Connections that it had when it was last refused.
    held: usize,
    /// It has less than is guaranteed to it.
    lacks: bool,
    /// Since when it is refused while it has so many.
    since: Instant,
    /// When it was last refused.
    seen: Instant,
    /// It was told of a change, and has not asked since.
    told: bool,
}

impl Claim {
    /// A pool above its guaranteed share that has so many connections, or more, owes it one.
    fn owed_from(&self) -> usize {
        let waited = self.seen.saturating_duration_since(self.since);
        match self.lacks || (self.held == 0 && waited >= PATIENCE) {
            true => 1,
            false => self.held + 2,
        }
    }
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
            claims: Vec::new(),
            now: None,
        };
        Arc::new(Self {
            name: name.into(),
            state: Mutex::new(state),
            starved: AtomicUsize::new(NOBODY),
            asked: AtomicUsize::new(NOBODY),
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
            refused: state.claims.iter().filter(|claim| !claim.told).count(),
        }
    }

    /// Changes the maximum. Permits given out stay; if it grew, the pools that were refused are told.
    pub fn resize(&self, max: Option<usize>) {
        let mut state = self.state.lock();
        state.max = max;
        let told = self.changed(&mut state);
        drop(state);
        nudge(&told);
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
        drop(state);
        self.withdraw(member);
    }

    /// The pool wants no permit at the moment: nobody makes room for it, and what was kept for it is for others.
    pub(crate) fn withdraw(&self, member: &Weak<dyn Sibling>) {
        self.forget(|claim| same(&claim.pool, member));
    }

    /// As [`Self::withdraw`], of all pools that are no more.
    pub(crate) fn forget_the_gone(&self) {
        self.forget(|claim| claim.pool.strong_count() == 0);
    }

    fn forget(&self, gone: impl Fn(&Claim) -> bool) {
        let mut state = self.state.lock();
        let before = state.claims.len();
        state.claims.retain(|claim| !gone(claim));
        if state.claims.len() == before {
            return;
        }
        let told = self.changed(&mut state);
        drop(state);
        nudge(&told);
    }

    /// Takes a permit; closes the longest idle connection of a sibling if there is none. If that does not help, who asks
    /// stays noted as refused, and is nudged when that may change. Gives the maximum then. What is free is kept for
    /// those who are more entitled to it and were refused.
    ///
    /// It is noted before the siblings are asked: what one of them lays down is either found by asking, or its giver
    /// finds the note.
    pub(crate) fn take(&self, asker: &Asker<'_>) -> Result<(), usize> {
        match self.take_or_note(asker) {
            Ok(()) => return Ok(()),
            Err(Denial::Kept { max }) => return Err(max),
            Err(Denial::Full { .. }) => self.relieve(asker),
        }
        self.take_or_note(asker).map_err(|denial| match denial {
            Denial::Kept { max } | Denial::Full { max } => max,
        })
    }

    fn take_or_note(&self, asker: &Asker<'_>) -> Result<(), Denial> {
        let mut state = self.state.lock();
        state.now = state.now.max(Some(asker.now));
        state.claims.retain(|claim| claim.pool.strong_count() > 0);
        let mut claims = state.claims.iter();
        let noted = claims.position(|claim| same(&claim.pool, asker.pool));
        let free = state.free();
        if free > state.ahead_of(asker, noted) {
            state.used += 1;
            if let Some(index) = noted {
                state.claims.remove(index);
            }
            self.publish(&state);
            return Ok(());
        }
        state.note(asker, noted);
        self.publish(&state);
        let max = state.max.unwrap_or(usize::MAX);
        Err(match free {
            0 => Denial::Full { max },
            _ => Denial::Kept { max },
        })
    }

    /// Gives a permit back and tells all that were refused, in order; so none waits for one that lost interest.
    pub(crate) fn release(&self) {
        let mut state = self.state.lock();
        state.used = state.used.saturating_sub(1);
        let told = self.changed(&mut state);
        drop(state);
        nudge(&told);
    }

    /// Was anybody refused and not told since whom an idle connection of a pool that has so many would help? Costs one
    /// load.
    pub(crate) fn is_starved(&self, total: usize) -> bool {
        self.starved.load(Ordering::Acquire) <= total
    }

    /// Whether a pool above its guaranteed share that has so many connections owes one to another. If so, it has to close
    /// one: nobody else is asked until its permit is back. Costs one load while nobody is refused.
    pub(crate) fn asks(&self, total: usize) -> bool {
        let asked = self.asked.load(Ordering::Relaxed);
        let order = Ordering::Relaxed;
        let ask = |from| self.asked.compare_exchange(from, NOBODY, order, order);
        asked <= total && ask(asked).is_ok()
    }

    /// A member has a connection to spare: tells all that were refused.
    pub(crate) fn offer(&self) {
        let told = self.tell(&mut self.state.lock());
        nudge(&told);
    }

    /// Permits are free that were not before, or kept for nobody any more: whom to tell of it.
    fn changed(&self, state: &mut State) -> Vec<Weak<dyn Sibling>> {
        if state.free() > 0 {
            return self.tell(state);
        }
        self.publish(state);
        Vec::new()
    }

    fn tell(&self, state: &mut State) -> Vec<Weak<dyn Sibling>> {
        let untold = state.claims.iter_mut().filter(|claim| !claim.told);
        let told = untold.map(|claim| {
            claim.told = true;
            Weak::clone(&claim.pool)
        });
        let told = told.collect();
        self.publish(state);
        told
    }

    fn publish(&self, state: &State) {
        let untold = state.claims.iter().filter(|claim| !claim.told);
        let starved = untold.map(|claim| claim.held + 1).min();
        self.starved
            .store(starved.unwrap_or(NOBODY), Ordering::Release);
        self.asked.store(state.asked(), Ordering::Relaxed);
    }

    fn relieve(&self, asker: &Asker<'_>) {
        let members = self.state.lock().members.clone();
        let siblings = members
            .iter()
            .filter(|other| !same(other, asker.pool))
            .filter_map(Weak::upgrade);
        let mut sparing: Vec<_> = siblings
            .filter_map(|pool| pool.spare(asker.held).map(|since| (since, pool)))
            .collect();
        sparing.sort_by_key(|(since, _)| *since);
        // The first may have leased its connection meanwhile; then the next is asked.
        let _ = sparing.iter().any(|(_, pool)| pool.yield_one(asker.held));
    }
}

/// Why there is no permit.
enum Denial {
    /// All are in use.
    Full { max: usize },
    /// What is free is another's by right.
    Kept { max: usize },
}

impl State {
    fn free(&self) -> usize {
        self.max
            .map_or(usize::MAX, |max| max.saturating_sub(self.used))
    }

    /// Whether a claim is still one: its pool lives, and has asked not long ago.
    fn lasts(&self, claim: &Claim) -> bool {
        let now = self.now.unwrap_or(claim.seen);
        claim.pool.strong_count() > 0 && now.saturating_duration_since(claim.seen) < LASTING
    }

    /// How many claims come before a pool that asks: those to which it would owe what it takes. Of two that would owe it
    /// to each other the one comes first that was refused first, so that they do not wait for each other.
    fn ahead_of(&self, asker: &Asker<'_>, noted: Option<usize>) -> usize {
        let after = asker.held + 1;
        if self.claims.is_empty() || after <= asker.floor {
            return 0;
        }
        let own = noted.map(|index| self.claims[index].owed_from());
        let own = (own.unwrap_or(after + 1), noted.unwrap_or(usize::MAX));
        let before = |(index, claim): &(usize, &Claim)| {
            let from = claim.owed_from();
            from <= after && (from, *index) < own && self.lasts(claim)
        };
        self.claims.iter().enumerate().filter(before).count()
    }

    fn note(&mut self, asker: &Asker<'_>, noted: Option<usize>) {
        let known = noted.map(|index| &self.claims[index]);
        let since = known.filter(|known| known.held == asker.held);
        let claim = Claim {
            pool: Weak::clone(asker.pool),
            held: asker.held,
            lacks: asker.held < asker.floor,
            since: since.map_or(asker.now, |known| known.since),
            seen: asker.now,
            told: false,
        };
        match noted {
            Some(index) => self.claims[index] = claim,
            None => self.claims.push(claim),
        }
    }

    /// How many connections a pool has at least that owes one to a claim for which no permit is free.
    fn asked(&self) -> usize {
        if self.claims.is_empty() {
            return NOBODY;
        }
        let claims = self.claims.iter().filter(|claim| self.lasts(claim));
        let mut owed: Vec<usize> = claims.map(Claim::owed_from).collect();
        owed.sort_unstable();
        owed.get(self.free()).copied().unwrap_or(NOBODY)
    }
}

fn nudge(told: &[Weak<dyn Sibling>]) {
    for pool in told.iter().filter_map(Weak::upgrade) {
        pool.nudge();
    }
}

fn same(a: &Weak<dyn Sibling>, b: &Weak<dyn Sibling>) -> bool {
    std::ptr::addr_eq(a.as_ptr(), b.as_ptr())
}
