//! Queries by chance, run by their plans and on one database.
//!
//! The short form runs some hundreds; `PGHERD_SHARDING_QUERIES` says how many, `PGHERD_SHARDING_SEED` which.

use crate::line::{Line, asked};
use crate::made::Maker;
use crate::queries::Tally;
use crate::world::{Buckets, World};

#[tokio::test]
async fn queries_by_chance_give_no_other_answer() {
    by_chance(World::new(4).await).await;
}

#[tokio::test]
async fn nor_where_each_group_has_a_method_of_its_own() {
    by_chance(World::with(3, Buckets::Mixed).await).await;
}

async fn by_chance(world: World) {
    let seed: u64 = asked("PGHERD_SHARDING_SEED", 1);
    let count: usize = asked("PGHERD_SHARDING_QUERIES", 250);
    world
        .whole
        .batch_execute("set statement_timeout = '2s'")
        .await
        .unwrap();
    let mut maker = Maker::new(seed);
    let mut tally = Tally::default();
    for _ in 0..count {
        let (query, mode) = maker.query();
        let line = Line {
            kind: "?",
            mode,
            query: &query,
            values: Vec::new(),
        };
        tally.take(&world, &line).await;
    }
    println!("seed {seed}: {}", tally.told());
    assert!(
        tally.wrong.is_empty(),
        "seed {seed}, WRONG:\n{}",
        tally.wrong.join("\n")
    );
}
