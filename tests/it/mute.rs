//! Servers that fall silent at an awkward moment.

use std::time::Duration;

use pgherd_sandbox::{Binaries, Server};
use pgherd_tests::{Config, Proxy, Raw, connect, until};
use tokio::time::timeout;
use tokio_postgres::SimpleQueryMessage;

/// Much longer than a client should have to wait here: `connect` says how long.
const FOR_EVER: Duration = Duration::from_secs(20);

/// A client whose block was lost is put into a failed block on its next server, by statements of
/// our own that go before its own.
#[tokio::test]
async fn a_server_that_falls_silent_while_it_is_set_up_does_not_hold_its_client_for_ever() {
    let server = Server::builder(&Binaries::find().unwrap())
        .start()
        .await
        .unwrap();
    let config = Config::text(format!(
        "[listen]\naddresses = [\"127.0.0.1:{{port}}\"]\n[auth]\nmethod = \"trust\"\n\
         [pool]\nsize = 2\n[timeouts]\nconnect = \"2s\"\ncheckout = \"1s\"\ncheckout_notice = 0\n\
         [users.postgres]\n[databases.postgres]\nhosts = [\"127.0.0.1:{}\"]\n",
        server.port()
    ));
    let proxy = Proxy::start(&config).await;
    let url = proxy.url("postgres", "postgres");
    let (client, other) = (connect(&url).await, connect(&url).await);
    client.batch_execute("begin read write").await.unwrap();
    let backend = client.one("select pg_backend_pid()").await;
    // The first server is taken, so this makes a second, which stays idle.
    other.one("select 1").await;
    let kill = format!("select pg_terminate_backend({backend})");
    server.sql(&kill).await.unwrap();
    let (code, _) = client.refused("select 1").await;
    assert_eq!(code, "40001");

    server.freeze();
    let told = timeout(FOR_EVER, client.refused("select 2")).await;
    server.thaw();
    let (code, message) = told.expect("an error within the time for a checkout");
    assert!(["57014", "08006"].contains(&&*code), "{code} {message}");
    until("the client is served again", async || {
        client.column("rollback").await.is_ok() && client.column("select 3").await.is_ok()
    })
    .await;
    assert_eq!(other.one("select 4").await, "4");
}

/// A server that lay idle for a while is asked first whether it is still there.
#[tokio::test]
async fn who_is_sent_away_waits_for_no_mute_server_and_runs_nothing_there() {
    let server = Server::builder(&Binaries::find().unwrap())
        .start()
        .await
        .unwrap();
    let config = Config::text(format!(
        "[listen]\naddresses = [\"127.0.0.1:{{port}}\"]\n[auth]\nmethod = \"trust\"\n\
         [pool]\nsize = 1\n[timeouts]\nserver_check = \"1ms\"\n\
         [users.postgres]\nconsole = \"admin\"\n[databases.postgres]\nhosts = [\"127.0.0.1:{}\"]\n",
        server.port()
    ));
    let proxy = Proxy::start(&config).await;
    let mut client = Raw::login(proxy.port(), "postgres", "postgres", &[]).await;
    client.send(&Raw::query("select 1")).await;
    while client.message().await.tag != 'Z' {}
    let console = connect(&proxy.url("postgres", "pgherd")).await;
    until("nothing is asked behind its back any more", async || {
        let rows = console.simple_query("show clients").await.unwrap();
        rows.iter().any(|row| match row {
            SimpleQueryMessage::Row(row) => row.get("state") == Some("idle"),
            _ => false,
        })
    })
    .await;

    server.freeze();
    client.send(&Raw::query("create table ran ()")).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let kill = format!("kill_client c{}", client.key.0);
    console.batch_execute(&kill).await.unwrap();
    let told = timeout(Duration::from_secs(2), client.message()).await;
    server.thaw();
    let told = told.expect("it is told before the server says anything");
    assert_eq!(told.field('C').as_deref(), Some("57P01"));
    assert_eq!(client.end().await, Vec::<u8>::new());
    until("the place of the one that was mute is free", async || {
        connect(&proxy.url("postgres", "postgres"))
            .await
            .one("select 1")
            .await
            == "1"
    })
    .await;
    let ran = server.sql("table ran").await;
    assert!(ran.is_err(), "nothing of it has run");
}
