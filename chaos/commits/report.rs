//! What a run gave, as tables.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use pgherd_sandbox::Error;

use super::case::{Case, Fault, Flow, Message};
use super::seen::{Lost, Seen};
use crate::checks::ledger::Account;
use crate::checks::{Check, Wrong, conclude};
use crate::report::pauses::Pauses;
use crate::workloads::life::Life;
use crate::workloads::transfers;

/// What those may be told who move money beside the cases: a proxy was killed under them, or they have waited too long
/// for a row that a lost transaction has locked.
const ALLOWED: [&str; 2] = ["cut", "40P01"];

/// What a run gave; shown, it is Markdown.
#[derive(Debug, Default)]
pub struct Report {
    /// What is not as it must be; empty if all is well.
    pub faults: Vec<Wrong>,
    /// Where the history is, if there were faults.
    pub history: Option<PathBuf>,
    pub(super) took: Duration,
    pub(super) lanes: usize,
    cases: BTreeMap<(Flow, Message), BTreeMap<Fault, usize>>,
    lost: BTreeMap<Lost, usize>,
    /// What clients were told, and of how many it is there.
    told: BTreeMap<String, (usize, usize)>,
    prepared: i64,
    settled: Pauses,
    others: Account,
    errors: Vec<(String, u64)>,
}

impl Report {
    /// How many cases there were.
    pub fn cases(&self) -> usize {
        let all = self.cases.values().flat_map(BTreeMap::values);
        all.sum()
    }

    /// How many proxies, servers and actors have died.
    pub fn crashes(&self) -> usize {
        let crashes = self.lost.iter().filter(|(what, _)| what.is_crash());
        crashes.map(|(_, count)| count).sum()
    }

    pub(super) fn add(&mut self, case: &Case, seen: Seen) {
        let faults = self.cases.entry((case.flow, case.message)).or_default();
        *faults.entry(case.fault).or_default() += 1;
        for what in seen.lost {
            *self.lost.entry(what).or_default() += 1;
        }
        let told = self.told.entry(seen.told).or_default();
        told.0 += 1;
        told.1 += usize::from(seen.committed);
        self.prepared += seen.prepared;
        if seen.prepared > 0 {
            self.settled.add(seen.settled);
        }
        for fault in seen.faults {
            let what = format!("cargo chaos commits --case {case}\n    {}", fault.what);
            self.faults.push(fault.check.caught(what));
        }
    }

    /// Enters what became of those who move money beside the cases of a lane.
    pub(super) fn others(&mut self, lane: &str, account: &Account) {
        let lost = account.lost.iter();
        let lost = lost.map(|id| Check::Lost.caught(format!("{id} is lost")));
        for wrong in lost.chain(account.faults()) {
            let what = format!("{lane}: {}", wrong.what);
            self.faults.push(wrong.check.caught(what));
        }
        self.others.acknowledged += account.acknowledged;
        self.others.failed += account.failed;
        self.others.unknown += account.unknown;
        self.others.unknown_there += account.unknown_there;
    }

    /// Enters what they were told, and keeps the history if anything was wrong; else it is removed.
    ///
    /// # Errors
    /// [`Error::Io`] if it can be neither.
    pub(super) fn close(&mut self, life: &Life) -> Result<(), Error> {
        let counts = life.errors.counts().into_iter();
        self.errors = counts.map(|(_, code, count)| (code, count)).collect();
        let forbidden = life.errors.forbidden_but(&[transfers::KIND], &ALLOWED);
        self.faults.extend(forbidden);
        let failed = |what: &str| {
            let what = what.to_owned();
            move |source| Error::Io { what, source }
        };
        if self.faults.is_empty() {
            return life.history.discard().map_err(failed("remove the history"));
        }
        let kept = life.history.keep().map_err(failed("write the history"))?;
        self.history = Some(kept.to_owned());
        Ok(())
    }

    /// A line for each message, with how often it was cut off by which fault.
    fn matrix(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "| message |")?;
        for fault in Fault::ALL {
            write!(f, " {fault} |")?;
        }
        writeln!(f, "\n|---|{}", "---|".repeat(Fault::ALL.len()))?;
        for ((flow, message), faults) in &self.cases {
            write!(f, "| {flow}: {message} |")?;
            for fault in Fault::ALL {
                match faults.get(&fault) {
                    Some(count) => write!(f, " {count} |")?,
                    None => write!(f, " |")?,
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// Things with how often they were, in one line.
fn list<T: fmt::Display>(all: impl IntoIterator<Item = T>) -> String {
    let words: Vec<String> = all.into_iter().map(|one| one.to_string()).collect();
    words.join(", ")
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.matrix(f)?;
        let lost = self
            .lost
            .iter()
            .map(|(what, count)| format!("{count} {what}"));
        writeln!(
            f,
            "\n{} crashes in {} cases, on {} lanes in {:.0} s: {}",
            self.crashes(),
            self.cases(),
            self.lanes,
            self.took.as_secs_f64(),
            list(lost),
        )?;
        writeln!(
            f,
            "\n{} parts were prepared when it came to it; milliseconds until none was, behind the start of what was dead:\n\n\
             | n | p50 | p99 | max |\n|---|---|---|---|\n| {} |",
            self.prepared,
            self.settled.cells(),
        )?;
        writeln!(
            f,
            "\n| clients were told | n | of these committed |\n|---|---|---|"
        )?;
        for (word, (count, committed)) in &self.told {
            writeln!(f, "| {word} | {count} | {committed} |")?;
        }
        let others = &self.others;
        let errors = self.errors.iter();
        writeln!(
            f,
            "\nbeside them {} transfers were acknowledged, {} failed, and of {} nobody knew ({} are there); told: {}",
            others.acknowledged,
            others.failed,
            others.unknown,
            others.unknown_there,
            list(errors.map(|(code, count)| format!("{code} {count} times"))),
        )?;
        conclude(f, &self.faults)?;
        if let Some(path) = &self.history {
            writeln!(f, "\nThe history is in {}", path.display())?;
        }
        Ok(())
    }
}
