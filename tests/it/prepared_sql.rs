//! Prepared statements that SQL names, over shared server connections.

use pgherd_tests::{Database, Message, Proxy, Raw};

use super::prepared::{ON_SERVER, prepare};

/// Two servers, of which one or the other is free.
struct Rotation {
    holders: [Raw; 2],
    free: usize,
}

impl Rotation {
    async fn before(proxy: &Proxy, database: &Database) -> Self {
        let mut holders = [raw(proxy, database).await, raw(proxy, database).await];
        for holder in &mut holders {
            hold(holder).await;
        }
        let mut rotation = Self { holders, free: 0 };
        rotation.release(0).await;
        rotation
    }

    async fn release(&mut self, which: usize) {
        let answer = self.holders[which].ask(&Raw::query("commit")).await;
        assert_eq!(answer, "C ZI");
        self.free = which;
    }

    /// Takes the server that is free, and lets the other go.
    async fn turn(&mut self) {
        let taken = self.free;
        hold(&mut self.holders[taken]).await;
        self.release(1 - taken).await;
    }
}

async fn hold(holder: &mut Raw) {
    assert_eq!(holder.ask(&Raw::query("begin read write")).await, "C ZT");
    holder.one("select pg_backend_pid()").await;
}

async fn raw(proxy: &Proxy, database: &Database) -> Raw {
    Raw::login(proxy.port(), "app", &database.name, &[]).await
}

/// A pool of two servers that change with each transaction, and a client.
async fn house(more: &str) -> (Database, Proxy, Rotation, Raw) {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, &format!("[pool]\nsize = 2\n{more}")).await;
    let rotation = Rotation::before(&proxy, &database).await;
    let client = raw(&proxy, &database).await;
    (database, proxy, rotation, client)
}

/// The reasons for which clients keep servers, once all that this one has run is settled: a session is
/// bound or free only after it has answered, and answers the next message only then.
async fn pins(proxy: &Proxy, client: &mut Raw) -> String {
    assert_eq!(client.ask(&Raw::sync()).await, "ZI");
    let mut console = Raw::login(proxy.port(), "app", "pgherd", &[]).await;
    console.send(&Raw::query("show pins")).await;
    let rows = console.ready().await.into_iter();
    let rows = rows.filter(|message| message.tag == 'D');
    let rows: Vec<String> = rows.map(|row| row.columns().join(" ")).collect();
    rows.join("\n")
}

/// What a client sends at once: a query, or a pipeline.
enum Step {
    Query(&'static str),
    Pipeline(Vec<Vec<u8>>),
}
use Step::{Pipeline, Query};

impl Step {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Query(text) => Raw::query(text),
            Pipeline(messages) => [&*messages.concat(), &Raw::sync()].concat(),
        }
    }
}

/// Everything in an answer that a client may act on.
fn told(message: &Message) -> String {
    let field = |name| message.field(name).unwrap_or_default();
    match message.tag {
        'D' => format!("D{:?}", message.columns()),
        'C' => format!("C {}", String::from_utf8_lossy(&message.body)),
        'E' | 'N' => format!(
            "{} {} {} at {}",
            message.tag,
            field('C'),
            field('M'),
            field('P')
        ),
        'T' => format!("T {} columns", message.body[1]),
        'Z' => format!("Z{}", char::from(message.body[0])),
        tag => tag.to_string(),
    }
}

/// Leads a conversation with Postgres, and with pgherd where each transaction is on another server
/// than the one before. Both must say the same, to the letter.
async fn alike(setup: &str, more: &str, steps: &[Step]) {
    let (database, proxy, mut rotation, mut client) = house(more).await;
    let other = Database::new().await;
    if !setup.is_empty() {
        database.sql(setup).await;
        other.sql(setup).await;
    }
    let mut direct = Raw::login(other.port, "app", &other.name, &[]).await;
    for (number, step) in steps.iter().enumerate() {
        let shown = match step {
            Query(text) => (*text).to_owned(),
            Pipeline(_) => format!("pipeline {number}"),
        };
        direct.send(&step.bytes()).await;
        let expected: Vec<String> = direct.ready().await.iter().map(told).collect();
        client.send(&step.bytes()).await;
        let said: Vec<String> = client.ready().await.iter().map(told).collect();
        assert_eq!(said, expected, "{shown}");
        if said.last().is_some_and(|last| last == "ZI") {
            let pinned = pins(&proxy, &mut client).await;
            assert_eq!(pinned, "", "{shown}");
            rotation.turn().await;
        }
    }
}

#[tokio::test]
async fn a_name_behind_the_end_of_a_failed_block_runs_or_is_refused() {
    let (_database, _proxy, mut rotation, mut client) = house("").await;
    let prepare = Raw::query("prepare a as select 7");
    assert_eq!(client.ask(&prepare).await, "C ZI");
    rotation.turn().await;
    // Where the server lacks the statement, and then where it has it.
    for is_there in [false, true] {
        for text in ["rollback; execute a", "; COMMIT; execute a"] {
            assert_eq!(client.ask(&Raw::query("begin")).await, "C ZT");
            let failing = Raw::query("select 1 / 0");
            assert!(client.ask(&failing).await.ends_with("E22012 ZE"));
            // What does not end the block is refused as Postgres refuses it.
            for within in ["execute a", "select 1; execute a"] {
                let within = Raw::query(within);
                assert_eq!(client.ask(&within).await, "E25P02 ZE", "{is_there}");
            }
            let answer = client.ask(&Raw::query(text)).await;
            if is_there {
                assert_eq!(answer, "C T D C ZI", "{text}");
                continue;
            }
            assert_eq!(answer, "E0A000 ZE", "{text}");
            assert_eq!(client.ask(&Raw::query("rollback")).await, "C ZI");
        }
        assert_eq!(client.one("execute a").await, "7");
    }
}

#[tokio::test]
async fn what_sql_prepares_follows_its_client() {
    let (database, proxy, mut rotation, mut first) = house("").await;
    let mut second = raw(&proxy, &database).await;
    assert_eq!(
        first
            .ask(&Raw::query("prepare p(int) as select 'first ' || $1"))
            .await,
        "C ZI"
    );
    assert_eq!(
        second
            .ask(&Raw::query("prepare p(text) as select 'second ' || $1"))
            .await,
        "C ZI"
    );
    first
        .ask(&Raw::query("prepare pid as select pg_backend_pid()"))
        .await;
    let mut servers = Vec::new();
    for turn in 0..4 {
        let own = first.one(&format!("execute p({turn})")).await;
        assert_eq!(own, format!("first {turn}"));
        assert_eq!(second.one("execute p('x')").await, "second x");
        servers.push(first.one("execute pid").await);
        assert_eq!(pins(&proxy, &mut first).await, "");
        rotation.turn().await;
    }
    assert_ne!(servers[0], servers[1]);
    assert_eq!(servers[..2], servers[2..]);
    assert_eq!(first.ask(&Raw::query("deallocate p")).await, "C ZI");
    assert_eq!(first.ask(&Raw::query("execute p(1)")).await, "E26000 ZI");
    assert_eq!(second.one("execute p('y')").await, "second y");
}

#[tokio::test]
async fn simple_queries_are_answered_as_by_postgres() {
    let setup = "create table t (a int, b text); insert into t values (1, 'one'), (2, 'two'); \
                 grant all on t to public; grant create on schema public to public";
    let steps = [
        Query("execute p"),
        Query("deallocate p"),
        Query("prepare p as select a from t order by a"),
        Query("execute p"),
        Query("execute p;"),
        Query("EXECUTE P"),
        Query("execute \"P\""),
        Query("prepare p as select 'other'"),
        Query("prepare p as selec 1"),
        Query("prepare p as select nowhere"),
        Query("execute p (1)"),
        Query("prepare missing as select * from nowhere"),
        Query("execute missing"),
        Query("prepare \"with space \"\" and quote\"(int)as select $1 + 1 -- x"),
        Query("execute\"with space \"\" and quote\"(2)"),
        Query("execute \"with space \"\" and quote\"('x')"),
        Query("execute \"with space \"\" and quote\"(2, nowhere)"),
        Query("/* \u{e9}\u{e8} */ execute \"with space \"\" and quote\"(nowhere)"),
        Query("prepare pgherd_1 as select 'mine'"),
        Query("execute pgherd_1"),
        Query("execute pgherd_2"),
        Query("deallocate pgherd_2"),
        Query("prepare write (int, text) as insert into t values ($1, $2) returning a"),
        Query("execute write (3, 'three')"),
        Query("execute write (1 / 0, 'three')"),
        Query("explain (costs off) execute p"),
        Query("explain (costs off) execute nothing"),
        Query(
            "explain (analyze, costs off, timing off, summary off, buffers off) execute write (4, 'four')",
        ),
        Query("create table made as execute p"),
        Query("select a from made order by a"),
        Query("drop table made"),
        Query("deallocate prepare write"),
        Query("execute write (3, 'three')"),
        Query("deallocate all"),
        Query("execute p"),
        Query("prepare p as select 'again'"),
        Query("execute p"),
        Query("discard all"),
        Query("execute p"),
        Query("prepare"),
        Query("prepare p"),
        Query("prepare p as execute q"),
        Query("prepare p as begin"),
        Query("execute p"),
    ];
    alike(setup, "", &steps).await;
}

#[tokio::test]
async fn names_are_what_postgres_makes_of_them() {
    let once = |text: &str| {
        Pipeline(vec![
            Raw::parse("", text),
            Raw::bind("", "", &[]),
            Raw::execute("", 0),
        ])
    };
    let mut texts: Vec<String> = [
        r#"prepare u&"d\0061t\+000061" as select 'data'"#,
        "execute data",
        r#"execute U&"data""#,
        r#"execute u&"d!0061ta" uescape '!'"#,
        r#"execute u&"d!0061ta" uescape '!'; select nowhere"#,
        r#"execute u&"d\00" "#,
        r#"execute u&"data" uescape 'a'"#,
        r#"explain (costs off) execute u&"data""#,
        r#"deallocate u&"dat\0061""#,
        "execute data",
        r#"prepare u&"\00e9" as select 'accent'"#,
        "execute \"\u{e9}\"",
        "execute \u{e9}",
        "prepare \u{c9}T\u{c9} (int) as select $1",
        "execute \u{c9}t\u{c9} (7)",
        "execute \"\u{c9}t\u{c9}\" (nowhere)",
        "deallocate \u{c9}t\u{c9}",
        "execute \u{c9}t\u{c9} (7)",
    ]
    .map(str::to_owned)
    .into();
    // Too long, and cut between two characters.
    let long = ["x".repeat(62), "\u{e9}".repeat(40)].map(|name| name + "yz\u{e9}");
    for name in &long {
        let short: String = name
            .chars()
            .take(if name.starts_with('x') { 63 } else { 31 })
            .collect();
        texts.extend([
            format!("prepare {name} (int) as select $1"),
            format!("execute {name} (1)"),
            format!("execute \"{name}\" (nowhere)"),
            format!("execute \"{short}\" (2)"),
            format!("prepare {short} as select 1"),
            format!("select 1; execute {name} (3); select nowhere"),
            format!("explain (costs off) execute {name} (4)"),
            format!("deallocate {name}"),
            format!("deallocate {name}"),
            format!("execute {short} (5)"),
        ]);
    }
    let mut steps = Vec::new();
    for text in texts {
        steps.push(once(&text));
        // By what the first has changed, another answer.
        steps.push(Query(text.leak()));
    }
    // What the protocol has named is cut as well.
    let name = "n".repeat(70);
    steps.push(Pipeline(vec![Raw::parse(&name, "select 'cut'")]));
    for name in [&name, &name[..63], &format!("{name}n")] {
        steps.push(once(&format!("execute {name}")));
        steps.push(Pipeline(vec![
            Raw::bind("", name, &[]),
            Raw::execute("", 0),
        ]));
    }
    steps.push(Pipeline(vec![Raw::parse(&name[..65], "select 'taken'")]));
    steps.push(Pipeline(vec![Raw::close('S', &name[..66])]));
    steps.push(once(&format!("execute {name}")));
    alike("", "", &steps).await;
}

#[tokio::test]
async fn transactions_neither_make_nor_drop_a_name() {
    let steps = [
        Query("begin"),
        Query("prepare p as select 1"),
        Query("prepare q as select 2"),
        Query("deallocate q"),
        Query("rollback"),
        Query("execute p"),
        Query("execute q"),
        Query("begin"),
        Query("execute p"),
        Query("prepare p as select 2"),
        Query("execute p"),
        Query("prepare r as select 3"),
        Query("deallocate p"),
        Query("rollback"),
        Query("execute p"),
        Query("execute r"),
        Query("begin"),
        Query("execute r"),
        Query("rollback; execute p"),
        Query("begin; savepoint s; prepare t as select 4; rollback to s; execute t; commit"),
        Query("execute t"),
        Query("begin; select 1 / 0"),
        Query("rollback; prepare u as select 5"),
        Query("execute u"),
    ];
    alike("", "", &steps).await;
}

#[tokio::test]
async fn several_statements_in_one_text_are_answered_as_by_postgres() {
    let steps = [
        Query("prepare a as select 1; execute a; deallocate a"),
        Query("execute a"),
        Query(
            "prepare a as select 1; prepare b as select 2; execute b; select 1 / 0; prepare c as select 3",
        ),
        Query("execute a; execute b"),
        Query("execute c"),
        Query("execute a; deallocate a; execute a"),
        Query("execute a"),
        Query("prepare a as select 4; prepare a as select 5; execute a"),
        Query("execute a"),
        Query("deallocate a; prepare a as select 6; execute a"),
        Query("execute a; execute nothing; execute b"),
        Query("deallocate all; execute a"),
        Query(
            "prepare a as select 7; prepare same as select 7; deallocate a; execute same; execute a",
        ),
        Query("set work_mem = '5MB'; prepare w as select current_setting('work_mem'); execute w"),
        Query("execute w"),
        Query("reset work_mem; execute w; select nowhere"),
        Query("prepare x as select 8; select nowhere; execute x"),
        Query("execute x"),
    ];
    alike("", "", &steps).await;
}

#[tokio::test]
async fn the_extended_protocol_names_what_sql_has_prepared_and_the_other_way_round() {
    let run = |name: &str| {
        vec![
            Raw::bind("", name, &[]),
            Raw::describe('P', ""),
            Raw::execute("", 0),
        ]
    };
    let once = |text: &str| [vec![Raw::parse("", text)], run("")].concat();
    let steps = [
        Pipeline(once("prepare a (int) as select $1 + 1")),
        Pipeline(once("execute a(1)")),
        Pipeline(once("prepare a as select 2")),
        Pipeline(once("explain (costs off) execute a(1)")),
        Pipeline(vec![Raw::describe('S', "a")]),
        Pipeline(vec![Raw::bind("", "a", &["41"]), Raw::execute("", 0)]),
        Query("execute a(2)"),
        Pipeline(vec![Raw::parse("a", "select 'taken'")]),
        // Named statements that name others, which change meanwhile.
        Pipeline(vec![
            Raw::parse("run", "execute a(3)"),
            Raw::describe('S', "run"),
        ]),
        Pipeline(run("run")),
        Pipeline(vec![Raw::close('S', "a")]),
        Pipeline(run("run")),
        Query("prepare a (int) as select $1 * 10"),
        Pipeline(run("run")),
        Pipeline(run("run")),
        Pipeline(vec![Raw::parse("drop", "deallocate a")]),
        Pipeline(run("drop")),
        Pipeline(run("drop")),
        Query("execute a(1)"),
        // In one pipeline, and with a failure behind.
        Pipeline(
            [
                once("prepare b as select 'b'"),
                once("execute b"),
                run("b"),
                once("deallocate b"),
                once("execute b"),
                once("prepare never as select 1"),
            ]
            .concat(),
        ),
        Query("execute b"),
        Query("execute never"),
        Pipeline([once("select 1 / 0"), once("prepare never as select 1")].concat()),
        Query("execute never"),
        Pipeline(once("prepare bad as select nowhere")),
        Query("execute bad"),
        Pipeline([once("prepare c as select 'c'"), once("select 1 / 0")].concat()),
        Query("execute c"),
        Query("begin"),
        Pipeline(once("prepare d as select 'd'")),
        Pipeline(once("execute d")),
        Pipeline(once("select 1 / 0")),
        Pipeline(once("execute d")),
        Query("rollback"),
        Pipeline(once("execute d")),
        Pipeline(vec![Raw::parse("p", "select 'by protocol'")]),
        Pipeline(once("execute p")),
        Pipeline(once("explain (costs off) execute p")),
        Pipeline(once("deallocate p")),
        Query("execute p"),
        Pipeline(vec![Raw::close('S', "pgherd_1")]),
        Pipeline(once("execute pgherd_1")),
        Pipeline(once("deallocate pgherd_1")),
    ];
    alike("", "", &steps).await;
}

#[tokio::test]
async fn a_client_is_shown_its_own_statements_alone() {
    let show = "select name, statement, parameter_types, result_types, from_sql \
                from pg_prepared_statements order by name";
    let names = "select name, parameter_types, from_sql from pg_prepared_statements order by 1";
    let once = |text: &str| {
        vec![
            Raw::parse("", text),
            Raw::bind("", "", &[]),
            Raw::execute("", 0),
        ]
    };
    let steps = [
        Query(show),
        Query("/* x */ prepare  \"A b\"(int,text)as select $1, $2 ;"),
        Pipeline(vec![Raw::parse("p", "select 1 as one")]),
        Query(show),
        Query(show),
        Query("execute \"A b\"(1, 'x')"),
        Pipeline(once(show)),
        Pipeline(vec![Raw::parse("s", show), Raw::describe('S', "s")]),
        Pipeline(vec![
            Raw::bind("", "s", &[]),
            Raw::execute("", 0),
            Raw::bind("", "p", &[]),
            Raw::execute("", 0),
        ]),
        Query("prepare listed as select name from pg_prepared_statements order by name"),
        Query("execute listed"),
        Query(
            "begin; execute listed; select count(*) from pg_prepared_statement(); execute p; commit",
        ),
        Query("select name, nowhere from pg_prepared_statements"),
        Pipeline(
            [
                once("select name, 1 / 0 from pg_prepared_statements"),
                once(show),
            ]
            .concat(),
        ),
        Query("begin"),
        Query(show),
        Query("select 1 / 0"),
        Query(show),
        Query("rollback"),
        Query("deallocate p"),
        Query(show),
        Query("deallocate all"),
        Query(show),
        // Among statements that make and drop some.
        Query(
            "prepare a as select 1; select name from pg_prepared_statements; deallocate a; \
             select count(*) from pg_prepared_statements",
        ),
        Query(names),
        Query(
            "prepare b as select 2; select name from pg_prepared_statements; select 1 / 0; \
             prepare c as select 3",
        ),
        Query(names),
        Query("execute b"),
        Query(
            "deallocate b; prepare b as select 4; execute b; prepare f as select 0; \
             select name from pg_prepared_statements order by 1; prepare b as select 5",
        ),
        Query(names),
        Query("execute b; execute f"),
        Query(
            "prepare d as select name from pg_prepared_statements order by 1; execute d; deallocate all; \
             select count(*) from pg_prepared_statements",
        ),
        Query(names),
        Query(
            "begin; prepare e as select 6; select name from pg_prepared_statements; rollback; execute e; \
             select name from pg_prepared_statements",
        ),
        Query(names),
        Query("execute e; select name from pg_prepared_statements; deallocate e"),
        Query(names),
    ];
    alike("", "", &steps).await;
}

#[tokio::test]
async fn what_cannot_be_prepared_any_more_is_not_left_out_of_what_is_shown() {
    let (database, proxy, mut rotation, mut client) = house("").await;
    database
        .sql("create table kept (a int); create table gone (a int)")
        .await;
    for text in ["prepare g as select * from gone", "prepare k as select 1"] {
        assert_eq!(client.ask(&Raw::query(text)).await, "C ZI");
    }
    database.sql("drop table gone").await;
    let show = "select string_agg(name, ' ') from pg_prepared_statements";
    let writes = format!("insert into kept values (1); {show}");
    for text in [show, &writes] {
        for _ in 0..2 {
            assert_eq!(client.ask(&Raw::query(text)).await, "E0A000 ZI", "{text}");
            assert_eq!(client.one("select 'well'").await, "well");
            rotation.turn().await;
        }
    }
    assert_eq!(client.ask(&Raw::query("begin")).await, "C ZT");
    assert_eq!(client.ask(&Raw::query(show)).await, "E0A000 ZE");
    assert_eq!(client.ask(&Raw::query("rollback")).await, "C ZI");
    assert_eq!(client.ask(&Raw::query("deallocate g")).await, "C ZI");
    assert_eq!(client.one(show).await, "k");
    assert_eq!(client.ask(&Raw::query(&writes)).await, "C T D C ZI");
    assert_eq!(database.sql("select count(*) from kept").await, "1");
    assert_eq!(pins(&proxy, &mut client).await, "");
}

#[tokio::test]
async fn what_was_shown_to_one_meets_nobody_else() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[pool]\nsize = 1").await;
    let mut first = raw(&proxy, &database).await;
    let mut second = raw(&proxy, &database).await;
    assert_eq!(second.ask(&prepare("q", "select 'q'")).await, "1 ZI");
    let show = "select count(*) from pg_prepared_statements";
    let bind = [Raw::parse("", show), Raw::bind("", "", &[])].concat();
    let ends: [(&[u8], bool); 4] = [
        (&Raw::query(show), false),
        (
            &[&*bind, &Raw::execute("", 0), &Raw::sync()].concat(),
            false,
        ),
        // Left in the middle.
        (
            &[&*bind, &Raw::execute("", 0), &Raw::flush()].concat(),
            true,
        ),
        (&[&*bind, &Raw::flush()].concat(), true),
    ];
    for (step, leaves) in ends {
        first.ask(&Raw::query("prepare p as select 'p'")).await;
        first.send(step).await;
        if leaves {
            first.message().await;
            first = raw(&proxy, &database).await;
        } else {
            first.ready().await;
        }
        let run = [Raw::bind("", "p", &[]), Raw::execute("", 0), Raw::sync()].concat();
        assert_eq!(second.ask(&run).await, "E26000 ZI");
        assert_eq!(second.ask(&Raw::query("execute p")).await, "E26000 ZI");
        assert_eq!(second.one("execute q").await, "q");
        assert_eq!(second.one(show).await, "1");
    }
}

#[tokio::test]
async fn what_is_prepared_keeps_the_meaning_of_its_moment() {
    let setup = "create schema one; create schema two; grant usage on schema one, two to public; \
                 create table one.t as select 'one' as a; create table two.t as select 'two' as a; \
                 grant select on one.t, two.t to public";
    let steps = [
        Query("set datestyle = 'ISO, DMY'"),
        Query("prepare d as select '01/02/2024'::date"),
        Query("set datestyle = 'ISO, MDY'"),
        Query("execute d"),
        Query("execute d"),
        Query("set search_path = one"),
        Query("prepare t as select a from t"),
        Query("execute t"),
        Query("set search_path = two"),
        Query("execute t"),
        Query("execute t"),
    ];
    alike(setup, "", &steps).await;
}

#[tokio::test]
async fn what_no_longer_fits_is_told_as_by_postgres() {
    let bound = |name: &str| vec![Raw::bind("", name, &[]), Raw::execute("", 0)];
    let setup = "grant create on schema public to public";
    let steps = [
        Query("create table fits (a int)"),
        Query("prepare \"\u{e9} a very long name for a statement\" as select a from fits"),
        Query("prepare s (int) as select * from fits where a = $1"),
        Query("prepare t as select a from fits"),
        Query("execute s(1)"),
        Query("alter table fits rename a to b"),
        Query("execute \"\u{e9} a very long name for a statement\""),
        Query("execute t"),
        Query("execute t"),
        Pipeline(bound("t")),
        Pipeline(bound("t")),
        Query("drop table fits"),
        Query("execute s(1)"),
        Query("execute s(1)"),
        Query("execute s(1); select 1"),
        Query("select 1; execute t"),
    ];
    alike(setup, "", &steps).await;
}

#[tokio::test]
async fn a_moment_that_was_prepared_stays_the_same() {
    let (_database, proxy, _rotation, mut client) = house("").await;
    client
        .ask(&Raw::query("prepare m as select 'now'::timestamptz"))
        .await;
    let moment = client.one("execute m").await;
    assert!(pins(&proxy, &mut client).await.contains("moment"));
    assert_eq!(client.one("execute m").await, moment);
    assert_eq!(client.ask(&Raw::query("deallocate m")).await, "C ZI");
    client.ask(&Raw::query("select 1")).await;
    assert_eq!(pins(&proxy, &mut client).await, "");
}

#[tokio::test]
async fn running_a_statement_is_judged_by_what_it_runs() {
    let (_database, proxy, _rotation, mut client) = house("").await;
    let lock = "prepare l as select pg_advisory_lock(5)";
    assert_eq!(client.ask(&Raw::query(lock)).await, "C ZI");
    assert_eq!(pins(&proxy, &mut client).await, "");
    assert_eq!(client.ask(&Raw::query("execute l")).await, "T D C ZI");
    assert!(pins(&proxy, &mut client).await.contains("advisory_lock"));
    let free = Raw::query("select pg_advisory_unlock_all()");
    assert_eq!(client.ask(&free).await, "T D C ZI");
    assert_eq!(pins(&proxy, &mut client).await, "");
    // What it is given is run as well.
    client
        .ask(&Raw::query("prepare g (text) as select $1"))
        .await;
    let given = Raw::query("execute g(pg_advisory_lock(6)::text)");
    assert_eq!(client.ask(&given).await, "T D C ZI");
    assert!(pins(&proxy, &mut client).await.contains("advisory_lock"));
    assert_eq!(client.ask(&free).await, "T D C ZI");
    assert_eq!(pins(&proxy, &mut client).await, "");
    let given = "execute g(set_config('app.y', 'given', false))";
    assert_eq!(client.one(given).await, "given");
    assert_eq!(client.one("show app.y").await, "given");
    client.ask(&Raw::query("discard all")).await;
    assert_eq!(pins(&proxy, &mut client).await, "");
    let set = "prepare s as select set_config('app.x', 'mine', false)";
    client.ask(&Raw::query(set)).await;
    for _ in 0..2 {
        assert_eq!(client.one("execute s").await, "mine");
    }
    assert_eq!(client.one("show app.x").await, "mine");
}

#[tokio::test]
async fn servers_evict_what_sql_has_prepared_and_get_it_back() {
    let (database, proxy, mut rotation, mut client) = house("max_prepared_statements = 2").await;
    database.sql(ON_SERVER).await;
    let mut other = raw(&proxy, &database).await;
    for number in 0..5 {
        let text = format!("prepare s{number} as select {number}");
        assert_eq!(client.ask(&Raw::query(&text)).await, "C ZI");
        let text = format!("prepare s{number} as select {number} + 100");
        assert_eq!(other.ask(&Raw::query(&text)).await, "C ZI");
    }
    for number in (0..5).chain(0..5) {
        let text = format!("execute s{number}");
        assert_eq!(client.one(&text).await, number.to_string());
        assert_eq!(other.one(&text).await, (number + 100).to_string());
        rotation.turn().await;
    }
    let all = "execute s0; execute s1; execute s2";
    assert_eq!(client.ask(&Raw::query(all)).await, "E54000 ZI");
    let count = "select count(*) from on_server";
    assert!(client.one(count).await.parse::<u32>().unwrap() <= 2);
}

#[tokio::test]
async fn a_client_prepares_no_more_by_sql_than_it_may() {
    let database = Database::new().await;
    let more = "[pool]\nsize = 1\n[limits]\nmax_prepared_statements = 2";
    let proxy = Proxy::before(&database, more).await;
    let mut client = raw(&proxy, &database).await;
    assert_eq!(
        client.ask(&Raw::query("prepare a as select 1")).await,
        "C ZI"
    );
    assert_eq!(client.ask(&prepare("b", "select 2")).await, "1 ZI");
    for text in ["prepare c as select 3", "begin; prepare c as select 3"] {
        assert_eq!(client.ask(&Raw::query(text)).await, "E54000 ZI", "{text}");
    }
    client.ask(&Raw::query("deallocate a")).await;
    assert_eq!(
        client.ask(&Raw::query("prepare c as select 3")).await,
        "C ZI"
    );
    assert_eq!(client.one("execute c").await, "3");
}

#[tokio::test]
async fn nobody_reaches_what_another_has_prepared() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[pool]\nsize = 1").await;
    let mut first = raw(&proxy, &database).await;
    let mut second = raw(&proxy, &database).await;
    first.ask(&Raw::query("prepare p as select 'secret'")).await;
    first.ask(&prepare("q", "select 'secret'")).await;
    for number in 0..4 {
        for text in [
            format!("execute pgherd_{number}"),
            format!("explain execute \"pgherd_{number}\""),
            format!("deallocate PGHERD_{number}"),
            format!("select 1; execute pgherd_{number}"),
            format!("execute u&\"pgherd\\005f{number}\""),
        ] {
            second.send(&Raw::query(&text)).await;
            let answer = second.ready().await;
            let error = answer.iter().find(|message| message.tag == 'E');
            let code = error.and_then(|error| error.field('C'));
            assert_eq!(code.as_deref(), Some("26000"), "{text}");
        }
        let within = [
            Raw::query("begin read write"),
            Raw::close('S', &format!("pgherd_{number}")),
            Raw::sync(),
            Raw::query("commit"),
        ];
        for step in within {
            second.send(&step).await;
        }
        for _ in 0..3 {
            second.ready().await;
        }
    }
    assert_eq!(first.one("execute p").await, "secret");
    assert_eq!(first.one("execute q").await, "secret");
}

#[tokio::test]
async fn a_text_of_many_names_takes_no_longer_than_it_is_long() {
    const COUNT: usize = 20_000;
    let (database, _proxy, _rotation, mut client) = house("").await;
    let notices = "create function told() returns void language plpgsql as \
                   $$ begin raise notice 'told \"pgherd_0\"'; end $$";
    database.sql(notices).await;
    for prepare in ["prepare s as select told()", "prepare t as select 1"] {
        assert_eq!(client.ask(&Raw::query(prepare)).await, "C ZI");
    }
    let text = "execute s;".repeat(COUNT) + "execute t";
    client.send(&Raw::query(&text)).await;
    let answer = client.ready().await;
    let count = |tag| answer.iter().filter(|message| message.tag == tag).count();
    assert_eq!((count('N'), count('D')), (COUNT, COUNT + 1));
    // Where an error is, is told in the client's own text.
    let text = "execute s;".repeat(COUNT) + "select x";
    client.send(&Raw::query(&text)).await;
    let answer = client.ready().await;
    let error = answer.iter().find(|message| message.tag == 'E').unwrap();
    assert_eq!(error.field('C').as_deref(), Some("42703"), "{error:?}");
    let at = "execute s;".len() * COUNT + "select x".len();
    assert_eq!(error.field('P'), Some(at.to_string()), "{error:?}");
}

#[tokio::test]
async fn a_text_that_names_more_than_a_server_may_hold_is_refused_at_once() {
    let (_database, _proxy, _rotation, mut client) = house("").await;
    let prepares: Vec<_> = (0..78_000)
        .map(|number| format!("prepare a{number} as select 1"))
        .collect();
    let text = prepares.join(";");
    assert_eq!(client.ask(&Raw::query(&text)).await, "E54000 ZI");
    let text = "execute s;".repeat(100_000);
    assert_eq!(client.ask(&Raw::query(&text)).await, "E54000 ZI");
    let few = prepares[..400].join(";");
    assert_eq!(client.ask(&Raw::query(&few)).await, "C ".repeat(400) + "ZI");
    assert_eq!(client.one("execute a399").await, "1");
}

/// A server that waits for data takes nothing else.
#[tokio::test]
async fn a_name_that_goes_in_front_of_a_copy_is_gone() {
    let database = Database::new().await;
    database.sql("create table goods (a int)").await;
    let proxy = Proxy::before(&database, "[pool]\nsize = 1").await;
    let mut client = raw(&proxy, &database).await;
    let pid = client.one("select pg_backend_pid()").await;
    let data = |rows: &[u8]| [Raw::framed(b'd', rows), Raw::framed(b'c', b"")].concat();
    let text = || Raw::query("deallocate a; copy goods from stdin");
    let prepare = Raw::query("prepare a as select 1");
    for block in [false, true] {
        let status = if block { "ZT" } else { "ZI" };
        if block {
            assert_eq!(client.ask(&Raw::query("begin")).await, "C ZT");
        }
        for waits in [false, true] {
            assert_eq!(client.ask(&prepare).await, format!("C {status}"));
            let sent = if waits {
                text()
            } else {
                [text(), data(b"1\n")].concat()
            };
            client.send(&sent).await;
            for tag in ['C', 'G'] {
                assert_eq!(client.message().await.tag, tag);
            }
            let rest = if waits { data(b"1\n") } else { Vec::new() };
            assert_eq!(client.ask(&rest).await, format!("C {status}"));
        }
    }
    assert_eq!(client.ask(&Raw::query("execute a")).await, "E26000 ZE");
    assert_eq!(client.ask(&Raw::query("rollback")).await, "C ZI");
    assert_eq!(client.ask(&prepare).await, "C ZI");
    let fails = [text(), data(b"x\n")].concat();
    assert_eq!(client.ask(&fails).await, "C G E22P02 ZI");
    assert_eq!(client.ask(&Raw::query("execute a")).await, "E26000 ZI");
    let found = "select count(*) || ' ' || pg_backend_pid() from goods";
    assert_eq!(client.one(found).await, format!("2 {pid}"));
}
