//! Breaks things on purpose, and tells what clients saw of it.

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use pgherd_chaos::cuts::{self, Case, Side};
use pgherd_chaos::failover::{self, Fault, Plan, Way};
use pgherd_sandbox::{Error, Replication};

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
    /// Cuts each conversation at each place, on each side and in each way
    Cuts(Cuts),
}

#[derive(Debug, Args)]
struct Cuts {
    /// Only these conversations, by the names in the table
    #[arg(long, value_delimiter = ',')]
    flow: Vec<String>,
    /// Only on this side: client, server
    #[arg(long, value_delimiter = ',')]
    side: Vec<Side>,
    /// Only in these ways: reset, close, silence, stall, slices, garbage
    #[arg(long, value_delimiter = ',')]
    way: Vec<cuts::Way>,
    /// This case alone, as a difference names it
    #[arg(long, conflicts_with_all = ["flow", "side", "way", "every"])]
    case: Option<Case>,
    /// Of all these cases, each one of this number
    #[arg(long, default_value_t = 1)]
    every: usize,
    /// How many at a time
    #[arg(long, default_value_t = 16)]
    lanes: usize,
    /// The executable to test; without it, the one beside this program
    #[arg(long, value_name = "PATH")]
    pgherd: Option<PathBuf>,
}

impl Cuts {
    fn plan(self) -> cuts::Plan {
        let or_all = |given: Vec<_>, all: &[_]| {
            if given.is_empty() {
                all.to_vec()
            } else {
                given
            }
        };
        let sides = match self.case {
            Some(case) => vec![case.side],
            None if self.side.is_empty() => Side::ALL.to_vec(),
            None => self.side,
        };
        cuts::Plan {
            pgherd: self.pgherd.unwrap_or_else(beside),
            flows: self.flow,
            sides,
            ways: or_all(self.way, &cuts::Way::ALL),
            case: self.case,
            every: self.every,
            lanes: self.lanes,
        }
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

#[tokio::main]
async fn main() -> ExitCode {
    let done = async {
        match Command::parse().scenario {
            Scenario::Failover(options) => fail_over(&options.plan()).await,
            Scenario::Cuts(options) => cut(&options.plan()).await,
        }
    };
    let done = tokio::select! {
        done = done => done,
        // Dropping the run stops all that it started.
        _ = tokio::signal::ctrl_c() => return ExitCode::from(130),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("chaos: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a plan of failovers and prints what it gave; whether all was well.
async fn fail_over(plan: &Plan) -> Result<bool, Error> {
    eprintln!("seed {}", plan.seed);
    let report = failover::run(plan).await?;
    println!("{report}");
    // What is only compared with may do wrong.
    Ok(report.faults.is_empty() || plan.way == Way::Pgbouncer)
}

/// The same of cuts.
async fn cut(plan: &cuts::Plan) -> Result<bool, Error> {
    let unknown = |name: &&String| !cuts::flows().any(|known| known == name.as_str());
    if let Some(name) = plan.flows.iter().find(unknown) {
        let all: Vec<&str> = cuts::flows().collect();
        eprintln!("there is no flow {name}; these are: {}", all.join(", "));
        return Ok(false);
    }
    let report = cuts::run(plan).await?;
    println!("{report}");
    Ok(report.faults.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(arguments: &[&str]) -> Plan {
        let command = ["chaos", "failover"].iter().chain(arguments);
        match Command::parse_from(command).scenario {
            Scenario::Failover(options) => options.plan(),
            other => panic!("another scenario: {other:?}"),
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
