//! Clients that vanish, at each byte of a COPY.

use pgherd_tests::{Client, Database, Proxy, Raw, until};

use super::{Protocol, data, done};

/// Sees that the pool's only server, the same or a new one, serves the next client in step.
async fn serves(proxy: &Proxy, database: &Database) -> Client {
    let next = proxy.client("app", database).await;
    assert_eq!(next.one("select 'in step'").await, "in step");
    next
}

#[tokio::test]
async fn a_copy_in_that_is_cut_off_anywhere_copies_all_or_nothing() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[pool]\nsize = 1").await;
    database.sql("create table goods (a int)").await;
    for by in Protocol::BOTH {
        let whole = [
            by.begin("copy goods from stdin"),
            data("1\n2\n"),
            data("3\n"),
            done(),
            by.end(),
        ]
        .concat();
        let finished = whole.len() - by.end().len();
        for cut in 1..=whole.len() {
            let mut client = Raw::login(proxy.port(), "app", &database.name, &[]).await;
            client.send(&whole[..cut]).await;
            drop(client);
            let next = serves(&proxy, &database).await;
            // Serving the next one means that the last one's statement is over.
            let count = next.one("select count(*) from goods").await;
            let all = if cut < finished { "0" } else { "3" };
            assert!(
                ["0", all].contains(&&*count),
                "{by:?}, cut at {cut}: {count}"
            );
            next.batch_execute("truncate goods").await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_copy_in_within_a_block_that_is_cut_off_copies_nothing() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[pool]\nsize = 1").await;
    database.sql("create table goods (a int)").await;
    for by in Protocol::BOTH {
        let block = by.statement("begin");
        let copy = [
            by.begin("copy goods from stdin"),
            data("1\n2\n"),
            done(),
            by.end(),
        ]
        .concat();
        for cut in (0..=copy.len()).step_by(3) {
            let mut client = Raw::login(proxy.port(), "app", &database.name, &[]).await;
            client.send(&block).await;
            client.send(&copy[..cut]).await;
            drop(client);
            let next = serves(&proxy, &database).await;
            assert_eq!(
                next.one("select count(*) from goods").await,
                "0",
                "{by:?} {cut}"
            );
        }
    }
}

#[tokio::test]
async fn a_copy_out_that_is_cut_off_anywhere_ends() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[pool]\nsize = 1").await;
    // One row is larger than a read, so that many cuts fall into a message.
    let copy =
        "copy (select repeat('x', 100000) from (select generate_series(1, 100000)) a) to stdout";
    let busy = "select count(*) from pg_stat_activity where usename = 'app' \
                and datname = current_database() and state <> 'idle'";
    for by in Protocol::BOTH {
        for size in [0, 1, 5, 100, 50_000, 100_020, 3_000_000] {
            let mut client = Raw::login(proxy.port(), "app", &database.name, &[]).await;
            client.send(&by.statement(copy)).await;
            client.bytes(size).await;
            drop(client);
            serves(&proxy, &database).await;
            until("no backend works on", async || {
                database.sql(busy).await == "0"
            })
            .await;
        }
    }
}
