//! What a changed file changes.

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
    assert!(tree.contains(&"pool other/alice".to_owned()), "{tree:?}");
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
                .filter(|name| *name == "pool shop/alice")
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
        client.query("BEGIN").await;
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
