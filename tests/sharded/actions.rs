//! Foreign keys that were declared by hand and change rows of other tables, unseen: what they would have moved stays.

use pgherd_tests::{Database, Proxy, Raw, connect};

use crate::rig::{Rig, key, keys};

/// Countries are on every shard, towns where their country's code leads: it is their key.
const TOWNS: &str = "
    create table towns (tenant text not null references countries on update cascade on delete cascade, n int);
    create table regions (code text primary key);
    create table parts (code text primary key, region text references regions on update cascade,
                        town text default 'x' references countries on delete set default);
    create table visits (tenant bigint not null references accounts on update cascade on delete cascade, n int);
    create table names (tenant text not null references accounts (owner) on update cascade, n int);
    create table plain (tenant bigint not null, town text references countries on update cascade on delete set null);";

async fn rig() -> Rig {
    let rig = Rig::new("columns = [\"tenant\"]\nunlisted = \"replicated\"").await;
    for shard in &rig.shards {
        shard.sql("alter table accounts add unique (owner)").await;
        shard.sql(TOWNS).await;
    }
    rig
}

async fn told(raw: &mut Raw, text: &str) -> String {
    raw.ask(&Raw::query(text)).await
}

#[tokio::test]
async fn a_write_that_would_move_rows_of_others_is_refused() {
    let rig = rig().await;
    let mut raw = rig.raw().await;
    let town = "insert into towns values ('at', 1)";
    assert_eq!(told(&mut raw, town).await, "C ZI");
    let account = format!("insert into accounts values ({}, 'x', 1)", key(0));
    assert_eq!(told(&mut raw, &account).await, "C ZI");
    for (text, answer) in [
        (
            "update countries set code = 'xx' where code = 'at'",
            "E0A000 ZI",
        ),
        (
            "update countries set (name, code) = ('a', 'b') where code = 'at'",
            "E0A000 ZI",
        ),
        (
            "insert into countries values ('at', 'x') on conflict (code) do update set code = 'xx'",
            "E0A000 ZI",
        ),
        // Each shard would compute a default by itself.
        ("delete from countries where code = 'de'", "E0A000 ZI"),
        ("update accounts set owner = 'y'", "E0A000 ZI"),
        // What changes nothing that others refer to.
        (
            "update countries set name = 'Österreich' where code = 'at'",
            "C ZI",
        ),
        (
            "insert into countries values ('at', 'x') on conflict (code) do update set name = 'x'",
            "C ZI",
        ),
        ("update accounts set amount = 7", "C ZI"),
    ] {
        assert_eq!(told(&mut raw, text).await, answer, "{text}");
    }
    // Prepared, it is no other.
    let bound = [
        Raw::parse("", "update countries set code = $1 where code = 'at'"),
        Raw::bind("", "", &["xx"]),
        Raw::execute("", 0),
        Raw::sync(),
    ];
    assert_eq!(raw.ask(&bound.concat()).await, "E0A000 ZI");
    assert_eq!(
        raw.one("select count(*) from towns where tenant = 'at'")
            .await,
        "1"
    );
}

#[tokio::test]
async fn what_stays_on_its_shard_is_done() {
    let rig = rig().await;
    let mut raw = rig.raw().await;
    let (one, two) = (key(0), keys(0).nth(1).unwrap());
    for text in [
        format!("insert into accounts values ({one}, 'x', 1)"),
        format!("insert into visits values ({one}, 1)"),
        // The row and those that refer to it are still together.
        format!("update accounts set id = {two} where id = {one}"),
    ] {
        assert_eq!(told(&mut raw, &text).await, "C ZI", "{text}");
    }
    let count = format!("select count(*) from visits where tenant = {two}");
    assert_eq!(raw.one(&count).await, "1");
    let delete = format!("delete from accounts where id = {two}");
    assert_eq!(told(&mut raw, &delete).await, "C ZI");
    assert_eq!(raw.one(&count).await, "0");
    // Rows that are the same on every shard are so afterwards.
    for text in [
        "insert into regions values ('r')",
        "insert into parts values ('p', 'r', null)",
        "update regions set code = 's'",
    ] {
        assert_eq!(told(&mut raw, text).await, "C ZI", "{text}");
    }
    for shard in &rig.shards {
        assert_eq!(shard.sql("select region from parts").await, "s");
    }
}

#[tokio::test]
async fn what_follows_from_what_follows_counts() {
    let mut shards = Vec::new();
    for _ in 0..2 {
        let database = Database::new().await;
        database.sql(crate::rig::SCHEMA).await;
        database
            .sql(
                "create table worlds (code text primary key); \
                 alter table countries add foreign key (code) references worlds on update cascade not valid; \
                 create table towns (tenant text not null references countries on update cascade)",
            )
            .await;
        database
            .sql("insert into worlds values ('at'), ('de')")
            .await;
        shards.push(database);
    }
    let more = "columns = [\"tenant\"]\nunlisted = \"replicated\"";
    let proxy = Proxy::start(&Rig::config(&shards, more)).await;
    let client = connect(&proxy.url("app", "shop")).await;
    let (code, text) = client
        .refused("update worlds set code = 'xx' where code = 'at'")
        .await;
    assert_eq!(code, "0A000");
    let part = "ON UPDATE CASCADE of the FOREIGN KEY of public.towns";
    assert!(text.contains(part), "{text}");
    // The operator is told before anybody asks.
    let console = connect(&proxy.url("app", "pgherd")).await;
    let rows = console
        .rows("CHECK SHARDING", ["table", "state", "detail"])
        .await;
    let remark = rows
        .iter()
        .find(|row| row[1] == "remark" && row[0] == "public.countries");
    assert!(remark.is_some_and(|row| row[2].contains(part)), "{rows:?}");
}
