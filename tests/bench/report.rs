use std::fmt::Write;

use serde::Serialize;

use crate::idle::Idle;
use crate::sample::{Latency, Sample};
use crate::shards::Proof;
use crate::target::Who;

/// All that was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Under what circumstances.
    pub(crate) circumstances: Circumstances,
    /// The cells, in order.
    pub(crate) rows: Vec<Row>,
    /// What idle clients cost.
    pub(crate) idle: Vec<IdleRow>,
    /// What several shards cost.
    pub(crate) shards: Proof,
}

/// Under what circumstances the figures came about.
#[derive(Debug, Serialize)]
pub(crate) struct Circumstances {
    /// Cores of this machine.
    pub(crate) cores: usize,
    /// `server_version` of Postgres.
    pub(crate) postgres: String,
    /// Version of PgBouncer.
    pub(crate) pgbouncer: String,
    /// Server connections of each proxy.
    pub(crate) pool_size: usize,
    /// Seconds a cell.
    pub(crate) seconds: u64,
    /// Rounds, of which the medians are taken.
    pub(crate) rounds: usize,
}

/// One target in one cell.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    /// The cell.
    pub(crate) cell: String,
    /// The target.
    pub(crate) who: Who,
    /// What each round gave.
    pub(crate) samples: Vec<Sample>,
    /// The median of the rounds.
    pub(crate) median: Option<Sample>,
    /// The median, divided by that of PgBouncer, or of pgherd before one database where shards are compared.
    pub(crate) ratio: Option<Sample>,
    /// Why there is no figure.
    pub(crate) trouble: Option<Trouble>,
}

/// Why a cell has no figure for a target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Trouble {
    /// This version cannot do it.
    Unable,
    /// It should have, and did not.
    Failed(String),
}

/// One proxy with idle clients.
#[derive(Debug, Serialize)]
pub(crate) struct IdleRow {
    /// The target.
    pub(crate) who: Who,
    /// The figures, or why there are none.
    pub(crate) result: Result<Idle, String>,
}

impl IdleRow {
    /// Tells whether there are no figures, or such that pgherd must not have.
    fn failed(&self) -> bool {
        self.result.is_err() || self.broken_promise().is_some()
    }

    fn broken_promise(&self) -> Option<&'static str> {
        let figures = self.result.as_ref().ok()?;
        match self.who {
            Who::Pgherd => figures.broken_promise(),
            Who::Direct | Who::Pgbouncer | Who::Sharded => None,
        }
    }
}

impl Report {
    /// Fills in medians and ratios.
    pub(crate) fn conclude(&mut self) {
        for row in &mut self.rows {
            row.median = Sample::median(&row.samples);
        }
        for cell in self.rows.chunk_by_mut(|one, other| one.cell == other.cell) {
            let shards = cell.iter().any(|row| row.who == Who::Sharded);
            let who = if shards { Who::Pgherd } else { Who::Pgbouncer };
            let base = cell.iter().find(|row| row.who == who);
            let base = base.and_then(|row| row.median);
            for row in cell {
                let both = row.median.zip(base);
                row.ratio = both.map(|(median, base)| ratio(&median, &base));
            }
        }
    }

    /// Tells whether anything failed that should not have.
    pub(crate) fn failed(&self) -> bool {
        self.rows
            .iter()
            .any(|row| matches!(row.trouble, Some(Trouble::Failed(_))))
            || self.idle.iter().any(IdleRow::failed)
            || self.shards.failed()
    }

    /// Gives the tables as text.
    pub(crate) fn text(&self) -> String {
        let c = &self.circumstances;
        let mut text = format!(
            "{} cores, Postgres {}, PgBouncer {}, pool size {}, {} s a cell, rounds: {} (medians)\n\
             \"x\" columns are ratios to PgBouncer, and for shards to pgherd before one database: \
             above 1 is better for rate, below 1 for the others\n\n",
            c.cores, c.postgres, c.pgbouncer, c.pool_size, c.seconds, c.rounds
        );
        if !self.rows.is_empty() {
            text += &self.comparison();
        }
        if !self.idle.is_empty() {
            text += &self.idleness();
        }
        text + &self.shards.text()
    }

    fn comparison(&self) -> String {
        let mut text = line(
            [
                "cell",
                "target",
                "rate/s",
                "p50 ms",
                "p95 ms",
                "p99 ms",
                "cpu ms/1k",
                "x rate",
                "x p50",
                "x p99",
                "x cpu",
            ]
            .map(str::to_owned),
        );
        let mut notes = String::new();
        let mut last = "";
        for row in &self.rows {
            let cell = if row.cell == last { "" } else { &row.cell };
            last = &row.cell;
            text += &line(figures(cell, row));
            // Writing to a String cannot fail.
            if let Some(Trouble::Failed(why)) = &row.trouble {
                let _ = writeln!(notes, "{} by {} failed: {why}", row.cell, row.who.name());
            }
        }
        text + "\n" + &notes
    }

    fn idleness(&self) -> String {
        let mut text = String::new();
        let base = self
            .idle
            .iter()
            .find(|row| row.who == Who::Pgbouncer)
            .and_then(|row| row.result.as_ref().ok());
        for row in &self.idle {
            // Writing to a String cannot fail.
            let _ = match &row.result {
                Ok(idle) => writeln!(
                    text,
                    "{} idle clients of {}: {:.1} kB each (x {}), {:.1} % of a core, \
                     {:.0} logins/s (x {}), {:.0} kB kept after they left",
                    idle.clients,
                    row.who.name(),
                    idle.memory / 1024.0,
                    times(base.map(|base| idle.memory / base.memory)),
                    idle.cpu,
                    idle.logins,
                    times(base.map(|base| idle.logins / base.logins)),
                    idle.kept / 1024.0,
                ),
                Err(why) => writeln!(text, "idle clients of {} failed: {why}", row.who.name()),
            };
            if let Some(why) = row.broken_promise() {
                let _ = writeln!(text, "idle clients of {} failed: {why}", row.who.name());
            }
        }
        text
    }
}

fn ratio(sample: &Sample, base: &Sample) -> Sample {
    let latency = sample.latency.zip(base.latency);
    Sample {
        rate: sample.rate / base.rate,
        latency: latency.map(|(ours, base)| Latency {
            p50: ours.p50 / base.p50,
            p95: ours.p95 / base.p95,
            p99: ours.p99 / base.p99,
        }),
        // A proxy may have used less than one tick.
        cpu: sample
            .cpu
            .zip(base.cpu)
            .filter(|(_, base)| *base > 0.0)
            .map(|(ours, base)| ours / base),
    }
}

fn figures(cell: &str, row: &Row) -> [String; 11] {
    let mut columns: [String; 11] = Default::default();
    columns[0] = cell.to_owned();
    columns[1] = row.who.name().to_owned();
    let Some(median) = &row.median else {
        columns[2] = match row.trouble {
            Some(Trouble::Failed(_)) => "failed",
            Some(Trouble::Unable) | None => "cannot",
        }
        .to_owned();
        return columns;
    };
    let milliseconds =
        |pick: fn(&Latency) -> f64| median.latency.map(|l| format!("{:.3}", pick(&l)));
    let latency_ratio =
        |pick: fn(&Latency) -> f64| times(row.ratio.and_then(|ratio| Some(pick(&ratio.latency?))));
    columns[2] = format!("{:.0}", median.rate);
    columns[3] = milliseconds(|l| l.p50).unwrap_or_default();
    columns[4] = milliseconds(|l| l.p95).unwrap_or_default();
    columns[5] = milliseconds(|l| l.p99).unwrap_or_default();
    columns[6] = median
        .cpu
        .map(|cpu| format!("{cpu:.2}"))
        .unwrap_or_default();
    columns[7] = times(row.ratio.map(|ratio| ratio.rate));
    columns[8] = latency_ratio(|l| l.p50);
    columns[9] = latency_ratio(|l| l.p99);
    columns[10] = times(row.ratio.and_then(|ratio| ratio.cpu));
    columns
}

fn times(ratio: Option<f64>) -> String {
    ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default()
}

fn line(columns: [String; 11]) -> String {
    let [cell, target, figures @ ..] = columns;
    let mut text = format!("{cell:<20} {target:<10}");
    for figure in figures {
        // Writing to a String cannot fail.
        let _ = write!(text, " {figure:>9}");
    }
    text.trim_end().to_owned() + "\n"
}

#[cfg(test)]
mod tests;
