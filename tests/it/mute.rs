//! Servers that fall silent at an awkward moment.

use std::time::Duration;

use pgherd_sandbox::{Binaries, Server};
use pgherd_tests::{Config, Proxy, connect, until};
use tokio::time::timeout;

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
