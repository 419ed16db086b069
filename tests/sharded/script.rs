//! Several statements in one simple query.

use pgherd_tests::{Message, Raw};

use crate::rig::key;
use crate::transactions::{filled, sum};

#[tokio::test]
async fn the_statements_of_a_text_are_one_transaction() {
    let rig = filled("").await;
    let mut raw = rig.raw().await;
    let (one, two) = (key(0), key(1));
    let add = |id: i64| format!("update accounts set amount = amount + 1 where id = {id}");
    let amounts = "select sum(amount) from accounts";
    for (text, expected, total) in [
        (format!("{}; {};", add(one), add(two)), "C C ZI", 602),
        (
            format!("begin; {}; {amounts}; commit", add(one)),
            "C C T D C C ZI",
            603,
        ),
        (
            format!(";; begin; {}; {}; rollback;", add(one), add(two)),
            "C C C C ZI",
            603,
        ),
        (
            format!(
                "begin; {}; savepoint s; {}; rollback to s; commit",
                add(one),
                add(two)
            ),
            "C C C C C C ZI",
            604,
        ),
        // It ends what stands before it.
        (
            format!("{}; commit; {}; select 1 / 0", add(one), add(two)),
            "C C C E22012 ZI",
            605,
        ),
        (
            format!(
                "{}; select 1 / (id - {two}) from accounts order by id",
                add(one)
            ),
            "C T D D D D E22012 ZI",
            605,
        ),
        (
            format!("{}; select 1 from accounts where", add(one)),
            "E42601 ZI",
            605,
        ),
        (format!("{}; savepoint s", add(one)), "C E25P01 ZI", 605),
        (format!("{}; begin; select 1", add(one)), "E0A000 ZI", 605),
        (format!("{}; listen c", add(one)), "E0A000 ZI", 605),
        (
            format!(
                "{}; commit; select set_config('app.x', '1', true)",
                add(one)
            ),
            "E0A000 ZI",
            605,
        ),
        (
            format!("{}; commit; copy accounts to stdout (odd)", add(one)),
            "E0A000 ZI",
            605,
        ),
        // Nothing of a text is committed of which the servers would not read the rest.
        (
            format!("{}; commit; select 1_0 from accounts", add(one)),
            "E42601 ZI",
            605,
        ),
        (format!("begin; {}; selec", add(one)), "E42601 ZI", 605),
    ] {
        let told = raw.ask(&Raw::query(&text)).await;
        // How many rows come before an error is chance.
        let plain = |told: &str| told.replace(" D", "").replace(" T", "");
        assert_eq!(plain(&told), plain(expected), "{text}");
        assert_eq!(sum(&rig, amounts).await, total, "{text}");
    }
}

#[tokio::test]
async fn a_text_may_stand_in_a_block_and_may_begin_or_end_it() {
    let rig = filled("").await;
    let mut raw = rig.raw().await;
    let read = format!("select amount from accounts where id = {}", key(0));
    let write = "update accounts set amount = 7";
    for begin in ["begin", "begin; select 1"] {
        raw.ask(&Raw::query(begin)).await;
        // Now its first shard is there, or both are.
        for text in [
            read.clone(),
            format!("{write}; {read}"),
            format!("{read}; {read}"),
        ] {
            let told = raw.ask(&Raw::query(&text)).await;
            assert!(told.ends_with("T D C ZT"), "{text}: {told}");
        }
        let told = raw
            .ask(&Raw::query("select 1; select 1 / 0; select 2"))
            .await;
        assert_eq!(told, "T D C E22012 ZE");
        let told = raw.ask(&Raw::query("select 1; rollback; select 2")).await;
        assert_eq!(told, "E25P02 ZE");
        let told = raw.ask(&Raw::query("rollback; select 2")).await;
        assert_eq!(told, "C T D C ZI");
        assert_eq!(sum(&rig, "select sum(amount) from accounts").await, 600);
    }
}

#[tokio::test]
async fn what_a_text_sets_holds_if_it_succeeds() {
    let rig = filled("").await;
    let mut raw = rig.raw().await;
    let shown = "select current_setting('app.x')";
    let row = |messages: &[Message]| {
        let row = messages.iter().rfind(|message| message.tag == 'D');
        row.map(|row| row.columns().join(",")).unwrap_or_default()
    };
    raw.send(&Raw::query(&format!("set app.x = '1'; {shown}")))
        .await;
    assert_eq!(row(&raw.ready().await), "1");
    assert_eq!(raw.one(shown).await, "1");
    let told = raw.ask(&Raw::query("set app.x = '2'; select 1 / 0")).await;
    assert_eq!(told, "C E22012 ZI");
    assert_eq!(raw.one(shown).await, "1");
    // The place of an error is one in the whole text.
    raw.send(&Raw::query("select '\u{e9}'; select 'abc'::int4"))
        .await;
    let messages = raw.ready().await;
    let error = messages.iter().find(|message| message.tag == 'E').unwrap();
    assert_eq!(error.field('P').as_deref(), Some("20"));
}
