//! What a changed file changes.

use std::sync::Arc;

use pgherd_wire::sqlstate;

use super::{Client, Fake, House, SHOP};

#[tokio::test]
async fn databases_come_and_go() {
    let fake = Fake::plain().await;
    let house = House::before(&fake, SHOP).await;
    let mut old = house.client("alice").await;
    old.query("SELECT 1").await;
    let other = "[auth]\nmethod = \"trust\"\n[databases.other]\nhosts = [\"{host}\"]\n";
    house.reload(&fake, other).await;
    let mut new = Client::enter(house.address, "alice", "other")
        .await
        .expect("let in");
    new.query("SELECT 2").await;
    old.ask("SELECT 3").await;
    let told = old.end().await.expect("told");
    assert_eq!(told.code, sqlstate::ADMIN_SHUTDOWN);
    assert!(
        told.message.contains("was removed from the configuration"),
        "{}",
        told.message
    );
    let refused = Client::enter(house.address, "alice", "shop")
        .await
        .err()
        .expect("refused");
    assert_eq!(refused.code, sqlstate::INVALID_CATALOG_NAME);
    let mut tree = house.tree().await;
    for _ in 0..100 {
        if !tree.contains(&"cluster shop".to_owned()) {
            break;
        }
        tree = house.tree().await;
    }
    assert!(!tree.contains(&"cluster shop".to_owned()), "{tree:?}");
    let is_its = |name: &String| name.starts_with("pool other/alice #");
    assert!(tree.iter().any(is_its), "{tree:?}");
    assert_eq!(fake.count("SELECT 3"), 0);
}

#[tokio::test]
async fn a_pool_follows_its_database_to_another_section() {
    let fake = Fake::plain().await;
    let wild = SHOP.replace("shop", "\"*\"");
    let house = House::before(&fake, &wild).await;
    let mut client = house.client("alice").await;
    client.query("SELECT 1").await;
    for text in [SHOP, &wild] {
        house.reload(&fake, text).await;
        client.query("SELECT 2").await;
        let mut count = 0;
        for _ in 0..100 {
            let tree = house.tree().await;
            count = tree
                .iter()
                .filter(|name| name.starts_with("pool shop/alice #"))
                .count();
            let clusters = tree
                .iter()
                .filter(|name| name.starts_with("cluster"))
                .count();
            if (count, clusters) == (1, 1) {
                break;
            }
        }
        assert_eq!(count, 1, "one manager");
        // The manager that is left opens connections.
        let mut second = house.client("alice").await;
        client.query("BEGIN READ WRITE").await;
        second.query("SELECT 3").await;
        client.query("COMMIT").await;
    }
}

#[tokio::test]
async fn connections_that_need_not_change_are_kept() {
    let fake = Fake::plain().await;
    let house = House::before(&fake, SHOP).await;
    let mut client = house.client("alice").await;
    client.query("SELECT 1").await;
    house
        .reload(
            &fake,
            &format!("{SHOP}[timeouts]\nconnect = \"7s\"\nquery = \"9s\"\n"),
        )
        .await;
    client.query("SELECT 2").await;
    assert_eq!(fake.logins(), 1);
    house
        .reload(
            &fake,
            &format!("{SHOP}parameters = {{ DateStyle = \"ISO\" }}\n"),
        )
        .await;
    client.query("SELECT 3").await;
    assert_eq!(fake.logins(), 2);
}

#[tokio::test]
async fn connections_count_at_the_host_that_a_reload_has_moved_them_to() {
    let (left, right) = (Fake::plain().await, Fake::plain().await);
    let text = |shop: &Fake| {
        format!(
            "[auth]\nmethod = \"trust\"\n[limits]\nmax_host_connections = 1\n\
             [databases.shop]\nhosts = [\"{}\"]\n[databases.other]\nhosts = [\"{}\"]\n",
            shop.address, right.address
        )
    };
    let house = House::before(&left, &text(&left)).await;
    let mut shopper = house.client("alice").await;
    shopper.query("SELECT 1").await;
    house.reload(&left, &text(&right)).await;
    shopper.query("BEGIN READ WRITE").await;
    assert_eq!((left.logins(), right.logins()), (1, 1));
    let mut other = Client::silent(house.address).await;
    other.start("alice", "other").await;
    let routes = || house.facts.routes.load();
    let pool = || {
        routes()
            .iter()
            .find(|(key, _)| key.database == "other")
            .map(|(_, pool)| Arc::clone(pool))
    };
    let waiting =
        || pool().is_some_and(|pool| pool.core.snapshot(std::time::Instant::now()).waiting == 1);
    house.wait_until("the other waits", waiting).await;
    assert_eq!(right.logins(), 1, "one connection to that host is allowed");
    shopper.query("COMMIT").await;
    assert!(other.answer().await.iter().any(|(tag, _)| *tag == b'Z'));
    assert_eq!(right.logins(), 2);
    // And the host that was left has room again.
    house.reload(&left, &text(&left)).await;
    shopper.query("SELECT 2").await;
    assert_eq!(left.logins(), 2);
}

#[tokio::test]
async fn a_database_that_is_named_again_at_once_is_served_at_once() {
    let fake = Fake::plain().await;
    let house = House::before(&fake, SHOP).await;
    let other = SHOP.replace("shop", "other");
    for _ in 0..5 {
        house.client("alice").await.query("SELECT 1").await;
        house.reload(&fake, &other).await;
        house.reload(&fake, SHOP).await;
    }
    house.client("alice").await.query("SELECT 1").await;
}

/// Whoever is told of it may be no more, or die of it.
#[cfg(feature = "chaos")]
#[tokio::test]
async fn a_router_that_was_not_there_follows_a_reload_all_the_same() {
    let fake = Fake::plain().await;
    let house = House::before(&fake, SHOP).await;
    let mut client = house.client("alice").await;
    client.query("SELECT 1").await;
    let router = house.facts.router.get().expect("it is there");
    let _ = router.cast(crate::router::RouterMessage::Crash);
    let _ = router.wait(Some(super::PATIENCE)).await;
    let more = "[pool]\nsize = 3\n[databases.other]\nhosts = [\"{host}\"]\n";
    house.reload(&fake, &format!("{SHOP}{more}")).await;
    let size = || {
        let (routes, now) = (house.facts.routes.load(), std::time::Instant::now());
        let mut pools = routes.values();
        pools.next().map(|pool| pool.core.snapshot(now).limits.size)
    };
    house
        .wait_until("the pool has its new size", || size() == Some(3))
        .await;
    let other = || house.facts.memory.clusters.lock().contains_key("other");
    house.wait_until("the other has pools", other).await;
    let entered = Client::enter(house.address, "alice", "other").await;
    entered.expect("let in").query("SELECT 2").await;
}
