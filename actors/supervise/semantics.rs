//! What ractor does and does not do, one fact a test. The design stands on these; a bump of ractor that breaks one
//! of them has to be met with a change where the comment says.

mod parents;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ractor::rpc::CallResult;
use ractor::{Actor, ActorCell, ActorRef, ActorStatus, RpcReplyPort, SpawnErr};
use tokio::task::JoinHandle;

use crate::probe::{Journal, Order, Probe};
use parents::{Caring, Naive, Watcher, WatcherOrder};

const SECOND: Duration = Duration::from_secs(1);

async fn watcher(journal: &Journal) -> (ActorRef<WatcherOrder>, JoinHandle<()>) {
    Actor::spawn(None, Watcher(journal.clone()), ())
        .await
        .unwrap()
}

/// Spawns a probe below `parent`, and lets it get beyond its `post_start`.
async fn child(probe: &Probe, parent: ActorCell) -> JoinHandle<()> {
    let (actor, ended) = Actor::spawn_linked(None, probe.clone(), (), parent)
        .await
        .unwrap();
    while actor.get_status() < ActorStatus::Running {
        tokio::task::yield_now().await;
    }
    ended
}

/// Every parent of ours overrides `handle_supervisor_evt`: `Supervisor` and the keeper of `Dynamic`.
#[tokio::test(start_paused = true)]
async fn by_default_a_parent_stops_when_a_child_ends_even_normally() {
    let journal = Journal::default();
    let (parent, ended) = Actor::spawn(None, Naive, ()).await.unwrap();
    let probe = Probe::new("a", &journal);
    child(&probe, parent.get_cell()).await;
    probe.actor().stop(None);
    tokio::time::timeout(SECOND, ended).await.unwrap().unwrap();
    assert_eq!(parent.get_status(), ActorStatus::Stopped);
}

/// `Supervisor::post_stop` and the keeper of `Dynamic` stop their children themselves.
#[tokio::test(start_paused = true)]
async fn a_stopping_parent_kills_its_children_without_post_stop() {
    let journal = Journal::default();
    let (parent, _) = watcher(&journal).await;
    let probe = Probe::new("a", &journal);
    let ended = child(&probe, parent.get_cell()).await;
    parent.stop(None);
    ended.await.unwrap();
    assert_eq!(
        [journal.count("a down"), journal.count("a dropped")],
        [0, 1]
    );
}

/// The same, as it has to be done.
#[tokio::test(start_paused = true)]
async fn a_parent_can_stop_its_children_in_post_stop() {
    let journal = Journal::default();
    let (parent, ended) = Actor::spawn(None, Caring, ()).await.unwrap();
    child(&Probe::new("a", &journal), parent.get_cell()).await;
    parent.stop(None);
    ended.await.unwrap();
    assert_eq!(journal.count("a down"), 1);
}

/// What matters is in `Drop`: leases, `OwnedTask`, `Place`.
#[tokio::test(start_paused = true)]
async fn post_stop_never_runs_after_a_panic_an_error_or_a_kill_but_drop_does() {
    let ends: [fn(&Probe); 3] = [
        |probe| probe.order(Order::Panic),
        |probe| probe.order(Order::Fail),
        |probe| probe.actor().kill(),
    ];
    for end in ends {
        let journal = Journal::default();
        let (parent, _) = watcher(&journal).await;
        let probe = Probe::new("a", &journal);
        let ended = child(&probe, parent.get_cell()).await;
        end(&probe);
        ended.await.unwrap();
        assert_eq!(
            [journal.count("a down"), journal.count("a dropped")],
            [0, 1]
        );
    }
}

/// `Supervisor` treats an error of a start as a failure of its own accord.
#[tokio::test(start_paused = true)]
async fn errors_of_pre_start_reach_the_spawner_alone() {
    let journal = Journal::default();
    let (parent, _) = watcher(&journal).await;
    let probe = Probe::new("a", &journal);
    probe.bad_starts.store(1, Ordering::SeqCst);
    let spawned = Actor::spawn_linked(None, probe, (), parent.get_cell()).await;
    assert!(matches!(spawned, Err(SpawnErr::StartupFailed(_))));
    sync(&parent).await;
    assert_eq!(journal.take(), ["a not up"], "the parent heard nothing");
}

/// `Supervisor` hears of it, possibly before the report of the start: see `State::early`.
#[tokio::test(start_paused = true)]
async fn errors_of_post_start_reach_the_parent_without_a_started_event() {
    let journal = Journal::default();
    let (parent, _) = watcher(&journal).await;
    let probe = Probe::new("a", &journal);
    probe.bad_births.store(1, Ordering::SeqCst);
    child(&probe, parent.get_cell()).await;
    journal.until("failed: a bad birth", 1).await;
    assert_eq!(journal.count("a started"), 0);
}

/// `Supervisor` starts children in tasks, so that a slow `pre_start` does not keep it from its mailbox.
#[tokio::test(start_paused = true)]
async fn pre_start_runs_inside_the_spawner() {
    let journal = Journal::default();
    let (parent, _) = watcher(&journal).await;
    let begin = tokio::time::Instant::now();
    Actor::spawn_linked(None, parents::Slow(7 * SECOND), (), parent.get_cell())
        .await
        .unwrap();
    assert_eq!(begin.elapsed().as_secs(), 7);
}

/// `Exit::terminated` tells these from a clean stop by the reason alone.
#[tokio::test(start_paused = true)]
async fn a_kill_and_an_abort_are_terminations_with_these_reasons() {
    let journal = Journal::default();
    let (parent, _) = watcher(&journal).await;
    let probe = Probe::new("a", &journal);
    child(&probe, parent.get_cell()).await;
    probe.actor().kill();
    journal
        .until("terminated: Some(\"killed\") with state: true", 1)
        .await;
    child(&probe, parent.get_cell()).await.abort();
    journal
        .until(
            "terminated: Some(\"actor_task_cancelled\") with state: false",
            1,
        )
        .await;
    probe.order_late_is_refused();
}

/// `Supervisor` and `Dynamic` drop the state before they do anything else, and unlink children before they stop them
/// in `post_stop`.
#[tokio::test(start_paused = true)]
async fn on_a_clean_stop_the_state_travels_to_the_parent() {
    let journal = Journal::default();
    let (parent, _) = watcher(&journal).await;
    let probe = Probe::new("a", &journal);
    let ended = child(&probe, parent.get_cell()).await;
    parent.cast(WatcherOrder::Dwell(SECOND)).unwrap();
    journal.until("watcher dwells", 1).await;
    probe.actor().stop(None);
    ended.await.unwrap();
    assert_eq!(
        [journal.count("a down"), journal.count("a dropped")],
        [1, 0]
    );
    journal.until("terminated: None with state: true", 1).await;
    journal.until("a dropped", 1).await;
}

/// `stop::part`: an unlinked child sends no event, and does not end with its former parent.
#[tokio::test(start_paused = true)]
async fn an_unlinked_child_is_on_its_own() {
    let journal = Journal::default();
    let (parent, ended) = watcher(&journal).await;
    let probe = Probe::new("a", &journal);
    let child_ended = child(&probe, parent.get_cell()).await;
    probe.actor().unlink(parent.get_cell());
    parent.stop(None);
    ended.await.unwrap();
    assert_eq!(probe.actor().get_status(), ActorStatus::Running);
    probe.actor().stop(None);
    child_ended.await.unwrap();
    assert_eq!(
        [journal.count("a down"), journal.count("a dropped")],
        [1, 1]
    );
}

/// Orders that must not be lost are calls, not casts; `Drainer` and `stop_all` wait for an answer.
#[tokio::test(start_paused = true)]
async fn stop_drops_what_is_queued_and_does_not_interrupt_a_handler() {
    let journal = Journal::default();
    let probe = Probe::new("a", &journal);
    let (actor, ended) = Actor::spawn(None, probe.clone(), ()).await.unwrap();
    probe.order(Order::Dwell(SECOND));
    journal.until("a dwells", 1).await;
    probe.order(Order::Note("heard"));
    actor.stop(None);
    ended.await.unwrap();
    assert_eq!(
        journal.take(),
        ["a up", "a dwells", "a dwelt", "a down", "a dropped"]
    );
}

/// A caller is not left to its timeout when the callee ends: `Slot::call` says `Dropped`.
#[tokio::test(start_paused = true)]
async fn a_queued_call_is_answered_with_an_error_when_the_callee_ends() {
    let journal = Journal::default();
    let (actor, _) = watcher(&journal).await;
    actor.cast(WatcherOrder::Dwell(SECOND)).unwrap();
    let call = tokio::spawn({
        let actor = actor.clone();
        async move { actor.call(WatcherOrder::Sync, Some(1000 * SECOND)).await }
    });
    journal.until("watcher dwells", 1).await;
    let begin = tokio::time::Instant::now();
    actor.stop(None);
    assert!(matches!(call.await.unwrap(), Ok(CallResult::SenderError)));
    assert!(begin.elapsed() <= SECOND);
}

/// The other way to stop; children that must finish what is queued are drained.
#[tokio::test(start_paused = true)]
async fn drain_works_off_the_queue_and_takes_no_more() {
    let journal = Journal::default();
    let probe = Probe::new("a", &journal);
    let (actor, ended) = Actor::spawn(None, probe.clone(), ()).await.unwrap();
    probe.order(Order::Dwell(SECOND));
    journal.until("a dwells", 1).await;
    probe.order(Order::Note("heard"));
    actor.drain().unwrap();
    assert!(!probe.slot.cast(Order::Note("too late")));
    ended.await.unwrap();
    assert_eq!(
        journal.take(),
        [
            "a up",
            "a dwells",
            "a dwelt",
            "a heard",
            "a down",
            "a dropped"
        ]
    );
}

/// Heartbeats rely on it: a handler that awaits for ever can be killed.
#[tokio::test(start_paused = true)]
async fn kill_drops_a_running_handler_at_its_await() {
    let journal = Journal::default();
    let probe = Probe::new("a", &journal);
    let (actor, ended) = Actor::spawn(None, probe.clone(), ()).await.unwrap();
    probe.order(Order::Dwell(1000 * SECOND));
    journal.until("a dwells", 1).await;
    let begin = tokio::time::Instant::now();
    actor.kill();
    ended.await.unwrap();
    assert_eq!(
        [begin.elapsed().as_secs(), journal.count("a dwelt") as u64],
        [0, 0]
    );
}

/// `stop::stop` asks first and kills later: a kill reaches an actor that hangs in its `post_stop`.
#[tokio::test(start_paused = true)]
async fn kill_cuts_a_post_stop_short() {
    let journal = Journal::default();
    let probe = Probe {
        linger: 1000 * SECOND,
        ..Probe::new("a", &journal)
    };
    let (actor, ended) = Actor::spawn(None, probe, ()).await.unwrap();
    actor.stop(None);
    assert!(actor.wait(Some(SECOND)).await.is_err());
    actor.kill();
    ended.await.unwrap();
    assert_eq!(
        [journal.count("a down"), journal.count("a dropped")],
        [0, 1]
    );
}

/// This is why `OwnedTask` is: tasks of an actor are held by its state and end by its drop.
#[tokio::test(start_paused = true)]
async fn kill_does_not_touch_tasks() {
    let journal = Journal::default();
    let (actor, ended) = watcher(&journal).await;
    let (alive, task) = tokio::sync::oneshot::channel();
    actor.cast(WatcherOrder::Spawn(alive)).unwrap();
    journal.until("watcher spawned", 1).await;
    actor.kill();
    ended.await.unwrap();
    assert_eq!(task.await, Ok("the task ran on"));
}

/// Every queue of ours is bounded elsewhere: `Hint`, timers armed again by hand, admission at accept.
#[tokio::test(start_paused = true)]
async fn mailboxes_have_no_bound() {
    let journal = Journal::default();
    let probe = Probe::new("a", &journal);
    let (actor, _) = Actor::spawn(None, probe.clone(), ()).await.unwrap();
    probe.order(Order::Dwell(SECOND));
    journal.until("a dwells", 1).await;
    assert!((0..100_000).all(|_| actor.cast(Order::Note("heard")).is_ok()));
    journal.until("a heard", 100_000).await;
}

/// `State::early` and `Dynamic`'s count: ends are heard before messages that were sent earlier.
#[tokio::test(start_paused = true)]
async fn events_overtake_messages() {
    let journal = Journal::default();
    let (parent, _) = watcher(&journal).await;
    let probe = Probe::new("a", &journal);
    let ended = child(&probe, parent.get_cell()).await;
    parent.cast(WatcherOrder::Dwell(SECOND)).unwrap();
    journal.until("watcher dwells", 1).await;
    parent.cast(WatcherOrder::Note).unwrap();
    probe.order(Order::Fail);
    ended.await.unwrap();
    journal.until("watcher heard", 1).await;
    let seen = journal.take();
    let place = |entry| seen.iter().position(|noted| noted == entry).unwrap();
    assert!(place("failed: told to fail") < place("watcher heard"));
}

/// `Supervisor::dismiss` and `Dynamic`: nobody slips in while a supervisor stops.
#[tokio::test(start_paused = true)]
async fn a_parent_that_has_stopped_takes_no_children() {
    let journal = Journal::default();
    let (parent, ended) = watcher(&journal).await;
    parent.stop(None);
    ended.await.unwrap();
    let spawned = Actor::spawn_linked(None, Probe::new("a", &journal), (), parent.get_cell()).await;
    assert!(matches!(spawned, Err(SpawnErr::StartupFailed(_))));
}

/// `Slot::cast` tells that nobody heard; late timers of dead actors are harmless.
#[tokio::test(start_paused = true)]
async fn the_dead_refuse_messages_and_can_be_waited_for() {
    let journal = Journal::default();
    let probe = Probe::new("a", &journal);
    let (actor, ended) = Actor::spawn(None, probe.clone(), ()).await.unwrap();
    actor.kill();
    ended.await.unwrap();
    probe.order_late_is_refused();
    for _ in 0..3 {
        actor.wait(Some(SECOND)).await.unwrap();
    }
}

/// `Supervisor` and `Heartbeat` let go of their timers, and meet what comes late with tickets.
#[tokio::test(start_paused = true)]
async fn a_dropped_timer_still_sends() {
    let journal = Journal::default();
    let probe = Probe::new("a", &journal);
    let (actor, _) = Actor::spawn(None, probe, ()).await.unwrap();
    drop(actor.send_after(SECOND, || Order::Note("heard")));
    journal.until("a heard", 1).await;
}

/// Children have no names: the registry is global, and a second tree in the process could not start.
#[tokio::test(start_paused = true)]
async fn names_are_global_and_unique() {
    let journal = Journal::default();
    let name = || Some("semantics-unique".to_owned());
    let (actor, ended) = Actor::spawn(name(), Probe::new("a", &journal), ())
        .await
        .unwrap();
    let second = Actor::spawn(name(), Probe::new("b", &journal), ()).await;
    assert!(matches!(second, Err(SpawnErr::ActorAlreadyRegistered(_))));
    actor.stop(None);
    ended.await.unwrap();
    Actor::spawn(name(), Probe::new("b", &journal), ())
        .await
        .unwrap();
}

/// Replies that own something have to release it by `Drop`: the caller may be gone when they come.
#[tokio::test(start_paused = true)]
async fn a_timeout_is_the_callers_alone() {
    let journal = Journal::default();
    let (actor, _) = watcher(&journal).await;
    actor.cast(WatcherOrder::Dwell(2 * SECOND)).unwrap();
    let held = Arc::new(());
    let lent = Arc::clone(&held);
    let request = |reply| WatcherOrder::Return(lent, reply);
    let answer = actor.call(request, Some(SECOND)).await;
    assert!(matches!(answer, Ok(CallResult::Timeout)));
    journal.until("watcher could not return it", 1).await;
    assert_eq!(Arc::strong_count(&held), 1);
}

async fn sync(actor: &ActorRef<WatcherOrder>) {
    let answer = actor
        .call(|reply: RpcReplyPort<()>| WatcherOrder::Sync(reply), None)
        .await;
    assert!(matches!(answer, Ok(CallResult::Success(()))));
}

impl Probe {
    fn order_late_is_refused(&self) {
        assert!(!self.slot.cast(Order::Note("too late")));
    }
}
