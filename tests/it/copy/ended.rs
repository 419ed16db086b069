//! COPYs that are cancelled, and servers that are lost in them.

use pgherd_tests::{Database, Proxy, Raw, until};

use super::{Protocol, data, done};

const OUT: &str =
    "copy (select repeat('x', 1000) from (select generate_series(1, 100000000)) a) to stdout";

/// Reads to ReadyForQuery and gives the last error's SQLSTATE and the transaction's status.
async fn outcome(client: &mut Raw) -> (String, char) {
    let messages = client.ready().await;
    let error = messages
        .iter()
        .rev()
        .find_map(|message| (message.tag == 'E').then(|| message.field('C').unwrap_or_default()));
    let status = messages.last().map(|message| char::from(message.body[0]));
    (error.unwrap_or_default(), status.unwrap())
}

#[tokio::test]
async fn a_cancelled_copy_in_leaves_its_client_in_step_whatever_it_sends_on() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[pool]\nsize = 1").await;
    database.sql("create table goods (a int)").await;
    for by in Protocol::BOTH {
        for block in [false, true] {
            let mut client = Raw::login(proxy.port(), "app", &database.name, &[]).await;
            if block {
                assert_eq!(client.ask(&Raw::query("begin")).await, "C ZT");
            }
            let open = [by.begin("copy goods from stdin"), Raw::flush(), data("1\n")].concat();
            client.send(&open).await;
            while client.message().await.tag != 'G' {}
            Raw::cancel(proxy.port(), &client.key).await;
            // Postgres notices it at the next data.
            client
                .send(&[data("2\n"), data("3\n"), done(), by.end()].concat())
                .await;
            let status = if block { 'E' } else { 'I' };
            assert_eq!(
                outcome(&mut client).await,
                ("57014".to_owned(), status),
                "{by:?}"
            );
            if block {
                assert_eq!(client.ask(&Raw::query("rollback")).await, "C ZI");
            }
            assert_eq!(client.one("select count(*) from goods").await, "0");
        }
    }
}

#[tokio::test]
async fn a_cancelled_copy_out_leaves_its_client_in_step() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[pool]\nsize = 1").await;
    for by in Protocol::BOTH {
        let mut client = Raw::login(proxy.port(), "app", &database.name, &[]).await;
        client.send(&by.statement(OUT)).await;
        while client.message().await.tag != 'd' {}
        Raw::cancel(proxy.port(), &client.key).await;
        assert_eq!(
            outcome(&mut client).await,
            ("57014".to_owned(), 'I'),
            "{by:?}"
        );
        assert_eq!(client.one("select 'in step'").await, "in step");
    }
}

/// Ends the backends of `app` in a database, from another side.
async fn end_backends(database: &Database) {
    let end = "select pg_terminate_backend(pid) from pg_stat_activity \
               where usename = 'app' and datname = current_database()";
    database.sql(end).await;
    until("they are gone", async || {
        database.backends("app").await == 0
    })
    .await;
}

#[tokio::test]
async fn a_server_lost_in_a_copy_in_is_one_error_and_the_client_stays_in_step() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[pool]\nsize = 1").await;
    database.sql("create table goods (a int)").await;
    for by in Protocol::BOTH {
        let mut client = Raw::login(proxy.port(), "app", &database.name, &[]).await;
        let open = [by.begin("copy goods from stdin"), Raw::flush(), data("1\n")].concat();
        client.send(&open).await;
        while client.message().await.tag != 'G' {}
        end_backends(&database).await;
        client.send(&[data("2\n"), done(), by.end()].concat()).await;
        let (code, status) = outcome(&mut client).await;
        assert!(
            ["57P01", "08006", "08007", "40001"].contains(&&*code),
            "{by:?}: {code}"
        );
        assert_eq!(status, 'I');
        assert_eq!(client.one("select count(*) from goods").await, "0");
    }
}

#[tokio::test]
async fn a_server_lost_in_a_copy_out_is_an_error_or_the_end_and_never_a_short_answer() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[pool]\nsize = 1").await;
    for by in Protocol::BOTH {
        for large in [false, true] {
            let size = if large { 1_000_000 } else { 10 };
            let copy = format!(
                "copy (select repeat('x', {size}) from (select generate_series(1, 100000000)) a) to stdout"
            );
            let mut client = Raw::login(proxy.port(), "app", &database.name, &[]).await;
            client.send(&by.statement(&copy)).await;
            while client.message().await.tag != 'd' {}
            let end = "select pg_terminate_backend(pid) from pg_stat_activity \
                       where usename = 'app' and datname = current_database()";
            database.sql(end).await;
            let mut last = None;
            while let Some(message) = client.next().await {
                assert!(
                    !['c', 'C'].contains(&message.tag),
                    "{by:?}: it claims to be whole"
                );
                let over = message.tag == 'Z';
                if message.tag == 'E' {
                    last = message.field('C');
                }
                if over {
                    assert!(last.is_some(), "{by:?}: ready without an error");
                    assert_eq!(client.one("select 'in step'").await, "in step");
                    break;
                }
            }
            let next = proxy.client("app", &database).await;
            assert_eq!(next.one("select 'in step'").await, "in step");
        }
    }
}

/// The server waits for data then, so that a query must not wait for the server.
#[tokio::test]
async fn a_query_within_a_copy_ends_its_connection_whatever_it_says() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[pool]\nsize = 1").await;
    for text in [
        &b"select 1"[..],
        b"select 'caf\xc3\xa9'",
        b"sele\xedt 1",
        b"listen a",
    ] {
        let mut client = Raw::login(proxy.port(), "app", &database.name, &[]).await;
        let open = ["create temp table goods (a int)", "copy goods from stdin"].map(Raw::query);
        let wrong = Raw::framed(b'Q', &[text, b"\0"].concat());
        client
            .send(&[&open[0][..], &open[1], &wrong].concat())
            .await;
        let mut last = None;
        while let Some(message) = client.next().await {
            if message.tag == 'E' {
                last = message.field('C');
            }
        }
        let code = last.unwrap_or_default();
        assert!(code.starts_with("08"), "{}: {code}", text.escape_ascii());
    }
    // Its server is not left in the COPY.
    let mut next = Raw::login(proxy.port(), "app", &database.name, &[]).await;
    assert_eq!(next.one("select 1").await, "1");
}

/// The server ignores a Sync that comes before the data, so what was copied is not committed before the next one: as libpq
/// and tokio-postgres send them.
#[tokio::test]
async fn a_copy_in_is_not_over_before_the_sync_behind_its_data() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[pool]\nsize = 1").await;
    database.sql("create table goods (a int)").await;
    let copied = async || {
        let mut client = Raw::login(proxy.port(), "app", &database.name, &[]).await;
        let begin = Protocol::Extended.begin("copy goods from stdin");
        client.send(&[begin, Raw::sync()].concat()).await;
        while client.message().await.tag != 'G' {}
        // Else the server keeps its answer until the Sync.
        client
            .send(&[data("1\n"), done(), Raw::flush()].concat())
            .await;
        while client.message().await.tag != 'C' {}
        client
    };
    let kept = || database.sql("select count(*) from goods");
    let mut client = copied().await;
    assert_eq!(kept().await, "0");
    // It has the only server, which nobody else gets within its transaction.
    let mut other = Raw::login(proxy.port(), "app", &database.name, &[]).await;
    other.send(&Raw::query("select count(*) from goods")).await;
    assert_eq!(client.ask(&Raw::sync()).await, "ZI");
    assert_eq!(kept().await, "1");
    assert_eq!(other.ready().await[1].columns(), ["1"]);
    // Nobody has asked for this one to be committed.
    drop(copied().await);
    assert_eq!(other.one("select count(*) from goods").await, "1");
    assert_eq!(kept().await, "1");
}
