//! What a run gave, as a table.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::case::{Case, Side, Way};
use crate::checks::{Wrong, summary};

/// How often clients heard what in the end.
type Outcomes = BTreeMap<String, usize>;

/// What a run gave.
#[derive(Debug, Default)]
pub struct Report {
    /// What is not as it must be; empty if all is well.
    pub faults: Vec<Wrong>,
    /// How long it took.
    pub took: Duration,
    counts: BTreeMap<(Side, &'static str), BTreeMap<Way, Outcomes>>,
    cases: usize,
}

impl Report {
    /// How many cases there were.
    pub fn cases(&self) -> usize {
        self.cases
    }

    /// How many of one way ended like this.
    pub fn count(&self, way: Way, outcome: &str) -> usize {
        let ways = self.counts.values().filter_map(|ways| ways.get(&way));
        ways.filter_map(|counts| counts.get(outcome)).sum()
    }

    /// Takes note of a case and of the last that its client heard.
    pub(super) fn add(&mut self, case: &Case, outcome: &str, faults: &[Wrong]) {
        self.cases += 1;
        let ways = self.counts.entry((case.side, case.flow)).or_default();
        let counts = ways.entry(case.way).or_default();
        *counts.entry(outcome.to_owned()).or_default() += 1;
        for fault in faults {
            let what = format!("cargo chaos cuts --case {case}\n    {}", fault.what);
            self.faults.push(fault.check.caught(what));
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ((side, flow), ways) in &self.counts {
            writeln!(f, "{flow} ({side})")?;
            for (way, counts) in ways {
                let all: Vec<String> = counts
                    .iter()
                    .map(|(outcome, count)| format!("{outcome}: {count}"))
                    .collect();
                writeln!(f, "    {way:8} {}", all.join(", "))?;
            }
        }
        for fault in &self.faults {
            writeln!(f, "WRONG: {fault}")?;
        }
        if !self.faults.is_empty() {
            writeln!(f, "{}", summary(&self.faults))?;
        }
        write!(
            f,
            "{} cases, {} wrong, {:.0} s",
            self.cases,
            self.faults.len(),
            self.took.as_secs_f64()
        )
    }
}
