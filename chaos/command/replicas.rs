//! `chaos replicas`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use pgherd_chaos::replicas;

use super::{beside, conclude};

/// What may be said of replicas that freeze.
#[derive(Debug, Args)]
pub(crate) struct Replicas {
    /// How often one of them is frozen
    #[arg(long, default_value_t = 10)]
    rounds: usize,
    /// Decides about what clients do; without it, one by chance
    #[arg(long)]
    seed: Option<u64>,
    /// The executable to test; without it, the one beside this program
    #[arg(long, value_name = "PATH")]
    pgherd: Option<PathBuf>,
    /// Where the history is written
    #[arg(long, value_name = "DIRECTORY", default_value = "target/chaos")]
    history: PathBuf,
}

impl Replicas {
    /// Runs it, and prints what it gave.
    pub(crate) fn run(self) -> ExitCode {
        let seed = self.seed.unwrap_or_else(rand::random);
        let plan = replicas::Plan {
            pgherd: self.pgherd.unwrap_or_else(beside),
            rounds: self.rounds,
            seed,
            history: self.history.join(format!("replicas-{seed}.log")),
        };
        conclude(async {
            let report = replicas::run(&plan).await?;
            println!("{report}");
            Ok(report.faults.is_empty())
        })
    }
}
