//! What cannot be kept alive ends the proxy, and leaves nothing behind.

use pgherd_actors::Outcome;
use pgherd_sandbox::Server;
use tokio::time::{Instant, sleep};

use crate::house::{self, House, descriptors, worker_threads};
use crate::load::Load;
use crate::{ALONE, Blow, PATIENCE};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_without_its_root_ends() {
    let _alone = ALONE.lock().await;
    let server = house::server().await;
    for blow in [Blow::Kill, Blow::Panic] {
        let outcome = after(&server, async |house| {
            house.strike(&house.find("root").await, blow).await;
        });
        let killed = Outcome::BeyondRepair("the root was killed".to_owned());
        assert_eq!(outcome.await, killed);
    }
}

/// The router is beyond repair at the fourth crash within a minute.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_permanent_child_that_does_not_live_ends_the_proxy() {
    let _alone = ALONE.lock().await;
    let server = house::server().await;
    for blow in [Blow::Kill, Blow::Panic] {
        let outcome = after(&server, async |house| {
            for _ in 0..3 {
                house.strike_and_await_restart("root/router", blow).await;
            }
            house.strike(&house.find("root/router").await, blow).await;
        });
        match outcome.await {
            Outcome::BeyondRepair(why) => {
                assert!(
                    why.starts_with("router: ") && why.contains(blow.reason()),
                    "{why}"
                );
            }
            Outcome::Ended => panic!("it has ended as if it had been asked to"),
        }
    }
}

/// How a proxy with clients ends after something was done to it. Its clients are cut off, and of
/// its descriptors, threads and server connections none is left.
async fn after(server: &Server, done: impl AsyncFn(&House)) -> Outcome {
    let before = (descriptors(), worker_threads());
    let house = House::before(server);
    let mut load = Load::start(&house, 4).await;
    load.progress().await;
    done(&house).await;
    load.lose(|_| true).await;
    let outcome = house.outcome().await;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = (descriptors(), worker_threads());
        let backends = server.backend_pids().await.unwrap().len();
        if now == before && backends == 0 {
            return outcome;
        }
        assert!(
            Instant::now() < deadline,
            "left behind: {now:?} for {before:?}, {backends} backends"
        );
        sleep(std::time::Duration::from_millis(5)).await;
    }
}
