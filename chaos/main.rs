//! Breaks things on purpose, and tells what clients saw of it.

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use pgherd_chaos::failover::{self, Fault, Plan, Way};
use pgherd_chaos::patroni;
use pgherd_chaos::report::Report;
use pgherd_sandbox::{Error, Replication};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

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
    /// Breaks a primary of Patroni's in all ways, in networks of its own; as root
    Patroni(Patroni),
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

#[derive(Debug, Args)]
struct Patroni {
    /// How many faults there are; without it, each of those chosen once
    #[arg(long)]
    rounds: Option<usize>,
    /// Only these faults: switchover, postgres, node, freeze, partition, partition-in, partition-out,
    /// proxy-only, dcs-only, split, stale
    #[arg(long, value_delimiter = ',')]
    faults: Vec<patroni::Fault>,
    /// Wait until a lost primary's lease runs out, 20 seconds each time, where it would be taken away
    #[arg(long)]
    patient: bool,
    /// Replicas do not acknowledge commits, and what is lost is counted
    #[arg(long = "async")]
    asynchronous: bool,
    /// Decides about the faults and what clients do; without it, one by chance
    #[arg(long)]
    seed: Option<u64>,
    /// Clients go through PgBouncer behind HAProxy, which asks each Patroni whether it leads
    #[arg(long, conflicts_with = "pgherd")]
    control: bool,
    /// The executable to test; without it, the one beside this program
    #[arg(long, value_name = "PATH")]
    pgherd: Option<PathBuf>,
    /// Where Patroni is, or is installed by pip the first time
    #[arg(long, value_name = "DIRECTORY", default_value = "target/patroni")]
    venv: PathBuf,
    /// Where the history is written
    #[arg(long, value_name = "DIRECTORY", default_value = "target/chaos")]
    history: PathBuf,
}

impl Patroni {
    fn plan(&self) -> patroni::Plan {
        let seed = self.seed.unwrap_or_else(rand::random);
        let faults = if self.faults.is_empty() {
            patroni::Fault::ALL.to_vec()
        } else {
            self.faults.clone()
        };
        patroni::Plan {
            way: if self.control {
                patroni::Way::Control
            } else {
                patroni::Way::Pgherd(self.pgherd.clone().unwrap_or_else(beside))
            },
            replication: if self.asynchronous {
                Replication::Asynchronous
            } else {
                Replication::Synchronous
            },
            rounds: self.rounds.unwrap_or(faults.len()),
            faults,
            patient: self.patient,
            seed,
            history: self.history.join(format!("patroni-{seed}.log")),
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
        Scenario::Failover(options) => fail_over(&options.plan()),
        Scenario::Patroni(options) => break_patroni(&options),
    }
}

fn fail_over(plan: &Plan) -> ExitCode {
    eprintln!("seed {}", plan.seed);
    // What is only compared with may do wrong.
    let must_be_right = plan.way != Way::Pgbouncer;
    conclude(failover::run(plan), must_be_right)
}

fn break_patroni(options: &Patroni) -> ExitCode {
    let plan = options.plan();
    if let Err(lacking) = patroni::check(&plan.way) {
        eprintln!("chaos: {lacking}");
        return ExitCode::FAILURE;
    }
    eprintln!("seed {}", plan.seed);
    let prepared = patroni::Venv::prepare(&options.venv)
        // Before there are threads, so that all of them will be within the network.
        .and_then(|venv| Ok((venv, patroni::Network::enter()?)));
    let (venv, network) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            eprintln!("chaos: {error}");
            return ExitCode::FAILURE;
        }
    };
    let must_be_right = plan.way != patroni::Way::Control;
    conclude(patroni::run(&plan, &network, &venv), must_be_right)
}

/// Runs something to its end, or until somebody wants it to end, and shows what came of it.
fn conclude(run: impl Future<Output = Result<Report, Error>>, must_be_right: bool) -> ExitCode {
    let runtime = match Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("chaos: {error}");
            return ExitCode::FAILURE;
        }
    };
    let done = runtime.block_on(async {
        tokio::select! {
            done = run => Some(done),
            // Dropping the run stops all that it started.
            () = unwanted() => None,
        }
    });
    match done {
        Some(Ok(report)) => {
            println!("{report}");
            if report.faults.is_empty() || !must_be_right {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Some(Err(error)) => {
            eprintln!("chaos: {error}");
            ExitCode::FAILURE
        }
        None => ExitCode::from(130),
    }
}

/// Waits for Ctrl-C, or SIGTERM.
async fn unwanted() {
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut terminated) => drop(terminated.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminated => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(arguments: &[&str]) -> Plan {
        let command = ["chaos", "failover"].iter().chain(arguments);
        match Command::parse_from(command).scenario {
            Scenario::Failover(options) => options.plan(),
            Scenario::Patroni(_) => panic!("it is no other scenario"),
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

    #[test]
    fn each_fault_of_patroni_comes_once_unless_more_was_said() {
        let plan = |arguments: &[&str]| {
            let command = ["chaos", "patroni"].iter().chain(arguments);
            match Command::parse_from(command).scenario {
                Scenario::Patroni(options) => options.plan(),
                Scenario::Failover(_) => panic!("it is no other scenario"),
            }
        };
        let all = plan(&["--seed", "7"]);
        assert_eq!(all.faults, patroni::Fault::ALL);
        assert_eq!((all.rounds, all.seed, all.patient), (11, 7, false));
        assert_eq!(all.replication, Replication::Synchronous);
        let some = plan(&[
            "--faults",
            "partition-in,stale",
            "--rounds",
            "5",
            "--control",
        ]);
        let (one, two) = (patroni::Fault::PartitionIn, patroni::Fault::Stale);
        assert_eq!(some.faults, [one, two]);
        assert_eq!((some.rounds, some.way), (5, patroni::Way::Control));
    }
}
