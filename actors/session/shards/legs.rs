//! The connections of a read of several shards: how they are taken, and what becomes of them.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgherd_session::{CopyFlow, Flow, Parameters};
use pgherd_wire::backend;

use super::enter;
use crate::clock;
use crate::judgement::Judgement;
use crate::pool::{Pool, ServerLease};
use crate::server::{Cancels, ServerConn};
use crate::session::check::Session;
use crate::session::checkout::{self, Denied, Instead};
use crate::session::relay::Relay;
use crate::session::{behind, met, sequence, setup};
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
    /// Its server has said something since it was asked last.
    pub(super) heard: bool,
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
            heard: false,
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
        if let Ok(status) = backend::ParameterStatus::parse(body)
            && let (Ok(name), Ok(value)) = (
                std::str::from_utf8(status.name),
                std::str::from_utf8(status.value),
            )
        {
            self.report(name, value);
        }
    }
}

/// A connection of each shard, or none at all. Who has some of them waits for the next only for a moment,
/// and begins anew: a shard that is away must not bind the connections of the others.
pub(super) async fn take_all(
    relay: &mut Relay,
    shards: &[u16],
    asked: Instant,
) -> Result<Vec<Leg>, Denied> {
    let mut legs: Vec<Leg> = Vec::with_capacity(shards.len());
    while legs.len() < shards.len() {
        let shard = shards[legs.len()];
        let taken = match legs.is_empty() {
            true => {
                all_led(relay, shards, asked).await?;
                Ok(take(relay, shard, asked).await)
            }
            false => tokio::time::timeout(MOMENT, take(relay, shard, asked)).await,
        };
        match taken {
            Ok(Ok(lease)) => legs.push(Leg::new(shard, lease)),
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

/// Waits until each of the shards has a primary.
async fn all_led(relay: &mut Relay, shards: &[u16], asked: Instant) -> Result<(), Denied> {
    for shard in shards {
        enter(relay, *shard);
        while relay.pool.core.held().is_some() {
            checkout::in_time(&relay.pool, asked)?;
            checkout::pause(relay, LOOK).await?;
        }
    }
    Ok(())
}

async fn take(relay: &mut Relay, shard: u16, asked: Instant) -> Result<ServerLease, Denied> {
    let wanted = Arc::clone(&relay.parameters);
    take_as(relay, shard, asked, &wanted).await
}

/// A connection of a shard that is set as wanted.
pub(super) async fn take_as(
    relay: &mut Relay,
    shard: u16,
    asked: Instant,
    wanted: &Arc<Parameters>,
) -> Result<ServerLease, Denied> {
    enter(relay, shard);
    let pool = Arc::clone(&relay.pool);
    loop {
        let idle = pool.core.try_lease(relay.worker, asked);
        let lease = match idle {
            Some(lease) => Some(lease),
            None => Box::pin(checkout::queue(relay, &pool, asked, Instead::Nothing)).await?,
        };
        let lease = match lease {
            Some(lease) => {
                let suited = met::suited(relay, &pool, lease, wanted, asked, Instead::Nothing);
                Box::pin(suited).await?
            }
            None => None,
        };
        let Some(lease) = lease else { continue };
        let checked = checkout::check(&pool, lease, clock::now());
        let Some(mut lease) = checkout::unless_ended(&relay.control, checked).await? else {
            checkout::in_time(&pool, asked)?;
            continue;
        };
        let applied = tokio::select! {
            biased;
            applied = setup::apply(&pool, &mut lease, wanted) => applied,
            denied = given_up(relay, &pool, asked) => return Err(denied),
        };
        match applied {
            Ok(()) => return Ok(lease),
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
    let (now, how) = (clock::now(), relay.pool.settings().pool.function_check);
    if behind::is_due(relay, &leg.lease, how, now) {
        relay.answer_first(&mut leg.lease).await;
        match relay.look_at(&mut leg.lease, how, now).await {
            Ok(Session::Clean) => {}
            // Whatever was left there goes with the connection.
            _ => return,
        }
    }
    if !leg.lease.doubted.is_empty() {
        return;
    }
    leg.lease.ran = pgherd_sql::Runs::Nothing;
    checkout::checkin(&relay.control, leg.lease, now);
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
