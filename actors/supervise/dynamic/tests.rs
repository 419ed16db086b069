use std::time::Duration;

use ractor::rpc::CallResult;
use tokio::time::Instant;

use super::{Drained, Dynamic, DynamicError};
use crate::probe::{Journal, Order, Probe};
use crate::{RootExit, RootHandle, SupervisorMessage, SupervisorSpec, run_root};

const SECOND: Duration = Duration::from_secs(1);

async fn house(dynamic: &Dynamic) -> RootHandle {
    run_root(SupervisorSpec::new("root").child(dynamic.child(10 * SECOND)))
        .await
        .unwrap()
}

/// Waits until the count is this, which every end brings nearer.
async fn until_count(dynamic: &Dynamic, count: usize) {
    while dynamic.count() != count {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_come_and_go() {
    let (journal, dynamic) = (Journal::default(), Dynamic::new("sessions"));
    assert_eq!(dynamic.count(), 0);
    let root = house(&dynamic).await;
    let probe = Probe::new("s", &journal);
    let mut children = Vec::new();
    for _ in 0..10_000 {
        children.push(dynamic.spawn(probe.clone(), ()).await.unwrap());
    }
    assert_eq!(dynamic.count(), 10_000);
    children.pop().unwrap().cast(Order::Panic).unwrap();
    children.pop().unwrap().cast(Order::Fail).unwrap();
    children.pop().unwrap().kill();
    children.pop().unwrap().stop(None);
    until_count(&dynamic, 9_996).await;
    assert_eq!(dynamic.failures(), 3);
    let drained = dynamic.stop_all(SECOND).await.unwrap();
    assert_eq!(
        drained,
        Drained {
            children: 9_996,
            killed: 0
        }
    );
    assert_eq!([dynamic.count(), journal.count("s down")], [0, 9_997]);
    assert_eq!(
        [journal.count("s up"), journal.count("s dropped")],
        [10_000, 10_000]
    );
    let refused = dynamic.spawn(probe, ()).await;
    assert!(matches!(refused, Err(DynamicError::Draining)));
    root.actor.stop(None);
    assert_eq!(root.join.await.unwrap(), RootExit::Stopped);
}

#[tokio::test(start_paused = true)]
async fn those_that_stay_too_long_are_killed() {
    let (journal, dynamic) = (Journal::default(), Dynamic::new("sessions"));
    let _root = house(&dynamic).await;
    let quick = Probe::new("quick", &journal);
    let slow = Probe {
        linger: 100 * SECOND,
        ..Probe::new("slow", &journal)
    };
    dynamic.spawn(quick, ()).await.unwrap();
    dynamic.spawn(slow, ()).await.unwrap();
    let begin = Instant::now();
    let drained = dynamic.stop_all(5 * SECOND).await.unwrap();
    assert_eq!(
        drained,
        Drained {
            children: 2,
            killed: 1
        }
    );
    assert_eq!(begin.elapsed().as_secs(), 5);
    assert_eq!(
        [journal.count("quick down"), journal.count("slow down")],
        [1, 0]
    );
}

#[tokio::test(start_paused = true)]
async fn a_stopping_tree_lets_them_end_and_drops_each_state_at_once() {
    let (journal, dynamic) = (Journal::default(), Dynamic::new("sessions"));
    let root = house(&dynamic).await;
    let quick = Probe::new("quick", &journal);
    let slow = Probe {
        linger: 2 * SECOND,
        ..Probe::new("slow", &journal)
    };
    let stuck = Probe {
        linger: 100 * SECOND,
        ..Probe::new("stuck", &journal)
    };
    for probe in [slow, quick, stuck] {
        dynamic.spawn(probe, ()).await.unwrap();
    }
    journal.take();
    let begin = Instant::now();
    root.actor.stop(None);
    assert_eq!(root.join.await.unwrap(), RootExit::Stopped);
    assert_eq!(begin.elapsed().as_secs(), 10, "the grace");
    let expected = [
        "quick down",
        "quick dropped",
        "slow down",
        "slow dropped",
        "stuck dropped",
    ];
    assert_eq!(journal.take(), expected);
    assert_eq!(dynamic.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_failed_start_gives_its_place_back() {
    let (journal, dynamic) = (Journal::default(), Dynamic::new("sessions"));
    let probe = Probe::new("s", &journal);
    assert!(matches!(
        dynamic.spawn(probe.clone(), ()).await,
        Err(DynamicError::Absent)
    ));
    let _root = house(&dynamic).await;
    probe
        .bad_starts
        .store(1, std::sync::atomic::Ordering::SeqCst);
    assert!(matches!(
        dynamic.spawn(probe.clone(), ()).await,
        Err(DynamicError::Spawn(_))
    ));
    assert_eq!(dynamic.count(), 0);
    probe
        .bad_births
        .store(1, std::sync::atomic::Ordering::SeqCst);
    dynamic.spawn(probe, ()).await.unwrap();
    until_count(&dynamic, 0).await;
    assert_eq!(dynamic.failures(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_next_incarnation_begins_with_none() {
    let (journal, dynamic) = (Journal::default(), Dynamic::new("sessions"));
    let root = house(&dynamic).await;
    let probe = Probe::new("s", &journal);
    dynamic.spawn(probe.clone(), ()).await.unwrap();
    let present = dynamic.shared.present.load_full().unwrap();
    present.actor.kill();
    journal.until("s dropped", 1).await;
    let mut restarts = 0;
    while restarts == 0 {
        let Ok(CallResult::Success(tree)) = root.actor.call(SupervisorMessage::Tree, None).await
        else {
            panic!("no answer")
        };
        restarts = tree.children[0].restarts;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(dynamic.count(), 0);
    dynamic.spawn(probe, ()).await.unwrap();
    assert_eq!(dynamic.count(), 1);
}
