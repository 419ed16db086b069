//! `pgherd.unique_id()`: a number that no other shard gives, whoever asks.

use std::collections::BTreeSet;

use pgherd_tests::{Proxy, Raw, until};

use crate::rig::{Rig, key, keys};

const CALL: &str = "select pgherd.unique_id()";
const TABLE: &str = "create table tickets (tenant bigint not null, \
                     id bigint not null default pgherd.unique_id(), n int)";

/// Does what the errors say until there is none.
async fn made(rig: &Rig) -> usize {
    let mut raw = rig.raw().await;
    let mut count = 0;
    loop {
        raw.send(&Raw::query(CALL)).await;
        let answer = raw.ready().await;
        let Some(error) = answer.iter().find(|it| it.tag == 'E') else {
            return count;
        };
        assert_eq!(error.field('C').as_deref(), Some("0A000"), "{answer:?}");
        let text = error.field('M').unwrap();
        let shard = rig.shards.iter().find(|it| text.contains(&it.name));
        let hint = error.field('H').unwrap();
        let definition = hint.strip_prefix("Run there, as who may: ").unwrap();
        let name = &shard.unwrap().name;
        let mut direct = Raw::login(rig.proxy.port(), "app", name, &[]).await;
        let answer = direct.ask(&Raw::query(definition)).await;
        assert!(!answer.contains('E'), "{definition}: {answer}");
        count += 1;
    }
}

async fn rig() -> Rig {
    let rig = Rig::new("columns = [\"tenant\"]").await;
    assert_eq!(made(&rig).await, 2, "each shard has one of its own");
    // By their own names, so that it is known at once.
    for shard in &rig.shards {
        let mut direct = Raw::login(rig.proxy.port(), "app", &shard.name, &[]).await;
        assert_eq!(direct.ask(&Raw::query(TABLE)).await, "C ZI");
    }
    let mut raw = rig.raw().await;
    until("the table is known", async || {
        raw.ask(&Raw::query("select id from tickets where tenant = 1"))
            .await
            == "T C ZI"
    })
    .await;
    rig
}

/// A prepared statement, executed once more.
fn executed(name: &str, values: &[&str]) -> Vec<u8> {
    let all = [
        Raw::bind("", name, values),
        Raw::execute("", 0),
        Raw::sync(),
    ];
    all.concat()
}

#[tokio::test]
async fn each_call_gives_a_later_number() {
    let rig = rig().await;
    let other = Proxy::start(&Rig::config(&rig.shards, "columns = [\"tenant\"]")).await;
    let mut found = BTreeSet::new();
    let mut count = 0;
    for port in [rig.proxy.port(), other.port()] {
        let mut raw = Raw::login(port, "app", "shop", &[]).await;
        let mut last = 0;
        for _ in 0..20 {
            let number: i64 = raw.one(CALL).await.parse().unwrap();
            assert!(number > last, "{number} behind {last}");
            last = number;
            assert!(found.insert(number));
            count += 1;
        }
        assert_eq!(
            raw.ask(&[Raw::parse("s", CALL), Raw::sync()].concat())
                .await,
            "1 ZI"
        );
        for _ in 0..20 {
            raw.send(&executed("s", &[])).await;
            let row = raw
                .ready()
                .await
                .into_iter()
                .find(|it| it.tag == 'D')
                .unwrap();
            let number = row.columns().remove(0).parse().unwrap();
            assert!(found.insert(number), "{number} comes again");
            count += 1;
        }
    }
    assert_eq!(found.len(), count);
}

#[tokio::test]
async fn each_row_has_one_of_its_shard() {
    let rig = rig().await;
    let mut raw = rig.raw().await;
    let (one, two) = (key(0), key(1));
    let rows = format!(
        "insert into tickets values ({one}, pgherd.unique_id(), 1), ({two}, pgherd.unique_id(), 2), \
         ({one}, pgherd.unique_id(), 3), ({two}, default, 4)"
    );
    let defaults = format!("insert into tickets (tenant, n) values ({one}, 5), ({two}, 6)");
    for text in [&rows, &defaults] {
        for begin in ["", "begin"] {
            if !begin.is_empty() {
                assert_eq!(raw.ask(&Raw::query(begin)).await, "C ZT");
                assert_eq!(raw.ask(&Raw::query(text)).await, "C ZT");
                assert_eq!(raw.ask(&Raw::query("commit")).await, "C ZI");
            } else {
                assert_eq!(raw.ask(&Raw::query(text)).await, "C ZI", "{text}");
            }
        }
    }
    let insert = "insert into tickets values ($1, pgherd.unique_id(), $2)";
    assert_eq!(
        raw.ask(&[Raw::parse("s", insert), Raw::sync()].concat())
            .await,
        "1 ZI"
    );
    for key in [one, one, two, two, one] {
        let bound = executed("s", &[&key.to_string(), "7"]);
        assert_eq!(raw.ask(&bound).await, "2 C ZI");
    }
    let counts = "select count(*), count(distinct id) from tickets";
    raw.send(&Raw::query(counts)).await;
    let row = raw
        .ready()
        .await
        .into_iter()
        .find(|it| it.tag == 'D')
        .unwrap();
    assert_eq!(row.columns(), ["17", "17"]);
    for (at, shard) in rig.shards.iter().enumerate() {
        let numbers = "select string_agg(distinct ((id >> 22) & 1023)::text, ',') from tickets";
        assert_eq!(shard.sql(numbers).await, at.to_string());
        let near = "select count(*) from tickets \
                    where abs((id >> 32) + 1704067200 - extract(epoch from now())) > 600";
        assert_eq!(shard.sql(near).await, "0");
    }
}

#[tokio::test]
async fn what_one_postgres_would_not_give_is_refused() {
    let rig = rig().await;
    let mut raw = rig.raw().await;
    for text in [
        // It would be another on each shard.
        "insert into countries values ('x', pgherd.unique_id()::text)",
        "update countries set name = pgherd.unique_id()::text",
        "update tickets set id = pgherd.unique_id()",
    ] {
        assert_eq!(raw.ask(&Raw::query(text)).await, "E0A000 ZI", "{text}");
        let parse = [
            Raw::parse("", text),
            Raw::bind("", "", &[]),
            Raw::execute("", 0),
            Raw::sync(),
        ];
        assert!(raw.ask(&parse.concat()).await.contains("E0A000"), "{text}");
    }
    // As a key it is drawn before the row is placed.
    for _ in 0..9 {
        let insert = "insert into accounts values (pgherd.unique_id(), 'x', 1) returning id";
        let id = raw.one(insert).await;
        let found = format!("select owner from accounts where id = {id}");
        assert_eq!(raw.one(&found).await, "x");
    }
    // Where all is on one shard, it is as on any.
    let (one, two) = (keys(0).next().unwrap(), keys(0).nth(1).unwrap());
    for text in [
        format!("insert into tickets (tenant, n) values ({one}, 1), ({two}, 2), ({one}, 3)"),
        format!("update tickets set id = pgherd.unique_id() where tenant = {one}"),
    ] {
        assert_eq!(raw.ask(&Raw::query(&text)).await, "C ZI", "{text}");
    }
    assert_eq!(raw.one("select count(distinct id) from tickets").await, "3");
}

#[tokio::test]
async fn a_shard_that_was_made_of_another_is_noticed() {
    let rig = rig().await;
    let mut raw = rig.raw().await;
    let body = "select prosrc from pg_proc where proname = 'unique_id'";
    let body = rig.shards[0].sql(body).await;
    let copy = format!(
        "create or replace function pgherd.unique_id() returns bigint language sql volatile \
         set search_path = pg_catalog as $${body}$$"
    );
    let mut direct = Raw::login(rig.proxy.port(), "app", &rig.shards[1].name, &[]).await;
    assert_eq!(direct.ask(&Raw::query(&copy)).await, "C ZI");
    // A column has it as its default, so that nothing is to be run.
    let select = format!("select id from tickets where tenant = {}", key(0));
    for text in [CALL, &select] {
        raw.send(&Raw::query(text)).await;
        let answer = raw.ready().await;
        let error = answer.iter().find(|it| it.tag == 'E').unwrap();
        let told = error.field('M').unwrap();
        assert!(
            told.contains("gives numbers that another may give"),
            "{told}"
        );
    }
}
