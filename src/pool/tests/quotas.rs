//! Pools that share a quota.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::{Core, LIMITS, open, ready, shared, wait};
use crate::{Limits, LostReason, PoolCore, Quota, Refused};

#[test]
fn permit_is_held_until_the_connection_is_gone() {
    let now = Instant::now();
    let quota = Quota::new("host", Some(2));
    let core = shared(LIMITS, &quota);
    let slot = core.begin_open(now).unwrap();
    assert_eq!(quota.pressure().used, 1);
    slot.fill(1, now).unwrap();
    drop(core.begin_open(now).unwrap());
    assert_eq!(quota.pressure().used, 1, "given up");
    drop(ready(&core, now));
    assert_eq!(quota.pressure().used, 0);
    open(&core, 2, now);
    drop(core);
    assert_eq!(quota.pressure().used, 0, "the pool is gone");
}

#[test]
fn refusal_gives_back_the_permits_taken_before() {
    let now = Instant::now();
    let (first, second) = (Quota::new("user", Some(5)), Quota::new("host", Some(0)));
    let core: Core = PoolCore::new(LIMITS, vec![Arc::clone(&first), second], || {});
    let refused = core.begin_open(now).err();
    assert_eq!(
        refused,
        Some(Refused::Quota {
            name: "host".into(),
            max: 0
        })
    );
    assert_eq!(first.pressure().used, 0);
    assert_eq!(core.snapshot(now).opening, 0);
}

#[test]
fn idle_connection_of_a_sibling_is_reclaimed_the_oldest_first() {
    let now = Instant::now();
    let quota = Quota::new("host", Some(2));
    let (newer, older, needy) = (
        shared(LIMITS, &quota),
        shared(LIMITS, &quota),
        shared(LIMITS, &quota),
    );
    open(&newer, 1, now + Duration::from_secs(1));
    open(&older, 2, now);
    open(&needy, 3, now);
    assert_eq!(older.snapshot(now).lost.get(LostReason::Reclaimed), 1);
    assert_eq!(newer.snapshot(now).idle, 1);
    assert_eq!(quota.pressure().used, 2);
}

#[test]
fn minimum_and_own_waiters_are_not_reclaimed() {
    let now = Instant::now();
    let quota = Quota::new("host", Some(1));
    let owner = shared(Limits { min: 1, ..LIMITS }, &quota);
    let needy = shared(LIMITS, &quota);
    open(&owner, 1, now);
    assert!(matches!(needy.begin_open(now), Err(Refused::Quota { .. })));
    assert_eq!(owner.reclaim(9), [0; 0], "the minimum");
    owner.resize(LIMITS);
    owner.pause();
    let waiter = wait(&owner, now);
    assert_eq!(owner.reclaim(9), [0; 0], "somebody waits");
    drop(waiter);
    assert_eq!(owner.reclaim(9), [1]);
}

#[test]
fn freed_permit_is_told_to_all_that_were_refused() {
    let now = Instant::now();
    let quota = Quota::new("host", Some(1));
    let owner = shared(LIMITS, &quota);
    let hints = Arc::new(AtomicUsize::new(0));
    let needy: Vec<Core> = (0..2)
        .map(|_| {
            let hints = Arc::clone(&hints);
            let hint = move || {
                hints.fetch_add(1, Ordering::SeqCst);
            };
            PoolCore::new(LIMITS, vec![Arc::clone(&quota)], hint)
        })
        .collect();
    open(&owner, 1, now);
    let lease = ready(&owner, now);
    for core in &needy {
        assert!(core.begin_open(now).is_err());
        assert!(core.begin_open(now).is_err(), "remembered only once");
    }
    assert_eq!(
        (quota.pressure().refused, hints.load(Ordering::SeqCst)),
        (2, 0)
    );
    drop(lease);
    assert_eq!(
        (quota.pressure().refused, hints.load(Ordering::SeqCst)),
        (0, 2)
    );
}

#[test]
fn wanted_minds_the_quota_but_still_tries() {
    let now = Instant::now();
    let quota = Quota::new("host", Some(1));
    let core = shared(LIMITS, &quota);
    let _waiters = (wait(&core, now), wait(&core, now));
    assert_eq!(core.wanted(now), 1);
    quota.resize(None);
    assert_eq!(core.wanted(now), 2);
    open(&core, 1, now);
    quota.resize(Some(1));
    assert_eq!(core.wanted(now), 1, "a sibling may have one to spare");
}

#[test]
fn connections_count_where_they_were_opened() {
    let now = Instant::now();
    let (old, new) = (Quota::new("old", Some(3)), Quota::new("new", Some(1)));
    let core = shared(LIMITS, &old);
    open(&core, 1, now);
    let lease = ready(&core, now);
    let slot = core.begin_open(now).unwrap();
    core.move_to(vec![Arc::clone(&new)]);
    assert_eq!((old.pressure().used, new.pressure().used), (2, 0));
    open(&core, 2, now);
    assert_eq!((old.pressure().used, new.pressure().used), (2, 1));
    assert_eq!(core.retire_all(), [2]);
    drop(slot);
    drop(lease);
    assert_eq!((old.pressure().used, new.pressure().used), (0, 0));
}

#[test]
fn a_pool_that_moved_is_relieved_and_refused_by_its_new_siblings_alone() {
    let now = Instant::now();
    let (old, new) = (Quota::new("old", Some(1)), Quota::new("new", Some(1)));
    let (stayed, moved, neighbour) = (
        shared(LIMITS, &old),
        shared(LIMITS, &old),
        shared(LIMITS, &new),
    );
    open(&stayed, 1, now);
    let lease = ready(&stayed, now);
    assert!(moved.begin_open(now).is_err());
    moved.move_to(vec![Arc::clone(&new)]);
    assert_eq!(old.pressure().refused, 0, "it wants nothing there any more");
    open(&moved, 2, now);
    assert!(neighbour.begin_open(now).is_ok(), "it yields");
    assert_eq!(moved.snapshot(now).lost.get(LostReason::Reclaimed), 1);
    drop(lease);
    open(&moved, 3, now);
    open(&stayed, 4, now);
    assert_eq!(moved.snapshot(now).idle, 1, "it cannot help the old host");
}
