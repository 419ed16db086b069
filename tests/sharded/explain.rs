//! `EXPLAIN` of what runs on both shards.

use pgherd_tests::{Message, Raw};

use crate::pull::{JOIN, filled, forms, nothing_is_left, rows};
use crate::rig::key;
use crate::transactions::sum;

#[tokio::test]
async fn how_both_are_read_is_explained_with_their_plans() {
    let rig = filled("").await;
    let mut raw = rig.raw().await;
    for (text, expected) in [
        (
            format!("explain {JOIN}"),
            &[
                "Rows are brought to one server",
                "Carrier pgherd_pull_0",
                "Plan on shard 0 (",
                "Plan on shard 1 (",
                ", final)",
                "CTE Scan on pgherd_pull_0",
            ][..],
        ),
        (
            "explain (costs off) select id from accounts order by id limit 3".to_owned(),
            &["Merge by column 1, limit 3", "Plan on shard 1 (", "  Limit"],
        ),
        (
            "explain select count(*) from accounts where now() > timestamptz '2000-01-01'"
                .to_owned(),
            &[
                "The time of the transaction",
                "Combine on one server",
                "Aggregate",
            ],
        ),
        (
            "explain update accounts set amount = 0".to_owned(),
            &["Write (its rows are disjoint parts", "Update on accounts"],
        ),
        (
            "explain (analyze, timing off) select amount from accounts where amount > 3".to_owned(),
            &["Append (its rows are disjoint", "actual rows=4"],
        ),
    ] {
        for begin in [None, Some("begin read only"), Some("begin")] {
            for bytes in forms(&text) {
                if let Some(begin) = begin {
                    assert_eq!(raw.ask(&Raw::query(begin)).await, "C ZT");
                }
                raw.send(&bytes).await;
                let told = rows(&raw.ready().await);
                for part in expected {
                    assert!(told.contains(part), "{text}: {part} is not in {told}");
                }
                if begin.is_some() {
                    assert_eq!(raw.one("select count(*) from accounts").await, "12");
                    assert_eq!(raw.ask(&Raw::query("commit")).await, "C ZI");
                }
            }
        }
    }
    assert_eq!(sum(&rig, "select sum(amount) from accounts").await, 66);
    nothing_is_left(&rig).await;
}

#[tokio::test]
async fn the_plan_of_one_shard_stands_as_it_is_beside_a_word_on_where() {
    let rig = filled("").await;
    let mut raw = rig.raw().await;
    for (shard, database) in (0..).zip(&rig.shards) {
        let text = format!(
            "explain (costs off) select owner from accounts where id = {}",
            key(shard)
        );
        let mut direct = Raw::login(database.port, "app", &database.name, &[]).await;
        let told = |messages: &[Message]| {
            let notices = messages.iter().filter(|message| message.tag == 'N');
            let said = notices.map(|it| format!("{:?} {:?}", it.field('M'), it.field('D')));
            said.collect::<Vec<_>>().join("")
        };
        for bytes in forms(&text) {
            direct.send(&bytes).await;
            let expected = direct.ready().await;
            // The first time, and once it is known.
            for _ in 0..2 {
                raw.send(&bytes).await;
                let given = raw.ready().await;
                assert_eq!(rows(&given), rows(&expected));
                let said = told(&given);
                assert!(
                    said.contains(&format!("shard {shard} ({})", database.name)),
                    "{said}"
                );
                assert!(said.contains("key is bound"), "{said}");
            }
            // In a block of both, too.
            raw.ask(&Raw::query("begin; select count(*) from accounts"))
                .await;
            raw.send(&bytes).await;
            let given = raw.ready().await;
            assert_eq!(rows(&given), rows(&expected));
            assert!(told(&given).contains(&format!("shard {shard} (")));
            assert_eq!(raw.ask(&Raw::query("commit")).await, "C ZI");
        }
    }
    raw.send(&Raw::query("explain select * from countries"))
        .await;
    let said = raw.ready().await;
    let notice = said.iter().find(|message| message.tag == 'N').unwrap();
    assert!(
        notice
            .field('D')
            .unwrap()
            .contains("the same on every shard")
    );
    raw.send(&Raw::query("explain select count(*) from accounts"))
        .await;
    assert!(raw.ready().await.iter().all(|message| message.tag != 'N'));
    let quiet = "set client_min_messages = warning";
    assert_eq!(raw.ask(&Raw::query(quiet)).await, "C ZI");
    raw.send(&Raw::query("explain select * from countries"))
        .await;
    assert!(raw.ready().await.iter().all(|message| message.tag != 'N'));
}

#[tokio::test]
async fn what_has_parameters_or_a_name_is_explained() {
    let rig = filled("").await;
    let mut raw = rig.raw().await;
    for (name, text, given, expected) in [
        (
            "lone",
            "select owner from accounts where id = $1",
            "3",
            &["Scan", "accounts"][..],
        ),
        (
            "few",
            "select amount from accounts where amount > $1 order by amount",
            "3",
            &[
                "Merge by column 1",
                "Plan on shard 0 (",
                "Plan on shard 1 (",
                "amount > 3)",
            ],
        ),
        (
            "total",
            "select count(*) from accounts where amount > $1",
            "3",
            &["Combine on one server", "Plan on shard 1 (", ", final)"],
        ),
        (
            "meets",
            "select a.amount from accounts a join entries e on e.what = a.owner where a.amount < $1",
            "4",
            &["Carrier pgherd_pull_0", "Plan on shard 0 (", ", final)"],
        ),
        (
            "puts",
            "update accounts set amount = $1",
            "4",
            &[
                "Write (its rows are disjoint",
                "Plan on shard 1 (",
                "Update on accounts",
            ],
        ),
        (
            "twins",
            "update countries set name = $1",
            "'x'",
            &["All shards", "Plan on shard 1 (", "Update on countries"],
        ),
        (
            "lines",
            "insert into accounts values (1000, $1), (1001, $1), (1002, $1), (1003, $1)",
            "'x'",
            &[
                "Insert: each row",
                "Plan on shard 0 (",
                "Plan on shard 1 (",
                "Insert on accounts",
            ],
        ),
    ] {
        let prepare = format!("prepare {name} as {text}");
        assert_eq!(raw.ask(&Raw::query(&prepare)).await, "C ZI", "{text}");
        for begin in [None, Some("begin")] {
            for how in ["explain", "EXPLAIN (costs off)", "explain (verbose off)"] {
                let by_name = format!("{how} execute {name}({given})");
                let plain = given.trim_matches('\'');
                let bound = [
                    Raw::parse("", &format!("{how} {text}")),
                    Raw::bind("", "", &[plain]),
                    Raw::describe('P', ""),
                    Raw::execute("", 0),
                    Raw::sync(),
                ];
                let [simple, extended] = forms(&by_name);
                for bytes in [simple, extended, bound.concat()] {
                    if let Some(begin) = begin {
                        assert_eq!(raw.ask(&Raw::query(begin)).await, "C ZT");
                    }
                    raw.send(&bytes).await;
                    let answer = raw.ready().await;
                    let told = rows(&answer);
                    for part in expected {
                        let found = told.to_lowercase().contains(&part.to_lowercase());
                        assert!(found, "{how} {text}: {part} is not in {told}");
                    }
                    assert!(answer.iter().any(|it| it.tag == 'T'), "{how} {text}");
                    if begin.is_some() {
                        assert_eq!(raw.ask(&Raw::query("commit")).await, "C ZI");
                    }
                }
            }
        }
    }
    let run = "explain (analyze, timing off) execute few(3)";
    raw.send(&Raw::query(run)).await;
    assert!(rows(&raw.ready().await).contains("actual rows=4"));
    for (text, expected) in [
        ("explain execute nothing(1)", "E26000"),
        ("explain execute few", "E42601"),
        ("explain analyze execute puts(1)", "E0A000"),
        ("explain (format json) execute few(1)", "E0A000"),
    ] {
        for bytes in forms(text) {
            raw.send(&bytes).await;
            assert_eq!(rows(&raw.ready().await), expected, "{text}");
        }
    }
    assert_eq!(sum(&rig, "select sum(amount) from accounts").await, 66);
    nothing_is_left(&rig).await;
}

#[tokio::test]
async fn what_cannot_be_explained_is_refused() {
    let rig = filled("").await;
    let mut raw = rig.raw().await;
    for (text, expected) in [
        ("explain analyze select count(*) from accounts", "0A000"),
        ("explain (analyze) update accounts set amount = 1", "0A000"),
        (
            "explain (\"analyze\") update accounts set amount = 1",
            "0A000",
        ),
        (
            "explain (format json) select count(*) from accounts",
            "0A000",
        ),
        ("explain select ctid from accounts", "0A000"),
        ("explain (nonsense) select count(*) from accounts", "42601"),
        ("explain select nothing from accounts order by 1", "42703"),
    ] {
        for bytes in forms(text) {
            raw.send(&bytes).await;
            assert_eq!(rows(&raw.ready().await), format!("E{expected}"), "{text}");
        }
    }
    assert_eq!(sum(&rig, "select sum(amount) from accounts").await, 66);
    // What is on one shard is explained by it alone.
    raw.send(&Raw::query("explain select from accounts where id = 1"))
        .await;
    assert!(!rows(&raw.ready().await).contains("Plan on shard"));
}
