//! A shard that is lost takes only what is its own with it.

use std::time::Duration;

use pgherd_sandbox::{Binaries, Server};
use pgherd_tests::{Proxy, Raw, connect, until};

use crate::pull::{self, LOCK, WAITS, forms, rows, terminate, waits};
use crate::rig::{Rig, SCHEMA, config, key};
use crate::tap::{Fault, Rule, Tap, When};
use crate::transactions::{filled, part, sum};

async fn shard() -> Server {
    let binaries = Binaries::find().expect("Postgres is needed");
    let server = Server::builder(&binaries).start().await.unwrap();
    server.sql("create role app login superuser").await.unwrap();
    server
}

#[tokio::test]
async fn a_lost_shard_leaves_the_others_alone() {
    let (mut one, two) = (shard().await, shard().await);
    let replica = {
        one.sql("create database a").await.unwrap();
        two.sql("create database b").await.unwrap();
        one.sql_in("a", SCHEMA).await.unwrap();
        two.sql_in("b", SCHEMA).await.unwrap();
        let replica = one.replica().await.unwrap();
        replica.caught_up(&one).await.unwrap();
        replica
    };
    let hosts = format!("127.0.0.1:{}\", \"127.0.0.1:{}", one.port(), replica.port());
    let places = [
        ("a".to_owned(), hosts),
        ("b".to_owned(), format!("127.0.0.1:{}", two.port())),
    ];
    let proxy = Proxy::start(&config(
        &places,
        "[pool]\nsize = 2\n[timeouts]\nhold = \"20s\"",
    ))
    .await;
    let client = connect(&proxy.url("app", "shop")).await;
    let write = |shard: u16| {
        let id = key(shard);
        format!(
            "insert into accounts values ({id}, 'x', 1)
             on conflict (id) do update set amount = accounts.amount + 1"
        )
    };
    client.simple_query(&write(0)).await.unwrap();
    client.simple_query(&write(1)).await.unwrap();
    replica.caught_up(&one).await.unwrap();
    one.kill9();
    // The other shard goes on meanwhile, also for who comes now, and so does what any shard can say.
    for _ in 0..5 {
        client.simple_query(&write(1)).await.unwrap();
    }
    let other = connect(&proxy.url("app", "shop")).await;
    proxy.logged("there is no primary", 1).await;
    assert_eq!(other.one("select count(*) from countries").await, "2");
    let waits = client.share();
    let text = write(0);
    let waits = tokio::spawn(async move { waits.simple_query(&text).await.map(drop) });
    // Nor do those who want both, and more of them than there are connections.
    let mut both = Vec::new();
    for _ in 0..4 {
        let client = connect(&proxy.url("app", "shop")).await;
        both.push(tokio::spawn(async move {
            client
                .column("select id from accounts")
                .await
                .unwrap()
                .len()
        }));
    }
    for _ in 0..20 {
        other.simple_query(&write(1)).await.unwrap();
    }
    assert!(both.iter().all(|waits| !waits.is_finished()));
    assert_eq!(other.one("select count(*) from countries").await, "2");
    replica.promote().await.unwrap();
    waits.await.unwrap().unwrap();
    for client in both {
        assert_eq!(client.await.unwrap(), 2);
    }
    let amount = |shard: u16| format!("select amount from accounts where id = {}", key(shard));
    until("each write was done once", async || {
        other.one(&amount(0)).await == "2" && other.one(&amount(1)).await == "26"
    })
    .await;
}

/// Who is told something was told it after five seconds.
#[tokio::test]
async fn who_holds_no_shard_waits_for_one_that_is_away_and_who_does_is_told_to_begin_anew() {
    let (one, mut two) = (shard().await, shard().await);
    for (server, name, number) in [(&one, "a", 0), (&two, "b", 1)] {
        let create = format!("create database {name}");
        server.sql(&create).await.unwrap();
        let rows = format!(
            "{SCHEMA} insert into accounts values ({}, 'x', 1)",
            key(number)
        );
        server.sql_in(name, &rows).await.unwrap();
    }
    let replica = two.replica().await.unwrap();
    replica.caught_up(&two).await.unwrap();
    let hosts = format!("127.0.0.1:{}\", \"127.0.0.1:{}", two.port(), replica.port());
    let places = [
        ("a".to_owned(), format!("127.0.0.1:{}", one.port())),
        ("b".to_owned(), hosts),
    ];
    let proxy = Proxy::start(&config(&places, "[timeouts]\nhold = \"30s\"")).await;
    let add = "update accounts set amount = amount + 1";
    let client = connect(&proxy.url("app", "shop")).await;
    client.simple_query(add).await.unwrap();
    replica.caught_up(&two).await.unwrap();
    let mut holder = Raw::login(proxy.port(), "app", "shop", &[]).await;
    let write = |shard| Raw::query(&format!("{add} where id = {}", key(shard)));
    for text in [Raw::query("begin"), write(0)] {
        assert_eq!(holder.ask(&text).await, "C ZT");
    }
    two.kill9();
    proxy.logged("there is no primary", 1).await;
    let waits = client.share();
    let mut waits = tokio::spawn(async move { waits.simple_query(add).await.map(drop) });
    assert_eq!(holder.ask(&write(1)).await, "E40001 ZE");
    assert_eq!(holder.ask(&Raw::query("rollback")).await, "C ZI");
    let told = tokio::time::timeout(Duration::from_secs(1), &mut waits).await;
    assert!(
        told.is_err(),
        "it was asked before the other was told: {told:?}"
    );
    let open = "select count(*) from pg_stat_activity
         where usename = 'app' and state like 'idle in transaction%'";
    assert_eq!(one.sql(open).await.unwrap(), "0", "it holds nothing");
    replica.promote().await.unwrap();
    waits.await.unwrap().unwrap();
    assert_eq!(client.one("select sum(amount) from accounts").await, "6");
}

/// It says so (57P01), which is a word, and nothing that the client was told.
#[tokio::test]
async fn a_server_that_ends_a_read_before_its_first_row_costs_no_error() {
    let rig = pull::filled("").await;
    for text in [
        "select n from entries",
        "select n from entries order by n",
        "select sum(n) from entries",
        "select a.amount, e.n from accounts a join entries e on e.what = a.owner order by 1, 2",
    ] {
        let mut raw = rig.raw().await;
        for bytes in forms(text) {
            raw.send(&bytes).await;
            let expected = rows(&raw.ready().await);
            for (at, shard) in rig.shards.iter().enumerate() {
                let writer = connect(&shard.url("postgres")).await;
                writer.simple_query(LOCK).await.unwrap();
                raw.send(&bytes).await;
                waits(&rig, at).await;
                terminate(shard, WAITS).await;
                // It is asked once more.
                waits(&rig, at).await;
                writer.simple_query("rollback").await.unwrap();
                assert_eq!(rows(&raw.ready().await), expected, "{text}");
            }
        }
    }
}

/// A proxy that comes to the shards through relays.
pub(crate) async fn tapped(rig: &Rig) -> (Vec<Tap>, Proxy) {
    tapped_with(rig, "").await
}

/// The same; `more` are tables of its configuration.
pub(crate) async fn tapped_with(rig: &Rig, more: &str) -> (Vec<Tap>, Proxy) {
    let mut taps = Vec::new();
    for shard in &rig.shards {
        taps.push(Tap::before(shard.port).await);
    }
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
    let proxy = Proxy::start(&config(&places, &(plain + more))).await;
    (taps, proxy)
}

#[tokio::test]
async fn a_connection_that_breaks_before_its_server_says_a_word_is_replaced() {
    let rig = filled("").await;
    let (taps, proxy) = tapped(&rig).await;
    let mut raw = Raw::login(proxy.port(), "app", "shop", &[]).await;
    let cut = |pattern: &'static [u8]| Rule {
        pattern,
        when: When::Before,
        fault: Fault::Cut,
    };
    for text in [
        "select amount from accounts",
        "select amount from accounts order by id",
        "select owner, count(*) from accounts group by owner",
        "select a.id from accounts a join accounts b on b.amount = a.amount + 7",
    ] {
        let piped = [part(text), part(text), Raw::sync()].concat();
        for bytes in [Raw::query(text), piped] {
            let expected = raw.ask(&bytes).await;
            for tap in &taps {
                tap.arm(cut(b"accounts"));
                assert_eq!(raw.ask(&bytes).await, expected, "{text}");
                tap.hit().await;
            }
        }
    }
    let add = "update accounts set amount = amount + 1";
    for tap in &taps {
        tap.arm(cut(b"BEGIN\n; "));
        assert_eq!(raw.ask(&Raw::query(add)).await, "C ZI");
        tap.hit().await;
    }
    assert_eq!(sum(&rig, "select sum(amount) from accounts").await, 612);
    // What may have run is not run again.
    taps[1].arm(cut(b"amount + 1"));
    assert_eq!(raw.ask(&Raw::query(add)).await, "E40001 ZI");
    assert_eq!(sum(&rig, "select sum(amount) from accounts").await, 612);
}

#[tokio::test]
async fn nothing_behind_the_commit_of_a_lost_block_is_run() {
    let rig = filled("").await;
    let (taps, proxy) = tapped(&rig).await;
    let mut raw = Raw::login(proxy.port(), "app", "shop", &[]).await;
    let insert = format!("insert into entries values ({}, 1, 'x')", key(0));
    for pipeline in [
        vec![part("commit"), part("commit"), part(&insert)],
        vec![part("commit"), part(&insert)],
        vec![part("commit")],
    ] {
        assert_eq!(raw.ask(&Raw::query("begin")).await, "C ZT");
        let add = "update accounts set amount = amount + 1";
        taps[1].arm(Rule {
            pattern: b"amount + 1",
            when: When::Before,
            fault: Fault::Cut,
        });
        assert_eq!(raw.ask(&Raw::query(add)).await, "E40001 ZE");
        let told = raw.ask(&[pipeline.concat(), Raw::sync()].concat()).await;
        assert_eq!(told, "1 2 E40001 ZI");
        assert_eq!(sum(&rig, "select count(*) from entries").await, 0);
    }
    let told = raw.ask(&Raw::query(&insert)).await;
    assert_eq!(told, "C ZI");
}

/// Ends the connection of a block to a shard, and waits until the others are given back.
async fn hang_up(rig: &Rig, shard: usize) {
    const OPEN: &str = "from pg_stat_activity where state like 'idle in transaction%' \
                        and datname = current_database()";
    let end = format!("select count(pg_terminate_backend(pid)) {OPEN}");
    assert_eq!(rig.shards[shard].sql(&end).await, "1");
    for shard in &rig.shards {
        until("the block is over", async || {
            shard.sql(&format!("select count(*) {OPEN}")).await == "0"
        })
        .await;
    }
}

#[tokio::test]
async fn a_pipeline_whose_server_hangs_up_before_its_sync_is_told_so() {
    let rig = filled("").await;
    let mut raw = rig.raw().await;
    let add = part("update accounts set amount = amount + 1");
    let begun = [&add[..], &Raw::flush()].concat();
    for (begin, status) in [("select 1", 'I'), ("begin", 'E')] {
        // Neither may a Sync say that it is done, nor anything behind it be done without it.
        for rest in [vec![], add.clone()] {
            raw.ask(&Raw::query(begin)).await;
            raw.send(&begun).await;
            for expected in ['1', '2', 'C'] {
                assert_eq!(raw.message().await.tag, expected);
            }
            hang_up(&rig, 1).await;
            let told = raw.ask(&[rest, Raw::sync()].concat()).await;
            assert_eq!(told, format!("E40001 Z{status}"), "{begin}");
            assert_eq!(raw.ask(&Raw::query("rollback")).await, "C ZI");
            assert_eq!(sum(&rig, "select sum(amount) from accounts").await, 600);
        }
    }
    // Nor is anything run behind an error, which the client knows of already.
    assert_eq!(raw.ask(&Raw::query("begin")).await, "C ZT");
    raw.send(&[&add[..], &part("select 1 / 0"), &Raw::flush()].concat())
        .await;
    for expected in ['1', '2', 'C', '1', 'E'] {
        assert_eq!(raw.message().await.tag, expected);
    }
    hang_up(&rig, 1).await;
    assert_eq!(raw.ask(&[&add[..], &Raw::sync()].concat()).await, "ZE");
    assert_eq!(raw.ask(&Raw::query("rollback")).await, "C ZI");
    // What is between a simple query and the next message is no pipeline.
    for text in ["begin", "update accounts set amount = amount + 1"] {
        assert_eq!(raw.ask(&Raw::query(text)).await, "C ZT");
    }
    let query = Raw::query("select 1");
    let told = raw.ask(&[part("select 1"), query.clone()].concat()).await;
    assert_eq!(told, "1 2 D C T D C ZT");
    hang_up(&rig, 1).await;
    assert_eq!(raw.ask(&query).await, "E40001 ZE");
    assert_eq!(raw.ask(&Raw::query("rollback")).await, "C ZI");
}
