//! What a transaction over both shards leaves on their connections meets nobody else.

use pgherd_tests::Raw;

use crate::faults::tapped_with;
use crate::rig::{Rig, key};
use crate::tap::{Fault, Rule, When};
use crate::transactions::filled;

const UPDATE: &str = "update accounts set amount = amount + 1";

#[tokio::test]
async fn nobody_is_told_what_a_block_over_both_has_drawn() {
    let more = "sequences = \"disjoint\"\n[pool]\nsize = 1";
    let rig = filled(more).await;
    for (start, shard) in (1..).zip(&rig.shards) {
        let create = format!("create sequence numbers increment by 2 start {start}");
        shard.sql(&create).await;
    }
    let name = &rig.shards[0].name;
    let mut own = Raw::login(rig.proxy.port(), "app", name, &[]).await;
    assert_eq!(own.one("select nextval('numbers')").await, "1");
    let mut raw = rig.raw().await;
    let draws = format!(
        "update accounts set amount = nextval('numbers') where id = {}",
        key(0)
    );
    for (text, status) in [
        ("begin", 'T'),
        (UPDATE, 'T'),
        (&draws, 'T'),
        ("commit", 'I'),
    ] {
        let told = raw.ask(&Raw::query(text)).await;
        assert_eq!(told, format!("C Z{status}"), "{text}");
    }
    // Its own number is not there any more.
    let told = own.ask(&Raw::query("select lastval()")).await;
    assert_eq!(told, "T E55000 ZI");
}

/// Asks a shard for the setting.
fn asks(shard: u16) -> String {
    format!(
        "select coalesce(current_setting('app.x', true), 'nothing') from accounts where id = {}",
        key(shard)
    )
}

#[tokio::test]
async fn a_setting_that_one_shard_alone_has_taken_meets_nobody_else() {
    let rig = filled("").await;
    let (taps, proxy) = tapped_with(&rig, "[pool]\nsize = 1").await;
    let login = || Raw::login(proxy.port(), "app", "shop", &[]);
    let mut raw = login().await;
    // By that it is known that no function of theirs does anything unseen.
    assert_eq!(raw.ask(&Raw::query(UPDATE)).await, "C ZI");
    for text in ["begin", UPDATE] {
        assert_eq!(raw.ask(&Raw::query(text)).await, "C ZT");
    }
    taps[1].arm(Rule {
        pattern: b"app.x",
        when: When::Before,
        fault: Fault::Cut,
    });
    let set = Raw::query("set app.x = 'mine'");
    assert_eq!(raw.ask(&set).await, "E40001 ZE");
    taps[1].hit().await;
    let mut other = login().await;
    for shard in [0, 1] {
        assert_eq!(other.one(&asks(shard)).await, "nothing", "{shard}");
    }
}

#[tokio::test]
async fn a_setting_that_a_new_shard_has_not_taken_over_is_not_taken_for_had() {
    let rig: Rig = filled("[pool]\nsize = 1").await;
    let create = "create text search configuration own (copy = simple)";
    rig.shards[0].sql(create).await;
    let mut raw = rig.raw().await;
    let update = |shard: u16| format!("{UPDATE} where id = {}", key(shard));
    for text in [
        "begin",
        &update(0),
        "set default_text_search_config = 'own'",
        "set app.x = 'mine'",
    ] {
        assert_eq!(raw.ask(&Raw::query(text)).await, "C ZT", "{text}");
    }
    // There is none there, so that nothing behind it is set.
    assert_eq!(raw.ask(&Raw::query(&update(1))).await, "E22023 ZE");
    assert_eq!(raw.ask(&Raw::query("rollback")).await, "C ZI");
    // As on one Postgres, which does not forget it.
    for shard in [0, 1] {
        assert_eq!(raw.one(&asks(shard)).await, "", "{shard}");
    }
}
