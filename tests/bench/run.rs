use std::time::Duration;

use pgherd_sandbox::Server;

use crate::args::Args;
use crate::bulk;
use crate::cell::{self, Cell, Setting, Work};
use crate::error::Error;
use crate::idle;
use crate::pgbench;
use crate::report::{IdleRow, Row, Trouble};
use crate::sample::Sample;
use crate::target::{Stage, Target};
use crate::usage;

/// How long idle clients are watched, at least.
const WATCH: Duration = Duration::from_secs(2);

/// Whether a cell was asked for that is measured before one server.
pub(crate) fn needs_server(args: &Args) -> bool {
    args.wants(idle::NAME) || cell::all().iter().any(|cell| args.wants(&cell.name))
}

/// Runs all cells that were asked for.
pub(crate) async fn cells(stage: &Stage<'_>, args: &Args) -> Result<Vec<Row>, Error> {
    let wanted: Vec<Cell> = cell::all()
        .into_iter()
        .filter(|cell| args.wants(&cell.name))
        .collect();
    let mut rows = Vec::new();
    for group in wanted.chunk_by(|one, other| one.setting == other.setting) {
        let targets = stage.targets(group[0].setting).await?;
        for cell in group {
            eprintln!("{} ...", cell.name);
            rows.extend(compare(stage.server, &targets, cell, args).await);
        }
    }
    Ok(rows)
}

/// Runs one cell on all targets in turn, for as many rounds as wanted: A B C, A B C.
async fn compare(server: &Server, targets: &[Target], cell: &Cell, args: &Args) -> Vec<Row> {
    let mut rows: Vec<Row> = targets
        .iter()
        .map(|target| Row {
            cell: cell.name.clone(),
            who: target.who,
            samples: Vec::new(),
            median: None,
            ratio: None,
            trouble: (!target.can(cell.work)).then_some(Trouble::Unable),
        })
        .collect();
    for _ in 0..args.rounds() {
        for (row, target) in rows.iter_mut().zip(targets) {
            if row.trouble.is_some() {
                continue;
            }
            match measure(server, target, cell.work, args).await {
                Ok(sample) => row.samples.push(sample),
                Err(error) => {
                    row.samples.clear();
                    row.trouble = Some(Trouble::Failed(error.to_string()));
                }
            }
        }
    }
    rows
}

async fn measure(
    server: &Server,
    target: &Target,
    work: Work,
    args: &Args,
) -> Result<Sample, Error> {
    let before = target.pid().map(usage::cpu).transpose()?;
    let (rate, units, latency) = match work {
        Work::Pgbench(work) => {
            let outcome = pgbench::run(server, &target.door, work, args.duration()).await?;
            (outcome.rate, outcome.transactions, outcome.latency)
        }
        Work::Bulk(bulk) => {
            let (rows, duration) = (args.rows(), args.duration());
            let outcome = bulk::run(server, &target.door, bulk, rows, duration).await?;
            (outcome.rate, outcome.rows, None)
        }
    };
    let after = target.pid().map(usage::cpu).transpose()?;
    let cpu = before
        .zip(after)
        .map(|(before, after)| after.saturating_sub(before));
    Ok(Sample {
        rate,
        latency,
        cpu: cpu.map(|cpu| cpu.as_secs_f64() * 1e3 / (units as f64 / 1e3)),
    })
}

/// Runs the idle cell, if it was asked for, on proxies that have served nobody before.
pub(crate) async fn idle(stage: &Stage<'_>, args: &Args) -> Result<Vec<IdleRow>, Error> {
    let mut rows = Vec::new();
    if !args.wants(idle::NAME) {
        return Ok(rows);
    }
    let watch = args.duration().max(WATCH);
    for target in stage.targets(Setting::Plain).await? {
        eprintln!("idle, {} ...", target.who.name());
        let result = match idle::run(&target, args.idle_clients(), watch).await {
            Ok(None) => continue,
            Ok(Some(idle)) => Ok(idle),
            Err(error) => Err(error.to_string()),
        };
        rows.push(IdleRow {
            who: target.who,
            result,
        });
    }
    Ok(rows)
}
