//! Those who look at hosts, and may crash while they do.

use crate::finders::monitor;
use crate::house::{self, House};
use crate::load::Load;
use crate::{ALONE, Blow};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_monitors_are_replaced() {
    replaced(Blow::Kill).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn panicking_monitors_are_replaced() {
    replaced(Blow::Panic).await;
}

/// No client notices, and a new primary is still found.
async fn replaced(blow: Blow) {
    let _alone = ALONE.lock().await;
    let (mut primary, replica) = house::pair().await;
    let house = House::between(&primary, &replica);
    house.visit("postgres").await;
    let load = Load::start(&house, 4).await;
    for path in [
        monitor(&primary),
        monitor(&replica),
        "root/cluster postgres/hosts".to_owned(),
        monitor(&primary),
    ] {
        house.strike_and_await_restart(&path, blow).await;
        load.progress().await;
    }
    load.stop().await;
    replica.caught_up(&primary).await.unwrap();
    primary.kill9();
    replica.promote().await.unwrap();
    house.visit("postgres").await;
    house.end().await;
}
