//! Clients of all kinds at once, and what they were told beside what is there.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pgherd_sandbox::Error;
use rand::Rng as _;
use rand::rngs::StdRng;
use tokio::time::sleep;

use crate::checks::ledger::Ledger;
use crate::checks::{Check, Wrong, lists};
use crate::door::Door;
use crate::history::History;
use crate::report::{Report, Row};
use crate::workloads::acked::{Acked, under_way};
use crate::workloads::bank::{self, Bank};
use crate::workloads::crew::Crew;
use crate::workloads::ears;
use crate::workloads::hasty;
use crate::workloads::idle::{self, Idle};
use crate::workloads::life::Life;
use crate::workloads::lists::{self as appenders, Appenders};
use crate::workloads::own::{self, Counters};
use crate::workloads::passers;
use crate::workloads::sessions;

/// How long each client rests between two operations, so that two cores carry all of them.
const PAUSE: Duration = Duration::from_millis(5);

/// How many clients insert through what is tested.
pub(crate) const INSERTERS: usize = 12;

/// How many do so directly, to be compared with.
pub(crate) const COMPARED: usize = 4;

/// The name in the table of errors of those who insert through what is tested.
pub(crate) const THROUGH: &str = "acked";

/// And of those who go directly.
pub(crate) const DIRECT: &str = "direct";

/// Everybody who goes through what is tested.
pub(crate) const KINDS: [&str; 9] = [
    THROUGH,
    bank::KIND,
    appenders::KIND,
    own::KIND,
    sessions::KIND,
    hasty::KIND,
    ears::KIND,
    passers::KIND,
    idle::KIND,
];

/// Those of them that must hear what became of what they wrote, where that is found out. A notification has no transaction id
/// before it is committed, and who cancels calls off the search.
pub(crate) const RESOLVED: [&str; 7] = [
    THROUGH,
    bank::KIND,
    appenders::KIND,
    own::KIND,
    sessions::KIND,
    passers::KIND,
    idle::KIND,
];

/// How much each of them may have under way that may be left unknown.
pub(crate) const CLIENTS: [(&str, usize); 8] = [
    (THROUGH, under_way(INSERTERS)),
    (bank::KIND, TELLERS),
    (appenders::KIND, APPENDERS),
    (own::KIND, COUNTERS),
    (sessions::KIND, SESSIONS),
    (hasty::KIND, HASTY),
    (ears::KIND, EARS),
    (passers::KIND, PASSERS),
];

/// How many there are of the others.
const TELLERS: usize = 6;
const APPENDERS: usize = 6;
pub(crate) const COUNTERS: usize = 4;
const SESSIONS: usize = 8;
const HASTY: usize = 4;
const EARS: usize = 2;
const PASSERS: usize = 3;

/// Who can tell what is there, past everybody.
pub(crate) trait Witness {
    /// Runs statements on the primary; rows are lines, columns are separated by `|`.
    fn sql(&self, text: &str) -> impl Future<Output = Result<String, Error>> + Send;
}

/// Statements that make all the tables that clients need.
pub(crate) fn tables() -> String {
    [
        "create table herd (id bigint); create table herd_direct (id bigint);",
        bank::TABLES,
        own::TABLE,
        ";",
        appenders::TABLE,
    ]
    .join("\n")
}

/// What the clients of a run share, with a history that begins now.
///
/// # Errors
/// If the history cannot be written.
pub(crate) fn life(history: &Path) -> Result<Arc<Life>, Error> {
    let begun = History::begin(history).map_err(|source| Error::Io {
        what: format!("write {}", history.display()),
        source,
    })?;
    Ok(Arc::new(Life::new(PAUSE, begun)))
}

/// Lets clients do what they do for a while.
pub(crate) async fn calm(rng: &mut StdRng) {
    sleep(Duration::from_millis(rng.random_range(300..1000))).await;
}

/// Clients of all kinds.
pub(crate) struct Crowd {
    pub(crate) through: Acked,
    pub(crate) compared: Acked,
    bank: Bank,
    appenders: Appenders,
    counters: Counters,
    sessions: Crew,
    /// Not before poolers that do not survive them.
    hasty: Option<Crew>,
    /// Not before poolers that let nobody listen.
    ears: Option<Crew>,
    passers: Crew,
    idle: Idle,
}

impl Crowd {
    /// Lets all of them come in: those who are compared by the direct way.
    pub(crate) async fn start(life: &Arc<Life>, door: &Door, direct: &Door, seed: u64) -> Self {
        // Those who come first are let in while nobody else wants anything.
        let idle = Idle::start(door, 20).await;
        Self {
            idle,
            through: Acked::start(life, door, "herd", THROUGH, INSERTERS),
            compared: Acked::start(life, direct, "herd_direct", DIRECT, COMPARED),
            bank: Bank::start(life, door, TELLERS, seed),
            appenders: Appenders::start(life, door, APPENDERS, seed.wrapping_add(100)),
            counters: Counters::start(life, door, COUNTERS),
            sessions: sessions::start(life, door, SESSIONS, seed.wrapping_add(200)),
            hasty: door
                .bears_cancels()
                .then(|| hasty::start(life, door, HASTY, seed.wrapping_add(300))),
            ears: door.keeps_sessions().then(|| ears::start(life, door, EARS)),
            passers: passers::start(life, door, PASSERS, seed.wrapping_add(400)),
        }
    }

    /// Compares what all were told with what is there.
    pub(crate) async fn finish(
        self,
        witness: &impl Witness,
        door: &Door,
        report: &mut Report,
    ) -> Result<(), Error> {
        let of_those = |acked: &Acked| Arc::clone(acked.acknowledged());
        let moments = [
            of_those(&self.through),
            of_those(&self.compared),
            Arc::clone(self.bank.acknowledged()),
        ];
        let (through, compared) = (self.through.finish().await, self.compared.finish().await);
        let (moves, miscounted) = self.bank.finish().await;
        let transactions = self.appenders.finish().await;
        let own = self.counters.finish().await;
        let sessions = self.sessions.finish().await;
        let hasty = match self.hasty {
            Some(hasty) => Some(hasty.finish().await),
            None => None,
        };
        let passers = self.passers.finish().await;
        let ears = match self.ears {
            Some(ears) => Some(ears.finish().await),
            None => None,
        };
        let idle = self.idle.finish(door).await;

        let tables = [
            (THROUGH, &through, "herd"),
            (DIRECT, &compared, "herd_direct"),
            (bank::KIND, &moves, "moves"),
        ];
        for ((name, ledger, table), moments) in tables.into_iter().zip(&moments) {
            let row = account(witness, name, ledger, table).await?;
            report.account(row, |id| moments.moment(id));
        }
        report.faults.extend(miscounted);
        let uneven = witness.sql(bank::AUDIT).await?;
        if uneven != "0" {
            let what = format!("{uneven} accounts do not have what was moved to them");
            report.faults.push(Check::Balance.caught(what));
        }

        let rows = witness
            .sql("select key, array_to_string(vals, ' ') from lists")
            .await?;
        let lists = rows.lines().filter_map(|row| {
            let (key, values) = row.split_once('|')?;
            Some((key.parse().ok()?, appenders::numbers(values)))
        });
        let found = lists::check(&transactions, &lists.collect());
        if !appenders::has_worked(&transactions) {
            report
                .faults
                .push(Check::Work.caught("nobody has appended"));
        }
        report.faults.extend(all(Check::Order, found.impossible));
        let lossy = all(Check::Lost, found.lossy);
        report.lossy(lossy.into_iter().map(|wrong| (None, wrong)));
        report.appends = (found.acknowledged, found.lost);

        if own.right == 0 {
            report.faults.push(Check::Work.caught("nobody has counted"));
        }
        report.elsewhere = own.elsewhere;
        report.faults.extend(all(Check::Doubled, own.doubled));
        let stale = own.stale.into_iter();
        report.lossy(stale.map(|(at, what)| (Some(at), Check::OwnWrites.caught(what))));
        if hasty.as_ref().is_some_and(|hasty| hasty.cancelled() == 0) {
            report
                .faults
                .push(Check::Work.caught("nobody was cancelled"));
        }
        for (whose, identity) in [
            (sessions::KIND, Some(sessions)),
            (hasty::KIND, hasty),
            (passers::KIND, Some(passers)),
            (ears::KIND, ears),
        ] {
            let Some(identity) = identity else { continue };
            report.faults.extend(identity.faults());
            if identity.right() == 0 {
                let what = format!("no {whose} was answered");
                report.faults.push(Check::Work.caught(what));
            }
            report.answers += identity.right();
        }
        report.idle = (idle.clients, idle.cut);
        report.faults.extend(all(Check::Session, idle.wrong));
        if idle.cut > 0 && door.keeps_sessions() {
            let what = format!("{} of {} idle clients were cut", idle.cut, idle.clients);
            report.faults.push(Check::Idle.caught(what));
        }
        Ok(())
    }
}

/// What one check has caught.
fn all(check: Check, what: Vec<String>) -> Vec<Wrong> {
    what.into_iter().map(|what| check.caught(what)).collect()
}

async fn account(
    witness: &impl Witness,
    name: &'static str,
    ledger: &Ledger,
    table: &str,
) -> Result<Row, Error> {
    let rows = witness.sql(&format!("select id from {table}")).await?;
    let there = appenders::numbers(&rows);
    Ok(Row {
        name,
        account: ledger.balance(&there),
    })
}
