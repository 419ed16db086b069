//! The short form of `cargo chaos cuts`.

use pgherd_chaos::checks::Wrong;
use pgherd_chaos::cuts::{Plan, Report, Side, Way, run};

/// Cuts these conversations, all of them if none is named, in these ways: of the places, each one of a number.
async fn cut(flows: &[&str], ways: &[Way], every: usize, lanes: usize) -> Report {
    cut_as(Plan {
        pgherd: crate::EXECUTABLE.into(),
        flows: flows.iter().map(|flow| (*flow).to_owned()).collect(),
        sides: Side::ALL.to_vec(),
        ways: ways.to_vec(),
        case: None,
        every,
        lanes,
        tls: false,
    })
    .await
}

async fn cut_as(plan: Plan) -> Report {
    let report = run(&plan).await.unwrap();
    println!("{report}");
    report
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_cut_off_anywhere_is_told_the_truth() {
    let ways = [
        Way::Reset,
        Way::Close,
        Way::Stall,
        Way::Slices,
        Way::Garbage,
    ];
    let report = cut(&[], &ways, 40, 8).await;
    assert_eq!(report.faults, Vec::<Wrong>::new(), "{report}");
    assert!(report.cases() > 250, "too little was cut: {report}");
    // Where the answer to a write is cut off, nobody can know; else the matrix cuts nothing.
    assert!(report.count(Way::Reset, "08007") > 0, "{report}");
    assert!(report.count(Way::Slices, "ok") > 0, "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_ends_and_whoever_waited_is_told_the_truth() {
    let flows = ["select", "insert", "block", "bound", "copy-in", "pipeline"];
    let report = cut(&flows, &[Way::Silence], 6, 24).await;
    assert_eq!(report.faults, Vec::<Wrong>::new(), "{report}");
    assert!(report.count(Way::Silence, "08007") > 0, "{report}");
}

/// Where the connection below TLS is cut, its end has no farewell.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_cut_off_below_tls_is_told_the_truth() {
    let flows = [
        "login",
        "select",
        "insert",
        "block",
        "copy-in",
        "pipeline",
        "large-row",
    ];
    let report = cut_as(Plan {
        pgherd: crate::EXECUTABLE.into(),
        flows: flows.map(str::to_owned).to_vec(),
        sides: Side::ALL.to_vec(),
        ways: vec![Way::Reset, Way::Close, Way::Slices, Way::Garbage],
        case: None,
        every: 12,
        lanes: 8,
        tls: true,
    })
    .await;
    assert_eq!(report.faults, Vec::<Wrong>::new(), "{report}");
    assert!(report.count(Way::Close, "08007") > 0, "{report}");
    assert!(report.count(Way::Slices, "ok") > 0, "{report}");
}
