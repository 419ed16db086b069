//! Two proxies before the same shards.

use std::time::Duration;

use pgherd_tests::{Proxy, Raw, until};
use tokio::time::timeout;

use crate::rig::Rig;
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
