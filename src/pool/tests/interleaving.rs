//! Races, under many random schedules.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use shuttle::future::block_on;
use shuttle::thread;

use super::{Core, LIMITS, clean, failed, open, peek, pool, ready, shared, wait};
use crate::sync::interleave::explore;
use crate::{Limits, LostReason, PoolCore, Quota};

const ROUNDS: usize = 3000;

#[test]
fn give_back_against_a_waiter_that_leaves() {
    explore(ROUNDS, || {
        let now = Instant::now();
        let core = pool(LIMITS);
        open(&core, 1, now);
        let lease = ready(&core, now);
        let (leaving, staying) = (wait(&core, now), wait(&core, now));
        let giver = thread::spawn(move || clean(lease));
        let leaver = thread::spawn(move || drop(leaving));
        let stayer = thread::spawn(move || clean(block_on(staying).unwrap()));
        for one in [giver, leaver, stayer] {
            one.join().unwrap();
        }
        let seen = core.snapshot(now);
        assert_eq!((seen.idle, seen.leased, seen.waiting), (1, 0, 0));
    });
}

#[test]
fn cancel_at_the_moment_of_hand_off() {
    explore(ROUNDS, || {
        let now = Instant::now();
        let core = pool(LIMITS);
        let slot = core.begin_open(now).unwrap();
        let mut waiter = wait(&core, now);
        let opener = thread::spawn(move || slot.fill(1, now).unwrap());
        let canceller = thread::spawn(move || {
            // One look, then away: the lease is in the queue, in hand, or not yet there.
            let looked = peek(&mut waiter);
            drop(waiter);
            if let std::task::Poll::Ready(lease) = looked {
                clean(lease.unwrap());
            }
        });
        opener.join().unwrap();
        canceller.join().unwrap();
        let seen = core.snapshot(now);
        assert_eq!((seen.idle, seen.leased, seen.waiting), (1, 0, 0));
    });
}

#[test]
fn give_back_against_fence() {
    explore(ROUNDS, || {
        let now = Instant::now();
        let core = pool(LIMITS);
        open(&core, 1, now);
        let lease = ready(&core, now);
        let slot = core.begin_open(now).unwrap();
        let waiter = wait(&core, now);
        let giver = thread::spawn(move || clean(lease));
        let fencer = {
            let core = Arc::clone(&core);
            thread::spawn(move || drop(core.fence(1)))
        };
        let opener = {
            let core = Arc::clone(&core);
            thread::spawn(move || {
                if slot.fill(2, now).is_err() {
                    open(&core, 3, now);
                }
            })
        };
        let user = {
            let core = Arc::clone(&core);
            thread::spawn(move || {
                let lease = block_on(waiter).unwrap();
                let epoch = lease.meta().epoch;
                clean(lease);
                core.snapshot(now).epoch >= epoch
            })
        };
        // The old connections may all be fenced after the opener is done: then the waiter needs one more.
        giver.join().unwrap();
        fencer.join().unwrap();
        opener.join().unwrap();
        while core.wanted(now) > 0 {
            open(&core, 4, now);
        }
        assert!(user.join().unwrap());
        while let Some(lease) = core.try_lease(0, now) {
            assert_eq!(
                lease.meta().epoch,
                1,
                "an old connection was given out after the fence"
            );
        }
        assert_eq!(core.snapshot(now).leased, 0);
    });
}

#[test]
fn freed_permit_against_a_refusal() {
    explore(ROUNDS, || {
        let now = Instant::now();
        let quota = Quota::new("host", Some(1));
        let owner = shared(Limits { min: 1, ..LIMITS }, &quota);
        open(&owner, 1, now);
        let lease = ready(&owner, now);
        let hints = Arc::new(AtomicUsize::new(0));
        let needy: Core = {
            let hints = Arc::clone(&hints);
            PoolCore::new(LIMITS, vec![Arc::clone(&quota)], move || {
                hints.fetch_add(1, Ordering::SeqCst);
            })
        };
        let asker = thread::spawn(move || match needy.begin_open(now) {
            Ok(slot) => {
                slot.fill(2, now).unwrap();
                (true, needy)
            }
            Err(_) => (false, needy),
        });
        let loser = thread::spawn(move || drop(lease));
        let (opened, needy) = asker.join().unwrap();
        loser.join().unwrap();
        assert!(
            opened || hints.load(Ordering::SeqCst) > 0,
            "a refused pool was not told"
        );
        if !opened {
            needy.heard();
            open(&needy, 2, now);
        }
        assert_eq!(quota.pressure().used, 1);
    });
}

#[test]
fn hint_against_heard() {
    explore(ROUNDS, || {
        let now = Instant::now();
        let hints = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&hints);
        let core: Core = PoolCore::new(LIMITS, Vec::new(), move || {
            counter.fetch_add(1, Ordering::SeqCst);
        });
        let first = wait(&core, now);
        let asker = {
            let core = Arc::clone(&core);
            thread::spawn(move || wait(&core, now))
        };
        core.heard();
        let before = hints.load(Ordering::SeqCst);
        let wanted = core.wanted(now);
        let second = asker.join().unwrap();
        assert!(
            wanted == 2 || before > 1 || hints.load(Ordering::SeqCst) > before,
            "a want was missed"
        );
        // However the flag was raced for, the next want is told.
        let third = wait(&core, now);
        assert!(hints.load(Ordering::SeqCst) > before, "the flag is stuck");
        drop((first, second, third));
    });
}

#[test]
fn close_against_asking() {
    explore(ROUNDS, || {
        let now = Instant::now();
        let core = pool(LIMITS);
        let mut early = wait(&core, now);
        let asker = {
            let core = Arc::clone(&core);
            thread::spawn(move || match core.lease(0, now) {
                Ok(crate::Ask::Wait(waiter)) => block_on(waiter).is_err(),
                Ok(crate::Ask::Ready(_)) => false,
                Err(_) => true,
            })
        };
        drop(core.close("drained"));
        assert!(asker.join().unwrap());
        let _ = failed(&mut early);
        assert_eq!(core.snapshot(now).lost.get(LostReason::Closed), 0);
    });
}

#[test]
fn connection_laid_down_against_a_refusal() {
    explore(ROUNDS, || {
        let now = Instant::now();
        let quota = Quota::new("host", Some(1));
        let owner = shared(LIMITS, &quota);
        open(&owner, 1, now);
        let lease = ready(&owner, now);
        let hints = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&hints);
        let needy: Core = PoolCore::new(LIMITS, vec![Arc::clone(&quota)], move || {
            counter.fetch_add(1, Ordering::SeqCst);
        });
        let giver = thread::spawn(move || clean(lease));
        let opened = needy.begin_open(now).map(|slot| slot.fill(2, now)).is_ok();
        giver.join().unwrap();
        assert!(
            opened || hints.load(Ordering::SeqCst) > 0,
            "nobody told of the idle connection"
        );
        if !opened {
            open(&needy, 2, now);
        }
        assert_eq!((owner.snapshot(now).idle, quota.pressure().used), (0, 1));
    });
}

#[test]
fn freed_permit_against_one_that_wants_it_no_more() {
    explore(ROUNDS, || {
        let now = Instant::now();
        let quota = Quota::new("host", Some(1));
        let owner = shared(LIMITS, &quota);
        open(&owner, 1, now);
        let lease = ready(&owner, now);
        let hints = Arc::new(AtomicUsize::new(0));
        let (first, second) = (shared(LIMITS, &quota), shared(LIMITS, &quota));
        let waits: Core = {
            let hints = Arc::clone(&hints);
            PoolCore::new(LIMITS, vec![Arc::clone(&quota)], move || {
                hints.fetch_add(1, Ordering::SeqCst);
            })
        };
        for core in [&first, &second, &waits] {
            assert!(core.begin_open(now).is_err());
        }
        let loser = thread::spawn(move || drop(lease));
        let leaver = thread::spawn(move || {
            first.withdraw();
            first
        });
        drop(second);
        let first = leaver.join().unwrap();
        loser.join().unwrap();
        assert!(hints.load(Ordering::SeqCst) > 0, "the last was not told");
        drop(first);
    });
}

#[test]
fn opening_against_a_move() {
    explore(ROUNDS, || {
        let now = Instant::now();
        let (old, new) = (Quota::new("old", Some(0)), Quota::new("new", Some(1)));
        let core = shared(LIMITS, &old);
        let mover = {
            let (core, new) = (Arc::clone(&core), Arc::clone(&new));
            thread::spawn(move || core.move_to(vec![new]))
        };
        let opened = core.begin_open(now).is_ok();
        mover.join().unwrap();
        assert_eq!(old.pressure().refused, 0, "it is still asked for there");
        assert_eq!((old.pressure().used, new.pressure().used), (0, 0));
        assert!(!opened || core.snapshot(now).opening == 0);
    });
}
