//! Replication counts towards the limits like any other server connection, and no timeout of the
//! pool is meant for it.

use std::time::Duration;

use pgherd_tests::{Client, Proxy, Raw, connect, until};
use tokio_postgres::SimpleQueryMessage;

use super::rig::{database, senders, server, wait_for_senders};
use super::stream::streaming;
use crate::failover::fleet::Fleet;

/// A logical session under an application name, or how it was refused.
async fn logical(proxy: &Proxy, user: &str, database: &str, name: &str) -> Result<Raw, String> {
    let more = [("replication", "database"), ("application_name", name)];
    let entered = Raw::open(proxy.port()).await.enter(user, database, &more);
    entered.await.map_err(|message| {
        let field = |name| message.field(name).unwrap_or_default();
        format!(
            "{} {}|{}|{}",
            field('C'),
            field('M'),
            field('D'),
            field('H')
        )
    })
}

#[tokio::test]
async fn each_limit_on_server_connections_holds_for_it() {
    let server = server().await;
    for limit in [
        "max_connections",
        "max_database_connections",
        "max_user_connections",
        "max_host_connections",
    ] {
        let database = database(server).await;
        let more = format!("[limits]\n{limit} = 1\n[timeouts]\ncheckout = \"400ms\"\n");
        let proxy = Proxy::before(&database, &more).await;
        // The idle connection of a pool makes room.
        let client = proxy.client("app", &database).await;
        let served = async || client.column("select 1").await.is_ok();
        until("the pool serves", served).await;
        let first = logical(&proxy, "app", &database.name, limit).await.unwrap();
        wait_for_senders(server, limit, 1).await;
        let refused = logical(&proxy, "app", &database.name, limit)
            .await
            .unwrap_err();
        assert!(refused.starts_with("53300 "), "{refused}");
        assert!(refused.contains(&format!("|{limit} is 1.|")), "{refused}");
        let (code, _) = client.refused("select 1").await;
        assert_eq!(code, "57014", "{limit}");
        drop(first);
        until("the pool serves again", served).await;
    }
}

/// Whether some client waits for a server.
async fn waits(console: &Client) -> bool {
    let rows = console.simple_query("show clients").await.unwrap();
    rows.iter().any(|message| match message {
        SimpleQueryMessage::Row(row) => row.get("state") == Some("waiting"),
        _ => false,
    })
}

#[tokio::test]
async fn who_waits_for_a_place_gets_it_when_it_is_free() {
    let server = server().await;
    let database = database(server).await;
    let proxy = Proxy::before(&database, "[limits]\nmax_connections = 1\n").await;
    let console = connect(&proxy.url("app", "pgherd")).await;
    let first = logical(&proxy, "app", &database.name, "first")
        .await
        .unwrap();
    let (second, ()) = tokio::join!(logical(&proxy, "app", &database.name, "second"), async {
        until("it waits", async || waits(&console).await).await;
        assert_eq!(senders(server, "second").await, 0);
        drop(first);
    });
    assert_eq!(second.unwrap().one("select 1").await, "1");
}

/// The server to go to is chosen when it begins to wait.
#[tokio::test]
async fn who_waits_for_a_place_is_not_left_on_a_primary_that_was_replaced_meanwhile() {
    let fleet = Fleet::new().await;
    let ports = [fleet.primary.port(), fleet.replica.port()];
    let proxy = fleet.proxy(&ports, "[limits]\nmax_connections = 1\n").await;
    let console = connect(&proxy.url("app", "pgherd")).await;
    until("there is a primary", async || {
        fleet.host(&console, ports[0]).await.get("writer") == Some("yes")
    })
    .await;
    let first = logical(&proxy, "app", "postgres", "first").await.unwrap();
    fleet.replica.caught_up(&fleet.primary).await.unwrap();
    // With its successor the first one is cut off, and the place is free.
    let (second, ()) = tokio::join!(logical(&proxy, "app", "postgres", "second"), async {
        until("it waits", async || waits(&console).await).await;
        fleet.replica.promote().await.unwrap();
    });
    let refused = second.unwrap_err();
    assert!(refused.starts_with("57P03 "), "{refused}");
    drop(first);
    let mut third = logical(&proxy, "app", "postgres", "third").await.unwrap();
    assert_eq!(
        third.one("select inet_server_port()").await,
        ports[1].to_string()
    );
}

/// As for any client of the database: a subscriber is back at once when it was sent away.
#[tokio::test]
async fn a_database_that_is_killed_paused_or_disabled_is_not_replicated() {
    let server = server().await;
    let database = database(server).await;
    let proxy = Proxy::before(&database, "").await;
    let console = connect(&proxy.url("app", "pgherd")).await;
    let say = async |verb: &str| {
        let command = format!("{verb} {}", database.name);
        console.simple_query(&command).await.unwrap();
    };
    let mut first = logical(&proxy, "app", &database.name, "killed")
        .await
        .unwrap();
    say("kill").await;
    let words = first.end().await;
    assert!(!words.is_empty(), "it is told");
    let (second, ()) = tokio::join!(logical(&proxy, "app", &database.name, "back"), async {
        until("it waits", async || waits(&console).await).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(senders(server, "back").await, 0);
        say("resume").await;
    });
    assert_eq!(second.unwrap().one("select 1").await, "1");
    say("disable").await;
    let refused = logical(&proxy, "app", &database.name, "late").await;
    let why = refused.map(drop).unwrap_err();
    assert!(why.starts_with("55000 "), "{why}");
    say("enable").await;
    let third = logical(&proxy, "app", &database.name, "again").await;
    assert_eq!(third.unwrap().one("select 2").await, "2");
}

#[tokio::test]
async fn limits_on_clients_hold_for_it() {
    let server = server().await;
    let database = database(server).await;
    let proxy = Proxy::before(&database, "[limits]\nmax_user_clients = 1\n").await;
    let first = logical(&proxy, "app", &database.name, "seated")
        .await
        .unwrap();
    let refused = logical(&proxy, "app", &database.name, "seated")
        .await
        .unwrap_err();
    assert!(refused.starts_with("53300 "), "{refused}");
    assert!(refused.contains("max_user_clients"), "{refused}");
    drop(first);
    until("the seat is free", async || {
        logical(&proxy, "app", &database.name, "seated")
            .await
            .is_ok()
    })
    .await;
}

#[tokio::test]
async fn no_timeout_of_the_pool_ends_it() {
    let server = server().await;
    let database = database(server).await;
    let short = "[timeouts]\nclient_idle = \"200ms\"\nquery = \"200ms\"\ntransaction = \"200ms\"\n\
                 idle_in_transaction = \"200ms\"\nserver_idle = \"200ms\"\nserver_lifetime = \"200ms\"\n\
                 server_lifetime_jitter = \"0s\"\n";
    let proxy = Proxy::before(&database, short).await;
    let mut idle = logical(&proxy, "app", &database.name, "timed")
        .await
        .unwrap();
    let (stream, _) = streaming(&proxy, server, "timed").await;
    let mut block = logical(&proxy, "app", &database.name, "timed")
        .await
        .unwrap();
    assert_eq!(block.ask(&Raw::query("begin")).await, "C ZT");
    // An ordinary client shows that the timeouts are in force.
    let mut usual = Raw::login(proxy.port(), "app", &database.name, &[]).await;
    assert_eq!(usual.message().await.field('C').unwrap(), "57P05");
    assert_eq!(block.one("select 1 from pg_sleep(1.5)").await, "1");
    assert_eq!(idle.one("select 1").await, "1");
    assert_eq!(senders(server, "timed").await, 3);
    drop(stream);
}

#[tokio::test]
async fn a_server_that_does_not_want_it_is_explained_and_stays_open_to_others() {
    let server = server().await;
    let database = database(server).await;
    let users = "[users.unruled]\npassword = \"x\"\n";
    let proxy = Proxy::before(&database, users).await;
    let client = proxy.client("app", &database).await;
    for _ in 0..3 {
        let refused = logical(&proxy, "other", &database.name, "unwanted").await;
        let refused = refused.unwrap_err();
        assert!(refused.starts_with("42501 "), "{refused}");
        assert!(
            refused.contains("needs the REPLICATION attribute"),
            "{refused}"
        );
    }
    let physical = Raw::open(proxy.port()).await;
    let more = [("replication", "true")];
    let message = physical
        .enter("unruled", "replication", &more)
        .await
        .unwrap_err();
    assert_eq!(message.field('C').unwrap(), "28000");
    let hint = message.field('H').unwrap();
    assert!(hint.contains("pg_hba.conf"), "{hint}");
    // Nothing of it was a reason to leave the host alone.
    let soon = tokio::time::timeout(Duration::from_secs(2), client.one("select 1"));
    assert_eq!(soon.await.unwrap(), "1");
}
