//! The connections of a read of several shards: how they are taken, and what becomes of them.
//!
//! Each is one of a replica if a read of that shard alone would be, but for what has to write.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgherd_session::{Again, CopyFlow, Flow, Parameters, Role};
use pgherd_wire::backend;

use super::enter;
use super::gather::End;
use crate::clock;
use crate::judgement::Judgement;
use crate::pool::{Pool, ServerLease};
use crate::server::{Cancels, ServerConn};
use crate::session::check::Session;
use crate::session::checkout::{self, Denied, Instead};
use crate::session::relay::Relay;
use crate::session::{behind, met, reads, sequence, setup};
use crate::upstream;

/// How long a server may take to end what was cancelled.
const GRACE: Duration = Duration::from_secs(10);
/// How long somebody who has connections of some shards waits for the next.
const MOMENT: Duration = Duration::from_secs(1);
/// How long a server has to obey a cancel request before it gets another.
const AGAIN: Duration = Duration::from_secs(1);
/// How long what comes unasked may take to end by itself.
const SOON: Duration = Duration::from_millis(100);
/// How often it is looked whether a shard has a primary again.
const LOOK: Duration = Duration::from_millis(50);

/// One shard's part.
pub(super) struct Leg {
    pub(super) shard: u16,
    pub(super) lease: ServerLease,
    /// Its server is one that is only read from.
    pub(super) reading: bool,
    /// What is still to be sent there.
    pub(super) out: Flow,
    /// All of it has left; under TLS, some may be on its way although nothing waits in `out`.
    pub(super) sent: bool,
    /// Its description of the columns, once it has come.
    pub(super) columns: Option<Box<[u8]>>,
    /// Its description of a statement's parameters, if it was asked for.
    pub(super) parameters: Option<Box<[u8]>>,
    /// It has parsed what it was sent.
    pub(super) parsed: bool,
    /// The client is owed the BindComplete of what it was sent.
    pub(super) acks: bool,
    /// What it was sent was refused before anything of it ran: when it was parsed or bound.
    pub(super) refused: bool,
    /// What its command has completed with, once it has.
    pub(super) done: Option<Box<[u8]>>,
    /// Its notices are the client's: what all of them remark on is said once.
    pub(super) remarks: bool,
    /// What its flow lets go on is for the client.
    pub(super) passes: bool,
    /// It has broken.
    pub(super) lost: bool,
    /// A transaction block of ours may be open there.
    pub(super) block: bool,
    /// What its server has reported of its parameters in a transaction, as far as nobody has taken that over.
    pub(super) reported: BTreeMap<String, String>,
}

/// A server that reports more parameters than this is none.
const REPORTED_MAX: usize = 256;

impl Leg {
    /// One on which nothing was run yet.
    pub(super) fn new(shard: u16, lease: ServerLease) -> Self {
        Self {
            shard,
            lease,
            reading: false,
            out: Flow::default(),
            sent: true,
            columns: None,
            parameters: None,
            parsed: false,
            acks: false,
            refused: false,
            done: None,
            remarks: false,
            passes: false,
            lost: false,
            block: false,
            reported: BTreeMap::new(),
        }
    }

    /// Takes note of a text of the client's that is sent to its server.
    pub(super) fn note(&mut self, relay: &Relay, judgement: &Judgement, text: &[u8]) {
        let server: &mut ServerConn = &mut self.lease;
        server.touched = true;
        sequence::leave(relay, server, judgement);
        behind::sent(server, judgement, text, relay.lexing);
    }

    /// Takes note of what its server reports of a parameter.
    pub(super) fn report(&mut self, name: &str, value: &str) {
        if self.reported.len() < REPORTED_MAX || self.reported.contains_key(name) {
            self.reported.insert(name.to_owned(), value.to_owned());
        }
    }

    /// Takes note of a ParameterStatus, by its body.
    pub(super) fn report_of(&mut self, body: &[u8]) {
        let Ok(status) = backend::ParameterStatus::parse(body) else {
            return;
        };
        if let Some(role) = Role::told(status.name, status.value) {
            self.lease.role = role;
        }
        let name = std::str::from_utf8(status.name);
        if let (Ok(name), Ok(value)) = (name, std::str::from_utf8(status.value)) {
            self.report(name, value);
        }
    }
}

/// Which shards may be read on their replicas.
#[derive(Debug, Clone, Default)]
pub(super) struct Readable {
    shards: Vec<u16>,
    /// But only where there is no primary: a replica has failed before.
    unled: bool,
}

impl Readable {
    /// Those of which the client's request in front may be read so. That on which something has to be written, if only
    /// a temporary table, is among the `homes`, and is none.
    pub(super) fn of(relay: &mut Relay, shards: &[u16], homes: &[u16]) -> Self {
        let mut readable = Self::default();
        for shard in shards.iter().filter(|shard| !homes.contains(shard)) {
            enter(relay, *shard);
            if !relay.pool.readers.load().is_empty() && reads::is_readable(relay) {
                readable.shards.push(*shard);
            }
        }
        readable
    }

    /// All of these.
    pub(super) fn all(shards: &[u16]) -> Self {
        Self {
            shards: shards.to_vec(),
            unled: false,
        }
    }

    /// The same once a read has ended so, which may be for a replica: what there is no room for here has a table on the
    /// primary.
    pub(super) fn behind(&self, end: &End) -> Self {
        match end {
            End::Stopped(_) => Self::default(),
            _ => Self {
                unled: true,
                ..self.clone()
            },
        }
    }

    /// The pool for reading that the shard is to be read from now, if that is not its own. The session is there.
    fn place(&self, relay: &Relay, shard: u16) -> Option<Arc<Pool>> {
        let may = self.shards.contains(&shard) && (!self.unled || relay.pool.core.held().is_some());
        may.then(|| reads::place(relay)).flatten()
    }

    fn instead(&self, shard: u16) -> Instead {
        match self.shards.contains(&shard) {
            true => Instead::Judged,
            false => Instead::Nothing,
        }
    }
}

/// A connection of each shard, or none at all. Who has some of them waits for the next only for a moment,
/// and begins anew: a shard that is away must not bind the connections of the others.
pub(super) async fn take_all(
    relay: &mut Relay,
    shards: &[u16],
    readable: &Readable,
    asked: Instant,
) -> Result<Vec<Leg>, Denied> {
    let wanted = Arc::clone(&relay.parameters);
    let mut legs: Vec<Leg> = Vec::with_capacity(shards.len());
    while legs.len() < shards.len() {
        let shard = shards[legs.len()];
        let taken = match legs.is_empty() {
            true => {
                all_led(relay, shards, readable, asked).await?;
                Ok(take(relay, shard, readable, asked, &wanted).await)
            }
            false => {
                let taken = take(relay, shard, readable, asked, &wanted);
                tokio::time::timeout(MOMENT, taken).await
            }
        };
        match taken {
            Ok(Ok(leg)) => legs.push(leg),
            refused => {
                check_in(relay, std::mem::take(&mut legs));
                if let Ok(Err(denied)) = refused {
                    return Err(denied);
                }
                checkout::in_time(&relay.pool, asked)?;
            }
        }
    }
    Ok(legs)
}

/// Gives connections back on which nothing was run.
pub(super) fn check_in(relay: &Relay, legs: Vec<Leg>) {
    for leg in legs {
        checkout::checkin(&relay.control, leg.lease, clock::now());
    }
}

/// Waits until each of the shards has a primary, or is read from a replica.
pub(super) async fn all_led(
    relay: &mut Relay,
    shards: &[u16],
    readable: &Readable,
    asked: Instant,
) -> Result<(), Denied> {
    for shard in shards {
        enter(relay, *shard);
        while relay.pool.core.held().is_some() && readable.place(relay, *shard).is_none() {
            checkout::in_time(&relay.pool, asked)?;
            checkout::pause(relay, LOOK).await?;
        }
    }
    Ok(())
}

/// A connection of a shard that is set as wanted: to its primary, or to where it is to be read.
pub(super) async fn take(
    relay: &mut Relay,
    shard: u16,
    readable: &Readable,
    asked: Instant,
    wanted: &Arc<Parameters>,
) -> Result<Leg, Denied> {
    enter(relay, shard);
    let mut reader = readable.place(relay, shard);
    let mut moved = false;
    loop {
        let pool = Arc::clone(reader.as_ref().unwrap_or(&relay.pool));
        let instead = readable.instead(shard);
        if let Some(lease) = lease(relay, &pool, asked, wanted, instead).await? {
            let mut leg = Leg::new(shard, lease);
            leg.reading = reader.is_some();
            return Ok(leg);
        }
        // Once on another replica, and then on the primary, which is the last, but if there is none.
        let led = reader.is_none();
        let other = (led || !moved).then(|| readable.place(relay, shard));
        moved = !led;
        reader = other.flatten().filter(|other| !Arc::ptr_eq(other, &pool));
    }
}

/// A connection of a pool that is set as wanted; none if a pool for reading has nothing to give, or there is something
/// to be had instead.
async fn lease(
    relay: &mut Relay,
    pool: &Arc<Pool>,
    asked: Instant,
    wanted: &Arc<Parameters>,
    instead: Instead,
) -> Result<Option<ServerLease>, Denied> {
    let mut broke = false;
    loop {
        let idle = pool.core.try_lease(relay.worker, asked);
        let lease = match idle {
            Some(lease) => Some(lease),
            None => Box::pin(checkout::queue(relay, pool, asked, instead)).await?,
        };
        let Some(lease) = lease else {
            return Ok(None);
        };
        let suited = Box::pin(met::suited(relay, pool, lease, wanted, asked, instead)).await?;
        let Some(lease) = suited else {
            return Ok(None);
        };
        let checked = checkout::check(pool, lease, clock::now());
        let Some(mut lease) = checkout::unless_ended(&relay.control, checked).await? else {
            checkout::in_time(pool, asked)?;
            continue;
        };
        let applied = tokio::select! {
            biased;
            applied = setup::apply(pool, &mut lease, wanted) => applied,
            denied = given_up(relay, pool, asked) => return Err(denied),
        };
        match applied {
            Ok(()) => return Ok(Some(lease)),
            // The connection broke, and nothing of the client's was sent there: another will do.
            Err(_) if !lease.exchange.is_over() && !std::mem::replace(&mut broke, true) => {
                let cluster = relay.pool.cluster.load();
                cluster.suspect(&lease.about.upstream.name, clock::now());
                relay.pool.retries.count(Again::Unsent);
            }
            Err(report) => {
                if lease.exchange.is_over() && lease.doubted.is_empty() {
                    lease.mark_clean();
                }
                return Err(Denied::Refused(Box::new(report)));
            }
        }
    }
}

/// Waits until the client leaves, is sent away, calls its query off or has waited for too long.
async fn given_up(relay: &mut Relay, pool: &Pool, asked: Instant) -> Denied {
    loop {
        if let Err(denied) = checkout::in_time(pool, asked) {
            return denied;
        }
        if let Err(denied) = checkout::pause(relay, LOOK).await {
            return denied;
        }
    }
}

/// Gives a connection back whose answer is over, if nothing is left behind there.
pub(super) async fn give_back(relay: &mut Relay, mut leg: Leg) {
    if !leg.lease.exchange.is_over() || leg.lease.flow.backlog() > 0 {
        return;
    }
    enter(relay, leg.shard);
    // A replica may not know yet what its catalogue has been changed to, and is not asked.
    let reading = std::mem::replace(&mut relay.reading, leg.reading);
    let is_clean = is_clean(relay, &mut leg).await;
    relay.reading = reading;
    // Whatever was left there goes with the connection.
    if !is_clean || !leg.lease.doubted.is_empty() {
        return;
    }
    leg.lease.ran = pgherd_sql::Runs::Nothing;
    checkout::checkin(&relay.control, leg.lease, clock::now());
}

/// Whether nothing is left behind on a connection, which is looked at if need be.
async fn is_clean(relay: &mut Relay, leg: &mut Leg) -> bool {
    let (now, how) = (clock::now(), relay.pool.settings().pool.function_check);
    if !behind::is_due(relay, &leg.lease, how, now) {
        return true;
    }
    relay.answer_first(&mut leg.lease).await;
    let looked = relay.look_at(&mut leg.lease, how, now).await;
    matches!(looked, Ok(Session::Clean))
}

/// Ends what is under way on a connection, and gives it back once it is idle.
pub(super) fn retire(relay: &mut Relay, leg: Leg, cancels: bool) {
    end(relay, leg, cancels.then_some(Duration::ZERO));
}

/// Gives a connection back that is about to be idle: what comes there is not wanted any more.
pub(super) fn drain(relay: &mut Relay, leg: Leg) {
    end(relay, leg, Some(SOON));
}

/// Gives a connection back once it is idle. What is under way there is cancelled after so long.
fn end(relay: &mut Relay, leg: Leg, cancels: Option<Duration>) {
    let Leg {
        mut lease,
        sent,
        shard,
        block,
        ..
    } = leg;
    enter(relay, shard);
    let how = relay.pool.settings().pool.function_check;
    // What a COPY was to be fed with does not come any more.
    if !sent || lease.flow.is_mid_message() || lease.exchange.copy() == CopyFlow::In {
        return;
    }
    // Code that no text shows may have left something there, and nobody waits to look.
    let suspect = behind::is_suspect(&lease, how);
    tokio::spawn(async move {
        let about = Arc::clone(&lease.about);
        let idle = async {
            lease.flow.hand_over(&mut Flow::default());
            let last: &[u8] = if block { b"ROLLBACK" } else { b"" };
            let answer = {
                let mut answer = pin!(setup::run(&mut lease, last));
                let after = async {
                    match cancels {
                        Some(after) => tokio::time::sleep(after).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    biased;
                    answer = &mut answer => answer,
                    () = after => loop {
                        upstream::cancel(Cancels::begin(&about)).await;
                        // A request that comes between two messages of one statement is lost on Postgres.
                        if let Ok(answer) = tokio::time::timeout(AGAIN, &mut answer).await {
                            break answer;
                        }
                    },
                }
            };
            answer.is_ok() && lease.exchange.is_over() && about.cancels.settled().await
        };
        if tokio::time::timeout(GRACE, idle).await == Ok(true) && !suspect {
            lease.heard = clock::now();
            lease.mark_clean();
        }
    });
}
