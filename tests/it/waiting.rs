//! Queues, and the limits on clients and on server connections.

use std::time::{Duration, Instant};

use pgherd_sandbox::free_port;
use pgherd_tests::{Client, Database, Proxy, Raw, try_connect, until};
use tokio_postgres::AsyncMessage;

use crate::console::get;
use crate::failover::fleet::Fleet;
use crate::failures::metrics;

/// Lets `client` hold the only server connection.
async fn hold(client: &Client) {
    client.batch_execute("begin; select 1").await.unwrap();
}

/// Waits until so many clients wait for a server connection, as the console tells.
async fn waiting(console: &Client, count: usize) {
    until("clients wait", async || {
        let clients = console.simple_query("show clients").await.unwrap();
        let waits = |message: &tokio_postgres::SimpleQueryMessage| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get("state") == Some("waiting"),
            _ => false,
        };
        clients.iter().filter(|message| waits(message)).count() == count
    })
    .await;
}

async fn console(proxy: &Proxy) -> Client {
    pgherd_tests::connect(&proxy.url("app", "pgherd")).await
}

#[tokio::test]
async fn waiters_are_served_in_order() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[pool]\nsize = 1").await;
    database
        .sql("create table turns (id serial, who int); grant all on turns, turns_id_seq to public")
        .await;
    let holder = proxy.client("app", &database).await;
    hold(&holder).await;
    let console = console(&proxy).await;
    let mut tasks = Vec::new();
    for who in 0..6 {
        let client = proxy.client("app", &database).await;
        tasks.push(tokio::spawn(async move {
            client
                .batch_execute(&format!("insert into turns (who) values ({who})"))
                .await
                .unwrap();
        }));
        waiting(&console, who + 1).await;
    }
    holder.batch_execute("commit").await.unwrap();
    for task in tasks {
        task.await.unwrap();
    }
    let order = database
        .sql("select string_agg(who::text, '' order by id) from turns")
        .await;
    assert_eq!(order, "012345");
}

#[tokio::test]
async fn a_full_queue_refuses_at_once() {
    let database = Database::new().await;
    let http = free_port();
    let more =
        format!("[pool]\nsize = 1\nmax_waiters = 1\n[metrics]\nlisten = \"127.0.0.1:{http}\"");
    let proxy = Proxy::before(&database, &more).await;
    let holder = proxy.client("app", &database).await;
    let first = proxy.client("app", &database).await;
    let second = proxy.client("app", &database).await;
    let console = console(&proxy).await;
    hold(&holder).await;
    let queued = tokio::spawn(async move { first.one("select 'served'").await });
    waiting(&console, 1).await;
    let (code, message) = second.refused("select 1").await;
    assert_eq!(code, "53300");
    assert!(message.contains("wait"), "{message}");
    let labels = |reason: &str| {
        let name = &database.name;
        format!("database=\"{name}\",user=\"app\",reason=\"{reason}\"")
    };
    let (_, metrics) = get(http, "/metrics").await;
    for (reason, count) in [("queue_full", 1), ("checkout_timeout", 0)] {
        let line = format!("pgherd_pool_refusals_total{{{}}} {count}", labels(reason));
        assert!(metrics.lines().any(|known| known == line), "{metrics}");
    }
    holder.batch_execute("commit").await.unwrap();
    assert_eq!(queued.await.unwrap(), "served");
    assert_eq!(second.one("select 1").await, "1");
}

#[tokio::test]
async fn waiting_ends_at_the_checkout_timeout_and_the_client_stays() {
    let database = Database::new().await;
    let more = "[pool]\nsize = 1\n[timeouts]\ncheckout = \"300ms\"\ncheckout_notice = 0";
    let proxy = Proxy::before(&database, more).await;
    let holder = proxy.client("app", &database).await;
    let client = proxy.client("app", &database).await;
    hold(&holder).await;
    let begun = Instant::now();
    let (code, message) = client.refused("select 1").await;
    assert!(begun.elapsed() >= Duration::from_millis(290));
    assert_eq!(code, "57014");
    assert!(message.contains("checkout timeout"), "{message}");
    assert!(message.contains(&database.name), "{message}");
    let refused = client.query_one("select $1::int", &[&7]).await.unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "57014");
    holder.batch_execute("commit").await.unwrap();
    assert_eq!(
        client
            .query_one("select $1::int", &[&7])
            .await
            .unwrap()
            .get::<_, i32>(0),
        7
    );
}

/// As PgBouncer's query_wait_timeout, which also ends the session.
#[tokio::test]
async fn a_pause_counts_to_the_checkout_timeout_and_is_named() {
    let database = Database::new().await;
    let more = "[timeouts]\ncheckout = \"300ms\"\ncheckout_notice = \"100ms\"";
    let proxy = Proxy::before(&database, more).await;
    let mut client = proxy.client("app", &database).await;
    let console = console(&proxy).await;
    let name = &database.name;
    console
        .batch_execute(&format!("pause {name}"))
        .await
        .unwrap();
    let shared = client.share();
    let query = tokio::spawn(async move { shared.simple_query("select 1").await });
    match client.message().await {
        Some(AsyncMessage::Notice(notice)) => {
            assert!(notice.message().contains("is paused"), "{notice}");
        }
        other => panic!("{other:?}"),
    }
    let refused = query.await.unwrap().unwrap_err();
    let refused = refused.as_db_error().unwrap();
    assert_eq!(refused.code().code(), "57014");
    assert!(refused.detail().unwrap().contains("RESUME"), "{refused:?}");
    console
        .batch_execute(&format!("resume {name}"))
        .await
        .unwrap();
    assert_eq!(client.one("select 2").await, "2");
}

/// A login waits for a server, too, where it brings parameters that were never tried; the server is well meanwhile.
#[tokio::test]
async fn a_login_that_waits_for_a_pause_or_a_busy_pool_is_told_so() {
    let database = Database::new().await;
    let more = "[pool]\nsize = 1\n[timeouts]\ncheckout = \"300ms\"";
    let proxy = Proxy::before(&database, more).await;
    let name = &database.name;
    let holder = proxy.client("app", &database).await;
    let console = console(&proxy).await;
    let refused = async |timeout: u32| {
        let options = format!("-c statement_timeout={timeout}");
        let raw = Raw::open(proxy.port()).await;
        let entered = raw.enter("app", name, &[("options", &options)]).await;
        let told = entered.expect_err("it waits in vain");
        let field = |name| told.field(name).unwrap_or_default();
        (field('S'), field('C'), field('M'), field('D'))
    };
    hold(&holder).await;
    let (severity, code, text, _) = refused(1234).await;
    assert_eq!((&*severity, &*code), ("FATAL", "57014"), "{text}");
    assert!(text.contains("checkout timeout"), "{text}");
    holder.batch_execute("commit").await.unwrap();
    console
        .batch_execute(&format!("pause {name}"))
        .await
        .unwrap();
    let (_, code, text, detail) = refused(4321).await;
    assert_eq!(code, "57014", "{text}");
    assert!(detail.contains("RESUME"), "{text} {detail}");
}

/// That has a limit of its own: a failover is a pause.
#[tokio::test]
async fn a_wait_for_a_server_does_not_count_to_the_transaction() {
    let database = Database::new().await;
    let more = "[timeouts]\ntransaction = \"1s\"\ncheckout_notice = \"1200ms\"";
    let proxy = Proxy::before(&database, more).await;
    let console = console(&proxy).await;
    let name = &database.name;
    let mut client = Raw::login(proxy.port(), "app", name, &[]).await;
    for (before, answer) in [("select 1", "T D C ZI"), ("begin", "T D C ZT")] {
        client.ask(&Raw::query(before)).await;
        let pause = format!("pause {name}");
        console.batch_execute(&pause).await.unwrap();
        client.send(&Raw::query("select pg_sleep(0.2)")).await;
        assert_eq!(client.message().await.tag, 'N', "it waits");
        let resume = format!("resume {name}");
        console.batch_execute(&resume).await.unwrap();
        assert_eq!(client.ask(&[]).await, answer);
    }
    assert_eq!(client.ask(&Raw::query("commit")).await, "C ZI");
}

#[tokio::test]
async fn a_waiting_client_is_told() {
    let database = Database::new().await;
    let more = "[pool]\nsize = 1\n[timeouts]\ncheckout_notice = \"100ms\"";
    let proxy = Proxy::before(&database, more).await;
    let holder = proxy.client("app", &database).await;
    let mut client = proxy.client("app", &database).await;
    hold(&holder).await;
    let shared = client.share();
    let query = tokio::spawn(async move { shared.simple_query("select 1").await });
    match client.message().await {
        Some(AsyncMessage::Notice(notice)) => {
            assert!(
                notice.message().contains("waiting for a server connection"),
                "{notice}"
            );
        }
        other => panic!("{other:?}"),
    }
    assert!(!query.is_finished());
    holder.batch_execute("commit").await.unwrap();
    query.await.unwrap().unwrap();
}

#[tokio::test]
async fn who_waits_in_vain_because_of_a_limit_is_told_which() {
    let database = Database::new().await;
    for limit in [
        "max_connections",
        "max_database_connections",
        "max_user_connections",
        "max_host_connections",
    ] {
        let http = free_port();
        let more = format!(
            "[metrics]\nlisten = \"127.0.0.1:{http}\"\n[limits]\n{limit} = 1\n\
             [timeouts]\ncheckout = \"1s\"\ncheckout_notice = \"300ms\""
        );
        let proxy = Proxy::before(&database, &more).await;
        let holder = proxy.client("app", &database).await;
        let mut client = proxy.client("app", &database).await;
        hold(&holder).await;
        let shared = client.share();
        let query = tokio::spawn(async move { shared.simple_query("select 1").await });
        let said = format!("{limit} is 1");
        match client.message().await {
            Some(AsyncMessage::Notice(notice)) => {
                assert!(notice.message().contains(&said), "{notice}");
            }
            other => panic!("{other:?}"),
        }
        let refused = query.await.unwrap().unwrap_err();
        let refused = refused.as_db_error().unwrap();
        assert_eq!(refused.code().code(), "57014");
        let detail = refused.detail().unwrap_or_default();
        assert!(detail.contains(&said), "{refused:?}");
        let page = metrics(http).await;
        let label = format!("limit=\"{limit}\"");
        let mut rows = page.lines().filter(|line| line.contains(&label));
        let row = rows.next().expect("it is counted");
        assert!(row.starts_with("pgherd_pool_limited_total{"), "{row}");
        holder.batch_execute("commit").await.unwrap();
        assert_eq!(client.one("select 1").await, "1");
    }
}

#[tokio::test]
async fn who_waits_in_vain_for_a_pool_that_is_in_use_is_told_its_size() {
    let database = Database::new().await;
    let more = "[pool]\nsize = 1\n[timeouts]\ncheckout = \"300ms\"";
    let proxy = Proxy::before(&database, more).await;
    let holder = proxy.client("app", &database).await;
    let client = proxy.client("app", &database).await;
    hold(&holder).await;
    let refused = client.simple_query("select 1").await.unwrap_err();
    let detail = refused.as_db_error().unwrap().detail().unwrap_or_default();
    assert!(detail.contains("size of the pool is 1"), "{refused:?}");
}

#[tokio::test]
async fn a_waiting_client_may_leave() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[pool]\nsize = 1").await;
    let holder = proxy.client("app", &database).await;
    let client = proxy.client("app", &database).await;
    let console = console(&proxy).await;
    hold(&holder).await;
    let shared = client.share();
    let query = tokio::spawn(async move { shared.simple_query("select 1").await });
    waiting(&console, 1).await;
    client.cut().await;
    waiting(&console, 0).await;
    assert!(query.await.unwrap().is_err());
    holder.batch_execute("commit").await.unwrap();
    assert_eq!(holder.one("select 1").await, "1");
}

#[tokio::test]
async fn clients_beyond_a_limit_are_refused_until_others_leave() {
    let database = Database::new().await;
    let limits = [
        (
            "[limits]\nmax_clients = 2\nmax_logins = 2".to_owned(),
            "max_clients",
        ),
        (
            "[limits]\nmax_user_clients = 2".to_owned(),
            "max_user_clients",
        ),
        (
            "[limits]\nmax_database_clients = 2".to_owned(),
            "max_database_clients",
        ),
        (
            "[users.app.limits]\nmax_clients = 2".to_owned(),
            "max_user_clients",
        ),
        (
            format!("[databases.{}.limits]\nmax_clients = 2", database.name),
            "max_database_clients",
        ),
    ];
    for (more, name) in limits {
        let proxy = Proxy::before(&database, &more).await;
        let url = proxy.url("app", &database.name);
        // The harness' own look whether anybody listens may still be counted.
        let mut first = None;
        until("a client is let in", async || {
            first = try_connect(&url).await.ok();
            first.is_some()
        })
        .await;
        let _second = proxy.client("app", &database).await;
        let (code, message) = try_connect(&url).await.map(drop).expect_err(name);
        assert_eq!(code, "53300", "{name}");
        assert!(message.contains(name), "{name}: {message}");
        drop(first);
        until("there is room again", async || {
            try_connect(&url).await.is_ok()
        })
        .await;
    }
}

/// The server's own limit, which others may have used up.
#[tokio::test]
async fn a_server_that_is_full_is_named_and_asked_again_soon() {
    let database = Database::new().await;
    let limit = async |count: i32| {
        let name = &database.name;
        let sql = format!("alter database \"{name}\" connection limit {count}");
        database.sql(&sql).await;
    };
    limit(0).await;
    let proxy = Proxy::before(&database, "[timeouts]\ncheckout = \"3500ms\"").await;
    // Superusers are let in all the same.
    let url = proxy.url("other", &database.name);
    let refused = try_connect(&url).await.map(drop);
    let (code, message) = refused.expect_err("it is full");
    assert_eq!(code, "53300", "{message}");
    assert!(message.contains("has no connection left"), "{message}");
    // It was in vain for so long that a server that does not work would be left alone for seconds.
    let waits = tokio::spawn(async move { try_connect(&url).await });
    limit(-1).await;
    let begun = Instant::now();
    let client = waits.await.unwrap().expect("there is room");
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(client.one("select 1").await, "1");
}

/// None of them says whether it is the primary, but all say why.
#[tokio::test]
async fn servers_that_are_all_full_are_named() {
    let fleet = Fleet::new().await;
    let limit = async |count: i32| {
        let sql = format!("alter database postgres connection limit {count}");
        fleet.primary.sql(&sql).await.unwrap();
        fleet.replica.caught_up(&fleet.primary).await.unwrap();
    };
    // Superusers are let in all the same.
    fleet
        .primary
        .sql("alter role app nosuperuser")
        .await
        .unwrap();
    limit(0).await;
    let ports = [fleet.primary.port(), fleet.replica.port()];
    let more = "[failover]\nevidence = \"1s\"\n[timeouts]\nhold = \"2s\"";
    let proxy = fleet.proxy(&ports, more).await;
    let url = proxy.url("app", "postgres");
    let refused = try_connect(&url).await.map(drop);
    let (code, message) = refused.expect_err("they are full");
    assert_eq!(code, "53300", "{message}");
    assert!(message.contains("connection left"), "{message}");
    proxy.logged("no connection left", 1).await;
    limit(-1).await;
    let client = try_connect(&url).await.expect("there is room");
    assert_eq!(client.one("select pg_is_in_recovery()").await, "f");
}

#[tokio::test]
async fn a_limit_on_server_connections_spans_pools() {
    let database = Database::new().await;
    let limits = [
        "max_connections",
        "max_database_connections",
        "max_host_connections",
    ];
    for limit in limits {
        let proxy = Proxy::before(&database, &format!("[limits]\n{limit} = 1")).await;
        let app = proxy.client("app", &database).await;
        let other = proxy.client("other", &database).await;
        for _ in 0..5 {
            assert_eq!(app.one("select 1").await, "1");
            assert_eq!(other.one("select 1").await, "1");
            // Postgres may notice a little later that one has gone.
            until(&format!("{limit} holds"), async || {
                database.backends("app").await + database.backends("other").await <= 1
            })
            .await;
        }
    }
}

#[tokio::test]
async fn a_statement_is_closed_without_a_server() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[pool]\nsize = 1").await;
    let mut client = Raw::login(proxy.port(), "app", &database.name, &[]).await;
    let prepare = [Raw::parse("s", "select 1"), Raw::sync()].concat();
    assert_eq!(client.ask(&prepare).await, "1 ZI");
    let holder = proxy.client("app", &database).await;
    hold(&holder).await;
    let close = |name: &str| [Raw::close('S', name), Raw::sync()].concat();
    assert_eq!(client.ask(&close("s")).await, "3 ZI");
    assert_eq!(client.ask(&close("never")).await, "3 ZI");
    holder.batch_execute("commit").await.unwrap();
    let run = [Raw::bind("", "s", &[]), Raw::sync()].concat();
    assert_eq!(client.ask(&run).await, "E26000 ZI");
    // The name is free again, in the same pipeline.
    let again = [Raw::close('S', "s"), prepare.clone(), prepare].concat();
    assert_eq!(client.ask(&again).await, "3 1 ZI");
    assert_eq!(client.ask(b"").await, "E42P05 ZI");
}
