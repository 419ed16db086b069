use std::sync::Arc;
use std::time::{Duration, Instant};

use pgherd_sandbox::{Binaries, Cluster, Error, Replication};
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use tokio::time::{sleep, timeout};

use super::fault::Fault;
use super::promoter::Promoter;
use super::report::{Report, Row};
use super::stage::Middle;
use super::{Plan, Way};
use crate::checks::ledger::Ledger;
use crate::checks::lists;
use crate::door::Door;
use crate::history::History;
use crate::workloads::acked::Acked;
use crate::workloads::bank::{self, Bank};
use crate::workloads::idle::{self, Idle};
use crate::workloads::life::Life;
use crate::workloads::lists::{self as appenders, Appenders};
use crate::workloads::own::{self, Counters};
use crate::workloads::sessions::{self, Sessions};

/// A primary and two replicas: after each failover one is left to acknowledge what is written.
const NODES: usize = 3;

/// How long writes may take to go on behind a new primary before the run is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long each client rests between two operations, so that two cores carry all of them.
const PAUSE: Duration = Duration::from_millis(5);

/// How many clients insert through what is tested.
const INSERTERS: usize = 9;

/// How many do so directly, to be compared with.
const COMPARED: usize = 3;

/// The name in the table of errors of those who insert through what is tested.
const THROUGH: &str = "acked";

/// And of those who go directly.
pub(super) const DIRECT: &str = "direct";

/// Everybody who goes through what is tested.
const KINDS: [&str; 6] = [
    THROUGH,
    bank::KIND,
    appenders::KIND,
    own::KIND,
    sessions::KIND,
    idle::KIND,
];

/// Runs a plan to its end.
///
/// # Errors
/// If the servers, or what stands before them, do not do as they are told. What clients saw is no
/// error, but in the report.
///
/// # Panics
/// If pgherd does not start, panics, or ends by itself.
pub async fn run(plan: &Plan) -> Result<Report, Error> {
    let binaries = Binaries::find()?;
    let cluster = Cluster::start(&binaries, NODES, plan.replication).await?;
    let mut promoter = Promoter::new(cluster);
    let tables = [
        "create table herd (id bigint); create table herd_direct (id bigint);",
        bank::TABLES,
        own::TABLE,
        ";",
        appenders::TABLE,
    ];
    promoter.sql(&tables.join("\n")).await?;
    let cluster = promoter.cluster();
    let primary = cluster.node(cluster.primary());
    let middle = Middle::start(plan, &cluster.ports(), primary).await?;
    let door = middle.door(&promoter.whereabouts());
    let history = History::begin(&plan.history).map_err(|source| Error::Io {
        what: format!("write {}", plan.history.display()),
        source,
    })?;
    let life = Arc::new(Life::new(PAUSE, history));
    let direct = Door::direct(promoter.whereabouts());
    let crowd = Crowd::start(&life, &door, &direct, plan.seed).await;
    let mut report = Report::new(plan);
    let began = Instant::now();
    let mut rng = StdRng::seed_from_u64(plan.seed);
    for fault in faults(plan, &mut rng) {
        calm(&mut rng).await;
        life.history.note("promoter", format_args!("{fault}"));
        let turn = Turn {
            plan,
            fault,
            crowd: &crowd,
            life: &life,
            middle: &middle,
        };
        if !turn.fail_over(&mut promoter, &mut rng, &mut report).await? {
            break;
        }
    }
    calm(&mut rng).await;
    life.end();
    report.took = began.elapsed();
    report.operations = life.operations();
    crowd.finish(&promoter, &door, &mut report).await?;
    report.errors = life.errors.counts();
    if matches!(plan.way, Way::Pgherd(_)) {
        report.faults.extend(life.errors.forbidden(&KINDS));
        if plan.resolve {
            report.faults.extend(life.errors.unresolved(&KINDS));
        }
    }
    if report.faults.is_empty() {
        let discarded = life.history.discard();
        discarded.map_err(|source| Error::Io {
            what: "remove the history".to_owned(),
            source,
        })?;
    } else {
        for line in middle.log() {
            life.history.note("pgherd", line);
        }
        let kept = life.history.keep().map_err(|source| Error::Io {
            what: "write the history".to_owned(),
            source,
        })?;
        report.history = Some(kept.to_owned());
    }
    Ok(report)
}

/// The faults in their order: all of them once, in some order, and again.
fn faults(plan: &Plan, rng: &mut StdRng) -> Vec<Fault> {
    let mut faults = Vec::new();
    while faults.len() < plan.failovers && !plan.faults.is_empty() {
        let mut round = plan.faults.clone();
        round.shuffle(rng);
        faults.extend(round);
    }
    faults.truncate(plan.failovers);
    faults
}

/// Lets clients do what they do for a while.
async fn calm(rng: &mut StdRng) {
    sleep(Duration::from_millis(rng.random_range(300..1000))).await;
}

/// Clients of all kinds.
struct Crowd {
    through: Acked,
    compared: Acked,
    bank: Bank,
    appenders: Appenders,
    counters: Counters,
    sessions: Sessions,
    idle: Idle,
}

impl Crowd {
    async fn start(life: &Arc<Life>, door: &Door, direct: &Door, seed: u64) -> Self {
        // Those who come first are let in while nobody else wants anything.
        let idle = Idle::start(door, 20).await;
        Self {
            idle,
            through: Acked::start(life, door, "herd", THROUGH, INSERTERS),
            compared: Acked::start(life, direct, "herd_direct", DIRECT, COMPARED),
            bank: Bank::start(life, door, 6, seed),
            appenders: Appenders::start(life, door, 6, seed.wrapping_add(100)),
            counters: Counters::start(life, door, 4),
            sessions: Sessions::start(life, door, 8, seed.wrapping_add(200)),
        }
    }

    /// Compares what all were told with what is there.
    async fn finish(
        self,
        promoter: &Promoter,
        door: &Door,
        report: &mut Report,
    ) -> Result<(), Error> {
        let (through, compared) = (self.through.finish().await, self.compared.finish().await);
        let (moves, miscounted) = self.bank.finish().await;
        let transactions = self.appenders.finish().await;
        let own = self.counters.finish().await;
        let identity = self.sessions.finish().await;
        let idle = self.idle.finish(door).await;

        for (name, ledger, table) in [
            (THROUGH, &through, "herd"),
            (DIRECT, &compared, "herd_direct"),
            (bank::KIND, &moves, "moves"),
        ] {
            let account = account(promoter, name, ledger, table).await?;
            report.account(account);
        }
        report.faults.extend(miscounted);
        let uneven = promoter.sql(bank::AUDIT).await?;
        if uneven != "0" {
            let what = format!("{uneven} accounts do not have what was moved to them");
            report.faults.push(what);
        }

        let rows = promoter
            .sql("select key, array_to_string(vals, ' ') from lists")
            .await?;
        let lists = rows.lines().filter_map(|row| {
            let (key, values) = row.split_once('|')?;
            Some((key.parse().ok()?, appenders::numbers(values)))
        });
        let found = lists::check(&transactions, &lists.collect());
        if !appenders::has_worked(&transactions) {
            report.faults.push("nobody has appended".to_owned());
        }
        report.faults.extend(found.impossible);
        report.lossy(found.lossy);
        report.appends = (found.acknowledged, found.lost);

        if own.right == 0 {
            report.faults.push("nobody has counted".to_owned());
        }
        report.faults.extend(own.doubled);
        report.lossy(own.stale);
        report.faults.extend(identity.faults());
        if identity.right() == 0 {
            report.faults.push("nobody was told who it is".to_owned());
        }
        report.answers = identity.right();
        report.idle = (idle.clients, idle.cut);
        report.faults.extend(idle.wrong);
        if idle.cut > 0 && door.keeps_sessions() {
            let what = format!("{} of {} idle clients were cut", idle.cut, idle.clients);
            report.faults.push(what);
        }
        Ok(())
    }
}

async fn account(
    promoter: &Promoter,
    name: &'static str,
    ledger: &Ledger,
    table: &str,
) -> Result<Row, Error> {
    let rows = promoter.sql(&format!("select id from {table}")).await?;
    let there = appenders::numbers(&rows);
    Ok(Row {
        name,
        account: ledger.balance(&there),
    })
}

/// One failover.
struct Turn<'a> {
    plan: &'a Plan,
    fault: Fault,
    crowd: &'a Crowd,
    life: &'a Life,
    middle: &'a Middle,
}

impl Turn<'_> {
    /// Takes the primary away and gives another; false if clients did not go on.
    async fn fail_over(
        &self,
        promoter: &mut Promoter,
        rng: &mut StdRng,
        report: &mut Report,
    ) -> Result<bool, Error> {
        if self.plan.replication == Replication::Asynchronous {
            let behind = Duration::from_millis(rng.random_range(0..100));
            promoter.fall_behind(behind).await?;
        }
        let done = promoter.fail_over(self.fault, self.middle).await?;
        report.promoted(done.took);
        self.note("another one takes writes");
        let (through, compared) = (&self.crowd.through, &self.crowd.compared);
        let firsts = async {
            tokio::join!(
                through.acknowledged().first(done.writable),
                compared.acknowledged().first(done.writable),
            )
        };
        let Ok((first, directly)) = timeout(PATIENCE, firsts).await else {
            let what = format!("after {} nobody could write for {PATIENCE:?}", self.fault);
            report.faults.push(what);
            return Ok(false);
        };
        report.resumed(first - done.writable, directly - done.writable);
        self.note("clients write again");
        if self.fault.leaves_stale() {
            let fence = through.next();
            promoter.bring_back(self.fault, done.old).await?;
            self.note("the old one takes writes");
            sleep(Duration::from_millis(rng.random_range(300..1500))).await;
            let stale = promoter.stale(done.old, "herd", fence).await?;
            report.stale(self.fault, &stale);
        }
        let rejoined = promoter.rejoin(done.old).await?;
        report.rejoined(rejoined);
        self.note("the old one follows");
        let all = async {
            tokio::join!(
                through.acknowledged().everybody(done.writable, INSERTERS),
                compared.acknowledged().everybody(done.writable, COMPARED),
            )
        };
        let Ok((all, directly)) = timeout(PATIENCE, all).await else {
            let what = format!("after {} some could not write for {PATIENCE:?}", self.fault);
            report.faults.push(what);
            return Ok(false);
        };
        for moment in all {
            report.each(moment - done.writable);
        }
        for moment in directly {
            report.each_directly(moment - done.writable);
        }
        Ok(true)
    }

    fn note(&self, what: &str) {
        self.life.history.note("promoter", what);
    }
}
