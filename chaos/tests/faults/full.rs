use std::time::Duration;

use pgherd_chaos::rig::{PATIENCE, Rig, code};
use pgherd_sandbox::{Binaries, Server};
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};

/// A server without room: who gets no server connection is told so in time and why, and once there
/// is room all goes on by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_server_is_waited_for_within_the_checkout_timeout() {
    let binaries = Binaries::find().unwrap();
    let settings = [
        ("max_connections", "5"),
        ("superuser_reserved_connections", "0"),
    ];
    let builder = Server::builder(&binaries).settings(&settings);
    let more = "[pool]\nsize = 4\n[timeouts]\ncheckout = \"1s\"\ncheckout_notice = 0\nserver_idle = \"1s\"\nserver_check = 0";
    let rig = Rig::before(crate::EXECUTABLE, more, builder).await;
    let guest = rig.guest().await;
    // The pool's own connection goes first.
    let deadline = Instant::now() + PATIENCE;
    while !rig.server.backend_pids().await.unwrap().is_empty() {
        assert!(Instant::now() < deadline, "an unused connection stays");
        sleep(Duration::from_millis(50)).await;
    }
    let mut squatters = Vec::new();
    while let Ok(squatter) = direct(&rig).await {
        squatters.push(squatter);
    }
    let began = Instant::now();
    let error = guest.client.batch_execute("select 1").await.unwrap_err();
    let after = began.elapsed();
    assert!(
        after > Duration::from_millis(900) && after < Duration::from_secs(4),
        "{after:?}"
    );
    assert_eq!(code(&error), &SqlState::QUERY_CANCELED);
    let report = error.as_db_error().unwrap();
    assert!(report.message().contains("checkout timeout"), "{report:?}");
    assert!(
        report
            .detail()
            .is_some_and(|text| text.contains("no connection left")),
        "{report:?}"
    );
    // Who waits when there is room again is served.
    let waiting = async { guest.client.query_one("select 42", &[]).await };
    let leaving = async {
        sleep(Duration::from_millis(200)).await;
        squatters.clear();
    };
    let (outcome, ()) = timeout(PATIENCE, async { tokio::join!(waiting, leaving) })
        .await
        .unwrap();
    if let Err(error) = outcome {
        // The host is knocked at with pauses, so one checkout may still end in one.
        assert_eq!(code(&error), &SqlState::QUERY_CANCELED);
        sleep(Duration::from_secs(1)).await;
        guest.client.query_one("select 42", &[]).await.unwrap();
    }
    drop(guest);
    rig.settle().await;
}

async fn direct(rig: &Rig) -> Result<Client, tokio_postgres::Error> {
    let url = rig.server.url("postgres", "postgres");
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}
