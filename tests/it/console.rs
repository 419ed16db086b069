//! The console, and what monitoring asks over HTTP.

use std::collections::BTreeMap;
use std::time::Duration;

use pgherd_sandbox::free_port;
use pgherd_tests::{Client, Config, Database, Proxy, Raw, connect, try_connect, until};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_postgres::SimpleQueryMessage;

/// PgBouncer's tables, whose columns tools ask for by name.
const TABLES: &[(&str, &str)] = &[
    (
        "databases",
        "name host port database force_user pool_size min_pool_size reserve_pool_size server_lifetime pool_mode load_balance_hosts max_connections current_connections max_client_connections current_client_connections paused disabled",
    ),
    (
        "pools",
        "database user cl_active cl_waiting cl_active_cancel_req cl_waiting_cancel_req sv_active sv_active_cancel sv_being_canceled sv_idle sv_used sv_tested sv_login maxwait maxwait_us pool_mode load_balance_hosts function_checks function_surveys hidden_code",
    ),
    ("peers", "peer_id host port pool_size"),
    (
        "peer_pools",
        "peer_id cl_active_cancel_req cl_waiting_cancel_req sv_active_cancel sv_login",
    ),
    (
        "clients",
        "type user database replication state addr port local_addr local_port connect_time request_time wait wait_us close_needed ptr link remote_pid tls application_name prepared_statements id",
    ),
    (
        "servers",
        "type user database replication state addr port local_addr local_port connect_time request_time wait wait_us close_needed ptr link remote_pid tls application_name prepared_statements id",
    ),
    ("lists", "list items"),
    (
        "users",
        "name pool_size reserve_pool_size pool_mode max_user_connections current_connections max_user_client_connections current_client_connections",
    ),
    (
        "stats",
        "database total_server_assignment_count total_xact_count total_query_count total_received total_sent total_xact_time total_query_time total_wait_time total_client_parse_count total_server_parse_count total_bind_count total_client_login_count avg_server_assignment_count avg_xact_count avg_query_count avg_recv avg_sent avg_xact_time avg_query_time avg_wait_time avg_client_parse_count avg_server_parse_count avg_bind_count avg_client_login_count",
    ),
    (
        "stats_averages",
        "database server_assignment_count xact_count query_count bytes_received bytes_sent xact_time query_time wait_time avg_client_parse_count avg_server_parse_count avg_bind_count avg_client_login_count",
    ),
    (
        "stats_totals",
        "database server_assignment_count xact_count query_count bytes_received bytes_sent xact_time query_time wait_time client_parse_count server_parse_count bind_count client_login_count",
    ),
    ("totals", "name value"),
    ("config", "key value default changeable"),
    ("mem", "name size used free memtotal"),
    ("dns_hosts", "hostname ttl addrs"),
    ("dns_zones", "zonename serial count"),
    ("version", "version"),
    ("state", "key value"),
];

async fn console(proxy: &Proxy, user: &str) -> Client {
    connect(&proxy.url(user, "pgbouncer")).await
}

/// Gives the names of a table's columns.
async fn columns(console: &Client, query: &str) -> Vec<String> {
    let answer = console
        .simple_query(query)
        .await
        .unwrap_or_else(|e| panic!("{query}: {e}"));
    let names = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::RowDescription(columns) => Some(
            columns
                .iter()
                .map(|column| column.name().to_owned())
                .collect(),
        ),
        SimpleQueryMessage::Row(row) => Some(
            row.columns()
                .iter()
                .map(|column| column.name().to_owned())
                .collect(),
        ),
        _ => None,
    });
    names.unwrap_or_default()
}

/// Gives the rows of a table, each by its columns' names.
async fn rows(console: &Client, query: &str) -> Vec<BTreeMap<String, String>> {
    let answer = console.simple_query(query).await.unwrap();
    let rows = answer.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(
            row.columns()
                .iter()
                .map(|column| {
                    let value = row.get(column.name()).unwrap_or_default();
                    (column.name().to_owned(), value.to_owned())
                })
                .collect(),
        ),
        _ => None,
    });
    rows.collect()
}

#[tokio::test]
async fn tables_have_the_columns_that_tools_know() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "").await;
    proxy.client("app", &database).await.one("select 1").await;
    for user in ["app", "other"] {
        let console = console(&proxy, user).await;
        for (table, wanted) in TABLES {
            let found = columns(&console, &format!("show {table}")).await;
            // We may tell more, in between and behind.
            let mut found = found.iter();
            for column in wanted.split(' ') {
                assert!(
                    found.any(|name| name == column),
                    "{table}: no {column}, or not in order"
                );
            }
        }
    }
}

#[tokio::test]
async fn tables_tell_what_is_there() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[pool]\nsize = 7").await;
    let client = proxy.client("app", &database).await;
    client.batch_execute("begin read write").await.unwrap();
    let console = console(&proxy, "app").await;
    let pools = rows(&console, "show pools").await;
    let pool = pools
        .iter()
        .find(|row| row["database"] == database.name)
        .unwrap();
    assert_eq!(
        (&*pool["user"], &*pool["cl_active"], &*pool["sv_active"]),
        ("app", "1", "1")
    );
    let databases = rows(&console, "show databases").await;
    let row = databases
        .iter()
        .find(|row| row["name"] == database.name)
        .unwrap();
    assert_eq!(
        (&*row["pool_size"], &*row["port"]),
        ("7", &*database.port.to_string())
    );
    assert_eq!(rows(&console, "show servers").await.len(), 1);
    client.batch_execute("commit").await.unwrap();
    // A session counts after it has answered.
    until("both queries of one transaction are counted", async || {
        let totals = rows(&console, "show stats_totals").await;
        let row = totals
            .iter()
            .find(|row| row["database"] == database.name)
            .unwrap();
        (&*row["xact_count"], &*row["query_count"]) == ("1", "2")
    })
    .await;
}

#[tokio::test]
async fn a_client_that_thinks_takes_up_no_time_of_queries() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "").await;
    let client = proxy.client("app", &database).await;
    client
        .batch_execute("begin; select pg_sleep(0.1)")
        .await
        .unwrap();
    // How long it takes is what is looked at.
    tokio::time::sleep(Duration::from_millis(700)).await;
    client
        .batch_execute("select pg_sleep(0.1); commit")
        .await
        .unwrap();
    let console = console(&proxy, "app").await;
    until("the transaction is counted", async || {
        let totals = rows(&console, "show stats_totals").await;
        let row = totals
            .iter()
            .find(|row| row["database"] == database.name)
            .unwrap();
        let time = |column: &str| row[column].parse::<u64>().unwrap();
        let (whole, queries) = (time("xact_time"), time("query_time"));
        let is_right = queries >= 200_000 && whole >= queries + 690_000;
        assert!(whole == 0 || is_right, "{row:?}");
        whole > 0
    })
    .await;
}

#[tokio::test]
async fn a_reader_commands_nothing_and_others_do_not_get_in() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "").await;
    let reader = console(&proxy, "other").await;
    for command in [
        "pause",
        "resume",
        "reconnect",
        "kill",
        "reload",
        "shutdown",
        "set x = 1",
    ] {
        assert_eq!(reader.refused(command).await.0, "42501", "{command}");
    }
    let (code, _) = try_connect(&proxy.url("postgres", "pgbouncer"))
        .await
        .map(drop)
        .unwrap_err();
    assert_eq!(code, "42501");
}

#[tokio::test]
async fn a_paused_pool_holds_its_clients() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "").await;
    let client = proxy.client("app", &database).await;
    client.one("select 1").await;
    let console = console(&proxy, "app").await;
    console.batch_execute("pause").await.unwrap();
    // The server can be stopped now, and the database be renamed.
    until("no server is left", async || {
        database.backends("app").await == 0
    })
    .await;
    let waiting = tokio::spawn(async move { client.one("select 'late'").await });
    until("it waits", async || {
        rows(&console, "show pools")
            .await
            .iter()
            .any(|row| row["cl_waiting"] == "1")
    })
    .await;
    assert!(!waiting.is_finished());
    console.batch_execute("resume").await.unwrap();
    assert_eq!(waiting.await.unwrap(), "late");
}

#[tokio::test]
async fn a_paused_database_is_let_go_of_although_clients_listen() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "").await;
    let mut client = Raw::login(proxy.port(), "app", &database.name, &[]).await;
    client.send(&Raw::query("listen news")).await;
    client.ready().await;
    let console = console(&proxy, "app").await;
    console.batch_execute("pause").await.unwrap();
    until("nobody is at the server", async || {
        database.backends("app").await == 0
    })
    .await;
    console.batch_execute("resume").await.unwrap();
    // It is told that it may have missed something, and hears again.
    assert_eq!(client.message().await.field('C').as_deref(), Some("01000"));
    database.sql("notify news, 'late'").await;
    assert_eq!(client.message().await.tag, 'A');
}

#[tokio::test]
async fn a_pause_reaches_pools_that_come_later() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "").await;
    let console = console(&proxy, "app").await;
    let of = |verb: &str| format!("{verb} {}", database.name);
    let paused = async || {
        let rows = rows(&console, "show databases").await;
        let row = rows.iter().find(|row| row["name"] == database.name);
        row.unwrap()["paused"].clone()
    };
    console.batch_execute(&of("pause")).await.unwrap();
    assert_eq!(paused().await, "1");
    let url = proxy.url("app", &database.name);
    let late = tokio::spawn(async move { connect(&url).await.one("select 'late'").await });
    until("it waits for a server", async || {
        let pools = rows(&console, "show pools").await;
        pools.iter().any(|row| row["database"] == database.name)
    })
    .await;
    assert_eq!(database.backends("app").await, 0);
    assert!(!late.is_finished());
    console.batch_execute(&of("resume")).await.unwrap();
    assert_eq!(late.await.unwrap(), "late");
    assert_eq!(paused().await, "0");
}

#[tokio::test]
async fn a_disabled_database_takes_no_new_clients_and_keeps_the_others() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "").await;
    let client = proxy.client("app", &database).await;
    let console = console(&proxy, "app").await;
    let of = |verb: &str| format!("{verb} {}", database.name);
    console.batch_execute(&of("disable")).await.unwrap();
    let url = proxy.url("app", &database.name);
    let (code, message) = try_connect(&url).await.map(drop).unwrap_err();
    assert_eq!(code, "55000");
    assert!(message.contains("is not currently accepting connections"));
    assert_eq!(client.one("select 1").await, "1");
    console.batch_execute(&of("enable")).await.unwrap();
    assert_eq!(connect(&url).await.one("select 2").await, "2");
    assert_eq!(console.refused("disable nowhere").await.0, "3D000");
}

#[tokio::test]
async fn reconnect_replaces_server_connections() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[pool]\nsize = 1").await;
    let client = proxy.client("app", &database).await;
    let pid = client.one("select pg_backend_pid()").await;
    console(&proxy, "app")
        .await
        .batch_execute("reconnect")
        .await
        .unwrap();
    assert_ne!(client.one("select pg_backend_pid()").await, pid);
}

#[tokio::test]
async fn kill_drops_the_clients_of_a_database() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "").await;
    let mut client = Raw::login(proxy.port(), "app", &database.name, &[]).await;
    let console = console(&proxy, "app").await;
    console
        .batch_execute(&format!("kill {}", database.name))
        .await
        .unwrap();
    assert_eq!(client.message().await.field('C').as_deref(), Some("57P01"));
    assert_eq!(client.end().await, Vec::<u8>::new());
}

#[tokio::test]
async fn reload_and_shutdown_work_from_here() {
    let database = Database::new().await;
    let mut proxy = Proxy::before(&database, "[pool]\nsize = 3").await;
    let console = console(&proxy, "app").await;
    proxy.rewrite(&Config::before(&database, "[pool]\nsize = 4"));
    console.batch_execute("reload").await.unwrap();
    let databases = rows(&console, "show databases").await;
    let row = databases
        .iter()
        .find(|row| row["name"] == database.name)
        .unwrap();
    assert_eq!(row["pool_size"], "4");
    proxy.rewrite(&Config::before(&database, "[pool]\nsize = -1"));
    assert!(console.batch_execute("reload").await.is_err());
    // Whether the answer still arrives is a race that nobody depends on.
    let _ = console.batch_execute("shutdown").await;
    assert_eq!(proxy.wait().await.code(), Some(0));
}

/// Asks over HTTP; gives the status and the text.
pub(crate) async fn get(port: u16, path: &str) -> (u16, String) {
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port))
        .await
        .unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (
        head.split(' ').nth(1).unwrap().parse().unwrap(),
        body.to_owned(),
    )
}

#[tokio::test]
async fn clients_are_shown_with_their_requests_and_what_they_wait_for() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[pool]\nsize = 1").await;
    let console = console(&proxy, "app").await;
    let clients = async || {
        let mut rows = rows(&console, "show clients").await;
        rows.retain(|row| row["database"] == database.name);
        rows
    };
    let preparing = proxy.client("other", &database).await;
    let _statements = [
        preparing.prepare("select 1").await.unwrap(),
        preparing.prepare("select 2").await.unwrap(),
    ];
    until("its statements are counted", async || {
        let clients = clients().await;
        clients.len() == 1 && clients[0]["prepared_statements"] == "2"
    })
    .await;
    let holder = proxy.client("app", &database).await;
    holder.batch_execute("begin; select 1").await.unwrap();
    let other = proxy.client("app", &database).await;
    let waiting = tokio::spawn(async move { other.one("select 'served'").await });
    // It is shown while it lasts, in whole seconds and the rest.
    let waits = |row: &BTreeMap<String, String>| {
        let number = |column: &str| row[column].parse::<u64>().unwrap();
        number("wait") * 1_000_000 + number("wait_us")
    };
    until("it has waited for a second", async || {
        let clients = clients().await;
        let waiting = clients.iter().find(|row| row["state"] == "waiting");
        waiting.is_some_and(|row| waits(row) > 1_000_000)
    })
    .await;
    for row in clients().await {
        assert_eq!(row["state"] == "waiting", waits(&row) > 0, "{row:?}");
        assert_eq!(row["local_addr"], "127.0.0.1");
        assert_eq!(row["local_port"], proxy.port().to_string());
        // Such times sort as they come.
        assert!(row["request_time"] >= row["connect_time"], "{row:?}");
    }
    holder.batch_execute("commit").await.unwrap();
    assert_eq!(waiting.await.unwrap(), "served");
    assert!(clients().await.iter().all(|row| waits(row) == 0));
}

#[tokio::test]
async fn metrics_and_health_are_told_over_http() {
    let database = Database::new().await;
    let http = free_port();
    let more = format!("[metrics]\nlisten = \"127.0.0.1:{http}\"");
    let mut proxy = Proxy::before(&database, &more).await;
    let client = proxy.client("app", &database).await;
    client.one("select 1").await;
    assert_eq!(get(http, "/healthz").await.0, 200);
    assert_eq!(get(http, "/readyz").await.0, 200);
    assert_eq!(get(http, "/nowhere").await.0, 404);
    let (status, metrics) = get(http, "/metrics").await;
    assert_eq!(status, 200);
    assert!(
        metrics.contains(&format!("database=\"{}\"", database.name)),
        "{metrics}"
    );
    assert!(
        metrics
            .lines()
            .any(|line| line.starts_with("# TYPE pgherd_")),
        "{metrics}"
    );
    client.batch_execute("begin read write").await.unwrap();
    proxy.signal(Signal::TERM);
    until("it is not ready", async || {
        get(http, "/readyz").await.0 == 503
    })
    .await;
    assert_eq!(get(http, "/healthz").await.0, 200);
    client.batch_execute("commit").await.unwrap();
    assert_eq!(proxy.wait().await.code(), Some(0));
}
