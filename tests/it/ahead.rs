//! What goes ahead of a client's statement in the same write: where the server does not run it, the statement is not run
//! without it.
//!
//! A server runs out of time before a BEGIN by chance alone. So here it gets another text in the place of the BEGIN, which
//! fails in the same way.

use pgherd_tests::{Database, Proxy, Raw, until};

use crate::retries::before_and_told;
use crate::retries::node::{CANCELLED, Node};

/// A table for each of two clients, under one name.
const TABLES: &str = "create schema one; create schema two; create table one.goods (a int); \
                      create table two.goods (a int); create table goods (a int)";

/// A database with these tables, and a proxy with one connection to it.
async fn shop(more: &str) -> (Database, Node, Proxy) {
    let database = Database::new().await;
    database.sql(TABLES).await;
    let node = Node::new(database.port).await;
    let more = format!("[pool]\nsize = 1\n{more}");
    let (proxy, _) = before_and_told(&node, &database.name, &more).await;
    (database, node, proxy)
}

async fn client(proxy: &Proxy, database: &Database) -> Raw {
    let mut client = Raw::login(proxy.port(), "app", &database.name, &[]).await;
    // The catalogue is looked at behind the first transaction, and before the next on this server.
    client.one("select 1").await;
    client.one("select 1").await;
    client
}

/// What is in a table.
async fn rows(database: &Database, table: &str) -> String {
    let sql = format!("select coalesce(string_agg(a::text, ' ' order by a), '') from {table}");
    database.sql(&sql).await
}

fn synced(text: &str) -> Vec<u8> {
    let (parse, bind) = (Raw::parse("", text), Raw::bind("", "", &[]));
    [parse, bind, Raw::execute("", 0), Raw::sync()].concat()
}

#[tokio::test]
async fn no_statement_runs_under_the_settings_of_the_client_before() {
    let (database, node, proxy) = shop("").await;
    let mut one = client(&proxy, &database).await;
    let mut two = client(&proxy, &database).await;
    one.ask(&Raw::query("set search_path = one")).await;
    two.ask(&Raw::query("set search_path = two")).await;
    let write = |row: u32| format!("insert into goods values ({row})");
    for (row, told, sent) in [
        (1, "C ZI", Raw::query(&write(1))),
        (2, "1 2 C ZI", synced(&write(2))),
        (3, "C ZI", Raw::query(&format!("rollback; {}", write(3)))),
    ] {
        assert_eq!(one.one("select current_schema()").await, "one");
        node.swap("set_config", CANCELLED);
        let told_it = two.ask(&sent).await;
        assert!(
            told_it == told || row == 3 && told_it == "C C ZI",
            "{row}: {told_it}"
        );
        assert!(!node.is_to_swap());
    }
    assert_eq!(rows(&database, "one.goods").await, "");
    assert_eq!(rows(&database, "two.goods").await, "1 2 3");
}

/// The settings that the server reports are brought without much ado.
#[tokio::test]
async fn no_statement_is_read_under_the_time_zone_of_the_client_before() {
    let (database, node, proxy) = shop("").await;
    let mut one = client(&proxy, &database).await;
    let mut two = client(&proxy, &database).await;
    one.ask(&Raw::query("set timezone = 'Asia/Tokyo'")).await;
    two.ask(&Raw::query("set timezone = 'Asia/Aden'")).await;
    database.sql("create table moments (a timestamptz)").await;
    let write = "insert into moments values ('2020-01-01 12:00')";
    // By then it is known that the server takes these values.
    one.one("show timezone").await;
    two.one("show timezone").await;
    one.one("show timezone").await;
    node.swap("set_config", CANCELLED);
    assert_eq!(two.ask(&Raw::query(write)).await, "C ZI");
    assert!(!node.is_to_swap());
    let right = "select count(*) from moments where a = '2020-01-01 12:00+3'";
    assert_eq!(database.sql(right).await, "1");
    assert_eq!(database.sql("select count(*) from moments").await, "1");
}

#[tokio::test]
async fn no_statement_runs_without_the_block_that_it_was_sent_in() {
    let (database, node, proxy) = shop("").await;
    let mut one = client(&proxy, &database).await;
    let write = |row: u32| format!("insert into goods values ({row})");
    let pipeline = [synced(&write(3)), synced(&write(4)), Raw::query(&write(5))].concat();
    for (sent, told) in [
        (Raw::query(&write(1)), &["C ZT"][..]),
        (synced(&write(2)), &["1 2 C ZT"]),
        (pipeline, &["1 2 C ZT", "1 2 C ZT", "C ZT"]),
    ] {
        assert_eq!(one.ask(&Raw::query("begin")).await, "C ZT");
        node.swap("begin", CANCELLED);
        one.send(&sent).await;
        for told in told {
            assert_eq!(one.ask(&[]).await, *told);
        }
        assert!(!node.is_to_swap());
        assert_eq!(one.ask(&Raw::query("rollback")).await, "C ZI");
    }
    assert_eq!(rows(&database, "goods").await, "");
}

#[tokio::test]
async fn a_write_that_gets_a_block_of_ours_runs_in_it() {
    let (database, node, proxy) = shop("[failover]\ncommit_resolution = \"on\"").await;
    let mut one = client(&proxy, &database).await;
    node.swap("BEGIN", CANCELLED);
    let write = Raw::query("insert into goods values (1)");
    assert_eq!(one.ask(&write).await, "C ZI");
    assert!(!node.is_to_swap());
    assert_eq!(rows(&database, "goods").await, "1");
    // Meanwhile it can be cancelled.
    one.send(&Raw::query("insert into goods select 2 from pg_sleep(60)"))
        .await;
    asleep(&database).await;
    Raw::cancel(proxy.port(), &one.key).await;
    assert_eq!(one.ask(&[]).await, "E57014 ZI");
    assert_eq!(rows(&database, "goods").await, "1");
}

async fn asleep(database: &Database) {
    let sleeps = "select count(*) from pg_stat_activity where wait_event = 'PgSleep' \
                  and datname = current_database()";
    until("it sleeps", async || database.sql(sleeps).await == "1").await;
}

#[tokio::test]
async fn the_first_statement_of_a_block_can_be_cancelled() {
    let (database, _node, proxy) = shop("").await;
    let mut one = client(&proxy, &database).await;
    for sent in [
        Raw::query("select pg_sleep(60)"),
        synced("select pg_sleep(60)"),
    ] {
        assert_eq!(one.ask(&Raw::query("begin")).await, "C ZT");
        one.send(&sent).await;
        asleep(&database).await;
        Raw::cancel(proxy.port(), &one.key).await;
        let told = one.ask(&[]).await;
        assert!(told.ends_with("E57014 ZE"), "{told}");
        assert_eq!(one.ask(&Raw::query("rollback")).await, "C ZI");
    }
}

#[tokio::test]
async fn a_block_that_was_lost_never_goes_on_as_none() {
    let (database, node, proxy) = shop("").await;
    let mut one = client(&proxy, &database).await;
    assert_eq!(one.ask(&Raw::query("begin")).await, "C ZT");
    let pid = one.one("select pg_backend_pid()").await;
    let kill = format!("select pg_terminate_backend({pid})");
    database.sql(&kill).await;
    until("it is gone", async || database.backends("app").await == 0).await;
    assert_eq!(one.ask(&Raw::query("select 1")).await, "E40001 ZE");
    node.swap("BEGIN", CANCELLED);
    let write = Raw::query("insert into goods values (1)");
    assert_eq!(one.ask(&write).await, "E25P02 ZE");
    assert!(!node.is_to_swap());
    assert_eq!(one.ask(&Raw::query("commit")).await, "E40001 ZI");
    assert_eq!(rows(&database, "goods").await, "");
}

/// What is set in a client's own words is reported when it differs from what the server has last reported, whoever set
/// that.
#[tokio::test]
async fn a_setting_back_to_that_of_the_client_before_is_noticed() {
    let (database, _node, proxy) = shop("").await;
    let mut one = client(&proxy, &database).await;
    let mut two = client(&proxy, &database).await;
    for _ in 0..3 {
        one.ask(&Raw::query("set timezone = 'Asia/Tokyo'")).await;
        two.ask(&Raw::query("set timezone = 'Asia/Aden'")).await;
        assert_eq!(one.one("show timezone").await, "Asia/Tokyo");
        // On a server that has just been in the other zone.
        two.ask(&Raw::query("set timezone = 'Asia/Tokyo'")).await;
        assert_eq!(two.parameters["TimeZone"], "Asia/Tokyo");
        one.ask(&Raw::query("set timezone = 'UTC'")).await;
        assert_eq!(two.one("show timezone").await, "Asia/Tokyo");
    }
}

/// Utilities that want to be alone do not take what goes ahead for company.
#[tokio::test]
async fn what_runs_in_no_transaction_runs_behind_settings() {
    let (database, _node, proxy) = shop("").await;
    let mut one = client(&proxy, &database).await;
    let mut two = client(&proxy, &database).await;
    for (at, sent) in [Raw::query("vacuum two.goods"), synced("vacuum two.goods")]
        .into_iter()
        .enumerate()
    {
        one.ask(&Raw::query("set search_path = one; set timezone = 'UTC'"))
            .await;
        let zone = format!("set search_path = two; set timezone = 'Etc/GMT+{at}'");
        two.ask(&Raw::query(&zone)).await;
        one.one("select 1").await;
        let told = two.ask(&sent).await;
        assert!(told.ends_with("C ZI"), "{told}");
        one.one("select 1").await;
        let settings = "begin isolation level serializable; select current_schema(); commit";
        assert_eq!(two.ask(&Raw::query(settings)).await, "C T D C C ZI");
    }
}

/// The timeout of one client is none of the next, however short it is.
#[tokio::test]
async fn nobody_is_timed_out_by_the_client_before() {
    let (database, _node, proxy) = shop("").await;
    let mut one = client(&proxy, &database).await;
    let mut two = client(&proxy, &database).await;
    let hasty = "set search_path = one; set statement_timeout = '1ms'";
    one.ask(&Raw::query(hasty)).await;
    two.ask(&Raw::query("set search_path = two")).await;
    for row in 0..100 {
        // Whether there was time enough is its own affair.
        one.ask(&Raw::query("select 1")).await;
        let write = Raw::query(&format!("insert into goods values ({row})"));
        assert_eq!(two.ask(&write).await, "C ZI", "{row}");
    }
    let count = "select count(*) from two.goods";
    assert_eq!(database.sql(count).await, "100");
    assert_eq!(rows(&database, "one.goods").await, "");
}
