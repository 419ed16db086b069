//! What a client is told of work whose answer never came: that it is lost only where that is certain.

mod table;

use std::time::Duration;

use pgherd_sandbox::{Binaries, Server};
use pgherd_tests::{Config, Database, Proxy, Raw, connect, until};

use rustix::process::Signal;

use crate::retries::before_and_told;
use crate::retries::node::{Fault, Node};

/// An Execute of the unnamed portal, and of one that is called `p`.
const EXECUTE: &str = "E\0\0\0\u{9}\0\0\0\0\0";
const EXECUTE_P: &str = "E\0\0\0\u{a}p\0\0\0\0\0";

/// A Sync as it is sent.
const SYNC: &str = "S\0\0\0\u{4}";

/// What is owed at once does not take as long.
const AT_ONCE: Duration = Duration::from_secs(5);

/// A proxy before a node before a database with a table `goods`, and a client.
async fn shop(more: &str) -> (Database, Node, Proxy, Raw) {
    let database = Database::new().await;
    let more_sql = "create table goods (a int); create procedure fill() language plpgsql as \
                    $$begin insert into goods values (1); commit; end$$";
    database.sql(more_sql).await;
    let node = Node::new(database.port).await;
    let (proxy, _) = before_and_told(&node, &database.name, more).await;
    let mut client = Raw::login(proxy.port(), "app", &database.name, &[]).await;
    client.one("select 1").await;
    client.one("select 1").await;
    (database, node, proxy, client)
}

/// The next message with this in it reaches the server, whose answer reaches nobody.
fn cut(node: &Node, needle: &'static str) {
    node.fail(Fault {
        needle,
        passes: true,
        says: Vec::new(),
        times: 1,
    });
}

fn pipelined(text: &str) -> Vec<u8> {
    let (parse, bind) = (Raw::parse("", text), Raw::bind("", "", &[]));
    [parse, bind, Raw::execute("", 0)].concat()
}

fn synced(text: &str) -> Vec<u8> {
    [pipelined(text), Raw::sync()].concat()
}

/// Waits until the row of a write is there that was answered by doubt.
async fn there(database: &Database) {
    until("it is committed", async || {
        database.sql("select count(*) from goods").await != "0"
    })
    .await;
    database.sql("delete from goods").await;
}

/// In session mode the server keeps the client's statements, under their own names.
#[tokio::test]
async fn a_commit_of_session_mode_is_not_told_to_be_lost() {
    let (database, node, proxy, _) = shop("[pool]\nmode = \"session\"\nsize = 4").await;
    let prepared = [
        Raw::parse("c", "/* the end */ commit"),
        Raw::parse("i", "insert into goods values (2)"),
        Raw::sync(),
    ];
    let named = |name: &str| [Raw::bind("", name, &[]), Raw::execute("", 0), Raw::sync()].concat();
    for (commit, needle, code) in [
        (synced("commit"), EXECUTE, "08007"),
        (synced("End"), EXECUTE, "08007"),
        (named("c"), EXECUTE, "08007"),
        (Raw::query("commit"), "commit", "08007"),
        // Nothing ends the block.
        (named("i"), EXECUTE, "40001"),
        (synced("select 1"), EXECUTE, "40001"),
    ] {
        let mut client = Raw::login(proxy.port(), "app", &database.name, &[]).await;
        assert_eq!(client.ask(&prepared.concat()).await, "1 1 ZI");
        for text in ["begin", "insert into goods values (1)"] {
            assert_eq!(client.ask(&Raw::query(text)).await, "C ZT");
        }
        cut(&node, needle);
        client.send(&commit).await;
        assert_eq!(client.farewell().await.0, code);
        assert_eq!(node.left(), 0);
        if code == "08007" {
            there(&database).await;
        }
    }
    assert_eq!(database.sql("select count(*) from goods").await, "0");
}

/// Something that is sent together with a BEGIN, which message is the last that the server gets, and what
/// each request is told.
struct Together {
    before: &'static [&'static str],
    sent: Vec<Vec<u8>>,
    cut: &'static str,
    told: &'static [&'static str],
    /// What the server itself may have said before it was cut off.
    said: &'static [&'static str],
    /// What else it may be told.
    or: &'static [&'static str],
    /// Its outcome is found out, if that is on.
    asks: bool,
    there: bool,
}

impl Together {
    fn said(mut self, said: &'static [&'static str]) -> Self {
        self.said = said;
        self
    }

    fn or(mut self, told: &'static [&'static str]) -> Self {
        self.or = told;
        self
    }

    fn unsure(mut self) -> Self {
        self.there = false;
        self
    }

    fn asks(mut self) -> Self {
        self.asks = true;
        self
    }

    fn is_told(&self, told: &[String]) -> bool {
        let or = self.or.iter().eq(told.iter());
        or || (0..=self.said.len()).any(|at| {
            let expected = self.said[..at].iter().chain(&self.told[at..]);
            expected.eq(told.iter())
        })
    }
}

fn together() -> Vec<Together> {
    let query = |text: &str| Raw::query(text);
    let write = "insert into goods values (1)";
    let later = "insert into goods values (2)";
    // A server that answers before learns that nobody listens, and may run nothing more.
    let unsure = "insert into goods values (3)";
    let new = |sent: &[Vec<u8>], cut, told| Together {
        before: &[],
        sent: sent.to_vec(),
        cut,
        told,
        said: &[],
        or: &[],
        asks: false,
        there: true,
    };
    let lost = |before, sent: &[Vec<u8>], cut, told| Together {
        before,
        there: false,
        ..new(sent, cut, told)
    };
    let nonsense = "begin isolation level nonsense";
    vec![
        // What stands before the BEGIN is no part of its block.
        new(
            &[query(write), query("begin"), query(later)],
            "(1)",
            &["E08007 ZI", "E08007 ZE", "E08007 ZE"],
        )
        .asks(),
        new(
            &[synced(write), synced("begin"), synced(later)],
            SYNC,
            &["E08007 ZI", "E08007 ZE", "E08007 ZE"],
        )
        .asks(),
        new(
            &[query("call fill()"), query("begin")],
            "call",
            &["E08007 ZI", "E08007 ZE"],
        ),
        new(
            &[synced("call fill()"), synced("begin")],
            SYNC,
            &["E08007 ZI", "E08007 ZE"],
        ),
        // What stands behind one that has failed runs alone.
        new(
            &[query(nonsense), query(unsure)],
            "(3)",
            &["E08007 ZE", "E08007 ZE"],
        )
        .or(&["E22023 ZI", "E08007 ZI"])
        .unsure(),
        // The client has ended its block itself.
        Together {
            before: &["begin"],
            ..new(
                &[query(later), query("rollback"), query(unsure)],
                "(3)",
                &["E08007 ZI", "E08007 ZI", "E08007 ZI"],
            )
        }
        .said(&["C ZT", "C ZI"])
        .unsure()
        .asks(),
        // Nor is it ended by what stands before it.
        Together {
            before: &["begin", "insert into goods values (4)"],
            ..new(
                &[query("commit"), query("begin"), query(later)],
                "commit",
                &["E08007 ZI", "E08007 ZE", "E08007 ZE"],
            )
        }
        .asks(),
        new(
            &[
                query("begin; insert into goods values (4); commit"),
                query("select 1"),
            ],
            "(4)",
            &["E08007 ZI", "E08007 ZI"],
        )
        .asks(),
        // These are lost for certain: all of it ran in the block, or not at all.
        lost(&["begin"], &[query(write)], "(1)", &["E40001 ZE"]),
        lost(&["begin"], &[synced(write)], EXECUTE, &["E40001 ZE"]),
        lost(
            &["begin"],
            &[[pipelined(write), pipelined(later), Raw::sync()].concat()],
            EXECUTE,
            &["E40001 ZE"],
        ),
        lost(
            &["begin"],
            &[query(write), query(later)],
            "(2)",
            &["E40001 ZE", "E40001 ZE"],
        )
        .said(&["C ZT"]),
        lost(
            &[],
            &[[pipelined("begin"), pipelined(write), Raw::sync()].concat()],
            EXECUTE,
            &["E40001 ZE"],
        ),
        lost(
            &[],
            &[query("begin; insert into goods values (1)")],
            "(1)",
            &["E40001 ZE"],
        ),
        // A portal of a BEGIN that is never executed opens no block.
        new(
            &[[
                Raw::parse("b", "begin"),
                Raw::bind("b", "b", &[]),
                synced(write),
            ]
            .concat()],
            SYNC,
            &["E08007 ZE"],
        )
        .asks(),
    ]
}

#[tokio::test]
async fn what_stands_in_no_block_is_not_told_to_be_lost_with_one() {
    let mut wrong = Vec::new();
    for resolution in ["off", "on"] {
        let more = format!("[pool]\nsize = 2\n[failover]\ncommit_resolution = \"{resolution}\"");
        let (database, node, _proxy, mut client) = shop(&more).await;
        for (at, case) in together().into_iter().enumerate() {
            if resolution == "on" && case.asks {
                continue;
            }
            for text in case.before {
                client.ask(&Raw::query(text)).await;
            }
            cut(&node, case.cut);
            client.send(&case.sent.concat()).await;
            let mut told = Vec::new();
            for _ in &case.sent {
                told.push(client.ask(&[]).await);
            }
            if !case.is_told(&told) || node.left() > 0 {
                wrong.push((resolution, at, told));
            }
            client.ask(&Raw::query("rollback")).await;
            if case.there {
                there(&database).await;
            }
        }
        let count = "select count(*) from goods where a <> 3";
        assert_eq!(database.sql(count).await, "0");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A client that sends one transaction behind the other does not wait for the end of the one before it begins the next.
#[tokio::test]
async fn a_block_that_is_lost_behind_the_end_of_another_stays_lost() {
    let write = "insert into goods values (1)";
    let slowly = "insert into goods select 2 from pg_sleep(0.3)";
    for extended in [false, true] {
        let (database, node, _proxy, mut client) = shop("").await;
        let say = |text: &str| match extended {
            true => synced(text),
            false => Raw::query(text),
        };
        let done = |status: char| match extended {
            true => format!("1 2 C Z{status}"),
            false => format!("C Z{status}"),
        };
        client.ask(&Raw::query("begin")).await;
        assert_eq!(client.ask(&say(write)).await, done('T'));
        let next = [say("commit"), say("begin"), say(slowly)].concat();
        assert_eq!(client.ask(&next).await, done('I'));
        assert_eq!(client.ask(&[]).await, done('T'));
        cut(&node, "(3)");
        client.send(&say("insert into goods values (3)")).await;
        for _ in 0..2 {
            assert_eq!(client.ask(&[]).await, "E40001 ZE");
        }
        // It was on its way in the belief that the block goes on.
        let told = client.ask(&say("insert into goods values (4)")).await;
        assert!(told.ends_with("E25P02 ZE"), "{told}");
        assert_eq!(client.ask(&Raw::query("commit")).await, "E40001 ZI");
        let kept = database.sql("select string_agg(a::text, ' ') from goods");
        assert_eq!(kept.await, "1");
    }
}

/// The BEGIN of that block was answered without a server.
#[tokio::test]
async fn what_stands_behind_a_block_that_has_ended_is_in_none() {
    let (database, node, _proxy, mut client) = shop("").await;
    database.sql("create table held ()").await;
    let holder = connect(&database.url("app")).await;
    holder.batch_execute("begin; lock held").await.unwrap();
    assert_eq!(client.ask(&Raw::query("begin")).await, "C ZT");
    let burst = [
        "insert into goods values (1)",
        "commit",
        "select count(*) from held",
    ];
    assert_eq!(client.ask(&burst.map(Raw::query).concat()).await, "C ZT");
    assert_eq!(client.ask(&[]).await, "C ZI");
    cut(&node, "(2)");
    client
        .send(&Raw::query("insert into goods values (2)"))
        .await;
    for _ in 0..2 {
        assert_eq!(client.ask(&[]).await, "E08007 ZI");
    }
    assert_eq!(node.left(), 0);
}

/// A COMMIT is bound before a Sync and executed behind it.
#[tokio::test]
async fn a_commit_that_was_bound_before_is_not_told_to_be_lost() {
    for more in [
        "[failover]\ncommit_resolution = \"off\"",
        "[failover]\ncommit_resolution = \"on\"",
        "[pool]\nmode = \"session\"",
    ] {
        let (database, node, _proxy, mut client) = shop(more).await;
        let bound = [
            Raw::parse("", "commit"),
            Raw::bind("p", "", &[]),
            Raw::sync(),
        ];
        for text in ["begin", "insert into goods values (1)"] {
            assert_eq!(client.ask(&Raw::query(text)).await, "C ZT");
        }
        assert_eq!(client.ask(&bound.concat()).await, "1 2 ZT", "{more}");
        assert_eq!(client.ask(&synced("select 1")).await, "1 2 D C ZT");
        cut(&node, EXECUTE_P);
        client
            .send(&[Raw::execute("p", 0), Raw::sync()].concat())
            .await;
        let told = client.message().await;
        let code = told.field('C');
        let resolved = told.tag == 'C';
        assert!(
            resolved || code.as_deref() == Some("08007"),
            "{more}: {told:?}"
        );
        there(&database).await;
    }
}

/// A table whose rows take their time to be committed, and one whose do not.
const SLOW: &str = "create table goods (a int); create table slow (a int); \
                    create function sleeps() returns trigger language plpgsql as \
                    $$begin perform pg_sleep(60); return null; end$$; \
                    create constraint trigger sleeps after insert on slow deferrable \
                    initially deferred for each row execute function sleeps()";

const SLOWLY: &str = "insert into slow values (1)";

/// Waits until so many backends of the database sleep.
async fn asleep(database: &Database, count: usize) {
    let sleeps = "select count(*) from pg_stat_activity \
                  where wait_event in ('PgSleep', 'relation') and datname = current_database()";
    until("they sleep", async || {
        database.sql(sleeps).await == count.to_string()
    })
    .await;
}

/// What clients do who are sent away, in a block or in none, and which code they get.
fn under_way() -> Vec<(bool, Vec<u8>, &'static str)> {
    vec![
        (false, Raw::query(SLOWLY), "08007"),
        (false, synced(SLOWLY), "08007"),
        (true, Raw::query("commit"), "08007"),
        (true, synced("commit"), "08007"),
        (false, Raw::query("select a from goods"), "57P01"),
        (true, Raw::query("select pg_sleep(60)"), "57P01"),
    ]
}

#[tokio::test]
async fn who_is_sent_away_is_told_that_its_write_may_be_there() {
    for how in ["kill_client", "kill", "shutdown"] {
        let database = Database::new().await;
        database.sql(SLOW).await;
        let more = "[pool]\nsize = 9\n[timeouts]\nshutdown = \"100ms\"";
        let proxy = Proxy::before(&database, more).await;
        let holder = connect(&database.url("app")).await;
        holder.batch_execute("begin; lock goods").await.unwrap();
        let mut clients = Vec::new();
        for (in_block, last, code) in under_way() {
            let mut client = Raw::login(proxy.port(), "app", &database.name, &[]).await;
            client.one("select 1").await;
            client.one("select 1").await;
            if in_block {
                client.ask(&Raw::query("begin")).await;
                client.ask(&Raw::query(SLOWLY)).await;
            }
            client.send(&last).await;
            clients.push((client, code));
        }
        asleep(&database, clients.len()).await;
        if how == "shutdown" {
            proxy.signal(Signal::TERM);
        } else {
            let console = connect(&proxy.url("app", "pgherd")).await;
            let words: Vec<String> = match how {
                "kill" => vec![format!("kill {}", database.name)],
                _ => clients
                    .iter()
                    .map(|(client, _)| format!("kill_client {}", client.key.0))
                    .collect(),
            };
            for text in words {
                console.simple_query(&text).await.unwrap();
            }
        }
        for (at, (mut client, code)) in clients.into_iter().enumerate() {
            let (told, hint) = client.farewell().await;
            assert_eq!(told, code, "{how} {at}");
            assert_eq!(hint.contains("unknown"), code == "08007", "{how} {at}");
        }
    }
}

/// A server whose commits wait for a standby that never comes, and a proxy before it.
async fn alone(more: &str) -> (Server, Proxy) {
    let binaries = Binaries::find().unwrap();
    let server = Server::builder(&binaries)
        .settings(&[("synchronous_standby_names", "nobody")])
        .start()
        .await
        .unwrap();
    let setup = "set synchronous_commit = local; create role app login superuser; create table goods (a int)";
    server.sql(setup).await.unwrap();
    let port = server.port();
    let text = format!(
        "[listen]\naddresses = [\"127.0.0.1:{{port}}\"]\n[auth]\nmethod = \"trust\"\n\
         [users.app]\npassword = \"app\"\n[databases.postgres]\nhosts = [\"127.0.0.1:{port}\"]\n{more}\n"
    );
    (server, Proxy::start(&Config::text(text)).await)
}

/// The query timeout of the pool ends a wait for a standby: nobody else may have what was written.
#[tokio::test]
async fn a_write_that_waits_for_a_standby_is_not_acknowledged_by_a_timeout() {
    let (server, proxy) = alone("[timeouts]\nquery = \"300ms\"").await;
    let mut client = Raw::login(proxy.port(), "app", "postgres", &[]).await;
    let write = "insert into goods values (1)";
    let returning = "insert into goods values (1) returning a";
    let mut rows = 0;
    for (sent, told) in [
        (Raw::query(write), "E08007 ZI"),
        (synced(write), "1 2 E08007 ZI"),
        (synced(returning), "1 2 D E08007 ZI"),
        (
            Raw::query("insert into goods values (1); select 1"),
            "C T D E08007 ZI",
        ),
    ] {
        assert_eq!(client.ask(&sent).await, told, "{rows}");
        rows += 1;
        let count = "select count(*) from goods";
        assert_eq!(server.sql(count).await.unwrap(), rows.to_string());
        // The session goes on as if nothing had been.
        assert_eq!(client.ask(&Raw::query("select 1")).await, "T D C ZI");
    }
    let local = "set synchronous_commit = local";
    assert_eq!(client.ask(&Raw::query(local)).await, "C ZI");
    assert_eq!(client.ask(&synced(write)).await, "1 2 C ZI");
    assert_eq!(
        client.ask(&Raw::query("select pg_sleep(60)")).await,
        "T E57014 ZI"
    );
}

/// A client that cancels a wait for a standby itself is told what Postgres tells.
#[tokio::test]
async fn a_client_that_waits_no_longer_for_a_standby_has_its_success() {
    let (server, proxy) = alone("[timeouts]\nquery = \"60s\"").await;
    let mut client = Raw::login(proxy.port(), "app", "postgres", &[]).await;
    client.send(&synced("insert into goods values (1)")).await;
    until("it waits", async || {
        let waits = "select count(*) from pg_stat_activity where wait_event = 'SyncRep'";
        server.sql(waits).await.unwrap() == "1"
    })
    .await;
    Raw::cancel(proxy.port(), &client.key).await;
    assert_eq!(client.ask(&[]).await, "1 2 C ZI");
}

/// Cancelled, it would be there for others although no standby has it.
#[tokio::test]
async fn a_commit_waits_on_for_its_standby_when_its_client_does_not() {
    let (server, proxy) = alone("[timeouts]\ntransaction = \"1s\"").await;
    let whole = Raw::query("begin; insert into goods values (1); commit");
    let texts = ["begin", "insert into goods values (1)", "commit"];
    let piped = [texts.map(pipelined).concat(), Raw::sync()].concat();
    let waits = async |count: &str| {
        let waits = "select count(*) from pg_stat_activity where wait_event = 'SyncRep'";
        server.sql(waits).await.unwrap() == count
    };
    let enter = async || Raw::login(proxy.port(), "app", "postgres", &[]).await;
    let mut client = enter().await;
    assert_eq!(client.ask(&whole).await, "E08007 ZI");
    for (sent, count) in [(whole, "2"), (piped, "3"), (synced(texts[1]), "4")] {
        let mut cut = enter().await;
        cut.send(&sent).await;
        until("it waits", async || waits(count).await).await;
        drop(cut);
    }
    // Whatever was to be cancelled would be so by then.
    server.sql("select pg_sleep(2)").await.unwrap();
    assert!(waits("4").await);
    let count = "select count(*) from goods";
    assert_eq!(server.sql(count).await.unwrap(), "0");
    // What does anything else runs no longer than its client waits.
    let sleeps = Raw::query("begin; commit; select pg_sleep(60)");
    assert_eq!(client.ask(&sleeps).await, "E08007 ZI");
    let mut cut = enter().await;
    cut.send(&Raw::query("insert into goods select 1 from pg_sleep(60)"))
        .await;
    let sleeping = async |count: &str| {
        let sleeps = "select count(*) from pg_stat_activity where wait_event = 'PgSleep'";
        server.sql(sleeps).await.unwrap() == count
    };
    until("it sleeps alone", async || sleeping("1").await).await;
    drop(cut);
    until("nothing sleeps", async || sleeping("0").await).await;
}

/// While the outcome of a commit is asked for, its client is still there to be spoken to.
#[tokio::test]
async fn who_waits_for_an_outcome_can_be_sent_away_and_can_cancel() {
    let more =
        "[failover]\ncommit_resolution = \"on\"\n[timeouts]\nhold = \"60s\"\nshutdown = \"100ms\"";
    for how in ["cancel", "kill_client", "shutdown"] {
        let (_database, node, proxy, mut client) = shop(more).await;
        for text in ["begin", "insert into goods values (1)"] {
            assert_eq!(client.ask(&Raw::query(text)).await, "C ZT");
        }
        node.fail_for_good(Fault {
            needle: "commit",
            passes: true,
            says: Vec::new(),
            times: 1,
        });
        client.send(&Raw::query("commit")).await;
        let console = connect(&proxy.url("app", "pgherd")).await;
        until("the outcome is asked for", async || {
            let shown = console.simple_query("show clients").await.unwrap();
            format!("{shown:?}").contains("waiting")
        })
        .await;
        match how {
            "cancel" => Raw::cancel(proxy.port(), &client.key).await,
            "shutdown" => proxy.signal(Signal::TERM),
            _ => {
                let kill = format!("kill_client {}", client.key.0);
                console.simple_query(&kill).await.unwrap();
            }
        }
        if how == "cancel" {
            let told = tokio::time::timeout(AT_ONCE, client.ask(&[])).await;
            assert_eq!(told.unwrap(), "E08007 ZI");
        } else {
            let told = tokio::time::timeout(AT_ONCE, client.farewell()).await;
            let (code, hint) = told.unwrap();
            assert_eq!(code, "08007", "{how}");
            assert!(hint.contains("unknown"), "{hint}");
        }
    }
}

/// Servers turn clients away with these codes, and then end the connection. A trigger that raises one does not.
#[tokio::test]
async fn what_a_trigger_raises_is_told_at_once() {
    let database = Database::new().await;
    database
        .sql(
            "create table asked (a int); create sequence tries; create function refuse() returns trigger \
             language plpgsql as $$begin perform nextval('tries'); \
             raise exception 'quota' using errcode = tg_argv[0]; end$$",
        )
        .await;
    let proxy = Proxy::before(&database, "").await;
    let mut client = Raw::login(proxy.port(), "app", &database.name, &[]).await;
    for code in ["53300", "57P03"] {
        let trigger = format!(
            "drop trigger if exists full_up on asked; create trigger full_up before insert on asked \
             for each row execute function refuse('{code}'); alter sequence tries restart"
        );
        database.sql(&trigger).await;
        let insert = "insert into asked values (1)";
        let told = format!("E{code} ZI");
        assert_eq!(client.ask(&Raw::query(insert)).await, told);
        assert_eq!(client.ask(&synced(insert)).await, format!("1 2 {told}"));
        let tries = database.sql("select last_value from tries").await;
        assert_eq!(tries, "2", "it ran once each time");
    }
}

/// What has ended a transaction has done so once a Flush had it answered, whatever the Sync still ends.
#[tokio::test]
async fn what_a_flush_has_told_of_is_not_told_to_be_lost() {
    const INSERT: &str = "insert into goods values (1)";
    const LOSE: &str = "select pg_terminate_backend(pid) from pg_stat_activity where \
        datname = current_database() and usename = 'app' and backend_type = 'client backend'";
    let (database, _node, _proxy, mut client) = shop("").await;
    for (before, texts, rows, code) in [
        (
            "begin; insert into goods values (1)",
            &["commit"][..],
            "1",
            "08007",
        ),
        ("", &["begin", INSERT, "commit"], "1", "08007"),
        ("", &["call fill()"], "1", "08007"),
        // Without its Sync, it is not committed.
        ("", &[INSERT], "0", "57P01"),
    ] {
        client.ask(&Raw::query(before)).await;
        let mut sent: Vec<u8> = texts.iter().flat_map(|text| pipelined(text)).collect();
        sent.extend(Raw::flush());
        client.send(&sent).await;
        let mut told = 0;
        while told < texts.len() {
            told += usize::from(client.message().await.tag == 'C');
        }
        database.sql(LOSE).await;
        let said = client.message().await;
        assert_eq!(said.field('C').as_deref(), Some(code), "{texts:?}");
        assert_eq!(client.ask(&Raw::sync()).await, "ZI");
        assert_eq!(
            database.sql("select count(*) from goods").await,
            rows,
            "{texts:?}"
        );
        database.sql("delete from goods").await;
    }
}
