//! `chaos canary`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use pgherd_chaos::canary::{self, Kind};

use super::{beside, conclude};

/// What may be said of the canaries.
#[derive(Debug, Args)]
pub(crate) struct Canary {
    /// Only these: answers, cancels, state, prepared, listen
    #[arg(long, value_delimiter = ',')]
    kind: Vec<Kind>,
    /// How many clients there are; 200 that ask and 12 of all others, if it is not said
    #[arg(long)]
    clients: Option<usize>,
    /// How long each of them goes on
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Decides about what clients do; without it, one by chance
    #[arg(long)]
    seed: Option<u64>,
    /// The executable to test; without it, the one beside this program
    #[arg(long, value_name = "PATH")]
    pgherd: Option<PathBuf>,
}

impl Canary {
    /// Runs them, and prints what they gave.
    pub(crate) fn run(self) -> ExitCode {
        let seed = self.seed.unwrap_or_else(rand::random);
        let plan = canary::Plan {
            pgherd: self.pgherd.unwrap_or_else(beside),
            kinds: if self.kind.is_empty() {
                Kind::ALL.to_vec()
            } else {
                self.kind
            },
            clients: self.clients,
            time: Duration::from_secs(self.seconds),
            seed,
        };
        conclude(async {
            let report = canary::run(&plan).await?;
            println!("{report}");
            Ok(report.faults.is_empty())
        })
    }
}
