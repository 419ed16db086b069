//! `chaos all`: each scenario in turn, and one table.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use clap::Args;

use super::{beside, fail};

/// What may be said of all scenarios at once.
#[derive(Debug, Args)]
pub(crate) struct All {
    /// Little of each, in some minutes
    #[arg(long)]
    short: bool,
    /// The first of their seeds
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The executable to test; without it, the one beside this program
    #[arg(long, value_name = "PATH")]
    pgherd: Option<PathBuf>,
    /// Where their histories are written
    #[arg(long, value_name = "DIRECTORY", default_value = "target/chaos")]
    history: PathBuf,
}

/// A scenario: what it is called, and how it is run for long and in short.
struct Scenario {
    name: &'static str,
    long: &'static str,
    short: &'static str,
}

const SCENARIOS: [Scenario; 15] = [
    Scenario {
        name: "synchronous",
        long: "failover --failovers 90",
        short: "failover --failovers 3",
    },
    Scenario {
        name: "synchronous, commits resolved",
        long: "failover --failovers 110 --resolve",
        short: "failover --failovers 3 --resolve",
    },
    Scenario {
        name: "synchronous, reading from replicas",
        long: "failover --failovers 10 --reads",
        short: "failover --failovers 1 --reads",
    },
    Scenario {
        name: "asynchronous",
        long: "failover --failovers 10 --async",
        short: "failover --failovers 2 --async",
    },
    Scenario {
        name: "asynchronous, commits resolved",
        long: "failover --failovers 20 --async --resolve",
        short: "failover --failovers 2 --async --resolve",
    },
    Scenario {
        name: "control: PgBouncer, told of each primary",
        long: "failover --failovers 4 --control",
        short: "failover --failovers 1 --control",
    },
    Scenario {
        name: "control: PgBouncer, HAProxy finds it out",
        long: "failover --failovers 4 --control=haproxy",
        short: "failover --failovers 1 --control=haproxy",
    },
    Scenario {
        name: "Patroni, synchronous",
        long: "patroni --rounds 22",
        short: "patroni --faults switchover,postgres",
    },
    Scenario {
        name: "control: PgBouncer behind HAProxy",
        long: "patroni --control --faults switchover,postgres,node,freeze,partition",
        short: "patroni --control --faults switchover",
    },
    Scenario {
        name: "frozen replicas",
        long: "replicas --rounds 20",
        short: "replicas --rounds 3",
    },
    Scenario {
        name: "canaries",
        long: "canary --seconds 15",
        short: "canary --seconds 2",
    },
    Scenario {
        name: "cuts",
        long: "cuts --lanes 16",
        short: "cuts --every 40",
    },
    Scenario {
        name: "simulation: machines",
        long: "simulate --machines --seeds 2000",
        short: "simulate --machines --seeds 100",
    },
    Scenario {
        name: "simulation: whole proxies",
        long: "simulate --actors --seeds 60",
        short: "simulate --actors --seeds 10 --steps 8",
    },
    Scenario {
        name: "planted bugs",
        long: "selfcheck",
        short: "selfcheck --bug retry-write,forget-undo,skip-fence",
    },
];

/// How a scenario has ended.
struct Ended {
    name: &'static str,
    command: String,
    took: f64,
    well: bool,
    /// Its line of the table, if it has failovers.
    row: Option<String>,
}

impl All {
    /// Runs them, and prints what they gave.
    pub(crate) fn run(&self) -> ExitCode {
        let mut all = Vec::new();
        for scenario in &SCENARIOS {
            match self.one(scenario) {
                Ok(ended) => all.push(ended),
                Err(error) => return fail(&error),
            }
        }
        print(&all);
        match all.iter().all(|ended| ended.well) {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        }
    }

    fn one(&self, scenario: &Scenario) -> std::io::Result<Ended> {
        let words = if self.short {
            scenario.short
        } else {
            scenario.long
        };
        println!("## {}: cargo chaos {words}\n", scenario.name);
        fs::create_dir_all(&self.history)?;
        let row = self.history.join("row.md");
        let _ = fs::remove_file(&row);
        let began = Instant::now();
        let status = Command::new(std::env::current_exe()?)
            .args(self.words(words, &row))
            .status()?;
        println!();
        Ok(Ended {
            name: scenario.name,
            command: words.to_owned(),
            took: began.elapsed().as_secs_f64(),
            well: status.success(),
            row: fs::read_to_string(row).ok(),
        })
    }

    /// The whole command line of one scenario.
    fn words(&self, words: &str, row: &Path) -> Vec<String> {
        let mut line: Vec<String> = words.split(' ').map(str::to_owned).collect();
        let is = |word: &str| words.split(' ').any(|it| it == word);
        // Bugs are planted in an executable that is built for them.
        let own = is("simulate") || is("selfcheck") || words.contains("--control");
        if !own {
            let pgherd = self.pgherd.clone().unwrap_or_else(beside);
            line.extend(["--pgherd".to_owned(), pgherd.display().to_string()]);
        }
        if is("failover") || is("patroni") {
            line.extend(["--seed".to_owned(), self.seed.to_string()]);
            let history = self.history.display().to_string();
            line.extend(["--history".to_owned(), history]);
            line.extend(["--row".to_owned(), row.display().to_string()]);
        }
        line
    }
}

fn print(all: &[Ended]) {
    println!(
        "| failovers | n | operations | writes acknowledged | lost | doubled | outcome unknown | idle clients cut | \
         to an old primary | new primary → first write, ms: p50 | p99 | max |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|"
    );
    for ended in all {
        if let Some(row) = &ended.row {
            println!("| {} {}", ended.name, row.trim_end());
        }
    }
    println!("\n| scenario | command | seconds | all was well |\n|---|---|---|---|");
    for ended in all {
        let well = if ended.well { "yes" } else { "**no**" };
        println!(
            "| {} | `{}` | {:.0} | {well} |",
            ended.name, ended.command, ended.took
        );
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{All, SCENARIOS};

    #[test]
    fn each_scenario_is_a_command_that_there_is() {
        use clap::Parser as _;
        let all = All {
            short: false,
            seed: 7,
            pgherd: Some("/x".into()),
            history: "/y".into(),
        };
        for scenario in &SCENARIOS {
            for words in [scenario.long, scenario.short] {
                let line = all.words(words, Path::new("/z"));
                let whole = std::iter::once("chaos".to_owned()).chain(line);
                let parsed = crate::Command::try_parse_from(whole);
                assert!(parsed.is_ok(), "{words}: {:?}", parsed.err());
            }
        }
    }
}
