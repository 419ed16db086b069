//! Messages far larger than any buffer.

use pgherd_tests::{Database, Proxy, Raw};

const SIZE: usize = 50 * 1024 * 1024;
/// What the proxy may need more than before, while so much passes.
const ROOM: u64 = 24 * 1024 * 1024;

#[tokio::test]
async fn fifty_megabytes_pass_both_ways_through_little_memory() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[pool]\nsize = 1").await;
    database
        .sql("create table big (a bytea); alter table big alter a set storage external")
        .await;
    let client = proxy.client("app", &database).await;
    client.one("select 1").await;
    let before = proxy.memory();
    let value: Vec<u8> = (0..SIZE)
        .map(|at| u8::try_from(at % 251).unwrap())
        .collect();
    let inserted = client
        .execute("insert into big values ($1)", &[&value])
        .await
        .unwrap();
    assert_eq!(inserted, 1);
    let after_insert = proxy.memory();
    let row = client.query_one("select a from big", &[]).await.unwrap();
    assert!(row.get::<_, Vec<u8>>(0) == value, "other bytes came back");
    let after_select = proxy.memory();
    assert!(after_insert < before + ROOM, "{before} {after_insert}");
    assert!(after_select < before + ROOM, "{before} {after_select}");
}

#[tokio::test]
async fn a_client_that_does_not_read_costs_little() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[pool]\nsize = 2").await;
    let mut client = Raw::login(proxy.port(), "app", &database.name, &[]).await;
    let other = proxy.client("app", &database).await;
    other.one("select 1").await;
    let before = proxy.memory();
    let rows = 400;
    let flood = format!("select repeat('x', 100000) from generate_series(1, {rows})");
    client.send(&Raw::query(&flood)).await;
    for _ in 0..50 {
        assert_eq!(other.one("select 1").await, "1");
    }
    let meanwhile = proxy.memory();
    assert!(meanwhile < before + ROOM, "{before} {meanwhile}");
    let answer = client.ready().await;
    assert_eq!(
        answer.iter().filter(|message| message.tag == 'D').count(),
        rows
    );
}

#[tokio::test]
async fn a_long_simple_query_arrives() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[pool]\nsize = 1").await;
    let client = proxy.client("app", &database).await;
    let text = "x".repeat(5_000_000);
    assert_eq!(
        client.one(&format!("select length('{text}')")).await,
        "5000000"
    );
    assert_eq!(client.one("select 1").await, "1");
}
