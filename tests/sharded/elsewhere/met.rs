//! What others do meanwhile where rows go to other shards, and what is bound, set or declared besides.

use pgherd_tests::{Raw, connect};

use super::{Sides, keyed, told};
use crate::pull::forms;
use crate::rig::keys;

/// What a column holds that others have added, of which nobody here has heard yet, is not lost where its row goes. Once
/// it was met, it is known.
#[tokio::test]
async fn a_column_that_is_not_known_yet_is_not_left_out() {
    let sides = Sides::new("").await;
    let (mut raw, _) = sides.ends().await;
    let all = async |text: &str| {
        for database in sides.rig.shards.iter().chain([&sides.whole]) {
            database.sql(&keyed(text)).await;
        }
    };
    all("create table copies (tenant bigint, was bigint, n int, more int)").await;
    let known = "select count(*) from copies";
    for (alter, text) in [
        (
            "alter table accounts add more int; update accounts set more = 7 where id = {a1}",
            "update accounts set id = {b9}, amount = amount + 1 where id = {a1}",
        ),
        (
            "alter table visits add more int; update visits set more = 7",
            "insert into copies select tenant + 700, v.* from visits v",
        ),
    ] {
        assert_eq!(raw.ask(&Raw::query(known)).await, "T D C ZI");
        all(alter).await;
        let text = keyed(text);
        assert_eq!(raw.ask(&Raw::query(&text)).await, "E40001 ZI", "{text}");
        assert_eq!(raw.ask(&Raw::query(&text)).await, "C ZI", "{text}");
        sides.whole.sql(&text).await;
        sides.same(&text).await;
    }
    let (whole, all) = sides.rows("copies").await;
    assert_eq!(all, whole);
}

/// A row in whose place another is by the time that it is locked is not locked by that: whoever changes that one is waited
/// for.
#[tokio::test]
async fn what_was_not_there_to_be_locked_is_not_taken_for_locked() {
    let sides = Sides::new("").await;
    let (mut one, _) = sides.ends().await;
    let (mut two, _) = sides.ends().await;
    let (mut three, _) = sides.ends().await;
    let (mut finds, _) = sides.ends().await;
    let waits = async |shard: usize, count: &str| {
        let text = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()";
        pgherd_tests::until("it waits", async || {
            sides.rig.shards[shard].sql(text).await == count
        })
        .await;
    };
    let delete = "delete from accounts where amount in (select n from parts where country = 'at')";
    let anew = [
        "delete from accounts where id = {a1}",
        "insert into accounts values ({a1}, 'new', 1)",
    ]
    .map(keyed);
    let changed = keyed("update accounts set amount = 50 where id = {a1}");
    let held = keyed("update accounts set owner = 'held' where id = {b1}");
    for raw in [&mut one, &mut two, &mut three] {
        assert_eq!(raw.ask(&Raw::query("begin")).await, "C ZT");
    }
    for text in &anew {
        assert_eq!(one.ask(&Raw::query(text)).await, "C ZT");
    }
    assert_eq!(three.ask(&Raw::query(&held)).await, "C ZT");
    finds.send(&Raw::query(delete)).await;
    waits(0, "1").await;
    waits(1, "1").await;
    assert_eq!(one.ask(&Raw::query("commit")).await, "C ZI");
    assert_eq!(two.ask(&Raw::query(&changed)).await, "C ZT");
    assert_eq!(three.ask(&Raw::query("rollback")).await, "C ZI");
    waits(0, "1").await;
    assert_eq!(two.ask(&Raw::query("commit")).await, "C ZI");
    assert_eq!(told(&finds.ready().await), ["DELETE 1\0", "I"]);
    for text in anew.iter().map(String::as_str).chain([&*changed, delete]) {
        sides.whole.sql(text).await;
    }
    sides.same(delete).await;
}

/// A statement with one parameter, which is bound in binary, and its type left to where it stands.
fn bound(text: &str, value: i32) -> Vec<u8> {
    const BIND: &[u8] = b"\0\0\0\x01\0\x01\0\x01\0\0\0\x04";
    let bind = [BIND, &value.to_be_bytes(), &[0, 0]].concat();
    let messages = [
        Raw::parse("", text),
        Raw::framed(b'B', &bind),
        Raw::execute("", 0),
        Raw::sync(),
    ];
    messages.concat()
}

/// What is bound in binary to a place without a type of its own has that of its column, also where that is one of the
/// users' own.
#[tokio::test]
async fn values_of_the_users_types_are_bound_in_binary() {
    let sides = Sides::new("").await;
    let (mut here, mut there) = sides.ends().await;
    let text = "insert into things (tenant, n, size, word) overriding system value \
                select tenant + 8000, n, $1, 'x' from things";
    for raw in [&mut here, &mut there] {
        raw.send(&bound(text, 7)).await;
        assert_eq!(told(&raw.ready().await), ["INSERT 0 10\0", "I"]);
    }
    sides.same(text).await;
}

/// When constraints are checked is said to the server of the block, and another one is not told: it is not come to, then.
#[tokio::test]
async fn what_is_said_of_constraints_stays_on_one_shard() {
    let sides = Sides::new("").await;
    let later = "create table loans (tenant bigint primary key references owners deferrable)";
    for database in sides.rig.shards.iter().chain([&sides.whole]) {
        database.sql(later).await;
    }
    let (mut raw, _) = sides.ends().await;
    let set = "set constraints all deferred";
    let here = [
        "insert into loans values ({a9})",
        "insert into owners values ({a9})",
    ]
    .map(keyed);
    let there = keyed("insert into loans values ({b9})");
    for bytes in forms(set) {
        assert_eq!(raw.ask(&Raw::query("begin")).await, "C ZT");
        let told = raw.ask(&bytes).await;
        assert!(told.ends_with("C ZT"), "{told}");
        assert_eq!(raw.ask(&Raw::query(&here[0])).await, "C ZT");
        assert_eq!(raw.ask(&Raw::query(&there)).await, "E0A000 ZE");
        assert_eq!(raw.ask(&Raw::query("rollback")).await, "C ZI");
    }
    for text in ["begin", set, &here[0], &here[1]] {
        assert_eq!(raw.ask(&Raw::query(text)).await, "C ZT", "{text}");
    }
    assert_eq!(raw.ask(&Raw::query("commit")).await, "C ZI");
    // The next block has said nothing of them, and comes to both.
    assert_eq!(raw.ask(&Raw::query("begin")).await, "C ZT");
    for id in ["{a8}", "{b8}"] {
        let text = keyed(&format!("insert into owners values ({id})"));
        assert_eq!(raw.ask(&Raw::query(&text)).await, "C ZT");
    }
    assert_eq!(raw.ask(&Raw::query("commit")).await, "C ZI");
}

/// What is deleted is not what is changed to a foreign key that says so.
#[tokio::test]
async fn a_foreign_key_that_tells_them_apart_is_heeded() {
    let sides = Sides::new("").await;
    let (mut raw, _) = sides.ends().await;
    let tables = "create table firms (tenant bigint primary key);
        create table staff (tenant bigint references firms on delete restrict deferrable initially deferred)";
    for database in sides.rig.shards.iter().chain([&sides.whole]) {
        database.sql(tables).await;
    }
    let insert = keyed("insert into firms values ({a9})");
    let update = keyed("update firms set tenant = {b9} where tenant = {a9}");
    pgherd_tests::until("the table is known", async || {
        raw.ask(&Raw::query(&insert)).await == "C ZI"
    })
    .await;
    assert_eq!(raw.ask(&Raw::query(&update)).await, "E0A000 ZI");
}

/// A key that is NULL is no fault of a row that is not there.
#[tokio::test]
async fn a_key_that_is_null_is_refused_only_of_rows_that_are_there() {
    let sides = Sides::new("").await;
    let here = sides.rig.client().await;
    let there = connect(&sides.whole.url("app")).await;
    let (a1, none) = (keys(0).nth(1).unwrap(), keys(1).nth(9).unwrap());
    for client in [&here, &there] {
        let change = async |text: &str, to: Option<i64>, by: Option<i64>| {
            let changed = client.execute(text, &[&to, &by]).await;
            changed.map_err(|error| error.code().map(|code| code.code().to_owned()))
        };
        let id = "update accounts set id = $1 where id = $2";
        let several = "update parts set tenant = $1 where tenant = $2 and n = 3";
        for text in [id, several] {
            assert_eq!(change(text, None, Some(none)).await, Ok(0), "{text}");
            assert_eq!(change(text, Some(none), None).await, Ok(0), "{text}");
            assert_eq!(change(text, None, None).await, Ok(0), "{text}");
            let refused = Err(Some("23502".to_owned()));
            assert_eq!(change(text, None, Some(a1)).await, refused, "{text}");
        }
    }
    sides.same("keys that are NULL").await;
}
