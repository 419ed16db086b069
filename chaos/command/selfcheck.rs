//! `chaos selfcheck`: bugs are planted, and each must be caught by the check that is there for it.

mod plants;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output};
use std::time::Instant;

use clap::Args;
use pgherd_chaos::checks::{Check, named};
use pgherd_planted as planted;

use super::{beside, cargo, fail};
use plants::{PLANTS, Plant};

/// What may be said of the bugs.
#[derive(Debug, Args)]
pub(crate) struct Selfcheck {
    /// Only these bugs, by the names in the table
    #[arg(long, value_delimiter = ',')]
    bug: Vec<String>,
    /// The seed of each scenario
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The executable to plant them in, which must have been built for it; without it, it is built by cargo
    #[arg(long, value_name = "PATH")]
    pgherd: Option<PathBuf>,
    /// Where the output of scenarios is kept that did not end as they should
    #[arg(long, value_name = "DIRECTORY", default_value = "target/chaos")]
    history: PathBuf,
}

/// What came of a scenario.
struct Ended {
    /// The checks that caught something.
    caught: Vec<Check>,
    /// Nothing was wrong.
    clean: bool,
    took: f64,
    said: String,
}

impl Selfcheck {
    /// Runs it, and prints the table.
    pub(crate) fn run(&self) -> ExitCode {
        let chosen = |plant: &&Plant| {
            let name = plant.bug.name();
            self.bug.is_empty() || self.bug.iter().any(|bug| bug == name)
        };
        let plants: Vec<&Plant> = PLANTS.iter().filter(chosen).collect();
        if plants.is_empty() {
            let all: BTreeSet<&str> = PLANTS.iter().map(|plant| plant.bug.name()).collect();
            let all: Vec<&str> = all.into_iter().collect();
            return fail(&format!(
                "there is no such bug; these are: {}",
                all.join(", ")
            ));
        }
        match self.all(&plants) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => fail(&error),
        }
    }

    fn all(&self, plants: &[&Plant]) -> std::io::Result<bool> {
        if !planted::is_possible() {
            let what = "bugs can only be planted where there are debug assertions";
            return Err(std::io::Error::other(what));
        }
        let pgherd = match &self.pgherd {
            Some(given) => given.clone(),
            None => build()?,
        };
        fs::create_dir_all(&self.history)?;
        println!("| bug | scenario | check | caught by | seconds | |\n|---|---|---|---|---|---|");
        let mut well = true;
        for plant in plants {
            let ended = self.scenario(plant, &pgherd, true)?;
            let found = plant.is_caught(&ended.caught);
            self.row(plant.bug.name(), plant, &ended, found)?;
            well &= found;
        }
        // What finds a bug where there is none finds nothing.
        let mut seen = BTreeSet::new();
        for plant in plants.iter().filter(|plant| seen.insert(plant.scenario)) {
            let ended = self.scenario(plant, &pgherd, false)?;
            self.row("none", plant, &ended, ended.clean)?;
            well &= ended.clean;
        }
        Ok(well)
    }

    fn scenario(&self, plant: &Plant, pgherd: &Path, buggy: bool) -> std::io::Result<Ended> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(self.words(plant.scenario, pgherd));
        match buggy {
            true => command.env(planted::VARIABLE, plant.bug.name()),
            false => command.env_remove(planted::VARIABLE),
        };
        let began = Instant::now();
        let Output {
            status,
            stdout,
            stderr,
        } = command.output()?;
        let [out, err] = [&stdout, &stderr].map(|bytes| String::from_utf8_lossy(bytes));
        let said = format!("{out}\n{err}");
        Ok(Ended {
            caught: named(&said),
            clean: status.success(),
            took: began.elapsed().as_secs_f64(),
            said,
        })
    }

    /// The whole command line of a scenario.
    fn words(&self, scenario: &str, pgherd: &Path) -> Vec<String> {
        let mut line: Vec<String> = scenario.split(' ').map(str::to_owned).collect();
        let is = |word: &str| scenario.starts_with(word);
        if !is("simulate") {
            line.extend(["--pgherd".to_owned(), pgherd.display().to_string()]);
        }
        if is("failover") || is("canary") || is("replicas") {
            line.extend(["--seed".to_owned(), self.seed.to_string()]);
        }
        if is("failover") || is("replicas") || is("commits") {
            let history = self.history.join("planted").display().to_string();
            line.extend(["--history".to_owned(), history]);
        }
        line
    }

    /// Prints a line of the table, and keeps what was said if it is not as it should be.
    fn row(&self, bug: &str, plant: &Plant, ended: &Ended, well: bool) -> std::io::Result<()> {
        let caught: Vec<&str> = ended.caught.iter().map(|check| check.name()).collect();
        let caught = match (caught.is_empty(), ended.clean) {
            (true, true) => "nobody".to_owned(),
            (true, false) => "no check: it ended badly".to_owned(),
            (false, _) => caught.join(", "),
        };
        let expected = match (bug, plant.or) {
            ("none", _) => String::new(),
            (_, None) => plant.check.to_string(),
            (_, Some(or)) => format!("{} or {or}", plant.check),
        };
        let verdict = if well { "yes" } else { "**NO**" };
        println!(
            "| {bug} | `{}` | {expected} | {caught} | {:.0} | {verdict} |",
            plant.scenario, ended.took
        );
        if !well {
            let word = plant.scenario.split(' ').next().unwrap_or_default();
            let kept = self.history.join(format!("selfcheck-{bug}-{word}.log"));
            fs::write(&kept, &ended.said)?;
            eprintln!("what it said is in {}", kept.display());
        }
        Ok(())
    }
}

/// Has cargo build the executable with all that bugs can be planted in.
pub(super) fn build() -> std::io::Result<PathBuf> {
    let mut command = cargo();
    command.args(["build", "--package", "pgherd", "--package", "pgherd-chaos"]);
    let status = command.args(["--bin", "pgherd"]).status()?;
    match status.success() {
        true => Ok(beside()),
        false => Err(std::io::Error::other(format!("cargo build: {status}"))),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use pgherd_planted::Bug;

    use super::{PLANTS, Path, Selfcheck};

    fn selfcheck() -> Selfcheck {
        Selfcheck {
            bug: Vec::new(),
            seed: 7,
            pgherd: None,
            history: "/y".into(),
        }
    }

    #[test]
    fn each_scenario_is_a_command_that_there_is() {
        for plant in PLANTS {
            let line = selfcheck().words(plant.scenario, Path::new("/x"));
            let whole = std::iter::once("chaos".to_owned()).chain(line);
            let parsed = crate::Command::try_parse_from(whole);
            assert!(parsed.is_ok(), "{}: {:?}", plant.scenario, parsed.err());
        }
    }

    #[test]
    fn each_bug_has_a_scenario() {
        for bug in Bug::ALL {
            assert!(PLANTS.iter().any(|plant| plant.bug == bug), "{bug}");
        }
    }
}
