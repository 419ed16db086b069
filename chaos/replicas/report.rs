use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::LIMIT;
use super::reader::{BLOCKS, STATEMENTS};
use crate::checks::errors::Errors;
use crate::checks::{Check, Wrong, conclude};
use crate::report::pauses::Pauses;

/// What came of a run.
#[derive(Debug)]
pub struct Report {
    /// What is not as it must be.
    pub faults: Vec<Wrong>,
    /// Where the history is, if there were faults.
    pub history: Option<PathBuf>,
    /// How many reads have ended.
    pub operations: u64,
    pub(super) took: Duration,
    pub(super) answers: u64,
    pub(super) longest: Duration,
    pub(super) left: Pauses,
    errors: Vec<(&'static str, String, u64)>,
    seed: u64,
}

impl Report {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            faults: Vec::new(),
            history: None,
            operations: 0,
            took: Duration::ZERO,
            answers: 0,
            longest: Duration::ZERO,
            left: Pauses::default(),
            errors: Vec::new(),
            seed,
        }
    }

    /// How often a replica was frozen.
    pub fn rounds(&self) -> usize {
        self.left.len()
    }

    /// Enters the errors that clients were told. That a block is undone in whose middle its server was lost could not
    /// be avoided; anything else could.
    pub(super) fn told(&mut self, errors: &Errors) {
        self.errors = errors.counts();
        for (kind, code, count) in &self.errors {
            if (*kind, code.as_str()) != (BLOCKS, "40001") {
                let what = format!("who reads by {kind} was told {code} {count} times");
                self.faults.push(Check::Errors.caught(what));
            }
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} times a replica was frozen, seed {}: {} reads in {:.0} s, {} answered; the longest took {:.1?}",
            self.rounds(),
            self.seed,
            self.operations,
            self.took.as_secs_f64(),
            self.answers,
            self.longest,
        )?;
        writeln!(
            f,
            "\n| milliseconds, of {} | n | p50 | p99 | max |\n|---|---|---|---|---|",
            LIMIT.as_millis()
        )?;
        writeln!(
            f,
            "| until it was read from no more | {} |",
            self.left.cells()
        )?;
        writeln!(f, "\n| readers by | were told |\n|---|---|")?;
        for kind in [STATEMENTS, BLOCKS] {
            let own = self.errors.iter().filter(|(known, ..)| *known == kind);
            let told: Vec<String> = own
                .map(|(_, code, count)| format!("{code} {count} times"))
                .collect();
            let told = if told.is_empty() {
                "nothing".to_owned()
            } else {
                told.join(", ")
            };
            writeln!(f, "| {kind} | {told} |")?;
        }
        conclude(f, &self.faults)?;
        if let Some(path) = &self.history {
            writeln!(f, "\nThe history is in {}", path.display())?;
        }
        Ok(())
    }
}
