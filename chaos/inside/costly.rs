//! Actors whose crash costs clients their connections: a session its own client, those who
//! supervise sessions the clients below them; nobody else.

use crate::house::{self, House};
use crate::load::Load;
use crate::{ALONE, Blow};

/// By their paths from the root.
pub(crate) const COSTLY: [&str; 4] = [
    "root/front",
    "root/front/sessions 0",
    "root/front/sessions 1",
    "root/front/sessions 1/*",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_sessions_take_their_own_clients_only() {
    only_its_own(Blow::Kill).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn panicking_sessions_take_their_own_clients_only() {
    only_its_own(Blow::Panic).await;
}

async fn only_its_own(blow: Blow) {
    let _alone = ALONE.lock().await;
    let server = house::server().await;
    let house = House::before(&server);
    house.visit("postgres").await;
    let quiet = house.quiet(&server).await;

    let mut load = Load::start(&house, 8).await;
    a_session(&house, &mut load, blow).await;

    // Listeners come after the sessions of all workers, so they are started again with them.
    let (first, second) = ("root/front/sessions 0", "root/front/sessions 1");
    let listener = format!("root/front/listener {}", house.address);
    house.strike_and_await_restart(second, blow).await;
    assert!(load.lose(|person| person.home == second).await >= 3);
    load.progress().await;
    assert_eq!(house.node(&listener).await.restarts, 1);
    house.visit("postgres").await;

    let mut more = Load::start(&house, 2).await;
    house.strike_and_await_restart(first, blow).await;
    load.lose(|_| true).await;
    more.lose(|_| true).await;
    house.settle(&server, &quiet).await;

    let mut load = Load::start(&house, 4).await;
    load.progress().await;
    house.strike_and_await_restart("root/front", blow).await;
    assert_eq!(load.lose(|_| true).await, 4);
    let load = Load::start(&house, 4).await;
    load.progress().await;
    load.stop().await;
    house.settle(&server, &quiet).await;
    house.end().await;
}

/// One session is struck in the middle of its work: its client is cut off, and its server, if it had
/// one, is not handed on.
async fn a_session(house: &House, load: &mut Load, blow: Blow) {
    load.progress().await;
    let victim = load.people[3].session.clone();
    let home = load.people[3].home.clone();
    let population = house.node(&home).await.population.unwrap();
    house.strike(&victim, blow).await;
    assert_eq!(load.lose(|person| person.session == victim).await, 1);
    load.progress().await;
    let node = house.node(&home).await;
    assert_eq!(node.population, Some(population - 1));
    assert_eq!(node.restarts, 0);
    let why = node.last_failure.unwrap_or_default();
    assert!(why.contains(blow.reason()), "{why}");
}
