//! A COMMIT whose answer is lost: its client is told what became of it.

use std::time::Duration;

use pgherd_sandbox::{Server, Stop};
use pgherd_tests::{Database, Proxy, Raw, connect, until};
use rustix::process::Signal;

use super::fleet::Fleet;
use crate::failures::metrics;
use crate::retries::node::{Fault, NOWHERE, Node};

pub(super) const ON: &str = "[failover]\ncommit_resolution = \"on\"\n";

/// What stands in the question for a transaction's mark, and nowhere else.
const QUESTION: &str = "pg_current_xact_id_if_assigned() AS x";

/// An answer that has not come by then does not come.
const WAIT: Duration = Duration::from_secs(5);

/// A Sync as it is sent.
const SYNC: &str = "S\0\0\0\u{4}";

/// The next message with this in it is the last of its connection, whether the server gets it or not.
pub(super) fn cut(needle: &'static str, passes: bool) -> Fault {
    Fault {
        needle,
        passes,
        says: Vec::new(),
        times: 1,
    }
}

/// A proxy that resolves commits, before a node before a database with a table `goods`, and a client.
async fn shop(more: &str) -> (Database, Node, Proxy, Raw, u16) {
    let database = Database::new().await;
    database.sql("create table goods (a int)").await;
    let node = Node::new(database.port).await;
    let more = format!("[pool]\nsize = 3\n{more}");
    let (proxy, http) = crate::retries::before_and_told(&node, &database.name, &more).await;
    let mut client = Raw::login(proxy.port(), "app", &database.name, &[]).await;
    client.one("select 1").await;
    client.one("select 1").await;
    (database, node, proxy, client, http)
}

fn insert(value: i32) -> String {
    format!("insert into goods values ({value})")
}

fn pipelined(text: &str) -> Vec<u8> {
    [
        Raw::parse("", text),
        Raw::bind("", "", &[]),
        Raw::execute("", 0),
    ]
    .concat()
}

/// How a client writes a row: what it sends message by message, what is cut, and what it is told last, if
/// the row is there and if it is not.
struct Form {
    before: Vec<Vec<u8>>,
    last: Vec<u8>,
    cut: &'static str,
    there: &'static str,
    lost: &'static str,
}

fn forms(value: i32) -> Vec<Form> {
    let insert = insert(value);
    let returning = format!("{insert} returning a");
    vec![
        Form {
            before: vec![Raw::query("begin"), Raw::query(&insert)],
            last: Raw::query("commit"),
            cut: "commit",
            there: "C ZI",
            lost: "E40001 ZI",
        },
        Form {
            before: vec![
                Raw::query("begin isolation level serializable"),
                [pipelined(&insert), Raw::sync()].concat(),
            ],
            last: [pipelined("commit"), Raw::sync()].concat(),
            cut: "E\0\0\0\u{9}\0\0\0\0\0",
            there: "1 2 C ZI",
            lost: "E40001 ZI",
        },
        Form {
            before: Vec::new(),
            last: Raw::query(&format!("begin; {insert}; commit")),
            cut: "commit",
            there: "C C C ZI",
            lost: "C C E40001 ZI",
        },
        Form {
            before: Vec::new(),
            last: Raw::query(&returning),
            cut: "COMMIT",
            there: "T D C ZI",
            lost: "T D E40001 ZI",
        },
        Form {
            before: Vec::new(),
            last: [pipelined(&insert), Raw::sync()].concat(),
            cut: SYNC,
            there: "1 2 C ZI",
            lost: "1 2 C E40001 ZI",
        },
        Form {
            before: vec![Raw::query("begin")],
            last: [pipelined(&insert), pipelined("commit"), Raw::sync()].concat(),
            cut: SYNC,
            there: "1 2 C 1 2 C ZI",
            lost: "",
        },
    ]
}

/// The server stays what it was, and only the connection is lost, with the last message or behind it.
#[tokio::test]
async fn a_client_is_told_what_became_of_its_commit() {
    let (database, node, _proxy, mut client, http) = shop(ON).await;
    let mut value = 0;
    for passes in [true, false] {
        for form in forms(0).into_iter().enumerate().map(|(at, _)| at) {
            value += 1;
            let form = forms(value).swap_remove(form);
            if !passes && form.lost.is_empty() {
                continue;
            }
            for message in &form.before {
                client.ask(message).await;
            }
            node.fail(cut(form.cut, passes));
            let told = client.ask(&form.last).await;
            assert_eq!(node.left(), 0, "{value}");
            let expected = if passes { form.there } else { form.lost };
            assert_eq!(told, expected, "{value} {passes}");
            let count = format!("select count(*) from goods where a = {value}");
            let there = if passes { "1" } else { "0" };
            assert_eq!(database.sql(&count).await, there, "{value} {passes}");
            // The session goes on.
            assert_eq!(client.one("select 7").await, "7");
        }
    }
    let page = metrics(http).await;
    for (outcome, count) in [("committed", 6), ("lost", 5), ("unknown", 0)] {
        assert_eq!(resolved(&page, outcome), count, "{outcome}");
    }
}

/// The connection is lost while the server is still about to commit, and its replica hangs back from then on.
#[tokio::test]
async fn a_session_reads_what_it_is_told_to_have_committed() {
    let fleet = Fleet::new().await;
    let slow = "create function slow() returns trigger language plpgsql as \
        'begin perform pg_sleep(3); return null; end'; \
        create constraint trigger slow after insert on acked deferrable initially deferred \
        for each row execute function slow()";
    fleet.primary.sql(slow).await.unwrap();
    fleet.replica.caught_up(&fleet.primary).await.unwrap();
    let node = Node::new(fleet.primary.port()).await;
    let (ports, replica) = ([node.port(), fleet.replica.port()], fleet.replica.port());
    let more = format!("[reads]\nfrom = \"replicas\"\n{ON}");
    let proxy = fleet.proxy(&ports, &more).await;
    let mut client = Raw::login(proxy.port(), "app", "postgres", &[]).await;
    until("reads go to the replica", async || {
        client.one("select inet_server_port()").await == replica.to_string()
    })
    .await;
    for text in ["begin", "insert into acked values (1)"] {
        client.ask(&Raw::query(text)).await;
    }
    node.fail(cut("commit", true));
    client.send(&Raw::query("commit")).await;
    // What is seen of the servers until then lies behind the loss, and in front of the commit.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(node.left(), 0);
    let pause = "select pg_wal_replay_pause()";
    fleet.replica.sql(pause).await.unwrap();
    assert_eq!(client.ask(&[]).await, "C ZI");
    for _ in 0..5 {
        assert_eq!(client.one("select count(*) from acked").await, "1");
    }
}

/// The commit itself waited for no standby; whoever is told of it asks for one that does.
#[tokio::test]
async fn who_asks_for_long_leaves_no_crowd_behind_that_waits_for_a_standby() {
    let fleet = Fleet::new().await;
    let node = Node::new(fleet.primary.port()).await;
    let ports = [node.port(), fleet.replica.port()];
    let more = format!("[timeouts]\nconnect = \"1s\"\n{ON}");
    let proxy = fleet.proxy(&ports, &more).await;
    let mut client = Raw::login(proxy.port(), "app", "postgres", &[]).await;
    fleet.replica.detach().await.unwrap();
    wait_for_standbys(&fleet.primary).await;
    for text in [
        "begin",
        "set local synchronous_commit = local",
        "insert into acked values (1)",
    ] {
        client.ask(&Raw::query(text)).await;
    }
    node.fail(cut("commit", true));
    client.send(&Raw::query("commit")).await;
    let waiting = "select count(*) from pg_stat_activity where wait_event = 'SyncRep'";
    let waits = async || fleet.primary.sql(waiting).await.unwrap() == "1";
    until("a standby is waited for", async || waits().await).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(waits().await);
    // Whoever ends that wait has confirmed nothing.
    let end = "select pg_cancel_backend(pid) from pg_stat_activity where wait_event = 'SyncRep'";
    fleet.primary.sql(end).await.unwrap();
    until("it is waited for again", async || waits().await).await;
    let told = tokio::time::timeout(Duration::from_millis(500), client.ask(&[])).await;
    assert!(told.is_err(), "{told:?}");
    let alone = "alter system set synchronous_standby_names = ''; select pg_reload_conf()";
    fleet.primary.sql(alone).await.unwrap();
    assert_eq!(client.ask(&[]).await, "C ZI");
}

#[tokio::test]
async fn what_was_not_sent_to_be_committed_is_not() {
    let (database, node, _proxy, mut client, _) = shop(ON).await;
    for (at, form) in forms(5).into_iter().enumerate().skip(2).take(3) {
        node.fail(cut(QUESTION, true));
        let told = client.ask(&form.last).await;
        assert!(told.contains("E40001"), "{at}: {told}");
        client.ask(&Raw::query("rollback")).await;
        assert_eq!(node.left(), 0);
    }
    assert_eq!(database.sql("select count(*) from goods").await, "0");
}

/// What a client has asked before, what it sends at once, which message is the last and whether the server gets it, and what
/// each of its requests is told.
struct Turn {
    before: Vec<Vec<u8>>,
    last: Vec<Vec<u8>>,
    cut: &'static str,
    passes: bool,
    told: &'static [&'static str],
    there: bool,
}

impl Turn {
    fn new(before: &[&str], last: &[Vec<u8>], told: &'static [&'static str]) -> Self {
        Self {
            before: before.iter().map(|text| Raw::query(text)).collect(),
            last: last.to_vec(),
            cut: "commit",
            passes: true,
            told,
            there: true,
        }
    }

    /// This is asked before, too.
    fn also(mut self, message: Vec<u8>) -> Self {
        self.before.push(message);
        self
    }

    fn cut(mut self, cut: &'static str) -> Self {
        self.cut = cut;
        self
    }

    /// The row is not there in the end.
    fn absent(mut self) -> Self {
        self.there = false;
        self
    }

    /// The server does not get the last message.
    fn kept(mut self) -> Self {
        self.passes = false;
        self.absent()
    }
}

fn synced(text: &str) -> Vec<u8> {
    [pipelined(text), Raw::sync()].concat()
}

/// A write stands in one text with something else, or writes only what others are told of.
fn mixed(value: i32) -> Vec<Turn> {
    let insert = insert(value);
    let other = format!("insert into goods values (-{value})");
    let savepoint = format!("savepoint s; {insert}");
    let set = format!("begin; set local app.t = '5'; {insert}");
    let sets =
        format!("insert into goods select {value} where set_config('app.u', 'v', true) = 'v'");
    let chained = ["begin", &other, "rollback and chain", &insert];
    let unchanged = ["begin", "update goods set a = 1 where false"];
    let defined = format!("create table made_{value} (a int)");
    let run = [Raw::bind("", "c", &[]), Raw::execute("", 0), Raw::sync()];
    let commit = || Raw::query("commit");
    let notify = Raw::query("begin; notify goods; commit");
    vec![
        Turn::new(&["begin", &savepoint], &[commit()], &["C ZI"]),
        Turn::new(&[&set], &[commit()], &["C ZI"]),
        Turn::new(&[], &[synced(&sets)], &["1 2 C ZI"]).cut(SYNC),
        Turn::new(&chained, &[commit()], &["E08007 ZI"]),
        Turn::new(&[], &[notify], &["C C E08007 ZI"]).absent(),
        Turn::new(&unchanged, &[commit()], &["E08007 ZI"]).absent(),
        Turn::new(&["begin", &defined], &[run.concat()], &["E40001 ZI"])
            .also([Raw::parse("c", "commit"), Raw::sync()].concat())
            .cut(QUESTION)
            .absent(),
    ]
}

/// A write is sent at once with the end of the transaction before it.
fn behind_an_end(value: i32) -> Vec<Turn> {
    let insert = insert(value);
    let other = format!("insert into goods values (-{value})");
    let query = |text: &str| Raw::query(text);
    let reads = ["begin", "select 1"];
    let ends = [query("rollback"), query(&insert)];
    let together = query(&format!("rollback; {insert}"));
    let all = [
        query("rollback"),
        query("begin"),
        query(&insert),
        query("commit"),
    ];
    let pipeline = [pipelined("rollback"), pipelined(&insert), Raw::sync()].concat();
    vec![
        Turn::new(&reads, &ends, &["C ZI", "E40001 ZI"])
            .cut("insert")
            .absent(),
        Turn::new(&reads, &[together], &["E08007 ZI"]).cut("insert"),
        Turn::new(&["begin", &other], &all, &["C ZI", "C ZT", "C ZT", "C ZI"]),
        Turn::new(&reads, &[pipeline], &["E08007 ZI"]).cut(SYNC),
    ]
}

/// The COMMIT is sent at once with what stands before it.
fn with_others(value: i32) -> Vec<Turn> {
    const EXECUTE: &str = "E\0\0\0\u{9}\0\0\0\0\0";
    let insert = insert(value);
    let commit = || Raw::query("commit");
    let simple = [Raw::query("select 1"), commit()];
    let parse = [Raw::close('S', "c"), Raw::parse("c", "commit"), Raw::sync()];
    let run = [Raw::bind("", "c", &[]), Raw::execute("", 0), Raw::sync()];
    let prepared = [parse.concat(), run.concat()];
    let block = ["begin", &insert];
    vec![
        Turn::new(&block, &simple, &["T D C ZT", "C ZI"]),
        Turn::new(&block, &simple, &["T D C ZT", "E40001 ZI"]).kept(),
        Turn::new(
            &block,
            &[synced("select 1"), commit()],
            &["1 2 D C ZT", "C ZI"],
        ),
        Turn::new(&block, &prepared, &["3 1 ZT", "2 C ZI"]).cut(EXECUTE),
        Turn::new(&block, &prepared, &["3 1 ZT", "E40001 ZI"])
            .cut(EXECUTE)
            .kept(),
    ]
}

fn turns(value: i32) -> Vec<Turn> {
    let mut all = mixed(value);
    all.extend(behind_an_end(value));
    all.extend(with_others(value));
    all
}

#[tokio::test]
async fn nothing_is_told_to_be_lost_that_is_there() {
    let (database, node, proxy, mut client, http) = shop(ON).await;
    let mut wrong = Vec::new();
    for at in 0..turns(0).len() {
        let value = i32::try_from(at).unwrap() + 1;
        let turn = turns(value).swap_remove(at);
        for message in &turn.before {
            client.ask(message).await;
        }
        node.fail(cut(turn.cut, turn.passes));
        client.send(&turn.last.concat()).await;
        let mut told = Vec::new();
        for _ in &turn.last {
            let answer = tokio::time::timeout(WAIT, client.ask(&[])).await;
            told.push(answer.unwrap_or_else(|_| "nothing".to_owned()));
        }
        let count = format!("select count(*) from goods where a = {value}");
        let there = database.sql(&count).await == "1";
        if told != turn.told || there != turn.there || node.left() > 0 {
            wrong.push((at, told, turn.told, there));
        }
        client.ask(&Raw::query("rollback")).await;
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // Whoever was told that nobody knows is counted, and why nobody was asked is in the log.
    let all = turns(0);
    let in_doubt = |turn: &&Turn| turn.told.iter().any(|told| told.contains("E08007"));
    let unknown = all.iter().filter(in_doubt).count();
    let why = "without having been asked for its mark";
    assert!(unknown > 0 && proxy.log().contains(why));
    assert_eq!(resolved(&metrics(http).await, "unknown"), unknown);
}

/// There is no place for a question behind an EXECUTE that commits itself.
#[tokio::test]
async fn what_is_run_by_its_name_is_not_told_to_be_lost() {
    let (database, node, _proxy, mut client, _) = shop(ON).await;
    let prepare = "prepare ins (int) as insert into goods values ($1)";
    assert_eq!(client.ask(&Raw::query(prepare)).await, "C ZI");
    node.fail(cut("(71)", true));
    let told = client.ask(&Raw::query("execute ins(71)")).await;
    assert_eq!((&*told, node.left()), ("E08007 ZI", 0));
    until("it is committed", async || {
        database.sql("select count(*) from goods").await == "1"
    })
    .await;
    // In a block it goes with that, or is asked for.
    node.fail(cut("(72)", true));
    let told = client.ask(&Raw::query("begin; execute ins(72)")).await;
    assert_eq!((&*told, node.left()), ("E40001 ZE", 0));
    assert_eq!(client.ask(&Raw::query("rollback")).await, "C ZI");
    for text in ["begin", "execute ins(73)"] {
        assert_eq!(client.ask(&Raw::query(text)).await, "C ZT");
    }
    node.fail(cut("commit", true));
    assert_eq!(client.ask(&Raw::query("commit")).await, "C ZI");
    assert_eq!(client.one("select sum(a) from goods").await, "144");
}

/// Up to Postgres 17, a simple query commits what a pipeline has done before it without a Sync.
#[tokio::test]
async fn a_pipeline_that_a_query_commits_is_not_told_to_be_lost() {
    let (database, node, _proxy, mut client, _) = shop(ON).await;
    assert_eq!(
        client.ask(&Raw::query("prepare r as select 1")).await,
        "C ZI"
    );
    assert_eq!(client.one("execute r").await, "1");
    let ends = [
        ("execute r", "execute \""),
        ("select 'x'", "'x'"),
        ("set application_name = 'x'", "'x'"),
    ];
    let version = database.sql("show server_version_num").await;
    let commits = version.parse::<u32>().unwrap() < 180_000;
    for (value, (text, needle)) in (1..).zip(ends) {
        node.fail(cut(needle, true));
        let sent = [pipelined(&insert(value)), Raw::query(text)].concat();
        let told = client.ask(&sent).await;
        assert!(told.ends_with("E08007 ZI"), "{text}: {told}");
        assert_eq!(node.left(), 0);
        client.ask(&Raw::sync()).await;
        if commits {
            let count = format!("select count(*) from goods where a = {value}");
            until("it is committed", async || {
                database.sql(&count).await == "1"
            })
            .await;
        }
    }
}

/// How many commits a page of metrics tells of that were resolved so.
fn resolved(page: &str, outcome: &str) -> usize {
    let is_it = |line: &&str| line.contains("commits_resolved") && line.contains(outcome);
    let line = page.lines().find(is_it);
    let value = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
    value.unwrap_or_else(|| panic!("{page}"))
}

/// What takes too long is more than a COMMIT, which would be left alone.
#[tokio::test]
async fn a_text_that_commits_is_cancelled_when_its_time_is_over() {
    let (database, _node, _proxy, mut client, _) = shop("[timeouts]\ntransaction = \"1s\"\n").await;
    let text = "begin; insert into goods values (1); select pg_sleep(60); commit";
    assert!(client.ask(&Raw::query(text)).await.contains("E08007"));
    until("it is cancelled", async || {
        let sleeps = "select count(*) from pg_stat_activity \
                      where state = 'active' and query like '%pg_sleep(60)%' and pid <> pg_backend_pid()";
        database.sql(sleeps).await == "0"
    })
    .await;
    assert_eq!(database.sql("select count(*) from goods").await, "0");
}

#[tokio::test]
async fn without_it_nobody_knows_and_nothing_is_asked() {
    let (database, node, _proxy, mut client, _) = shop("").await;
    node.fail(cut(QUESTION, false));
    let form = forms(1).swap_remove(0);
    for message in &form.before {
        client.ask(message).await;
    }
    assert_eq!(node.left(), 1);
    node.fail(cut("commit", true));
    assert_eq!(client.ask(&form.last).await, "E08007 ZI");
    until("it is committed", async || {
        database.sql("select count(*) from goods").await == "1"
    })
    .await;
}

/// Settings of the transaction hold as behind a COMMIT that was answered, or go with it.
#[tokio::test]
async fn what_was_set_in_the_transaction_goes_with_it() {
    let (_database, node, _proxy, mut client, _) = shop(ON).await;
    for (passes, expected) in [(true, "inside"), (false, "outside")] {
        client.ask(&Raw::query("set app.who = 'outside'")).await;
        for text in [
            "begin",
            "insert into goods values (1)",
            "set app.who = 'inside'",
        ] {
            client.ask(&Raw::query(text)).await;
        }
        node.fail(cut("commit", passes));
        let told = client.ask(&Raw::query("commit")).await;
        assert_eq!(told == "C ZI", passes, "{told}");
        assert_eq!(client.one("show app.who").await, expected);
    }
}

/// What the server reports by itself: a setting, and how it is set to something else.
const REPORTED: [(&str, &str); 6] = [
    ("timezone", "timezone = 'Asia/Tokyo'"),
    ("datestyle", "datestyle = 'German'"),
    ("client_encoding", "client_encoding = 'LATIN1'"),
    (
        "standard_conforming_strings",
        "standard_conforming_strings = off",
    ),
    ("application_name", "application_name = 'inside'"),
    ("work_mem", "work_mem = '5MB'"),
];

#[tokio::test]
async fn what_a_lost_block_has_set_is_taken_back_and_told() {
    let (_database, node, _proxy, mut client, _) = shop("").await;
    for (name, change) in REPORTED {
        for local in ["", "local "] {
            let before = client.one(&format!("show {name}")).await;
            let reported = client.parameters.clone();
            for text in ["begin", &format!("set {local}{change}"), "select 1"] {
                client.ask(&Raw::query(text)).await;
            }
            node.fail(cut("'lost'", false));
            let told = client.ask(&Raw::query("select 'lost'")).await;
            assert_eq!(told, "E40001 ZE", "{local}{change}");
            assert_eq!(client.parameters, reported, "{local}{change}");
            assert_eq!(client.ask(&Raw::query("rollback")).await, "C ZI");
            let after = client.one(&format!("show {name}")).await;
            assert_eq!(after, before, "{local}{change}");
        }
    }
}

/// A server that goes down may answer all that it was asked, and say so in the same breath.
#[tokio::test]
async fn a_connection_that_is_lost_while_it_is_made_ready_carries_nothing() {
    let (database, node, proxy, mut client, _) = shop(ON).await;
    let answered = [&b"C\0\0\0\x0dSELECT 0\0"[..], b"Z\0\0\0\x05I"].concat();
    node.lead_to(database.port).await;
    node.fail(Fault {
        needle: "pg_control_system",
        passes: false,
        says: [answered, crate::retries::fatal("57P01")].concat(),
        times: 1,
    });
    let block = format!("begin; {}; commit", insert(1));
    let told = client.ask(&Raw::query(&block)).await;
    assert_eq!((told.as_str(), node.left()), ("C C C ZI", 0));
    assert_eq!(database.sql("select count(*) from goods").await, "1");
    // Whoever had been given it could not have been told what became of a commit.
    assert!(!proxy.log().contains("commits are not resolved"));
}

#[tokio::test]
async fn what_was_set_for_a_transaction_is_over_with_it_where_its_commit_is_resolved() {
    let (_database, node, _proxy, mut client, _) = shop(ON).await;
    for (changes, expected) in [
        (&["set local timezone = 'Asia/Tokyo'"][..], "Etc/UTC"),
        (&["set timezone = 'Asia/Tokyo'"], "Asia/Tokyo"),
        (
            &[
                "set timezone = 'Asia/Seoul'",
                "set local timezone = 'Asia/Tokyo'",
            ],
            "Asia/Seoul",
        ),
        (
            &[
                "set local timezone = 'Asia/Tokyo'",
                "set timezone = 'Asia/Seoul'",
            ],
            "Asia/Seoul",
        ),
    ] {
        client.ask(&Raw::query("set timezone = 'Etc/UTC'")).await;
        for text in ["begin", "insert into goods values (1)"]
            .iter()
            .chain(changes)
        {
            client.ask(&Raw::query(text)).await;
        }
        node.fail(cut("commit", true));
        assert_eq!(client.ask(&Raw::query("commit")).await, "C ZI");
        assert_eq!(client.parameters["TimeZone"], expected, "{changes:?}");
        assert_eq!(client.one("show timezone").await, expected, "{changes:?}");
    }
}

/// What happens to a commit before its primary is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Replicated,
    Behind,
}

/// A primary is lost with the answer to a COMMIT, and another is promoted.
async fn fail_over(fate: Fate, synchronous: bool) -> String {
    let mut fleet = Fleet::new().await;
    let (old, new) = (
        Node::new(fleet.primary.port()).await,
        Node::new(fleet.replica.port()).await,
    );
    let proxy = fleet.proxy(&[old.port(), new.port()], ON).await;
    let mut client = Raw::login(proxy.port(), "app", "postgres", &[]).await;
    for text in ["select 1", "begin", "insert into acked values (1)"] {
        client.ask(&Raw::query(text)).await;
    }
    // Others write so that ids are taken which the new primary may not have seen.
    if fate == Fate::Behind {
        fleet.replica.detach().await.unwrap();
    }
    fleet
        .primary
        .sql("insert into acked values (2)")
        .await
        .unwrap();
    if synchronous {
        wait_for_standbys(&fleet.primary).await;
    }
    // The new one is not seen before it has handed out ids of its own.
    old.fail_for_good(cut("commit", true));
    client.send(&Raw::query("commit")).await;
    until("the commit has come", async || old.left() == 0).await;
    if fate == Fate::Replicated {
        until("it is committed", async || {
            fleet
                .primary
                .sql("select count(*) from acked where x = 1")
                .await
                .unwrap()
                == "1"
        })
        .await;
        fleet.replica.caught_up(&fleet.primary).await.unwrap();
    }
    new.lead_to(NOWHERE).await;
    fleet.primary.kill9();
    fleet.replica.promote().await.unwrap();
    for value in 10..20 {
        let insert = format!("insert into acked values ({value})");
        fleet.replica.sql(&insert).await.unwrap();
    }
    new.lead_to(fleet.replica.port()).await;
    let messages = client.ready().await;
    let told = messages
        .iter()
        .find_map(|message| message.field('C').filter(|_| message.tag == 'E'));
    let there = fleet
        .replica
        .sql("select count(*) from acked where x = 1")
        .await
        .unwrap();
    assert_eq!(there, if fate == Fate::Replicated { "1" } else { "0" });
    told.unwrap_or_else(|| "committed".to_owned())
}

pub(super) async fn wait_for_standbys(primary: &Server) {
    for sql in [
        "alter system set synchronous_standby_names = '*'",
        "select pg_reload_conf()",
    ] {
        primary.sql(sql).await.unwrap();
    }
    until("commits wait for a standby", async || {
        primary.sql("show synchronous_standby_names").await.unwrap() == "*"
    })
    .await;
}

#[tokio::test]
async fn a_commit_that_the_new_primary_has_is_a_success() {
    let told = fail_over(Fate::Replicated, false).await;
    assert_eq!(told, "committed");
}

/// Its id is another transaction's by then.
#[tokio::test]
async fn a_commit_that_the_new_primary_lacks_is_lost() {
    assert_eq!(fail_over(Fate::Behind, false).await, "40001");
}

#[tokio::test]
async fn a_commit_that_waited_for_a_standby_is_what_the_standby_says() {
    assert_eq!(fail_over(Fate::Behind, true).await, "40001");
}

/// The same server comes back on its timeline, and has or has not what was to be committed.
#[tokio::test]
async fn a_primary_that_crashes_and_comes_back_is_asked() {
    for passes in [true, false] {
        let mut fleet = Fleet::new().await;
        let old = Node::new(fleet.primary.port()).await;
        let ports = [old.port(), fleet.replica.port()];
        let proxy = fleet.proxy(&ports, ON).await;
        let mut client = Raw::login(proxy.port(), "app", "postgres", &[]).await;
        for text in ["select 1", "begin", "insert into acked values (1)"] {
            client.ask(&Raw::query(text)).await;
        }
        old.fail_for_good(cut("commit", passes));
        client.send(&Raw::query("commit")).await;
        until("the commit has come", async || old.left() == 0).await;
        if passes {
            until("it is committed", async || {
                fleet
                    .primary
                    .sql("select count(*) from acked")
                    .await
                    .unwrap()
                    == "1"
            })
            .await;
        }
        fleet.primary.kill9();
        fleet.primary.restart().await.unwrap();
        // Ids are handed out again.
        fleet
            .primary
            .sql("create table later (x int)")
            .await
            .unwrap();
        old.lead_to(fleet.primary.port()).await;
        let messages = client.ready().await;
        let told = messages.first().map(|message| message.tag);
        assert_eq!(told, Some(if passes { 'C' } else { 'E' }), "{messages:?}");
        let there = fleet
            .primary
            .sql("select count(*) from acked")
            .await
            .unwrap();
        assert_eq!(there, if passes { "1" } else { "0" });
    }
}

/// A commit that both servers have and whose answer is lost. Its client's user may read no file there.
struct Answerless {
    fleet: Fleet,
    proxy: Proxy,
    client: Raw,
    /// Before the replica.
    new: Node,
    _old: Node,
}

const COUNT: &str = "select count(*) from acked";

impl Answerless {
    async fn new(more: &str) -> Self {
        let fleet = Fleet::new().await;
        for sql in [
            "alter role app nosuperuser",
            "grant all on acked to app",
            "create role watcher login superuser",
            // What there is to be written makes the checkpoint of the promotion take minutes by itself.
            "create table many as select x, repeat('x', 500) as y from generate_series(1, 20000) x",
        ] {
            fleet.primary.sql(sql).await.unwrap();
        }
        fleet.replica.caught_up(&fleet.primary).await.unwrap();
        let old = Node::new(fleet.primary.port()).await;
        let new = Node::new(fleet.replica.port()).await;
        let more = format!("{ON}{more}");
        let proxy = fleet.proxy(&[old.port(), new.port()], &more).await;
        let mut client = Raw::login(proxy.port(), "app", "postgres", &[]).await;
        for text in ["select 1", "begin", "insert into acked values (1)"] {
            client.ask(&Raw::query(text)).await;
        }
        old.fail_for_good(cut("commit", true));
        client.send(&Raw::query("commit")).await;
        until("the commit has come", async || old.left() == 0).await;
        until("it is committed", async || {
            fleet.primary.sql(COUNT).await.unwrap() == "1"
        })
        .await;
        fleet.replica.caught_up(&fleet.primary).await.unwrap();
        Self {
            fleet,
            proxy,
            client,
            new,
            _old: old,
        }
    }

    /// The new primary makes its first checkpoint.
    async fn checkpoint(&self) {
        let replica = &self.fleet.replica;
        replica.sql("checkpoint").await.unwrap();
        let last = "select timeline_id from pg_control_checkpoint()";
        assert_eq!(replica.sql(last).await.unwrap(), "2");
    }

    async fn is_told_of_success(&mut self) {
        assert_eq!(self.client.ask(&[]).await, "C ZI");
        assert_eq!(self.fleet.replica.sql(COUNT).await.unwrap(), "1");
    }
}

/// The new primary makes a checkpoint before any connection of a pool is opened to it. The monitor has seen its promotion.
#[tokio::test]
async fn a_promotion_that_was_only_looked_at_is_enough_to_tell() {
    let mut lost = Answerless::new("").await;
    let console = connect(&lost.proxy.url("app", "pgherd")).await;
    // Until this is over, no pool opens a connection.
    console.batch_execute("pause postgres").await.unwrap();
    lost.fleet.primary.kill9();
    lost.fleet.replica.promote().await.unwrap();
    until("the new primary is seen", async || {
        let host = lost.fleet.host(&console, lost.new.port()).await;
        host.get("writer") == Some("yes")
    })
    .await;
    lost.checkpoint().await;
    console.batch_execute("resume postgres").await.unwrap();
    lost.is_told_of_success().await;
}

/// Nobody has looked between the promotion and the checkpoint behind it, but over a connection that is older than both.
#[tokio::test]
async fn a_promotion_that_was_slept_through_is_enough_to_tell() {
    let mut lost = Answerless::new("").await;
    lost.proxy.signal(Signal::STOP);
    lost.fleet.primary.kill9();
    lost.fleet.replica.promote().await.unwrap();
    lost.checkpoint().await;
    lost.proxy.signal(Signal::CONT);
    lost.is_told_of_success().await;
}

/// The new primary was started again before anybody could look, so that only its history file tells where it began. The user
/// who looks may read that.
#[tokio::test]
async fn what_the_client_may_not_read_is_read_by_who_looks() {
    let watcher = "user = \"watcher\"\n[users.watcher]\npassword = \"w\"\n";
    for (more, told) in [(watcher, "C ZI"), ("", "E08007 ZI")] {
        let mut lost = Answerless::new(more).await;
        lost.new.lead_to(NOWHERE).await;
        lost.fleet.primary.kill9();
        lost.fleet.replica.promote().await.unwrap();
        lost.fleet.replica.stop(Stop::Fast).await.unwrap();
        lost.fleet.replica.restart().await.unwrap();
        lost.new.lead_to(lost.fleet.replica.port()).await;
        assert_eq!(lost.client.ask(&[]).await, told);
        assert_eq!(lost.fleet.replica.sql(COUNT).await.unwrap(), "1");
    }
}
