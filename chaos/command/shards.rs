//! `chaos shards`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use pgherd_chaos::shards::{self, Fault, Plan};

use super::{beside, conclude, show};

/// What may be said of the shards.
#[derive(Debug, Args)]
pub(crate) struct Shards {
    /// How often something is lost
    #[arg(long, default_value_t = 21)]
    rounds: usize,
    /// Only these faults: kill, stop, freeze, revive (of a shard's primary), proxy, both, coordinators
    #[arg(long, value_delimiter = ',')]
    faults: Vec<Fault>,
    /// Decides about the faults and what clients do; without it, one by chance
    #[arg(long)]
    seed: Option<u64>,
    /// The executable to test; without it, the one beside this program
    #[arg(long, value_name = "PATH")]
    pgherd: Option<PathBuf>,
    /// Where the history is written
    #[arg(long, value_name = "DIRECTORY", default_value = "target/chaos")]
    history: PathBuf,
    /// Where its line of a table of several runs is written
    #[arg(long, value_name = "FILE", hide = true)]
    row: Option<PathBuf>,
}

impl Shards {
    /// Runs it, and prints what it gave.
    pub(crate) fn run(&self) -> ExitCode {
        let seed = self.seed.unwrap_or_else(rand::random);
        eprintln!("seed {seed}");
        let plan = Plan {
            pgherd: self.pgherd.clone().unwrap_or_else(beside),
            rounds: self.rounds,
            faults: if self.faults.is_empty() {
                Fault::ALL.to_vec()
            } else {
                self.faults.clone()
            },
            seed,
            history: self.history.join(format!("shards-{seed}.log")),
        };
        conclude(async {
            let report = shards::run(&plan).await?;
            show(&report, self.row.as_deref())?;
            Ok(report.faults.is_empty())
        })
    }
}
