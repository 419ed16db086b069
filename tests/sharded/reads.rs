//! Reads of both shards that are sorted, cut off, combined or joined, in a block: they see what it has written.

use pgherd_tests::{Raw, connect};

use crate::pull::{JOIN, LOCK, filled, forms, rows, waits};
use crate::rig::{Rig, key, keys};
use crate::transactions::{part, sum};

/// What an answer says, and whether its block goes on.
async fn told(raw: &mut Raw, bytes: &[u8]) -> (String, String) {
    raw.send(bytes).await;
    let messages = raw.ready().await;
    let status = messages.last().map(|it| it.body.clone()).unwrap();
    (rows(&messages), String::from_utf8(status).unwrap())
}

async fn ask(raw: &mut Raw, text: &str) -> String {
    raw.ask(&Raw::query(text)).await
}

const READS: [(&str, &str); 8] = [
    (
        "select amount from accounts order by amount desc limit 3",
        "111 110 109",
    ),
    (
        "select count(*), sum(amount), min(owner) from accounts",
        "12,1266,new",
    ),
    (
        "select owner, count(*) from accounts group by owner order by 2, 1 limit 1",
        "new,1",
    ),
    (
        "select a.amount, e.n from accounts a join entries e on e.what = a.owner
         where a.amount < 104 order by 1, 2",
        "101,5 102,4 103,4",
    ),
    (
        "select amount, row_number() over (order by amount) from accounts where amount > 109 order by 1",
        "110,1 111,2",
    ),
    (
        "select a.amount, (select count(*) from entries e where e.what = a.owner)
         from accounts a where amount < 102 order by 1",
        "100,0 101,1",
    ),
    (
        "with recursive up (m) as (select 100 union all select m + 1 from up where m < 102)
         select m, (select count(*) from accounts a join entries e on e.what = a.owner
                    where a.amount = m) from up order by m",
        "100,0 101,1 102,1",
    ),
    (
        "select count(*) from accounts a join entries e on e.what = a.owner
         where now() > timestamptz '2000-01-01'",
        "11",
    ),
];

/// A block that writes to both shards before anything is read.
async fn writes(raw: &mut Raw) {
    assert_eq!(ask(raw, "begin").await, "C ZT");
    let add = "update accounts set amount = amount + 100";
    assert_eq!(ask(raw, add).await, "C ZT");
    let rename = format!("update accounts set owner = 'new' where id = {}", key(0));
    assert_eq!(ask(raw, &rename).await, "C ZT");
}

#[tokio::test]
async fn a_block_sees_its_own_writes_whatever_is_read() {
    let rig = filled("").await;
    let mut raw = rig.raw().await;
    for extended in [false, true] {
        writes(&mut raw).await;
        for (text, expected) in READS {
            let bytes = &forms(text)[usize::from(extended)];
            let (given, status) = told(&mut raw, bytes).await;
            assert_eq!((given.as_str(), status.as_str()), (expected, "T"), "{text}");
        }
        // Nobody else sees any of it.
        let other = rig.client().await;
        let row = other
            .query_one("select max(amount) from accounts", &[])
            .await
            .unwrap();
        assert_eq!(row.get::<_, i32>(0), 11);
        assert_eq!(ask(&mut raw, "rollback").await, "C ZI");
    }
    // What was read so keeps no block from its two phases.
    writes(&mut raw).await;
    assert_eq!(told(&mut raw, &Raw::query(READS[3].0)).await.0, READS[3].1);
    assert_eq!(ask(&mut raw, "commit").await, "C ZI");
    assert_eq!(sum(&rig, "select sum(amount) from accounts").await, 1266);
}

#[tokio::test]
async fn a_block_may_read_both_before_anything_else_and_only_read() {
    let rig = filled("").await;
    let mut raw = rig.raw().await;
    for begin in ["begin", "begin read only"] {
        for bytes in forms(JOIN) {
            assert_eq!(ask(&mut raw, begin).await, "C ZT");
            assert_eq!(told(&mut raw, &bytes).await.0, "0,5 1,5 2,4 3,4");
            let one = format!("select count(*) from accounts where id = {}", key(1));
            assert_eq!(raw.one(&one).await, "1");
            assert_eq!(told(&mut raw, &bytes).await.0, "0,5 1,5 2,4 3,4");
            assert_eq!(ask(&mut raw, "commit").await, "C ZI");
        }
    }
    // The shards have no common snapshot.
    for level in ["repeatable read", "serializable"] {
        assert_eq!(
            ask(&mut raw, &format!("begin isolation level {level}")).await,
            "C ZT"
        );
        assert_eq!(
            ask(&mut raw, "select count(*) from accounts").await,
            "E0A000 ZE"
        );
        assert_eq!(ask(&mut raw, "rollback").await, "C ZI");
    }
}

#[tokio::test]
async fn an_error_fails_the_block_and_a_savepoint_saves_it() {
    let rig = filled("").await;
    let mut raw = rig.raw().await;
    let wrong = format!(
        "select a.amount / (a.id - {}) from accounts a join entries e on e.what = a.owner",
        key(1)
    );
    let sorted = format!("select 1 / (id - {}) from accounts order by id", key(1));
    let partial = format!("select sum(1 / (id - {})) from accounts", key(1));
    for text in [&wrong, &sorted, &partial] {
        for bytes in forms(text) {
            writes(&mut raw).await;
            assert_eq!(ask(&mut raw, "savepoint s").await, "C ZT");
            let drop = format!("delete from accounts where id = {}", key(1));
            assert_eq!(ask(&mut raw, &drop).await, "C ZT");
            assert_eq!(raw.one("select count(*) from accounts").await, "11");
            assert_eq!(ask(&mut raw, "rollback to s").await, "C ZT");
            assert_eq!(raw.one("select count(*) from accounts").await, "12");
            let (given, status) = told(&mut raw, &bytes).await;
            assert!(given.ends_with("E22012"), "{text}: {given}");
            assert_eq!(status, "E");
            assert_eq!(ask(&mut raw, READS[1].0).await, "E25P02 ZE");
            assert_eq!(ask(&mut raw, "rollback to s").await, "C ZT");
            assert_eq!(told(&mut raw, &Raw::query(READS[1].0)).await.0, READS[1].1);
            assert_eq!(ask(&mut raw, "rollback").await, "C ZI");
        }
    }
    assert_eq!(sum(&rig, "select sum(amount) from accounts").await, 66);
}

#[tokio::test]
async fn such_reads_stand_in_a_pipeline_with_anything() {
    let rig = filled("").await;
    let mut raw = rig.raw().await;
    let write = format!("update accounts set amount = 1000 where id = {}", key(0));
    let all = [
        part(&write),
        part("select sum(amount) from accounts"),
        part("update accounts set amount = amount + 1"),
        part(JOIN),
        part("select max(amount) from accounts"),
        Raw::sync(),
    ];
    let (given, status) = told(&mut raw, &all.concat()).await;
    assert_eq!(
        (given.as_str(), status.as_str()),
        ("1066 2,5 3,4 1001", "I")
    );
    assert_eq!(
        sum(&rig, "select max(amount) from accounts").await,
        1001 + 12
    );
    // One that fails takes back what stands before it.
    let fails = format!("select sum(1 / (id - {})) from accounts", key(1));
    let all = [
        part("update accounts set amount = 0"),
        part(&fails),
        Raw::sync(),
    ];
    assert_eq!(told(&mut raw, &all.concat()).await.0, "E22012");
    assert_eq!(raw.one("select max(amount) from accounts").await, "1001");
}

#[tokio::test]
async fn drivers_read_both_in_a_block() {
    let rig = filled("").await;
    let client = rig.client().await;
    let text = "select e.what, a.amount, (a.amount + $3)::bigint as more from accounts a
         join entries e on e.what = a.owner where a.amount >= $1 and e.n > $2 order by a.amount limit $4";
    for _ in 0..2 {
        client.batch_execute("begin").await.unwrap();
        let prepared = client.prepare(text).await.unwrap();
        let found = client
            .query(&prepared, &[&1_i32, &3_i32, &10_i32, &3_i64])
            .await
            .unwrap();
        let more: Vec<i64> = found.iter().map(|row| row.get(2)).collect();
        assert_eq!(more, [11, 12, 13]);
        let few = "select id from accounts where amount > $1 order by amount limit $2";
        let found = client.query(few, &[&2_i32, &2_i64]).await.unwrap();
        assert_eq!(found.len(), 2);
        client.batch_execute("commit").await.unwrap();
    }
}

#[tokio::test]
async fn what_a_block_reads_of_a_shard_at_once_is_of_one_moment() {
    let rig = filled("").await;
    let text = "select e.what from accounts a right join entries e on a.owner = e.what
         where e.what = 'new' and a.id is null";
    let writer = connect(&rig.shards[1].url("postgres")).await;
    for (round, bytes) in forms(text).into_iter().enumerate() {
        let mut raw = rig.raw().await;
        assert_eq!(ask(&mut raw, "begin").await, "C ZT");
        // The first shard makes the answer, and the other gives rows of two tables.
        let home = format!("select from accounts where id = {}", key(0));
        assert_eq!(ask(&mut raw, &home).await, "T D C ZT");
        writer.simple_query(LOCK).await.unwrap();
        raw.send(&bytes).await;
        waits(&rig, 1).await;
        let id = keys(1).nth(90 + round).unwrap();
        let both = format!(
            "insert into accounts values ({id}, 'new'); insert into entries values ({id}, 1, 'new');
             commit"
        );
        writer.simple_query(&both).await.unwrap();
        assert_eq!(rows(&raw.ready().await), "");
        assert_eq!(ask(&mut raw, "rollback").await, "C ZI");
        let undo = format!(
            "delete from accounts where id = {id}; delete from entries where account = {id}"
        );
        writer.simple_query(&undo).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_kept_for_a_block_has_a_limit() {
    let rig: Rig = filled("[limits]\nmax_combined_rows = 8").await;
    let mut raw = rig.raw().await;
    for bytes in forms("select count(*) from accounts a join entries e on e.what = a.owner") {
        assert_eq!(ask(&mut raw, "begin").await, "C ZT");
        let (given, status) = told(&mut raw, &bytes).await;
        assert_eq!((given.as_str(), status.as_str()), ("E53400", "E"));
        assert_eq!(ask(&mut raw, "rollback").await, "C ZI");
    }
}

/// So does JDBC's driver.
#[tokio::test]
async fn a_block_may_come_in_one_pipeline_with_its_first_statement() {
    let rig = filled("").await;
    let mut raw = rig.raw().await;
    let piece = |text: &str, describes: bool| {
        let mut bytes = [Raw::parse("", text), Raw::bind("", "", &[])].concat();
        if describes {
            bytes.extend(Raw::describe('P', ""));
        }
        [bytes, Raw::execute("", 0)].concat()
    };
    let count = "select count(*) from accounts";
    let add = "update accounts set amount = amount + 1";
    let total: i64 = raw
        .one("select sum(amount) from accounts")
        .await
        .parse()
        .unwrap();
    for (text, expected) in [
        (count, "1 2 C 1 2 T D C ZT"),
        (add, "1 2 C 1 2 n C ZT"),
        (
            "select amount from accounts order by amount limit 1",
            "1 2 C 1 2 T D C ZT",
        ),
    ] {
        let both = [piece("BEGIN", false), piece(text, true), Raw::sync()].concat();
        assert_eq!(raw.ask(&both).await, expected, "{text}");
        assert_eq!(ask(&mut raw, "rollback").await, "C ZI");
    }
    let sum = "select sum(amount) from accounts";
    assert_eq!(raw.one(sum).await, total.to_string());
}
