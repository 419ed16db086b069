//! Pools that want more together than a quota allows, each with somebody who waits at all times.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::Config;

use super::{Core, LIMITS, clean, given, open, ready, shared, wait};
use crate::{Ask, Lease, Limits, LostReason, PoolCore, Quota, Refused, Waiter};

const MILLISECOND: Duration = Duration::from_millis(1);

const CROWDED: Limits = Limits {
    size: 100,
    reserve: 0,
    max_waiters: 100,
    max_opening: 8,
    ..LIMITS
};

/// A pool whose clients keep all its connections busy, and its manager.
struct Busy {
    core: Core,
    hinted: Arc<AtomicBool>,
    leases: Vec<Lease<u64>>,
    waiters: Vec<Waiter<u64>>,
    /// Transactions that came to their end.
    done: usize,
}

impl Busy {
    fn new(limits: Limits, quota: &Arc<Quota>) -> Self {
        Self::within(limits, &[quota])
    }

    /// Its connections count towards all of these, which are asked in this order.
    fn within(limits: Limits, quotas: &[&Arc<Quota>]) -> Self {
        let quotas = quotas.iter().map(|quota| Arc::clone(quota)).collect();
        let hinted = Arc::new(AtomicBool::new(true));
        let hint = Arc::clone(&hinted);
        let core = PoolCore::new(limits, quotas, move || {
            hint.store(true, Ordering::Relaxed);
        });
        Self {
            core,
            hinted,
            leases: Vec::new(),
            waiters: Vec::new(),
            done: 0,
        }
    }

    /// Two more wait than are served.
    fn come(&mut self, now: Instant) {
        while self.core.snapshot(now).waiting < 2 {
            self.ask(now);
        }
    }

    /// A client comes.
    fn ask(&mut self, now: Instant) {
        match self.core.lease(0, now).expect("there is room in the queue") {
            Ask::Ready(lease) => self.leases.push(lease),
            Ask::Wait(waiter) => self.waiters.push(waiter),
        }
    }

    fn is_hinted(&self) -> bool {
        self.hinted.load(Ordering::Relaxed)
    }

    fn manage(&self, now: Instant) {
        if !self.hinted.swap(false, Ordering::Relaxed) {
            return;
        }
        self.core.heard();
        for _ in 0..self.core.wanted(now) {
            let Ok(slot) = self.core.begin_open(now) else {
                return;
            };
            slot.fill(0, now).expect("nothing has changed");
        }
    }

    /// The oldest transaction ends, and who was given a connection begins the next.
    fn work(&mut self) {
        if !self.leases.is_empty() {
            clean(self.leases.remove(0));
            self.done += 1;
        }
        self.look();
    }

    /// Who was given a connection takes it.
    fn look(&mut self) {
        self.waiters.retain_mut(|waiter| match super::peek(waiter) {
            std::task::Poll::Ready(lease) => {
                self.leases.push(lease.expect("a lease"));
                false
            }
            std::task::Poll::Pending => true,
        });
    }

    fn held(&self, now: Instant) -> usize {
        let seen = self.core.snapshot(now);
        seen.idle + seen.leased + seen.opening
    }

    fn reclaimed(&self, now: Instant) -> u64 {
        self.core.snapshot(now).lost.get(LostReason::Reclaimed)
    }
}

/// Each millisecond, each pool ends a transaction; each second, its manager looks in any case.
fn run(pools: &mut [Busy], now: &mut Instant, millis: u32) {
    for tick in 0..millis {
        *now += MILLISECOND;
        for pool in pools.iter_mut() {
            pool.come(*now);
            pool.work();
            if tick % 1000 == 999 {
                pool.hinted.store(true, Ordering::Relaxed);
            }
            pool.manage(*now);
        }
    }
}

#[test]
fn a_pool_that_has_all_gives_up_half_to_another_and_then_no_more() {
    let (mut now, quota) = (Instant::now(), Quota::new("host", Some(20)));
    let mut pools = vec![Busy::new(CROWDED, &quota)];
    run(&mut pools, &mut now, 100);
    assert_eq!(pools[0].held(now), 20);
    pools.push(Busy::new(CROWDED, &quota));
    run(&mut pools, &mut now, 1000);
    let held: Vec<usize> = pools.iter().map(|pool| pool.held(now)).collect();
    assert_eq!(held, [10, 10]);
    let closed: u64 = pools.iter().map(|pool| pool.reclaimed(now)).sum();
    assert_eq!(closed, 10, "one for each, and none went back");
    run(&mut pools, &mut now, 5000);
    let later: u64 = pools.iter().map(|pool| pool.reclaimed(now)).sum();
    assert_eq!(later, closed, "it is settled");
}

#[test]
fn a_guaranteed_share_is_given_even_by_one_that_has_no_more() {
    let (mut now, quota) = (Instant::now(), Quota::new("host", Some(4)));
    let mut pools: Vec<Busy> = (0..2).map(|_| Busy::new(CROWDED, &quota)).collect();
    run(&mut pools, &mut now, 1000);
    pools.push(Busy::new(Limits { min: 3, ..CROWDED }, &quota));
    run(&mut pools, &mut now, 3000);
    assert_eq!(pools[2].held(now), 3, "the minimum");
    // The two share what is left.
    let done = [pools[0].done, pools[1].done];
    run(&mut pools, &mut now, 6000);
    assert!(pools[0].done > done[0] && pools[1].done > done[1]);
    assert_eq!(pools[2].held(now), 3);
}

#[test]
fn more_pools_than_permits_take_turns_that_last() {
    let (mut now, quota) = (Instant::now(), Quota::new("host", Some(1)));
    let mut pools: Vec<Busy> = (0..3).map(|_| Busy::new(CROWDED, &quota)).collect();
    run(&mut pools, &mut now, 12_000);
    assert!(pools.iter().all(|pool| pool.done > 500));
    let closed: u64 = pools.iter().map(|pool| pool.reclaimed(now)).sum();
    assert!((5..=48).contains(&closed), "{closed} in 12 s");
}

/// How many connections the second closes for the first, within so many seconds after it has settled.
fn closed_in_vain(pools: &mut [Busy; 2], now: &mut Instant, seconds: u32) -> u64 {
    run(pools, now, 3000);
    let before = pools[1].reclaimed(*now);
    run(pools, now, seconds * 1000);
    pools[1].reclaimed(*now) - before
}

#[test]
fn who_is_held_back_by_a_narrow_limit_has_nobody_make_room_within_a_wide_one() {
    let (all, narrow) = (Quota::new("all", Some(5)), Quota::new("database", Some(1)));
    for order in [[&narrow, &all], [&all, &narrow]] {
        let mut now = Instant::now();
        let mut pools = [
            Busy::within(CROWDED, &order),
            Busy::within(CROWDED, &[&all]),
        ];
        assert_eq!(closed_in_vain(&mut pools, &mut now, 10), 0);
        assert_eq!([pools[0].held(now), pools[1].held(now)], [1, 4]);
    }
}

#[test]
fn of_two_limits_that_cross_the_one_that_refuses_is_asked_first() {
    let (database, user) = (Quota::new("database", Some(6)), Quota::new("user", Some(2)));
    let mut now = Instant::now();
    let mut pools = [
        Busy::within(CROWDED, &[&database, &user]),
        Busy::within(CROWDED, &[&database]),
    ];
    let mut others = [Busy::within(CROWDED, &[&user])];
    run(&mut others, &mut now, 100);
    // It has its half of the narrow one, and so less of the other than it might.
    for _ in 0..3000 {
        run(&mut others, &mut now, 1);
        run(&mut pools, &mut now, 1);
        pools[0].hinted.store(true, Ordering::Relaxed);
    }
    let before = pools[1].reclaimed(now);
    run(&mut pools, &mut now, 5000);
    assert_eq!(pools[1].reclaimed(now), before);
    assert_eq!([pools[0].held(now), pools[1].held(now)], [1, 5]);
    assert_eq!(others[0].held(now), 1);
}

#[test]
fn who_is_poor_within_two_limits_gets_its_share_of_both() {
    let (database, user) = (Quota::new("database", Some(4)), Quota::new("user", Some(4)));
    let mut now = Instant::now();
    let mut pools = vec![
        Busy::within(CROWDED, &[&database]),
        Busy::within(CROWDED, &[&user]),
    ];
    run(&mut pools, &mut now, 100);
    pools.push(Busy::within(CROWDED, &[&database, &user]));
    run(&mut pools, &mut now, 5000);
    let held: Vec<usize> = pools.iter().map(|pool| pool.held(now)).collect();
    assert_eq!(held, [2, 2, 2]);
}

#[test]
fn what_is_guaranteed_is_given_by_one_that_lays_its_only_connection_down_for_a_moment() {
    let (now, quota) = (Instant::now(), Quota::new("host", Some(2)));
    let rich = shared(CROWDED, &quota);
    let hinted = Arc::new(AtomicBool::new(false));
    let hint = Arc::clone(&hinted);
    let limits = Limits { min: 2, ..CROWDED };
    let poor: Core = PoolCore::new(limits, vec![Arc::clone(&quota)], move || {
        hint.store(true, Ordering::Relaxed);
    });
    open(&rich, 1, now);
    open(&poor, 2, now);
    let lease = ready(&rich, now);
    let rules = crate::SweepRules {
        idle_timeout: None,
        lifetime: super::fresh,
    };
    assert!(rich.sweep(now, &rules).is_empty());
    assert!(poor.begin_open(now).is_err());
    hinted.store(false, Ordering::Relaxed);
    poor.heard();
    clean(lease);
    assert!(hinted.load(Ordering::Relaxed), "it is offered");
    assert!(poor.begin_open(now).is_ok());
}

#[test]
fn what_nobody_can_use_while_its_pool_is_stopped_is_for_others() {
    let now = Instant::now();
    let stops: [fn(&Core); 2] = [|core| core.pause(), |core| core.hold(Instant::now())];
    for stop in stops {
        let quota = Quota::new("host", Some(2));
        let (stopped, other) = (shared(CROWDED, &quota), shared(CROWDED, &quota));
        open(&stopped, 1, now);
        open(&stopped, 2, now);
        stop(&stopped);
        let _waiter = wait(&stopped, now);
        assert!(other.begin_open(now).is_ok());
    }
}

#[test]
fn what_a_pool_gave_up_is_not_its_own_again() {
    let (now, quota) = (Instant::now(), Quota::new("host", Some(2)));
    let (rich, poor) = (shared(CROWDED, &quota), shared(CROWDED, &quota));
    open(&rich, 1, now);
    open(&rich, 2, now);
    let (first, second) = (ready(&rich, now), ready(&rich, now));
    let mut waiter = wait(&rich, now);
    assert!(poor.begin_open(now).is_err());
    clean(first);
    assert_eq!(rich.snapshot(now).lost.get(LostReason::Reclaimed), 1);
    assert_eq!(quota.pressure().used, 1);
    let refused = rich.begin_open(now).err();
    assert!(matches!(refused, Some(Refused::Quota { max: 2, .. })));
    // One is enough.
    clean(second);
    let lease = given(&mut waiter);
    assert_eq!(lease.meta().id, 1);
    open(&poor, 3, now);
    assert_eq!(quota.pressure().used, 2);
}

#[test]
fn nobody_makes_room_for_a_pool_that_has_gone_away() {
    let (now, quota) = (Instant::now(), Quota::new("host", Some(2)));
    let rich = shared(CROWDED, &quota);
    open(&rich, 1, now);
    open(&rich, 2, now);
    let mut leases = vec![ready(&rich, now), ready(&rich, now)];
    let _waiter = wait(&rich, now);
    let asks = |at| {
        let poor = shared(CROWDED, &quota);
        assert!(poor.begin_open(at).is_err());
        poor
    };
    let kept = |lease| {
        clean(lease);
        rich.snapshot(now).lost.get(LostReason::Reclaimed) == 0
    };
    drop(asks(now));
    asks(now).withdraw();
    let poor = asks(now);
    assert_eq!(poor.wanted(now), 0, "nobody waits there");
    assert!(kept(leases.remove(0)));
    // Of who has not asked for so long it is not known whether it still would.
    let _silent = asks(now);
    assert!(rich.begin_open(now + Duration::from_secs(10)).is_err());
    assert!(kept(leases.remove(0)));
}

#[test]
fn what_a_small_pool_lays_down_for_a_moment_stays_with_it() {
    let (now, quota) = (Instant::now(), Quota::new("host", Some(3)));
    let (large, small) = (shared(CROWDED, &quota), shared(CROWDED, &quota));
    open(&large, 1, now);
    open(&large, 2, now);
    open(&small, 3, now);
    let _leases = (ready(&large, now), ready(&large, now));
    let _waiter = wait(&large, now);
    assert!(large.begin_open(now).is_err());
    assert_eq!(small.snapshot(now).idle, 1);
    let rules = crate::SweepRules {
        idle_timeout: None,
        lifetime: super::fresh,
    };
    assert!(small.sweep(now, &rules).is_empty());
    open(&large, 4, now);
    assert_eq!(small.snapshot(now).idle, 0, "it has lain there since");
}

proptest! {
    #![proptest_config(Config { cases: 12, failure_persistence: None, ..Config::default() })]
    #[test]
    fn pools_under_load_come_to_fair_shares_and_stay_there(
        max in 1..24_usize,
        minimums in prop::collection::vec(0..4_usize, 2..6),
        gaps in prop::collection::vec(0..700_u32, 5),
    ) {
        prop_assume!(minimums.iter().sum::<usize>() <= max && minimums.len() <= max);
        let (mut now, quota) = (Instant::now(), Quota::new("host", Some(max)));
        let mut pools = Vec::new();
        for (min, gap) in minimums.iter().zip(&gaps) {
            pools.push(Busy::new(Limits { min: *min, ..CROWDED }, &quota));
            run(&mut pools, &mut now, *gap);
        }
        run(&mut pools, &mut now, 6000);
        let before = pools.iter().map(|pool| pool.reclaimed(now)).sum::<u64>();
        let held: Vec<usize> = pools.iter().map(|pool| pool.held(now)).collect();
        // Where minimums leave others nothing these take turns, and one may be about to end.
        let has_turns = held.contains(&0);
        let used = quota.pressure().used;
        prop_assert_eq!(held.iter().sum::<usize>(), used);
        prop_assert!(used == max || has_turns, "{used} of {max}");
        // Who has more than another by two has them by right.
        let least = held.iter().min().copied().unwrap_or_default();
        for (held, min) in held.iter().zip(&minimums) {
            prop_assert!(*held >= *min && (*held <= least + 1 || *held <= *min));
        }
        run(&mut pools, &mut now, 2000);
        let later = pools.iter().map(|pool| pool.reclaimed(now)).sum::<u64>();
        prop_assert!(has_turns || later == before, "{} closed in 2 s", later - before);
    }
}

proptest! {
    #![proptest_config(Config { cases: 400, failure_persistence: None, ..Config::default() })]
    /// Nobody looks by itself here: whoever could be given a connection has been told, or looks because of that.
    #[test]
    fn whoever_could_have_a_permit_is_told_of_it(
        max in 1..6_usize,
        minimums in prop::collection::vec(0..3_usize, 2..6),
        steps in prop::collection::vec((0..6_usize, 0..5_u8), 1..100),
    ) {
        let (all, narrow) = (Quota::new("all", Some(max)), Quota::new("database", Some(2)));
        let pool = |at: usize| {
            let limits = Limits { min: minimums[at], ..CROWDED };
            match at {
                0 | 1 => Busy::within(limits, &[&narrow, &all]),
                _ => Busy::within(limits, &[&all]),
            }
        };
        let mut now = Instant::now();
        let mut pools: Vec<Busy> = (0..minimums.len()).map(pool).collect();
        for (at, step) in steps {
            now += MILLISECOND * 10;
            let at = at % pools.len();
            let one = &mut pools[at];
            match step {
                0 | 1 => one.ask(now),
                2 => one.work(),
                3 => one.waiters.clear(),
                _ => *one = pool(at),
            }
            for _ in 0..1000 {
                pools.iter_mut().for_each(Busy::look);
                let Some(hinted) = pools.iter().find(|pool| pool.is_hinted()) else { break };
                hinted.manage(now);
            }
            prop_assert!(!pools.iter().any(Busy::is_hinted), "they tell each other without end");
        }
        for pool in &pools {
            let wanted = pool.core.wanted(now);
            prop_assert!(wanted == 0 || pool.core.begin_open(now).is_err(), "it was not told");
        }
    }
}
