//! Two proxies before the same shards: what one changes the other knows.

use pgherd_tests::{Proxy, Raw};

use crate::rig::{Rig, key};
use crate::transactions::{deadlock, filled};

const PLAIN: &str = "create or replace view v as select id, owner from accounts";
const COUNTED: &str =
    "create or replace view v as select count(*) as id, min(owner) as owner from accounts";

/// A session of each of two proxies.
async fn two(rig: &Rig) -> (Proxy, Raw, Raw) {
    let other = Proxy::start(&Rig::config(&rig.shards, "")).await;
    let one = rig.raw().await;
    let two = Raw::login(other.port(), "app", "shop", &[]).await;
    (other, one, two)
}

async fn done(raw: &mut Raw, text: &str) {
    assert_eq!(raw.ask(&Raw::query(text)).await, "C ZI", "{text}");
}

#[tokio::test]
async fn what_reads_several_is_not_planned_by_what_another_proxy_has_changed() {
    let rig = filled("").await;
    let (_other, mut one, mut two) = two(&rig).await;
    done(&mut one, PLAIN).await;
    let select = "select id from v";
    let bound = [
        Raw::parse("", select),
        Raw::bind("", "", &[]),
        Raw::execute("", 0),
        Raw::sync(),
    ]
    .concat();
    assert_eq!(two.ask(&Raw::query(select)).await, "T D D D D D D C ZI");
    for _ in 0..3 {
        // By what it was, each shard would give a row of its own.
        done(&mut one, COUNTED).await;
        assert_eq!(two.one(select).await, "6");
        done(&mut one, PLAIN).await;
        assert_eq!(two.ask(&bound).await, "1 2 D D D D D D C ZI");
        done(&mut one, COUNTED).await;
        assert_eq!(two.ask(&bound).await, "1 2 D C ZI");
        // Also if it changes while the other has a block on both shards.
        assert_eq!(two.ask(&Raw::query("begin")).await, "C ZT");
        let all = "select id from accounts";
        assert_eq!(two.ask(&Raw::query(all)).await, "T D D D D D D C ZT");
        done(&mut one, PLAIN).await;
        assert_eq!(two.ask(&Raw::query(select)).await, "T D D D D D D C ZT");
        assert_eq!(two.ask(&Raw::query("rollback")).await, "C ZI");
    }
}

#[tokio::test]
async fn what_writes_to_several_is_not_planned_by_what_another_proxy_has_changed() {
    let rig = filled("").await;
    let (_other, mut one, mut two) = two(&rig).await;
    done(&mut one, PLAIN).await;
    let update = "update accounts set owner = v.owner || '!' from v where v.id = accounts.id";
    assert_eq!(two.ask(&Raw::query(update)).await, "C ZI");
    done(&mut one, COUNTED).await;
    // Of all rows together there is one, which no shard has by itself.
    assert_eq!(two.ask(&Raw::query(update)).await, "E0A000 ZI");
    done(&mut one, PLAIN).await;
    assert_eq!(two.ask(&Raw::query(update)).await, "C ZI");
}

#[tokio::test]
async fn what_runs_on_one_hears_of_it_soon() {
    let rig = filled("").await;
    let (_other, mut one, mut two) = two(&rig).await;
    let view = |shard: u16| {
        let key = key(shard);
        format!("create or replace view w as select id from accounts where id = {key}")
    };
    done(&mut one, &view(0)).await;
    let select = "select count(*) from w";
    assert_eq!(two.one(select).await, "1");
    done(&mut one, &view(1)).await;
    let began = std::time::Instant::now();
    while two.one(select).await != "1" {
        // It would know by itself only then.
        assert!(began.elapsed().as_secs() < 15, "it does not hear of it");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_deadlock_of_two_proxies_ends_with_one_victim() {
    let rig = filled("").await;
    let (_other, mut one, mut two) = two(&rig).await;
    // Whichever has come to the second shard later, its own proxy ends it.
    deadlock(&mut one, &mut two).await;
    deadlock(&mut two, &mut one).await;
}
