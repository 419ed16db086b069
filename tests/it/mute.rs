//! Servers that fall silent at an awkward moment.

use std::time::Duration;

use pgherd_sandbox::{Binaries, Server};
use pgherd_tests::{Config, Proxy, connect, until};
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

/// A server of its own behind a proxy with one connection.
async fn house(timeouts: &str) -> (Server, Proxy) {
    let server = Server::builder(&Binaries::find().unwrap())
        .start()
        .await
        .unwrap();
    let config = Config::text(format!(
        "[listen]\naddresses = [\"127.0.0.1:{{port}}\"]\n[auth]\nmethod = \"trust\"\n\
         [pool]\nsize = 1\n[timeouts]\n{timeouts}\n\
         [users.postgres]\nconsole = \"admin\"\n\
         [databases.postgres]\nhosts = [\"127.0.0.1:{}\"]\n",
        server.port()
    ));
    let proxy = Proxy::start(&config).await;
    (server, proxy)
}

#[tokio::test]
async fn a_server_that_does_not_roll_back_in_time_is_let_go() {
    let (server, proxy) = house("rollback = \"300ms\"").await;
    let url = proxy.url("postgres", "postgres");
    let console = connect(&proxy.url("postgres", "pgherd")).await;
    let client = connect(&url).await;
    client.batch_execute("begin read write").await.unwrap();
    let backend = client.one("select pg_backend_pid()").await;
    let servers = async || {
        let shown = console.simple_query("show servers").await.unwrap();
        let row = |message: &&SimpleQueryMessage| matches!(message, SimpleQueryMessage::Row(_));
        shown.iter().filter(row).count()
    };
    assert_eq!(servers().await, 1);
    server.freeze();
    client.cut().await;
    until("it is let go", async || servers().await == 0).await;
    server.thaw();
    let next = connect(&url).await;
    assert_ne!(next.one("select pg_backend_pid()").await, backend);
}

#[tokio::test]
async fn a_query_that_cannot_be_cancelled_in_time_is_given_up() {
    let (server, proxy) = house("query = \"300ms\"\ncancel = \"300ms\"").await;
    let client = connect(&proxy.url("postgres", "postgres")).await;
    let backend = client.one("select pg_backend_pid()").await;
    server.freeze();
    let told = timeout(FOR_EVER, client.refused("select pg_sleep(0)")).await;
    server.thaw();
    let (code, message) = told.expect("an error within both times");
    assert_eq!(code, "08007", "{message}");
    assert_ne!(client.one("select pg_backend_pid()").await, backend);
}
