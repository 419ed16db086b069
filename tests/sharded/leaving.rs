//! Who is sent away from a transaction over both shards is told so, and what may have become of it.

use pgherd_tests::{Proxy, Raw, connect, until};
use rustix::process::Signal;

use crate::faults::tapped_with;
use crate::rig::{Rig, key};
use crate::tap::{CANCEL, Fault, Rule, When};
use crate::transactions::{filled, part};

const UPDATE: &str = "update accounts set amount = amount + 1";

async fn send_away(proxy: &Proxy, how: &str, clients: &[&Raw]) {
    if how == "shutdown" {
        return proxy.signal(Signal::TERM);
    }
    let console = connect(&proxy.url("app", "pgherd")).await;
    for client in clients {
        let kill = format!("kill_client {}", client.key.0);
        console.simple_query(&kill).await.unwrap();
    }
}

fn update(shard: u16) -> String {
    format!("{UPDATE} where id = {}", key(shard))
}

/// Waits until so many wait for a lock on this shard.
async fn locked(rig: &Rig, shard: usize, count: usize) {
    let waits = "select count(*) from pg_stat_activity \
                 where wait_event_type = 'Lock' and datname = current_database()";
    until("they wait for a lock", async || {
        rig.shards[shard].sql(waits).await == count.to_string()
    })
    .await;
}

#[tokio::test]
async fn who_is_sent_away_from_a_block_over_both_is_told() {
    for how in ["kill", "shutdown"] {
        let rig = filled("[timeouts]\nshutdown = \"100ms\"").await;
        let (first, second) = (key(0), key(1));
        let (mut idle, mut busy) = (rig.raw().await, rig.raw().await);
        let mut describes = rig.raw().await;
        let insert = |n: i32| {
            format!("insert into entries values ({first}, {n}, 'x'), ({second}, {n}, 'x')")
        };
        for (raw, text) in [
            (&mut idle, UPDATE.to_owned()),
            (&mut busy, insert(1)),
            (&mut describes, insert(2)),
        ] {
            assert_eq!(raw.ask(&Raw::query("begin")).await, "C ZT");
            assert_eq!(raw.ask(&Raw::query(&text)).await, "C ZT", "{text}");
        }
        busy.send(&Raw::query(UPDATE)).await;
        locked(&rig, 0, 1).await;
        let holder = connect(&rig.shards[0].url("app")).await;
        holder
            .batch_execute("begin; lock countries in access exclusive mode")
            .await
            .unwrap();
        let described = [
            Raw::parse("", "select name from countries"),
            Raw::describe('S', ""),
            Raw::sync(),
        ];
        describes.send(&described.concat()).await;
        locked(&rig, 0, 2).await;
        let mut copies = rig.raw().await;
        let copy = Raw::query("copy accounts from stdin");
        copies.send(&copy).await;
        assert_eq!(copies.message().await.tag, 'G');
        let row = format!("{first}\tx\t1\n");
        copies.send(&Raw::framed(b'd', row.as_bytes())).await;
        send_away(&rig.proxy, how, &[&busy, &describes, &copies, &idle]).await;
        for client in [&mut busy, &mut describes, &mut copies, &mut idle] {
            assert_eq!(client.farewell().await.0, "57P01", "{how}");
        }
    }
}

/// Two clients in blocks, the second of which waits for the only connection of a shard that the first has.
async fn queued(more: &str) -> (Rig, Raw, Raw) {
    let rig = filled(&format!("[pool]\nsize = 1\n{more}")).await;
    let (mut holder, mut raw) = (rig.raw().await, rig.raw().await);
    for (raw, shard) in [(&mut holder, 1), (&mut raw, 0)] {
        assert_eq!(raw.ask(&Raw::query("begin")).await, "C ZT");
        assert_eq!(raw.ask(&Raw::query(&update(shard))).await, "C ZT");
    }
    raw.send(&Raw::query(&update(1))).await;
    let console = connect(&rig.proxy.url("app", "pgherd")).await;
    until("it waits for a connection", async || {
        let shown = console.simple_query("show clients").await.unwrap();
        format!("{shown:?}").contains("waiting")
    })
    .await;
    (rig, holder, raw)
}

#[tokio::test]
async fn who_waits_for_the_second_shard_is_told_when_it_is_sent_away() {
    let (rig, _holder, mut raw) = queued("").await;
    send_away(&rig.proxy, "kill", &[&raw]).await;
    assert_eq!(raw.farewell().await.0, "57P01");
}

#[tokio::test]
async fn a_block_may_come_to_its_second_shard_while_the_proxy_drains() {
    let (rig, mut holder, mut raw) = queued("[timeouts]\nshutdown = \"25s\"").await;
    rig.proxy.signal(Signal::TERM);
    rig.proxy.logged("draining", 1).await;
    assert_eq!(holder.ask(&Raw::query("commit")).await, "C ZI");
    assert_eq!(raw.ask(&[]).await, "C ZT");
    assert_eq!(raw.ask(&Raw::query("commit")).await, "C ZI");
    assert_eq!(raw.farewell().await.0, "57P01");
    for (shard, amount) in [(0, "101"), (1, "102")] {
        let question = format!("select amount from accounts where id = {}", key(shard));
        let found = rig.shards[usize::from(shard)].sql(&question).await;
        assert_eq!(found, amount);
    }
}

/// A client whose COMMIT is stuck behind the preparation of a part.
async fn committing(rig: &Rig, more: &str) -> (Proxy, Raw, Vec<crate::tap::Tap>) {
    let (taps, proxy) = tapped_with(rig, more).await;
    let mut raw = Raw::login(proxy.port(), "app", "shop", &[]).await;
    for text in ["begin", UPDATE] {
        assert_eq!(raw.ask(&Raw::query(text)).await, "C ZT");
    }
    taps[1].arm(Rule {
        pattern: b"PREPARE TRANSACTION",
        when: When::Before,
        fault: Fault::Silence,
    });
    raw.send(&Raw::query("commit")).await;
    taps[1].hit().await;
    (proxy, raw, taps)
}

#[tokio::test]
async fn who_is_sent_away_while_both_are_committed_is_told_that_it_may_be_there() {
    for how in ["kill", "shutdown"] {
        let rig = filled("").await;
        let more = "[timeouts]\nshutdown = \"100ms\"";
        let (proxy, mut raw, _taps) = committing(&rig, more).await;
        send_away(&proxy, how, &[&raw]).await;
        let (code, hint) = raw.farewell().await;
        assert_eq!(code, "08007", "{how}");
        assert!(hint.contains("unknown"), "{how}: {hint}");
    }
}

#[tokio::test]
async fn of_a_commit_over_both_that_takes_too_long_the_outcome_is_unknown() {
    let rig = filled("").await;
    let more = "[timeouts]\ntransaction = \"12s\"";
    let (_proxy, mut raw, _taps) = committing(&rig, more).await;
    assert_eq!(raw.ask(&[]).await, "E08007 ZI");
    // The session goes on, also where the coordinator waits.
    let read = format!("select amount from accounts where id = {}", key(1));
    assert_eq!(raw.one(&read).await, "100");
}

/// What a client is told up to the end of its connection, in short.
async fn all(client: &mut Raw) -> String {
    let mut words = Vec::new();
    while let Some(message) = client.next().await {
        match message.tag {
            'N' | 'S' => {}
            'E' => words.push(format!("E{}", message.field('C').unwrap_or_default())),
            tag => words.push(tag.to_string()),
        }
    }
    words.join(" ")
}

#[tokio::test]
async fn a_commit_is_told_before_what_ends_its_session() {
    let rig = filled("").await;
    let mut other = rig.raw().await;
    for (sent, told) in [
        (Raw::query(UPDATE), "C"),
        (Raw::query(&format!("{UPDATE}; {UPDATE}")), "C C"),
        ([part(UPDATE), Raw::sync()].concat(), "1 2 C Z"),
    ] {
        let latin = [("client_encoding", "LATIN1")];
        let mut ear = Raw::login(rig.proxy.port(), "app", "shop", &latin).await;
        assert_eq!(ear.ask(&Raw::query("listen news")).await, "C ZI");
        let holder = connect(&rig.shards[0].url("app")).await;
        holder
            .batch_execute("begin; select from accounts for update")
            .await
            .unwrap();
        ear.send(&sent).await;
        locked(&rig, 0, 1).await;
        // It comes once the transaction is over, and cannot be told.
        other.one("select pg_notify('news', 'é')").await;
        holder.batch_execute("commit").await.unwrap();
        assert_eq!(all(&mut ear).await, format!("{told} E0A000"));
    }
}

/// It may arrive at any time, and would hit whoever has the connection then.
#[tokio::test]
async fn a_connection_on_whose_way_a_cancel_got_lost_is_nobodys_behind_the_block() {
    let rig = filled("").await;
    let more = "[pool]\nsize = 1\n[timeouts]\ncancel = \"100ms\"";
    let (taps, proxy) = tapped_with(&rig, more).await;
    let mut raw = Raw::login(proxy.port(), "app", "shop", &[]).await;
    let ask = |what: &str| format!("select {what} from accounts where id = {}", key(0));
    for end in ["commit", "rollback"] {
        assert_eq!(raw.ask(&Raw::query("begin")).await, "C ZT");
        let pid = raw.one(&ask("pg_backend_pid()")).await;
        taps[0].arm(Rule {
            pattern: CANCEL,
            when: When::Before,
            fault: Fault::Silence,
        });
        raw.send(&Raw::query(&ask("pg_sleep(0.5)"))).await;
        Raw::cancel(proxy.port(), &raw.key).await;
        taps[0].hit().await;
        assert_eq!(raw.ask(&[]).await, "T D C ZT", "it got lost");
        assert_eq!(raw.ask(&Raw::query(&update(1))).await, "C ZT");
        assert_eq!(raw.ask(&Raw::query(end)).await, "C ZI");
        assert_ne!(raw.one(&ask("pg_backend_pid()")).await, pid, "{end}");
    }
}
