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

/// Pools that count how often any of them is told to look.
fn needy(count: usize, quotas: &[&Arc<Quota>], hints: &Arc<AtomicUsize>) -> Vec<Core> {
    let pool = |_| {
        let hints = Arc::clone(hints);
        let hint = move || {
            hints.fetch_add(1, Ordering::SeqCst);
        };
        let quotas = quotas.iter().map(|quota| Arc::clone(quota)).collect();
        PoolCore::new(LIMITS, quotas, hint)
    };
    (0..count).map(pool).collect()
}

#[test]
fn freed_permit_is_told_to_one_after_the_other_until_it_is_taken() {
    let now = Instant::now();
    let quota = Quota::new("host", Some(1));
    let owner = shared(LIMITS, &quota);
    let hints = Arc::default();
    let mut needy = needy(200, &[&quota], &hints);
    open(&owner, 1, now);
    let lease = ready(&owner, now);
    for core in &needy {
        assert!(core.begin_open(now).is_err());
        assert!(core.begin_open(now).is_err(), "remembered only once");
    }
    let seen = || (quota.pressure().refused, hints.load(Ordering::SeqCst));
    assert_eq!(seen(), (200, 0));
    drop(lease);
    assert_eq!(seen(), (199, 1), "as many as can be served");
    // The first to be told wants it no more, the second is gone, the third takes it.
    needy[0].withdraw();
    assert_eq!(seen(), (198, 2));
    drop(needy.remove(1));
    assert_eq!(seen(), (197, 3));
    let slot = needy[1].begin_open(now).unwrap();
    assert_eq!(seen(), (197, 3));
    // Of what is laid down it is the same.
    slot.fill(2, now).unwrap();
    assert_eq!(seen(), (196, 4));
    needy[2].withdraw();
    assert_eq!(seen(), (195, 5));
    let slot = needy[3].begin_open(now).unwrap();
    assert_eq!(seen(), (194, 6), "there may have been more of it");
    drop(slot);
    assert_eq!(seen(), (193, 7));
}

#[test]
fn who_is_told_of_a_permit_and_held_back_elsewhere_has_the_next_told() {
    let now = Instant::now();
    let (host, user) = (Quota::new("host", Some(1)), Quota::new("user", Some(1)));
    let (owner, other) = (shared(LIMITS, &host), shared(LIMITS, &user));
    let (first, second) = (Arc::default(), Arc::default());
    let torn = needy(1, &[&user, &host], &first).remove(0);
    let waits = needy(1, &[&host], &second).remove(0);
    open(&owner, 1, now);
    let lease = ready(&owner, now);
    assert!(torn.begin_open(now).is_err());
    assert!(waits.begin_open(now).is_err());
    open(&other, 2, now);
    let _busy = ready(&other, now);
    drop(lease);
    let told = [&first, &second].map(|hints| hints.load(Ordering::SeqCst));
    assert_eq!(told, [1, 0]);
    assert!(torn.begin_open(now).is_err(), "the user has its own");
    assert_eq!(second.load(Ordering::SeqCst), 1);
    open(&waits, 3, now);
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
