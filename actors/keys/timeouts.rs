//! `[timeouts]`.

use pgherd_wire::error::ErrorReport;
use pgherd_wire::sqlstate::{self, SqlState};

use super::client::error;
use super::fake::Door;
use super::{Client, Fake, House, Manners, SHOP};
use crate::drain::Ending;
use crate::root::Outcome;

async fn house(fake: &Fake, timeouts: &str) -> House {
    House::before(fake, &format!("{SHOP}[timeouts]\n{timeouts}\n")).await
}

fn has(report: Option<ErrorReport>, code: SqlState, text: &str) {
    let report = report.expect("an error");
    assert!(report.message.contains(text), "{}", report.message);
    assert_eq!(report.code, code, "{}", report.message);
}

#[tokio::test]
async fn login() {
    let fake = Fake::plain().await;
    let house = house(&fake, "login = \"20ms\"").await;
    assert!(
        Client::silent(house.address)
            .await
            .message()
            .await
            .is_none()
    );
    house
        .wait_until("it made room", || house.facts.sessions.count() == 0)
        .await;
}

#[tokio::test]
async fn a_login_that_takes_too_long_is_told() {
    let fake = Fake::new(Manners {
        door: Door::Mute,
        ..Manners::default()
    })
    .await;
    let house = house(&fake, "login = \"100ms\"").await;
    let told = Client::enter(house.address, "alice", "shop").await.err();
    has(
        told,
        sqlstate::QUERY_CANCELED,
        "canceling authentication due to timeout",
    );
}

#[tokio::test]
async fn a_login_without_end_ends_when_the_proxy_does() {
    let fake = Fake::plain().await;
    let house = house(&fake, "login = 0").await;
    let mut silent = Client::silent(house.address).await;
    house
        .wait_until("it is counted", || house.facts.sessions.logins.count() == 1)
        .await;
    house.curtain.ask(Ending::Gracefully);
    assert!(silent.message().await.is_none());
}

#[tokio::test]
async fn connect_and_checkout() {
    let fake = Fake::new(Manners {
        door: Door::Mute,
        ..Manners::default()
    })
    .await;
    let house = house(&fake, "connect = \"20ms\"\ncheckout = \"100ms\"").await;
    let told = Client::enter(house.address, "alice", "shop").await.err();
    let detail = told
        .as_ref()
        .and_then(|told| told.detail.clone())
        .unwrap_or_default();
    assert!(detail.contains("took longer than 20ms"), "{told:?}");
    has(told, sqlstate::CONNECTION_FAILURE, "cannot be reached");
}

/// A host that answers no login holds each up, and nobody stands behind many of them for longer than one may take.
#[tokio::test]
async fn connect_bounds_the_wait_for_a_place_among_logins() {
    let fake = Fake::new(Manners {
        door: Door::Mute,
        ..Manners::default()
    })
    .await;
    let house = house(&fake, "connect = \"1s\"\n[limits]\nmax_host_logins = 1").await;
    let pool = |user: &str| {
        let routes = house.facts.routes.load();
        routes.values().find(|pool| pool.key.user == user).cloned()
    };
    let opening = |user| {
        let seen = pool(user).map(|pool| pool.core.snapshot(std::time::Instant::now()));
        seen.is_some_and(|seen| seen.opening == 1)
    };
    // The first is mute, the second comes in as soon as that is given up, and the third cannot in its time.
    let mut clients = Vec::new();
    for user in ["alice", "bob", "carol"] {
        let mut client = Client::silent(house.address).await;
        client.start(user, "shop").await;
        clients.push(client);
        house
            .wait_until("a connection is wanted", || opening(user))
            .await;
    }
    house
        .wait_until("the third is given up", || {
            let trouble = pool("carol").and_then(|pool| pool.trouble.load_full());
            trouble.is_some_and(|trouble| trouble.to_string().contains("(max_host_logins)"))
        })
        .await;
}

#[tokio::test]
async fn checkout_and_checkout_notice() {
    let fake = Fake::plain().await;
    let text = "checkout = \"100ms\"\ncheckout_notice = \"20ms\"\n[pool]\nsize = 1";
    let house = house(&fake, text).await;
    let (mut first, mut second) = (house.client("alice").await, house.client("alice").await);
    first.query("BEGIN READ WRITE").await;
    second.ask("SELECT 1").await;
    let answer = second.answer().await;
    assert_eq!(answer[0].0, b'N', "{answer:?}");
    has(
        error(&answer),
        sqlstate::QUERY_CANCELED,
        "(checkout timeout)",
    );
    let refused: Vec<_> = house
        .facts
        .routes
        .load()
        .values()
        .flat_map(|pool| pool.refusals.counts().iter().collect::<Vec<_>>())
        .collect();
    assert_eq!(
        refused,
        [
            ("checkout_timeout", 1),
            ("hold_timeout", 0),
            ("queue_full", 0),
            ("waiting_bytes", 0)
        ]
    );
    first.query("COMMIT").await;
    second.query("SELECT 1").await;
}

#[tokio::test]
async fn query() {
    let fake = Fake::plain().await;
    let house = house(&fake, "query = \"20ms\"").await;
    let mut client = house.client("alice").await;
    client.ask("SLEEP").await;
    has(
        error(&client.answer().await),
        sqlstate::QUERY_CANCELED,
        "cancelled",
    );
    client.query("SELECT 1").await;
}

#[tokio::test]
async fn transaction_and_idle_in_transaction() {
    for (key, code) in [
        ("transaction", sqlstate::TRANSACTION_TIMEOUT),
        (
            "idle_in_transaction",
            sqlstate::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
        ),
    ] {
        let fake = Fake::plain().await;
        let house = house(&fake, &format!("{key} = \"20ms\"")).await;
        let mut client = house.client("alice").await;
        client.query("BEGIN READ WRITE").await;
        has(client.end().await, code, "timeout of the pool");
        house
            .wait_until("it was rolled back", || fake.count("ROLLBACK") == 1)
            .await;
    }
}

#[tokio::test]
async fn client_idle() {
    let fake = Fake::plain().await;
    let house = house(&fake, "client_idle = \"20ms\"").await;
    let mut client = house.client("alice").await;
    has(
        client.end().await,
        sqlstate::IDLE_SESSION_TIMEOUT,
        "client idle",
    );
}

#[tokio::test]
async fn server_idle_and_server_lifetime() {
    for keys in [
        "server_idle = \"20ms\"",
        "server_lifetime = \"20ms\"\nserver_lifetime_jitter = 0",
    ] {
        let fake = Fake::plain().await;
        let house = house(&fake, keys).await;
        house.client("alice").await.query("SELECT 1").await;
        house
            .wait_until("the connection ended", || {
                fake.logins() > 0 && fake.open() == 0
            })
            .await;
    }
}

#[tokio::test]
async fn server_check() {
    for dies_of_pings in [false, true] {
        let fake = Fake::new(Manners {
            dies_of_pings,
            ..Manners::default()
        })
        .await;
        // A busy machine must not take as long from a login to its first use.
        let house = house(&fake, "server_check = \"300ms\"").await;
        let mut client = house.client("alice").await;
        client.query("SELECT 1").await;
        let (pings, logins) = (fake.count(""), fake.logins());
        tokio::time::sleep(std::time::Duration::from_millis(310)).await;
        client.query("SELECT 2").await;
        assert_eq!(fake.count(""), pings + 1);
        assert_eq!(fake.logins(), logins + usize::from(dies_of_pings));
    }
    let fake = Fake::plain().await;
    let house = house(&fake, "server_check = 0").await;
    let mut client = house.client("alice").await;
    client.query("SELECT 1").await;
    client.query("SELECT 2").await;
    assert_eq!(fake.count(""), 0);
}

#[tokio::test]
async fn rollback() {
    let fake = Fake::new(Manners {
        keeps_transactions: true,
        ..Manners::default()
    })
    .await;
    let house = house(&fake, "rollback = \"20ms\"").await;
    let mut client = house.client("alice").await;
    client.query("BEGIN READ WRITE").await;
    drop(client);
    house
        .wait_until("it was tried", || fake.count("ROLLBACK") == 1)
        .await;
    let pool = house
        .facts
        .routes
        .load()
        .values()
        .next()
        .cloned()
        .expect("a pool");
    let leased = || pool.core.snapshot(std::time::Instant::now()).leased;
    house.wait_until("it was given up", || leased() == 0).await;
    let mut client = house.client("alice").await;
    client.query("SELECT 1").await;
    assert_eq!(fake.logins(), 2);
}

#[tokio::test]
async fn shutdown() {
    let fake = Fake::plain().await;
    let mut house = house(&fake, "shutdown = \"20ms\"").await;
    let mut client = house.client("alice").await;
    client.query("BEGIN READ WRITE").await;
    house.curtain.ask(Ending::Gracefully);
    client.end().await;
    let outcome = (&mut house.run).await.expect("no panic");
    assert_eq!(outcome, Outcome::Ended);
}

/// Who is in the middle of a login hears why it comes to nothing, and nobody waits long for that.
#[tokio::test]
async fn logins_under_way_are_told_of_the_end() {
    let fake = Fake::new(Manners {
        door: Door::Mute,
        ..Manners::default()
    })
    .await;
    let mut house = house(&fake, "shutdown = \"60s\"").await;
    let mut client = Client::silent(house.address).await;
    client.start("alice", "shop").await;
    let waits = || !house.facts.routes.load().is_empty();
    house.wait_until("it waits for its server", waits).await;
    let silent = Client::silent(house.address).await;
    house
        .wait_until("both are there", || house.facts.sessions.count() == 2)
        .await;
    house.curtain.ask(Ending::Gracefully);
    let told = client.end().await;
    has(told, sqlstate::ADMIN_SHUTDOWN, "is shutting down");
    let ended = tokio::time::timeout(super::PATIENCE, &mut house.run).await;
    let outcome = ended.expect("in time").expect("no panic");
    assert_eq!(outcome, Outcome::Ended);
    drop(silent);
}

#[tokio::test]
async fn a_checkout_that_a_reload_has_shortened() {
    let fake = Fake::plain().await;
    let text = |more: &str| format!("{SHOP}[pool]\nsize = 1\n{more}");
    let house = House::before(&fake, &text("")).await;
    let (mut first, mut second) = (house.client("alice").await, house.client("alice").await);
    first.query("BEGIN READ WRITE").await;
    second.ask("SELECT 1").await;
    let waits = || {
        let (routes, now) = (house.facts.routes.load(), std::time::Instant::now());
        let mut pools = routes.values();
        pools.any(|pool| pool.core.snapshot(now).waiting == 1)
    };
    house.wait_until("the second waits", waits).await;
    let short = text("[timeouts]\ncheckout = \"200ms\"\n");
    house.reload(&fake, &short).await;
    let told = error(&second.answer().await);
    has(told, sqlstate::QUERY_CANCELED, "(checkout timeout)");
}
