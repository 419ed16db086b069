//! One script in one mode, on both sides.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pgherd_tests::{Script, Statement};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::known::Difference;
use crate::noise::Noisy;
use crate::request::{Mode, Request};
use crate::rotation::{self, Rotation};

use crate::side::{Said, Side};
use crate::stage::Stage;
use crate::transcript::{difference, mask};

/// How many clients are noisy all the time; together they do one thing in so many statements.
const NOISY: usize = 2;
const PACE: usize = 4;

/// How long a noisy client may take to end, when nobody else is there any more.
const PATIENCE: Duration = Duration::from_secs(15);

/// How a script is run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) mode: Mode,
    pub(crate) seed: u64,
    pub(crate) moving: Moving,
    pub(crate) answers: Answers,
}

/// When the script is moved to another server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moving {
    /// Whenever it can be.
    Always,
    /// In one of three cases.
    Sometimes,
}

/// How answers are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answers {
    /// As they are.
    Exact,
    /// Without long numbers.
    Masked,
}

/// What a run has shown.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) differences: Vec<Difference>,
    pub(crate) statements: usize,
    /// How many were left when Postgres itself no longer answered, or the sides were in different states.
    pub(crate) left: usize,
    /// How often the script was moved to another server.
    pub(crate) moves: usize,
    /// Where it has run.
    pub(crate) processes: usize,
}

/// A script on its way.
struct Run<'a> {
    name: &'a str,
    script: Script<'a>,
    plan: Plan,
    direct: Side,
    through: Side,
    rotation: Rotation,
    permits: Arc<Semaphore>,
    rng: StdRng,
    /// How often each statement has come.
    seen: BTreeMap<String, usize>,
    outcome: Outcome,
}

/// Runs a script in a database that both servers have.
pub(crate) async fn run(
    stage: &Stage,
    database: &str,
    name: &str,
    script: Script<'_>,
    plan: Plan,
) -> Outcome {
    let port = stage.proxy.port();
    let permits = Arc::new(Semaphore::new(0));
    let mut noise = JoinSet::new();
    for number in 3..3 + NOISY {
        let mut noisy = Noisy::new(port, database, number, plan.seed).await;
        let permits = Arc::clone(&permits);
        noise.spawn(async move {
            while let Ok(permit) = permits.acquire().await {
                permit.forget();
                noisy.act().await;
            }
        });
    }
    let run = Run {
        name,
        script,
        plan,
        direct: Side::login(stage.direct.port(), database).await,
        through: Side::login(port, database).await,
        rotation: Rotation::new(port, database, plan.seed).await,
        permits: Arc::clone(&permits),
        rng: StdRng::seed_from_u64(plan.seed),
        seen: BTreeMap::new(),
        outcome: Outcome::default(),
    };
    let mut outcome = run.all().await;
    permits.close();
    loop {
        match timeout(PATIENCE, noise.join_next()).await {
            Ok(None) => break,
            Ok(Some(ended)) => ended.expect("noise goes well"),
            Err(_) => panic!("{name}: noise waits\n{}", rotation::all(port).await),
        }
    }
    outcome.processes = stage.processes(database).len();
    outcome
}

impl Run<'_> {
    async fn all(mut self) -> Outcome {
        // As if the last statement had left both outside of a transaction.
        let mut idle = true;
        while let Some(statement) = self.statement() {
            let number = self.outcome.statements;
            self.outcome.statements += 1;
            self.permits
                .add_permits(usize::from(number.is_multiple_of(PACE)));
            let mut direct = Vec::new();
            let mut through = Vec::new();
            let mut goes_on = true;
            for request in Request::of(&statement, self.plan.mode, number) {
                if idle && self.moves() && !self.rotation.turn(self.through.number()).await {
                    through.extend(self.through.farewell().await);
                    self.compare(&statement, direct, through);
                    return self.over();
                }
                let (one, other) = self.perform(&request).await;
                idle = other.status == Some('I');
                if one.status.is_none() {
                    return self.cut();
                }
                goes_on = one.status == other.status;
                direct.extend(one.lines);
                through.extend(other.lines);
                // What could not be prepared is not run.
                if !goes_on || direct.iter().any(|line| line.starts_with("ErrorResponse")) {
                    break;
                }
            }
            self.compare(&statement, direct, through);
            if !goes_on {
                // From here on nothing can be compared.
                return self.cut();
            }
        }
        self.over()
    }

    /// The script goes no further.
    fn cut(mut self) -> Outcome {
        while self.statement().is_some() {
            self.outcome.left += 1;
        }
        self.over()
    }

    fn over(mut self) -> Outcome {
        self.outcome.moves = self.rotation.moves();
        self.outcome
    }

    /// The next statement, or as many as go together.
    fn statement(&mut self) -> Option<Statement> {
        let mut first = self.script.statement()?;
        let mut count = 1;
        while count < self.plan.mode.together() && !first.reads_on() {
            let Some(next) = self.script.statement() else {
                break;
            };
            first.text = format!("{};\n{}", first.text, next.text);
            first.several = true;
            count += 1;
        }
        Some(first)
    }

    fn moves(&mut self) -> bool {
        self.plan.moving == Moving::Always || self.rng.random_ratio(1, 3)
    }

    async fn perform(&mut self, request: &Request) -> (Said, Said) {
        let mut data = Vec::new();
        let script = &mut self.script;
        let mut read = || {
            data.push(script.data());
            data[data.len() - 1].clone()
        };
        let mut direct = self.direct.perform(request, &mut read).await;
        // Postgres' own scripts may lock themselves out where they are not sent as they were meant.
        assert!(
            direct.status.is_some() || self.plan.answers == Answers::Masked,
            "{}: Postgres does not answer {request:?}: {direct:?}",
            self.name
        );
        if direct.status.is_none() {
            return (direct, Said::default());
        }
        let mut data = data.into_iter();
        let mut again = || data.next().unwrap_or_default();
        let mut through = self.through.perform(request, &mut again).await;
        let count = self.direct.heard();
        direct.lines.extend(self.direct.hear(0).await);
        if through.status.is_some() {
            through.lines.extend(self.through.hear(count).await);
        }
        (direct, through)
    }

    fn compare(&mut self, statement: &Statement, direct: Vec<String>, through: Vec<String>) {
        let masked = |lines: Vec<String>| match self.plan.answers {
            Answers::Exact => lines,
            Answers::Masked => lines.iter().map(|line| mask(line)).collect(),
        };
        let brief = statement.brief();
        let seen = self.seen.entry(brief.clone()).or_default();
        *seen += 1;
        let Some((direct, through)) = difference(&masked(direct), &masked(through)) else {
            return;
        };
        let again = match *seen {
            1 => String::new(),
            count => format!(" (#{count})"),
        };
        self.outcome.differences.push(Difference {
            script: self.name.to_owned(),
            statement: brief + &again,
            direct,
            through,
        });
    }
}
