use std::time::Duration;

use pgherd_chaos::proxy::Proxy;
use pgherd_chaos::rig::{PATIENCE, arrive, code, configuration};
use pgherd_sandbox::{Binaries, Server};
use tokio::time::{Instant, sleep};
use tokio_postgres::error::SqlState;

/// A password that was changed on the server: clients are told at once and not after the checkout
/// timeout, keep their sessions, and are served once the old one is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_password_is_told_at_once() {
    let binaries = Binaries::find().unwrap();
    let builder = Server::builder(&binaries).auth(&[
        "local all all trust",
        "host all all 127.0.0.1/32 scram-sha-256",
    ]);
    let server = builder.start().await.unwrap();
    server
        .sql("alter role postgres password 'postgres'")
        .await
        .unwrap();
    let more = "[timeouts]\ncheckout = \"60s\"";
    let proxy = Proxy::start(crate::EXECUTABLE, &configuration(server.port(), more));
    let guest = arrive(&proxy, "postgres").await.unwrap();
    guest.client.batch_execute("select 1").await.unwrap();
    server
        .sql("alter role postgres password 'other'")
        .await
        .unwrap();
    let end = "select pg_terminate_backend(pid) from pg_stat_activity \
               where backend_type = 'client backend' and pid <> pg_backend_pid()";
    server.sql(end).await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    while !server.backend_pids().await.unwrap().is_empty() {
        assert!(Instant::now() < deadline);
    }
    let began = Instant::now();
    let error = guest.client.batch_execute("select 1").await.unwrap_err();
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(code(&error), &SqlState::INVALID_PASSWORD);
    server
        .sql("alter role postgres password 'postgres'")
        .await
        .unwrap();
    while let Err(error) = guest.client.batch_execute("select 1").await {
        assert_eq!(code(&error), &SqlState::INVALID_PASSWORD);
        assert!(Instant::now() < deadline, "the pool does not try again");
        sleep(Duration::from_millis(100)).await;
    }
}
