//! `[pool]`.

use std::time::Duration;

use pgherd_config::{Config, LoadInput};
use pgherd_pool::{Limits, Order};
use pgherd_wire::sqlstate;

use super::client::{Client, error};
use super::fake::Door;
use super::{Fake, House, Manners, SHOP};
use crate::gate::Failing;
use crate::pool::{PoolKey, PoolMessage, limits};
use crate::router::RouterMessage;

#[test]
fn sizes_and_order_reach_the_core() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("pgherd.toml");
    let text = "[databases.shop]\nhosts = [\"a\"]\n[pool]\nsize = 7\nmin = 2\nreserve = 3\n\
                reserve_after = \"4s\"\nmax_waiters = 5\norder = \"fifo\"\n";
    std::fs::write(&file, text).expect("written");
    let input = LoadInput {
        file: Some(file),
        ..LoadInput::default()
    };
    let config = Config::load(&input)
        .unwrap_or_else(|faults| panic!("{faults}"))
        .config;
    let shop = config.database("shop").expect("configured");
    assert_eq!(
        limits(&config.effective_pool(&shop, None)),
        Limits {
            size: 7,
            min: 2,
            reserve: 3,
            reserve_after: Duration::from_secs(4),
            max_waiters: 5,
            max_opening: 8,
            order: Order::Fifo,
        }
    );
}

#[tokio::test]
async fn min() {
    let fake = Fake::plain().await;
    let house = House::before(&fake, &format!("{SHOP}[pool]\nmin = 3\n")).await;
    drop(house.client("alice").await);
    house.wait_until("they are open", || fake.open() == 3).await;
}

#[tokio::test]
async fn modes() {
    for (mode, kept) in [("transaction", 0), ("session", 1), ("statement", 0)] {
        let fake = Fake::plain().await;
        let house = House::before(&fake, &format!("{SHOP}[pool]\nmode = \"{mode}\"\n")).await;
        let mut client = house.client("alice").await;
        client.query("SELECT 1").await;
        let pool = house
            .facts
            .routes
            .load()
            .values()
            .next()
            .cloned()
            .expect("a pool");
        let leased = || pool.core.snapshot(std::time::Instant::now()).leased;
        house.wait_until(mode, || leased() == kept).await;
        if mode == "statement" {
            client.ask("BEGIN READ WRITE").await;
            let told = client.end().await.expect("refused");
            assert_eq!(told.code, sqlstate::FEATURE_NOT_SUPPORTED);
        }
    }
}

#[tokio::test]
async fn reset_query() {
    for (said, resets, logins) in [("RESET ME", 1, 1), ("", 0, 2)] {
        let fake = Fake::plain().await;
        let text =
            format!("{SHOP}[pool]\nmode = \"session\"\nsize = 1\nreset_query = \"{said}\"\n");
        let house = House::before(&fake, &text).await;
        for _ in 0..2 {
            let mut client = house.client("alice").await;
            client.query("SELECT 1").await;
            drop(client);
            house
                .wait_until("it has left", || house.facts.sessions.count() == 0)
                .await;
        }
        let pool = house
            .facts
            .routes
            .load()
            .values()
            .next()
            .cloned()
            .expect("a pool");
        let leased = || pool.core.snapshot(std::time::Instant::now()).leased;
        house.wait_until("all is reset", || leased() == 0).await;
        assert_eq!(fake.count("RESET ME"), 2 * resets);
        assert_eq!(fake.logins(), logins);
    }
}

/// Prepares statements by name.
async fn prepare(client: &mut Client, statements: [(&str, &str); 3]) {
    for (name, text) in statements {
        let mut out = bytes::BytesMut::new();
        let (name, text) = (name.as_bytes(), text.as_bytes());
        pgherd_wire::frontend::parse(&mut out, name, text, &[]).expect("short");
        pgherd_wire::frontend::sync(&mut out);
        client.send(&out).await;
        assert!(error(&client.answer().await).is_none());
    }
}

#[tokio::test]
async fn max_prepared_statements() {
    let fake = Fake::plain().await;
    let house = House::before(
        &fake,
        &format!("{SHOP}[pool]\nmax_prepared_statements = 1\n"),
    )
    .await;
    let mut client = house.client("alice").await;
    prepare(
        &mut client,
        [("a", "SELECT 1"), ("b", "SELECT 2"), ("c", "SELECT 1")],
    )
    .await;
    // The second made the first leave, which had to be prepared again.
    assert_eq!((fake.count("SELECT 1"), fake.count("SELECT 2")), (2, 1));
}

#[tokio::test]
async fn max_prepared_bytes_of_a_pool() {
    let fake = Fake::plain().await;
    let limit = format!("{SHOP}[pool]\nmax_prepared_bytes = 20\n");
    let house = House::before(&fake, &limit).await;
    let mut client = house.client("alice").await;
    prepare(
        &mut client,
        [("a", "SELECT 1"), ("b", "SELECT 2"), ("c", "SELECT 3")],
    )
    .await;
    // Two of them with the ends of their texts are more than that.
    let mut out = bytes::BytesMut::new();
    pgherd_wire::frontend::bind(&mut out, b"", b"a", &[], &[], &[]).expect("short");
    pgherd_wire::frontend::sync(&mut out);
    client.send(&out).await;
    client.answer().await;
    assert_eq!((fake.count("SELECT 1"), fake.count("SELECT 3")), (2, 1));
}

/// Names may hold anything: these read alike, and each of their pools has an actor of its own.
#[tokio::test]
async fn pools_whose_names_read_alike() {
    let fake = Fake::plain().await;
    let house = House::before(&fake, &SHOP.replace("shop", "\"*\"")).await;
    let names = [("c", "a/b"), ("b/c", "a")];
    for (user, database) in names {
        let entered = Client::enter(house.address, user, database).await;
        entered.expect("let in").query("SELECT 1").await;
    }
    #[cfg(feature = "chaos")]
    {
        // Who takes their place takes up all of them.
        let living = crate::chaos::living(&house.facts).await;
        let pools = living
            .iter()
            .find(|actor| actor.path == "root/cluster */pools");
        let pools = &pools.expect("it lives").cell;
        assert!(crate::chaos::crash(pools));
        pools.wait(Some(super::PATIENCE)).await.expect("it ends");
        for (user, database) in names {
            let enter = || Client::enter(house.address, user, database);
            let mut first = enter().await.expect("let in");
            first.query("BEGIN READ WRITE").await;
            enter().await.expect("let in").query("SELECT 2").await;
        }
    }
}

/// However often it is looked meanwhile.
#[tokio::test]
async fn a_host_that_is_left_alone_costs_one_timer() {
    let fake = Fake::plain().await;
    let house = House::before(&fake, SHOP).await;
    let mut client = house.client("alice").await;
    let routes = house.facts.routes.load_full();
    let pool = routes.values().next().expect("a pool");
    let now = std::time::Instant::now();
    let later = now + Duration::from_secs(60);
    let upstream = pool.upstream.load_full();
    upstream.gate.0.failed(Failing::Otherwise, later);
    drop(pool.core.retire_all());
    client.ask("SELECT 1").await;
    let waiting = || pool.core.snapshot(now).waiting == 1;
    house.wait_until("the client waits", waiting).await;
    let tasks = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    let before = tasks();
    for _ in 0..1000 {
        assert!(pool.manager.cast(PoolMessage::Look));
    }
    // Its clock lies behind them in the mailbox.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let after = tasks();
    assert!(after < before + 50, "{before} tasks became {after}");
}

/// Where clients may name any database, those that there are not leave nothing behind.
#[tokio::test]
async fn pools_that_have_never_led_anywhere_are_given_up() {
    let fake = Fake::new(Manners {
        door: Door::Nowhere,
        ..Manners::default()
    })
    .await;
    let house = House::before(&fake, &SHOP.replace("shop", "\"*\"")).await;
    for number in 0..50 {
        let database = format!("x{number}");
        let entered = Client::enter(house.address, "alice", &database).await;
        let report = entered.err().expect("refused");
        assert_eq!(report.code, sqlstate::INVALID_CATALOG_NAME);
    }
    let none = || house.facts.routes.load().is_empty();
    house.wait_until("no pool is left", none).await;
    let mut tree = house.tree().await;
    for _ in 0..100 {
        if !tree.iter().any(|name| name.starts_with("pool ")) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        tree = house.tree().await;
    }
    panic!("their actors are left: {tree:?}");
}

#[tokio::test]
async fn a_pool_is_given_up_when_nobody_uses_it_and_made_anew_for_the_next() {
    let fake = Fake::plain().await;
    let house = House::before(&fake, &SHOP.replace("shop", "\"*\"")).await;
    let enter = |database| Client::enter(house.address, "alice", database);
    let mut last = enter("last").await.expect("let in");
    last.query("SELECT 1").await;
    let mut client = enter("shop").await.expect("let in");
    client.query("SELECT 1").await;
    let find = || {
        let routes = house.facts.routes.load();
        routes.get(&PoolKey::new("shop", "alice")).cloned()
    };
    let give_up = || {
        let Some(pool) = find() else { return true };
        drop(pool.core.retire_all());
        let _ = house.facts.router.cast(RouterMessage::GiveUp { pool });
        false
    };
    let known = find().expect("a pool").number;
    for _ in 0..20 {
        give_up();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    client.query("SELECT 2").await;
    assert_eq!(find().map(|pool| pool.number), Some(known));
    drop(client);
    house.wait_until("it is given up", give_up).await;
    let mut next = enter("shop").await.expect("let in");
    next.query("SELECT 3").await;
    assert_ne!(find().map(|pool| pool.number), Some(known));
    // The last by which the servers can be looked at stays.
    last.query("SELECT 4").await;
}
