//! Actors that stand still: they do not end, and nothing goes on, until their supervisor misses their signs of life.

use std::cmp::Reverse;
use std::time::Duration;

use pgherd_actors::chaos;
use pgherd_supervise::{NodeKind, NodeState, TreeNode};
use tokio::time::{Instant, resume, sleep, timeout};

use crate::house::House;
use crate::{ALONE, PATIENCE};

/// The longest that any of them may stand still: three of its beats, and up to one until the first look.
const LONGEST: Duration = Duration::from_secs(5 * 30);

/// The supervisor of listeners and sessions.
const FRONT: &str = "root/front";

/// Time passes only when nobody has anything to do, so that minutes of it take a moment.
#[tokio::test(start_paused = true)]
async fn who_stands_still_is_killed_and_started_again() {
    let _alone = ALONE.lock().await;
    let house = House::before_nobody();
    while !house.facts.is_ready() {
        sleep(Duration::from_millis(1)).await;
    }
    // Nobody comes, and nothing is to be done: that is no reason.
    sleep(2 * LONGEST).await;
    let tree = house.tree().await;
    let calm = |(_, node): &(String, TreeNode)| node.restarts == 0;
    assert!(tree.iter().all(calm), "{tree:?}");

    let (recovery, coordinators) = (
        "root/transactions/recovery",
        "root/transactions/coordinators",
    );
    let listener = format!("root/front/listener {}", house.address);
    for path in [
        listener.as_str(),
        "root/aux/http",
        "root/aux/totals",
        recovery,
        coordinators,
    ] {
        is_killed_and_started_again(&house, path).await;
        // What a crash of recovery leaves alone are transactions that are being committed.
        if path == recovery {
            assert_eq!(house.node(coordinators).await.restarts, 0);
        }
    }
    assert_eq!(house.node(recovery).await.restarts, 1);
    // Those below first: with a supervisor all that is below it is started anew, and knows of no restarts.
    let mut supervisors: Vec<String> = tree
        .into_iter()
        .filter(|(_, node)| node.kind == NodeKind::Supervisor)
        .map(|(path, _)| path)
        .filter(|path| path != "root" && path != FRONT)
        .collect();
    supervisors.sort_by_key(|path| Reverse(path.matches('/').count()));
    assert!(supervisors.len() >= 5, "{supervisors:?}");
    for path in &supervisors {
        is_killed_and_started_again(&house, path).await;
    }
    // They are all right from here on.
    sleep(2 * LONGEST).await;
    let tree = house.tree().await;
    assert!(tree.iter().all(|(_, node)| node.restarts <= 1), "{tree:?}");
    // With this one all clients would go, who need nothing of it.
    let front = house.find(FRONT).await;
    assert!(chaos::stick(&front), "{FRONT} cannot stand still");
    assert!(
        front.wait(Some(2 * LONGEST)).await.is_err(),
        "{FRONT} was ended"
    );
    front.kill();
    restarted(&house, FRONT).await;
    resume();
    house.end().await;
}

async fn is_killed_and_started_again(house: &House, path: &str) {
    let actor = house.find(path).await;
    let began = Instant::now();
    assert!(chaos::stick(&actor), "{path} cannot stand still");
    let ended = actor.wait(Some(LONGEST)).await;
    ended.unwrap_or_else(|_| panic!("{path} stands still for ever"));
    assert!(began.elapsed() > Duration::from_secs(19), "{path}");
    let why = restarted(house, path)
        .await
        .last_failure
        .unwrap_or_default();
    assert!(
        why == "killed" || why.starts_with("gave no sign of life"),
        "{path}: {why}"
    );
}

/// Waits until an actor runs for the second time.
async fn restarted(house: &House, path: &str) -> TreeNode {
    let again = async {
        loop {
            let node = house.node(path).await;
            if node.state == NodeState::Running && node.restarts == 1 {
                return node;
            }
            sleep(Duration::from_millis(1)).await;
        }
    };
    let node = timeout(PATIENCE, again).await;
    node.unwrap_or_else(|_| panic!("{path} is not started again"))
}
