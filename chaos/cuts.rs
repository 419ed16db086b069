//! The cut matrix: each conversation is cut at each place, on each side and in each way, and what its
//! client is told then is compared with what is there.

mod act;
mod case;
mod flow;
mod flows;
mod frames;
mod judge;
mod leg;
mod relay;
mod report;
mod stage;
mod talk;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use parking_lot::Mutex;
use pgherd_sandbox::Error;
use tokio::task::JoinSet;
use tokio::time::sleep;

pub use case::{Case, Direction, Position, Side, Way};
pub use report::Report;

use act::{Act, Seen};
use flow::Flow;
use stage::{Lane, Stage};

use crate::checks::{Check, Wrong};
use crate::hostile::Message;

/// How long descriptors may take to be given back in the end.
const PATIENCE: Duration = Duration::from_secs(20);

/// The names of all conversations.
pub fn flows() -> impl Iterator<Item = &'static str> {
    flows::ALL.iter().map(|flow| flow.name)
}

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The executable to test.
    pub pgherd: PathBuf,
    /// These conversations.
    pub flows: Vec<String>,
    /// Cut on these sides.
    pub sides: Vec<Side>,
    /// In these ways.
    pub ways: Vec<Way>,
    /// Or this case alone.
    pub case: Option<Case>,
    /// Of all cases, each one of this number.
    pub every: usize,
    /// How many at a time.
    pub lanes: usize,
    /// pgherd has TLS to clients and servers alike.
    pub tls: bool,
}

/// A conversation, and what Postgres itself says in it.
struct Known {
    flow: &'static Flow,
    direct: Vec<Vec<Message>>,
}

/// What is to be done, and how far that is.
struct Work {
    known: Vec<Known>,
    cases: Vec<Case>,
    next: AtomicUsize,
    ids: AtomicU32,
    report: Mutex<Report>,
}

/// Cuts as the plan says.
///
/// # Errors
/// If the server does not do as it is told. What was wrong with a case is no error, but in the report.
///
/// # Panics
/// If pgherd does not start, panics, or ends by itself.
pub async fn run(plan: &Plan) -> Result<Report, Error> {
    let began = Instant::now();
    let (stage, lanes) = stage::start(&plan.pgherd, plan.lanes.max(1), plan.tls).await?;
    let mut work = Work {
        known: Vec::new(),
        cases: Vec::new(),
        next: AtomicUsize::new(0),
        ids: AtomicU32::new(10_000_000),
        report: Mutex::default(),
    };
    for lane in &lanes {
        // The first use makes what stays.
        lane.settle().await;
    }
    let before = stage.descriptors().await;
    work.prepare(plan, &lanes).await;
    if work.report.lock().faults.is_empty() {
        let work = Arc::new(work);
        let mut all = JoinSet::new();
        for lane in lanes {
            let work = Arc::clone(&work);
            all.spawn(async move {
                work.carry_out(&lane).await;
                lane
            });
        }
        let lanes = all.join_all().await;
        for lane in &lanes {
            // A connection that has ended while nobody used it is noticed by who comes next.
            lane.settle().await;
        }
        let leaked = leaked(&stage, before).await;
        drop(lanes);
        let mut report = std::mem::take(&mut *work.report.lock());
        report.faults.extend(leaked);
        report.close();
        report.took = began.elapsed();
        return Ok(report);
    }
    Ok(work.report.into_inner())
}

/// Waits until pgherd has no more descriptors than before; tells if it does not come to that.
async fn leaked(stage: &Stage, before: usize) -> Option<Wrong> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = stage.descriptors().await;
        if now <= before {
            return None;
        }
        if Instant::now() > deadline {
            let what = format!("pgherd has {now} descriptors where it had {before}");
            return Some(Check::Leak.caught(what));
        }
        sleep(Duration::from_millis(50)).await;
    }
}

impl Work {
    /// Leads each conversation directly and, uncut, through pgherd, which shows where it may be cut.
    async fn prepare(&mut self, plan: &Plan, lanes: &[Lane]) {
        let chosen = |flow: &&Flow| match &plan.case {
            Some(case) => case.flow == flow.name,
            None => plan.flows.is_empty() || plan.flows.iter().any(|name| name == flow.name),
        };
        let flows: Vec<&'static Flow> = flows::ALL.iter().filter(chosen).collect();
        let ids = &self.ids;
        let shares = lanes.iter().enumerate().map(|(number, lane)| {
            let own = flows.iter().skip(number).step_by(lanes.len());
            async move {
                let mut prepared = Vec::new();
                for flow in own {
                    prepared.push(prepare(plan, lane, flow, ids).await);
                }
                prepared
            }
        });
        let mut prepared: Vec<_> = join_all(shares).await.into_iter().flatten().collect();
        prepared.sort_by_key(|one| {
            flows
                .iter()
                .position(|flow| flow.name == one.known.flow.name)
        });
        for one in prepared {
            self.report.get_mut().faults.extend(one.faults);
            self.cases.extend(one.cases);
            self.known.push(one.known);
        }
        match plan.case {
            Some(case) => self.cases = vec![case],
            None => self.cases = every(&self.cases, plan.every),
        }
    }

    /// Takes cases until there is none left.
    async fn carry_out(&self, lane: &Lane) {
        while let Some(case) = self.cases.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            let known = self.known.iter().find(|known| known.flow.name == case.flow);
            let Some(known) = known else { continue };
            let act = Act {
                lane,
                flow: known.flow,
                id: next_id(&self.ids),
                side: case.side,
                case: Some(*case),
            };
            let seen = act.run(&known.direct).await;
            self.note(case, &seen);
        }
    }

    fn note(&self, case: &Case, seen: &Seen) {
        for fault in &seen.faults {
            // The table comes only in the end, minutes later.
            eprintln!("{case}: {fault}");
        }
        let outcome = seen.outcomes.last().map_or("none", String::as_str);
        self.report.lock().add(case, outcome, seen);
    }
}

/// A conversation that has been led uncut, and where it may be cut.
struct Prepared {
    known: Known,
    cases: Vec<Case>,
    faults: Vec<Wrong>,
}

async fn prepare(plan: &Plan, lane: &Lane, flow: &'static Flow, ids: &AtomicU32) -> Prepared {
    let act = |side| Act {
        lane,
        flow,
        id: next_id(ids),
        side,
        case: None,
    };
    let (mut cases, mut faults) = (Vec::new(), Vec::new());
    let direct = act::lead_directly(&act(Side::Client)).await;
    let direct = direct.unwrap_or_else(|fault| {
        let what = format!("{}, directly: {fault}", flow.name);
        faults.push(Check::Work.caught(what));
        Vec::new()
    });
    for side in Side::ALL
        .into_iter()
        .filter(|side| plan.sides.contains(side))
    {
        // The first time pgherd has to learn what the second one shows.
        act(side).run(&direct).await;
        let seen = act(side).run(&direct).await;
        for fault in seen.faults {
            let what = format!("{} ({side}), uncut: {}", flow.name, fault.what);
            faults.push(fault.check.caught(what));
        }
        cases.extend(case::all(flow.name, side, &seen.passed));
    }
    cases.retain(|case| plan.ways.contains(&case.way));
    let known = Known { flow, direct };
    Prepared {
        known,
        cases,
        faults,
    }
}

/// What marks a conversation's own: always of one length.
fn next_id(ids: &AtomicU32) -> String {
    ids.fetch_add(1, Ordering::Relaxed).to_string()
}

/// Of each conversation, side and way, each case of a number, and at least one.
fn every(cases: &[Case], number: usize) -> Vec<Case> {
    let groups = cases
        .chunk_by(|one, next| (one.flow, one.side, one.way) == (next.flow, next.side, next.way));
    let number = number.max(1);
    let mut chosen = Vec::new();
    for (turn, group) in groups.enumerate() {
        // Each group begins elsewhere, so that all places have their turn.
        let first = turn % number.min(group.len());
        chosen.extend(group.iter().skip(first).step_by(number));
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::{Case, Direction, Position, Side, Way, every};

    #[test]
    fn each_group_is_there_however_few_are_chosen() {
        let case = |way, messages| Case {
            flow: "select",
            side: Side::Client,
            direction: Direction::Up,
            at: Position { messages, bytes: 0 },
            way,
        };
        let ways = [Way::Reset, Way::Slices];
        let all: Vec<Case> = ways
            .into_iter()
            .flat_map(|way| (0..5).map(move |messages| case(way, messages)))
            .collect();
        assert_eq!(every(&all, 1), all);
        assert_eq!(every(&all, 100), [case(ways[0], 0), case(ways[1], 1)]);
        assert_eq!(every(&all, 3).len(), 4);
    }
}
