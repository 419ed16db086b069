//! What the operator sees of sessions that keep their servers.

use pgherd_sandbox::free_port;
use pgherd_tests::{Config, Database, Proxy, connect, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_postgres::SimpleQueryMessage;

use super::steps;

/// The reasons that SHOW PINS tells, one client after the other.
async fn reasons(console: &pgherd_tests::Client) -> Vec<String> {
    let answer = console.simple_query("show pins").await.unwrap();
    let rows = answer.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => {
            assert!(row.get("since").is_some_and(|since| since.ends_with("UTC")));
            assert!(
                row.get("server")
                    .is_some_and(|server| server.starts_with('s'))
            );
            row.get("reasons").map(str::to_owned)
        }
        _ => None,
    });
    rows.collect()
}

/// A session is bound or free only after it has answered.
async fn shows(console: &pgherd_tests::Client, expected: &[&str]) {
    let what = format!("SHOW PINS tells {expected:?}");
    until(&what, async || reasons(console).await == expected).await;
}

async fn metrics(port: u16) -> String {
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await;
    let mut stream = stream.unwrap();
    let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn pins_are_shown_counted_and_released() {
    let database = Database::new().await;
    let http = free_port();
    let more = format!("[metrics]\nlisten = \"127.0.0.1:{http}\"");
    let config = Config::before(&database, &more);
    let proxy = Proxy::start_by(&config, |command| {
        command.env("PGHERD_LOG__LEVEL", "debug");
    })
    .await;
    let console = connect(&proxy.url("app", "pgbouncer")).await;
    let client = proxy.client("app", &database).await;
    steps(&client, &["set work_mem = '5MB'"]).await;
    shows(&console, &[]).await;
    steps(&client, &["select pg_advisory_lock(1)"]).await;
    shows(&console, &["advisory_lock"]).await;
    steps(&client, &["create temp table t (a int)", "select 1"]).await;
    shows(&console, &["temp_table,advisory_lock"]).await;
    proxy.logged("bound to a server", 2).await;
    steps(&client, &["select pg_advisory_unlock_all()"]).await;
    shows(&console, &["temp_table"]).await;
    steps(&client, &["discard all"]).await;
    shows(&console, &[]).await;
    proxy.logged("no longer bound to a server", 1).await;
    let page = metrics(http).await;
    let counted = |reason: &str, count: u32| {
        page.lines().any(|line| {
            line.starts_with("pgherd_pool_pins_total{")
                && line.contains(&format!("reason=\"{reason}\""))
                && line.ends_with(&format!(" {count}"))
        })
    };
    assert!(counted("advisory_lock", 1), "{page}");
    assert!(counted("temp_table", 1), "{page}");
    assert!(counted("set", 0), "{page}");
    // A setting that fails binds nobody.
    client.refused("set work_mem = e'lots'").await;
    shows(&console, &[]).await;
    steps(&client, &["set work_mem = e'6MB'"]).await;
    shows(&console, &["set"]).await;
    steps(&client, &["reset all"]).await;
    shows(&console, &[]).await;
}
