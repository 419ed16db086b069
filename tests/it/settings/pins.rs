//! What the operator sees of sessions that keep their servers.

use pgherd_sandbox::free_port;
use pgherd_tests::{Config, Database, Proxy, Raw, connect, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_postgres::SimpleQueryMessage;

use super::{before, pair, steps, unnamed};

/// The reasons that SHOW PINS tells, one client after the other.
async fn reasons(console: &pgherd_tests::Client) -> Vec<String> {
    let answer = console.simple_query("show pins").await.unwrap();
    let rows = answer.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => {
            assert!(row.get("since").is_some_and(|since| since.ends_with("UTC")));
            assert!(
                row.get("server")
                    .is_some_and(|server| server.starts_with('s'))
            );
            row.get("reasons").map(str::to_owned)
        }
        _ => None,
    });
    rows.collect()
}

/// A session is bound or free only after it has answered.
async fn shows(console: &pgherd_tests::Client, expected: &[&str]) {
    let what = format!("SHOW PINS tells {expected:?}");
    until(&what, async || reasons(console).await == expected).await;
}

async fn metrics(port: u16) -> String {
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await;
    let mut stream = stream.unwrap();
    let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn pins_are_shown_counted_and_released() {
    let database = Database::new().await;
    let http = free_port();
    let more = format!("[metrics]\nlisten = \"127.0.0.1:{http}\"");
    let config = Config::before(&database, &more);
    let proxy = Proxy::start_by(&config, |command| {
        command.env("PGHERD_LOG__LEVEL", "debug");
    })
    .await;
    let console = connect(&proxy.url("app", "pgbouncer")).await;
    let client = proxy.client("app", &database).await;
    steps(&client, &["set work_mem = '5MB'"]).await;
    shows(&console, &[]).await;
    steps(&client, &["select pg_advisory_lock(1)"]).await;
    shows(&console, &["advisory_lock"]).await;
    steps(&client, &["create temp table t (a int)", "select 1"]).await;
    shows(&console, &["temp_table,advisory_lock"]).await;
    proxy.logged("bound to a server", 2).await;
    steps(&client, &["select pg_advisory_unlock_all()"]).await;
    shows(&console, &["temp_table"]).await;
    steps(&client, &["discard all"]).await;
    shows(&console, &[]).await;
    proxy.logged("no longer bound to a server", 1).await;
    let page = metrics(http).await;
    let counted = |reason: &str, count: u32| {
        page.lines().any(|line| {
            line.starts_with("pgherd_pool_pins_total{")
                && line.contains(&format!("reason=\"{reason}\""))
                && line.ends_with(&format!(" {count}"))
        })
    };
    assert!(counted("advisory_lock", 1), "{page}");
    assert!(counted("temp_table", 1), "{page}");
    assert!(counted("set", 0), "{page}");
    // A setting that fails binds nobody.
    client.refused("set work_mem = e'lots'").await;
    shows(&console, &[]).await;
    steps(&client, &["set work_mem = e'6MB'"]).await;
    shows(&console, &["set"]).await;
    steps(&client, &["reset all"]).await;
    shows(&console, &[]).await;
}

/// How a client sends a statement.
#[derive(Clone, Copy, Debug)]
enum How {
    Simple,
    Extended,
}

const WAYS: [How; 2] = [How::Simple, How::Extended];

async fn run(client: &pgherd_tests::Client, how: How, text: &str) {
    match how {
        How::Simple => steps(client, &[text]).await,
        How::Extended => {
            let done = client.execute(text, &[]).await;
            done.unwrap_or_else(|error| panic!("{text}: {error:?}"));
        }
    }
}

async fn fails(client: &pgherd_tests::Client, how: How, text: &str) {
    match how {
        How::Simple => drop(client.refused(text).await),
        How::Extended => assert!(client.execute(text, &[]).await.is_err(), "{text}"),
    }
}

/// What a client has bound itself by is looked for before its next message is taken.
async fn stays(console: &pgherd_tests::Client, client: &pgherd_tests::Client, expected: &[&str]) {
    assert_eq!(client.one("select 1").await, "1");
    shows(console, expected).await;
    assert_eq!(client.one("select 1").await, "1");
    assert_eq!(reasons(console).await, expected);
}

#[tokio::test]
async fn what_fails_binds_nobody() {
    let (database, proxy) = before(1).await;
    let console = connect(&proxy.url("app", "pgbouncer")).await;
    let [one, two] = pair(&database, &proxy).await;
    let free = async |what: &str| {
        // Were the other bound, this would wait in vain.
        let done = two.simple_query("select 1").await;
        done.unwrap_or_else(|error| panic!("{what}: {error:?}"));
        shows(&console, &[]).await;
    };
    for how in WAYS {
        for text in [
            "select 'oops",
            "select (1",
            "select ts_stat( fro",
            "create temp table t (a int, a int)",
            "create temp table t as select a / 0 from generate_series(1, 2) as a",
            "declare c cursor with hold for select a / 0 from generate_series(1, 2) as a",
        ] {
            fails(&one, how, text).await;
            free(&format!("{text} {how:?}")).await;
        }
    }
    // In texts and blocks, of which more than the last statement is taken back.
    one.refused("create temp table t (a int); select 1 / 0")
        .await;
    free("several").await;
    one.refused("begin; create temp table t (a int); select 1 / 0")
        .await;
    steps(&one, &["rollback"]).await;
    free("a block in one text").await;
    steps(&one, &["begin", "create temp table t (a int)"]).await;
    one.refused("selec 1").await;
    steps(&one, &["commit"]).await;
    free("a block").await;
    one.refused("do $$ begin perform 1 / 0; end $$; select 'x' into temp t")
        .await;
    free("a block of code").await;
    // What a statement has got before it failed is not taken back.
    one.refused("select pg_advisory_lock(a), a / 0 from generate_series(1, 1) as a")
        .await;
    stays(&console, &one, &["advisory_lock"]).await;
    steps(&one, &["select pg_advisory_unlock_all()"]).await;
    free("an unlock").await;
    one.refused("begin; create temp table t (a int); commit; select 1 / 0")
        .await;
    stays(&console, &one, &["temp_table"]).await;
    assert_eq!(one.one("select count(*) from t").await, "0");
    // Nor what a function could not read.
    steps(&one, &["discard all"]).await;
    let inside = "select ts_stat('selec')";
    assert_eq!(one.refused(inside).await.0, "42601");
    stays(&console, &one, &["unknown"]).await;
}

/// What stands in a pipeline behind an error is not run.
#[tokio::test]
async fn what_is_skipped_binds_nobody() {
    let (database, proxy) = before(1).await;
    let two = proxy.client("app", &database).await;
    let mut one = Raw::login(proxy.port(), "app", &database.name, &[]).await;
    let fails = unnamed("select 1 from absent", &[]);
    for skipped in [
        "select 'oops",
        "create temp table t (a int)",
        "select pg_advisory_lock(1)",
        "select setseed(0)",
        "load 'plpgsql'",
        "set work_mem = e'6MB'",
        "select pg_backup_start('x')",
    ] {
        let all = [fails.clone(), unnamed(skipped, &[]), Raw::sync()].concat();
        assert_eq!(one.ask(&all).await, "E42P01 ZI", "{skipped}");
        let done = two.simple_query("select 1").await;
        done.unwrap_or_else(|error| panic!("{skipped}: {error:?}"));
    }
    for failed in ["select 'oops", "create temp table t (a int, a int)"] {
        let all = [unnamed(failed, &[]), unnamed("select 1", &[]), Raw::sync()].concat();
        let answer = one.ask(&all).await;
        assert!(
            answer.ends_with(" ZI") && answer.contains("E42"),
            "{answer}"
        );
        let done = two.simple_query("select 1").await;
        done.unwrap_or_else(|error| panic!("{failed}: {error:?}"));
    }
    // What came before it in a transaction of its own was run.
    let all = [
        unnamed("select pg_advisory_lock(1)", &[]),
        Raw::sync(),
        fails,
        Raw::sync(),
    ];
    one.send(&all.concat()).await;
    assert_eq!(one.ask(&[]).await, "1 2 D C ZI");
    assert_eq!(one.ask(&[]).await, "E42P01 ZI");
    let locks =
        "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()";
    assert_eq!(one.one(locks).await, "1");
    assert!(two.simple_query("select 1").await.is_err(), "it is bound");
}

/// What binds a client is not over because something else that would have bound it for the same reason was skipped, or
/// has failed.
#[tokio::test]
async fn what_is_skipped_or_fails_frees_nobody_whom_something_else_binds() {
    let database = Database::new().await;
    let more = "[pool]\nsize = 1\n[limits]\nmax_held_message = 8192\n\
                [timeouts]\ncheckout = \"300ms\"";
    let proxy = Proxy::before(&database, more).await;
    let two = proxy.client("app", &database).await;
    // The catalogue is looked at behind the first of these.
    for _ in 0..2 {
        until("it is looked at", async || {
            two.simple_query("select 1").await.is_ok()
        })
        .await;
    }
    let fails = unnamed("select 1 from absent", &[]);
    let lock = |key: u32| unnamed(&format!("select pg_advisory_lock({key})"), &[]);
    let held = |name: &str, what: &str| format!("declare {name} cursor with hold for {what}");
    let secret = held("d", "select 'secret'");
    let broken = held("c", "select a / 0 from generate_series(1, 2) as a");
    let skipped = unnamed(&held("c", "select 1"), &[]);
    let long = format!("/* {} */ selec 1", "x".repeat(20_000));
    let (query, sync) = (Raw::query, Raw::sync);
    let locks =
        "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()";
    let cursors = "select count(*) from pg_cursors where name = 'd'";
    let role = "select count(*) where current_user = 'app'";
    let locked = query("select pg_advisory_lock(2)");
    let back = query("set session authorization default");
    for (sent, said, there) in [
        (
            [fails.clone(), lock(1), sync(), locked].concat(),
            ["E42P01 ZI", "T D C ZI"],
            locks,
        ),
        (
            [fails.clone(), lock(1), sync(), lock(2), sync()].concat(),
            ["E42P01 ZI", "1 2 D C ZI"],
            locks,
        ),
        (
            [fails.clone(), skipped, sync(), query(&secret)].concat(),
            ["E42P01 ZI", "C ZI"],
            cursors,
        ),
        (
            [query(&broken), unnamed(&secret, &[]), sync()].concat(),
            ["E22012 ZI", "1 2 C ZI"],
            cursors,
        ),
        (
            [
                query("select 1; selec pg_advisory_lock(1)"),
                lock(2),
                sync(),
            ]
            .concat(),
            ["E42601 ZI", "1 2 D C ZI"],
            locks,
        ),
        (
            [
                query(&long),
                unnamed("select pg_backup_start('x', true)", &[]),
                sync(),
            ]
            .concat(),
            ["E42601 ZI", "1 2 D C ZI"],
            "select 1",
        ),
        // The answer to the first binds it, when the last is sent already.
        (
            [back, fails, unnamed("set role e'pg_monitor'", &[]), sync()].concat(),
            ["C ZI", "E42P01 ZI"],
            role,
        ),
    ] {
        let what = format!("{said:?} {there}");
        let mut one = Raw::login(proxy.port(), "app", &database.name, &[]).await;
        if there == role {
            assert_eq!(one.ask(&query("set role pg_monitor")).await, "C ZI");
        }
        one.send(&sent).await;
        for said in said {
            assert_eq!(one.ask(&[]).await, said, "{what}");
        }
        let (code, _) = two.refused("fetch all from d").await;
        assert_eq!(code, "57014", "{what}");
        assert_eq!(one.one(there).await, "1", "{what}");
        drop(one);
        until("it is free", async || {
            two.simple_query("select 1").await.is_ok()
        })
        .await;
    }
}

#[tokio::test]
async fn what_is_over_frees_its_client() {
    let (database, proxy) = before(1).await;
    let console = connect(&proxy.url("app", "pgbouncer")).await;
    let [one, two] = pair(&database, &proxy).await;
    let table = "create temp table t (a int)";
    let held = "declare c cursor with hold for select 1";
    let lock = "select pg_advisory_lock(1)";
    for how in WAYS {
        for (binds, reason, frees) in [
            (table, "temp_table", "drop table t"),
            (table, "temp_table", "discard temp"),
            (held, "hold_cursor", "close c"),
            (held, "hold_cursor", "close all"),
            (lock, "advisory_lock", "select pg_advisory_unlock(1)"),
            (lock, "advisory_lock", "select pg_advisory_unlock_all()"),
            (
                "select pg_try_advisory_lock_shared(1, 2)",
                "advisory_lock",
                "select pg_advisory_unlock_shared(1, 2)",
            ),
        ] {
            run(&one, how, binds).await;
            stays(&console, &one, &[reason]).await;
            run(&one, how, frees).await;
            let done = two.simple_query("select 1").await;
            done.unwrap_or_else(|error| panic!("{frees} {how:?}: {error:?}"));
            shows(&console, &[]).await;
        }
        // Only what is over, of what binds it.
        for text in [table, "create temp table u (a int)", lock, lock, held] {
            run(&one, how, text).await;
        }
        run(&one, how, "drop table t").await;
        run(&one, how, "select pg_advisory_unlock(1)").await;
        stays(&console, &one, &["temp_table,hold_cursor,advisory_lock"]).await;
        assert_eq!(one.one("select count(*) from u").await, "0");
        run(&one, how, "select pg_advisory_unlock(1)").await;
        stays(&console, &one, &["temp_table,hold_cursor"]).await;
        run(&one, how, "close c").await;
        stays(&console, &one, &["temp_table"]).await;
        run(&one, how, "drop table u").await;
        stays(&console, &one, &[]).await;
        // A transaction takes back what it has made.
        for texts in [
            &["begin", table, "rollback"][..],
            &["begin", "savepoint s", table, "rollback to s", "commit"],
            &["begin", held, "rollback"],
            &["begin", table, "drop table t", "commit"],
            &[
                "begin",
                "create temp table t (a int) on commit drop",
                "insert into pg_temp.t values (1)",
                "commit",
            ],
        ] {
            for text in texts {
                run(&one, how, text).await;
            }
            let done = two.simple_query("select 1").await;
            done.unwrap_or_else(|error| panic!("{texts:?} {how:?}: {error:?}"));
        }
    }
    steps(&one, &["begin; create temp table t (a int); rollback"]).await;
    stays(&console, &one, &[]).await;
    // What a DISCARD in a block has dropped is back.
    steps(&one, &[table, "begin", "discard temp", "rollback"]).await;
    stays(&console, &one, &["temp_table"]).await;
    assert_eq!(one.one("select count(*) from t").await, "0");
    steps(&one, &["drop table t"]).await;
    // What is made in that schema by no name of it would not be known.
    steps(&one, &["set search_path = pg_temp, public"]).await;
    steps(&one, &["drop table if exists t"]).await;
    stays(&console, &one, &["temp_table"]).await;
}

/// Who does not get a lock does not keep a server for it.
#[tokio::test]
async fn who_polls_for_a_lock_holds_no_server() {
    let (database, proxy) = before(2).await;
    let console = connect(&proxy.url("app", "pgbouncer")).await;
    let first = proxy.client("app", &database).await;
    let poll = "select pg_try_advisory_lock(1)";
    assert_eq!(first.one(poll).await, "t");
    let mut workers = Vec::new();
    for _ in 0..20 {
        let worker = proxy.client("app", &database).await;
        assert_eq!(worker.one(poll).await, "f");
        let row = worker.query_one(poll, &[]).await.unwrap();
        assert!(!row.get::<_, bool>(0));
        workers.push(worker);
    }
    shows(&console, &["advisory_lock"]).await;
    assert_eq!(first.one("select pg_advisory_unlock(1)").await, "t");
    let taken = workers.last().unwrap();
    assert_eq!(taken.one(poll).await, "t");
    shows(&console, &["advisory_lock"]).await;
    assert!(database.backends("app").await <= 2);
}

#[tokio::test]
async fn names_bind_only_where_they_are_called() {
    let (database, proxy) = before(1).await;
    let console = connect(&proxy.url("app", "pgbouncer")).await;
    let [one, two] = pair(&database, &proxy).await;
    for how in WAYS {
        for text in [
            "select ts_stat from (select 1 as ts_stat) as query_to_xml",
            "select U&\"d\\00e9j\\00e0\" from (select 1 as \"d\u{e9}j\u{e0}\") as x",
            "select U&\"d!0061\" uescape '!' from (select 1 as da) as x",
        ] {
            run(&one, how, text).await;
            steps(&two, &["select 1"]).await;
            shows(&console, &[]).await;
        }
    }
    steps(
        &one,
        &["select word from ts_stat('select ''a''::tsvector')"],
    )
    .await;
    stays(&console, &one, &["unknown"]).await;
    steps(&one, &["discard all"]).await;
    stays(&console, &one, &["unknown"]).await;
}

/// Nothing takes back a library that was loaded or a seed: not even DISCARD ALL.
#[tokio::test]
async fn what_nothing_undoes_binds_for_good() {
    let (database, proxy) = before(2).await;
    let console = connect(&proxy.url("app", "pgbouncer")).await;
    let direct = connect(&database.url("postgres")).await;
    for how in WAYS {
        let client = proxy.client("postgres", &database).await;
        let other = proxy.client("postgres", &database).await;
        run(&client, how, "load 'plpgsql'").await;
        stays(&console, &client, &["load"]).await;
        run(&client, how, "select setseed(0.5)").await;
        steps(&direct, &["select setseed(0.5)"]).await;
        for _ in 0..3 {
            // Others draw numbers meanwhile.
            steps(&other, &["select random()"]).await;
            let draw = "select random()";
            assert_eq!(client.one(draw).await, direct.one(draw).await);
        }
        client.batch_execute("discard all").await.unwrap();
        stays(&console, &client, &["load,setseed"]).await;
        drop(client);
        shows(&console, &[]).await;
    }
}
