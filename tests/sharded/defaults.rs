//! Columns whose defaults are not the same on every shard, or not in every row.

use pgherd_tests::Raw;

use crate::rig::{Rig, keys};

const TABLE: &str = "create table stamped (tenant bigint not null, made timestamptz not null default now(), \
                     token uuid not null default gen_random_uuid())";

async fn rig() -> Rig {
    let rig = Rig::new("columns = [\"tenant\"]").await;
    for shard in &rig.shards {
        shard.sql(TABLE).await;
    }
    rig
}

/// How many rows there are, and how many different values of both defaults.
async fn counts(raw: &mut Raw) -> [String; 3] {
    [
        raw.one("select count(*) from stamped").await,
        raw.one("select count(distinct made) from stamped").await,
        raw.one("select count(distinct token) from stamped").await,
    ]
}

#[tokio::test]
async fn rows_of_several_shards_are_made_at_one_moment() {
    let rig = rig().await;
    let mut raw = rig.raw().await;
    let (mut here, mut there) = (keys(0), keys(1));
    let mut pair = || (here.next().unwrap(), there.next().unwrap());
    let (one, two) = pair();
    let insert = format!("insert into stamped (tenant) values ({one}), ({two})");
    assert_eq!(raw.ask(&Raw::query(&insert)).await, "C ZI");
    assert_eq!(counts(&mut raw).await, ["2", "1", "2"]);
    let (one, two) = pair();
    let insert = format!(
        "insert into stamped values ({one}, default, default), ({two}, now(), default) returning made"
    );
    assert_eq!(raw.ask(&Raw::query(&insert)).await, "T D D C ZI");
    assert_eq!(counts(&mut raw).await, ["4", "2", "4"]);
    let (one, two) = pair();
    let bound = [
        Raw::parse("", "insert into stamped (tenant) values ($1), ($2)"),
        Raw::bind("", "", &[&one.to_string(), &two.to_string()]),
        Raw::execute("", 0),
        Raw::sync(),
    ];
    assert_eq!(raw.ask(&bound.concat()).await, "1 2 C ZI");
    assert_eq!(counts(&mut raw).await, ["6", "3", "6"]);
    // In a block, it is the moment at which that began.
    assert_eq!(raw.ask(&Raw::query("begin")).await, "C ZT");
    for _ in 0..2 {
        let (one, two) = pair();
        let insert = format!("insert into stamped (tenant) values ({one}), ({two})");
        assert_eq!(raw.ask(&Raw::query(&insert)).await, "C ZT");
    }
    assert_eq!(raw.ask(&Raw::query("commit")).await, "C ZI");
    assert_eq!(counts(&mut raw).await, ["10", "4", "10"]);
    // Also on a shard to which it came later.
    let (one, two) = pair();
    assert_eq!(raw.ask(&Raw::query("begin")).await, "C ZT");
    for (key, made) in [(one, "default"), (two, "default"), (two, "now()")] {
        let insert = format!("insert into stamped values ({key}, {made})");
        assert_eq!(raw.ask(&Raw::query(&insert)).await, "C ZT");
        raw.one("select pg_sleep(0.01)").await;
    }
    let bound = [
        Raw::parse(
            "",
            "insert into stamped (tenant) values ($1) returning made = now()",
        ),
        Raw::bind("", "", &[&two.to_string()]),
        Raw::execute("", 0),
        Raw::sync(),
    ];
    assert_eq!(raw.ask(&bound.concat()).await, "1 2 D C ZT");
    assert_eq!(raw.ask(&Raw::query("commit")).await, "C ZI");
    assert_eq!(counts(&mut raw).await, ["14", "5", "14"]);
}

#[tokio::test]
async fn a_value_of_chance_is_another_in_each_row_and_the_same_on_every_shard() {
    let rig = rig().await;
    let mut raw = rig.raw().await;
    let (one, two) = (keys(0).next().unwrap(), keys(1).next().unwrap());
    let insert = format!(
        "insert into stamped values ({one}, '2020-01-01', gen_random_uuid()), \
         ({two}, '2020-01-01', gen_random_uuid())"
    );
    assert_eq!(raw.ask(&Raw::query(&insert)).await, "C ZI");
    assert_eq!(counts(&mut raw).await, ["2", "1", "2"]);
    // One for the whole statement, which no shard knows of the other.
    let insert = format!(
        "insert into stamped values ({one}, '2020-01-01', (select gen_random_uuid())), \
         ({two}, '2020-01-01', (select gen_random_uuid()))"
    );
    assert_eq!(raw.ask(&Raw::query(&insert)).await, "E0A000 ZI");
    // Of a clock, or of what setseed has said, a row's value is not that of one server.
    for value in ["clock_timestamp()", "to_timestamp(random())"] {
        let insert = format!("insert into stamped values ({one}, {value}), ({two}, '2020-01-01')");
        assert_eq!(raw.ask(&Raw::query(&insert)).await, "E0A000 ZI", "{value}");
    }
    let replicated = "insert into countries values ('ch', gen_random_uuid()::text)";
    assert_eq!(raw.ask(&Raw::query(replicated)).await, "E0A000 ZI");
}
