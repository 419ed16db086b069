//! A commit over both shards is all or nothing, wherever the proxy dies or a connection breaks.

use pgherd_tests::{Proxy, Raw, connect, until};
use rustix::process::Signal;

use crate::rig::{Rig, config, keys};
use crate::tap::{Fault, Rule, Tap, When};

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
    let taps = [
        Tap::before(rig.shards[0].port).await,
        Tap::before(rig.shards[1].port).await,
    ];
    let places = rig.shards.iter().zip(&taps);
    let places: Vec<_> = places
        .map(|(shard, tap)| (shard.name.clone(), format!("127.0.0.1:{}", tap.port)))
        .collect();
    // What is encrypted nobody can look into.
    let plain: String = rig
        .shards
        .iter()
        .map(|shard| format!("[databases.{}.tls]\nmode = \"disable\"\n", shard.name))
        .collect();
    let proxy = Proxy::start(&config(&places, &plain)).await;
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
