//! The short form of `cargo chaos simulate`: some whole proxies, each in a process of its own. That of the machines is
//! beside them.

use std::path::Path;

use pgherd_chaos::simulation::process::Processes;
use pgherd_chaos::simulation::{TAIL, actors, many};

/// How many faults each of them has.
const STEPS: usize = 6;

fn processes() -> Processes {
    let executable = Path::new(env!("CARGO_BIN_EXE_pgherd-chaos"));
    Processes::prepare(executable).expect("there is a C compiler")
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
