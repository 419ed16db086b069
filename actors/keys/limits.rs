//! `[limits]`, and those of databases and users.

use bytes::BytesMut;
use pgherd_wire::error::ErrorReport;
use pgherd_wire::{frontend, sqlstate};

use super::client::error;
use super::fake::Door;
use super::{Client, Fake, House, Manners, SHOP};

fn refused(outcome: Result<Client, ErrorReport>) -> String {
    let report = outcome.err().expect("refused");
    assert_eq!(report.code, sqlstate::TOO_MANY_CONNECTIONS);
    report.message
}

#[tokio::test]
async fn max_database_clients_and_max_user_clients() {
    let fake = Fake::plain().await;
    let text = format!(
        "{SHOP}limits = {{ max_clients = 2 }}\n[databases.other]\nhosts = [\"{{host}}\"]\n\
         [limits]\nmax_user_clients = 1\n[users.busy]\nlimits = {{ max_clients = 2 }}\n"
    );
    let house = House::before(&fake, &text).await;
    let enter = |user, database| Client::enter(house.address, user, database);
    let _alice = house.client("alice").await;
    assert_eq!(
        refused(enter("alice", "other").await),
        "no more connections allowed for user \"alice\" (max_user_clients)"
    );
    let busy = house.client("busy").await;
    assert_eq!(
        refused(enter("bob", "shop").await),
        "no more connections allowed for database \"shop\" (max_database_clients)"
    );
    let _another = enter("busy", "other").await.expect("it may have two");
    drop(busy);
    house
        .wait_until("the client has left", || house.facts.sessions.count() == 2)
        .await;
    house.client("bob").await;
    // The console has room when databases have none.
    let report = enter("alice", "pgherd").await.err().expect("no role");
    assert_eq!(report.code, sqlstate::INSUFFICIENT_PRIVILEGE);
}

#[tokio::test]
async fn max_clients_and_max_logins() {
    let fake = Fake::plain().await;
    let limits = "[limits]\nmax_clients = 2\nmax_logins = 1\n[users.boss]\nconsole = \"admin\"\n";
    let house = House::before(&fake, &format!("{SHOP}{limits}")).await;
    let enter = |user, database| Client::enter(house.address, user, database);
    // Whoever has begun to speak makes room for nobody.
    let mut slow = Client::silent(house.address).await;
    slow.send(&[0]).await;
    house
        .wait_until("it is counted", || house.facts.sessions.logins.count() == 1)
        .await;
    let logins = "too many clients are logging in (max_logins)";
    assert_eq!(refused(enter("alice", "shop").await), logins);
    // Who looks after it gets in all the same, and nobody who only says so.
    let boss = enter("boss", "pgherd").await.expect("an admin");
    assert_eq!(refused(enter("alice", "pgherd").await), logins);
    drop((slow, boss));
    house
        .wait_until("they have left", || house.facts.sessions.count() == 0)
        .await;
    let clients = (house.client("a").await, house.client("b").await);
    let full = "no more connections allowed (max_clients)";
    assert_eq!(refused(enter("alice", "shop").await), full);
    let mut bosses = Vec::new();
    for _ in 0..4 {
        bosses.push(enter("boss", "pgherd").await.expect("an admin"));
    }
    assert_eq!(refused(enter("boss", "pgherd").await), full);
    house
        .reload(
            &fake,
            &format!("{SHOP}[limits]\nmax_clients = 3\nmax_logins = 1\n"),
        )
        .await;
    let third = house.client("c").await;
    drop(clients);
    house
        .wait_until("they have left", || house.facts.sessions.count() == 5)
        .await;
    let _others = (house.client("a").await, house.client("b").await);
    assert_eq!(refused(enter("alice", "shop").await), full);
    drop(third);
}

#[tokio::test]
async fn who_says_nothing_makes_room_for_who_does() {
    let fake = Fake::plain().await;
    let house = House::before(&fake, &format!("{SHOP}[limits]\nmax_logins = 1\n")).await;
    let mut silent = Client::silent(house.address).await;
    house
        .wait_until("it is counted", || house.facts.sessions.logins.count() == 1)
        .await;
    // It may be on the point of speaking, for a moment.
    let mut entered = None;
    while entered.is_none() {
        entered = Client::enter(house.address, "alice", "shop").await.ok();
    }
    assert!(silent.message().await.is_none(), "it is gone, untold");
    house
        .wait_until("its place is free", || {
            house.facts.sessions.logins.count() == 0
        })
        .await;
}

/// Whoever comes in the end, or what else it is told than `busy`; for a moment those who are silent may be about to speak.
async fn comes_in(house: &House, busy: &str) -> Result<Client, ErrorReport> {
    let tries = async {
        loop {
            match Client::enter(house.address, "alice", "shop").await {
                Err(report) if report.message == busy => {}
                outcome => return outcome,
            }
        }
    };
    let limit = std::time::Duration::from_secs(10);
    tokio::time::timeout(limit, tries).await.expect("in time")
}

#[tokio::test]
async fn who_says_nothing_makes_room_where_there_is_none_for_more_clients() {
    let fake = Fake::plain().await;
    let logins = "too many clients are logging in (max_logins)";
    for (limits, busy) in [
        ("max_clients = 1", FULL),
        ("max_clients = 1\nmax_logins = 1", logins),
    ] {
        let house = House::before(&fake, &format!("{SHOP}[limits]\n{limits}\n")).await;
        let mut silent = Client::silent(house.address).await;
        house
            .wait_until("it is counted", || house.facts.sessions.logins.count() == 1)
            .await;
        let entered = comes_in(&house, busy).await;
        let client = entered.unwrap_or_else(|report| panic!("{limits}: {}", report.message));
        assert!(silent.message().await.is_none(), "it is gone, untold");
        house
            .wait_until("no place is left taken", || {
                let sessions = &house.facts.sessions;
                (sessions.logins.count(), sessions.count()) == (0, 1)
            })
            .await;
        // Who is served makes room for nobody.
        assert_eq!(
            refused(Client::enter(house.address, "bob", "shop").await),
            FULL
        );
        drop(client);
        house
            .wait_until("all have left", || house.facts.sessions.count() == 0)
            .await;
        house.client("bob").await;
    }
}

const FULL: &str = "no more connections allowed (max_clients)";

/// As a connection of its own, a cancel request comes on top of who is there.
#[tokio::test]
async fn a_proxy_that_is_full_cancels() {
    let fake = Fake::plain().await;
    let house = House::before(&fake, &format!("{SHOP}[limits]\nmax_clients = 1\n")).await;
    let mut client = house.client("alice").await;
    client.ask("SLEEP").await;
    house
        .wait_until("it runs", || fake.count("SLEEP") == 1)
        .await;
    let key = {
        let controls = house.facts.sessions.all();
        controls[0].key.get().cloned().expect("a key")
    };
    let mut request = BytesMut::new();
    pgherd_wire::startup::cancel_request(&mut request, &key);
    let mut asker = Client::silent(house.address).await;
    asker.send(&request).await;
    assert!(asker.message().await.is_none());
    let told = error(&client.answer().await).expect("cancelled");
    assert_eq!(told.code, sqlstate::QUERY_CANCELED);
}

/// A client whose database has no server at the moment has proved who it is all the same.
#[tokio::test]
async fn who_waits_for_a_server_keeps_nobody_from_logging_in() {
    let mute = Fake::new(Manners {
        door: Door::Mute,
        ..Manners::default()
    })
    .await;
    let fake = Fake::plain().await;
    let text = format!(
        "{SHOP}[databases.away]\nhosts = [\"{}\"]\n[limits]\nmax_logins = 1\n",
        mute.address
    );
    let house = House::before(&fake, &text).await;
    let mut waits = Client::silent(house.address).await;
    waits.start("alice", "away").await;
    house.wait_until("it waits", || mute.open() > 0).await;
    assert_eq!(house.facts.sessions.logins.count(), 0);
    house.client("alice").await;
}

#[tokio::test]
async fn max_prepared_statements_and_max_prepared_bytes() {
    let fake = Fake::plain().await;
    let limits = "[limits]\nmax_prepared_statements = 2\nmax_prepared_bytes = 100\n";
    let house = House::before(&fake, &format!("{SHOP}{limits}")).await;
    let mut client = house.client("alice").await;
    let prepare = |name: &str, text: &str| {
        let mut out = BytesMut::new();
        frontend::parse(&mut out, name.as_bytes(), text.as_bytes(), &[]).expect("short");
        frontend::sync(&mut out);
        out
    };
    let long = format!("SELECT {}", "1".repeat(100));
    for (name, text, problem) in [
        ("a", "SELECT 1", None),
        ("b", long.as_str(), Some("(max_prepared_bytes)")),
        ("b", "SELECT 2", None),
        ("c", "SELECT 3", Some("(max_prepared_statements)")),
    ] {
        client.send(&prepare(name, text)).await;
        let told = error(&client.answer().await);
        match problem {
            None => assert!(told.is_none(), "{told:?}"),
            Some(problem) => {
                let told = told.expect("refused");
                assert!(told.message.contains(problem), "{}", told.message);
                assert_eq!(told.code, sqlstate::PROGRAM_LIMIT_EXCEEDED);
            }
        }
    }
    client.query("SELECT 4").await;
}

#[tokio::test]
async fn max_waiting_bytes() {
    let fake = Fake::plain().await;
    let text = format!("{SHOP}[limits]\nmax_waiting_bytes = 100_000\n");
    let house = House::before(&fake, &text).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(house.client("alice").await);
    }
    let pool = house.facts.routes.load().values().next().cloned();
    let pool = pool.expect("a pool");
    let long = format!("SELECT '{}'", "x".repeat(60_000));
    pool.core.pause();
    clients[0].ask(&long).await;
    let kept = || house.facts.keeping.bytes();
    house
        .wait_until("it waits", || (60_000..100_000).contains(&kept()))
        .await;
    clients[1].ask(&long).await;
    let told = error(&clients[1].answer().await).expect("refused");
    assert_eq!(told.code, sqlstate::OUT_OF_MEMORY);
    assert!(
        told.message.contains("(max_waiting_bytes)"),
        "{}",
        told.message
    );
    let counts = pool.refusals.counts();
    let counted = counts.iter().find(|(reason, _)| *reason == "waiting_bytes");
    assert_eq!(counted, Some(("waiting_bytes", 1)));
    // What is little is kept all the same.
    clients[2].ask("SELECT 1").await;
    let waiting = || pool.core.snapshot(std::time::Instant::now()).waiting;
    house.wait_until("both wait", || waiting() == 2).await;
    pool.core.resume();
    for client in [0, 2] {
        assert!(error(&clients[client].answer().await).is_none());
    }
    assert_eq!(fake.count(&long), 1);
    house.wait_until("all is given back", || kept() == 0).await;
    clients[1].query(&long).await;
}

/// Who finds out what has become of a commit tries again and again, and no client hears of it.
#[tokio::test]
async fn what_no_client_is_told_is_not_counted() {
    let fake = Fake::plain().await;
    let text = format!("{SHOP}[pool]\nsize = 1\nmax_waiters = 1\n");
    let house = House::before(&fake, &text).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(house.client("alice").await);
    }
    let pool = house.facts.routes.load().values().next().cloned();
    let pool = pool.expect("a pool");
    clients[0].query("BEGIN READ WRITE").await;
    clients[1].ask("SELECT 1").await;
    let waiting = || pool.core.snapshot(std::time::Instant::now()).waiting;
    house.wait_until("it waits", || waiting() == 1).await;
    let report = crate::router::lease(&pool).await.err().expect("no place");
    assert_eq!(report.code, sqlstate::TOO_MANY_CONNECTIONS);
    let counted = || {
        let counts = pool.refusals.counts();
        counts.iter().map(|(_, count)| count).sum::<u64>()
    };
    assert_eq!(counted(), 0);
    clients[2].ask("SELECT 1").await;
    let told = error(&clients[2].answer().await).expect("refused");
    assert_eq!(told.code, sqlstate::TOO_MANY_CONNECTIONS);
    assert_eq!(counted(), 1);
}

#[tokio::test]
async fn max_held_message() {
    let fake = Fake::plain().await;
    let house = House::before(&fake, &format!("{SHOP}[limits]\nmax_held_message = 8192\n")).await;
    let mut client = house.client("alice").await;
    let long = format!("SELECT '{}'", "x".repeat(9000));
    let mut out = BytesMut::new();
    frontend::parse(&mut out, b"", long.as_bytes(), &[]).expect("not too long");
    frontend::sync(&mut out);
    client.send(&out).await;
    let told = error(&client.answer().await).expect("refused");
    assert!(
        told.message.contains("(max_held_message)"),
        "{}",
        told.message
    );
    assert_eq!(fake.count(&long), 0);
    // A query goes on unread, and keeps the server since nobody knows what it did to it.
    client.query(&long).await;
    assert_eq!(fake.count(&long), 1);
    let pool = house
        .facts
        .routes
        .load()
        .values()
        .next()
        .cloned()
        .expect("a pool");
    assert_eq!(pool.core.snapshot(std::time::Instant::now()).leased, 1);
    house.reload(&fake, SHOP).await;
    let mut other = house.client("alice").await;
    other.send(&out).await;
    assert!(error(&other.answer().await).is_none());
}

#[tokio::test]
async fn max_cancels() {
    let fake = Fake::plain().await;
    let text = |max: usize| format!("{SHOP}[limits]\nmax_cancels = {max}\n");
    let house = House::before(&fake, &text(1)).await;
    let room = || house.facts.cancels.load().available_permits();
    assert_eq!(room(), 1);
    house.reload(&fake, &text(2)).await;
    assert_eq!(room(), 2);
    let mut client = house.client("alice").await;
    client.ask("SLEEP").await;
    house
        .wait_until("it runs", || fake.count("SLEEP") == 1)
        .await;
    let key = {
        let controls = house.facts.sessions.all();
        controls[0].key.get().cloned().expect("a key")
    };
    let mut request = BytesMut::new();
    pgherd_wire::startup::cancel_request(&mut request, &key);
    let cancels = house.facts.cancels.load_full();
    let taken = cancels.try_acquire_many(2).expect("nobody cancels");
    let mut dropped = Client::silent(house.address).await;
    dropped.send(&request).await;
    assert!(dropped.message().await.is_none());
    assert_eq!(fake.cancels(), 0, "there is no room");
    assert_eq!(house.facts.failures.counts().cancels, 1);
    drop(taken);
    let mut heard = Client::silent(house.address).await;
    heard.send(&request).await;
    let told = error(&client.answer().await).expect("cancelled");
    assert_eq!(told.code, sqlstate::QUERY_CANCELED);
    assert_eq!(fake.cancels(), 1);
}

#[tokio::test]
async fn server_connections_follow_a_reload() {
    for (limit, place) in [
        ("max_connections", ""),
        ("max_database_connections", ""),
        ("max_user_connections", ""),
        ("max_host_connections", ""),
        ("max_connections", "[databases.shop.limits]"),
        ("max_connections", "[users.alice.limits]"),
    ] {
        let place = if place.is_empty() { "[limits]" } else { place };
        let fake = Fake::plain().await;
        let text = |max: usize| format!("{SHOP}{place}\n{limit} = {max}\n");
        let house = House::before(&fake, &text(1)).await;
        let (mut first, mut second) = (house.client("alice").await, house.client("alice").await);
        first.query("BEGIN READ WRITE").await;
        second.ask("BEGIN READ WRITE").await;
        let pool = house
            .facts
            .routes
            .load()
            .values()
            .next()
            .cloned()
            .expect("a pool");
        let waiting = || pool.core.snapshot(std::time::Instant::now()).waiting;
        house
            .wait_until("the second waits", || waiting() == 1)
            .await;
        assert_eq!(fake.logins(), 1, "{place} {limit}");
        house.reload(&fake, &text(2)).await;
        assert!(error(&second.answer().await).is_none(), "{place} {limit}");
        assert_eq!(fake.logins(), 2, "{place} {limit}");
    }
}
