//! The pool against a model that only counts, under random operations.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use proptest::prelude::{Just, Strategy, prop_oneof, proptest};
use proptest::test_runner::Config;

use super::{Core, LIMITS, fresh, peek, shared};
use crate::{Ask, Lease, LeaseError, Limits, OpenSlot, Quota, SweepRules, Waiter};

#[derive(Debug, Clone)]
enum Step {
    Lease,
    GiveBack { which: usize, clean: bool },
    Leave(usize),
    Look(usize),
    Open,
    Fill(usize),
    GiveUp(usize),
    Fence,
    Retire,
    Pause,
    Resume,
    Reclaim(usize),
    Sweep,
}

fn step() -> impl Strategy<Value = Step> {
    let n = 0..8_usize;
    prop_oneof![
        6 => Just(Step::Lease),
        6 => (n.clone(), proptest::bool::weighted(0.8)).prop_map(|(which, clean)| Step::GiveBack { which, clean }),
        2 => n.clone().prop_map(Step::Leave),
        3 => n.clone().prop_map(Step::Look),
        5 => Just(Step::Open),
        5 => n.clone().prop_map(Step::Fill),
        1 => n.clone().prop_map(Step::GiveUp),
        1 => Just(Step::Fence),
        1 => Just(Step::Retire),
        1 => Just(Step::Pause),
        2 => Just(Step::Resume),
        1 => n.prop_map(Step::Reclaim),
        1 => Just(Step::Sweep),
    ]
}

/// The pool, what its users hold, and what they think of it.
struct World {
    core: Core,
    quota: Arc<Quota>,
    now: Instant,
    leases: Vec<Lease<u64>>,
    slots: Vec<(OpenSlot<u64>, bool)>,
    /// Waiters in order, and whether the model says they were answered.
    waiters: VecDeque<(Waiter<u64>, bool)>,
    /// Connections on loan that may not return.
    stale: BTreeSet<u64>,
    idle: usize,
    paused: bool,
    epoch: u64,
    next: u64,
}

const SMALL: Limits = Limits {
    min: 1,
    reserve: 0,
    ..LIMITS
};

impl World {
    fn new() -> Self {
        let quota = Quota::new("all", Some(3));
        Self {
            core: shared(SMALL, &quota),
            quota,
            now: Instant::now(),
            leases: Vec::new(),
            slots: Vec::new(),
            waiters: VecDeque::new(),
            stale: BTreeSet::new(),
            idle: 0,
            paused: false,
            epoch: 0,
            next: 1,
        }
    }

    fn answered(&self) -> usize {
        self.waiters
            .iter()
            .filter(|(_, answered)| *answered)
            .count()
    }

    fn waiting(&self) -> usize {
        self.waiters.len() - self.answered()
    }

    /// A good connection became free.
    fn settle(&mut self) {
        let next = self.waiters.iter_mut().find(|(_, answered)| !answered);
        match next {
            Some((_, answered)) if !self.paused => *answered = true,
            _ => self.idle += 1,
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Lease => self.lease(),
            Step::GiveBack { which, clean } => self.give_back(which, clean),
            Step::Leave(which) => self.leave(which),
            Step::Look(which) => self.look(which),
            Step::Open => self.open(),
            Step::Fill(which) => self.fill(which),
            Step::GiveUp(which) => {
                if which < self.slots.len() {
                    drop(self.slots.remove(which));
                }
            }
            Step::Fence => {
                self.epoch += 1;
                let closed = self.core.fence(self.epoch);
                self.cleared(&closed);
            }
            Step::Retire => {
                let closed = self.core.retire_all();
                self.cleared(&closed);
            }
            Step::Pause => {
                self.core.pause();
                self.paused = true;
            }
            Step::Resume => {
                self.core.resume();
                self.paused = false;
                for _ in 0..std::mem::take(&mut self.idle) {
                    self.settle();
                }
            }
            Step::Reclaim(count) => {
                let live = self.idle + self.leases.len() + self.answered();
                let spare = if self.waiting() > 0 {
                    0
                } else {
                    live.saturating_sub(1)
                };
                let count = count.min(spare).min(self.idle);
                assert_eq!(
                    self.core.reclaim(count.max(spare)).len(),
                    spare.min(self.idle)
                );
                self.idle -= spare.min(self.idle);
            }
            Step::Sweep => {
                let rules = SweepRules {
                    idle_timeout: None,
                    lifetime: fresh,
                };
                assert!(self.core.sweep(self.now, &rules).is_empty());
            }
        }
    }

    fn lease(&mut self) {
        match self.core.lease(0, self.now) {
            Ok(Ask::Ready(lease)) => {
                assert!(self.idle > 0 && !self.paused);
                self.idle -= 1;
                self.leases.push(lease);
            }
            Ok(Ask::Wait(waiter)) => {
                assert!(self.idle == 0 || self.paused);
                self.waiters.push_back((waiter, false));
            }
            Err(LeaseError::QueueFull { limit }) => assert!(self.waiting() >= limit),
            Err(error) => panic!("{error}"),
        }
    }

    fn give_back(&mut self, which: usize, clean: bool) {
        if which >= self.leases.len() {
            return;
        }
        let mut lease = self.leases.remove(which);
        let stale = self.stale.remove(&lease.meta().id);
        if clean {
            lease.mark_clean();
        }
        drop(lease);
        if clean && !stale {
            self.settle();
        }
    }

    fn leave(&mut self, which: usize) {
        if which >= self.waiters.len() {
            return;
        }
        if let Some((waiter, answered)) = self.waiters.remove(which) {
            drop(waiter);
            if answered {
                self.settle();
            }
        }
    }

    fn look(&mut self, which: usize) {
        let Some((waiter, answered)) = self.waiters.get_mut(which) else {
            return;
        };
        match peek(waiter) {
            Poll::Ready(Ok(lease)) => {
                assert!(*answered, "answered out of turn");
                assert!(!self.stale.contains(&lease.meta().id));
                self.leases.push(lease);
                self.waiters.remove(which);
            }
            Poll::Ready(Err(error)) => panic!("{error}"),
            Poll::Pending => assert!(!*answered, "a waiter was forgotten"),
        }
    }

    fn open(&mut self) {
        let total = self.idle + self.leases.len() + self.answered() + self.slots.len();
        match self.core.begin_open(self.now) {
            Ok(slot) => {
                assert!(total < SMALL.size && self.slots.len() < SMALL.max_opening);
                self.slots.push((slot, false));
            }
            Err(_) => assert!(total >= SMALL.size || self.slots.len() >= SMALL.max_opening),
        }
    }

    fn fill(&mut self, which: usize) {
        if which >= self.slots.len() {
            return;
        }
        let (slot, stale) = self.slots.remove(which);
        let filled = slot.fill(self.next, self.now);
        assert_eq!(filled.is_err(), stale);
        self.next += 1;
        if !stale {
            self.settle();
        }
    }

    fn cleared(&mut self, closed: &[u64]) {
        assert_eq!(closed.len(), self.idle + self.answered());
        self.idle = 0;
        self.waiters
            .iter_mut()
            .for_each(|(_, answered)| *answered = false);
        self.slots.iter_mut().for_each(|(_, stale)| *stale = true);
        self.stale
            .extend(self.leases.iter().map(|lease| lease.meta().id));
    }

    fn compare(&self) {
        let seen = self.core.snapshot(self.now);
        assert_eq!(seen.idle, self.idle);
        assert_eq!(seen.leased, self.leases.len() + self.answered());
        assert_eq!(seen.opening, self.slots.len());
        assert_eq!(seen.waiting, self.waiting());
        let total = seen.idle + seen.leased + seen.opening;
        assert!(total <= SMALL.ceiling());
        assert_eq!(self.quota.pressure().used, total);
        assert!(total + self.core.wanted(self.now) <= SMALL.ceiling());
    }
}

proptest! {
    #![proptest_config(Config { cases: 512, failure_persistence: None, ..Config::default() })]
    #[test]
    fn pool_agrees_with_its_model(steps in proptest::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
            world.compare();
        }
        let World { core, quota, leases, slots, waiters, .. } = world;
        drop((leases, slots, waiters, core));
        assert_eq!(quota.pressure().used, 0, "a permit leaked");
    }
}
