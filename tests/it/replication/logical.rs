//! Receivers of changes, subscribers, and people.

use std::process::Command;

use pgherd_sandbox::{Account, Home, Server, free_port};
use pgherd_tests::{Config, Database, Proxy, Raw, connect, run, until};
use rustix::process::Signal;
use tokio_postgres::SimpleQueryMessage;

use super::rig::{Running, config_at, database, program, server, start, stop, wait_for_senders};

#[tokio::test]
async fn changes_are_received_and_confirmed() {
    let server = server().await;
    let database = database(server).await;
    let (name, slot) = (&database.name, "changes_of_a_test");
    server
        .sql_in(name, "create table goods (a int)")
        .await
        .unwrap();
    let proxy = Proxy::before(&database, "").await;
    let home = Home::new(Account::choose()).unwrap();
    let file = home.join("changes");
    let receiver = |more: &[&str]| {
        let mut receiver = program(server, "pg_recvlogical", proxy.port(), slot);
        receiver.args(["--dbname", name, "--slot", slot]).args(more);
        receiver
    };
    run(
        receiver(&["--create-slot", "--plugin", "test_decoding"]),
        "",
    )
    .await
    .success();
    let mut starting = receiver(&["--start", "--status-interval=1", "--fsync-interval=1"]);
    starting
        .args(["-o", "skip-empty-xacts=on", "--file"])
        .arg(&file);
    let running = Running::start(starting);
    let insert = "insert into goods select generate_series(1, 3000); select pg_current_wal_lsn()";
    let lsn = server.sql_in(name, insert).await.unwrap();
    let changes = || std::fs::read_to_string(&file).unwrap_or_default();
    until("the changes come", async || {
        changes().contains("a[integer]:3000\nCOMMIT")
    })
    .await;
    let confirmed = format!(
        "select confirmed_flush_lsn >= '{lsn}' from pg_replication_slots where slot_name = '{slot}'"
    );
    until("they are confirmed", async || {
        server.sql(&confirmed).await.unwrap() == "t"
    })
    .await;
    running.signal(Signal::INT);
    let (code, errors) = running.end().await;
    assert_eq!(code, 0, "{errors}");
    wait_for_senders(server, slot, 0).await;
    let inserts = changes().matches("INSERT").count();
    assert_eq!(inserts, 3000);
    run(receiver(&["--drop-slot"]), "").await.success();
}

/// A subscriber with the table of the publisher, in its database `postgres`.
async fn subscriber(port: u16, database: &Database) -> Server {
    let subscriber = start().await;
    let setup = format!(
        "alter system set wal_retrieve_retry_interval = '100ms';\n\
         select pg_reload_conf();\n\
         create table goods (a int primary key, b text);\n\
         create subscription news connection \
         'host=127.0.0.1 port={port} user=app dbname={} application_name=news' \
         publication news with (disable_on_error = true)",
        database.name
    );
    subscriber.sql(&setup).await.unwrap();
    subscriber
}

#[tokio::test]
async fn a_subscription_follows_and_outlives_the_proxy() {
    let server = server().await;
    let database = database(server).await;
    let publish = "create table goods (a int primary key, b text); \
                   insert into goods select a, 'old' from generate_series(1, 1000) a; \
                   create publication news for table goods";
    let sql = async |sql: &str| server.sql_in(&database.name, sql).await.unwrap();
    sql(publish).await;
    let port = free_port();
    let proxy = Proxy::start(&config_at(&database, port)).await;
    let mut subscriber = subscriber(port, &database).await;
    let state = async || {
        let question = "select count(*), count(*) filter (where b = 'new'), max(a) from goods";
        subscriber.sql(question).await.unwrap()
    };
    until("the old rows came", async || state().await == "1000|0|1000").await;
    sql("insert into goods values (1001, 'new')").await;
    sql("update goods set b = 'new' where a <= 10; delete from goods where a = 1000").await;
    until("the changes came", async || state().await == "1000|11|1001").await;
    stop(proxy).await;
    sql("insert into goods values (1002, 'new')").await;
    let _proxy = Proxy::start(&config_at(&database, port)).await;
    until("it goes on", async || state().await == "1001|12|1002").await;
    let enabled = "select subenabled from pg_subscription";
    assert_eq!(subscriber.sql(enabled).await.unwrap(), "t");
    let ended = "data stream from publisher has ended";
    let log = std::fs::read_to_string(subscriber.log()).unwrap();
    assert!(log.contains(ended), "the drain was no clean end:\n{log}");
    // With it goes its slot.
    subscriber.sql("drop subscription news").await.unwrap();
    subscriber.kill9();
    wait_for_senders(server, "news", 0).await;
}

fn psql(server: &Server, target: &str, statement: &str) -> Command {
    let mut psql = server.client("psql").unwrap();
    psql.args(["-X", "-A", "-t", "-c", statement, target]);
    psql
}

#[tokio::test]
async fn who_proves_itself_by_scram_and_under_tls_gets_in_likewise() {
    let server = server().await;
    let database = database(server).await;
    let name = &database.name;
    let certificate = server.certificate().unwrap();
    let text = format!(
        "[listen]\naddresses = [\"127.0.0.1:{{port}}\"]\n\
         [auth]\nmethod = \"scram-sha-256\"\n\
         [tls]\nmode = \"prefer\"\ncert = \"{}\"\nkey = \"{}\"\n\
         [users.scram]\npassword = \"scram\"\n[users.tls]\npassword = \"tls\"\n\
         [databases.{name}]\nhosts = [\"127.0.0.1:{}\"]\n",
        certificate.cert.display(),
        certificate.key.display(),
        database.port
    );
    let proxy = Proxy::start(&Config::text(text)).await;
    let system = server
        .sql("select system_identifier from pg_control_system()")
        .await
        .unwrap();
    for (user, ssl) in [("scram", "disable"), ("tls", "require"), ("tls", "disable")] {
        for (kind, dbname) in [("database", &**name), ("true", "replication")] {
            let target = format!(
                "host=127.0.0.1 port={} user={user} password={user} dbname={dbname} \
                 replication={kind} sslmode={ssl}",
                proxy.port()
            );
            let output = run(psql(server, &target, "IDENTIFY_SYSTEM"), "").await;
            let shown = output.success();
            assert!(shown.starts_with(&system), "{target}: {shown}");
            // The fourth column is the database, which only logical replication has.
            let ends = if kind == "true" { "|" } else { name };
            assert!(shown.ends_with(ends), "{target}: {shown}");
        }
        let target = format!(
            "host=127.0.0.1 port={} user={user} password=wrong dbname={name} \
             replication=database sslmode={ssl}",
            proxy.port()
        );
        let refused = run(psql(server, &target, "IDENTIFY_SYSTEM"), "").await;
        assert!(
            refused.err.contains("password authentication failed"),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn the_session_is_as_the_start_up_packet_and_the_server_say() {
    let server = server().await;
    let database = database(server).await;
    let parameters = "parameters = { DateStyle = \"German\", work_mem = \"3MB\" }\n";
    let proxy = Proxy::before(&database, parameters).await;
    let more = [
        ("replication", "database"),
        ("application_name", "greeted"),
        ("datestyle", "ISO, YMD"),
        ("options", "-c statement_timeout=77s --lock_timeout=88s"),
    ];
    let mut client = Raw::login(proxy.port(), "app", &database.name, &more).await;
    assert_eq!(client.parameters["DateStyle"], "ISO, YMD");
    assert_eq!(client.parameters["application_name"], "greeted");
    let direct = Raw::login(server.port(), "app", &database.name, &more).await;
    assert_eq!(client.parameters, direct.parameters);
    // The server's own process: pg_basebackup names a slot after it, which nobody else may have.
    let pid = client.one("select pg_backend_pid()").await;
    assert_eq!(client.key.0.to_string(), pid);
    for (name, value) in [
        ("statement_timeout", "77s"),
        ("lock_timeout", "88s"),
        ("work_mem", "3MB"),
        ("DateStyle", "ISO, YMD"),
    ] {
        assert_eq!(client.one(&format!("show {name}")).await, value);
    }
    // It is the walsender's grammar, not a usual backend's.
    assert_eq!(client.ask(&Raw::query("IDENTIFY_SYSTEM")).await, "T D C ZI");
    assert_eq!(client.ask(&Raw::query("BASE BACKUP")).await, "E42601 ZI");
    let mut odd = Raw::open(proxy.port()).await;
    let asked = [("user", "app"), ("replication", "perhaps")];
    odd.startup(0x0003_0000, &asked).await;
    assert_eq!(odd.message().await.field('C').unwrap(), "22023");
}

/// A server takes the last name that it is told.
#[tokio::test]
async fn options_name_neither_another_user_nor_another_database() {
    let server = server().await;
    let database = database(server).await;
    let proxy = Proxy::before(&database, "").await;
    for options in [
        "-c user=postgres",
        "--database=postgres",
        "-c replication=off",
        "-c options=x",
    ] {
        for kind in ["database", "true"] {
            let more = [("replication", kind), ("options", options)];
            for port in [server.port(), proxy.port()] {
                let entered = Raw::open(port)
                    .await
                    .enter("app", &database.name, &more)
                    .await;
                let told = entered.expect_err(options);
                assert_eq!(told.field('C').unwrap(), "42704", "{options} {kind}");
                let text = told.field('M').unwrap();
                assert!(text.contains("unrecognized configuration"), "{text}");
            }
        }
    }
}

#[tokio::test]
async fn a_cancel_request_finds_the_session() {
    let server = server().await;
    let database = database(server).await;
    let proxy = Proxy::before(&database, "").await;
    let more = [
        ("replication", "database"),
        ("application_name", "cancelled"),
    ];
    let mut client = Raw::login(proxy.port(), "app", &database.name, &more).await;
    client.send(&Raw::query("select pg_sleep(60)")).await;
    let sleeping = "select count(*) from pg_stat_activity \
                    where application_name = 'cancelled' and wait_event = 'PgSleep'";
    until("it sleeps", async || {
        server.sql(sleeping).await.unwrap() == "1"
    })
    .await;
    Raw::cancel(proxy.port(), &client.key).await;
    assert_eq!(client.ask(&[]).await, "T E57014 ZI");
    assert_eq!(client.one("select 1").await, "1");
}

#[tokio::test]
async fn the_console_tells_of_it() {
    let server = server().await;
    let database = database(server).await;
    let proxy = Proxy::before(&database, "").await;
    let more = [("replication", "database"), ("application_name", "shown")];
    let mut client = Raw::login(proxy.port(), "app", &database.name, &more).await;
    let pid = client.one("select pg_backend_pid()").await;
    let console = connect(&proxy.url("app", "pgherd")).await;
    let replicating = async |table: &str| {
        let rows = console.simple_query(table).await.unwrap();
        rows.into_iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) if row.get("replication") == Some("logical") => Some(row),
            _ => None,
        })
    };
    let row = async |table: &str| replicating(table).await.expect("a replicating row");
    let shown = row("show clients").await;
    let (ptr, link) = (shown.get("ptr").unwrap(), shown.get("link").unwrap());
    assert_eq!(shown.get("state"), Some("active"));
    assert_eq!(shown.get("application_name"), Some("shown"));
    let held = row("show servers").await;
    assert_eq!((held.get("ptr"), held.get("link")), (Some(link), Some(ptr)));
    assert_eq!(held.get("remote_pid"), Some(&*pid));
    assert_eq!(held.get("database"), Some(&*database.name));
    drop(client);
    until("it is gone", async || {
        let gone = async |table| replicating(table).await.is_none();
        gone("show clients").await && gone("show servers").await
    })
    .await;
    let refused = Raw::open(proxy.port()).await;
    let message = refused
        .enter("app", "pgherd", &[("replication", "database")])
        .await
        .unwrap_err();
    assert_eq!(message.field('C').unwrap(), "0A000");
}
