//! Actors that stand still: they do not end, and nothing goes on, until their supervisor misses their signs of life.

use std::time::Duration;

use pgherd_actors::chaos;
use pgherd_supervise::{NodeState, TreeNode};
use tokio::time::{Instant, resume, sleep, timeout};

use crate::house::House;
use crate::{ALONE, PATIENCE};

/// The longest that any of them may stand still: three of its beats, and up to one until the first look.
const LONGEST: Duration = Duration::from_secs(5 * 30);

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
        let actor = house.find(path).await;
        let began = Instant::now();
        assert!(chaos::stick(&actor), "{path} cannot stand still");
        let ended = actor.wait(Some(LONGEST)).await;
        ended.unwrap_or_else(|_| panic!("{path} stands still for ever"));
        assert!(began.elapsed() > Duration::from_secs(19), "{path}");
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
        let node = node.unwrap_or_else(|_| panic!("{path} is not started again"));
        let why = node.last_failure.unwrap_or_default();
        assert!(
            why == "killed" || why.starts_with("gave no sign of life"),
            "{path}: {why}"
        );
        // What a crash of recovery leaves alone are transactions that are being committed.
        if path == recovery {
            assert_eq!(house.node(coordinators).await.restarts, 0);
        }
    }
    assert_eq!(house.node(recovery).await.restarts, 1);
    // They are all right from here on.
    sleep(2 * LONGEST).await;
    let tree = house.tree().await;
    assert!(tree.iter().all(|(_, node)| node.restarts <= 1), "{tree:?}");
    resume();
    house.end().await;
}
