//! Those who find hosts, by asking Patroni or looking up names, and may crash while they do.

use std::net::Ipv4Addr;

use pgherd_sandbox::Server;

use crate::harmless::Canaries;
use crate::house::{self, House, hosts};
use crate::load::Load;
use crate::patroni::Patroni;
use crate::{ALONE, Blow};

/// Who asks Patroni.
pub(crate) const SCOUT: &str = "root/cluster postgres/hosts/patroni";

/// Who looks up names.
pub(crate) const GUIDE: &str = "root/cluster postgres/hosts/names";

/// A name that leads to 127.0.0.1 on every machine, as whoever looks it up takes it for an address.
pub(crate) const NAME: &str = "127.1";

/// Another one.
const OTHER: &str = "0x7f.1";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_scout_is_replaced() {
    told_by_patroni(Blow::Kill).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panicking_scout_is_replaced() {
    told_by_patroni(Blow::Panic).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_guide_is_replaced() {
    led_by_names(Blow::Kill).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panicking_guide_is_replaced() {
    led_by_names(Blow::Panic).await;
}

/// Nobody notices, and a server that Patroni tells of later is found.
async fn told_by_patroni(blow: Blow) {
    let _alone = ALONE.lock().await;
    let (primary, replica) = house::pair().await;
    let patroni = Patroni::start().await;
    patroni.tell(&[(primary.port(), "leader", 1)]);
    let house = House::told_by(&patroni);
    nobody_notices(&house, SCOUT, blow).await;
    patroni.tell(&[
        (primary.port(), "leader", 1),
        (replica.port(), "replica", 1),
    ]);
    house.lives(&monitor(&replica)).await;
    carried_over(&house, primary, replica).await;
}

/// Nobody notices, and a name that is configured later is looked up.
async fn led_by_names(blow: Blow) {
    for name in [NAME, OTHER] {
        let found = pgherd_net::resolve(name).await.unwrap();
        assert_eq!(found, [Ipv4Addr::LOCALHOST]);
    }
    let _alone = ALONE.lock().await;
    let (primary, replica) = house::pair().await;
    let before = [(NAME, primary.port())];
    let house = House::of(&hosts(&before), "");
    nobody_notices(&house, GUIDE, blow).await;
    house
        .rewrite(&hosts(&[before[0], (OTHER, replica.port())]))
        .await;
    house.lives(&monitor(&replica)).await;
    carried_over(&house, primary, replica).await;
}

pub(crate) fn monitor(server: &Server) -> String {
    format!(
        "root/cluster postgres/hosts/monitor 127.0.0.1:{}",
        server.port()
    )
}

/// Whoever finds hosts is struck, also with all that watch them, while clients come and go.
async fn nobody_notices(house: &House, finder: &str, blow: Blow) {
    house.visit("postgres").await;
    let canaries = Canaries::start(house);
    let load = Load::start(house, 4).await;
    for path in [finder, finder, "root/cluster postgres/hosts", finder] {
        house.strike_and_await_restart(path, blow).await;
        load.progress().await;
    }
    load.stop().await;
    canaries.stop().await;
}

/// The new primary is one that was found behind the blows.
async fn carried_over(house: &House, mut primary: Server, replica: Server) {
    replica.caught_up(&primary).await.unwrap();
    primary.kill9();
    replica.promote().await.unwrap();
    house.visit("postgres").await;
}
