//! Commits over three shards, before which stand two proxies. Each is cut off at one of its messages, also at those of who
//! recovers it, in each way; and what its client was told is compared with what is there.

mod case;
mod lane;
mod report;
mod seen;
mod stage;
mod tap;
mod transfer;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pgherd_sandbox::Error;
use tokio::task::JoinSet;

pub use case::{Case, Fault, Flow};
pub use report::Report;

use lane::Lane;

use crate::history::History;
use crate::workloads::life::Life;

/// How long those rest who move money beside the cases: they are there so that no commit is alone.
const REST: Duration = Duration::from_millis(300);

/// Of so many lanes, one has servers of its own, which can be killed.
const OWN: usize = 3;

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The executable, with the feature `chaos`.
    pub pgherd: PathBuf,
    /// These flows.
    pub flows: Vec<Flow>,
    /// These faults.
    pub faults: Vec<Fault>,
    /// Or this case alone.
    pub case: Option<Case>,
    /// Of all cases, each one of this number.
    pub every: usize,
    /// How often all of them.
    pub rounds: usize,
    /// How many at a time.
    pub lanes: usize,
    /// Where the history is written; it stays if anything was wrong.
    pub history: PathBuf,
}

impl Plan {
    /// The cases of all rounds.
    #[must_use]
    pub fn cases(&self) -> Vec<Case> {
        let chosen = Case::all().into_iter().filter(|case| match self.case {
            Some(only) => *case == only,
            None => self.flows.contains(&case.flow) && self.faults.contains(&case.fault),
        });
        let chosen: Vec<Case> = chosen.step_by(self.every.max(1)).collect();
        chosen.repeat(self.rounds)
    }
}

/// What is still to be done, and what has come of the rest.
struct Work {
    /// What takes servers of one's own.
    servers: Mutex<VecDeque<Case>>,
    others: Mutex<VecDeque<Case>>,
    report: Mutex<Report>,
}

/// Cuts commits off as the plan says.
///
/// # Errors
/// If the servers do not do as they are told. What was wrong with a case is no error, but in the report.
///
/// # Panics
/// If pgherd does not start, panics unasked, or ends by itself.
pub async fn run(plan: &Plan) -> Result<Report, Error> {
    let history = History::begin(&plan.history).map_err(|source| Error::Io {
        what: format!("write {}", plan.history.display()),
        source,
    })?;
    let life = Arc::new(Life::new(REST, history));
    let (servers, others): (VecDeque<Case>, VecDeque<Case>) = plan
        .cases()
        .into_iter()
        .partition(|case| case.fault.is_of_servers());
    let own = lanes(plan.lanes.div_ceil(OWN), servers.len());
    let shared = lanes(plan.lanes.saturating_sub(own), others.len());
    let stage = stage::start(
        &plan.pgherd,
        own.max(usize::from(shared == 0)),
        shared,
        &life,
    )
    .await?;
    let began = Instant::now();
    let work = Arc::new(Work {
        servers: Mutex::new(servers),
        others: Mutex::new(others),
        report: Mutex::default(),
    });
    let mut all = JoinSet::new();
    for mut lane in stage.lanes {
        let work = Arc::clone(&work);
        all.spawn(async move {
            while let Some(case) = work.next(&lane) {
                let seen = lane.run(&case).await;
                work.note(&case, seen, &lane);
            }
            lane
        });
    }
    let lanes = all.join_all().await;
    life.end();
    let mut report = std::mem::take(&mut *work.report.lock());
    report.lanes = lanes.len();
    for lane in lanes {
        lane.finish(&mut report).await;
    }
    report.took = began.elapsed();
    report.close(&life)?;
    Ok(report)
}

/// So many, but no more than there are cases.
fn lanes(wanted: usize, cases: usize) -> usize {
    wanted.min(cases)
}

impl Work {
    fn next(&self, lane: &Lane) -> Option<Case> {
        let own = lane
            .has_own_servers()
            .then(|| self.servers.lock().pop_front());
        own.flatten().or_else(|| self.others.lock().pop_front())
    }

    fn note(&self, case: &Case, seen: seen::Seen, lane: &Lane) {
        for fault in &seen.faults {
            // The table comes only in the end, minutes later.
            eprintln!("{case} ({}): {fault}", lane.name);
        }
        self.report.lock().add(case, seen);
    }
}

#[cfg(test)]
mod tests {
    use super::{Case, Fault, Flow, Plan};

    #[test]
    fn all_cases_are_more_than_a_thousand_crashes() {
        let mut plan = Plan {
            pgherd: "/x".into(),
            flows: Flow::ALL.to_vec(),
            faults: Fault::ALL.to_vec(),
            case: None,
            every: 1,
            rounds: 1,
            lanes: 1,
            history: "/y".into(),
        };
        assert_eq!(plan.cases(), Case::all());
        let crashes: usize = plan.cases().iter().map(Case::crashes).sum();
        assert!(crashes >= 1000, "{crashes}");
        plan.rounds = 2;
        assert_eq!(plan.cases().len(), 2 * Case::all().len());
        plan.faults = vec![Fault::Freeze];
        assert!(plan.cases().iter().all(|case| case.fault == Fault::Freeze));
        plan.case = Case::all().pop();
        assert_eq!(plan.cases().len(), 2);
    }
}
