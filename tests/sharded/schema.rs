//! The schemas of the shards: equal, or nothing runs.

use std::process::Command;

use pgherd_tests::{Database, Output, Proxy, Raw, connect, executable, run, until};
use rustix::process::Signal;

use crate::rig::{Rig, key};

async fn check(proxy: &Proxy) -> Output {
    let file = proxy.path("pgherd.toml");
    let mut command = Command::new(executable());
    command.args(["check", "--connect", "--config"]).arg(file);
    run(command, "").await
}

#[tokio::test]
async fn shards_that_differ_run_nothing_until_they_are_alike() {
    let rig = Rig::new("").await;
    let alike = check(&rig.proxy).await;
    assert_eq!(alike.code, 0, "{alike:?}");
    let told = format!("{alike:?}");
    assert!(told.contains("shop: 2 shards, alike"), "{told}");
    assert!(
        told.contains("table public.elsewhere is placed nowhere"),
        "{told}"
    );
    rig.shards[1]
        .sql("alter table accounts alter owner set not null")
        .await;
    let differ = check(&rig.proxy).await;
    assert_eq!(differ.code, 69, "{differ:?}");
    let expected = "column owner of public.accounts is defined differently";
    assert!(format!("{differ:?}").contains(expected), "{differ:?}");
    let client = rig.client().await;
    let select = format!("select count(*) from accounts where id = {}", key(0));
    let (code, text) = client.refused(&select).await;
    assert_eq!(code, "0A000");
    assert!(text.contains("differ"), "{text}");
    rig.shards[0]
        .sql("alter table accounts alter owner set not null")
        .await;
    until("the shards are found alike", async || {
        client.column(&select).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn a_block_can_be_left_when_the_schema_has_changed() {
    let rig = Rig::new("").await;
    let client = rig.client().await;
    let select = format!("select count(*) from accounts where id = {}", key(0));
    let alter = async |shard: &Database, text: &str| {
        let direct = connect(&rig.proxy.url("app", &shard.name)).await;
        direct.simple_query(text).await.unwrap();
    };
    for end in ["commit", "rollback"] {
        client.simple_query("begin").await.unwrap();
        assert_eq!(client.one(&select).await, "0");
        for shard in &rig.shards {
            alter(shard, &format!("alter table elsewhere add by_{end} int")).await;
        }
        client.simple_query(end).await.unwrap();
        assert_eq!(client.one(&select).await, "0");
    }
    client.simple_query("begin").await.unwrap();
    assert_eq!(client.one(&select).await, "0");
    alter(&rig.shards[1], "alter table elsewhere add more int").await;
    // Somebody has found by then that the shards differ.
    assert_eq!(rig.client().await.refused(&select).await.0, "0A000");
    client.simple_query("commit").await.unwrap();
    assert_eq!(client.refused(&select).await.0, "0A000");
}

#[tokio::test]
async fn settings_that_differ_are_told() {
    let rig = Rig::new("").await;
    let set = format!(
        "alter database {} set timezone = 'Asia/Tokyo'",
        rig.shards[1].name
    );
    rig.shards[1].sql(&set).await;
    let (code, _) = rig.client().await.refused("select now()").await;
    assert_eq!(code, "0A000");
    let differ = check(&rig.proxy).await;
    assert!(format!("{differ:?}").contains("TimeZone"), "{differ:?}");
}

#[tokio::test]
async fn a_change_that_passes_through_is_known_at_once() {
    let rig = Rig::new("").await;
    let client = rig.client().await;
    let select = format!("select count(more) from accounts where id = {}", key(0));
    assert_eq!(client.refused(&select).await.0, "42703");
    for shard in &rig.shards {
        let direct = connect(&rig.proxy.url("app", &shard.name)).await;
        direct
            .simple_query("alter table accounts add more int")
            .await
            .unwrap();
        drop(direct);
    }
    assert_eq!(client.one(&select).await, "0");
    for shard in &rig.shards {
        let direct = connect(&rig.proxy.url("app", &shard.name)).await;
        direct
            .simple_query("alter table accounts drop more")
            .await
            .unwrap();
    }
    assert_eq!(client.refused(&select).await.0, "42703");
    let by_id = format!("select count(*) from accounts where id = {}", key(1));
    assert_eq!(client.one(&by_id).await, "0");
}

#[tokio::test]
async fn a_reload_that_places_rows_elsewhere_ends_sessions() {
    let rig = Rig::new("").await;
    let client = rig.client().await;
    assert_eq!(client.one("select count(*) from countries").await, "2");
    rig.proxy
        .rewrite(&Rig::config(&rig.shards, "columns = [\"tenant\"]"));
    rig.proxy.signal(Signal::HUP);
    rig.proxy.logged("configuration reloaded", 1).await;
    let ended = client.simple_query("select count(*) from countries").await;
    let code = ended.unwrap_err().code().map(|code| code.code().to_owned());
    assert_eq!(code.as_deref(), Some("57P01"));
    let again = rig.client().await;
    assert_eq!(again.one("select count(*) from countries").await, "2");
}

#[tokio::test]
async fn tables_are_made_alike_referred_to_and_counted_on_all_shards() {
    let rig = Rig::new("").await;
    let mut raw = rig.raw().await;
    for text in [
        "create table notes (like countries including all)",
        "alter table entries add foreign key (account) references accounts",
    ] {
        assert_eq!(raw.ask(&Raw::query(text)).await, "C ZI", "{text}");
    }
    for shard in 0..2 {
        let insert = format!(
            "insert into entries (account, n) values ({}, 1)",
            key(shard)
        );
        assert_eq!(raw.ask(&Raw::query(&insert)).await, "E23503 ZI");
    }
    assert_eq!(
        raw.ask(&Raw::query("analyze accounts, countries (name)"))
            .await,
        "C ZI"
    );
    for shard in &rig.shards {
        let counted = "select count(*) from pg_class where relname = 'accounts' and reltuples = 0";
        assert_eq!(shard.sql(counted).await, "1");
    }
    assert_eq!(raw.ask(&Raw::query("analyze")).await, "E0A000 ZI");
}

#[tokio::test]
async fn sequences_that_are_said_to_be_disjoint_must_be() {
    let rig = Rig::new("sequences = \"disjoint\"").await;
    for shard in &rig.shards {
        shard.sql("create sequence numbers increment by 2").await;
    }
    let client = rig.client().await;
    let draw = "select nextval('numbers')";
    let (code, text) = client.refused(draw).await;
    assert_eq!(code, "0A000");
    assert!(text.contains("disjoint"), "{text}");
    let told = check(&rig.proxy).await;
    assert_eq!(told.code, 69, "{told:?}");
    let expected = "sequence public.numbers gives the same numbers";
    assert!(format!("{told:?}").contains(expected), "{told:?}");
    rig.shards[1]
        .sql("alter sequence numbers start 2 restart")
        .await;
    until("the sequences are found disjoint", async || {
        client.column(draw).await.is_ok()
    })
    .await;
    // What would make one that is the same on both is refused.
    let (code, _) = client.refused("create sequence others").await;
    assert_eq!(code, "0A000");
    let (code, _) = client
        .refused("create table fresh (id bigserial primary key)")
        .await;
    assert_eq!(code, "0A000");
}
