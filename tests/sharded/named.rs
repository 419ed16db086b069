//! Statements that are named in SQL: `PREPARE`, `EXECUTE`, `DEALLOCATE`.

use pgherd_tests::Raw;

use crate::rig::{key, keys};
use crate::transactions::{filled, part};

async fn told(raw: &mut Raw, text: &str) -> String {
    raw.ask(&Raw::query(text)).await
}

/// Asks in both protocols, and expects answers that are the same but for their frame.
async fn both(raw: &mut Raw, text: &str, expected: &str) {
    assert_eq!(told(raw, text).await, expected, "{text}");
    let extended = raw.ask(&[part(text), Raw::sync()].concat()).await;
    let rows = expected.strip_prefix("T ").unwrap_or(expected);
    let framed = match rows.starts_with('E') {
        // Where it is refused before it is bound.
        true => [rows.to_owned(), format!("1 {rows}"), format!("1 2 {rows}")],
        false => std::array::from_fn(|_| format!("1 2 {rows}")),
    };
    assert!(framed.contains(&extended), "{text}: {extended}");
}

/// The first columns of the rows, and the tags.
async fn answer(raw: &mut Raw, text: &str) -> (Vec<String>, Vec<String>) {
    raw.send(&Raw::query(text)).await;
    let answer = raw.ready().await;
    assert!(answer.iter().all(|it| it.tag != 'E'), "{text}: {answer:?}");
    let of = |tag| answer.iter().filter(move |it| it.tag == tag);
    let rows = of('D').map(|it| it.columns().remove(0)).collect();
    let tags = of('C').map(|it| {
        String::from_utf8_lossy(&it.body)
            .trim_matches('\0')
            .to_owned()
    });
    (rows, tags.collect())
}

const BY_KEY: &str = "prepare k (bigint) as select owner from accounts where id = $1";

#[tokio::test]
async fn what_is_prepared_by_sql_runs_where_its_rows_are() {
    let rig = filled("").await;
    let mut raw = rig.raw().await;
    let mut other = rig.raw().await;
    let strings =
        |list: &[&str]| -> Vec<String> { list.iter().map(|it| (*it).to_owned()).collect() };
    for text in [
        BY_KEY,
        "prepare number as select count(*) from accounts",
        "prepare few (int) as select id from accounts order by id desc limit $1",
        "prepare put (bigint, text) as insert into accounts values ($1, $2)",
        "prepare more as update accounts set amount = amount + $1",
        "PREPARE \"Two\" AS SELECT owner FROM accounts WHERE id = $1 AND owner = $2;",
        "prepare listed (bigint[]) as select owner from accounts where id = any($1)",
    ] {
        assert_eq!(told(&mut raw, text).await, "C ZI", "{text}");
    }
    assert_eq!(
        told(&mut other, "prepare k as select 'other'").await,
        "C ZI"
    );
    let (zero, one) = (key(0), key(1));
    for id in [zero, one] {
        for given in [
            format!("{id}"),
            format!("'{id}'"),
            format!("{id}::bigint"),
            format!("bigint '{id}'"),
        ] {
            both(&mut raw, &format!("execute k ({given})"), "T D C ZI").await;
        }
        both(&mut raw, &format!("execute \"Two\"({id}, 'x')"), "T D C ZI").await;
        both(&mut raw, &format!("execute \"Two\"({id}, 'y')"), "T C ZI").await;
    }
    both(&mut raw, "execute k(null)", "T C ZI").await;
    both(
        &mut raw,
        &format!("execute listed('{{{zero},{one}}}')"),
        "T D D C ZI",
    )
    .await;
    assert_eq!(answer(&mut raw, "execute number").await.0, ["6"]);
    assert_eq!(answer(&mut other, "execute k").await.0, ["other"]);
    let greatest = raw
        .one("select id from accounts order by id desc limit 1")
        .await;
    assert_eq!(answer(&mut raw, "execute few(1)").await.0, [greatest]);
    both(&mut raw, "execute few(2)", "T D D C ZI").await;
    for at in [0, 1] {
        let new = keys(at).nth(9).unwrap();
        let put = format!("execute put({new}, 'it''s')");
        assert_eq!(answer(&mut raw, &put).await.1, ["INSERT 0 1"]);
        let own = format!("select owner from accounts where id = {new}");
        assert_eq!(rig.shards[usize::from(at)].sql(&own).await, "it's");
    }
    let changed = answer(&mut raw, "execute more(5)").await;
    assert_eq!(changed, (Vec::new(), strings(&["UPDATE 8"])));
    let script = format!("prepare p as select 1; execute p; execute k({one}); deallocate p");
    let ran = answer(&mut raw, &script).await;
    let tags = strings(&["PREPARE", "SELECT 1", "SELECT 1", "DEALLOCATE"]);
    assert_eq!(ran, (strings(&["1", "x"]), tags));
    // The names are those of the protocol, too.
    let bound = [
        Raw::bind("", "k", &[&one.to_string()]),
        Raw::execute("", 0),
        Raw::sync(),
    ];
    assert_eq!(raw.ask(&bound.concat()).await, "2 D C ZI");
    let parsed = [
        Raw::parse("parsed", "select owner from accounts where id = $1"),
        Raw::sync(),
    ];
    assert_eq!(raw.ask(&parsed.concat()).await, "1 ZI");
    both(&mut raw, &format!("execute parsed('{zero}')"), "T D C ZI").await;
    let described = [
        Raw::parse("e", &format!("execute k({zero})")),
        Raw::describe('S', "e"),
        Raw::bind("", "e", &[]),
        Raw::describe('P', ""),
        Raw::execute("", 0),
        Raw::sync(),
    ];
    assert_eq!(raw.ask(&described.concat()).await, "1 t T 2 T D C ZI");
    let again = [Raw::bind("", "e", &[]), Raw::execute("", 0), Raw::sync()];
    assert_eq!(raw.ask(&again.concat()).await, "2 D C ZI");
    let own = format!("select owner from accounts where id = {zero}");
    let described = [Raw::describe('S', "e"), Raw::sync()].concat();
    assert_eq!(raw.ask(&described).await, "t T ZI");
    for text in ["begin", &own] {
        assert!(told(&mut raw, text).await.ends_with("C ZT"));
    }
    assert_eq!(raw.ask(&described).await, "t T ZT");
    assert_eq!(told(&mut raw, "commit").await, "C ZI");
}

#[tokio::test]
async fn names_of_sql_hold_for_the_session_whatever_its_blocks_do() {
    let rig = filled("").await;
    let mut raw = rig.raw().await;
    let (zero, one) = (key(0), key(1));
    let of_zero = format!("select owner from accounts where id = {zero}");
    for text in [
        "begin",
        &of_zero,
        BY_KEY,
        &format!("execute k({one})"),
        "rollback",
    ] {
        let told = told(&mut raw, text).await;
        assert!(!told.contains('E'), "{text}: {told}");
    }
    both(&mut raw, &format!("execute k({zero})"), "T D C ZI").await;
    // In a block of the extended protocol, for the other shard than its first.
    let text = format!("execute k({one})");
    let all = [
        part("begin"),
        part(&of_zero),
        part(&text),
        part("commit"),
        Raw::sync(),
    ];
    assert_eq!(
        raw.ask(&all.concat()).await,
        "1 2 C 1 2 D C 1 2 D C 1 2 C ZI"
    );
    for text in ["begin", &of_zero] {
        raw.ask(&[part(text), Raw::sync()].concat()).await;
    }
    let all = [part(&text), Raw::sync()].concat();
    assert_eq!(raw.ask(&all).await, "1 2 D C ZT");
    for (text, expected) in [
        ("select 1 / 0", "E22012 ZE"),
        ("execute k(1)", "E25P02 ZE"),
        ("prepare other as select 1", "E25P02 ZE"),
        ("deallocate k", "E25P02 ZE"),
        ("rollback", "C ZI"),
        ("deallocate k", "C ZI"),
        ("deallocate k", "E26000 ZI"),
        ("execute k(1)", "E26000 ZI"),
        (BY_KEY, "C ZI"),
        ("deallocate prepare all", "C ZI"),
        (BY_KEY, "C ZI"),
        ("discard all", "C ZI"),
        ("execute k(1)", "E26000 ZI"),
    ] {
        assert_eq!(told(&mut raw, text).await, expected, "{text}");
    }
    // In a block of both.
    let of_one = format!("select owner from accounts where id = {one}");
    for text in ["begin", &of_zero, &of_one, BY_KEY, &text, "deallocate k"] {
        assert!(told(&mut raw, text).await.ends_with("C ZT"), "{text}");
    }
    assert_eq!(told(&mut raw, &text).await, "E26000 ZE");
    assert_eq!(told(&mut raw, "rollback").await, "C ZI");
}

#[tokio::test]
async fn what_cannot_be_prepared_or_given_is_refused() {
    let rig = filled("").await;
    let mut raw = rig.raw().await;
    assert_eq!(told(&mut raw, BY_KEY).await, "C ZI");
    assert_eq!(
        told(&mut raw, "prepare flag (bool) as select $1").await,
        "C ZI"
    );
    for (text, expected) in [
        (BY_KEY, "E42P05 ZI"),
        ("execute nothing", "E26000 ZI"),
        ("execute k", "E42601 ZI"),
        ("execute k(1, 2)", "E42601 ZI"),
        ("execute k(1", "E42601 ZI"),
        ("execute k(1 + 1)", "E0A000 ZI"),
        ("execute k((select 1))", "E0A000 ZI"),
        ("execute k('x')", "E22P02 ZI"),
        ("execute k(1.5)", "E0A000 ZI"),
        ("execute k('1'::int)", "E0A000 ZI"),
        ("execute k('1'::nothing)", "E42704 ZI"),
        ("execute flag(1)", "E0A000 ZI"),
        ("prepare x as select nothing from accounts", "E42703 ZI"),
        ("prepare x as select 1 from nothing", "E42P01 ZI"),
        ("prepare x (nothing) as select $1", "E42704 ZI"),
        ("prepare x as selec 1", "E42601 ZI"),
        ("prepare x as show timezone", "E42601 ZI"),
        (
            "prepare x as delete from accounts where random() < 1",
            "E0A000 ZI",
        ),
        ("prepare x as select now() = 'now'", "E0A000 ZI"),
        ("create table copied as execute k(1)", "E0A000 ZI"),
        ("select count(*) from pg_prepared_statements", "E0A000 ZI"),
    ] {
        both(&mut raw, text, expected).await;
    }
    both(&mut raw, "execute flag(true)", "T D C ZI").await;
}

#[tokio::test]
async fn what_is_wrong_with_a_text_is_said_before_its_name_is_taken() {
    let rig = filled("").await;
    let mut raw = rig.raw().await;
    assert_eq!(told(&mut raw, BY_KEY).await, "C ZI");
    let reads = |key: i64| format!("select owner from accounts where id = {key}");
    let texts = [
        ("selec 1", "E42601"),
        ("select 1 from nothing", "E42P01"),
        ("select nothing from accounts", "E42703"),
        ("select nothing() from accounts", "E42883"),
        ("select count(*) from accounts", "E42P05"),
        ("select 1", "E42P05"),
    ];
    for (text, expected) in texts {
        let parse = [Raw::parse("k", text), Raw::sync()].concat();
        assert_eq!(raw.ask(&parse).await, format!("{expected} ZI"), "{text}");
        let prepare = format!("prepare k as {text}");
        assert_eq!(
            told(&mut raw, &prepare).await,
            format!("{expected} ZI"),
            "{text}"
        );
        // In a block of both shards.
        for prepares in [&parse, &Raw::query(&prepare)] {
            for text in ["begin", &reads(key(0)), &reads(key(1))] {
                assert!(told(&mut raw, text).await.ends_with("ZT"), "{text}");
            }
            assert_eq!(raw.ask(prepares).await, format!("{expected} ZE"), "{text}");
            assert_eq!(raw.ask(prepares).await, "E25P02 ZE", "{text}");
            assert_eq!(told(&mut raw, "rollback").await, "C ZI");
        }
    }
    both(&mut raw, &format!("execute k({})", key(1)), "T D C ZI").await;
}

#[tokio::test]
async fn a_name_is_free_if_what_was_prepared_by_it_is_none() {
    let rig = filled("").await;
    let mut raw = rig.raw().await;
    let read = |id: i64| format!("select owner from accounts where id = {id}");
    // Only a server knows that there is no such operator.
    let wrong = Raw::parse(
        "s",
        "select id + true from accounts where amount > 0 and id = 1",
    );
    let run = [Raw::bind("", "s", &[]), Raw::execute("", 0)].concat();
    for looks in [Raw::describe('S', "s"), run, vec![]] {
        for text in ["begin", &read(key(0)), &read(key(1))] {
            assert!(told(&mut raw, text).await.ends_with("ZT"), "{text}");
        }
        let all = [&wrong[..], &looks, &Raw::sync()].concat();
        assert_eq!(raw.ask(&all).await, "1 E42883 ZE");
        assert_eq!(told(&mut raw, "rollback").await, "C ZI");
        let again = [Raw::parse("s", &read(key(1))), Raw::sync()].concat();
        assert_eq!(raw.ask(&again).await, "1 ZI");
        let own = [Raw::bind("", "s", &[]), Raw::execute("", 0), Raw::sync()];
        assert_eq!(raw.ask(&own.concat()).await, "2 D C ZI");
        assert_eq!(
            raw.ask(&[Raw::close('S', "s"), Raw::sync()].concat()).await,
            "3 ZI"
        );
    }
}
