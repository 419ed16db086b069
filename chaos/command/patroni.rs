//! `chaos patroni`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use pgherd_chaos::patroni;
use pgherd_sandbox::Replication;

use super::{beside, conclude, fail, show};

/// What may be said of the rig of Patroni.
#[derive(Debug, Args)]
pub(crate) struct Patroni {
    /// How many faults there are; without it, each of those chosen once
    #[arg(long)]
    rounds: Option<usize>,
    /// Only these faults: switchover, postgres, patroni, patroni-freeze, node, freeze, partition,
    /// partition-in, partition-out, proxy-only, dcs-only, split, stale, etcd
    #[arg(long, value_delimiter = ',')]
    faults: Vec<patroni::Fault>,
    /// Wait until a lost primary's lease runs out, 20 seconds each time, where it would be taken away
    #[arg(long)]
    patient: bool,
    /// Replicas do not acknowledge commits, and what is lost is counted
    #[arg(long = "async")]
    asynchronous: bool,
    /// pgherd resolves commits (commit_resolution), and no outcome may be left unknown
    #[arg(long, conflicts_with = "control")]
    resolve: bool,
    /// Pauses must be as short as is promised: a release build, on a machine that nobody else uses
    #[arg(long, conflicts_with_all = ["control"])]
    promised: bool,
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
    /// Where its line of a table of several runs is written
    #[arg(long, value_name = "FILE", hide = true)]
    row: Option<PathBuf>,
}

impl Patroni {
    /// Runs it, and prints what it gave.
    pub(crate) fn run(&self) -> ExitCode {
        let plan = self.plan();
        if let Err(lacking) = patroni::check(&plan.way) {
            return fail(&lacking);
        }
        eprintln!("seed {}", plan.seed);
        let prepared = patroni::Venv::prepare(&self.venv)
            // Before there are threads, so that all of them will be within the network.
            .and_then(|venv| Ok((venv, patroni::Network::enter()?)));
        let (venv, network) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => return fail(&error),
        };
        // What is only compared with may do wrong.
        let must_be_right = plan.way != patroni::Way::Control;
        conclude(async {
            let report = patroni::run(&plan, &network, &venv).await?;
            show(&report, self.row.as_deref())?;
            Ok(report.faults.is_empty() || !must_be_right)
        })
    }

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
            resolve: self.resolve,
            pace: match self.promised {
                true => patroni::Pace::Promised,
                false => patroni::Pace::Loose,
            },
            rounds: self.rounds.unwrap_or(faults.len()),
            faults,
            patient: self.patient,
            seed,
            history: self.history.join(format!("patroni-{seed}.log")),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        options: Patroni,
    }

    #[test]
    fn each_fault_of_patroni_comes_once_unless_more_was_said() {
        let plan = |arguments: &[&str]| {
            let command = ["patroni"].iter().chain(arguments);
            Command::parse_from(command).options.plan()
        };
        let all = plan(&["--seed", "7"]);
        assert_eq!(all.faults, patroni::Fault::ALL);
        assert_eq!((all.rounds, all.seed, all.patient), (14, 7, false));
        assert!(!all.resolve && plan(&["--resolve"]).resolve);
        assert_eq!(plan(&["--promised"]).pace, patroni::Pace::Promised);
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
