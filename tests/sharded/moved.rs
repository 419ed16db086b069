//! Rows whose key changes, and MERGE.

use pgherd_tests::Raw;

use crate::rig::{key, keys};
use crate::transactions::{filled, part, sum};

async fn told(raw: &mut Raw, text: &str) -> String {
    raw.ask(&Raw::query(text)).await
}

/// Parses, binds and executes with these values.
fn with(text: &str, values: &[String]) -> Vec<u8> {
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    let all = [
        Raw::parse("", text),
        Raw::bind("", "", &values),
        Raw::execute("", 0),
        Raw::sync(),
    ];
    all.concat()
}

#[tokio::test]
async fn a_key_changes_where_its_row_can_stay() {
    let rig = filled("").await;
    let mut raw = rig.raw().await;
    let here = keys(0).nth(9).unwrap();
    let own = key(0);
    for (text, expected) in [
        (format!("update accounts set id = {here}"), "E0A000 ZI"),
        (
            format!("update accounts set id = id + 1 where id = {own}"),
            "E0A000 ZI",
        ),
        (
            format!("update accounts set id = null where id = {own}"),
            "E0A000 ZI",
        ),
        (
            format!("update accounts set id = {here} where id = {own}"),
            "C ZI",
        ),
        (
            "update accounts set id = id, amount = amount + 1".to_owned(),
            "C ZI",
        ),
        (
            format!(
                "insert into accounts values ({own}) on conflict (id) do update set id = {here}"
            ),
            "E0A000 ZI",
        ),
    ] {
        assert_eq!(told(&mut raw, &text).await, expected, "{text}");
    }
    let text = "update accounts set id = $1, owner = $2 where id = $3 returning id";
    let values = |id: i64, old: i64| [id.to_string(), "moved".to_owned(), old.to_string()];
    assert_eq!(raw.ask(&with(text, &values(own, here))).await, "1 2 D C ZI");
    assert_eq!(raw.ask(&with(text, &values(own, own))).await, "1 2 D C ZI");
    // Into one that is there.
    let other = keys(0).nth(1).unwrap();
    assert_eq!(
        raw.ask(&with(text, &values(other, own))).await,
        "1 2 E23505 ZI"
    );
    let question = format!("select owner || amount from accounts where id = {own}");
    assert_eq!(rig.shards[0].sql(&question).await, "moved101");
    assert_eq!(sum(&rig, "select count(*) from accounts").await, 6);
}

#[tokio::test]
async fn rows_are_merged_where_they_meet_by_their_keys() {
    let rig = filled("").await;
    let mut raw = rig.raw().await;
    for id in [
        key(0),
        key(1),
        keys(0).nth(9).unwrap(),
        keys(1).nth(9).unwrap(),
    ] {
        let insert = format!("insert into entries values ({id}, 1, 'e')");
        assert_eq!(told(&mut raw, &insert).await, "C ZI");
    }
    let all = "merge into accounts a using entries e on a.id = e.account and e.n = 1 \
        when matched then update set owner = e.what, amount = a.amount + 1 \
        when not matched then insert (id, owner, amount) values (e.account, 'new', 1)";
    raw.send(&Raw::query(all)).await;
    let answer = raw.ready().await;
    assert_eq!(answer[0].body, b"MERGE 4\0", "{answer:?}");
    assert_eq!(sum(&rig, "select sum(amount) from accounts").await, 604);
    assert_eq!(
        raw.ask(&[part(all), Raw::sync()].concat()).await,
        "1 2 C ZI"
    );
    assert_eq!(sum(&rig, "select sum(amount) from accounts").await, 608);
    assert_eq!(
        sum(&rig, "select count(*) from accounts where owner = 'e'").await,
        4
    );
    // One row, by its parameters, in a block with the other shard.
    let one = "merge into accounts a using (select $1::bigint as id, $2::text as owner) v on a.id = v.id \
        when matched then update set owner = v.owner \
        when not matched then insert (id, owner) values (v.id, v.owner)";
    assert_eq!(told(&mut raw, "begin").await, "C ZT");
    for id in [keys(0).nth(12).unwrap(), keys(1).nth(12).unwrap()] {
        for owner in ["first", "second"] {
            let all = with(one, &[id.to_string(), owner.to_owned()]);
            assert_eq!(raw.ask(&all).await, "1 2 C ZT");
        }
    }
    assert_eq!(told(&mut raw, "commit").await, "C ZI");
    for (at, shard) in [0, 1].into_iter().zip(&rig.shards) {
        let id = keys(at).nth(12).unwrap();
        let question = format!("select owner from accounts where id = {id}");
        assert_eq!(shard.sql(&question).await, "second");
    }
    for text in [
        "merge into accounts a using entries e on a.amount = e.n when matched then delete",
        "merge into accounts a using countries c on a.owner = c.code when not matched then insert (id) values (1)",
        "merge into countries c using (values ('at')) v (code) on c.code = v.code when matched then delete",
    ] {
        assert_eq!(told(&mut raw, text).await, "E0A000 ZI", "{text}");
    }
}

#[tokio::test]
async fn what_writes_within_a_with_runs_where_all_of_it_is() {
    let rig = filled("").await;
    let mut raw = rig.raw().await;
    let (here, there) = (key(0), key(1));
    let gone =
        |id: i64| format!("with gone as (delete from accounts where id = {id} returning amount)");
    let insert = format!(
        "{} insert into entries select {here}, amount, 'x' from gone",
        gone(here)
    );
    // Where the row belongs that is made of another is not known.
    assert_eq!(told(&mut raw, &insert).await, "E0A000 ZI");
    let elsewhere = format!(
        "{} update accounts set amount = 0 where id = {there}",
        gone(here)
    );
    assert_eq!(told(&mut raw, &elsewhere).await, "E0A000 ZI");
    assert_eq!(sum(&rig, "select sum(amount) from accounts").await, 600);
    let with = format!("{} select amount + 1 from gone", gone(here));
    assert_eq!(raw.one(&with).await, "101");
    let bound = with_key(there);
    assert_eq!(raw.ask(&bound).await, "1 2 D C ZI");
    assert_eq!(sum(&rig, "select count(*) from accounts").await, 4);
}

/// The same with a key that is bound.
fn with_key(key: i64) -> Vec<u8> {
    let text =
        "with gone as (delete from accounts where id = $1 returning amount) select * from gone";
    with(text, &[key.to_string()])
}

#[tokio::test]
async fn rows_that_are_in_the_way_are_not_returned_and_the_others_are_in_order() {
    let rig = filled("").await;
    let mut raw = rig.raw().await;
    for at in 10..12 {
        let new = |shard: u16| keys(shard).nth(at * 2).unwrap();
        let last = keys(1).nth(at * 2 + 1).unwrap();
        let text = format!(
            "insert into accounts (id) values ({}), ({}), ({}), ({}), ({}), ({last}) \
             on conflict do nothing returning id",
            key(0),
            new(1),
            new(0),
            key(1),
            new(1),
        );
        let expected = format!("{} {} {last}", new(1), new(0));
        raw.send(&crate::pull::forms(&text)[at % 2]).await;
        assert_eq!(crate::pull::rows(&raw.ready().await), expected);
    }
    assert_eq!(sum(&rig, "select count(*) from accounts").await, 12);
}
