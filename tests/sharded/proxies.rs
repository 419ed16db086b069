//! Two proxies before the same shards.

use pgherd_tests::{Proxy, Raw};

use crate::rig::Rig;
use crate::transactions::{deadlock, filled};

/// A session of each of two proxies.
async fn two(rig: &Rig) -> (Proxy, Raw, Raw) {
    let other = Proxy::start(&Rig::config(&rig.shards, "")).await;
    let one = rig.raw().await;
    let two = Raw::login(other.port(), "app", "shop", &[]).await;
    (other, one, two)
}

#[tokio::test]
async fn a_deadlock_of_two_proxies_ends_with_one_victim() {
    let rig = filled("").await;
    let (_other, mut one, mut two) = two(&rig).await;
    // Whichever has come to the second shard later, its own proxy ends it.
    deadlock(&mut one, &mut two).await;
    deadlock(&mut two, &mut one).await;
}
