use std::time::Duration;

use pgherd_chaos::proxy::Proxy;
use pgherd_chaos::rig::{PATIENCE, arrive, code, configuration};
use pgherd_sandbox::{Binaries, Server, Stop};
use tokio::time::{Instant, timeout};
use tokio_postgres::error::SqlState;

/// A server that is down when pgherd starts: the first client waits, and is served when it is up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_may_start_after_the_proxy() {
    let binaries = Binaries::find().unwrap();
    let mut server = Server::builder(&binaries).start().await.unwrap();
    server.stop(Stop::Immediate).await.unwrap();
    let proxy = Proxy::start(crate::EXECUTABLE, &configuration(server.port(), ""));
    let (guest, started) = tokio::join!(arrive(&proxy, "postgres"), server.restart());
    started.unwrap();
    let guest = guest.unwrap();
    let row = guest.client.query_one("select 42", &[]).await.unwrap();
    assert_eq!(row.get::<_, i32>(0), 42);
}

/// A server that does not come up: the client is told within the limit, and what was tried.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stays_down_is_told_in_time() {
    let port = pgherd_sandbox::free_port();
    let more = "[timeouts]\ncheckout = \"1s\"\ncheckout_notice = 0\nconnect = \"1s\"";
    let proxy = Proxy::start(crate::EXECUTABLE, &configuration(port, more));
    let began = Instant::now();
    let error = timeout(PATIENCE, arrive(&proxy, "postgres"))
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(code(&error), &SqlState::CONNECTION_FAILURE);
    assert!(
        error
            .as_db_error()
            .unwrap()
            .message()
            .contains(&port.to_string()),
        "{error:?}"
    );
    assert!(
        began.elapsed() < Duration::from_secs(17),
        "{:?}",
        began.elapsed()
    );
}

/// A name that cannot be resolved, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_without_an_address_is_told_in_time() {
    let text = configuration(
        5432,
        "[timeouts]\ncheckout = \"1s\"\ncheckout_notice = 0\nconnect = \"1s\"",
    )
    .replace("127.0.0.1:5432", "no-such-host.invalid:5432");
    let proxy = Proxy::start(crate::EXECUTABLE, &text);
    let error = timeout(PATIENCE, arrive(&proxy, "postgres"))
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(code(&error), &SqlState::CONNECTION_FAILURE);
    assert!(
        error
            .as_db_error()
            .unwrap()
            .message()
            .contains("no-such-host"),
        "{error:?}"
    );
    // Overload or absence of one server is no reason for the console not to answer.
    let rows = pgherd_chaos::rig::console(&proxy, "show pools").await;
    assert_eq!(rows[0].get("cl_waiting"), Some("0"));
}
