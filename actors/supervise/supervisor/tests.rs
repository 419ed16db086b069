//! The supervisor on paused time: every wait is for an event, and time only passes when nothing else can happen.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ractor::rpc::CallResult;
use ractor::{Actor, ActorRef, RpcReplyPort};
use tokio::time::Instant;

use super::{ChildError, SupervisorMessage};
use crate::probe::{Journal, Order, Probe};
use crate::{
    Backoff, ChildSpec, Dynamic, Exhausted, Heartbeat, Intensity, NodeKind, NodeState, Restart,
    RootExit, RootHandle, Shutdown, Strategy, SupervisorSpec, TreeNode, linked, run_root,
};

const SECOND: Duration = Duration::from_secs(1);

fn spec(probes: &[&Probe]) -> SupervisorSpec {
    let backoff = Backoff {
        min: Duration::from_millis(100),
        max: Duration::from_secs(10),
        jitter: 0.0,
        healthy_after: Duration::from_secs(60),
    };
    probes.iter().fold(
        SupervisorSpec::new("root").backoff(backoff),
        |spec, probe| spec.child(probe.spec()),
    )
}

async fn run(spec: SupervisorSpec) -> RootHandle {
    run_root(spec).await.unwrap()
}

async fn ask<T: Send + 'static>(
    root: &RootHandle,
    request: impl FnOnce(RpcReplyPort<T>) -> SupervisorMessage,
) -> T {
    match root.actor.call(request, Some(1000 * SECOND)).await {
        Ok(CallResult::Success(answer)) => answer,
        _ => panic!("no answer"),
    }
}

async fn tree(root: &RootHandle) -> TreeNode {
    ask(root, SupervisorMessage::Tree).await
}

/// Waits until nothing is under way but timers.
async fn calm(root: &RootHandle) {
    ask(root, SupervisorMessage::Settled).await;
}

fn three(journal: &Journal) -> [Probe; 3] {
    ["a", "b", "c"].map(|name| Probe::new(name, journal))
}

#[tokio::test(start_paused = true)]
async fn one_for_one_restarts_the_one() {
    let journal = Journal::default();
    let [a, b, c] = three(&journal);
    let _root = run(spec(&[&a, &b, &c])).await;
    assert_eq!(journal.take(), ["a up", "b up", "c up"]);
    b.order(Order::Panic);
    journal.until("b up", 1).await;
    assert_eq!(journal.take(), ["b dropped", "b up"]);
}

#[tokio::test(start_paused = true)]
async fn first_starts_wait_for_each_other() {
    let journal = Journal::default();
    let [a, b, _] = three(&journal);
    let probe = a.clone();
    let slow = ChildSpec::permanent("a", move |supervisor| {
        let probe = probe.clone();
        async move {
            tokio::time::sleep(SECOND).await;
            linked(supervisor, probe, ()).await
        }
    });
    let _root = run(spec(&[]).child(slow).child(b.spec())).await;
    assert_eq!(journal.take(), ["a up", "b up"]);
}

#[tokio::test(start_paused = true)]
async fn rest_for_one_restarts_those_after_it_in_order() {
    let journal = Journal::default();
    let [a, b, c] = three(&journal);
    let d = Probe::new("d", &journal);
    let _root = run(spec(&[&a, &b, &c, &d]).strategy(Strategy::RestForOne)).await;
    assert_eq!(journal.take(), ["a up", "b up", "c up", "d up"]);
    b.order(Order::Fail);
    journal.until("d up", 1).await;
    let mut seen = journal.take();
    seen.retain(|entry| !entry.ends_with("dropped"));
    assert_eq!(seen, ["d down", "c down", "b up", "c up", "d up"]);
}

#[tokio::test(start_paused = true)]
async fn rest_for_one_waits_for_a_slow_stop() {
    let journal = Journal::default();
    let [a, mut b, c] = three(&journal);
    b.linger = 3 * SECOND;
    let _root = run(spec(&[&a, &b, &c]).strategy(Strategy::RestForOne)).await;
    journal.take();
    a.order(Order::Panic);
    journal.until("c up", 1).await;
    let mut seen = journal.take();
    seen.retain(|entry| !entry.ends_with("dropped"));
    assert_eq!(seen, ["c down", "b down", "a up", "b up", "c up"]);
}

#[tokio::test(start_paused = true)]
async fn temporary_children_do_not_come_back_with_the_rest() {
    let journal = Journal::default();
    let [a, b, c] = three(&journal);
    let children = [a.spec(), b.spec().restart(Restart::Temporary), c.spec()];
    let spec = children.into_iter().fold(spec(&[]), SupervisorSpec::child);
    let root = run(spec.strategy(Strategy::RestForOne)).await;
    a.order(Order::Panic);
    journal.until("c up", 2).await;
    assert_eq!([journal.count("b down"), journal.count("b up")], [1, 1]);
    assert_eq!(
        tree(&root).await.find("b").unwrap().state,
        NodeState::Stopped
    );
}

#[tokio::test(start_paused = true)]
async fn every_abnormal_end_is_answered() {
    let journal = Journal::default();
    let a = Probe::new("a", &journal);
    let root = run(spec(&[&a])).await;
    let mut starts = 1;
    type End = fn(&Probe);
    let ends: [(&str, End); 3] = [
        ("told to panic", |a| a.order(Order::Panic)),
        ("told to fail", |a| a.order(Order::Fail)),
        ("killed", |a| a.actor().kill()),
    ];
    for (reason, end) in ends {
        end(&a);
        starts += 1;
        journal.until("a up", starts).await;
        calm(&root).await;
        let tree = tree(&root).await;
        let node = tree.find("a").unwrap();
        let failure = node.last_failure.clone().unwrap();
        assert!(failure.contains(reason), "{failure}");
        assert_eq!(node.state, NodeState::Running);
        assert_eq!(node.restarts, starts as u64 - 1);
    }
}

/// The actor is known to ractor's tree before its supervisor hears of it, and its end overtakes the report of its start.
#[tokio::test(start_paused = true)]
async fn an_end_that_overtakes_the_start_is_answered_once() {
    let journal = Journal::default();
    let a = Probe::new("a", &journal);
    a.bad_births.store(2, Ordering::SeqCst);
    let root = run(spec(&[&a])).await;
    journal.until("a up", 3).await;
    tokio::time::sleep(100 * SECOND).await;
    assert_eq!(journal.count("a up"), 3);
    assert_eq!(tree(&root).await.children[0].state, NodeState::Running);
}

#[tokio::test(start_paused = true)]
async fn failed_starts_wait_longer_each_time_and_health_is_rewarded() {
    let journal = Journal::default();
    let a = Probe::new("a", &journal);
    a.bad_starts.store(4, Ordering::SeqCst);
    let intensity = Intensity {
        restarts: 100,
        within: SECOND,
    };
    let begin = Instant::now();
    let _root = run(spec(&[&a]).intensity(intensity)).await;
    let mut waits = Vec::new();
    for n in 2..=4 {
        journal.until("a not up", n).await;
        waits.push(begin.elapsed().as_millis());
    }
    journal.until("a up", 1).await;
    waits.push(begin.elapsed().as_millis());
    // Timers have the grain of a millisecond.
    let expected = [100, 300, 700, 1500];
    assert!(
        waits
            .iter()
            .zip(expected)
            .all(|(is, due)| is.abs_diff(due) < 10),
        "{waits:?}"
    );

    tokio::time::sleep(59 * SECOND).await;
    let failed = Instant::now();
    a.order(Order::Panic);
    journal.until("a up", 2).await;
    assert_eq!(
        failed.elapsed().as_millis() / 100,
        16,
        "not healthy for long enough"
    );
    tokio::time::sleep(61 * SECOND).await;
    let failed = Instant::now();
    a.order(Order::Panic);
    journal.until("a up", 3).await;
    assert_eq!(failed.elapsed().as_millis() / 100, 1, "healthy again");
}

#[tokio::test(start_paused = true)]
async fn a_start_that_hangs_has_failed_and_delays_no_sibling() {
    let journal = Journal::default();
    let [a, b, _] = three(&journal);
    let hung = ChildSpec::permanent("hung", |_| std::future::pending()).start_within(SECOND);
    let root = run(spec(&[&a]).child(hung).child(b.spec())).await;
    assert_eq!(journal.take(), ["a up", "b up"]);
    let tree = tree(&root).await;
    assert_eq!(tree.find("hung").unwrap().state, NodeState::Restarting);
    assert_eq!(
        tree.find("hung").unwrap().last_failure.as_deref(),
        Some("did not start within 1s")
    );
    a.order(Order::Panic);
    journal.until("a up", 1).await;
}

#[tokio::test(start_paused = true)]
async fn exhaustion_climbs_to_the_root_and_stops_siblings_in_order() {
    let journal = Journal::default();
    let [a, b, c] = three(&journal);
    let (inner_b, inner_c) = (b.clone(), c.clone());
    let inner = move || SupervisorSpec {
        name: "inner".to_owned(),
        ..spec(&[&inner_b, &inner_c]).intensity(Intensity {
            restarts: 1,
            within: 60 * SECOND,
        })
    };
    let root = spec(&[&a])
        .child(ChildSpec::supervisor(inner))
        .intensity(Intensity {
            restarts: 1,
            within: 60 * SECOND,
        });
    let root = run(root).await;
    assert_eq!(journal.take(), ["a up", "b up", "c up"]);
    for round in 1..=4 {
        b.order(Order::Panic);
        if round < 4 {
            journal.until("b up", round).await;
            calm(&root).await;
        }
    }
    let exit = root.join.await.unwrap();
    let RootExit::Exhausted { child, reason } = exit else {
        panic!("{exit:?}")
    };
    assert_eq!(child, "inner");
    assert_eq!(reason, "b of inner is beyond repair: told to panic");
    assert_eq!(
        journal.count("c down"),
        2,
        "the inner supervisor stopped its other child each time"
    );
    assert_eq!(
        journal.count("a down"),
        1,
        "the root stopped its other child"
    );
}

#[tokio::test(start_paused = true)]
async fn isolation_stops_tells_and_tries_again() {
    let journal = Journal::default();
    let [a, b, c] = three(&journal);
    let told = journal.clone();
    let spec = spec(&[&a, &b, &c])
        .intensity(Intensity {
            restarts: 0,
            within: 60 * SECOND,
        })
        .when_exhausted(Exhausted::isolate(move |why| told.note(why.to_string())));
    let root = run(spec).await;
    journal.take();
    b.order(Order::Fail);
    journal
        .until("b of root is beyond repair: told to fail", 1)
        .await;
    let isolated = Instant::now();
    let mut seen = journal.take();
    seen.retain(|entry| !entry.ends_with("dropped"));
    assert_eq!(
        seen,
        [
            "c down",
            "a down",
            "b of root is beyond repair: told to fail"
        ]
    );
    let node = tree(&root).await;
    assert_eq!(node.state, NodeState::Isolated);
    assert_eq!(node.children[0].state, NodeState::Waiting);
    let refused = ask(&root, |reply| {
        SupervisorMessage::StartChild(a.spec(), reply)
    })
    .await;
    assert_eq!(refused.unwrap_err(), ChildError::Unavailable);
    journal.until("c up", 1).await;
    assert_eq!(
        isolated.elapsed().as_secs(),
        10,
        "after the longest wait of the backoff"
    );
    journal.take();
    b.order(Order::Fail);
    journal.until("c up", 1).await;
    let mut seen = journal.take();
    seen.retain(|entry| entry.ends_with("up"));
    assert_eq!(seen, ["a up", "b up", "c up"], "in order");
    assert_eq!(
        isolated.elapsed().as_secs(),
        30,
        "the second time twice as long"
    );
}

#[tokio::test(start_paused = true)]
async fn each_restart_rule_is_kept() {
    let journal = Journal::default();
    let [a, b, c] = three(&journal);
    let spec = SupervisorSpec::new("root")
        .child(a.spec())
        .child(b.spec().restart(Restart::Transient))
        .child(c.spec().restart(Restart::Temporary));
    let root = run(spec).await;
    journal.take();
    b.actor().kill();
    journal.until("b up", 1).await;
    c.actor().kill();
    a.actor().stop(None);
    journal.until("a up", 1).await;
    b.actor().stop(None);
    journal.until("b dropped", 2).await;
    tokio::time::sleep(100 * SECOND).await;
    assert_eq!([journal.count("b up"), journal.count("c up")], [1, 0]);
    let tree = tree(&root).await;
    let states: Vec<NodeState> = tree.children.iter().map(|child| child.state).collect();
    assert_eq!(
        states,
        [NodeState::Running, NodeState::Stopped, NodeState::Stopped]
    );
}

#[tokio::test(start_paused = true)]
async fn the_tree_stops_last_first_and_every_post_stop_runs() {
    let journal = Journal::default();
    let [mut a, b, c] = three(&journal);
    a.linger = 2 * SECOND;
    let d = Probe::new("d", &journal);
    let (inner_b, inner_c) = (b.clone(), c.clone());
    let inner = move || SupervisorSpec {
        name: "inner".to_owned(),
        ..spec(&[&inner_b, &inner_c])
    };
    let root = run(spec(&[&a])
        .child(ChildSpec::supervisor(inner))
        .child(d.spec()))
    .await;
    journal.take();
    root.actor.stop(None);
    assert_eq!(root.join.await.unwrap(), RootExit::Stopped);
    assert_eq!(
        journal.take(),
        [
            "d down",
            "d dropped",
            "c down",
            "c dropped",
            "b down",
            "b dropped",
            "a down",
            "a dropped"
        ],
        "each state goes with its actor, not with its supervisor"
    );
}

#[tokio::test(start_paused = true)]
async fn a_killed_root_says_so() {
    let journal = Journal::default();
    let a = Probe::new("a", &journal);
    let root = run(spec(&[&a])).await;
    root.actor.kill();
    assert_eq!(root.join.await.unwrap(), RootExit::Killed);
    journal.until("a dropped", 1).await;
    assert_eq!(journal.count("a down"), 0);
}

#[tokio::test(start_paused = true)]
async fn whoever_outstays_the_time_to_stop_is_killed() {
    let journal = Journal::default();
    let [a, mut b, c] = three(&journal);
    b.linger = 1000 * SECOND;
    let spec = SupervisorSpec::new("root")
        .child(a.spec())
        .child(b.spec().shutdown(Shutdown::Within(7 * SECOND)))
        .child(c.spec().shutdown(Shutdown::Kill));
    let root = run(spec).await;
    let begin = Instant::now();
    root.actor.stop(None);
    assert_eq!(root.join.await.unwrap(), RootExit::Stopped);
    assert_eq!(begin.elapsed().as_secs(), 7);
    assert_eq!(
        ["a down", "b down", "c down"].map(|entry| journal.count(entry)),
        [1, 0, 0]
    );
}

#[tokio::test(start_paused = true)]
async fn late_and_foreign_events_restart_nothing() {
    let journal = Journal::default();
    let [a, b, stranger] = three(&journal);
    let root = run(spec(&[&a, &b])).await;
    Actor::spawn_linked(None, stranger.clone(), (), root.actor.get_cell())
        .await
        .unwrap();
    stranger.actor().kill();
    // Its timer is under way when it is taken off the list.
    a.order(Order::Panic);
    journal.until("a dropped", 1).await;
    calm(&root).await;
    assert_eq!(tree(&root).await.children[0].state, NodeState::Restarting);
    ask(&root, |reply| {
        SupervisorMessage::StopChild("a".to_owned(), reply)
    })
    .await
    .unwrap();
    tokio::time::sleep(100 * SECOND).await;
    assert_eq!(
        ["a up", "b up", "c up"].map(|entry| journal.count(entry)),
        [1, 1, 1]
    );
    assert_eq!(tree(&root).await.children.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stuck_child_is_killed_and_started_again() {
    let journal = Journal::default();
    let [mut a, mut b, _] = three(&journal);
    let beats = [(); 2].map(|()| Heartbeat::new(5 * SECOND));
    a.heartbeat = Some(beats[0].clone());
    b.heartbeat = Some(beats[1].clone());
    let children = [
        a.spec().heartbeat(beats[0].clone()),
        b.spec().heartbeat(beats[1].clone()),
    ];
    let root = run(children.into_iter().fold(spec(&[]), SupervisorSpec::child)).await;
    tokio::time::sleep(60 * SECOND).await;
    assert_eq!(journal.count("a up"), 1, "a child that beats is left alone");
    let stuck = Instant::now();
    a.order(Order::Dwell(100_000 * SECOND));
    journal.until("a up", 2).await;
    // Three looks after the last beat, which was at most one interval before.
    let time = stuck.elapsed();
    assert!(time >= 10 * SECOND && time < 21 * SECOND, "{time:?}");
    assert_eq!([journal.count("a dwelt"), journal.count("b up")], [0, 1]);
    calm(&root).await;
    let tree = tree(&root).await;
    let failure = tree.find("a").unwrap().last_failure.as_deref();
    assert_eq!(failure, Some("gave no sign of life for 15s"));
    assert_eq!(tree.find("b").unwrap().last_failure, None);
}

#[tokio::test(start_paused = true)]
async fn children_come_and_go_on_request() {
    let journal = Journal::default();
    let [a, b, c] = three(&journal);
    let root = run(spec(&[&a])).await;
    let start = |probe: &Probe| {
        let spec = probe.spec();
        |reply| SupervisorMessage::StartChild(spec, reply)
    };
    let cell = ask(&root, start(&b)).await.unwrap();
    assert_eq!(cell, b.actor().get_cell());
    assert_eq!(
        ask(&root, start(&b)).await.unwrap_err(),
        ChildError::Duplicate("b".to_owned())
    );
    c.bad_starts.store(1, Ordering::SeqCst);
    let failed = ChildError::Failed("a bad start".to_owned());
    assert_eq!(ask(&root, start(&c)).await.unwrap_err(), failed);
    b.order(Order::Panic);
    journal.until("b up", 2).await;
    let stop = |id: &str| {
        let id = id.to_owned();
        |reply| SupervisorMessage::StopChild(id, reply)
    };
    ask(&root, stop("b")).await.unwrap();
    assert_eq!(journal.count("b down"), 1, "answered when it is gone");
    assert_eq!(
        ask(&root, stop("b")).await.unwrap_err(),
        ChildError::Unknown("b".to_owned())
    );
    ask(&root, start(&b)).await.unwrap();
    assert_eq!(tree(&root).await.children.len(), 2);
}

/// Whoever stops a child and starts another of its name need not wait in between.
#[tokio::test(start_paused = true)]
async fn a_child_waits_for_one_of_its_name_that_is_on_its_way_out() {
    let journal = Journal::default();
    let [a, mut b, c] = three(&journal);
    b.linger = SECOND;
    let root = run(spec(&[&a])).await;
    let start = |probe: &Probe| {
        let spec = probe.spec();
        |reply| SupervisorMessage::StartChild(spec, reply)
    };
    let stop = |reply| SupervisorMessage::StopChild("b".to_owned(), reply);
    let first = ask(&root, start(&b)).await.unwrap();
    let (stopped, again, twice, other) = tokio::join!(
        ask(&root, stop),
        ask(&root, start(&b)),
        ask(&root, start(&b)),
        ask(&root, start(&c)),
    );
    stopped.unwrap();
    assert_ne!(again.unwrap(), first);
    assert_eq!(twice.unwrap_err(), ChildError::Duplicate("b".to_owned()));
    other.unwrap();
    let noted = journal.take();
    let at = |entry: &str| noted.iter().rposition(|it| it == entry).unwrap();
    assert!(
        at("c up") < at("b down"),
        "others wait for nothing: {noted:?}"
    );
    assert!(at("b down") < at("b up"), "{noted:?}");
    // One that has not come to its start yet is stopped as well.
    let (stopped, again, neither) =
        tokio::join!(ask(&root, stop), ask(&root, start(&b)), ask(&root, stop),);
    stopped.unwrap();
    assert_eq!(again.unwrap_err(), ChildError::Unavailable);
    neither.unwrap();
    calm(&root).await;
    assert_eq!(tree(&root).await.children.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn ids_are_unique() {
    let journal = Journal::default();
    let a = Probe::new("a", &journal);
    let error = run_root(spec(&[&a, &a])).await.unwrap_err();
    assert!(
        error.to_string().contains("there is a child a already"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn the_tree_shows_all_that_answer() {
    let journal = Journal::default();
    let [a, b, c] = three(&journal);
    let inner_b = b.clone();
    let inner = move || SupervisorSpec {
        name: "inner".to_owned(),
        ..spec(&[&inner_b])
    };
    let sessions = Dynamic::new("sessions");
    let silent = ChildSpec {
        kind: NodeKind::Supervisor,
        ..c.spec()
    };
    let root = run(spec(&[&a])
        .child(ChildSpec::supervisor(inner))
        .child(sessions.child(SECOND))
        .child(silent))
    .await;
    for _ in 0..3 {
        sessions.spawn(Probe::new("s", &journal), ()).await.unwrap();
    }
    b.order(Order::Fail);
    journal.until("b up", 2).await;
    calm(&root).await;
    let tree = tree(&root).await;
    let lines: Vec<String> = tree
        .children
        .iter()
        .chain(&tree.find("inner").unwrap().children)
        .map(|n| {
            format!(
                "{} {} {} {} {:?}",
                n.name, n.kind, n.state, n.restarts, n.population
            )
        })
        .collect();
    assert_eq!(
        lines,
        [
            "a worker running 0 None",
            "inner supervisor running 0 None",
            "sessions dynamic running 0 Some(3)",
            "c supervisor silent 0 None",
            "b worker running 1 None",
        ]
    );
    assert_eq!(
        tree.find("b").unwrap().last_failure.as_deref(),
        Some("told to fail")
    );
}

/// The arguments of a child live in its spec and so outlive it; nothing else of it does.
#[tokio::test(start_paused = true)]
async fn a_stopped_tree_leaves_nothing_behind() {
    let journal = Journal::default();
    let a = Probe::new("a", &journal);
    let held = Arc::clone(&a.bad_starts);
    let root = run(spec(&[&a])).await;
    drop(a);
    root.actor.stop(None);
    root.join.await.unwrap();
    let actor: ActorRef<SupervisorMessage> = root.actor;
    assert!(
        actor
            .cast(SupervisorMessage::StopChild("a".to_owned(), port()))
            .is_err()
    );
    assert_eq!(Arc::strong_count(&held), 1);
}

fn port<T>() -> RpcReplyPort<T> {
    tokio::sync::oneshot::channel().0.into()
}
