//! Cursors and portals in a block whose rows are on several shards: they are read, forwards and back, as on one Postgres
//! with all rows.

use std::path::{Path, PathBuf};
use std::process::Command;

use pgherd_tests::{Database, Message, Raw, run};

use crate::line::{COLLECTIONS, Mode, line, with};
use crate::pull::{JOIN, filled, nothing_is_left, rows};
use crate::rig::{Rig, SCHEMA, key, keys};
use crate::spread::Spread;
use crate::world::Buckets;

/// The columns' names, the rows and the tags, or the SQLSTATE.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Outcome {
    names: Vec<Vec<u8>>,
    rows: Vec<Vec<u8>>,
    tags: Vec<Vec<u8>>,
    error: Option<(String, String)>,
}

fn outcome(messages: &[Message]) -> Outcome {
    let of = |tag| messages.iter().filter(move |message| message.tag == tag);
    let bodies = |tag| of(tag).map(|message| message.body.clone()).collect();
    let name = |described: &Message| {
        let end = described.body[2..].iter().position(|byte| *byte == 0);
        described.body[2..2 + end.unwrap_or_default()].to_vec()
    };
    let error = of('E').next().map(|error| {
        let field = |name| error.field(name).unwrap_or_default();
        (field('C'), field('M'))
    });
    Outcome {
        names: of('T').filter(|it| it.body.len() > 2).map(name).collect(),
        rows: bodies('D'),
        tags: bodies('C'),
        error,
    }
}

/// What a statement gives by the protocol, with results in binary or not.
fn extended(text: &str, is_binary: bool) -> Vec<u8> {
    let mut bind = b"\0\0\0\0\0\0".to_vec();
    match is_binary {
        true => bind.extend([0, 1, 0, 1]),
        false => bind.extend([0, 0]),
    }
    [
        Raw::parse("", text),
        Raw::framed(b'B', &bind),
        Raw::describe('P', ""),
        Raw::execute("", 0),
        Raw::sync(),
    ]
    .concat()
}

/// A query in pieces: by a cursor that scrolls, by one that need not, and by a portal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Scroll,
    Extended,
    /// The same, with all values in text.
    Texts,
    Portal,
}

impl Form {
    fn messages(self, query: &str, mode: Mode) -> Vec<Vec<u8>> {
        let said = mode == Mode::Sequence;
        match self {
            Self::Scroll => {
                let mut texts = vec![format!("declare c scroll cursor for {query}")];
                let steps: &[&str] = match said {
                    true => &[
                        "fetch 3 from c",
                        "fetch prior from c",
                        "move 2 in c",
                        "fetch all c",
                        "fetch absolute 2 from c",
                    ],
                    false => &[
                        "fetch all from c",
                        "move backward all in c",
                        "fetch forward all in c",
                    ],
                };
                texts.extend(steps.iter().map(|step| (*step).to_owned()));
                texts.push("close c".to_owned());
                texts.iter().map(|text| Raw::query(text)).collect()
            }
            Self::Extended | Self::Texts => vec![
                extended(
                    &format!("declare \"C d\" no scroll cursor for {query}"),
                    false,
                ),
                [Raw::describe('P', "C d"), Raw::sync()].concat(),
                extended("fetch forward 2 from \"C d\"", self != Self::Texts),
                extended("fetch forward all from \"C d\"", self != Self::Texts),
                extended("close all", false),
            ],
            Self::Portal => vec![
                [
                    Raw::parse("", query),
                    Raw::bind("p", "", &[]),
                    Raw::describe('P', "p"),
                    Raw::execute("p", 2),
                    Raw::sync(),
                ]
                .concat(),
                [Raw::execute("p", 3), Raw::sync()].concat(),
                [Raw::execute("p", 0), Raw::close('P', "p"), Raw::sync()].concat(),
            ],
        }
    }
}

async fn through(raw: &mut Raw, query: &str, form: Form, mode: Mode) -> Outcome {
    assert_eq!(raw.ask(&Raw::query("begin")).await, "C ZT");
    let mut all = Vec::new();
    for bytes in form.messages(query, mode) {
        raw.send(&bytes).await;
        all.extend(raw.ready().await);
        if all.iter().any(|message| message.tag == 'E') {
            break;
        }
    }
    assert_eq!(raw.ask(&Raw::query("rollback")).await, "C ZI");
    outcome(&all)
}

#[tokio::test]
async fn no_cursor_gives_another_answer_than_that_of_one_server() {
    let mut both = Spread::new(3, Buckets::Even, &[]).await;
    let (mut right, mut failed, mut wrong) = (0, 0, Vec::new());
    let mut numbered = std::collections::BTreeSet::new();
    let mut refused = std::collections::BTreeMap::<String, Vec<String>>::new();
    let lines = COLLECTIONS.iter().flat_map(|text| text.lines());
    for (at, line) in lines.filter_map(line).enumerate() {
        let query = with(line.query, &line.values);
        let other = if at % 2 == 0 {
            Form::Extended
        } else {
            Form::Portal
        };
        for form in [Form::Scroll, other, Form::Texts] {
            // In binary, rows have the numbers in them that their types have on the server that gives them.
            if form == Form::Texts && !numbered.remove(&at) {
                continue;
            }
            let mut expected = through(&mut both.whole, &query, form, line.mode).await;
            let mut given = through(&mut both.raw, &query, form, line.mode).await;
            match (&expected.error, &given.error) {
                (Some(_), Some(_)) => {
                    failed += 1;
                    continue;
                }
                (None, Some((code, text))) if code == "0A000" => {
                    let reason = text.split(": ").last().unwrap_or_default().to_owned();
                    refused
                        .entry(reason)
                        .or_default()
                        .push(format!("{form:?} {query}"));
                    continue;
                }
                _ => {}
            }
            if line.mode != Mode::Sequence {
                expected.rows.sort();
                given.rows.sort();
            }
            if line.mode == Mode::Count {
                expected.rows.iter_mut().for_each(Vec::clear);
                given.rows.iter_mut().for_each(Vec::clear);
            }
            match expected == given {
                true => right += 1,
                false if form == Form::Extended => drop(numbered.insert(at)),
                false => wrong.push(format!("{form:?} {query}\n  {expected:?}\n  {given:?}")),
            }
        }
    }
    println!("right {right}, failing on both {failed}, refused {refused:#?}");
    assert!(numbered.is_empty(), "not compared in text: {numbered:?}");
    assert!(wrong.is_empty(), "WRONG:\n{}", wrong.join("\n"));
    assert!(right > 1800, "{right}");
}

#[tokio::test]
async fn a_cursor_is_read_as_its_server_reads_it() {
    let rig = filled("").await;
    let mut raw = rig.raw().await;
    let texts = |one: &str| Raw::query(one);
    for (query, all) in [
        ("select amount from accounts order by amount", 12),
        ("select amount from accounts", 12),
        (JOIN, 4),
        (
            "select owner, count(*) from accounts group by owner order by owner collate \"C\"",
            4,
        ),
    ] {
        raw.ask(&texts("begin")).await;
        raw.ask(&texts("savepoint a")).await;
        let declared = raw
            .ask(&texts(&format!("declare c scroll cursor for {query}")))
            .await;
        assert_eq!(declared, "C ZT", "{query}");
        // What is written behind it is not seen by it.
        raw.ask(&texts("delete from accounts")).await;
        raw.send(&texts("fetch all from c")).await;
        let read = rows(&raw.ready().await);
        assert_eq!(read.split(' ').count(), all, "{query}");
        raw.send(&texts("fetch absolute 1 from c")).await;
        assert_eq!(rows(&raw.ready().await), read.split(' ').next().unwrap());
        assert_eq!(
            raw.ask(&texts("declare c cursor for select 1")).await,
            "E42P03 ZE"
        );
        raw.ask(&texts("rollback to a")).await;
        assert_eq!(raw.ask(&texts("fetch c")).await, "E34000 ZE");
        raw.ask(&texts("rollback to a")).await;
        assert_eq!(
            raw.ask(&texts(&format!("declare c cursor for {query}")))
                .await,
            "C ZT"
        );
        assert_eq!(raw.ask(&texts("close c")).await, "C ZT");
        assert_eq!(raw.ask(&texts("rollback")).await, "C ZI");
    }
    // It has what its block has written.
    raw.ask(&texts("begin; update accounts set amount = amount + 100"))
        .await;
    let sorted = "declare c no scroll cursor for select amount from accounts order by amount desc";
    assert_eq!(raw.ask(&texts(sorted)).await, "C ZT");
    raw.send(&texts("fetch 2 from c")).await;
    assert_eq!(rows(&raw.ready().await), "111 110");
    assert_eq!(raw.ask(&texts("commit")).await, "C ZI");
    assert_eq!(raw.ask(&texts("fetch c")).await, "E34000 ZI");
    assert_eq!(raw.ask(&texts(sorted)).await, "E25P01 ZI");
    assert_eq!(raw.one("select count(*) from countries").await, "2");
    nothing_is_left(&rig).await;
}

#[tokio::test]
async fn cursors_are_found_on_their_shards() {
    let rig = filled("").await;
    let mut raw = rig.raw().await;
    let of = |name: &str, id: i64| {
        Raw::query(&format!(
            "declare {name} cursor for select amount from accounts where id = {id}"
        ))
    };
    let (first, second) = (key(0), key(1));
    raw.ask(&Raw::query("begin")).await;
    assert_eq!(raw.ask(&of("a", first)).await, "C ZT");
    assert_eq!(raw.ask(&of("b", second)).await, "C ZT");
    let all = "declare total cursor for select amount from accounts order by amount";
    assert_eq!(raw.ask(&Raw::query(all)).await, "C ZT");
    for (text, expected) in [
        ("fetch a", "0"),
        ("fetch all from B", "1"),
        ("fetch 3 from total", "0 1 2"),
    ] {
        raw.send(&Raw::query(text)).await;
        assert_eq!(rows(&raw.ready().await), expected, "{text}");
    }
    raw.send(&extended("fetch next from total", false)).await;
    assert_eq!(rows(&raw.ready().await), "3");
    // Some rows at a time of a cursor's, and what is prepared of it.
    let pieces = [
        Raw::parse("", "fetch all from total"),
        Raw::bind("f", "", &[]),
        Raw::execute("f", 2),
        Raw::execute("f", 0),
        Raw::sync(),
    ];
    raw.send(&pieces.concat()).await;
    assert_eq!(rows(&raw.ready().await), "4 5 6 7 8 9 10 11");
    assert_eq!(raw.ask(&Raw::query("savepoint s")).await, "C ZT");
    assert_eq!(raw.ask(&of("b", first)).await, "E42P03 ZE");
    raw.ask(&Raw::query("rollback to s")).await;
    assert_eq!(raw.ask(&of("a", second)).await, "E42P03 ZE");
    raw.ask(&Raw::query("rollback to s")).await;
    assert_eq!(raw.ask(&Raw::query("close b")).await, "C ZT");
    assert_eq!(raw.ask(&of("b", first)).await, "C ZT");
    raw.send(&Raw::query("fetch b")).await;
    assert_eq!(rows(&raw.ready().await), "0");
    assert_eq!(raw.ask(&of("d", second)).await, "C ZT");
    assert_eq!(raw.ask(&Raw::query("close all")).await, "C ZT");
    raw.ask(&Raw::query("savepoint s")).await;
    for name in ["a", "b", "total", "d"] {
        let told = raw.ask(&Raw::query(&format!("fetch {name}"))).await;
        assert_eq!(told, "E34000 ZE", "{name}");
        raw.ask(&Raw::query("rollback to s")).await;
    }
    assert_eq!(raw.ask(&Raw::query("commit")).await, "C ZI");
    // One that was declared before the block came to another shard.
    raw.ask(&Raw::query("begin")).await;
    assert_eq!(raw.ask(&of("a", first)).await, "C ZT");
    let total = raw.one("select count(*) from accounts").await;
    assert_eq!(total, "12");
    raw.send(&Raw::query("fetch a")).await;
    assert_eq!(rows(&raw.ready().await), "0");
    assert_eq!(raw.ask(&of("a", second)).await, "E42P03 ZE");
    assert_eq!(raw.ask(&Raw::query("rollback")).await, "C ZI");
    nothing_is_left(&rig).await;
}

#[tokio::test]
async fn a_driver_reads_a_block_some_rows_at_a_time() {
    let rig = filled("").await;
    let mut raw = rig.raw().await;
    let text = "select a.amount from accounts a where a.amount >= $1 order by a.amount";
    assert_eq!(raw.ask(&Raw::query("begin")).await, "C ZT");
    let begun = [
        Raw::parse("s", text),
        Raw::bind("p", "s", &["3"]),
        Raw::execute("p", 4),
        Raw::sync(),
    ];
    raw.send(&begun.concat()).await;
    let mut found = rows(&raw.ready().await);
    for _ in 0..2 {
        // Others are read, and written to, meanwhile.
        assert_eq!(
            raw.one("select count(*) from accounts where amount < 12")
                .await,
            "12"
        );
        raw.ask(&Raw::query("update accounts set owner = 'x'"))
            .await;
        raw.send(&[Raw::execute("p", 4), Raw::sync()].concat())
            .await;
        found = format!("{found} {}", rows(&raw.ready().await));
    }
    assert_eq!(found, "3 4 5 6 7 8 9 10 11");
    // There are no more, however often it is asked.
    let more = [Raw::execute("p", 4), Raw::execute("p", 0), Raw::sync()].concat();
    assert_eq!(raw.ask(&more).await, "C C ZT");
    assert_eq!(raw.ask(&Raw::query("rollback")).await, "C ZI");
    // As JDBC does it: with the block's beginning.
    let first = [
        Raw::parse("", "BEGIN"),
        Raw::bind("", "", &[]),
        Raw::execute("", 0),
        Raw::parse("S_1", "select amount from accounts where amount < $1"),
        Raw::bind("C_2", "S_1", &["100"]),
        Raw::describe('P', "C_2"),
        Raw::execute("C_2", 5),
        Raw::sync(),
    ];
    assert_eq!(raw.ask(&first.concat()).await, "1 2 C 1 2 T D D D D D s ZT");
    let next = [Raw::execute("C_2", 5), Raw::sync()].concat();
    assert_eq!(raw.ask(&next).await, "D D D D D s ZT");
    assert_eq!(raw.ask(&next).await, "D D C ZT");
    assert_eq!(raw.ask(&Raw::query("commit")).await, "C ZI");
    nothing_is_left(&rig).await;
}

#[tokio::test]
async fn what_is_held_for_a_cursor_has_a_limit() {
    let rig = filled("[limits]\nmax_combined_rows = 5").await;
    let mut raw = rig.raw().await;
    let all = "select amount from accounts";
    for bytes in [
        Raw::query(&format!("declare c cursor for {all}")),
        [
            Raw::parse("", all),
            Raw::bind("p", "", &[]),
            Raw::execute("p", 2),
            Raw::sync(),
        ]
        .concat(),
    ] {
        raw.ask(&Raw::query("begin")).await;
        let told = raw.ask(&bytes).await;
        assert!(told.ends_with("E53400 ZE"), "{told}");
        assert_eq!(raw.ask(&Raw::query("rollback")).await, "C ZI");
    }
    // Who is on the shard where the block begins is not counted.
    let few = keys(1)
        .take(5)
        .map(|id| id.to_string())
        .collect::<Vec<_>>()
        .join(", ");
    let few = format!(
        "declare c cursor for select amount from accounts where id in ({few}, {})",
        key(0)
    );
    raw.ask(&Raw::query("begin")).await;
    raw.one(&format!(
        "select count(*) from accounts where id = {}",
        key(0)
    ))
    .await;
    assert_eq!(raw.ask(&Raw::query(&few)).await, "C ZT");
    assert_eq!(raw.ask(&Raw::query("commit")).await, "C ZI");
}

/// Runs a script on one database with all rows and through the proxy: it has to see the same.
async fn sees_the_same(command: &[&Path]) {
    let rig = filled("").await;
    let whole = whole(&rig).await;
    let mut seen = Vec::new();
    for url in [whole.url("app"), rig.proxy.url("app", "shop")] {
        let mut script = Command::new(command[0]);
        script.args(&command[1..]).arg(&url);
        let output = run(script, "").await;
        assert_eq!(output.code, 0, "{url}: {}{}", output.out, output.err);
        seen.push(output.out);
    }
    assert!(seen[0].lines().count() > 10, "{}", seen[0]);
    assert_eq!(seen[1], seen[0], "through pgherd, and direct");
    nothing_is_left(&rig).await;
}

/// A database with the rows of all shards.
async fn whole(rig: &Rig) -> Database {
    let whole = Database::new().await;
    whole.sql(SCHEMA).await;
    for table in ["accounts", "entries"] {
        for shard in &rig.shards {
            let rows = format!("select string_agg(format('%L', t), ',') from {table} t");
            let rows = shard.sql(&rows).await;
            let insert = format!(
                "insert into {table} select (w::{table}).* from unnest(array[{rows}]) u (w)"
            );
            whole.sql(&insert).await;
        }
    }
    whole
}

/// Whether what a driver needs is there; where tests must be whole, it has to be.
fn installed(needed: &Path) -> bool {
    let is_there = needed.exists();
    assert!(
        is_there || std::env::var_os("CI").is_none(),
        "{} is missing; .ci/prepare tests installs it",
        needed.display()
    );
    is_there
}

fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[tokio::test]
async fn psycopg3_sees_what_it_sees_on_one_server() {
    let python = source("target/drivers/python/bin/python");
    if installed(&python) {
        sees_the_same(&[&python, &source("tests/drivers/psycopg3_shards.py")]).await;
    }
}

#[tokio::test]
async fn jdbc_sees_what_it_sees_on_one_server() {
    let jar = Path::new("/usr/share/java/postgresql.jar");
    if installed(jar) {
        let java = Path::new("java");
        let script = source("tests/drivers/JdbcShards.java");
        sees_the_same(&[java, Path::new("-cp"), jar, &script]).await;
    }
}
