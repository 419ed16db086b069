//! The short form of `cargo chaos simulate`: some whole proxies, each in a process of its own. That of the machines is
//! beside them.

use std::path::Path;
use std::process::Command;

use pgherd_chaos::checks::{Check, named};
use pgherd_chaos::simulation::process::Processes;
use pgherd_chaos::simulation::{TAIL, actors, many};
use pgherd_planted::{Bug, VARIABLE};

/// How many faults each of them has.
const STEPS: usize = 6;

/// What runs a seed.
const EXECUTABLE: &str = env!("CARGO_BIN_EXE_pgherd-chaos");

fn processes() -> Processes {
    Processes::prepare(Path::new(EXECUTABLE)).expect("there is a C compiler")
}

#[test]
fn whole_proxies_keep_their_promises() {
    let processes = processes();
    let mut all = actors::Seen::default();
    let run = |seed| processes.run(seed, STEPS, TAIL);
    if let Err((seed, broken)) = many::all(0..12, run, |_, one| all.add(&one)) {
        panic!("{broken}\ncargo chaos simulate --actors --seed {seed} --steps {STEPS}");
    }
    // A simulation in which nothing happens shows nothing.
    assert!(all.done > 10_000 && all.promotions > 10, "{all:?}");
    assert!(all.unknown > 10 && all.undone > 10, "{all:?}");
}

#[test]
fn a_seed_is_one_run() {
    let processes = processes();
    let run = |seed| processes.run(seed, 4, TAIL).expect("it holds");
    let once = run(3);
    assert_eq!(once, run(3));
    assert_ne!(once.sum, run(4).sum);
}

/// The short form of `cargo chaos selfcheck`: what is wrong on purpose is caught, by the check that is there for it.
#[test]
fn planted_bugs_are_caught() {
    for (bug, which, check) in [
        (Bug::SkipEpochCheck, "--machines", Check::Verdict),
        (Bug::SkipFence, "--machines", Check::Epoch),
        (Bug::DropHold, "--actors", Check::Errors),
        (Bug::RetryWrite, "--actors", Check::Doubled),
    ] {
        let run = Command::new(EXECUTABLE)
            .args(["simulate", which, "--seeds", "24", "--steps", "12"])
            .env(VARIABLE, bug.name())
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&run.stderr);
        assert!(!run.status.success(), "{bug}: {said}");
        assert_eq!(named(&said), [check], "{bug}: {said}");
    }
}
