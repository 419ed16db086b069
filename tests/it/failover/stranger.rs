//! Servers that are not to be used stand at addresses that are: one of another cluster, or one of two
//! that take writes.

use std::fs;

use pgherd_sandbox::{Binaries, Server};
use pgherd_tests::{connect, until};

use super::fleet::Fleet;

/// A server of another cluster at this port, which has what clients ask for, and logs who asks.
async fn stranger(port: u16) -> Server {
    // Servers from one template are one cluster, by their system identifier.
    let binaries = Binaries::find().expect("Postgres is needed");
    let server = Server::builder(&binaries)
        .port(port)
        .settings(&[("log_statement", "all")]);
    let server = server.start().await.unwrap();
    server
        .sql("create role app login superuser; create table acked as select 666 as x")
        .await
        .unwrap();
    server
}

/// What clients have asked of it.
fn asked(stranger: &Server) -> Vec<String> {
    let log = fs::read_to_string(stranger.log()).unwrap();
    assert!(log.contains("create table acked"), "nothing is logged");
    let of_clients = |line: &&str| line.contains("into acked") || line.contains("from acked");
    log.lines()
        .filter(of_clients)
        .map(ToOwned::to_owned)
        .collect()
}

const READING: &str = "[reads]\nfrom = \"replicas\"\n[timeouts]\nhold = \"60s\"";

#[tokio::test]
async fn a_stranger_in_the_place_of_the_primary_is_not_used() {
    let mut fleet = Fleet::new().await;
    let (primary, replica) = (fleet.primary.port(), fleet.replica.port());
    let proxy = fleet.proxy(&[primary, replica], READING).await;
    let console = connect(&proxy.url("app", "pgherd")).await;
    let (client, reader) = (fleet.client(&proxy).await, fleet.client(&proxy).await);
    client
        .batch_execute("insert into acked values (1)")
        .await
        .unwrap();
    fleet.replica.caught_up(&fleet.primary).await.unwrap();
    fleet.primary.kill9();
    let waiting = tokio::spawn(async move {
        client
            .batch_execute("insert into acked values (2)")
            .await
            .unwrap();
    });
    until("the primary is missed", async || {
        fleet.host(&console, primary).await.get("health") == Some("ill")
    })
    .await;
    let stranger = stranger(primary).await;
    until("the stranger is known as one", async || {
        fleet.host(&console, primary).await.get("health") == Some("fenced")
    })
    .await;
    let row = fleet.host(&console, primary).await;
    assert_eq!(row.get("role"), Some("primary"));
    assert_eq!(row.get("writer"), Some("no"));
    assert_eq!(row.get("reads"), Some("no: fenced"));
    let trouble = row.get("trouble").unwrap_or_default();
    assert!(
        trouble.starts_with("belongs to another cluster ("),
        "{trouble}"
    );
    proxy
        .logged("belongs to another cluster (system identifier", 1)
        .await;
    for _ in 0..20 {
        assert_eq!(reader.one("select max(x) from acked").await, "1");
    }
    assert!(!waiting.is_finished(), "there is no primary");
    assert_eq!(asked(&stranger), [""; 0]);
    drop(stranger);
    fleet.primary.restart().await.unwrap();
    waiting.await.unwrap();
    let rows = "select string_agg(x::text, ' ' order by x) from acked";
    assert_eq!(fleet.primary.sql(rows).await.unwrap(), "1 2");
}

#[tokio::test]
async fn a_stranger_in_the_place_of_a_replica_is_not_read_from() {
    let mut fleet = Fleet::new().await;
    let (primary, replica) = (fleet.primary.port(), fleet.replica.port());
    let proxy = fleet.proxy(&[primary, replica], READING).await;
    let console = connect(&proxy.url("app", "pgherd")).await;
    let (client, reader) = (fleet.client(&proxy).await, fleet.client(&proxy).await);
    client
        .batch_execute("insert into acked values (1)")
        .await
        .unwrap();
    fleet.replica.caught_up(&fleet.primary).await.unwrap();
    let place = "select inet_server_port()";
    until("the replica is read from", async || {
        reader.one(place).await == replica.to_string()
    })
    .await;
    fleet.replica.kill9();
    until("the replica is missed", async || {
        fleet.host(&console, replica).await.get("health") == Some("ill")
    })
    .await;
    let stranger = stranger(replica).await;
    until("the stranger is known as one", async || {
        assert_eq!(reader.one("select max(x) from acked").await, "1");
        fleet.host(&console, replica).await.get("health") == Some("fenced")
    })
    .await;
    let row = fleet.host(&console, replica).await;
    assert_eq!(row.get("reads"), Some("no: fenced"));
    let trouble = row.get("trouble").unwrap_or_default();
    assert!(
        trouble.starts_with("belongs to another cluster ("),
        "{trouble}"
    );
    for value in 2..20 {
        let insert = format!("insert into acked values ({value})");
        client.batch_execute(&insert).await.unwrap();
        let max = reader.one("select max(x) from acked").await;
        assert_eq!(max, value.to_string());
    }
    assert_eq!(asked(&stranger), [""; 0]);
    drop(stranger);
    fleet.replica.restart().await.unwrap();
    until("the replica is read from again", async || {
        reader.one(place).await == replica.to_string()
    })
    .await;
}

/// Nobody has told the old one, and nobody has ended it.
#[tokio::test]
async fn of_two_that_take_writes_only_the_newer_is_written_to() {
    let fleet = Fleet::new().await;
    let (old, new) = (fleet.primary.port(), fleet.replica.port());
    let proxy = fleet.proxy(&[old, new], "").await;
    let console = connect(&proxy.url("app", "pgherd")).await;
    let (client, busy) = (fleet.client(&proxy).await, fleet.client(&proxy).await);
    client
        .batch_execute("insert into acked values (1)")
        .await
        .unwrap();
    busy.batch_execute("begin; insert into acked values (2)")
        .await
        .unwrap();
    fleet.replica.caught_up(&fleet.primary).await.unwrap();
    fleet.replica.promote().await.unwrap();
    until("writes go to the new primary", async || {
        fleet.host(&console, new).await.get("writer") == Some("yes")
    })
    .await;
    let row = fleet.host(&console, old).await;
    assert_eq!(row.get("role"), Some("primary"));
    assert_eq!(row.get("writer"), Some("no"));
    assert_eq!(row.get("reads"), Some("no: fenced"));
    assert_eq!(row.get("health"), Some("fenced"));
    assert_eq!(row.get("trouble"), Some("was replaced on timeline 2"));
    let alarm = "is still a primary on timeline 1, but was replaced on timeline 2";
    proxy.logged(alarm, 1).await;
    let begun = "select count(*) from pg_stat_activity where state ~ '^idle in transaction'";
    until("the block was cut off", async || {
        fleet.primary.sql(begun).await.unwrap() == "0"
    })
    .await;
    let told = busy.refused("insert into acked values (3)").await;
    assert_eq!(told.0, "40001", "{told:?}");
    busy.batch_execute("rollback").await.unwrap();
    for value in 4..10 {
        let insert = format!("insert into acked values ({value})");
        client.batch_execute(&insert).await.unwrap();
        busy.batch_execute(&insert).await.unwrap();
    }
    // Whoever starts now sees both of them take writes.
    for order in [[old, new], [new, old]] {
        let proxy = fleet.proxy(&order, "").await;
        let client = fleet.client(&proxy).await;
        client
            .batch_execute("insert into acked values (10)")
            .await
            .unwrap();
    }
    let rows = "select string_agg(x::text, ' ' order by x) from acked";
    assert_eq!(fleet.primary.sql(rows).await.unwrap(), "1");
    let both = "1 4 4 5 5 6 6 7 7 8 8 9 9 10 10";
    assert_eq!(fleet.replica.sql(rows).await.unwrap(), both);
    for server in [&fleet.primary, &fleet.replica] {
        let standby = server.sql("select pg_is_in_recovery()").await.unwrap();
        assert_eq!(standby, "f", "it takes writes to the end");
    }
}
