//! A BEGIN that stands alone takes a server only with the first statement behind it.

use std::time::Duration;

use pgherd_tests::{Config, Database, Proxy, Raw, until};
use rustix::process::Signal;

async fn raw(proxy: &Proxy, database: &Database) -> Raw {
    Raw::login(proxy.port(), "app", &database.name, &[]).await
}

#[tokio::test]
async fn an_open_block_without_a_statement_holds_no_server() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[pool]\nsize = 1").await;
    database
        .sql("create table kept (id int); grant all on kept to public")
        .await;
    let mut first = raw(&proxy, &database).await;
    let mut second = raw(&proxy, &database).await;
    assert_eq!(first.ask(&Raw::query("begin")).await, "C ZT");
    assert_eq!(second.ask(&Raw::query("start transaction")).await, "C ZT");
    // It is a block indeed, on the one server that there is.
    first.ask(&Raw::query("insert into kept values (1)")).await;
    let inside = first.one("select txid_current_if_assigned()").await;
    assert_eq!(
        first.one("select txid_current_if_assigned()").await,
        inside,
        "both ran in one transaction"
    );
    assert_eq!(first.ask(&Raw::query("rollback")).await, "C ZI");
    second.ask(&Raw::query("insert into kept values (2)")).await;
    assert_eq!(second.ask(&Raw::query("commit")).await, "C ZI");
    assert_eq!(first.one("select sum(id) from kept").await, "2");
}

#[tokio::test]
async fn its_options_hold_and_its_settings_are_the_clients_own() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[pool]\nsize = 1").await;
    let mut first = raw(&proxy, &database).await;
    let mut second = raw(&proxy, &database).await;
    first.ask(&Raw::query("set timezone = 'Asia/Tokyo'")).await;
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY;";
    assert_eq!(first.ask(&Raw::query(begin)).await, "C ZT");
    second.ask(&Raw::query("set timezone = 'Asia/Aden'")).await;
    let state = "select concat_ws(' ', current_setting('transaction_isolation'), \
        current_setting('transaction_read_only'), current_setting('timezone'))";
    assert_eq!(first.one(state).await, "repeatable read on Asia/Tokyo");
    assert_eq!(first.ask(&Raw::query("commit")).await, "C ZI");
    assert_eq!(second.one(state).await, "read committed off Asia/Aden");
}

#[tokio::test]
async fn an_extended_query_is_within_it() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "").await;
    let mut client = raw(&proxy, &database).await;
    assert_eq!(client.ask(&Raw::query("begin")).await, "C ZT");
    // A Sync that nothing precedes tells where the client stands.
    assert_eq!(client.ask(&Raw::sync()).await, "ZT");
    let select = [
        Raw::parse("s", "select 1"),
        Raw::bind("", "s", &[]),
        Raw::execute("", 0),
        Raw::sync(),
    ];
    assert_eq!(client.ask(&select.concat()).await, "1 2 D C ZT");
    assert_eq!(client.ask(&Raw::query("savepoint a")).await, "C ZT");
    assert_eq!(client.ask(&Raw::query("commit")).await, "C ZI");
}

#[tokio::test]
async fn a_block_that_comes_to_nothing_needs_no_server() {
    let database = Database::new().await;
    let nowhere = "[pool]\nsize = 1\n[timeouts]\ncheckout = \"200ms\"";
    let proxy = Proxy::before(&database, nowhere).await;
    let holder = proxy.client("app", &database).await;
    let mut client = raw(&proxy, &database).await;
    client.ask(&Raw::query("select 1")).await;
    holder.batch_execute("begin; select 1").await.unwrap();
    for (end, tag) in [("commit", "COMMIT\0"), ("rollback", "ROLLBACK\0")] {
        assert_eq!(client.ask(&Raw::query("begin")).await, "C ZT");
        client.send(&Raw::query(end)).await;
        assert_eq!(client.message().await.body, tag.as_bytes());
        assert_eq!(client.message().await.body, b"I");
    }
    // A statement that gets no server fails the block, which the client can then end.
    assert_eq!(client.ask(&Raw::query("begin")).await, "C ZT");
    assert_eq!(client.ask(&Raw::query("select 1")).await, "E57014 ZE");
    assert_eq!(client.ask(&Raw::query("rollback")).await, "C ZI");
    // What stands behind such a failure does not run outside of its block.
    assert_eq!(client.ask(&Raw::query("begin")).await, "C ZT");
    let insert = Raw::query("create table never ()");
    assert_eq!(client.ask(&insert).await, "E57014 ZE");
    holder.batch_execute("rollback").await.unwrap();
    assert_eq!(client.ask(&insert).await, "E25P02 ZE");
    assert_eq!(client.ask(&Raw::query("rollback")).await, "C ZI");
    assert_eq!(client.one("select to_regclass('never')").await, "NULL");
}

#[tokio::test]
async fn the_limits_on_a_transaction_are_counted_from_it() {
    let database = Database::new().await;
    for (limit, code) in [("idle_in_transaction", "25P03"), ("transaction", "25P04")] {
        let more = format!("[timeouts]\n{limit} = \"300ms\"");
        let proxy = Proxy::before(&database, &more).await;
        let mut client = raw(&proxy, &database).await;
        assert_eq!(client.ask(&Raw::query("begin")).await, "C ZT");
        let begun = std::time::Instant::now();
        assert_eq!(client.message().await.field('C').as_deref(), Some(code));
        assert!(begun.elapsed() >= Duration::from_millis(250), "{limit}");
    }
    let proxy = Proxy::before(&database, "[timeouts]\ntransaction = \"1s\"").await;
    let mut client = raw(&proxy, &database).await;
    assert_eq!(client.ask(&Raw::query("begin")).await, "C ZT");
    let begun = std::time::Instant::now();
    client.send(&Raw::query("select pg_sleep(0.6)")).await;
    client.ready().await;
    assert_eq!(client.message().await.field('C').as_deref(), Some("25P04"));
    let lasted = begun.elapsed();
    assert!(lasted < Duration::from_millis(1550), "{lasted:?}");
}

#[tokio::test]
async fn a_drain_lets_it_run_its_statements() {
    let database = Database::new().await;
    let mut proxy = Proxy::before(&database, "").await;
    let mut idle = raw(&proxy, &database).await;
    let mut opened = raw(&proxy, &database).await;
    let mut empty = raw(&proxy, &database).await;
    assert_eq!(opened.ask(&Raw::query("begin")).await, "C ZT");
    assert_eq!(empty.ask(&Raw::query("begin")).await, "C ZT");
    proxy.signal(Signal::TERM);
    assert_eq!(idle.message().await.field('C').as_deref(), Some("57P01"));
    assert_eq!(opened.one("select 1").await, "1");
    for client in [&mut opened, &mut empty] {
        client.send(&Raw::query("commit")).await;
        client.ready().await;
        assert_eq!(client.message().await.field('C').as_deref(), Some("57P01"));
    }
    assert_eq!(proxy.wait().await.code(), Some(0));
}

#[tokio::test]
async fn it_takes_a_server_at_once_where_that_is_wanted() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[pool]\ndefer_begin = false").await;
    let client = proxy.client("app", &database).await;
    let active = "select count(*) from pg_stat_activity where usename = 'app' \
        and datname = current_database() and state = 'idle in transaction'";
    client.batch_execute("begin").await.unwrap();
    assert_eq!(database.sql(active).await, "1");
    client.batch_execute("commit").await.unwrap();
    proxy.rewrite(&Config::before(&database, ""));
    proxy.signal(Signal::HUP);
    until("begin waits for more", async || {
        client.batch_execute("begin").await.unwrap();
        let held = database.sql(active).await;
        client.batch_execute("commit").await.unwrap();
        held == "0"
    })
    .await;
}
