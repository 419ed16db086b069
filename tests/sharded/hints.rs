//! Hints: a statement goes to the shard that its client names, or is refused.

use pgherd_tests::Raw;

use crate::rig::{Rig, key, keys};
use crate::transactions::{filled, part};

async fn told(raw: &mut Raw, text: &str) -> String {
    raw.ask(&Raw::query(text)).await
}

async fn told_extended(raw: &mut Raw, text: &str) -> String {
    raw.ask(&[part(text), Raw::sync()].concat()).await
}

/// The first columns of the rows that an extended query gives.
async fn rows(raw: &mut Raw, messages: &[u8]) -> Vec<String> {
    raw.send(messages).await;
    let answer = raw.ready().await;
    assert!(answer.iter().all(|it| it.tag != 'E'), "{answer:?}");
    let rows = answer.iter().filter(|it| it.tag == 'D');
    rows.map(|it| it.columns().remove(0)).collect()
}

const COUNT: &str = "select count(*) from accounts";

/// What holds for a session that is led to a shard.
async fn is_narrowed(rig: &Rig, raw: &mut Raw, at: u16) {
    let name = &rig.shards[usize::from(at)].name;
    let (here, there) = (key(at), key(1 - at));
    assert_eq!(raw.one(COUNT).await, "3");
    assert_eq!(rows(raw, &[part(COUNT), Raw::sync()].concat()).await, ["3"]);
    for text in [
        "select current_database()",
        "select current_database() from countries where code = 'at'",
        "select current_database() from accounts where ctid is not null limit 1",
        "select current_database() from accounts join countries on name < owner limit 1",
        "select distinct current_database() from accounts tablesample system (100)",
    ] {
        assert_eq!(
            rows(raw, &Raw::query(text)).await,
            [name.as_str()],
            "{text}"
        );
    }
    let neither = format!("select owner from accounts where id = {here} and id = {there}");
    assert_eq!(told(raw, &neither).await, "T C ZI");
    let owner = format!("select owner from accounts where id = {here}");
    assert_eq!(raw.one(&owner).await, "x");
    for text in [
        "truncate accounts",
        &format!("select owner from accounts where id = {there}"),
        &format!(
            "insert into accounts values ({}, 'y')",
            keys(1 - at).nth(9).unwrap()
        ),
        &format!(
            "insert into accounts values ({}, 'y'), ({}, 'y')",
            keys(1 - at).nth(9).unwrap(),
            keys(at).nth(9).unwrap()
        ),
        &format!("select owner from accounts where id in ({here}, {there})"),
        &format!("update accounts set amount = 0 where id = {there}"),
        &format!("delete from accounts where id = {there}"),
        "insert into countries values ('ch', 'Switzerland')",
        "update countries set name = code",
        "alter table accounts add more int",
        "copy accounts from stdin",
        &format!(
            "select 1 from accounts a, accounts b where a.id = {here} and b.id = {there} and a.ctid <> b.ctid"
        ),
    ] {
        assert_eq!(told(raw, text).await, "E0A000 ZI", "{text}");
        let extended = told_extended(raw, text).await;
        assert!(
            ["E0A000 ZI", "1 E0A000 ZI"].contains(&&*extended),
            "{text}: {extended}"
        );
    }
    assert!(
        told(raw, &format!("explain {COUNT}"))
            .await
            .starts_with("T D")
    );
    let explain = format!("explain select owner from accounts where id = {there}");
    assert_eq!(told(raw, &explain).await, "E0A000 ZI");
}

#[tokio::test]
async fn a_hint_leaves_shards_out_and_adds_none() {
    let rig = filled("").await;
    let mut raw = rig.raw().await;
    let mut other = rig.raw().await;
    for at in [0, 1] {
        let name = &rig.shards[usize::from(at)].name;
        let set = format!("set pgherd.shard = '{name}'");
        assert_eq!(told(&mut raw, &set).await, "C ZI");
        assert_eq!(raw.one("show pgherd.shard").await, *name);
        is_narrowed(&rig, &mut raw, at).await;
        assert_eq!(other.one(COUNT).await, "6", "it is another's");
        let set = format!(
            "reset pgherd.shard; set pgherd.sharding_key = '{}'",
            key(at)
        );
        assert_eq!(told(&mut raw, &set).await, "C C ZI");
        is_narrowed(&rig, &mut raw, at).await;
        assert_eq!(told(&mut raw, "discard all").await, "C ZI");
        assert_eq!(raw.one(COUNT).await, "6");
    }
    // What it writes without a key is what is there.
    let name = &rig.shards[1].name;
    told(&mut raw, &format!("set pgherd.shard = '{name}'")).await;
    assert_eq!(
        told(&mut raw, "update accounts set amount = 7").await,
        "C ZI"
    );
    let new = keys(1).nth(9).unwrap();
    let insert = format!("insert into accounts values ({new}, 'new', 7)");
    assert_eq!(told_extended(&mut raw, &insert).await, "1 2 C ZI");
    let sums = ["300", "28"];
    for (shard, sum) in rig.shards.iter().zip(sums) {
        assert_eq!(shard.sql("select sum(amount) from accounts").await, sum);
    }
    assert_eq!(
        told_extended(&mut raw, "delete from accounts").await,
        "1 2 C ZI"
    );
    assert_eq!(other.one(COUNT).await, "3");
    // What is not known is refused, and can be taken back.
    assert_eq!(told(&mut raw, "set pgherd.shard = 'nothing'").await, "C ZI");
    assert_eq!(told(&mut raw, COUNT).await, "E22023 ZI");
    assert_eq!(
        told(&mut raw, "set pgherd.sharding_key = 'x'").await,
        "C ZI"
    );
    assert_eq!(told(&mut raw, "reset pgherd.shard").await, "C ZI");
    assert_eq!(told(&mut raw, COUNT).await, "E22023 ZI");
    assert_eq!(told(&mut raw, "reset all").await, "C ZI");
    assert_eq!(raw.one(COUNT).await, "3");
}

#[tokio::test]
async fn a_hint_goes_with_its_transaction() {
    let rig = filled("").await;
    let mut raw = rig.raw().await;
    let set = |how: &str, at: usize| {
        let name = &rig.shards[at].name;
        format!("set {how} pgherd.shard = '{name}'")
    };
    let database = "select current_database() from accounts limit 1";
    let name = |at: usize| rig.shards[at].name.clone();
    assert_eq!(told(&mut raw, "begin").await, "C ZT");
    assert_eq!(raw.one(COUNT).await, "6");
    assert_eq!(told(&mut raw, &set("local", 0)).await, "C ZT");
    assert_eq!(raw.one(database).await, name(0));
    assert_eq!(told(&mut raw, "savepoint s").await, "C ZT");
    assert_eq!(told(&mut raw, &set("local", 1)).await, "C ZT");
    assert_eq!(raw.one(database).await, name(1));
    assert_eq!(raw.one("show pgherd.shard").await, name(1));
    assert_eq!(told(&mut raw, "rollback to s").await, "C ZT");
    assert_eq!(raw.one(database).await, name(0));
    assert_eq!(
        told(&mut raw, "set local pgherd.shard to default").await,
        "C ZT"
    );
    assert_eq!(raw.one(COUNT).await, "6");
    assert_eq!(told(&mut raw, &set("local", 1)).await, "C ZT");
    assert_eq!(raw.one(COUNT).await, "3");
    assert_eq!(told(&mut raw, "commit").await, "C ZI");
    assert_eq!(raw.one(COUNT).await, "6");
    // A block that one shard has alone.
    let of_key = format!("select owner from accounts where id = {}", key(1));
    for ends in ["commit", "rollback"] {
        for text in ["begin", &of_key, &set("session", 1)] {
            assert!(told(&mut raw, text).await.ends_with("C ZT"), "{text}");
        }
        assert_eq!(raw.one(database).await, name(1));
        assert_eq!(told(&mut raw, ends).await, "C ZI");
        let kept = if ends == "commit" { "3" } else { "6" };
        assert_eq!(raw.one(COUNT).await, kept, "{ends}");
        assert_eq!(told(&mut raw, "reset pgherd.shard").await, "C ZI");
    }
    // All in one pipeline, for either shard.
    for at in [0, 1] {
        let all = ["begin", &set("local", at), database, "commit"].map(part);
        let all = [all.concat(), Raw::sync()].concat();
        assert_eq!(rows(&mut raw, &all).await, [name(at)]);
        let all = [&*set("session", at), database, "reset pgherd.shard"].map(part);
        let all = [all.concat(), Raw::sync()].concat();
        assert_eq!(rows(&mut raw, &all).await, [name(at)]);
    }
    // A cursor over what is on it, and a text of several statements.
    assert_eq!(told(&mut raw, &set("session", 1)).await, "C ZI");
    for text in ["begin", "declare c cursor for select id from accounts"] {
        assert_eq!(told(&mut raw, text).await, "C ZT", "{text}");
    }
    assert_eq!(told(&mut raw, "fetch all from c").await, "T D D D C ZT");
    assert_eq!(told(&mut raw, "commit").await, "C ZI");
    raw.send(&Raw::query(
        "copy (select id from accounts order by id) to stdout",
    ))
    .await;
    let copied = raw.ready().await;
    assert_eq!(copied.iter().filter(|it| it.tag == 'd').count(), 3);
    assert_eq!(told(&mut raw, "reset pgherd.shard").await, "C ZI");
    let script = format!("begin; {}; {COUNT}; commit", set("local", 1));
    assert_eq!(rows(&mut raw, &Raw::query(&script)).await, ["3"]);
    assert_eq!(raw.one(COUNT).await, "6");
}

#[tokio::test]
async fn a_hint_in_a_comment_is_for_its_statement() {
    let rig = filled("").await;
    let mut raw = rig.raw().await;
    for at in [0, 1] {
        let shard = format!("/* pgherd.shard = {} */", rig.shards[usize::from(at)].name);
        let by_key = format!("/* pgherd.sharding_key = '{}' */", key(at));
        for hint in [shard, by_key] {
            for text in [format!("{hint} {COUNT}"), format!("{COUNT} {hint}")] {
                assert_eq!(raw.one(&text).await, "3", "{text}");
                let extended = [part(&text), Raw::sync()].concat();
                assert_eq!(rows(&mut raw, &extended).await, ["3"], "{text}");
            }
            let own = format!("{hint} select owner from accounts where id = {}", key(at));
            assert_eq!(raw.one(&own).await, "x");
            let others = format!(
                "{hint} select owner from accounts where id = {}",
                key(1 - at)
            );
            assert_eq!(told(&mut raw, &others).await, "E0A000 ZI");
            assert_eq!(
                told(&mut raw, &format!("explain {others}")).await,
                "E0A000 ZI"
            );
            let script = format!("select 1; {hint} {COUNT}");
            assert_eq!(told(&mut raw, &script).await, "E0A000 ZI");
            // By parameters.
            let text = format!("select owner {hint} from accounts where id = $1");
            for (id, expected) in [(key(at), "1 2 D C ZI"), (key(1 - at), "1 E0A000 ZI")] {
                let bind = Raw::bind("", "", &[&id.to_string()]);
                let all = [
                    Raw::parse("", &text),
                    bind,
                    Raw::execute("", 0),
                    Raw::sync(),
                ];
                assert_eq!(raw.ask(&all.concat()).await, expected);
            }
        }
    }
    assert_eq!(raw.one(COUNT).await, "6");
    for hint in [
        "pgherd.shard = nothing",
        "pgherd.shrad = x",
        "pgherd.sharding_key = x",
    ] {
        let text = format!("/* {hint} */ {COUNT}");
        assert_eq!(told(&mut raw, &text).await, "E22023 ZI", "{text}");
    }
    let literal = "/* pgherd.shard = nothing */";
    assert_eq!(raw.one(&format!("select '{literal}'")).await, literal);
    // Within what is prepared by SQL, and not where it would be lost.
    let hint = format!("/* pgherd.shard = {} */", rig.shards[1].name);
    for (text, expected) in [
        (format!("{hint} prepare s as {COUNT}"), "E0A000 ZI"),
        (format!("prepare s as {COUNT} {hint}"), "C ZI"),
        (format!("{hint} execute s"), "E0A000 ZI"),
    ] {
        assert_eq!(told(&mut raw, &text).await, expected, "{text}");
    }
    assert_eq!(raw.one("execute s").await, "3");
}

#[tokio::test]
async fn a_hint_comes_by_whatever_sets_it_and_is_no_part_of_what_is_prepared() {
    let rig = filled("").await;
    let name = &rig.shards[1].name;
    let options = format!("-c pgherd.shard={name}");
    let options = [("options", options.as_str())];
    let mut begun = Raw::login(rig.proxy.port(), "app", "shop", &options).await;
    assert_eq!(begun.one(COUNT).await, "3");
    assert_eq!(begun.one("show pgherd.shard").await, *name);
    assert_eq!(told(&mut begun, "set pgherd.shard = ''").await, "C ZI");
    assert_eq!(begun.one(COUNT).await, "6");
    assert_eq!(told(&mut begun, "reset pgherd.shard").await, "C ZI");
    assert_eq!(begun.one(COUNT).await, "3");
    let mut raw = rig.raw().await;
    let parse = [Raw::parse("n", COUNT), Raw::sync()].concat();
    assert_eq!(raw.ask(&parse).await, "1 ZI");
    assert_eq!(
        told(&mut raw, &format!("prepare s as {COUNT}")).await,
        "C ZI"
    );
    let bound = [Raw::bind("", "n", &[]), Raw::execute("", 0), Raw::sync()].concat();
    let by_config = format!("select set_config('pgherd.shard', '{name}', false)");
    for (sets, expected) in [
        ("show work_mem", "6"),
        (by_config.as_str(), "3"),
        ("set pgherd.shard to default", "6"),
    ] {
        assert!(told(&mut raw, sets).await.ends_with("C ZI"), "{sets}");
        assert_eq!(rows(&mut raw, &bound).await, [expected], "{sets}");
        assert_eq!(raw.one("execute s").await, expected, "{sets}");
    }
    // What it is in a transaction is not known of a parameter.
    let text = "select set_config('pgherd.shard', $1, true)";
    let bind = Raw::bind("", "", &[name]);
    let set = [Raw::parse("", text), bind, Raw::execute("", 0), Raw::sync()].concat();
    assert_eq!(told(&mut raw, "begin").await, "C ZT");
    assert_eq!(raw.ask(&set).await, "1 2 D C ZT");
    assert_eq!(told(&mut raw, COUNT).await, "E0A000 ZE");
    assert_eq!(told(&mut raw, "rollback").await, "C ZI");
    assert_eq!(raw.one(COUNT).await, "6");
}
