//! `chaos cuts`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use pgherd_chaos::cuts::{self, Case, Side};

use super::{beside, conclude, fail};

/// What may be said of the cuts.
#[derive(Debug, Args)]
pub(crate) struct Cuts {
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
    /// With TLS between clients and pgherd, and between pgherd and the server
    #[arg(long)]
    tls: bool,
    /// The executable to test; without it, the one beside this program
    #[arg(long, value_name = "PATH")]
    pgherd: Option<PathBuf>,
}

impl Cuts {
    /// Runs them, and prints what they gave.
    pub(crate) fn run(self) -> ExitCode {
        let plan = self.plan();
        let unknown = |name: &&String| !cuts::flows().any(|known| known == name.as_str());
        if let Some(name) = plan.flows.iter().find(unknown) {
            let all: Vec<&str> = cuts::flows().collect();
            return fail(&format!(
                "there is no flow {name}; these are: {}",
                all.join(", ")
            ));
        }
        conclude(async {
            let report = cuts::run(&plan).await?;
            println!("{report}");
            Ok(report.faults.is_empty())
        })
    }

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
            tls: self.tls,
        }
    }
}
