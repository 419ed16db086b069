//! `chaos simulate`.

use std::env;
use std::ops::Range;
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use pgherd_chaos::checks::Check;
use pgherd_chaos::simulation::process::{self, Processes};
use pgherd_chaos::simulation::{Broken, TAIL, actors, machines, many};

use super::fail;

/// What may be said of the simulation.
#[derive(Debug, Args)]
pub(crate) struct Simulate {
    /// How many seeds are run
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// This one alone, and what happens in it
    #[arg(long)]
    seed: Option<u64>,
    /// How many faults each of them has
    #[arg(long, default_value_t = 24)]
    steps: usize,
    /// How many of the last events are shown where something is broken
    #[arg(long, default_value_t = TAIL)]
    tail: usize,
    /// Only the judges and pools of several proxies
    #[arg(long, conflicts_with = "actors")]
    machines: bool,
    /// Only whole proxies over a simulated network
    #[arg(long)]
    actors: bool,
    /// Goes on behind a seed that is broken, to name all that is found
    #[arg(long)]
    each: bool,
    /// Runs one whole proxy in this process, where chance was taken from it
    #[arg(long, hide = true)]
    inside: bool,
}

/// Each seed whose number is a multiple of it is run twice.
const AGAIN: u64 = 8;

impl Simulate {
    fn seeds(&self) -> Range<u64> {
        match self.seed {
            Some(seed) => seed..seed + 1,
            None => 0..self.seeds,
        }
    }

    /// Runs it, and prints what it gave.
    pub(crate) fn run(&self) -> ExitCode {
        if self.inside {
            return match process::inside(self.seed.unwrap_or_default(), self.steps, self.tail) {
                Ok(line) => {
                    println!("{line}");
                    ExitCode::SUCCESS
                }
                Err(broken) => {
                    eprintln!("{broken}");
                    ExitCode::FAILURE
                }
            };
        }
        if !self.actors && self.machines() != ExitCode::SUCCESS {
            return ExitCode::FAILURE;
        }
        if self.machines {
            return ExitCode::SUCCESS;
        }
        self.actors()
    }

    fn actors(&self) -> ExitCode {
        let began = Instant::now();
        let here = env::current_exe().unwrap_or_default();
        let processes = match Processes::prepare(&here) {
            Ok(processes) => processes,
            Err(error) => return fail(&error),
        };
        let mut seen = actors::Seen::default();
        let run = |seed: u64| {
            let one = processes.run(seed, self.steps, self.tail)?;
            // Now and then it is seen whether a seed still is one run.
            if seed.is_multiple_of(AGAIN) {
                let again = processes.run(seed, self.steps, self.tail)?;
                if again != one {
                    let why = format!("two runs of one seed differ: {one:?} and {again:?}");
                    let why = Check::Seed.caught(why);
                    let tail = Vec::new();
                    return Err(Broken { why, tail });
                }
            }
            Ok(one)
        };
        if !self.are_well("--actors", run, |one| seen.add(&one)) {
            return ExitCode::FAILURE;
        }
        println!(
            "actors: {} seeds in {:.1?}: {seen}",
            self.seeds().count(),
            began.elapsed()
        );
        ExitCode::SUCCESS
    }

    fn machines(&self) -> ExitCode {
        let began = Instant::now();
        let mut seen = machines::Seen::default();
        let run = |seed| machines::run(seed, self.steps);
        if !self.are_well("--machines", run, |one| seen.add(&one)) {
            return ExitCode::FAILURE;
        }
        println!(
            "machines: {} seeds in {:.1?}: {seen}",
            self.seeds().count(),
            began.elapsed()
        );
        ExitCode::SUCCESS
    }

    /// Runs all seeds, or up to the first that is broken; tells whether none was.
    fn are_well<T: Send>(
        &self,
        which: &str,
        run: impl Fn(u64) -> Result<T, Broken> + Sync,
        mut add: impl FnMut(T) + Send,
    ) -> bool {
        let run = |seed| match run(seed) {
            Err(broken) if !self.each => Err(broken),
            ended => Ok(ended),
        };
        let mut well = true;
        let done = many::all(self.seeds(), run, |seed, ended| match ended {
            Ok(one) => add(one),
            Err(broken) => {
                well = false;
                self.broken(which, seed, &broken);
            }
        });
        if let Err((seed, broken)) = done {
            well = false;
            self.broken(which, seed, &broken);
        }
        well
    }

    fn broken(&self, which: &str, seed: u64, broken: &Broken) {
        eprintln!("{broken}");
        eprintln!(
            "cargo chaos simulate {which} --seed {seed} --steps {}",
            self.steps
        );
    }
}
