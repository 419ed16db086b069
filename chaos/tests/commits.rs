//! The short form of `cargo chaos commits`.

use std::path::Path;

use pgherd_chaos::checks::Wrong;
use pgherd_chaos::commits::{Fault, Flow, Plan, run};

/// Commits are all or nothing, whatever dies at whichever of their messages, and whoever of those who end them then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_is_all_or_nothing_wherever_it_is_cut_off() {
    let history = Path::new(env!("CARGO_TARGET_TMPDIR")).join("commits.log");
    let plan = Plan {
        pgherd: crate::EXECUTABLE.into(),
        flows: Flow::ALL.to_vec(),
        faults: Fault::ALL.to_vec(),
        case: None,
        every: 43,
        rounds: 1,
        lanes: 6,
        history,
    };
    let cases = plan.cases().len();
    let report = run(&plan).await.unwrap();
    println!("{report}");
    assert_eq!(report.faults, Vec::<Wrong>::new(), "{report}");
    assert_eq!(report.cases(), cases);
    assert!(report.crashes() > cases / 2, "{report}");
}
