//! What a run gave, as a table.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::act::Seen;
use super::case::{Case, Side, Way};
use crate::checks::{Check, Wrong, summary};

/// Of so many cases one may end before it comes to its place, as where pgherd has something to say to the server that it did
/// not have to say in the conversation that was counted.
const MISSED: usize = 50;

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
    /// Cases that were over before they came to their place.
    missed: usize,
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
    pub(super) fn add(&mut self, case: &Case, outcome: &str, seen: &Seen) {
        self.cases += 1;
        self.missed += usize::from(!seen.struck);
        let ways = self.counts.entry((case.side, case.flow)).or_default();
        let counts = ways.entry(case.way).or_default();
        *counts.entry(outcome.to_owned()).or_default() += 1;
        for fault in &seen.faults {
            let what = format!("cargo chaos cuts --case {case}\n    {}", fault.what);
            self.faults.push(fault.check.caught(what));
        }
    }

    /// What shows nothing is not well.
    pub(super) fn close(&mut self) {
        if self.missed * MISSED > self.cases || self.cases == 0 {
            let what = format!(
                "{} of {} cases were over before they were cut",
                self.missed, self.cases
            );
            self.faults.push(Check::Work.caught(what));
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
            "{} cases, {} never cut, {} wrong, {:.0} s",
            self.cases,
            self.missed,
            self.faults.len(),
            self.took.as_secs_f64()
        )
    }
}
