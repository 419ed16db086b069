//! The short form of `cargo chaos failover`.

use std::path::Path;

use pgherd_chaos::checks::Wrong;
use pgherd_chaos::failover::{Fault, Pace, Plan, Report, Way, run};
use pgherd_sandbox::Replication;

/// Runs a few failovers; the seed is in what a failure shows.
async fn short(way: Way, faults: &[Fault]) -> Report {
    let seed: u64 = rand::random();
    let history = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("failover-{seed}.log"));
    let plan = Plan {
        way,
        replication: Replication::Synchronous,
        resolve: false,
        reads: false,
        pace: Pace::Loose,
        failovers: faults.len(),
        faults: faults.to_vec(),
        seed,
        history,
    };
    let report = run(&plan).await.unwrap();
    println!("{report}");
    report
}

/// Clients that are told at once which server is the primary lose nothing; if they do, the servers or
/// the checks are wrong.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_are_told_lose_nothing() {
    let report = short(Way::Direct, &[Fault::Freeze, Fault::Kill]).await;
    assert_eq!(report.faults, Vec::<Wrong>::new(), "{report}");
    assert_eq!(report.failovers(), 2);
    assert!(report.operations > 500, "too little happened: {report}");
}

/// pgherd finds the new primary by itself: its clients lose nothing either, are told of nothing but
/// what was under way, and nobody writes to the old one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_pgherd_lose_nothing() {
    let way = Way::Pgherd(crate::EXECUTABLE.into());
    let report = short(way, &[Fault::Freeze, Fault::Revive, Fault::Stop]).await;
    assert_eq!(report.faults, Vec::<Wrong>::new(), "{report}");
    assert_eq!(report.failovers(), 3);
    assert!(report.operations > 500, "too little happened: {report}");
}
