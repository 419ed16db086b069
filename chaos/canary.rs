//! Clients that know what they must be answered, on few connections, without any fault but their own.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use pgherd_sandbox::{Binaries, Error, Server};

use crate::checks::{Wrong, conclude};
use crate::proxy::Proxy;
use crate::quiet::Quiet;
use crate::rig::configuration;
use crate::workloads::canary::cancels::Hasty;
use crate::workloads::canary::listen::Listeners;
use crate::workloads::canary::prepared::Prepared;
use crate::workloads::canary::state::{self, Leave, State};
use crate::workloads::canary::{Canary, TABLE};

/// What clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// They ask for what nobody else asks for, cancel, break off and vanish.
    Answers,
    /// Some cancel what has almost ended, and others nothing.
    Cancels,
    /// They change their sessions in all ways, and look whether they are as they left them.
    State,
    /// They prepare statements under the same names.
    Prepared,
    /// They listen, each to its own channel, and notify one another.
    Listen,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Answers,
        Self::Cancels,
        Self::State,
        Self::Prepared,
        Self::Listen,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Answers => "answers",
            Self::Cancels => "cancels",
            Self::State => "state",
            Self::Prepared => "prepared",
            Self::Listen => "listen",
        }
    }

    /// How many clients there are if nothing else is said.
    fn clients(self) -> usize {
        match self {
            Self::Answers => 200,
            Self::Cancels | Self::State | Self::Prepared | Self::Listen => 12,
        }
    }

    /// Few connections, so that each is everybody's; more where clients keep some for themselves.
    fn pool(self) -> usize {
        match self {
            Self::Answers | Self::Listen => 4,
            Self::Cancels | Self::State | Self::Prepared => 3,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|kind| kind.name() == text);
        found.ok_or_else(|| "it is one of answers, cancels, state, prepared, listen".to_owned())
    }
}

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The executable to test.
    pub pgherd: PathBuf,
    /// What clients do, in turn.
    pub kinds: Vec<Kind>,
    /// How many there are; unless it is said, many of those that ask, and some of all others.
    pub clients: Option<usize>,
    /// How long they do each.
    pub time: Duration,
    /// What decides about everything that is left to chance, but for the timing.
    pub seed: u64,
}

/// What came of a run.
#[derive(Debug, Default)]
pub struct Report {
    /// What is not as it must be.
    pub faults: Vec<Wrong>,
    /// How many answers of each kind were right, and how many statements were cancelled by their own clients.
    pub right: Vec<(Kind, u64, u64)>,
    seed: u64,
}

/// Lets the clients of a plan do what they do.
///
/// # Errors
/// If the server does not do as it is told. What clients saw is no error, but in the report.
///
/// # Panics
/// If pgherd does not start, panics, or ends by itself.
pub async fn run(plan: &Plan) -> Result<Report, Error> {
    let mut report = Report {
        seed: plan.seed,
        ..Report::default()
    };
    for kind in &plan.kinds {
        one(plan, *kind, &mut report).await?;
    }
    Ok(report)
}

async fn one(plan: &Plan, kind: Kind, report: &mut Report) -> Result<(), Error> {
    let server = Server::builder(&Binaries::find()?).start().await?;
    server.sql(TABLE).await?;
    server.sql(state::ROLE).await?;
    let more = format!(
        "[pool]\nsize = {}\n[timeouts]\ncheckout_notice = 0\n[workers]\ncount = 2\n[log]\nlevel = \"warn\"",
        kind.pool()
    );
    let executable = plan.pgherd.to_string_lossy();
    let proxy = Proxy::start(&executable, &configuration(server.port(), &more));
    let quiet = Quiet::of(&proxy, &[server.port()]).await;
    let (time, seed) = (plan.time, plan.seed);
    let clients = plan.clients.unwrap_or_else(|| kind.clients());
    let config = proxy.client("postgres", "postgres", "postgres");
    let identity = match kind {
        Kind::Answers => {
            let canary = Canary {
                clients,
                time,
                seed,
            };
            canary.run(&config).await
        }
        Kind::Cancels => {
            let hasty = Hasty {
                clients,
                time,
                seed,
            };
            hasty.run(&config).await
        }
        Kind::State => {
            let leave = Leave::Anywhere;
            let state = State {
                clients,
                time,
                seed,
                leave,
            };
            state.run(proxy.address()).await
        }
        Kind::Prepared => {
            let prepared = Prepared {
                clients,
                time,
                seed,
            };
            prepared.run(proxy.address()).await
        }
        Kind::Listen => {
            let listeners = Listeners {
                clients,
                time,
                seed,
            };
            listeners.run(&config).await
        }
    };
    report
        .right
        .push((kind, identity.right(), identity.cancelled()));
    report.faults.extend(identity.faults());
    report.faults.extend(quiet.returns(&proxy).await);
    Ok(())
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "seed {}\n\n| clients | right answers | cancelled by their own clients |\n|---|---|---|",
            self.seed
        )?;
        for (kind, right, cancelled) in &self.right {
            writeln!(f, "| {kind} | {right} | {cancelled} |")?;
        }
        conclude(f, &self.faults)
    }
}
