//! `chaos all`: each scenario in turn, and one table.

mod run;
mod scenarios;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::thread;
use std::time::Instant;

use clap::Args;
use parking_lot::Mutex;
use pgherd_chaos::report::COLUMNS;

use super::{beside, cargo, fail, selfcheck};
use run::{Outcome, wait};
use scenarios::{Built, Part, SCENARIOS, Scenario};

/// How many of those scenarios run beside each other that want no quiet machine: much of their time they wait.
const LANES: usize = 2;

/// What may be said of all scenarios at once.
#[derive(Debug, Args)]
pub(crate) struct All {
    /// Little of each, in some minutes, with the executables as they are
    #[arg(long)]
    short: bool,
    /// Only those that measure pauses, and want a quiet machine; or only the rest
    #[arg(long)]
    part: Option<Part>,
    /// The executables beside this program instead of release builds
    #[arg(long)]
    as_built: bool,
    /// The first of their seeds
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The executable to test; without it, a release build
    #[arg(long, value_name = "PATH")]
    pgherd: Option<PathBuf>,
    /// Where their histories are written, and the tables, in all.md
    #[arg(long, value_name = "DIRECTORY", default_value = "target/chaos")]
    history: PathBuf,
}

/// The executables.
struct Tools {
    /// This program, built to measure.
    chaos: PathBuf,
    /// This program as it runs, with debug assertions.
    checking: PathBuf,
    pgherd: PathBuf,
}

/// How a scenario has ended.
struct Ended<'a> {
    scenario: &'a Scenario,
    words: &'static str,
    took: f64,
    outcome: Outcome,
    /// Its line of the table, if it has failovers.
    row: Option<String>,
}

impl All {
    /// Runs them, and prints what they gave.
    pub(crate) fn run(&self) -> ExitCode {
        let tools = match self.tools() {
            Ok(tools) => tools,
            Err(error) => return fail(&error),
        };
        let began = Instant::now();
        let chosen = SCENARIOS.iter();
        let chosen = chosen.filter(|scenario| self.part.is_none_or(|part| part == scenario.part));
        let (alone, others): (Vec<_>, Vec<_>) =
            chosen.partition(|scenario| scenario.part == Part::Pauses);
        let alone = alone.into_iter();
        let mut all: Vec<Ended<'_>> = alone.map(|scenario| self.one(scenario, &tools)).collect();
        all.extend(self.beside_each_other(&others, &tools));
        let tables = tables(&all, began.elapsed().as_secs_f64());
        println!("{tables}");
        let file = self.history.join("all.md");
        if let Err(error) = fs::write(&file, tables) {
            return fail(&format!("write {}: {error}", file.display()));
        }
        match all.iter().all(|ended| ended.outcome == Outcome::Well) {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        }
    }

    fn tools(&self) -> io::Result<Tools> {
        let checking = std::env::current_exe()?;
        let chaos = match self.short || self.as_built {
            true => checking.clone(),
            // What is measured with debug assertions is not what users run.
            false => {
                // The time of those who need it is not for that.
                selfcheck::build()?;
                build()?
            }
        };
        let pgherd = self.pgherd.clone();
        Ok(Tools {
            pgherd: pgherd.unwrap_or_else(|| chaos.with_file_name("pgherd")),
            chaos,
            checking,
        })
    }

    /// Runs some at a time, and gives them as they were given.
    fn beside_each_other<'a>(&self, all: &[&'a Scenario], tools: &Tools) -> Vec<Ended<'a>> {
        let next = Mutex::new(all.iter().enumerate());
        let ended = Mutex::new(Vec::new());
        thread::scope(|lanes| {
            for _ in 0..LANES {
                lanes.spawn(|| {
                    loop {
                        let Some((at, scenario)) = next.lock().next() else {
                            return;
                        };
                        let one = self.one(scenario, tools);
                        ended.lock().push((at, one));
                    }
                });
            }
        });
        let mut ended = ended.into_inner();
        ended.sort_by_key(|(at, _)| *at);
        ended.into_iter().map(|(_, one)| one).collect()
    }

    /// Runs one scenario. Whatever becomes of it, the next one is run.
    fn one<'a>(&self, scenario: &'a Scenario, tools: &Tools) -> Ended<'a> {
        let words = if self.short {
            scenario.short
        } else {
            scenario.long
        };
        let title = format!("## {}: cargo chaos {words}\n", scenario.name);
        let name = scenario
            .name
            .replace(|it: char| !it.is_ascii_alphanumeric(), "-");
        let row = self.history.join(format!("{name}.row.md"));
        // Two that run beside each other do not speak at once.
        let said = match scenario.part {
            Part::Pauses => None,
            Part::Rest => Some(self.history.join(format!("{name}.log"))),
        };
        if said.is_none() {
            println!("{title}");
        }
        let began = Instant::now();
        let outcome = self.start(scenario, words, &row, said.as_deref(), tools);
        let outcome = outcome.unwrap_or_else(|error| Outcome::Unrun(error.to_string()));
        match said.map(fs::read_to_string) {
            None => println!(),
            // One write, for the other lanes may have something to say, too.
            Some(said) => println!("{title}\n{}", said.unwrap_or_default()),
        }
        Ended {
            scenario,
            words,
            took: began.elapsed().as_secs_f64(),
            outcome,
            row: fs::read_to_string(row).ok(),
        }
    }

    fn start(
        &self,
        scenario: &Scenario,
        words: &str,
        row: &Path,
        said: Option<&Path>,
        tools: &Tools,
    ) -> io::Result<Outcome> {
        fs::create_dir_all(&self.history)?;
        match fs::remove_file(row) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let program = match scenario.built {
            Built::ToMeasure => &tools.chaos,
            Built::ToCheck => &tools.checking,
        };
        let mut command = Command::new(program);
        command.args(self.words(words, row, &tools.pgherd));
        if let Some(said) = said {
            let said = fs::File::create(said)?;
            command.stdout(said.try_clone()?).stderr(said);
        }
        wait(command.spawn()?, scenario.limit())
    }

    /// The whole command line of one scenario.
    fn words(&self, words: &str, row: &Path, pgherd: &Path) -> Vec<String> {
        let mut line: Vec<String> = words.split(' ').map(str::to_owned).collect();
        let is = |word: &str| words.split(' ').any(|it| it == word);
        // Bugs are planted in an executable that is built for them.
        let control = words.contains("--control");
        let own = is("simulate") || is("selfcheck") || control;
        if !own {
            line.extend(["--pgherd".to_owned(), pgherd.display().to_string()]);
        }
        // Who runs all for long has built it for that, and has left the machine alone.
        let measured = !self.short && !self.as_built;
        // Of faults that are not the usual ones nothing is promised but that all is right.
        let usual = !control && !is("--faults");
        if measured && usual && (is("failover") || is("patroni")) {
            line.push("--promised".to_owned());
        }
        if is("failover") || is("patroni") || is("shards") || is("commits") {
            let history = self.history.display().to_string();
            line.extend(["--history".to_owned(), history]);
        }
        if is("failover") || is("patroni") || is("shards") {
            line.extend(["--seed".to_owned(), self.seed.to_string()]);
            line.extend(["--row".to_owned(), row.display().to_string()]);
        }
        line
    }
}

/// Has cargo build what measures and what is measured, with all that crashes can be asked of; gives the first.
fn build() -> io::Result<PathBuf> {
    let mut command = cargo();
    command.args(["build", "--release", "--package", "pgherd"]);
    command.args(["--package", "pgherd-chaos", "--bin", "pgherd"]);
    let status = command.args(["--bin", "pgherd-chaos"]).status()?;
    if !status.success() {
        return Err(io::Error::other(format!("cargo build: {status}")));
    }
    // target/debug/pgherd, and target/release beside that.
    let profile = beside();
    let target = profile.parent().and_then(Path::parent);
    let target =
        target.ok_or_else(|| io::Error::other("this program is in no target directory"))?;
    Ok(target.join("release/pgherd-chaos"))
}

/// All that is to be known in the end, as Markdown.
fn tables(all: &[Ended<'_>], took: f64) -> String {
    let mut text = format!("| failovers {COLUMNS}\n");
    for ended in all {
        if let Some(row) = &ended.row {
            text += &format!("| {} {}\n", ended.scenario.name, row.trim_end());
        }
    }
    text += "\n| scenario | command | seconds | all was well |\n|---|---|---|---|\n";
    for ended in all {
        text += &format!(
            "| {} | `{}` | {:.0} | {} |\n",
            ended.scenario.name, ended.words, ended.took, ended.outcome
        );
    }
    text + &format!("\nAll of them took {:.0} minutes.\n", took / 60.0)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{All, Ended, Outcome, SCENARIOS, tables};

    fn all() -> All {
        All {
            short: false,
            part: None,
            as_built: true,
            seed: 7,
            pgherd: None,
            history: "/y".into(),
        }
    }

    #[test]
    fn each_scenario_is_a_command_that_there_is() {
        use clap::Parser as _;
        for (scenario, as_built) in SCENARIOS.iter().flat_map(|it| [(it, true), (it, false)]) {
            for words in [scenario.long, scenario.short] {
                let all = All { as_built, ..all() };
                let line = all.words(words, Path::new("/z"), Path::new("/x"));
                let whole = std::iter::once("chaos".to_owned()).chain(line);
                let parsed = crate::Command::try_parse_from(whole);
                assert!(parsed.is_ok(), "{words}: {:?}", parsed.err());
            }
        }
    }

    #[test]
    fn the_long_form_claims_that_pauses_are_as_promised() {
        let promises = |all: All, words| {
            let line = all.words(words, Path::new("/z"), Path::new("/x"));
            line.iter().any(|word| word == "--promised")
        };
        let long = || All {
            as_built: false,
            ..all()
        };
        assert!(promises(long(), "failover --failovers 88"));
        assert!(promises(long(), "patroni --rounds 22"));
        assert!(!promises(long(), "failover --failovers 4 --control"));
        assert!(!promises(long(), "replicas --rounds 15"));
        assert!(!promises(
            long(),
            "failover --faults full,room --failovers 16"
        ));
        assert!(!promises(all(), "failover --failovers 88"));
        let short = All {
            short: true,
            ..long()
        };
        assert!(!promises(short, "failover --failovers 3"));
    }

    #[test]
    fn one_that_fails_is_in_the_table_beside_the_others() {
        let ended = |at: usize, outcome| Ended {
            scenario: &SCENARIOS[at],
            words: SCENARIOS[at].short,
            took: 61.0,
            outcome,
            row: (at == 0).then(|| "| 1 |\n".to_owned()),
        };
        let unrun = Outcome::Unrun("no such file".to_owned());
        let text = tables(&[ended(0, Outcome::Late), ended(1, unrun)], 122.0);
        assert!(text.contains(&format!("| {} | 1 |\n", SCENARIOS[0].name)));
        assert!(text.contains("| 61 | **no**: it took too long |"));
        assert!(text.contains("| 61 | **no**: no such file |"));
        let width = |line: &str| line.matches('|').count();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(width(lines[0]), width(lines[1]));
        assert!(text.ends_with("took 2 minutes.\n"));
    }
}
