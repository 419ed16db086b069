use std::fmt::{self, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use pgherd_sandbox::{Rejoined, Replication};

use super::fault::Fault;
use super::pauses::Pauses;
use super::{Plan, Way};
use crate::checks::ledger::Account;

/// More faults than this are counted and not shown.
const SHOWN: usize = 20;

/// What came of a run; shown, it is Markdown.
#[derive(Clone, Debug)]
pub struct Report {
    /// What cannot be, or must not be in this mode.
    pub faults: Vec<String>,
    /// Where the history is, if there were faults.
    pub history: Option<PathBuf>,
    /// How many operations clients of all kinds have ended.
    pub operations: u64,
    pub(super) took: Duration,
    pub(super) errors: Vec<(&'static str, String, u64)>,
    /// How many appends were acknowledged, and how many of those are lost.
    pub(super) appends: (usize, usize),
    /// How many answers about identity and session were right.
    pub(super) answers: u64,
    /// How many idle clients there were, and how many were cut.
    pub(super) idle: (usize, usize),
    way: &'static str,
    replication: Replication,
    seed: u64,
    rows: Vec<Row>,
    losses: usize,
    failovers: usize,
    copied: usize,
    stale: usize,
    promotions: Pauses,
    first: Pauses,
    first_directly: Pauses,
    each: Pauses,
    each_directly: Pauses,
}

/// A ledger beside its table.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) account: Account,
}

impl Report {
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            faults: Vec::new(),
            history: None,
            operations: 0,
            took: Duration::ZERO,
            errors: Vec::new(),
            appends: (0, 0),
            answers: 0,
            idle: (0, 0),
            way: match plan.way {
                Way::Pgherd(_) => "pgherd",
                Way::Pgbouncer => "PgBouncer",
                Way::Direct => "direct",
            },
            replication: plan.replication,
            seed: plan.seed,
            rows: Vec::new(),
            losses: 0,
            failovers: 0,
            copied: 0,
            stale: 0,
            promotions: Pauses::default(),
            first: Pauses::default(),
            first_directly: Pauses::default(),
            each: Pauses::default(),
            each_directly: Pauses::default(),
        }
    }

    /// How many failovers there were.
    pub fn failovers(&self) -> usize {
        self.failovers
    }

    /// How many acknowledged inserts and movements of money are lost, of clients that went through
    /// what was tested.
    pub fn lost(&self) -> usize {
        let rows = self
            .rows
            .iter()
            .filter(|row| row.name != super::run::DIRECT);
        rows.map(|row| row.account.lost.len()).sum::<usize>() + self.appends.1
    }

    /// The longest time from the moment at which a new primary took writes to the first write that
    /// went through what was tested.
    pub fn longest_pause(&self) -> Duration {
        self.first.percentile(100).unwrap_or_default()
    }

    pub(super) fn promoted(&mut self, took: Duration) {
        self.failovers += 1;
        self.promotions.add(took);
    }

    pub(super) fn resumed(&mut self, through: Duration, directly: Duration) {
        self.first.add(through);
        self.first_directly.add(directly);
    }

    pub(super) fn each(&mut self, pause: Duration) {
        self.each.add(pause);
    }

    pub(super) fn each_directly(&mut self, pause: Duration) {
        self.each_directly.add(pause);
    }

    pub(super) fn rejoined(&mut self, how: Rejoined) {
        self.copied += usize::from(how == Rejoined::Copied);
    }

    /// What was written to an old primary behind the first write to the new one.
    pub(super) fn stale(&mut self, fault: Fault, rows: &[String]) {
        self.stale += rows.len();
        if !rows.is_empty() {
            let rows = rows.join(" ");
            let what = format!("after {fault} the old primary was given {rows}");
            self.faults.push(what);
        }
    }

    /// Enters what an asynchronous primary may lose, and a synchronous one must not.
    pub(super) fn lossy(&mut self, what: Vec<String>) {
        self.losses += what.len();
        if self.replication == Replication::Synchronous {
            self.faults.extend(what);
        }
    }

    pub(super) fn account(&mut self, row: Row) {
        let faults = row.account.faults().into_iter();
        let name = row.name;
        self.faults
            .extend(faults.map(|fault| format!("{name}: {fault}")));
        let lost = row.account.lost.iter();
        let lost = lost.map(|id| format!("{name}: {id} is lost"));
        self.lossy(lost.collect());
        self.rows.push(row);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let replication = match self.replication {
            Replication::Synchronous => "synchronous",
            Replication::Asynchronous => "asynchronous",
        };
        writeln!(
            f,
            "{} failovers through {}, {replication} replication, seed {}: {} operations in {:.0} s, \
             {} former primaries copied anew, the others rewound\n",
            self.failovers,
            self.way,
            self.seed,
            self.operations,
            self.took.as_secs_f64(),
            self.copied,
        )?;
        self.writes(f)?;
        self.pauses(f)?;
        self.told(f)?;
        self.wrong(f)
    }
}

impl Report {
    fn writes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| writes | acknowledged | lost | doubled | failed | of these there | unknown | of these there |\n\
             |---|---|---|---|---|---|---|---|"
        )?;
        for Row { name, account } in &self.rows {
            writeln!(
                f,
                "| {name} | {} | {} | {} | {} | {} | {} | {} |",
                account.acknowledged,
                account.lost.len(),
                account.doubled.len(),
                account.failed,
                account.undead.len(),
                account.unknown,
                account.unknown_there,
            )?;
        }
        let (acknowledged, lost) = self.appends;
        writeln!(f, "| lists | {acknowledged} | {lost} | | | | | |")?;
        let (idle, cut) = self.idle;
        writeln!(
            f,
            "\n{} answers about identity and session were right; {cut} of {idle} idle clients were cut; \
             {} writes reached an old primary; {} signs of loss\n",
            self.answers, self.stale, self.losses,
        )
    }

    fn pauses(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| milliseconds | n | p50 | p99 | max |\n|---|---|---|---|---|"
        )?;
        for (name, pauses) in [
            ("from the fault to a new primary", &self.promotions),
            ("from there to the first write", &self.first),
            ("the same, direct", &self.first_directly),
            ("to each client's first write", &self.each),
            ("the same, direct", &self.each_directly),
        ] {
            writeln!(f, "| {name} | {} |", pauses.cells())?;
        }
        Ok(())
    }

    /// Errors, a line for each workload.
    fn told(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n| clients | were told |\n|---|---|")?;
        let mut lines: Vec<(&str, String)> = Vec::new();
        for (workload, code, count) in &self.errors {
            match lines.last_mut() {
                Some((known, line)) if known == workload => write!(line, ", {code} {count} times")?,
                _ => lines.push((workload, format!("{code} {count} times"))),
            }
        }
        for (workload, line) in lines {
            writeln!(f, "| {workload} | {line} |")?;
        }
        Ok(())
    }

    fn wrong(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.faults.is_empty() {
            return writeln!(f, "\nNothing was wrong.");
        }
        writeln!(f, "\n{} faults:", self.faults.len())?;
        for fault in self.faults.iter().take(SHOWN) {
            writeln!(f, "* {fault:.500}")?;
        }
        if let Some(path) = &self.history {
            writeln!(f, "\nThe history is in {}", path.display())?;
        }
        Ok(())
    }
}
