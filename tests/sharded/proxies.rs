//! Two proxies before the same shards.

use std::time::Duration;

use pgherd_tests::{Proxy, Raw, until};
use tokio::time::timeout;

use crate::rig::{Rig, key};
use crate::transactions::{deadlock, filled};

/// A session of each of two proxies.
async fn two(rig: &Rig) -> (Proxy, Raw, Raw) {
    let other = Proxy::start(&Rig::config(&rig.shards, "")).await;
    let one = rig.raw().await;
    let two = Raw::login(other.port(), "app", "shop", &[]).await;
    (other, one, two)
}

#[tokio::test]
async fn a_deadlock_of_two_proxies_ends_with_one_victim() {
    let rig = filled("").await;
    let (_other, mut one, mut two) = two(&rig).await;
    // Whichever has come to the second shard later, its own proxy ends it.
    deadlock(&mut one, &mut two).await;
    deadlock(&mut two, &mut one).await;
}

/// Neither needs to be asked anything for it: half a minute later they would have found out by themselves.
#[tokio::test]
async fn proxies_hear_of_each_others_definitions() {
    let rig = Rig::new("").await;
    let (_other, mut one, mut two) = two(&rig).await;
    for client in [&mut one, &mut two] {
        client.one("select count(*) from accounts").await;
    }
    // Who looks for what was left prepared listens by then.
    let looks = "select count(*) from pg_stat_activity where datname = current_database() \
                 and query like '%starts_with(gid%' and pid <> pg_backend_pid()";
    for shard in &rig.shards {
        until("both listen", async || shard.sql(looks).await == "2").await;
    }
    for column in ["alpha", "beta"] {
        let (definer, reader) = match column {
            "alpha" => (&mut one, &mut two),
            _ => (&mut two, &mut one),
        };
        let text = format!("alter table accounts add column {column} text");
        assert_eq!(definer.ask(&Raw::query(&text)).await, "C ZI");
        let text = format!("select count({column}), min({column}) from accounts");
        assert_eq!(definer.ask(&Raw::query(&text)).await, "T D C ZI");
        let knows = until("the other's column is known", async || {
            reader.ask(&Raw::query(&text)).await == "T D C ZI"
        });
        timeout(Duration::from_secs(12), knows).await.unwrap();
    }
}

/// Anybody may notify on that channel: it says that something may have changed, and not that it has.
#[tokio::test]
async fn who_notifies_fails_nobody() {
    let rig = filled("").await;
    let mut notifier = rig.raw().await;
    let (mut holder, mut waiter) = (rig.raw().await, rig.raw().await);
    let write = Raw::query("update countries set name = name");
    for client in [&mut holder, &mut waiter] {
        client.one("select count(*) from accounts").await;
    }
    holder.ask(&Raw::query("begin")).await;
    assert_eq!(holder.ask(&write).await, "C ZT");
    // It was planned, and waits before it is run.
    waiter.ask(&Raw::query("begin")).await;
    waiter.send(&write).await;
    let waits = "select count(*) from pg_locks l join pg_stat_activity a using (pid)
         where not granted and datname = current_database()";
    until("it waits", async || rig.shards[0].sql(waits).await == "1").await;
    let notify = Raw::query("notify pgherd_schema");
    assert_eq!(notifier.ask(&notify).await, "C ZI");
    let notified = rig.shards[0].sql("select clock_timestamp()").await;
    // What has come is read with the answer to the next question.
    let asked = format!(
        "select count(*) from pg_stat_activity where datname = current_database()
         and query like '%starts_with(gid%' and pid <> pg_backend_pid()
         and query_start > timestamptz '{notified}' + interval '2 s'"
    );
    until("it is heard", async || {
        rig.shards[0].sql(&asked).await == "1"
    })
    .await;
    assert_eq!(holder.ask(&Raw::query("commit")).await, "C ZI");
    assert_eq!(waiter.ask(b"").await, "C ZT");
    let (one, two) = (key(0), key(1));
    for _ in 0..20 {
        assert_eq!(notifier.ask(&notify).await, "C ZI");
        for text in [
            "select count(*) from accounts".to_owned(),
            format!("update accounts set amount = amount + 1 where id in ({one}, {two})"),
            "savepoint s".to_owned(),
            "select amount from accounts order by amount".to_owned(),
            "commit".to_owned(),
            "begin".to_owned(),
        ] {
            let told = waiter.ask(&Raw::query(&text)).await;
            assert!(!told.contains('E'), "{text}: {told}");
        }
    }
}
