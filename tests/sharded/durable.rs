//! A decision counts once it is as safe as a commit of its server has to be, and whoever ends a part of it.

use pgherd_sandbox::{Binaries, Server};
use pgherd_tests::{Proxy, Raw, connect, until};

use crate::faults::tapped;
use crate::rig::{SCHEMA, config, key};
use crate::tap::{Fault, Rule, When};
use crate::transactions::filled;

/// Two servers, each with a shard that has one account of a hundred. The first decides.
async fn pair() -> [Server; 2] {
    let binaries = Binaries::find().expect("Postgres is needed");
    // Nothing is flushed that nobody waits for.
    let settings = [("wal_writer_delay", "10s")];
    let mut servers = Vec::new();
    for (shard, name) in [(0, "a"), (1, "b")] {
        let builder = Server::builder(&binaries).settings(&settings);
        let server = builder.start().await.unwrap();
        let create = format!("create database {name}");
        for sql in ["create role app login superuser", &create] {
            server.sql(sql).await.unwrap();
        }
        let fill = format!("insert into accounts values ({}, 'x', 100)", key(shard));
        let sql = format!("{SCHEMA} {fill}");
        server.sql_in(name, &sql).await.unwrap();
        servers.push(server);
    }
    servers.try_into().unwrap()
}

/// A proxy before these servers, the first of which has this replica, and a client that has written to both once.
async fn before(one: &Server, replica: Option<&Server>, two: &Server) -> (Proxy, Raw) {
    let mut hosts = format!("127.0.0.1:{}", one.port());
    if let Some(replica) = replica {
        hosts += &format!("\", \"127.0.0.1:{}", replica.port());
    }
    let places = [
        ("a".to_owned(), hosts),
        ("b".to_owned(), format!("127.0.0.1:{}", two.port())),
    ];
    let proxy = Proxy::start(&config(&places, "")).await;
    let mut raw = Raw::login(proxy.port(), "app", "shop", &[]).await;
    // The table of decisions is made by the first that needs it.
    let all = Raw::query("update accounts set amount = 100");
    assert_eq!(raw.ask(&all).await, "C ZI");
    (proxy, raw)
}

/// Sends money from the first to the second, up to the COMMIT.
async fn transfer(raw: &mut Raw) {
    for text in [
        "begin".to_owned(),
        format!(
            "update accounts set amount = amount - 10 where id = {}",
            key(0)
        ),
        format!(
            "update accounts set amount = amount + 10 where id = {}",
            key(1)
        ),
    ] {
        assert_eq!(raw.ask(&Raw::query(&text)).await, "C ZT", "{text}");
    }
    raw.send(&Raw::query("commit")).await;
}

/// What both have.
async fn amounts(one: &Server, two: &Server) -> [String; 2] {
    let question = "select amount from accounts";
    [
        one.sql_in("a", question).await.unwrap(),
        two.sql_in("b", question).await.unwrap(),
    ]
}

/// Who waits for a standby.
const WAITING: &str = "select pid from pg_stat_activity where wait_event = 'SyncRep'";

/// Waits until somebody waits for a standby who is not `other`.
async fn somebody_waits(server: &Server, other: &str) -> String {
    let mut pid = String::new();
    until("somebody waits for a standby", async || {
        pid = server.sql(WAITING).await.unwrap();
        !pid.is_empty() && pid != other
    })
    .await;
    pid
}

async fn standbys(server: &Server, names: &str) {
    let sql = format!("alter system set synchronous_standby_names = '{names}'");
    server.sql(&sql).await.unwrap();
    server.sql("select pg_reload_conf()").await.unwrap();
    until("commits wait for a standby", async || {
        server.sql("show synchronous_standby_names").await.unwrap() == names
    })
    .await;
}

/// The row is there, and its server would not acknowledge it yet. The standby comes back, or takes over without it.
#[tokio::test]
async fn a_decision_that_no_standby_has_is_not_told() {
    for comes_back in [true, false] {
        let [mut one, two] = pair().await;
        let replica = one.replica().await.unwrap();
        let (_proxy, mut raw) = before(&one, Some(&replica), &two).await;
        replica.caught_up(&one).await.unwrap();
        standbys(&one, "*").await;
        match comes_back {
            true => replica.freeze(),
            false => drop(replica.detach().await.unwrap()),
        }
        transfer(&mut raw).await;
        let decider = somebody_waits(&one, "").await;
        // It is committed there by that, and hangs up.
        let end = format!("select pg_terminate_backend({decider})");
        one.sql(&end).await.unwrap();
        somebody_waits(&one, &decider).await;
        let prepared = "select count(*) from pg_prepared_xacts";
        assert_eq!(two.sql(prepared).await.unwrap(), "1");
        let (told, first, expected) = if comes_back {
            replica.thaw();
            ("C ZI", &one, ["90", "110"])
        } else {
            one.kill9();
            replica.promote().await.unwrap();
            ("E40001 ZI", &replica, ["100", "100"])
        };
        assert_eq!(raw.ask(&[]).await, told);
        until("nothing is left prepared", async || {
            two.sql(prepared).await.unwrap() == "0"
        })
        .await;
        assert_eq!(amounts(first, &two).await, expected);
    }
}

/// Ends all waits for a standby.
async fn cancel_waits(server: &Server) {
    const CANCEL: &str =
        "select count(pg_cancel_backend(pid)) from pg_stat_activity where wait_event = 'SyncRep'";
    server.sql(CANCEL).await.unwrap();
}

/// Nobody is told of a wait that was ended who wants to hear of errors alone.
async fn wants_errors_alone(server: &Server) {
    let set = "alter role app set client_min_messages = error";
    server.sql(set).await.unwrap();
}

/// What is prepared on one server alone would be lost with it, behind a decision that counts on it.
#[tokio::test]
async fn nothing_is_decided_by_a_part_that_no_standby_has() {
    let [one, two] = pair().await;
    wants_errors_alone(&two).await;
    let (_proxy, mut raw) = before(&one, None, &two).await;
    standbys(&two, "nobody").await;
    transfer(&mut raw).await;
    somebody_waits(&two, "").await;
    cancel_waits(&two).await;
    assert_eq!(raw.ask(&[]).await, "E40001 ZI");
    standbys(&two, "").await;
    until("nothing is left prepared", async || {
        let prepared = "select count(*) from pg_prepared_xacts";
        two.sql(prepared).await.unwrap() == "0"
    })
    .await;
    assert_eq!(amounts(&one, &two).await, ["100", "100"]);
}

#[tokio::test]
async fn a_decision_that_no_standby_has_is_not_told_whatever_messages_are_wanted() {
    let [one, two] = pair().await;
    wants_errors_alone(&one).await;
    let (_proxy, mut raw) = before(&one, None, &two).await;
    standbys(&one, "nobody").await;
    transfer(&mut raw).await;
    // The decider, and then whoever asks for its row.
    let mut waiting = String::new();
    for _ in 0..3 {
        waiting = somebody_waits(&one, &waiting).await;
        cancel_waits(&one).await;
    }
    somebody_waits(&one, &waiting).await;
    standbys(&one, "").await;
    assert_eq!(raw.ask(&[]).await, "C ZI");
    assert_eq!(amounts(&one, &two).await, ["90", "110"]);
}

/// What the others have committed cannot be taken back.
#[tokio::test]
async fn a_decision_outlives_its_server_whatever_its_client_has_set() {
    let [mut one, two] = pair().await;
    let (_proxy, mut raw) = before(&one, None, &two).await;
    let set = Raw::query("set synchronous_commit = off");
    assert_eq!(raw.ask(&set).await, "C ZI");
    transfer(&mut raw).await;
    assert_eq!(raw.ask(&[]).await, "C ZI");
    one.kill9();
    one.restart().await.unwrap();
    assert_eq!(amounts(&one, &two).await, ["90", "110"]);
}

/// Somebody who recovers is at it at the same moment.
#[tokio::test]
async fn a_part_that_somebody_else_is_ending_is_waited_for() {
    let [one, two] = pair().await;
    two.sql("alter role app set synchronous_commit = local")
        .await
        .unwrap();
    let slow = "create function waits() returns trigger language plpgsql as \
                $$begin perform pg_advisory_xact_lock(5); return null; end$$; \
                create constraint trigger waits after update on accounts deferrable \
                initially deferred for each row execute function waits()";
    let (_proxy, mut raw) = before(&one, None, &two).await;
    one.sql_in("a", slow).await.unwrap();
    standbys(&two, "nobody").await;
    let holder = connect(&one.url("app", "a")).await;
    holder
        .batch_execute("select pg_advisory_lock(5)")
        .await
        .unwrap();
    transfer(&mut raw).await;
    let name = "select gid from pg_prepared_xacts";
    until("the other part is prepared", async || {
        !two.sql(name).await.unwrap().is_empty()
    })
    .await;
    let end = format!("commit prepared '{}'", two.sql(name).await.unwrap());
    let other = connect(&two.url("postgres", "b")).await;
    let ends = tokio::spawn(async move { other.batch_execute(&end).await });
    let ending = somebody_waits(&two, "").await;
    holder
        .batch_execute("select pg_advisory_unlock(5)")
        .await
        .unwrap();
    until("the coordinator was told so", async || {
        let log = std::fs::read_to_string(two.log()).unwrap();
        log.contains("is busy")
    })
    .await;
    let cancel = format!("select pg_cancel_backend({ending})");
    two.sql(&cancel).await.unwrap();
    ends.await.unwrap().unwrap();
    assert_eq!(tags(&mut raw).await, "CZ");
    assert_eq!(amounts(&one, &two).await, ["90", "110"]);
}

/// All that a client is told, warnings too.
async fn tags(raw: &mut Raw) -> String {
    let messages = raw.ready().await;
    messages.iter().map(|message| message.tag).collect()
}

/// The last step is taken again over another connection.
#[tokio::test]
async fn a_connection_that_breaks_at_the_last_step_costs_no_warning() {
    let rig = filled("").await;
    let (taps, proxy) = tapped(&rig).await;
    let mut raw = Raw::login(proxy.port(), "app", "shop", &[]).await;
    for when in [When::Before, When::After] {
        transfer_all(&mut raw).await;
        taps[1].arm(Rule {
            pattern: b"COMMIT PREPARED",
            when,
            fault: Fault::Cut,
        });
        raw.send(&Raw::query("commit")).await;
        taps[1].hit().await;
        assert_eq!(tags(&mut raw).await, "CZ", "{when:?}");
    }
}

async fn transfer_all(raw: &mut Raw) {
    for text in ["begin", "update accounts set amount = amount + 1"] {
        assert_eq!(raw.ask(&Raw::query(text)).await, "C ZT", "{text}");
    }
}
