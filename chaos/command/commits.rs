//! `chaos commits`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use pgherd_chaos::commits::{self, Case, Fault, Flow, Plan};

use super::{beside, conclude};

/// What may be said of the commits.
#[derive(Debug, Args)]
pub(crate) struct Commits {
    /// Only these: commit, reader, abort, resolve, orphan, forward, backward, clear
    #[arg(long, value_delimiter = ',')]
    flow: Vec<Flow>,
    /// Only these faults: cut, coordinator, recovery, proxy, proxies, freeze, server, others, both
    #[arg(long, value_delimiter = ',')]
    faults: Vec<Fault>,
    /// This case alone, as a fault names it
    #[arg(long, conflicts_with_all = ["flow", "faults", "every"])]
    case: Option<Case>,
    /// Of all these cases, each one of this number
    #[arg(long, default_value_t = 1)]
    every: usize,
    /// How often all of them
    #[arg(long, default_value_t = 1)]
    rounds: usize,
    /// How many at a time; a third of them have servers of their own
    #[arg(long, default_value_t = 12)]
    lanes: usize,
    /// The executable to test; without it, the one beside this program
    #[arg(long, value_name = "PATH")]
    pgherd: Option<PathBuf>,
    /// Where the history is written
    #[arg(long, value_name = "DIRECTORY", default_value = "target/chaos")]
    history: PathBuf,
}

impl Commits {
    /// Runs them, and prints what they gave.
    pub(crate) fn run(self) -> ExitCode {
        let plan = Plan {
            pgherd: self.pgherd.unwrap_or_else(beside),
            flows: or_all(self.flow, &Flow::ALL),
            faults: or_all(self.faults, &Fault::ALL),
            case: self.case,
            every: self.every,
            rounds: self.rounds,
            lanes: self.lanes,
            history: self.history.join("commits.log"),
        };
        conclude(async {
            let report = commits::run(&plan).await?;
            println!("{report}");
            Ok(report.faults.is_empty())
        })
    }
}

fn or_all<T: Copy>(given: Vec<T>, all: &[T]) -> Vec<T> {
    match given.is_empty() {
        true => all.to_vec(),
        false => given,
    }
}
