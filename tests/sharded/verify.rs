//! `pgherd.verify`: answers are compared with those of all rows on one server.

use pgherd_tests::{Message, Raw};

use crate::pull::{JOIN, filled, forms, nothing_is_left, rows};
use crate::rig::{Rig, key, keys};

/// What is remarked on.
fn remarks(messages: &[Message]) -> Vec<String> {
    let notices = messages.iter().filter(|it| it.tag == 'N');
    let said = notices.map(|it| it.field('D').or_else(|| it.field('M')).unwrap_or_default());
    said.collect()
}

async fn told(raw: &mut Raw, text: &str) -> String {
    raw.ask(&Raw::query(text)).await
}

/// An account whose key is of the first shard, on the second.
async fn misplaced(rig: &Rig) -> i64 {
    let id = keys(0).nth(20).unwrap();
    let account = format!("insert into accounts values ({id}, 'lost', 99)");
    rig.shards[1].sql(&account).await;
    let entry = format!("insert into entries values ({id}, 1, 'lost')");
    rig.shards[0].sql(&entry).await;
    id
}

#[tokio::test]
async fn what_is_right_is_answered_as_without() {
    let rig = filled("").await;
    let mut plain = rig.raw().await;
    let mut raw = rig.raw().await;
    assert_eq!(told(&mut raw, "set pgherd.verify = on").await, "C ZI");
    let one = format!("select owner, amount from accounts where id = {}", key(1));
    for text in [
        JOIN,
        &one,
        "select amount from accounts where amount > 3",
        "select amount from accounts order by amount desc, id",
        "select count(*), max(owner) from accounts",
        "select owner, sum(amount) from accounts group by owner order by 1",
        "select count(*) from accounts where now() > timestamptz '2000-01-01'",
        "select a.amount, e.n from accounts a join entries e on e.account = a.id order by 1",
        "select code from countries order by 1",
        "select 1",
        // Nobody has these rows.
        "select owner from accounts where id = 1 and id = 2",
    ] {
        for bytes in forms(text) {
            for begin in [None, Some("begin"), Some("begin read only")] {
                if let Some(begin) = begin {
                    assert_eq!(told(&mut raw, begin).await, "C ZT");
                }
                raw.send(&bytes).await;
                let (given, expected) = (raw.ready().await, {
                    plain.send(&bytes).await;
                    plain.ready().await
                });
                let mut given_rows: Vec<_> = given.iter().filter(|it| it.tag == 'D').collect();
                let mut expected: Vec<_> = expected.iter().filter(|it| it.tag == 'D').collect();
                if !text.contains("order by") {
                    given_rows.sort_by_key(|it| it.body.clone());
                    expected.sort_by_key(|it| it.body.clone());
                }
                let body = |it: &&&Message| it.body.clone();
                let given_rows: Vec<_> = given_rows.iter().map(|it| body(&it)).collect();
                let expected: Vec<_> = expected.iter().map(|it| body(&it)).collect();
                assert_eq!(given_rows, expected, "{text} {begin:?}");
                assert_eq!(remarks(&given), [""; 0], "{text} {begin:?}");
                if begin.is_some() {
                    assert_eq!(told(&mut raw, "commit").await, "C ZI");
                }
            }
        }
    }
    nothing_is_left(&rig).await;
}

#[tokio::test]
async fn what_is_wrong_is_an_error_in_place_of_its_end() {
    let rig = filled("").await;
    let id = misplaced(&rig).await;
    let mut raw = rig.raw().await;
    for (text, without) in [
        (format!("select owner from accounts where id = {id}"), ""),
        (
            "select a.amount, e.n from accounts a join entries e on e.account = a.id
             where a.amount > 10"
                .to_owned(),
            "11,5",
        ),
        (
            "select count(*) from accounts a join entries e on e.account = a.id".to_owned(),
            "12",
        ),
    ] {
        for bytes in forms(&text) {
            assert_eq!(told(&mut raw, "set pgherd.verify = off").await, "C ZI");
            raw.send(&bytes).await;
            assert_eq!(rows(&raw.ready().await), without, "{text}");
            assert_eq!(told(&mut raw, "set pgherd.verify = true").await, "C ZI");
            raw.send(&bytes).await;
            let wrong = format!("{without} EXX000");
            assert_eq!(rows(&raw.ready().await), wrong.trim_start(), "{text}");
            assert_eq!(told(&mut raw, "begin").await, "C ZT");
            raw.send(&bytes).await;
            assert_eq!(rows(&raw.ready().await), wrong.trim_start(), "{text}");
            assert_eq!(told(&mut raw, "select 1").await, "E25P02 ZE");
            assert_eq!(told(&mut raw, "rollback").await, "C ZI");
        }
    }
    // Where it was sent is where it was to be read.
    let hint = format!(
        "/* pgherd.shard = {} */ select count(*) from accounts",
        rig.shards[0].name
    );
    assert_eq!(raw.one(&hint).await, "6");
    nothing_is_left(&rig).await;
}

#[tokio::test]
async fn it_is_set_as_any_setting() {
    let rig = filled("").await;
    let id = misplaced(&rig).await;
    let text = format!("select owner from accounts where id = {id}");
    let wrong = "T EXX000 ZI";
    let options = [("options", "-c pgherd.verify=1")];
    let mut raw = Raw::login(rig.proxy.port(), "app", "shop", &options).await;
    assert_eq!(told(&mut raw, &text).await, wrong);
    assert_eq!(told(&mut raw, "set pgherd.verify to 'no'").await, "C ZI");
    assert_eq!(told(&mut raw, &text).await, "T C ZI");
    assert_eq!(told(&mut raw, "reset pgherd.verify").await, "C ZI");
    assert_eq!(told(&mut raw, &text).await, wrong);
    let mut raw = rig.raw().await;
    for local in [
        "set local pgherd.verify = on",
        "select set_config('pgherd.verify', 'on', true)",
    ] {
        assert_eq!(told(&mut raw, "begin").await, "C ZT");
        assert_eq!(told(&mut raw, "savepoint s").await, "C ZT");
        told(&mut raw, local).await;
        assert_eq!(told(&mut raw, &text).await, "T EXX000 ZE", "{local}");
        assert_eq!(told(&mut raw, "rollback to s").await, "C ZT");
        assert_eq!(told(&mut raw, &text).await, "T C ZT", "{local}");
        assert_eq!(told(&mut raw, "commit").await, "C ZI");
        assert_eq!(told(&mut raw, &text).await, "T C ZI", "{local}");
    }
    assert_eq!(told(&mut raw, "set pgherd.verify = perhaps").await, "C ZI");
    assert_eq!(told(&mut raw, &text).await, "E22023 ZI");
    assert_eq!(raw.one("show pgherd.verify").await, "perhaps");
    assert_eq!(told(&mut raw, "reset pgherd.verify").await, "C ZI");
    assert_eq!(told(&mut raw, &text).await, "T C ZI");
}

#[tokio::test]
async fn what_cannot_be_verified_is_answered_with_a_warning() {
    let rig = filled("").await;
    let mut raw = rig.raw().await;
    assert_eq!(told(&mut raw, "set pgherd.verify = on").await, "C ZI");
    for text in [
        format!(
            "select owner from accounts where id = {} for update",
            key(0)
        ),
        format!("select ctid is null from accounts where id = {}", key(1)),
        format!("select random() < 2 from accounts where id = {}", key(1)),
    ] {
        raw.send(&Raw::query(&text)).await;
        let answer = raw.ready().await;
        assert!(!rows(&answer).is_empty(), "{text}");
        assert!(!rows(&answer).starts_with('E'), "{text}: {answer:?}");
        assert_eq!(remarks(&answer).len(), 1, "{text}: {answer:?}");
    }
    // Which rows come first is left open.
    let text = "select id from accounts limit 1";
    raw.send(&Raw::query(text)).await;
    assert!(!rows(&raw.ready().await).contains('E'));
    // What writes is no query.
    let text = format!(
        "update accounts set amount = 1 where id = {} returning id",
        key(0)
    );
    raw.send(&Raw::query(&text)).await;
    let answer = raw.ready().await;
    assert_eq!(rows(&answer), key(0).to_string());
    assert_eq!(remarks(&answer), [""; 0]);
}

#[tokio::test]
async fn the_time_of_a_block_that_is_at_home_elsewhere_is_not_verified() {
    let rig = filled("").await;
    let mut raw = rig.raw().await;
    assert_eq!(told(&mut raw, "set pgherd.verify = on").await, "C ZI");
    let home = format!("select amount from accounts where id = {}", key(1));
    let text = format!("select amount, now() from accounts where id = {}", key(0));
    for bytes in forms(&text) {
        assert_eq!(told(&mut raw, "begin").await, "C ZT");
        assert_eq!(raw.one(&home).await, "1");
        raw.send(&bytes).await;
        let answer = raw.ready().await;
        assert!(rows(&answer).starts_with("0,"), "{answer:?}");
        assert!(!rows(&answer).contains('E'), "{answer:?}");
        assert_eq!(remarks(&answer).len(), 1, "{answer:?}");
        assert_eq!(told(&mut raw, "commit").await, "C ZI");
    }
}

#[tokio::test]
async fn what_a_client_may_not_read_is_not_what_it_asked_for() {
    let rig = filled("[users.other]\npassword = \"other\"").await;
    for shard in &rig.shards {
        shard
            .sql("grant select (id, owner) on accounts to other")
            .await;
    }
    let mut raw = Raw::login(rig.proxy.port(), "other", "shop", &[]).await;
    let text = "select owner from accounts order by id";
    raw.send(&Raw::query(text)).await;
    let expected = rows(&raw.ready().await);
    assert!(
        !expected.is_empty() && !expected.contains('E'),
        "{expected}"
    );
    assert_eq!(told(&mut raw, "set pgherd.verify = on").await, "C ZI");
    for bytes in forms(text) {
        raw.send(&bytes).await;
        let answer = raw.ready().await;
        assert_eq!(rows(&answer), expected, "{answer:?}");
        let remarks = remarks(&answer);
        assert!(
            remarks.len() == 1 && remarks[0].contains("permission denied"),
            "{remarks:?}"
        );
        let replies = answer.iter().filter(|it| it.tag == '2').count();
        assert_eq!(replies, answer.iter().filter(|it| it.tag == '1').count());
        // Nothing can be taken back there.
        assert_eq!(told(&mut raw, "begin").await, "C ZT");
        raw.send(&bytes).await;
        assert_eq!(rows(&raw.ready().await), "E42501");
        assert_eq!(told(&mut raw, "rollback").await, "C ZI");
    }
}
