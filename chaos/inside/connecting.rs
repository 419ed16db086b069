//! Actors of server connections that are struck while they connect.

use tokio::time::{Instant, timeout};
use tokio_postgres::NoTls;

use crate::house::{self, House, unnumbered};
use crate::{ALONE, Blow, PATIENCE};

const POOL: &str = "root/cluster postgres/pools/pool postgres/postgres";

/// The place in the pool is given back and another connection is opened in it; whoever waits is
/// served, once the server can.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_connects_in_its_place() {
    let _alone = ALONE.lock().await;
    let server = house::server().await;
    let house = House::before(&server);
    house.visit("postgres").await;
    let quiet = house.quiet(&server).await;
    for blow in [Blow::Kill, Blow::Panic] {
        let (client, connection) = house.client("postgres").connect(NoTls).await.unwrap();
        let connection = tokio::spawn(connection);
        server.freeze();
        for pool in house.facts.routes.load().values() {
            drop(pool.core.retire_all());
        }
        let waiting = tokio::spawn(async move {
            let row = client.query_one("select 42", &[]).await;
            row.map(|row| row.get::<_, i32>(0))
        });
        let connecting = next(&house, None).await;
        house.strike(&connecting, blow).await;
        next(&house, Some(&connecting)).await;
        assert!(!waiting.is_finished());
        server.thaw();
        let answer = timeout(PATIENCE, waiting).await.unwrap().unwrap();
        assert_eq!(answer.unwrap(), 42);
        connection.await.unwrap().unwrap();
    }
    house.settle(&server, &quiet).await;
    house.end().await;
}

/// A connection's actor, once there is one other than this, and a connection is being opened.
async fn next(house: &House, other: Option<&ractor::ActorCell>) -> ractor::ActorCell {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let actors = house.living().await.into_iter();
        let mut connections = actors.filter(|actor| unnumbered(&actor.path) == format!("{POOL}/*"));
        let next = connections.find(|actor| Some(&actor.cell) != other);
        let opening = house.facts.routes.load().values().any(|pool| {
            let snapshot = pool.core.snapshot(std::time::Instant::now());
            snapshot.opening > 0
        });
        if let Some(next) = next
            && opening
        {
            return next.cell;
        }
        assert!(Instant::now() < deadline, "nobody connects");
        tokio::task::yield_now().await;
    }
}
