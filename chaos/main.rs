//! Breaks things on purpose, and tells what clients saw of it.

use std::env;
use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::{Args, Parser, Subcommand};
use pgherd_chaos::failover::{self, Fault, Plan, Way};
use pgherd_chaos::simulation::process::{self, Processes};
use pgherd_chaos::simulation::{Broken, TAIL, actors, machines, many};
use pgherd_sandbox::Replication;

#[derive(Debug, Parser)]
#[command(name = "chaos", version, about)]
struct Command {
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Debug, Subcommand)]
enum Scenario {
    /// Takes the primary away again and again, while clients of all kinds go on
    Failover(Failover),
    /// Runs what a seed decides about in a time of its own: the same seed is the same run
    Simulate(Simulate),
}

#[derive(Debug, Args)]
struct Simulate {
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

    fn run(&self) -> ExitCode {
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
            Err(error) => {
                eprintln!("chaos: {error}");
                return ExitCode::FAILURE;
            }
        };
        let mut seen = actors::Seen::default();
        let run = |seed: u64| {
            let one = processes.run(seed, self.steps, self.tail)?;
            // Now and then it is seen whether a seed still is one run.
            if seed.is_multiple_of(AGAIN) {
                let again = processes.run(seed, self.steps, self.tail)?;
                if again != one {
                    let why = format!("two runs of one seed differ: {one:?} and {again:?}");
                    let tail = Vec::new();
                    return Err(Broken { why, tail });
                }
            }
            Ok(one)
        };
        if let Err((seed, broken)) = many::all(self.seeds(), run, |_, one| seen.add(&one)) {
            return self.broken("--actors", seed, &broken);
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
        if let Err((seed, broken)) = many::all(self.seeds(), run, |_, one| seen.add(&one)) {
            return self.broken("--machines", seed, &broken);
        }
        println!(
            "machines: {} seeds in {:.1?}: {seen}",
            self.seeds().count(),
            began.elapsed()
        );
        ExitCode::SUCCESS
    }

    fn broken(&self, which: &str, seed: u64, broken: &Broken) -> ExitCode {
        eprintln!("{broken}");
        eprintln!(
            "cargo chaos simulate {which} --seed {seed} --steps {}",
            self.steps
        );
        ExitCode::FAILURE
    }
}

#[derive(Debug, Args)]
struct Failover {
    /// How often the primary is lost
    #[arg(long, default_value_t = 20)]
    failovers: usize,
    /// Replicas acknowledge each commit, so that nothing may be lost (default)
    #[arg(long)]
    sync: bool,
    /// They do not, and what is lost is counted
    #[arg(long = "async", conflicts_with = "sync")]
    asynchronous: bool,
    /// Decides about the faults and what clients do; without it, one by chance
    #[arg(long)]
    seed: Option<u64>,
    /// Only these faults: kill, stop, freeze, revive
    #[arg(long, value_delimiter = ',')]
    faults: Vec<Fault>,
    /// All clients go to the servers, and are told which is the primary
    #[arg(long)]
    direct: bool,
    /// They go through PgBouncer, which is told
    #[arg(long, conflicts_with_all = ["direct", "pgherd"])]
    control: bool,
    /// The executable to test; without it, the one beside this program
    #[arg(long, value_name = "PATH", conflicts_with = "direct")]
    pgherd: Option<PathBuf>,
    /// Where the history is written
    #[arg(long, value_name = "DIRECTORY", default_value = "target/chaos")]
    history: PathBuf,
}

impl Failover {
    fn plan(self) -> Plan {
        let seed = self.seed.unwrap_or_else(rand::random);
        let way = match (self.direct, self.control) {
            (true, _) => Way::Direct,
            (_, true) => Way::Pgbouncer,
            (false, false) => Way::Pgherd(self.pgherd.unwrap_or_else(beside)),
        };
        Plan {
            way,
            replication: if self.asynchronous {
                Replication::Asynchronous
            } else {
                Replication::Synchronous
            },
            failovers: self.failovers,
            faults: if self.faults.is_empty() {
                Fault::ALL.to_vec()
            } else {
                self.faults
            },
            seed,
            history: self.history.join(format!("failover-{seed}.log")),
        }
    }
}

/// The executable in the same directory as this program.
fn beside() -> PathBuf {
    let here = env::current_exe().unwrap_or_default();
    here.with_file_name("pgherd")
}

fn main() -> ExitCode {
    match Command::parse().scenario {
        Scenario::Failover(options) => fail_over(options),
        Scenario::Simulate(options) => options.run(),
    }
}

#[tokio::main]
async fn fail_over(options: Failover) -> ExitCode {
    let plan = options.plan();
    eprintln!("seed {}", plan.seed);
    let done = tokio::select! {
        done = failover::run(&plan) => done,
        // Dropping the run stops all that it started.
        _ = tokio::signal::ctrl_c() => return ExitCode::from(130),
    };
    match done {
        Ok(report) => {
            println!("{report}");
            // What is only compared with may do wrong.
            if report.faults.is_empty() || plan.way == Way::Pgbouncer {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => {
            eprintln!("chaos: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(arguments: &[&str]) -> Plan {
        let command = ["chaos", "failover"].iter().chain(arguments);
        match Command::parse_from(command).scenario {
            Scenario::Failover(options) => options.plan(),
            Scenario::Simulate(_) => unreachable!("it was told to fail over"),
        }
    }

    #[test]
    fn the_plan_is_what_was_said() {
        let plan = plan(&["--failovers", "3", "--async", "--seed", "7", "--direct"]);
        assert_eq!((plan.failovers, plan.seed), (3, 7));
        assert_eq!(plan.way, Way::Direct);
        assert_eq!(plan.replication, Replication::Asynchronous);
        assert_eq!(plan.faults, Fault::ALL);
    }

    #[test]
    fn faults_are_chosen() {
        let plan = plan(&["--faults", "kill,freeze", "--pgherd", "/x"]);
        assert_eq!(plan.faults, [Fault::Kill, Fault::Freeze]);
        assert_eq!(plan.way, Way::Pgherd("/x".into()));
        assert_eq!(plan.replication, Replication::Synchronous);
    }
}
