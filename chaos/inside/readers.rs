//! Pools for reading, whose actors may crash while clients read.

use pgherd_sandbox::Server;
use tokio::time::{Instant, sleep};
use tokio_postgres::{Client, NoTls};

use crate::harmless::Canaries;
use crate::house::{self, House, TICK};
use crate::load::Load;
use crate::{ALONE, Blow, PATIENCE};

const POOLS: &str = "root/cluster postgres/pools";

/// The path of the pool that reads from a server.
pub(crate) fn reader(server: &Server) -> String {
    format!(
        "{POOLS}/pool postgres/postgres at 127.0.0.1:{}",
        server.port()
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_pools_for_reading_are_replaced() {
    replaced(Blow::Kill).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn panicking_pools_for_reading_are_replaced() {
    replaced(Blow::Panic).await;
}

/// No client notices, reads stay where they are, and connections are opened there again.
async fn replaced(blow: Blow) {
    let _alone = ALONE.lock().await;
    let (primary, replica) = house::pair().await;
    let house = House::reading(&primary, &replica);
    let reader = reader(&replica);
    let client = read_from(&house, &replica).await;
    let canaries = Canaries::start(&house);
    let load = Load::start(&house, 4).await;
    // A connection is not its actor's, and stays; its next one comes with the next connection.
    house
        .strike(&house.find(&format!("{reader}/*")).await, blow)
        .await;
    load.progress().await;
    assert!(reads_on(&client, &replica).await);
    for path in [&reader, &reader, POOLS, &reader] {
        house.strike_and_await_restart(path, blow).await;
        load.progress().await;
        assert!(reads_on(&client, &replica).await, "behind {path}");
    }
    load.stop().await;
    canaries.stop().await;
    let end = "select pg_terminate_backend(pid) from pg_stat_activity \
               where backend_type = 'client backend' and pid <> pg_backend_pid()";
    replica.sql(end).await.unwrap();
    read_from(&house, &replica).await;
    house.end().await;
}

/// A client, once what it reads is read from that server.
pub(crate) async fn read_from(house: &House, server: &Server) -> Client {
    let (client, connection) = house.client("postgres").connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    let deadline = Instant::now() + PATIENCE;
    while !reads_on(&client, server).await {
        assert!(Instant::now() < deadline, "it is not read from");
        sleep(TICK).await;
    }
    client
}

async fn reads_on(client: &Client, server: &Server) -> bool {
    let row = client.query_one("select inet_server_port()", &[]).await;
    row.unwrap().get::<_, i32>(0) == i32::from(server.port())
}
