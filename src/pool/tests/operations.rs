//! Each operation by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::{Core, LIMITS, clean, failed, fresh, given, open, peek, pool, ready, wait};
use crate::{Age, LeaseError, Limits, LostReason, Order, Place, PoolCore, Refused, SweepRules};

const SECOND: Duration = Duration::from_secs(1);

fn lost(core: &Core, reason: LostReason) -> u64 {
    core.snapshot(Instant::now()).lost.get(reason)
}

#[test]
fn latest_idle_is_leased_first_unless_the_worker_used_another() {
    let now = Instant::now();
    let core = pool(LIMITS);
    open(&core, 1, now);
    open(&core, 2, now);
    let (two, one) = (
        core.try_lease(7, now).unwrap(),
        core.try_lease(8, now).unwrap(),
    );
    assert_eq!((*two, *one), (2, 1));
    clean(two);
    clean(one);
    let lease = core.try_lease(7, now).unwrap();
    assert_eq!(*lease, 2, "used by this worker, though not last");
    assert_eq!((lease.meta().worker, lease.meta().uses), (7, 2));
    clean(lease);
    let lease = core.try_lease(9, now).unwrap();
    assert_eq!(*lease, 2, "used last");
}

#[test]
fn longest_idle_is_leased_first_where_the_order_says_so() {
    let now = Instant::now();
    let core = pool(Limits {
        order: Order::Fifo,
        ..LIMITS
    });
    for conn in [1, 2, 3] {
        open(&core, conn, now);
    }
    let one = core.try_lease(7, now).unwrap();
    let two = core.try_lease(8, now).unwrap();
    assert_eq!((*one, *two), (1, 2));
    clean(one);
    clean(two);
    let lease = core.try_lease(7, now).unwrap();
    assert_eq!(
        *lease, 3,
        "longest idle, though this worker used another last"
    );
    clean(lease);
    let lease = core.try_lease(9, now).unwrap();
    assert_eq!(*lease, 1, "longest idle");
    clean(lease);
    core.pause();
    let mut waiter = wait(&core, now);
    core.resume();
    assert_eq!(*given(&mut waiter), 2, "longest idle after a pause, too");
}

#[test]
fn lease_is_born_dirty_and_returns_only_clean() {
    let now = Instant::now();
    let core = pool(LIMITS);
    open(&core, 1, now);
    clean(ready(&core, now));
    drop(ready(&core, now));
    assert_eq!(core.snapshot(now).idle, 0);
    assert_eq!(lost(&core, LostReason::Dirty), 1);
    open(&core, 2, now);
    let mut lease = ready(&core, now);
    *lease = 5;
    lease.mark_clean();
    lease.condemn(LostReason::Broken);
    drop(lease);
    assert_eq!(lost(&core, LostReason::Broken), 1);
    open(&core, 3, now);
    assert_eq!(ready(&core, now).into_inner_lost(LostReason::Taken), 3);
    assert_eq!(lost(&core, LostReason::Taken), 1);
    assert_eq!(core.snapshot(now).leased, 0);
}

/// Notes, when it is dropped, how many connections are lent and how many lie idle.
struct Guard(Core, Arc<Mutex<Vec<(usize, usize)>>>);

impl Drop for Guard {
    fn drop(&mut self) {
        let seen = self.0.snapshot(Instant::now());
        self.1.lock().push((seen.leased, seen.idle));
    }
}

#[test]
fn what_ends_with_a_loan_has_ended_before_anybody_else_has_the_connection() {
    let now = Instant::now();
    let core = pool(LIMITS);
    let ended = Arc::new(Mutex::new(Vec::new()));
    let guard = || Some(Guard(Arc::clone(&core), Arc::clone(&ended)));
    open(&core, 1, now);
    let mut lease = ready(&core, now);
    lease.guard_by(guard);
    lease.guard_by(|| {
        assert_eq!(ended.lock().len(), 1, "the one before it is over");
        guard()
    });
    clean(lease);
    assert_eq!(*ended.lock(), [(1, 0), (1, 0)]);
    let mut lease = ready(&core, now);
    lease.guard_by(guard);
    drop(lease);
    assert_eq!(ended.lock()[2..], [(1, 0)], "also where it is closed");
}

#[test]
fn panic_closes_even_a_clean_lease() {
    let now = Instant::now();
    let core = pool(LIMITS);
    open(&core, 1, now);
    let mut lease = ready(&core, now);
    lease.mark_clean();
    let thread = std::thread::spawn(move || {
        let _held = lease;
        std::panic::resume_unwind(Box::new("on purpose"));
    });
    assert!(thread.join().is_err());
    assert_eq!(lost(&core, LostReason::Panic), 1);
}

#[test]
fn to_wait_in_turn_costs_no_allocation() {
    let now = Instant::now();
    let core = pool(LIMITS);
    open(&core, 1, now);
    let turn = || {
        let held = ready(&core, now);
        let mut waiter = wait(&core, now);
        assert!(peek(&mut waiter).is_pending());
        clean(held);
        clean(given(&mut waiter));
    };
    // The room that the queue takes is kept.
    turn();
    let spent = allocation_counter::measure(turn);
    assert_eq!(spent.count_total, 0, "{spent:?}");
}

#[test]
fn waiters_are_served_in_order_and_counted() {
    let now = Instant::now();
    let core = pool(LIMITS);
    let (mut first, mut second) = (wait(&core, now), wait(&core, now));
    assert_eq!((first.position(), second.position()), (Some(0), Some(1)));
    open(&core, 1, now);
    assert!(peek(&mut second).is_pending());
    let lease = given(&mut first);
    assert_eq!((first.position(), second.position()), (None, Some(0)));
    clean(lease);
    assert_eq!(*given(&mut second), 1);
    core.record_wait(SECOND);
    let seen = core.snapshot(now);
    assert_eq!((seen.waits, seen.leases, seen.wait_time), (2, 2, SECOND));
}

#[test]
fn waiter_is_woken_and_may_leave_with_a_lease_in_hand() {
    struct Count(AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let now = Instant::now();
    let core = pool(LIMITS);
    let (mut first, mut second) = (wait(&core, now), wait(&core, now));
    let count = Arc::new(Count(AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&count));
    let poll = std::future::Future::poll(
        std::pin::Pin::new(&mut first),
        &mut Context::from_waker(&waker),
    );
    assert!(poll.is_pending());
    open(&core, 1, now);
    assert_eq!(count.0.load(Ordering::SeqCst), 1);
    drop(first);
    assert_eq!(*given(&mut second), 1);
}

#[test]
fn queue_is_bounded() {
    let now = Instant::now();
    let core = pool(Limits {
        max_waiters: 1,
        ..LIMITS
    });
    let _first = wait(&core, now);
    assert!(matches!(
        core.lease(0, now),
        Err(LeaseError::QueueFull { limit: 1 })
    ));
}

#[test]
fn wanted_follows_waiters_minimum_and_limits() {
    let now = Instant::now();
    let core = pool(Limits { min: 1, ..LIMITS });
    assert_eq!(core.wanted(now), 1, "the minimum");
    let waiters: Vec<_> = (0..4).map(|_| wait(&core, now)).collect();
    assert_eq!(core.wanted(now), 2, "as many as may be opening");
    let slots = [core.begin_open(now).unwrap(), core.begin_open(now).unwrap()];
    assert_eq!(
        core.begin_open(now).err(),
        Some(Refused::Opening { limit: 2 })
    );
    for slot in slots {
        slot.fill(1, now).unwrap();
    }
    assert_eq!(core.wanted(now), 1, "two are served, one more fits");
    open(&core, 3, now);
    assert_eq!(core.wanted(now), 0);
    assert_eq!(core.begin_open(now).err(), Some(Refused::Size { limit: 3 }));
    let later = now + LIMITS.reserve_after;
    assert_eq!(core.wanted(later), 1, "the reserve");
    open(&core, 4, later);
    assert_eq!(core.wanted(later), 0);
    drop(waiters);
}

#[test]
fn hint_is_fired_once_until_heard() {
    let now = Instant::now();
    let hints = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&hints);
    let core: Core = PoolCore::new(LIMITS, Vec::new(), move || {
        counter.fetch_add(1, Ordering::SeqCst);
    });
    let waiters = (wait(&core, now), wait(&core, now));
    assert_eq!(hints.load(Ordering::SeqCst), 1);
    drop(waiters);
    core.heard();
    open(&core, 1, now);
    clean(ready(&core, now));
    assert_eq!(
        hints.load(Ordering::SeqCst),
        1,
        "ordinary traffic is silent"
    );
    drop(ready(&core, now));
    assert_eq!(hints.load(Ordering::SeqCst), 2, "a loss is told");
}

#[test]
fn fence_closes_old_connections_wherever_they_are() {
    let now = Instant::now();
    let core = pool(LIMITS);
    open(&core, 1, now);
    let mut lease = ready(&core, now);
    lease.mark_clean();
    open(&core, 2, now);
    let slot = core.begin_open(now).unwrap();
    assert_eq!(core.fence(1), [2]);
    assert_eq!(core.fence(1), [0; 0], "not a new epoch");
    drop(lease);
    assert_eq!(slot.fill(3, now), Err(LostReason::Fenced));
    assert_eq!(lost(&core, LostReason::Fenced), 3);
    open(&core, 4, now);
    assert_eq!(ready(&core, now).meta().epoch, 1);
}

#[test]
fn fence_takes_back_what_a_waiter_has_not_seen() {
    let now = Instant::now();
    let core = pool(LIMITS);
    let (mut first, mut second) = (wait(&core, now), wait(&core, now));
    open(&core, 1, now);
    assert_eq!(core.fence(1), [1]);
    assert!(peek(&mut first).is_pending());
    open(&core, 2, now);
    assert!(peek(&mut second).is_pending(), "the first kept its place");
    assert_eq!(*given(&mut first), 2);
}

#[test]
fn epochs_of_another_cluster_count_from_where_they_are() {
    let now = Instant::now();
    let core = pool(LIMITS);
    assert_eq!(core.fence(9), [0; 0]);
    open(&core, 1, now);
    let lease = ready(&core, now);
    open(&core, 2, now);
    let slot = core.begin_open(now).unwrap();
    assert_eq!(core.rebase(1), [2]);
    clean(lease);
    assert_eq!(slot.fill(3, now), Err(LostReason::Retired));
    open(&core, 4, now);
    assert_eq!(core.rebase(1), [0; 0], "it is the same");
    assert_eq!(core.fence(2), [4], "the next is above it");
    open(&core, 5, now);
    assert_eq!(core.rebase(7), [5]);
}

#[test]
fn retire_replaces_all() {
    let now = Instant::now();
    let core = pool(LIMITS);
    open(&core, 1, now);
    let lease = ready(&core, now);
    open(&core, 2, now);
    let slot = core.begin_open(now).unwrap();
    assert_eq!(core.retire_all(), [2]);
    clean(lease);
    assert_eq!(slot.fill(3, now), Err(LostReason::Retired));
    assert_eq!(lost(&core, LostReason::Retired), 3);
    open(&core, 4, now);
    clean(ready(&core, now));
    assert_eq!(core.snapshot(now).idle, 1);
}

#[test]
fn pause_holds_back_and_resume_serves() {
    let now = Instant::now();
    let core = pool(LIMITS);
    open(&core, 1, now);
    let lease = ready(&core, now);
    core.pause();
    clean(lease);
    assert!(core.is_paused() && core.quiesced());
    assert!(core.try_lease(0, now).is_none());
    let mut waiter = wait(&core, now);
    assert_eq!(core.wanted(now), 0);
    assert!(peek(&mut waiter).is_pending());
    core.resume();
    assert_eq!(*given(&mut waiter), 1);
}

#[test]
fn a_hold_and_a_pause_end_each_by_itself() {
    let now = Instant::now();
    let core = pool(LIMITS);
    open(&core, 1, now);
    core.hold(now);
    core.hold(now + Duration::from_secs(9));
    assert_eq!(core.held(), Some(now), "since the first");
    assert!(!core.is_paused());
    let mut waiter = wait(&core, now);
    assert_eq!(core.wanted(now), 0);
    core.pause();
    assert_eq!(core.released(), None);
    core.release(now + Duration::from_secs(1));
    core.release(now + Duration::from_secs(2));
    let released = Some(now + Duration::from_secs(1));
    assert_eq!(core.released(), released, "when it was held");
    assert!(peek(&mut waiter).is_pending());
    core.hold(now);
    core.resume();
    assert!(peek(&mut waiter).is_pending());
    core.release(now);
    assert_eq!((core.held(), *given(&mut waiter)), (None, 1));
}

#[test]
fn quiet_is_awaited() {
    let now = Instant::now();
    let core = pool(LIMITS);
    open(&core, 1, now);
    let lease = ready(&core, now);
    core.pause();
    let woken = Arc::new(AtomicBool::new(false));
    struct Set(Arc<AtomicBool>);
    impl Wake for Set {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let waker = Waker::from(Arc::new(Set(Arc::clone(&woken))));
    let mut context = Context::from_waker(&waker);
    let mut quiet = std::pin::pin!(core.quiet());
    assert!(quiet.as_mut().poll(&mut context).is_pending());
    clean(lease);
    assert!(woken.load(Ordering::SeqCst));
    assert!(quiet.as_mut().poll(&mut context).is_ready());
}

#[test]
fn close_answers_everybody() {
    let now = Instant::now();
    let core = pool(LIMITS);
    open(&core, 1, now);
    let lease = ready(&core, now);
    let mut waiter = wait(&core, now);
    assert_eq!(core.close("drained"), [0; 0]);
    assert!(matches!(failed(&mut waiter), LeaseError::Closed(reason) if &*reason == "drained"));
    assert!(matches!(core.lease(0, now), Err(LeaseError::Closed(_))));
    assert!(matches!(core.begin_open(now), Err(Refused::Closed(_))));
    clean(lease);
    assert_eq!(lost(&core, LostReason::Closed), 1);
}

#[test]
fn waiters_are_told_a_failure() {
    let now = Instant::now();
    let core = pool(LIMITS);
    let (mut first, mut second) = (wait(&core, now), wait(&core, now));
    assert_eq!(core.fail_waiters(Arc::new(std::fmt::Error)), 2);
    assert!(matches!(failed(&mut first), LeaseError::Failed(_)));
    assert!(matches!(failed(&mut second), LeaseError::Failed(_)));
}

#[test]
fn who_waits_behind_a_mark_is_not_told_of_what_was_before() {
    let now = Instant::now();
    let core = pool(LIMITS);
    let mut first = wait(&core, now);
    let mark = core.mark();
    let mut second = wait(&core, now);
    let failure = Arc::new(std::fmt::Error);
    assert_eq!(core.fail_waiters_before(mark, failure), 1);
    assert!(matches!(failed(&mut first), LeaseError::Failed(_)));
    assert!(peek(&mut second).is_pending());
    open(&core, 1, now);
    clean(given(&mut second));
}

#[test]
fn sweep_closes_the_idle_but_not_the_minimum() {
    let now = Instant::now();
    let core = pool(Limits { min: 1, ..LIMITS });
    open(&core, 1, now);
    open(&core, 2, now);
    let rules = SweepRules {
        idle_timeout: Some(SECOND),
        lifetime: fresh,
    };
    assert_eq!(core.sweep(now, &rules), [0; 0], "first seen idle");
    assert_eq!(core.sweep(now + SECOND / 2, &rules), [0; 0]);
    assert_eq!(core.sweep(now + SECOND, &rules), [1], "the longest idle");
    assert_eq!(core.sweep(now + SECOND * 9, &rules), [0; 0], "the minimum");
}

#[test]
fn ageing_connection_asks_for_its_successor_first() {
    let now = Instant::now();
    let core = pool(Limits { min: 1, ..LIMITS });
    let id = open(&core, 1, now);
    let near = SweepRules {
        idle_timeout: None,
        lifetime: |meta: &crate::Meta| {
            if meta.id == id {
                Age::Ageing
            } else {
                Age::Fresh
            }
        },
    };
    assert_eq!(core.sweep(now, &near), [0; 0]);
    assert_eq!(core.wanted(now), 1);
    open(&core, 2, now);
    assert_eq!(core.wanted(now), 0);
    assert_eq!(core.sweep(now, &near), [1]);
    let lease = ready(&core, now);
    let over = SweepRules {
        idle_timeout: None,
        lifetime: |_: &crate::Meta| Age::Over,
    };
    assert_eq!(core.sweep(now, &over), [0; 0]);
    clean(lease);
    assert_eq!(core.snapshot(now).idle, 0, "over while on loan");
}

#[test]
fn smaller_limits_shed_the_surplus() {
    let now = Instant::now();
    let core = pool(LIMITS);
    open(&core, 1, now);
    open(&core, 2, now);
    open(&core, 3, now);
    let leases = [ready(&core, now), ready(&core, now)];
    core.resize(Limits {
        size: 1,
        reserve: 0,
        ..LIMITS
    });
    leases.into_iter().for_each(clean);
    assert_eq!(lost(&core, LostReason::Surplus), 2);
    assert_eq!(core.snapshot(now).idle, 1);
    core.resize(Limits { size: 0, ..LIMITS });
    let rules = SweepRules {
        idle_timeout: None,
        lifetime: fresh,
    };
    assert_eq!(core.sweep(now, &rules), [1]);
}

#[test]
fn each_shows_idle_and_leased_with_their_records() {
    let now = Instant::now();
    let core: Arc<PoolCore<u64, &str>> = PoolCore::new(LIMITS, Vec::new(), || {});
    for (conn, info) in [(1, "one"), (2, "two")] {
        core.begin_open(now)
            .unwrap()
            .fill_with(conn, Arc::new(info), now)
            .unwrap();
    }
    let _lease = core.try_lease(0, now).unwrap();
    let mut seen = Vec::new();
    core.each(|one| seen.push((one.meta.id, one.place, **one.info, one.conn.copied())));
    assert_eq!(
        seen,
        [
            (1, Place::Idle, "one", Some(1)),
            (2, Place::Leased, "two", None)
        ]
    );
}
