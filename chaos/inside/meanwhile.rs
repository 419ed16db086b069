//! Pools that are asked for while the supervisor of pools is away.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use crate::house::{self, House, paths, unnumbered};
use crate::{ALONE, Blow, PATIENCE};

const POOLS: &str = "root/cluster postgres/pools";

/// How many clients, each with a pool of its own, come while the supervisor is started again.
const GUESTS: u32 = 30;

/// The supervisor is started again after four or five of these, the second time twice that, so the
/// clients come from the third to the sixth.
const SPAN: Duration = Duration::from_millis(20);

/// Each pool gets its actor, whenever it was asked for: before the supervisor is gone, while there
/// is none, while it starts the pools that it knows of, or later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_pool_is_forgotten() {
    let _alone = ALONE.lock().await;
    let server = house::server().await;
    let names: Vec<_> = (0..2 * GUESTS)
        .map(|number| format!("guest{number}"))
        .collect();
    let mut more = String::new();
    for name in &names {
        server.create_user(name, "x").await.unwrap();
        more.push_str(&format!("[users.{name}]\npassword = \"x\"\n"));
    }
    let house = House::with(&server, &more);
    house.visit("postgres").await;
    let (first, second) = names.split_at(names.len() / 2);
    for (guests, span, blow) in [(first, SPAN, Blow::Kill), (second, 2 * SPAN, Blow::Panic)] {
        let visits = (0..).zip(guests).map(async |(number, name)| {
            sleep(3 * span + 3 * span * number / GUESTS).await;
            house.visit(name).await;
        });
        tokio::join!(
            house.strike_and_await_restart(POOLS, blow),
            join_all(visits)
        );
        all_have_actors(&house).await;
    }
    house.end().await;
}

async fn all_have_actors(house: &House) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let living = paths(&house.living().await);
        let living: Vec<_> = living.iter().map(|path| unnumbered(path)).collect();
        let routes = house.facts.routes.load_full();
        let mut keys = routes.keys();
        let orphan = keys.find(|key| {
            let path = format!("{POOLS}/pool {}/{}", key.database, key.user);
            !living.contains(&path)
        });
        let Some(orphan) = orphan else { return };
        assert!(Instant::now() < deadline, "{orphan:?} has no actor");
    }
}
