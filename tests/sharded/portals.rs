//! Portals and cursors in a block over several shards share one space of names, and what is closed is closed.

use pgherd_tests::Raw;

use crate::pull::{filled, nothing_is_left, rows};
use crate::rig::key;

const UP: &str = "select amount from accounts order by amount";
const DOWN: &str = "select amount from accounts order by amount desc";

/// What a text is bound to, and some rows of it.
fn some(portal: &str, text: &str, most: u32) -> Vec<u8> {
    [
        Raw::parse("", text),
        Raw::bind(portal, "", &[]),
        Raw::execute(portal, most),
        Raw::sync(),
    ]
    .concat()
}

fn more(portal: &str, most: u32) -> Vec<u8> {
    [Raw::execute(portal, most), Raw::sync()].concat()
}

async fn told(raw: &mut Raw, bytes: &[u8]) -> String {
    raw.send(bytes).await;
    rows(&raw.ready().await)
}

#[tokio::test]
async fn portals_are_kept_apart_however_long_their_names_are() {
    let rig = filled("").await;
    let mut raw = rig.raw().await;
    let same = "p".repeat(60);
    let (one, two) = (format!("{same}1"), format!("{same}2"));
    raw.ask(&Raw::query("begin")).await;
    assert_eq!(told(&mut raw, &some(&one, UP, 2)).await, "0 1");
    assert_eq!(told(&mut raw, &some(&two, DOWN, 2)).await, "11 10");
    assert_eq!(told(&mut raw, &more(&one, 2)).await, "2 3");
    assert_eq!(told(&mut raw, &more(&two, 1)).await, "9");
    assert_eq!(raw.ask(&Raw::query("rollback")).await, "C ZI");
    nothing_is_left(&rig).await;
}

/// What has a name of ours on a server is no portal of the client's.
#[tokio::test]
async fn names_of_ours_are_nobody_elses() {
    let rig = filled("").await;
    let mut raw = rig.raw().await;
    for shard in [0, 1] {
        raw.ask(&Raw::query("begin")).await;
        // The shard where the block is at home.
        raw.one(&format!(
            "select amount from accounts where id = {}",
            key(shard)
        ))
        .await;
        assert_eq!(told(&mut raw, &some("p", UP, 2)).await, "0 1");
        raw.ask(&Raw::query("savepoint s")).await;
        for number in 0..3 {
            let close = [Raw::close('P', &format!("pgherd_{number}")), Raw::sync()];
            assert_eq!(raw.ask(&close.concat()).await, "3 ZT");
        }
        assert_eq!(told(&mut raw, &more("p", 2)).await, "2 3");
        for number in 0..3 {
            for text in ["fetch", "move", "close"] {
                let text = format!("{text} pgherd_{number}");
                assert_eq!(raw.ask(&Raw::query(&text)).await, "E34000 ZE", "{text}");
                raw.ask(&Raw::query("rollback to s")).await;
                raw.ask(&some("p", UP, 2)).await;
            }
            let describe = [Raw::describe('P', &format!("pgherd_{number}")), Raw::sync()];
            assert_eq!(raw.ask(&describe.concat()).await, "E34000 ZE");
            raw.ask(&Raw::query("rollback to s")).await;
            raw.ask(&some("p", UP, 2)).await;
        }
        let text = "declare \"pgherd_1\" cursor for select amount from accounts";
        assert_eq!(raw.ask(&Raw::query(text)).await, "E0A000 ZE");
        assert_eq!(raw.ask(&Raw::query("rollback")).await, "C ZI");
    }
    // One that was there before the block came to another shard.
    raw.ask(&Raw::query("begin")).await;
    let text = format!(
        "declare pgherd_1 cursor for select amount from accounts where id = {}",
        key(1)
    );
    assert_eq!(raw.ask(&Raw::query(&text)).await, "C ZT");
    assert_eq!(raw.ask(&Raw::query(UP)).await, "E0A000 ZE");
    assert_eq!(raw.ask(&Raw::query("rollback")).await, "C ZI");
    nothing_is_left(&rig).await;
}

/// To truncate a table fails as long as a portal reads it.
#[tokio::test]
async fn what_is_closed_is_closed_on_its_shard() {
    const TRUNCATE: &str = "truncate accounts";
    let rig = filled("").await;
    let mut raw = rig.raw().await;
    let close = |name: &str| [Raw::close('P', name), Raw::sync()].concat();
    let begin = Raw::query("begin");
    // Half read, and read to its end.
    for most in [2, 20] {
        raw.ask(&begin).await;
        raw.ask(&some("p", UP, most)).await;
        assert_eq!(raw.ask(&close("p")).await, "3 ZT");
        assert_eq!(raw.ask(&close("p")).await, "3 ZT");
        assert_eq!(raw.ask(&Raw::query(TRUNCATE)).await, "C ZT");
        assert_eq!(raw.ask(&more("p", 1)).await, "E34000 ZE");
        raw.ask(&Raw::query("rollback")).await;
    }
    // Where the client has it closed, between others.
    raw.ask(&begin).await;
    let piped = [
        Raw::parse("", UP),
        Raw::bind("p", "", &[]),
        Raw::execute("p", 2),
        Raw::bind("q", "", &[]),
        Raw::close('P', "p"),
        Raw::execute("q", 1),
        Raw::close('P', "q"),
        Raw::parse("", TRUNCATE),
        Raw::bind("", "", &[]),
        Raw::execute("", 0),
        Raw::sync(),
    ];
    assert_eq!(
        raw.ask(&piped.concat()).await,
        "1 2 D D s 2 3 D s 3 1 2 C ZT"
    );
    raw.ask(&Raw::query("rollback")).await;
    // What has no name gives way by itself: to what is bound next, and to a query.
    raw.ask(&begin).await;
    raw.ask(&some("", UP, 2)).await;
    assert_eq!(raw.ask(&some("", TRUNCATE, 0)).await, "1 2 C ZT");
    raw.ask(&Raw::query("rollback")).await;
    raw.ask(&begin).await;
    raw.ask(&some("", UP, 2)).await;
    assert_eq!(raw.ask(&Raw::query(TRUNCATE)).await, "C ZT");
    raw.ask(&Raw::query("rollback")).await;
    // So does what a savepoint's end forgets.
    raw.ask(&begin).await;
    raw.ask(&some("p", UP, 2)).await;
    raw.ask(&some("", DOWN, 2)).await;
    raw.ask(&Raw::query("savepoint s")).await;
    raw.ask(&some("q", DOWN, 2)).await;
    raw.ask(&Raw::query("rollback to s")).await;
    assert_eq!(raw.ask(&Raw::query(TRUNCATE)).await, "C ZT");
    raw.ask(&Raw::query("rollback")).await;
    nothing_is_left(&rig).await;
}

#[tokio::test]
async fn a_cursor_is_closed_as_a_portal_is() {
    let rig = filled("").await;
    let mut raw = rig.raw().await;
    let close = [Raw::close('P', "c"), Raw::sync()].concat();
    for query in [
        UP.to_owned(),
        format!("select amount from accounts where id = {}", key(1)),
    ] {
        let declare = Raw::query(&format!("declare c cursor for {query}"));
        raw.ask(&Raw::query("begin")).await;
        // At home on the other shard.
        raw.one(&format!(
            "select amount from accounts where id = {}",
            key(0)
        ))
        .await;
        assert_eq!(raw.ask(&declare).await, "C ZT");
        assert_eq!(raw.ask(&close).await, "3 ZT");
        assert_eq!(raw.ask(&declare).await, "C ZT", "{query}");
        // Within a pipeline, in its place.
        let piped = [
            Raw::parse("", "fetch c"),
            Raw::bind("", "", &[]),
            Raw::execute("", 0),
            Raw::close('P', "c"),
            Raw::execute("", 0),
            Raw::sync(),
        ];
        let told = raw.ask(&piped.concat()).await;
        assert!(told.starts_with("1 2 D C 3 "), "{told}");
        raw.ask(&Raw::query("rollback")).await;
        raw.ask(&Raw::query("begin")).await;
        raw.ask(&Raw::query(UP)).await;
        assert_eq!(raw.ask(&declare).await, "C ZT");
        assert_eq!(raw.ask(&close).await, "3 ZT");
        assert_eq!(raw.ask(&Raw::query("fetch c")).await, "E34000 ZE");
        // It is closed in a failed block as well.
        assert_eq!(raw.ask(&close).await, "3 ZE");
        assert_eq!(raw.ask(&Raw::query("rollback")).await, "C ZI");
    }
    nothing_is_left(&rig).await;
}

#[tokio::test]
async fn cursors_that_are_closed_are_not_kept() {
    let rig = filled("").await;
    let mut raw = rig.raw().await;
    raw.ask(&Raw::query("begin")).await;
    raw.ask(&Raw::query(UP)).await;
    let mut told = 0;
    let mut all = |each: &dyn Fn(usize) -> String, count: usize| {
        let texts = (told..told + count).map(each).collect::<Vec<_>>().join(";");
        told += count;
        Raw::query(&texts)
    };
    // However they are closed, more than may be open at once have been.
    let closed = |at: usize| format!("declare c{at} cursor for select 1; close c{at}");
    let left = |at: usize| format!("declare c{at} cursor for select 1");
    for _ in 0..2 {
        let answer = raw.ask(&all(&closed, 400)).await;
        assert!(answer.ends_with("C ZT"), "{answer}");
    }
    let answer = raw.ask(&all(&left, 400)).await;
    assert!(answer.ends_with("C ZT"), "{answer}");
    assert_eq!(raw.ask(&Raw::query("close all")).await, "C ZT");
    raw.ask(&Raw::query("savepoint s")).await;
    let answer = raw.ask(&all(&left, 1000)).await;
    assert!(answer.ends_with("C ZT"), "{answer}");
    raw.ask(&Raw::query("rollback to s")).await;
    let answer = raw.ask(&all(&left, 1024)).await;
    assert!(answer.ends_with("C ZT"), "{answer}");
    assert_eq!(raw.ask(&all(&left, 1)).await, "E53400 ZE");
    assert_eq!(raw.ask(&Raw::query("rollback")).await, "C ZI");
    nothing_is_left(&rig).await;
}

#[tokio::test]
async fn an_open_portal_is_seen_whatever_its_query_says() {
    let rig = filled("").await;
    let mut raw = rig.raw().await;
    let of = |more: &str| {
        let id = key(1);
        format!("select amount from accounts where id = {id} and owner <> '{more}'")
    };
    for (name, more) in [("p", "declare"), ("pgherd_p", "x")] {
        raw.ask(&Raw::query("begin")).await;
        raw.ask(&some(name, &of(more), 1)).await;
        assert_eq!(raw.ask(&Raw::query(UP)).await, "E0A000 ZE", "{name}");
        raw.ask(&Raw::query("rollback")).await;
    }
    // A cursor stays where it is, and is found there.
    for before in ["", " ;\n", "-- it's\r\n", "/* a * b */ ;\n/**/-- c\n"] {
        raw.ask(&Raw::query("begin")).await;
        let text = format!("{before}Declare c cursor for {}", of("x"));
        assert_eq!(raw.ask(&Raw::query(&text)).await, "C ZT", "{text}");
        assert_eq!(raw.one("select count(*) from accounts").await, "12");
        assert_eq!(told(&mut raw, &Raw::query("fetch c")).await, "1");
        assert_eq!(raw.ask(&Raw::query("commit")).await, "C ZI");
    }
    nothing_is_left(&rig).await;
}

#[tokio::test]
async fn portals_and_cursors_have_one_space_of_names() {
    let rig = filled("").await;
    let mut raw = rig.raw().await;
    let at_one = format!("select amount from accounts where id = {}", key(1));
    let declare = Raw::query(&format!("declare c cursor for {UP}"));
    let bind = [Raw::parse("", UP), Raw::bind("c", "", &[]), Raw::sync()].concat();
    raw.ask(&Raw::query("begin")).await;
    raw.ask(&Raw::query(UP)).await;
    raw.ask(&Raw::query("savepoint s")).await;
    assert_eq!(raw.ask(&declare).await, "C ZT");
    assert_eq!(raw.ask(&bind).await, "1 E42P03 ZE");
    raw.ask(&Raw::query("rollback to s")).await;
    // It is gone with what was done behind the savepoint.
    assert_eq!(raw.ask(&bind).await, "1 2 ZT");
    assert_eq!(raw.ask(&declare).await, "E42P03 ZE");
    raw.ask(&Raw::query("rollback to s")).await;
    assert_eq!(raw.ask(&bind).await, "1 2 ZT");
    assert_eq!(told(&mut raw, &more("c", 2)).await, "0 1");
    assert_eq!(raw.ask(&Raw::query("fetch c")).await, "E0A000 ZE");
    raw.ask(&Raw::query("rollback to s")).await;
    // All of them are closed at once, and so are those on other shards.
    assert_eq!(raw.ask(&bind).await, "1 2 ZT");
    assert_eq!(told(&mut raw, &some("d", &at_one, 1)).await, "1");
    assert_eq!(raw.ask(&Raw::query("close all")).await, "C ZT");
    assert_eq!(raw.ask(&Raw::query("truncate accounts")).await, "C ZT");
    assert_eq!(raw.ask(&more("c", 1)).await, "E34000 ZE");
    raw.ask(&Raw::query("rollback")).await;
    // What is beyond the length of a name is none of it.
    raw.ask(&Raw::query("begin")).await;
    let long = "l".repeat(63);
    let declare = format!("declare {long} cursor for {at_one}");
    assert_eq!(raw.ask(&Raw::query(&declare)).await, "C ZT");
    raw.ask(&Raw::query(UP)).await;
    let close = [Raw::close('P', &format!("{long}1")), Raw::sync()].concat();
    assert_eq!(raw.ask(&close).await, "3 ZT");
    assert_eq!(raw.ask(&Raw::query(&declare)).await, "C ZT");
    raw.ask(&close).await;
    assert_eq!(
        told(&mut raw, &some(&format!("{long}2"), UP, 2)).await,
        "0 1"
    );
    assert_eq!(told(&mut raw, &more(&format!("{long}3"), 1)).await, "2");
    assert_eq!(raw.ask(&Raw::query(&declare)).await, "E42P03 ZE");
    raw.ask(&Raw::query("rollback")).await;
    // One that was declared before the block came to another shard.
    raw.ask(&Raw::query("begin")).await;
    let text = format!("declare c cursor for {at_one}");
    assert_eq!(raw.ask(&Raw::query(&text)).await, "C ZT");
    raw.ask(&Raw::query(UP)).await;
    assert_eq!(raw.ask(&bind).await, "1 E42P03 ZE");
    assert_eq!(raw.ask(&Raw::query("rollback")).await, "C ZI");
    nothing_is_left(&rig).await;
}

/// What has given all its rows gives none when it is asked once more.
#[tokio::test]
async fn what_has_given_all_its_rows_has_no_more() {
    let rig = filled("").await;
    let mut raw = rig.raw().await;
    for (text, tag) in [
        (UP, "SELECT 0"),
        ("fetch 2 from c", "FETCH 0"),
        ("show timezone", "SHOW"),
        ("explain select amount from accounts", "EXPLAIN"),
        (
            "update accounts set amount = amount returning id",
            "UPDATE 0",
        ),
        (
            "insert into countries values ('x') returning code",
            "INSERT 0 0",
        ),
    ] {
        raw.ask(&Raw::query("begin")).await;
        raw.ask(&Raw::query(&format!("declare c cursor for {DOWN}")))
            .await;
        raw.ask(&some("p", text, 0)).await;
        raw.send(&more("p", 0)).await;
        for message in raw.ready().await {
            assert!(!"DE".contains(message.tag), "{text}: {message:?}");
            if message.tag == 'C' {
                let said = String::from_utf8_lossy(&message.body);
                assert_eq!(said.trim_end_matches('\0'), tag, "{text}");
            }
        }
        assert_eq!(raw.ask(&Raw::query("rollback")).await, "C ZI");
    }
    for text in ["update accounts set amount = amount", "move c", "close c"] {
        raw.ask(&Raw::query("begin")).await;
        raw.ask(&Raw::query(&format!("declare c cursor for {DOWN}")))
            .await;
        raw.ask(&some("p", text, 0)).await;
        assert_eq!(raw.ask(&more("p", 0)).await, "E55000 ZE", "{text}");
        assert_eq!(raw.ask(&Raw::query("rollback")).await, "C ZI");
    }
    nothing_is_left(&rig).await;
}
