//! Texts and values mean on the shards what the planner takes them for, also under settings of the servers' own.

use pgherd_tests::{Database, Proxy, Raw};

use crate::rig::{Rig, SCHEMA, key};

/// Shards with an encoding and settings that are given to their databases.
async fn rig(encoding: &str, settings: &[&str]) -> Rig {
    let mut shards = Vec::new();
    for _ in 0..2 {
        let mut database = Database::new().await;
        let name = format!("{}_own", database.name);
        database
            .sql(&format!(
                "create database {name} template template0 encoding '{encoding}' \
                 lc_collate 'C' lc_ctype 'C'"
            ))
            .await;
        for setting in settings {
            let alter = format!("alter database {name} set {setting}");
            database.sql(&alter).await;
        }
        database.name = name;
        database.sql(SCHEMA).await;
        shards.push(database);
    }
    let proxy = Proxy::start(&Rig::config(&shards, "")).await;
    Rig { shards, proxy }
}

async fn expect(raw: &mut Raw, cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        assert_eq!(raw.ask(&Raw::query(text)).await, *expected, "{text}");
    }
}

#[tokio::test]
async fn escaped_characters_are_those_of_the_servers() {
    let rig = rig("LATIN1", &[]).await;
    let mut raw = rig.raw().await;
    let insert = format!("insert into accounts values ({}, U&'\\00e4')", key(0));
    expect(
        &mut raw,
        &[
            (&insert, "E0A000 ZI"),
            (
                "select count(*) from accounts where owner = E'\\xe4'",
                "E0A000 ZI",
            ),
            (
                "select count(*) from accounts where owner = '\\xe4'",
                "T D C ZI",
            ),
            (
                "select count(*) from accounts where owner = E'a\\nb'",
                "T D C ZI",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn what_is_written_anew_is_in_the_encoding_of_the_session() {
    let rig = rig("UTF8", &[]).await;
    for (at, shard) in rig.shards.iter().enumerate() {
        let id = key(u16::try_from(at).unwrap());
        shard
            .sql(&format!(
                "insert into accounts values ({id}, U&'\\00e4'); \
                 alter table accounts add U&\"gr\\00f6\\00dfe\" int"
            ))
            .await;
    }
    let mut raw = rig.raw().await;
    let sorted = "select id from accounts where owner = U&'\\00e4' order by id";
    // Its columns are named where rows are brought to one server.
    let pulled = "select * from accounts a where exists \
                  (select from accounts b where b.owner = a.owner and b.id <> a.id)";
    expect(
        &mut raw,
        &[
            (sorted, "T D D C ZI"),
            (pulled, "T D D C ZI"),
            ("set client_encoding = latin1", "C ZI"),
            (sorted, "E0A000 ZI"),
            (pulled, "E0A000 ZI"),
            ("select id from accounts order by id", "T D D C ZI"),
        ],
    )
    .await;
}

#[tokio::test]
async fn settings_of_the_servers_that_change_meanings_are_refused() {
    for setting in ["array_nulls = off", "transform_null_equals = on"] {
        let rig = rig("UTF8", &[setting]).await;
        let mut raw = rig.raw().await;
        let select = format!("select owner from accounts where id = {}", key(0));
        expect(
            &mut raw,
            &[(&select, "E0A000 ZI"), ("show timezone", "T D C ZI")],
        )
        .await;
    }
}

#[tokio::test]
async fn values_in_text_are_combined_only_where_nothing_of_them_is_lost() {
    for (setting, good) in [
        ("extra_float_digits = 0", "extra_float_digits = 1"),
        ("DateStyle = 'SQL, DMY'", "DateStyle = ISO"),
    ] {
        let rig = rig("UTF8", &[setting]).await;
        for (at, shard) in rig.shards.iter().enumerate() {
            let id = key(u16::try_from(at).unwrap());
            shard
                .sql(&format!(
                    "create type mood as enum ('sad', 'glad'); \
                     alter table accounts add f float8 default 0.1::float8 + 0.2, \
                      add at timestamptz default '0044-03-15 12:00:00+01 BC', \
                      add m mood default 'glad'; \
                     insert into accounts values ({id}, 'x')"
                ))
                .await;
        }
        let mut raw = rig.raw().await;
        let select = "select distinct f, at, m from accounts";
        let set = format!("set {good}");
        expect(
            &mut raw,
            &[(select, "E0A000 ZI"), (&set, "C ZI"), (select, "T D C ZI")],
        )
        .await;
    }
}

#[tokio::test]
async fn numbers_are_those_of_the_servers_version() {
    let rig = rig("UTF8", &["backslash_quote = off"]).await;
    let version = rig.shards[0].sql("show server_version_num").await;
    let newer = version.parse::<u32>().unwrap() >= 160_000;
    let read = if newer { "T D C ZI" } else { "E42601 ZI" };
    let mut raw = rig.raw().await;
    let by_key = format!(
        "select count(*) from accounts where id = {} and 0 < 0x1F",
        key(0)
    );
    expect(
        &mut raw,
        &[
            ("select count(*) from accounts where amount < 1_0", read),
            (&by_key, read),
            (
                "select count(*) from accounts where owner = E'a\\'b'",
                "E0A000 ZI",
            ),
            (
                "select count(*) from accounts where owner = E'a''b'",
                "T D C ZI",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn escaped_texts_are_read_from_several_shards_in_either_protocol() {
    let rig = Rig::new("").await;
    for (at, shard) in rig.shards.iter().enumerate() {
        let id = key(u16::try_from(at).unwrap());
        let insert = format!("insert into accounts values ({id}, 'data')");
        shard.sql(&insert).await;
    }
    let mut raw = rig.raw().await;
    for text in [
        "select id from accounts where owner = U&'d\\0061ta' order by id",
        "select id from accounts where owner = E'd\\x61t\\141' order by id",
    ] {
        assert_eq!(raw.ask(&Raw::query(text)).await, "T D D C ZI", "{text}");
        let extended = [
            Raw::parse("", text),
            Raw::bind("", "", &[]),
            Raw::execute("", 0),
            Raw::sync(),
        ]
        .concat();
        assert_eq!(raw.ask(&extended).await, "1 2 D D C ZI", "{text}");
    }
}
