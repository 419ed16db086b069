//! The counters of logins and sessions that failed, on the console and for Prometheus.

use std::collections::BTreeMap;

use pgherd_sandbox::free_port;
use pgherd_tests::{Client, Config, Database, Proxy, Raw, connect, try_connect, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_postgres::SimpleQueryMessage;

/// Gives what was counted by what failed and why, without the zeros.
async fn failures(console: &Client) -> BTreeMap<String, u64> {
    let rows = console.simple_query("show failures").await.unwrap();
    let counts = rows.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some((
            format!("{} {}", row.get("what")?, row.get("reason")?),
            row.get("count")?.parse().unwrap(),
        )),
        _ => None,
    });
    counts.filter(|(_, count)| *count > 0).collect()
}

pub(crate) async fn metrics(port: u16) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let ask = b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    stream.write_all(ask).await.unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).await.unwrap();
    page
}

/// A proxy with a short patience, and the port of its metrics.
async fn proxy(database: &Database) -> (Proxy, u16) {
    let (name, port, metrics) = (&database.name, database.port, free_port());
    let config = Config::text(format!(
        "[listen]\naddresses = [\"127.0.0.1:{{port}}\"]\n[metrics]\nlisten = \"127.0.0.1:{metrics}\"\n\
         [limits]\nmax_user_clients = 3\n[timeouts]\nlogin = \"500ms\"\n\
         [users.app]\npassword = \"app\"\nconsole = \"admin\"\nlimits = {{ max_clients = 9 }}\n\
         [users.other]\npassword = \"other\"\ntimeouts = {{ client_idle = \"100ms\" }}\n\
         [users.plain]\npassword = \"plain\"\nserver_password = \"wrong\"\n\
         [databases.{name}]\nhosts = [\"127.0.0.1:{port}\"]\n"
    ));
    (Proxy::start(&config).await, metrics)
}

#[tokio::test]
async fn logins_and_sessions_that_fail_are_counted_by_reason() {
    let database = Database::new().await;
    let (proxy, port) = proxy(&database).await;
    let name = &database.name;
    let console = connect(&proxy.url("app", "pgherd")).await;
    let at = |user: &str, password: &str, database: &str| {
        format!(
            "postgres://{user}:{password}@127.0.0.1:{}/{database}",
            proxy.port()
        )
    };
    let refused = async |url: String| try_connect(&url).await.map(drop).unwrap_err();
    // The harness looks whether the port is open, and hangs up.
    let looked = failures(&console)
        .await
        .get("login gone")
        .copied()
        .unwrap_or_default();

    refused(at("app", "wrong", name)).await;
    refused(at("nobody", "wrong", name)).await;
    refused(at("app", "app", "nowhere")).await;
    refused(at("other", "other", "pgherd")).await;
    refused(at("plain", "plain", name)).await;
    let mut confused = Raw::open(proxy.port()).await;
    confused.send(b"GET / HTTP/1.1\r\n\r\n").await;
    confused.end().await;
    let mut encrypted = Raw::open(proxy.port()).await;
    encrypted.send(&[0x16, 3, 1, 0, 1, 0]).await;
    encrypted.end().await;
    let mut silent = Raw::open(proxy.port()).await;
    assert_eq!(silent.end().await, Vec::<u8>::new());
    drop(Raw::open(proxy.port()).await);

    // A goodbye is no failure.
    drop(connect(&at("app", "app", name)).await);
    let mut idle = connect(&at("other", "other", name)).await;
    while idle.message().await.is_some() {}
    let broken = connect(&at("app", "app", name)).await;
    let cut = connect(&at("app", "app", name)).await;
    cut.cut().await;
    drop(broken);

    let wanted = BTreeMap::from(
        [
            // The last is the server's: its words of the password are passed on.
            ("login password", 3),
            ("login database", 1),
            ("login authorization", 1),
            ("login protocol", 1),
            ("login encryption", 1),
            ("login timeout", 1),
            ("login gone", looked + 1),
            ("session timeout", 1),
            ("session gone", 3),
        ]
        .map(|(what, count)| (what.to_owned(), count)),
    );
    let mut last = BTreeMap::new();
    until("all is counted", async || {
        last = failures(&console).await;
        last.len() >= wanted.len()
            && last.get("session gone") >= Some(&3)
            && last.get("login gone") > Some(&looked)
    })
    .await;
    assert_eq!(last, wanted);

    let page = metrics(port).await;
    for line in [
        "pgherd_login_failures_total{reason=\"password\"} 3",
        "pgherd_login_failures_total{reason=\"limit\"} 0",
        "pgherd_session_failures_total{reason=\"timeout\"} 1",
    ] {
        assert!(
            page.lines().any(|known| known == line),
            "{line} is missing in\n{page}"
        );
    }
}

#[tokio::test]
async fn clients_beyond_a_limit_and_clients_sent_away_are_counted() {
    let database = Database::new().await;
    let (proxy, _) = proxy(&database).await;
    let console = connect(&proxy.url("app", "pgherd")).await;
    let mut clients = Vec::new();
    for _ in 0..8 {
        clients.push(connect(&proxy.url("app", &database.name)).await);
    }
    clients.push(connect(&proxy.url("app", &database.name)).await);
    let (code, _) = try_connect(&proxy.url("app", &database.name))
        .await
        .map(drop)
        .unwrap_err();
    assert_eq!(code, "53300");
    console
        .simple_query(&format!("kill {}", database.name))
        .await
        .unwrap();
    until("all are gone", async || {
        failures(&console).await.get("session dismissed") == Some(&9)
    })
    .await;
    assert_eq!(failures(&console).await.get("login limit"), Some(&1));
}
