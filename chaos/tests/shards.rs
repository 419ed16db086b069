//! The short form of `cargo chaos shards`.

use std::path::Path;

use pgherd_chaos::checks::Wrong;
use pgherd_chaos::shards::{Fault, Plan, run};

/// A primary and a proxy are lost at once: nothing is half done, lost or doubled, and clients go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn money_over_shards_outlives_a_primary_and_a_proxy() {
    let seed: u64 = rand::random();
    let history = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("shards-{seed}.log"));
    let plan = Plan {
        pgherd: crate::EXECUTABLE.into(),
        rounds: 1,
        faults: vec![Fault::Both],
        seed,
        history,
    };
    let report = run(&plan).await.unwrap();
    println!("{report}");
    assert_eq!(report.faults, Vec::<Wrong>::new(), "{report}");
    assert_eq!(report.failovers(), 1);
    assert!(report.operations > 200, "too little happened: {report}");
}
