//! A commit over both shards is all or nothing, wherever the proxy dies or a connection breaks.

use std::time::{Duration, Instant};

use pgherd_tests::{Proxy, Raw, connect, until};
use rustix::process::Signal;

use crate::faults::tapped;
use crate::rig::{Rig, key, keys};
use crate::tap::{Fault, Rule, When};
use crate::transactions::{filled, part, sum};

/// The steps of a commit that both shards were written to: the shard, what is sent there, and whether it is
/// committed before and behind that.
const STEPS: [(usize, &[u8], bool, bool); 5] = [
    (0, b"pg_current_xact_id_if_assigned", false, false),
    (1, b"PREPARE TRANSACTION", false, false),
    (0, b"INSERT INTO pgherd.decisions", false, false),
    (0, b"Q\0\0\0\x0bCOMMIT\0", false, true),
    (1, b"COMMIT PREPARED", true, true),
];

/// What is expected of one transfer.
struct Case {
    number: usize,
    rule: Rule,
    shard: usize,
    committed: bool,
    kills: bool,
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (shard, pattern, before, behind) in STEPS {
        for (when, committed) in [(When::Before, before), (When::After, behind)] {
            for (fault, kills) in [(Fault::Cut, false), (Fault::Silence, true)] {
                let rule = Rule {
                    pattern,
                    when,
                    fault,
                };
                cases.push(Case {
                    number: cases.len(),
                    rule,
                    shard,
                    committed,
                    kills,
                });
            }
        }
    }
    cases
}

/// Sends money through a proxy of its own, which dies or loses a connection meanwhile.
async fn transfer(rig: &Rig, case: Case) {
    let (taps, proxy) = tapped(rig).await;
    let mut raw = Raw::login(proxy.port(), "app", "shop", &[]).await;
    let (from, to) = (
        keys(0).nth(case.number).unwrap(),
        keys(1).nth(case.number).unwrap(),
    );
    for text in [
        "begin".to_owned(),
        format!("update accounts set amount = amount - 10 where id = {from}"),
        format!("update accounts set amount = amount + 10 where id = {to}"),
    ] {
        assert_eq!(raw.ask(&Raw::query(&text)).await, "C ZT", "{text}");
    }
    let tap = &taps[case.shard];
    tap.arm(case.rule);
    raw.send(&Raw::query("commit")).await;
    tap.hit().await;
    if case.kills {
        proxy.signal(Signal::KILL);
    } else {
        let told = raw.ask(&[]).await;
        let expected = match (case.committed, case.rule.pattern) {
            (true, b"COMMIT PREPARED") => "C ZI",
            (true, _) => "C ZI",
            (false, _) => "E40001 ZI",
        };
        assert_eq!(told, expected, "{:?}", case.rule);
        // The session goes on.
        let read = format!("select amount from accounts where id = {from}");
        let amount = if case.committed { "90" } else { "100" };
        assert_eq!(raw.one(&read).await, amount, "{:?}", case.rule);
    }
}

/// Both sides of a transfer are as they should be.
async fn check(rig: &Rig, case: &Case) {
    for (at, change) in [(0, -10), (1, 10)] {
        let id = keys(at).nth(case.number).unwrap();
        let expected = 100 + if case.committed { change } else { 0 };
        let question = format!("select amount from accounts where id = {id}");
        let amount = rig.shards[usize::from(at)].sql(&question).await;
        assert_eq!(amount, expected.to_string(), "{:?}", case.rule);
    }
}

#[tokio::test]
async fn a_commit_is_all_or_nothing_wherever_it_is_cut_off() {
    let rig = Rig::new("").await;
    for (at, shard) in (0..).zip(&rig.shards) {
        for id in keys(at).take(cases().len() + 1) {
            shard
                .sql(&format!("insert into accounts values ({id}, 'x', 100)"))
                .await;
        }
    }
    // The table is made by the first that needs it.
    let client = connect(&rig.proxy.url("app", "shop")).await;
    client
        .batch_execute("update accounts set amount = 100")
        .await
        .unwrap();
    let names: Vec<String> = rig
        .shards
        .iter()
        .map(|shard| format!("'{}'", shard.name))
        .collect();
    let left = format!(
        "select count(*) from pg_prepared_xacts where database in ({})",
        names.join(", ")
    );
    // More rounds are the long form.
    let rounds = std::env::var("PGHERD_SHARDED_ROUNDS").map_or(1, |rounds| rounds.parse().unwrap());
    for _ in 0..rounds {
        let transfers = cases().into_iter().map(|case| transfer(&rig, case));
        futures_util::future::join_all(transfers).await;
        until("nothing is left prepared", async || {
            rig.shards[0].sql(&left).await == "0"
        })
        .await;
        for case in cases() {
            check(&rig, &case).await;
        }
        client
            .batch_execute("update accounts set amount = 100")
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_coordinator_that_crashes_leaves_nothing_half_done() {
    let rig = Rig::new("").await;
    let (from, to) = (keys(0).next().unwrap(), keys(1).next().unwrap());
    for (shard, id) in rig.shards.iter().zip([from, to]) {
        let insert = format!("insert into accounts values ({id}, 'x', 0)");
        shard.sql(&insert).await;
    }
    // Each coordinator panics some milliseconds after its birth, wherever it is by then.
    let config = Rig::config(&rig.shards, "");
    let proxy = Proxy::start_by(&config, |command| {
        command.env("CHAOS_CRASH", "root/transactions/coordinators/*");
    })
    .await;
    let mut raw = Raw::login(proxy.port(), "app", "shop", &[]).await;
    let mut amount = 0;
    let amounts = async || {
        let mut found = Vec::new();
        for shard in &rig.shards {
            let amount = shard.sql("select amount from accounts").await;
            found.push(amount.parse::<i32>().unwrap());
        }
        found
    };
    let mut told = std::collections::BTreeMap::new();
    for _ in 0..60 {
        for text in [
            "begin".to_owned(),
            format!("update accounts set amount = amount - 1 where id = {from}"),
            format!("update accounts set amount = amount + 1 where id = {to}"),
        ] {
            assert_eq!(raw.ask(&Raw::query(&text)).await, "C ZT", "{text}");
        }
        let answer = raw.ask(&Raw::query("commit")).await;
        let next = match answer.as_str() {
            "C ZI" => amount + 1,
            "E40001 ZI" => amount,
            other => panic!("{other}"),
        };
        until("all is as the client was told", async || {
            amounts().await == [-next, next]
        })
        .await;
        amount = next;
        *told.entry(answer).or_insert(0) += 1;
    }
    assert!(proxy.log().contains("a test wanted this"), "{told:?}");
    // Its log tells of panics, which is as it should be here.
    proxy.signal(Signal::KILL);
    std::mem::forget(proxy);
}

/// As a proxy leaves it that is gone: nobody waits for a decision that cannot come any more, and nobody takes away one that can.
#[tokio::test]
async fn a_part_is_ended_soon_once_its_decider_is_over_and_not_before() {
    let rig = filled("").await;
    // The table is made by the first that needs it.
    let mut raw = rig.raw().await;
    let all = Raw::query("update accounts set amount = amount");
    assert_eq!(raw.ask(&all).await, "C ZI");
    let [first, second] = &rig.shards[..] else {
        panic!("there are two shards");
    };
    let (id, lock) = ("0123456789abcdef0000000000000007", 7);
    let decider = connect(&first.url("app")).await;
    let begin = format!("begin; select pg_advisory_xact_lock_shared({lock})");
    decider.batch_execute(&begin).await.unwrap();
    let other = connect(&second.url("app")).await;
    let part = format!(
        "begin; update accounts set amount = 0 where id = {}; \
         prepare transaction 'pgherd:{id}:1:{}:shop'",
        key(1),
        first.name
    );
    other.batch_execute(&part).await.unwrap();
    let left = |older: u32| {
        format!(
            "select count(*) from pg_prepared_xacts where database = current_database() \
             and prepared < clock_timestamp() - interval '{older} seconds'"
        )
    };
    until("it has been there for a while", async || {
        second.sql(&left(4)).await == "1"
    })
    .await;
    decider.batch_execute("rollback").await.unwrap();
    let over = Instant::now();
    until("it is ended", async || second.sql(&left(0)).await == "0").await;
    assert!(
        over.elapsed() < Duration::from_secs(3),
        "{:?}",
        over.elapsed()
    );
    let kept = format!("select amount from accounts where id = {}", key(1));
    assert_eq!(second.sql(&kept).await, "100");
}

/// Whoever reads a configuration without the shard would never find what is prepared there, which keeps its locks.
#[tokio::test]
async fn no_reload_leaves_out_a_shard_where_something_is_prepared() {
    let rig = filled("").await;
    // The table is made by the first that needs it.
    let mut raw = rig.raw().await;
    let all = Raw::query("update accounts set amount = amount");
    assert_eq!(raw.ask(&all).await, "C ZI");
    let [first, second] = &rig.shards[..] else {
        panic!("there are two shards");
    };
    let (id, lock) = ("0123456789abcdef0000000000000008", 8);
    // It is not ended while its decider is not over.
    let decider = connect(&first.url("app")).await;
    let begin = format!("begin; select pg_advisory_xact_lock_shared({lock})");
    decider.batch_execute(&begin).await.unwrap();
    let other = connect(&second.url("app")).await;
    let part = format!(
        "begin; update accounts set amount = 0 where id = {}; \
         prepare transaction 'pgherd:{id}:1:{}:shop'",
        key(1),
        first.name
    );
    other.batch_execute(&part).await.unwrap();
    let console = connect(&rig.proxy.url("app", "pgherd")).await;
    let parts = async || {
        let rows = console.simple_query("show transactions").await.unwrap();
        let text = format!("{rows:?}");
        text.matches(id).count()
    };
    until("it is found", async || parts().await == 1).await;
    rig.proxy.rewrite(&Rig::config(&rig.shards[..1], ""));
    rig.proxy.signal(Signal::HUP);
    rig.proxy
        .logged("the configuration stays as it was", 1)
        .await;
    assert!(rig.proxy.log().contains("cannot be left out"));
    // What it is decided by counts, too.
    rig.proxy.rewrite(&Rig::config(&rig.shards[1..], ""));
    rig.proxy.signal(Signal::HUP);
    rig.proxy
        .logged("the configuration stays as it was", 2)
        .await;
    decider.batch_execute("rollback").await.unwrap();
    until("it is ended", async || parts().await == 0).await;
    rig.proxy.rewrite(&Rig::config(&rig.shards[..1], ""));
    rig.proxy.signal(Signal::HUP);
    rig.proxy.logged("configuration reloaded", 1).await;
}

/// Neither a decision that it was about to make nor one that it has made is waited for.
#[tokio::test]
async fn a_proxy_that_stands_still_keeps_nobody_out() {
    for (shard, pattern, committed) in [
        (0, &b"Q\0\0\0\x0bCOMMIT\0"[..], false),
        (1, b"COMMIT PREPARED", true),
    ] {
        let rig = filled("").await;
        let (taps, proxy) = tapped(&rig).await;
        let mut raw = Raw::login(proxy.port(), "app", "shop", &[]).await;
        let update = "update accounts set amount = amount + 1";
        for text in ["begin", update] {
            assert_eq!(raw.ask(&Raw::query(text)).await, "C ZT");
        }
        taps[shard].arm(Rule {
            pattern,
            when: When::Before,
            fault: Fault::Pause,
        });
        raw.send(&Raw::query("commit")).await;
        taps[shard].hit().await;
        proxy.signal(Signal::STOP);
        let amounts = async || sum(&rig, "select sum(amount) from accounts").await;
        let (found, told) = match committed {
            true => (606, "C ZI"),
            false => (600, "E40001 ZI"),
        };
        let left = "select count(*) from pg_prepared_xacts where database = current_database()";
        until("the other proxy has ended it", async || {
            rig.shards[1].sql(left).await == "0"
        })
        .await;
        assert_eq!(amounts().await, found);
        let mut other = rig.raw().await;
        assert_eq!(other.ask(&Raw::query(update)).await, "C ZI");
        // It finds that done when it goes on.
        proxy.signal(Signal::CONT);
        taps[shard].go_on();
        assert_eq!(raw.ask(&[]).await, told);
        assert_eq!(amounts().await, found + 6);
    }
}

#[tokio::test]
async fn what_is_set_for_a_transaction_ends_with_it() {
    let rig = filled("[pool]\nsize = 1").await;
    let mut raw = rig.raw().await;
    let mut told = async |text: &str| {
        raw.send(&Raw::query(text)).await;
        let mut told = Vec::new();
        loop {
            let message = raw.message().await;
            match message.tag {
                'S' => told.push(String::from_utf8(message.body).unwrap()),
                'E' => panic!("{text}: {message:?}"),
                'Z' => return told,
                _ => {}
            }
        }
    };
    let (tokyo, paris) = ("TimeZone\0Asia/Tokyo\0", "TimeZone\0Europe/Paris\0");
    assert_eq!(told("set timezone = 'Europe/Paris'").await, [paris]);
    for end in ["commit", "rollback"] {
        told("begin").await;
        told("update accounts set amount = amount").await;
        assert_eq!(told("set local timezone = 'Asia/Tokyo'").await, [tokyo]);
        assert_eq!(told(end).await, [paris], "{end}");
    }
    // Each shard has one connection, and nobody gets it as what it is not.
    let zone = [("TimeZone", "Asia/Tokyo")];
    let mut other = Raw::login(rig.proxy.port(), "app", "shop", &zone).await;
    for at in [0, 1] {
        let read = format!(
            "select current_setting('timezone') from accounts where id = {}",
            key(at)
        );
        assert_eq!(other.one(&read).await, "Asia/Tokyo");
        assert_eq!(raw.one(&read).await, "Europe/Paris");
    }
}

#[tokio::test]
async fn an_end_in_a_pipeline_is_one() {
    let rig = filled("").await;
    let mut raw = rig.raw().await;
    let add = part("update accounts set amount = amount + 1");
    let amounts = async || sum(&rig, "select sum(amount) from accounts").await;
    let back = [add.clone(), part("rollback"), Raw::sync()].concat();
    assert_eq!(raw.ask(&back).await, "1 2 C 1 2 C ZI");
    assert_eq!(amounts().await, 600);
    let kept = [add.clone(), part("commit"), part("select 1/0"), Raw::sync()].concat();
    // Postgres computes what is constant when it plans, which is at the Bind.
    assert_eq!(raw.ask(&kept).await, "1 2 C 1 2 C 1 E22012 ZI");
    assert_eq!(amounts().await, 606);
    // Behind an error nothing is run before the Sync, in whatever protocol it comes.
    let failing = [
        add,
        part("select 1/0"),
        Raw::query("update accounts set amount = 0"),
        Raw::sync(),
    ];
    assert_eq!(raw.ask(&failing.concat()).await, "1 2 C 1 E22012 ZI");
    assert_eq!(amounts().await, 606);
}

#[tokio::test]
async fn a_decision_is_as_old_as_itself() {
    let rig = filled("").await;
    let mut raw = rig.raw().await;
    for text in ["begin", "update accounts set amount = amount"] {
        raw.ask(&Raw::query(text)).await;
    }
    let before = rig.shards[0].sql("select clock_timestamp()").await;
    assert_eq!(raw.ask(&Raw::query("commit")).await, "C ZI");
    let later = format!(
        "select count(*) from pgherd.decisions where decided > '{before}' and transaction like '%:shop'"
    );
    assert_eq!(sum(&rig, &later).await, 1);
}

#[tokio::test]
async fn who_has_only_read_keeps_its_locks_until_the_writer_has_committed() {
    let rig = filled("").await;
    let (first, second) = (key(0), key(1));
    // What the writer refers to is looked at by its commit, which waits for a lock of ours.
    for shard in &rig.shards {
        shard
            .sql(
                "insert into countries values ('x', 'X'); \
                 alter table accounts add foreign key (owner) references countries \
                 deferrable initially deferred",
            )
            .await;
    }
    let holder = connect(&rig.shards[1].url("app")).await;
    holder
        .batch_execute("begin; select from countries where code = 'at' for update")
        .await
        .unwrap();
    let mut raw = rig.raw().await;
    let read = format!("select amount from accounts where id = {first}");
    let write = format!("update accounts set owner = 'at' where id = {second}");
    for text in ["begin", &read, &write] {
        assert!(raw.ask(&Raw::query(text)).await.ends_with("C ZT"), "{text}");
    }
    raw.send(&Raw::query("commit")).await;
    let waits = "select count(*) from pg_stat_activity \
         where wait_event_type = 'Lock' and datname = current_database()";
    until("the commit waits", async || {
        rig.shards[1].sql(waits).await == "1"
    })
    .await;
    let locks = "select count(*) from pg_locks where relation = 'accounts'::regclass \
         and mode = 'AccessShareLock' and pid <> pg_backend_pid() \
         and database = (select oid from pg_database where datname = current_database())";
    assert_ne!(rig.shards[0].sql(locks).await, "0");
    holder.batch_execute("commit").await.unwrap();
    assert_eq!(raw.ask(&[]).await, "C ZI");
    assert_eq!(rig.shards[0].sql(locks).await, "0");
}

#[tokio::test]
async fn what_is_only_bound_must_be_sound() {
    let rig = filled("").await;
    let mut raw = rig.raw().await;
    let add = part("update accounts set amount = amount + 1");
    let amounts = async || sum(&rig, "select sum(amount) from accounts").await;
    let number = Raw::parse("", "select $1::int");
    let wrong = [number.clone(), Raw::bind("", "", &["abc"])].concat();
    let all = [add.clone(), wrong.clone(), Raw::sync()].concat();
    assert_eq!(raw.ask(&all).await, "1 2 C 1 E22P02 ZI");
    assert_eq!(amounts().await, 600);
    let all = [add.clone(), number, Raw::bind("", "", &["7"]), Raw::sync()].concat();
    assert_eq!(raw.ask(&all).await, "1 2 C 1 2 ZI");
    assert_eq!(amounts().await, 606);
    assert_eq!(raw.ask(&Raw::query("begin")).await, "C ZT");
    let all = [add, wrong, Raw::sync()].concat();
    assert_eq!(raw.ask(&all).await, "1 2 C 1 E22P02 ZE");
    assert_eq!(raw.ask(&Raw::query("commit")).await, "C ZI");
    assert_eq!(amounts().await, 606);
}

#[tokio::test]
async fn portals_and_cursors_stay_where_they_are() {
    let rig = filled("").await;
    let mut raw = rig.raw().await;
    let read = |id: i64| format!("select amount from accounts where id = {id}");
    let (first, second) = (key(0), key(1));
    raw.ask(&Raw::query("begin")).await;
    let portal = [
        Raw::parse("", &read(first)),
        Raw::bind("c", "", &[]),
        Raw::execute("c", 1),
        Raw::sync(),
    ];
    assert_eq!(raw.ask(&portal.concat()).await, "1 2 D s ZT");
    assert_eq!(raw.ask(&Raw::query(&read(second))).await, "E0A000 ZE");
    raw.ask(&Raw::query("rollback")).await;
    let declare = |id: i64| format!("declare c{id} cursor for {}", read(id));
    raw.ask(&Raw::query("begin")).await;
    for text in [&declare(first), &read(second)] {
        assert!(raw.ask(&Raw::query(text)).await.ends_with("C ZT"), "{text}");
    }
    assert_eq!(raw.ask(&Raw::query(&declare(second))).await, "C ZT");
    for id in [first, second] {
        let fetch = format!("fetch c{id}");
        assert_eq!(raw.ask(&Raw::query(&fetch)).await, "T D C ZT");
    }
    raw.ask(&Raw::query("rollback")).await;
    // Nor does one outlive the savepoint that it is behind.
    for text in ["begin", &read(first), &read(second), "savepoint a"] {
        raw.ask(&Raw::query(text)).await;
    }
    let bound = [
        Raw::parse("", &read(first)),
        Raw::bind("p", "", &[]),
        Raw::sync(),
    ];
    assert_eq!(raw.ask(&bound.concat()).await, "1 2 ZT");
    assert_eq!(raw.ask(&Raw::query("rollback to a")).await, "C ZT");
    let run = [Raw::execute("p", 0), Raw::sync()].concat();
    assert_eq!(raw.ask(&run).await, "E34000 ZE");
}

#[tokio::test]
async fn waits_for_locks_are_bounded_by_the_client_alone() {
    let rig = filled("").await;
    let mut raw = rig.raw().await;
    let effective = "select current_setting('lock_timeout')";
    let update = "update accounts set amount = amount";
    for text in ["begin", update] {
        assert_eq!(raw.ask(&Raw::query(text)).await, "C ZT", "{text}");
    }
    assert_eq!(raw.one("show lock_timeout").await, "0");
    assert_eq!(raw.one(effective).await, "0");
    assert_eq!(raw.ask(&Raw::query("rollback")).await, "C ZI");
    let mut holder = rig.raw().await;
    for text in ["begin", update] {
        assert_eq!(holder.ask(&Raw::query(text)).await, "C ZT", "{text}");
    }
    assert_eq!(raw.ask(&Raw::query("begin")).await, "C ZT");
    let set = "set lock_timeout = '100ms'";
    assert_eq!(raw.ask(&Raw::query(set)).await, "C ZT");
    assert_eq!(raw.ask(&Raw::query(update)).await, "E55P03 ZE");
    assert_eq!(raw.ask(&Raw::query("rollback")).await, "C ZI");
    assert_eq!(holder.ask(&Raw::query("commit")).await, "C ZI");
}
