//! `chaos failover`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use pgherd_chaos::failover::{self, Fault, Pace, Plan, Way};
use pgherd_sandbox::Replication;

use super::{beside, conclude, show};

/// What may be said of the light rig.
#[derive(Debug, Args)]
pub(crate) struct Failover {
    /// How often the primary is lost
    #[arg(long, default_value_t = 20)]
    failovers: usize,
    /// Replicas acknowledge each commit, so that nothing may be lost (default)
    #[arg(long)]
    sync: bool,
    /// They do not, and what is lost is counted
    #[arg(long = "async", conflicts_with = "sync")]
    asynchronous: bool,
    /// pgherd resolves commits (commit_resolution), and no outcome may be left unknown
    #[arg(long, conflicts_with_all = ["direct", "control"])]
    resolve: bool,
    /// pgherd reads from replicas, where each client must find what it has written
    #[arg(long, conflicts_with_all = ["direct", "control"])]
    reads: bool,
    /// Pauses must be as short as is promised: a release build, on a machine that nobody else uses
    #[arg(long, conflicts_with_all = ["direct", "control"])]
    promised: bool,
    /// Decides about the faults and what clients do; without it, one by chance
    #[arg(long)]
    seed: Option<u64>,
    /// Only these faults: kill, stop, freeze, revive, and as root full, room; without it, the first four
    #[arg(long, value_delimiter = ',')]
    faults: Vec<Fault>,
    /// All clients go to the servers, and are told which is the primary
    #[arg(long)]
    direct: bool,
    /// They go through PgBouncer: told of each primary, or before an HAProxy that asks who leads
    #[arg(
        long,
        value_name = "HOW",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "told",
        conflicts_with_all = ["direct", "pgherd"]
    )]
    control: Option<Control>,
    /// The executable to test; without it, the one beside this program
    #[arg(long, value_name = "PATH", conflicts_with = "direct")]
    pgherd: Option<PathBuf>,
    /// Where the history is written
    #[arg(long, value_name = "DIRECTORY", default_value = "target/chaos")]
    history: PathBuf,
    /// Where its line of a table of several runs is written
    #[arg(long, value_name = "FILE", hide = true)]
    row: Option<PathBuf>,
}

/// How PgBouncer comes to the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Control {
    /// It is told, and reloads.
    Told,
    /// HAProxy finds out, by a health check.
    Haproxy,
}

impl Failover {
    /// Runs it, and prints what it gave.
    pub(crate) fn run(&self) -> ExitCode {
        let plan = self.plan();
        eprintln!("seed {}", plan.seed);
        // What is only compared with may do wrong.
        let must_be_right = !matches!(plan.way, Way::Pgbouncer | Way::Haproxy);
        conclude(async {
            let report = failover::run(&plan).await?;
            show(&report, self.row.as_deref())?;
            Ok(report.faults.is_empty() || !must_be_right)
        })
    }

    fn plan(&self) -> Plan {
        let seed = self.seed.unwrap_or_else(rand::random);
        let way = match (self.direct, self.control) {
            (true, _) => Way::Direct,
            (_, Some(Control::Told)) => Way::Pgbouncer,
            (_, Some(Control::Haproxy)) => Way::Haproxy,
            (false, None) => Way::Pgherd(self.pgherd.clone().unwrap_or_else(beside)),
        };
        Plan {
            way,
            replication: if self.asynchronous {
                Replication::Asynchronous
            } else {
                Replication::Synchronous
            },
            resolve: self.resolve,
            reads: self.reads,
            pace: match self.promised {
                true => Pace::Promised,
                false => Pace::Loose,
            },
            failovers: self.failovers,
            faults: if self.faults.is_empty() {
                Fault::USUAL.to_vec()
            } else {
                self.faults.clone()
            },
            seed,
            history: self.history.join(format!("failover-{seed}.log")),
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
        options: Failover,
    }

    fn plan(arguments: &[&str]) -> Plan {
        let command = ["failover"].iter().chain(arguments);
        Command::parse_from(command).options.plan()
    }

    #[test]
    fn the_plan_is_what_was_said() {
        let plan = plan(&["--failovers", "3", "--async", "--seed", "7", "--direct"]);
        assert_eq!((plan.failovers, plan.seed), (3, 7));
        assert_eq!(plan.way, Way::Direct);
        assert_eq!(plan.replication, Replication::Asynchronous);
        assert_eq!(plan.faults, Fault::USUAL);
        assert_eq!(plan.pace, Pace::Loose);
    }

    #[test]
    fn faults_are_chosen() {
        let plan = plan(&["--faults", "kill,freeze", "--pgherd", "/x", "--promised"]);
        assert_eq!(plan.pace, Pace::Promised);
        assert_eq!(plan.faults, [Fault::Kill, Fault::Freeze]);
        assert_eq!(plan.way, Way::Pgherd("/x".into()));
        assert_eq!(plan.replication, Replication::Synchronous);
    }
}
