//! A replica from which clients read stops answering, again and again.
//!
//! It is frozen (SIGSTOP), so that nobody hears from its machine that anything is wrong. It must leave rotation within
//! [`LIMIT`], what was being read there must be read elsewhere, and nobody may hear of it but who was in the middle of
//! a transaction.

mod reader;
mod report;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgherd_sandbox::{Binaries, Cluster, Error, Replication};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::time::sleep;
use tokio_postgres::SimpleQueryMessage;

use crate::checks::{Check, Wrong};
use crate::crowd::calm;
use crate::door::Door;
use crate::history::History;
use crate::proxy::Proxy;
use crate::quiet::Quiet;
use crate::rig::{Guest, arrive};
use crate::workloads::life::Life;
use reader::Readers;
pub use report::Report;

/// How soon a replica that does not answer must be read from no more.
pub const LIMIT: Duration = Duration::from_secs(2);

/// A primary, and two to read from.
const NODES: usize = 3;

/// How many clients read.
const READERS: usize = 12;

/// How long it may take until a replica is read from again.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often it is looked whether it has left.
const TICK: Duration = Duration::from_millis(5);

/// How long a replica stays frozen behind that, in which nobody may hear from it.
const REST: Duration = Duration::from_millis(500);

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The executable to test.
    pub pgherd: PathBuf,
    /// How often a replica is frozen.
    pub rounds: usize,
    /// What decides about everything that is left to chance, but for the timing.
    pub seed: u64,
    /// Where the history is written; it stays if anything was wrong.
    pub history: PathBuf,
}

/// Runs a plan to its end.
///
/// # Errors
/// If the servers do not do as they are told. What clients saw is no error, but in the report.
///
/// # Panics
/// If pgherd does not start, panics, or ends by itself.
pub async fn run(plan: &Plan) -> Result<Report, Error> {
    let cluster = Cluster::start(&Binaries::find()?, NODES, Replication::Synchronous).await?;
    let ports = cluster.ports();
    let executable = plan.pgherd.to_string_lossy();
    let proxy = Proxy::start(&executable, &configuration(&ports));
    let quiet = Quiet::of(&proxy, &ports).await;
    let history = History::begin(&plan.history).map_err(|source| Error::Io {
        what: format!("write {}", plan.history.display()),
        source,
    })?;
    let life = Arc::new(Life::new(Duration::from_millis(2), history));
    let mut report = Report::new(plan.seed);
    let began = Instant::now();
    let stage = Stage {
        console: console(&proxy).await,
        cluster: &cluster,
        life: &life,
    };
    let readers = Readers::start(&life, &Door::pgherd(proxy.port()), READERS);
    let mut rng = StdRng::seed_from_u64(plan.seed);
    let replicas: Vec<usize> = (0..NODES)
        .filter(|node| *node != cluster.primary())
        .collect();
    for round in 0..plan.rounds {
        let replica = replicas[round % replicas.len()];
        if !stage.freeze(replica, &readers, &mut rng, &mut report).await {
            break;
        }
    }
    life.end();
    report.took = began.elapsed();
    report.operations = life.operations();
    readers.finish(&mut report).await;
    report.told(&life.errors);
    drop(stage);
    report.faults.extend(quiet.returns(&proxy).await);
    if report.faults.is_empty() {
        let discarded = life.history.discard();
        return discarded.map(|()| report).map_err(|source| Error::Io {
            what: "remove the history".to_owned(),
            source,
        });
    }
    for line in proxy.log() {
        life.history.note("pgherd", line);
    }
    report.history = life.history.keep().ok().map(ToOwned::to_owned);
    Ok(report)
}

struct Stage<'a> {
    console: Guest,
    cluster: &'a Cluster,
    life: &'a Life,
}

impl Stage<'_> {
    /// Freezes a replica that is read from, and lets it go on; false if there is no sense in going on.
    async fn freeze(
        &self,
        replica: usize,
        readers: &Readers,
        rng: &mut StdRng,
        report: &mut Report,
    ) -> bool {
        let node = self.cluster.node(replica);
        let port = node.port();
        if !self.becomes(port, true, PATIENCE).await || !readers.reach(port, PATIENCE).await {
            let what = format!("the replica at {port} was never read from");
            report.faults.push(Check::Work.caught(what));
            return false;
        }
        calm(rng).await;
        self.note(format_args!("{port} is frozen"));
        let began = Instant::now();
        node.freeze();
        let left = self.becomes(port, false, PATIENCE).await;
        let took = began.elapsed();
        self.note(format_args!("{port} has left: {left}"));
        report.left.add(took);
        if !left || took > LIMIT {
            let what = format!("the replica at {port} was offered for {took:.1?} more");
            report.faults.push(Check::Rotation.caught(what));
        }
        sleep(REST).await;
        let late = readers.asked_before(began + took);
        node.thaw();
        self.note(format_args!("{port} goes on"));
        if late > 0 {
            report.faults.push(still_waiting(late));
        }
        if !self.becomes(port, true, PATIENCE).await {
            let what = format!("the replica at {port} is not read from again");
            report.faults.push(Check::Rotation.caught(what));
            return false;
        }
        true
    }

    fn note(&self, what: std::fmt::Arguments<'_>) {
        self.life.history.note("rig", what);
    }

    /// Waits until a host is offered for reading, or is not.
    async fn becomes(&self, port: u16, wanted: bool, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if self.is_offered(port).await == Some(wanted) {
                return true;
            }
            sleep(TICK).await;
        }
        false
    }

    async fn is_offered(&self, port: u16) -> Option<bool> {
        let host = format!("127.0.0.1:{port}");
        let answer = self.console.client.simple_query("show hosts").await.ok()?;
        answer.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) if row.get("host") == Some(&host) => {
                Some(row.get("reads") == Some("yes"))
            }
            _ => None,
        })
    }
}

fn still_waiting(clients: usize) -> Wrong {
    let what = format!("{clients} clients wait for a server that was to be left {REST:?} ago");
    Check::Rotation.caught(what)
}

async fn console(proxy: &Proxy) -> Guest {
    arrive(proxy, "pgherd")
        .await
        .expect("the console lets us in")
}

/// A pgherd that reads from replicas alone, as long as there are any.
fn configuration(ports: &[u16]) -> String {
    let hosts: Vec<String> = ports
        .iter()
        .map(|port| format!("\"127.0.0.1:{port}\""))
        .collect();
    format!(
        "[auth]\nmethod = \"trust\"\n\
         [admin]\nadmins = [\"postgres\"]\n\
         [reads]\nfrom = \"replicas\"\n\
         [databases.postgres]\nhosts = [{}]\n\
         [users.postgres]\npassword = \"postgres\"\n",
        hosts.join(", ")
    )
}
