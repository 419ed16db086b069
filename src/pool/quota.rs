//! Bounds shared by several pools.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::sync::Mutex;

/// A pool as its siblings see it. None of these is called while any lock is held.
pub(crate) trait Sibling: Send + Sync {
    /// When the connection it could best do without was laid down; the oldest first, `None` if it can spare none for a
    /// pool that whoever has `from` connections can help. An idle connection that no sweep has seen yet counts from its
    /// opening; where there are fewer it waits for that sweep, or what a small pool lays down for a moment would be opened
    /// again and again.
    fn spare(&self, from: usize) -> Option<Instant>;
    /// Closes one connection it can do without in favour of such a pool; false if there is none any more.
    fn yield_one(&self, from: usize) -> bool;
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

impl Asker<'_> {
    const fn lacks(&self) -> bool {
        self.held < self.floor
    }

    const fn helped_from(&self) -> usize {
        helped_from(self.lacks(), self.held)
    }
}

/// A pool that has so many connections, or more, can help one that has `held` with what it lays down for a moment. To one
/// that lacks what is guaranteed to it any can, by the same measure as connections are owed.
const fn helped_from(lacks: bool, held: usize) -> usize {
    if lacks { 1 } else { held + 1 }
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
    /// It was told, and then another limit has refused it; somebody else was told in its place.
    passed: bool,
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

    fn helped_from(&self) -> usize {
        helped_from(self.lacks, self.held)
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
        let is_told = |claim: &Claim| claim.told && !claim.passed;
        let unheard = state.claims.iter().filter(|it| gone(it) && is_told(it));
        let unheard = unheard.count();
        let before = state.claims.len();
        state.claims.retain(|claim| !gone(claim));
        if state.claims.len() == before {
            return;
        }
        // What they were told of may be an idle connection.
        let most = state.free().max(unheard);
        let told = self.tell(&mut state, most);
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
        self.ask(asker, Wish::Take)
    }

    /// As [`Self::take`], but the permit stays where it is, and so does the claim to it.
    pub(crate) fn look(&self, asker: &Asker<'_>) -> Result<(), usize> {
        self.ask(asker, Wish::Look)
    }

    fn ask(&self, asker: &Asker<'_>, wish: Wish) -> Result<(), usize> {
        match self.grant_or_note(asker, wish) {
            Ok(()) => return Ok(()),
            Err(Denial::Kept { max }) => return Err(max),
            Err(Denial::Full { .. }) => self.relieve(asker),
        }
        let granted = self.grant_or_note(asker, wish);
        if granted.is_ok() {
            // There may be more where that came from.
            self.offer();
        }
        granted.map_err(|denial| match denial {
            Denial::Kept { max } | Denial::Full { max } => max,
        })
    }

    fn grant_or_note(&self, asker: &Asker<'_>, wish: Wish) -> Result<(), Denial> {
        let mut state = self.state.lock();
        state.now = state.now.max(Some(asker.now));
        let mut claims = state.claims.iter();
        let noted = claims.position(|claim| same(&claim.pool, asker.pool));
        let free = state.free();
        let ahead = state.ahead_of(asker, noted);
        if free > ahead.len() {
            if wish == Wish::Take {
                state.used += 1;
                if let Some(index) = noted {
                    state.claims.remove(index);
                }
            }
            self.publish(&state);
            return Ok(());
        }
        // They may have been less entitled than this one when it was told.
        let untold = ahead.into_iter().take(free);
        let told: Vec<_> = untold.filter_map(|index| state.tell(index)).collect();
        state.note(asker, noted);
        self.publish(&state);
        let max = state.max.unwrap_or(usize::MAX);
        drop(state);
        nudge(&told);
        Err(match free {
            0 => Denial::Full { max },
            _ => Denial::Kept { max },
        })
    }

    /// The pool, which may have been told of a permit here, was refused by another limit: somebody else is told.
    pub(crate) fn pass(&self, member: &Weak<dyn Sibling>) {
        let mut state = self.state.lock();
        let mut claims = state.claims.iter_mut();
        let noted = claims.find(|claim| same(&claim.pool, member));
        let Some(claim) = noted.filter(|claim| claim.told && !claim.passed) else {
            return;
        };
        claim.passed = true;
        let most = state.free().min(1);
        let told = self.tell(&mut state, most);
        drop(state);
        nudge(&told);
    }

    /// Gives a permit back, and tells who is the most entitled to it of those that were refused.
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

    /// A member has a connection to spare: tells the first of those that were refused.
    pub(crate) fn offer(&self) {
        let told = self.tell(&mut self.state.lock(), 1);
        nudge(&told);
    }

    /// Permits are free that were not before, or kept for nobody any more: whom to tell of it.
    fn changed(&self, state: &mut State) -> Vec<Weak<dyn Sibling>> {
        let free = state.free();
        self.tell(state, free)
    }

    /// Tells no more than can be served, the most entitled first: each looks at what all have, and so all of them together
    /// would at each permit. None is lost by that: who was told and takes nothing has the next told, whether it withdraws,
    /// ends, or is refused.
    fn tell(&self, state: &mut State, most: usize) -> Vec<Weak<dyn Sibling>> {
        let (mut told, mut left) = (Vec::new(), most);
        let order = match most {
            0 => Vec::new(),
            _ => state.by_entitlement(|claim| !claim.told),
        };
        for index in order {
            if left == 0 {
                break;
            }
            // Of who has not asked for long it is not known whether it will.
            left -= usize::from(state.lasts(&state.claims[index]));
            told.extend(state.tell(index));
        }
        self.publish(state);
        told
    }

    fn publish(&self, state: &State) {
        let untold = state.claims.iter().filter(|claim| !claim.told);
        let starved = untold.map(Claim::helped_from).min();
        self.starved
            .store(starved.unwrap_or(NOBODY), Ordering::Release);
        self.asked.store(state.asked(), Ordering::Relaxed);
    }

    fn relieve(&self, asker: &Asker<'_>) {
        let (members, from) = (self.state.lock().members.clone(), asker.helped_from());
        let siblings = members
            .iter()
            .filter(|other| !same(other, asker.pool))
            .filter_map(Weak::upgrade);
        let mut sparing: Vec<_> = siblings
            .filter_map(|pool| pool.spare(from).map(|since| (since, pool)))
            .collect();
        sparing.sort_by_key(|(since, _)| *since);
        // The first may have leased its connection meanwhile; then the next is asked.
        let _ = sparing.iter().any(|(_, pool)| pool.yield_one(from));
    }
}

/// What becomes of a permit that there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    /// The pool gets it.
    Take,
    /// It has only asked.
    Look,
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

    /// The claims that come before a pool that asks, in order: those to which it would owe what it takes. Of two that would
    /// owe it to each other the one comes first that was refused first, so that they do not wait for each other.
    fn ahead_of(&self, asker: &Asker<'_>, noted: Option<usize>) -> Vec<usize> {
        let after = asker.held + 1;
        if self.claims.is_empty() || after <= asker.floor {
            return Vec::new();
        }
        let own = noted.map(|index| self.claims[index].owed_from());
        let own = (own.unwrap_or(after + 1), noted.unwrap_or(usize::MAX));
        let mut ahead =
            self.by_entitlement(|claim| claim.owed_from() <= after && self.lasts(claim));
        ahead.retain(|&index| (self.claims[index].owed_from(), index) < own);
        ahead
    }

    /// The numbers of some claims, the most entitled first, and of equals who was refused first.
    fn by_entitlement(&self, counts: impl Fn(&Claim) -> bool) -> Vec<usize> {
        let claims = self.claims.iter().enumerate();
        let some = claims.filter(|(_, claim)| counts(claim));
        let mut order: Vec<usize> = some.map(|(index, _)| index).collect();
        order.sort_unstable_by_key(|&index| (self.claims[index].owed_from(), index));
        order
    }

    /// Takes note that a claim's pool is told of a change; gives the pool unless it was told before.
    fn tell(&mut self, index: usize) -> Option<Weak<dyn Sibling>> {
        let claim = &mut self.claims[index];
        let before = std::mem::replace(&mut claim.told, true);
        (!before).then(|| Weak::clone(&claim.pool))
    }

    fn note(&mut self, asker: &Asker<'_>, noted: Option<usize>) {
        let known = noted.map(|index| &self.claims[index]);
        let since = known.filter(|known| known.held == asker.held);
        let claim = Claim {
            pool: Weak::clone(asker.pool),
            held: asker.held,
            lacks: asker.lacks(),
            since: since.map_or(asker.now, |known| known.since),
            seen: asker.now,
            told: false,
            passed: false,
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
        let free = self.free();
        match free < owed.len() {
            true => *owed.select_nth_unstable(free).1,
            false => NOBODY,
        }
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
