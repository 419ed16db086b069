//! Writes to tables that are the same on every shard: they are still so afterwards, whoever writes beside.

use pgherd_tests::{Database, Raw, connect, until};
use tokio::task::JoinHandle;

use crate::rig::{Rig, keys};
use crate::transactions::filled;

/// How many wait for a lock on one of the shards.
async fn waiting(rig: &Rig) -> usize {
    let question = "select count(*) from pg_stat_activity \
         where wait_event_type = 'Lock' and datname = current_database()";
    let mut count = 0;
    for shard in &rig.shards {
        count += shard.sql(question).await.parse::<usize>().unwrap();
    }
    count
}

/// The rows of both, which are the same.
async fn rows(rig: &Rig) -> String {
    let of = async |shard: &Database| {
        let question = "select string_agg(code || '=' || name, ' ' order by code) from countries";
        shard.sql(question).await
    };
    let rows = of(&rig.shards[0]).await;
    assert_eq!(rows, of(&rig.shards[1]).await);
    rows
}

/// Keeps everybody out of the table on the second shard who comes behind those that use it.
async fn closing(rig: &Rig) -> JoinHandle<()> {
    let holder = connect(&rig.shards[1].url("app")).await;
    tokio::spawn(async move {
        let text = "begin; lock table countries in access exclusive mode; commit";
        holder.batch_execute(text).await.unwrap();
    })
}

#[tokio::test]
async fn what_is_written_by_other_rows_is_the_same_everywhere() {
    let count =
        "update countries set name = (select count(*)::text from countries) where code = 'at'";
    let found = "update countries set name = name || '!' where name = 'X'";
    for (text, expected) in [
        (count, "at=3 de=Germany x=X"),
        (found, "at=Austria de=Germany x=X!"),
    ] {
        let rig = Rig::new("").await;
        let (mut one, mut other) = (rig.raw().await, rig.raw().await);
        for text in ["begin", "insert into countries values ('x', 'X')"] {
            assert_eq!(one.ask(&Raw::query(text)).await, "C ZT");
        }
        // Another one's statement that has run on the first shard must not meet more rows on the second.
        let closed = closing(&rig).await;
        until("it waits", async || waiting(&rig).await == 1).await;
        other.send(&Raw::query(text)).await;
        until("both wait", async || waiting(&rig).await == 2).await;
        assert_eq!(one.ask(&Raw::query("commit")).await, "C ZI");
        closed.await.unwrap();
        assert_eq!(other.ask(&[]).await, "C ZI", "{text}");
        assert_eq!(rows(&rig).await, expected);
    }
}

#[tokio::test]
async fn who_locks_a_row_may_write_it() {
    let rig = Rig::new("").await;
    let lock = "select name from countries where code = 'at' for update";
    let write = "update countries set name = name || '!' where code = 'at'";
    let simple = vec![Raw::query(lock)];
    let pieces = [
        Raw::parse("", lock),
        Raw::bind("", "", &[]),
        Raw::execute("", 0),
        Raw::sync(),
    ];
    for (how, expected) in [(simple, "T D C ZT"), (pieces.to_vec(), "1 2 D C ZT")] {
        let (mut one, mut other) = (rig.raw().await, rig.raw().await);
        assert_eq!(one.ask(&Raw::query("begin")).await, "C ZT");
        assert_eq!(one.ask(&how.concat()).await, expected);
        other.send(&Raw::query(write)).await;
        until("the other waits", async || waiting(&rig).await == 1).await;
        // Were it to wait for a row that we have locked, we would wait for each other.
        assert_eq!(one.ask(&Raw::query(write)).await, "C ZT");
        assert_eq!(one.ask(&Raw::query("commit")).await, "C ZI");
        assert_eq!(other.ask(&[]).await, "C ZI");
    }
    assert_eq!(rows(&rig).await, "at=Austria!!!! de=Germany");
}

/// One of the writers of the next test.
async fn write(rig: &Rig, number: usize) {
    let mut raw = rig.raw().await;
    for at in 0..12 {
        let code = format!("{number}.{at}");
        let texts = match (number + at) % 4 {
            0 => vec![format!("insert into countries values ('{code}', '{at}')")],
            1 => vec![
                "begin".to_owned(),
                "select name from countries where code = 'at' for update".to_owned(),
                "update countries set name = (select count(*)::text from countries) where code = 'at'"
                    .to_owned(),
                "commit".to_owned(),
            ],
            2 => vec![format!(
                "insert into countries values ('{at}', '{code}') \
                 on conflict (code) do update set name = excluded.name || countries.name"
            )],
            _ => vec![
                "begin".to_owned(),
                format!("insert into countries values ('{code}', 'x')"),
                "update countries set name = name || '+' where name in (select max(name) from countries)"
                    .to_owned(),
                "commit".to_owned(),
            ],
        };
        for text in texts {
            let answer = raw.ask(&Raw::query(&text)).await;
            assert!(!answer.contains('E'), "{text}: {answer}");
        }
    }
}

#[tokio::test]
async fn whatever_is_written_at_once_leaves_the_same_rows() {
    let rig = Rig::new("").await;
    tokio::join!(
        write(&rig, 0),
        write(&rig, 1),
        write(&rig, 2),
        write(&rig, 3)
    );
    let rows = rows(&rig).await;
    assert!(rows.contains(" 3.9=9"), "{rows}");
}

#[tokio::test]
async fn what_is_written_by_such_rows_is_written_by_the_same_on_every_shard() {
    let new = |shard: u16| keys(shard).nth(5).unwrap();
    let name = "(select name from countries where code = 'at')";
    for text in [
        format!("update accounts set owner = {name}"),
        "update accounts set owner = name from countries where code = 'at'".to_owned(),
        format!(
            "insert into accounts values ({}, {name}), ({}, {name})",
            new(0),
            new(1)
        ),
    ] {
        let rig = filled("").await;
        let (mut one, mut other) = (rig.raw().await, rig.raw().await);
        assert_eq!(one.ask(&Raw::query("begin")).await, "C ZT");
        let write = "update countries set name = 'new' where code = 'at'";
        assert_eq!(one.ask(&Raw::query(write)).await, "C ZT");
        other.send(&Raw::query(&text)).await;
        until("it waits", async || waiting(&rig).await == 1).await;
        assert_eq!(one.ask(&Raw::query("commit")).await, "C ZI");
        assert_eq!(other.ask(&[]).await, "C ZI", "{text}");
        for shard in &rig.shards {
            let owners = "select string_agg(distinct owner, ' ') from accounts where owner <> 'x'";
            assert_eq!(shard.sql(owners).await, "new", "{text}");
        }
    }
}
