//! Reads whose rows are on both shards, answered one behind the other.

use std::collections::BTreeSet;

use pgherd_tests::{Raw, until};

use crate::pull::terminate;
use crate::rig::{Rig, key, keys};

/// Runs long on each shard that has an account, and changes nothing.
const LONG: &str =
    "select id, (select count(*) from generate_series(1, 99991) a, generate_series(1, 99991) b)
    from accounts";

async fn filled(more: &str) -> Rig {
    let rig = Rig::new(more).await;
    for (at, shard) in (0..).zip(&rig.shards) {
        for id in keys(at).take(5) {
            let insert = format!("insert into accounts values ({id}, 'owner', {id})");
            shard.sql(&insert).await;
        }
    }
    rig
}

/// Waits until both shards do something for the client, or neither does.
async fn run_on(rig: &Rig, count: &str) {
    for shard in &rig.shards {
        until("the shards are as busy as expected", async || {
            let busy = format!(
                "select count(*) from pg_stat_activity where datname = '{}' and state = 'active'
                 and query like '%99991%' and pid <> pg_backend_pid()",
                shard.name
            );
            shard.sql(&busy).await == count
        })
        .await;
    }
}

#[tokio::test]
async fn rows_of_all_shards_come_as_one_answer() {
    let rig = filled("").await;
    let mut raw = rig.raw().await;
    raw.send(&Raw::query(
        "select id, owner from accounts where amount > 0",
    ))
    .await;
    let messages = raw.ready().await;
    let tags: String = messages.iter().map(|message| message.tag).collect();
    assert_eq!(tags, "TDDDDDDDDDDCZ");
    let done = &messages[messages.len() - 2].body;
    assert_eq!(done, b"SELECT 10\0");
    let rows = messages.iter().filter(|message| message.tag == 'D');
    let ids: BTreeSet<i64> = rows.map(|row| row.columns()[0].parse().unwrap()).collect();
    let expected = keys(0).take(5).chain(keys(1).take(5)).collect();
    assert_eq!(ids, expected);
    // Settings follow to each of them, and statements behind it run where they should.
    let both = [
        Raw::query("set timezone = 'Asia/Tokyo'"),
        Raw::query("select extract(hour from timestamptz '2026-01-01 00:00:00+00') from accounts"),
        Raw::query(&format!("select owner from accounts where id = {}", key(1))),
    ];
    raw.send(&both.concat()).await;
    assert_eq!(raw.ask(&[]).await, "C ZI");
    let zones = raw.ready().await;
    let zones = zones.iter().filter(|message| message.tag == 'D');
    let zones: Vec<String> = zones.map(|row| row.columns().remove(0)).collect();
    assert_eq!(zones, ["9"; 10]);
    assert_eq!(raw.ask(&[]).await, "T D C ZI");
}

#[tokio::test]
async fn one_error_is_the_answer() {
    let rig = filled("").await;
    let mut raw = rig.raw().await;
    for shard in 0..2 {
        let text = format!(
            "select 1 / (id - {}) from accounts",
            keys(shard).nth(3).unwrap()
        );
        raw.send(&Raw::query(&text)).await;
        let messages = raw.ready().await;
        let errors: Vec<_> = messages.iter().filter(|it| it.tag == 'E').collect();
        assert_eq!(errors.len(), 1, "{messages:?}");
        assert_eq!(errors[0].field('C').as_deref(), Some("22012"));
        assert!(!messages.iter().any(|it| it.tag == 'C'), "{messages:?}");
    }
    assert_eq!(raw.one("select count(*) from countries").await, "2");
}

#[tokio::test]
async fn a_cancel_and_a_timeout_reach_all_of_them() {
    let rig = filled("").await;
    let mut raw = rig.raw().await;
    raw.send(&Raw::query(LONG)).await;
    run_on(&rig, "1").await;
    Raw::cancel(rig.proxy.port(), &raw.key).await;
    assert_eq!(raw.ask(&[]).await, "E57014 ZI");
    run_on(&rig, "0").await;
    assert_eq!(raw.one("select count(*) from countries").await, "2");
    let hasty = filled("[timeouts]\nquery = \"500ms\"").await;
    let mut raw = hasty.raw().await;
    assert_eq!(raw.ask(&Raw::query(LONG)).await, "E57014 ZI");
    run_on(&hasty, "0").await;
}

#[tokio::test]
async fn who_leaves_leaves_nothing_running() {
    let rig = filled("").await;
    let mut raw = rig.raw().await;
    raw.send(&Raw::query(LONG)).await;
    run_on(&rig, "1").await;
    drop(raw);
    run_on(&rig, "0").await;
}

#[tokio::test]
async fn a_shard_that_is_lost_in_the_middle_is_an_error() {
    let rig = filled("").await;
    for shard in &rig.shards {
        let mut raw = rig.raw().await;
        raw.send(&Raw::query(LONG)).await;
        // Once is made up for.
        for _ in 0..2 {
            run_on(&rig, "1").await;
            terminate(shard, "state = 'active' and query like '%99991%'").await;
        }
        assert_eq!(raw.ask(&[]).await, "E08006 ZI");
        run_on(&rig, "0").await;
        assert_eq!(raw.one("select count(*) from countries").await, "2");
    }
}

#[tokio::test]
async fn sessions_that_need_both_shards_do_not_hold_each_other_up() {
    let rig = filled("[pool]\nsize = 1").await;
    let mut clients = Vec::new();
    for number in 0..12_u16 {
        let client = rig.client().await;
        clients.push(tokio::spawn(async move {
            for _ in 0..15 {
                let all = client.column("select id from accounts").await.unwrap();
                assert_eq!(all.len(), 10);
                let id = key(number % 2);
                let one = format!("select amount from accounts where id = {id}");
                assert_eq!(client.one(&one).await, id.to_string());
            }
        }));
    }
    for client in clients {
        client.await.unwrap();
    }
    for shard in &rig.shards {
        assert_eq!(shard.backends("app").await, 1);
    }
}

#[tokio::test]
async fn a_slow_client_takes_little_memory() {
    let rig = filled("").await;
    let mut raw = rig.raw().await;
    let rows = "select id, repeat('x', 1000) from accounts, lateral (select n from generate_series(1, 3000) n) s";
    assert_eq!(raw.one("select 1").await, "1");
    let before = rig.proxy.memory();
    raw.send(&Raw::query(rows)).await;
    // Some 30 MB are on their way; after the first of them, nothing is read for a while.
    assert_eq!(raw.message().await.tag, 'T');
    let mut most = 0;
    let mut count = 0_u32;
    loop {
        let message = raw.message().await;
        match message.tag {
            'D' => count += 1,
            'Z' => break,
            'C' => assert_eq!(message.body, b"SELECT 30000\0"),
            _ => panic!("{message:?}"),
        }
        if count.is_multiple_of(5000) {
            most = most.max(rig.proxy.memory());
        }
    }
    assert_eq!(count, 30_000);
    assert!(most < before + 12 * 1024 * 1024, "{before} {most}");
}
