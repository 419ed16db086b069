//! A transaction over several shards: a block of the client's, or one statement that writes to several of them.
//!
//! It holds a connection of each shard that it has come to, in a block there, and runs the client's messages
//! itself: one after the other, each to its end. A shard is come to with its first statement; it gets the same
//! `BEGIN`, and all that was set and marked by savepoints since then. Whatever fails on one of them fails the
//! transaction as a whole, and a connection that breaks ends it. The end is in `end`, the statements
//! are in `statement`, the extended protocol is in `extended`, and what it has bound in `portals`.

mod carry;
mod copy;
mod cursors;
mod deals;
mod end;
mod explain;
mod extended;
mod foretold;
mod journal;
mod legs;
mod moves;
mod named;
mod portals;
mod reads;
mod rows;
mod script;
mod session;
mod statement;
mod way;

use std::collections::{BTreeMap, HashMap};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use pgherd_net::{poll_read_into, poll_write_from};
use pgherd_session::{Flow, Parameters, Unnamed};
use pgherd_wire::backend::{self, TransactionStatus};
use pgherd_wire::error::ErrorReport;
use pgherd_wire::frontend::{self, tag};
use pgherd_wire::{frame, sqlstate};

use super::gather::poll_to_client;
use super::legs::Leg;
use super::unread;
use crate::clock;
use crate::control::{Order, Standing};
use crate::pool::ServerLease;
use crate::session::Bye;
use crate::session::checkout::Denied;
use crate::session::limit::Expired;
use crate::session::reads as replicas;
use crate::session::relay::Relay;
use crate::session::requests::is_held;
use crate::session::thinking::Thinking;
use crate::shards::Group;
use crate::transactions::deadlocks::Waiter;
pub(super) use carry::combine;
pub(super) use explain::find as explained;
use extended::{Parsed, Unbound, Unchecked};
pub(crate) use journal::Journal;
use legs::Abilities;
use portals::Portal;
use session::uncommitted;
pub(super) use statement::needs;
pub(in crate::session) use statement::{
    describes_by_sql, prepares_by_sql, runs_elsewhere, runs_elsewhere_bound,
};

/// Room for reading from a client that says what comes next.
const READ: usize = 16 * 1024;

/// Who has begun the transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The client, which ends it, too.
    Block,
    /// Nobody: it ends with the statement, or with the pipeline.
    Implicit,
}

/// How a request comes to an end before its answer.
enum Fault {
    /// The client is told this, and the transaction has failed.
    Refused(Box<ErrorReport>),
    /// A server has said this, and the transaction has failed.
    Said(Box<[u8]>),
    /// The transaction is over, and the client is told this.
    Lost(Box<ErrorReport>),
    /// The session is over.
    Over(Bye),
    /// It is, as it was told to go, and the client can be told why.
    SentAway,
}

impl From<ErrorReport> for Fault {
    fn from(report: ErrorReport) -> Self {
        Self::Refused(Box::new(report))
    }
}

/// The transaction.
struct Dtx {
    group: Arc<Group>,
    kind: Kind,
    /// What opens a block on the next shard.
    opening: Box<[u8]>,
    legs: BTreeMap<u16, Leg>,
    abilities: HashMap<u16, Abilities>,
    /// As which it waits for others, once it has come to a server.
    waiter: Option<Arc<Waiter>>,
    /// The shard where runs what may run anywhere.
    home: Option<u16>,
    /// The shard that the block was on alone, as long as it is not known that it may come to others.
    unproven: Option<u16>,
    failed: bool,
    /// It has changed a definition, and nothing is planned behind that.
    altered: bool,
    /// What was set when it began.
    before: Arc<Parameters>,
    began: Instant,
    thinking: Thinking,
    portals: HashMap<Box<[u8]>, Portal>,
    /// How many portals were opened on shards.
    made: u64,
    /// On which shards cursors were declared; any other is on the first.
    cursors: HashMap<Box<[u8]>, u16>,
    /// There may be others there, which were declared before the block came to a second shard.
    had_cursors: bool,
    /// What no server has seen yet.
    unchecked: Vec<Unchecked>,
    /// What was prepared since a server has looked at all that was.
    fresh: Vec<Parsed>,
    /// What was bound last, whose BindComplete waits for what a server says of its parameters.
    unbound: Option<Unbound>,
    /// The client is owed a BindComplete before whatever comes next.
    owes: bool,
    /// What comes up to the next Sync is discarded.
    skipping: bool,
    /// Extended messages have come, and no Sync behind them.
    unsynced: bool,
    /// It runs a text of several statements, which Postgres takes for a block of its own.
    scripted: bool,
    /// All that it reads of one shard is of one moment.
    still: bool,
    /// It has come to the shard where the session would hear what it notifies itself.
    hears: bool,
    /// With what the session ends, once the client was told that its transaction is committed.
    last_word: Option<Bye>,
}

/// What comes next.
enum Next {
    Message(u8, usize),
    Unread(usize),
    Over(Fault),
}

/// Runs what is in front, and all up to the end of its transaction; answers how the session ends, if it does.
pub(in crate::session) async fn run(relay: &mut Relay, asked: Instant) -> Option<Bye> {
    let mut dtx = Dtx::new(relay, asked)?;
    let opened = relay.opened.as_ref();
    let mut pools = dtx.group.pools.iter();
    if opened.is_some_and(|opened| opened.is_read_only())
        && pools.any(|pool| !pool.readers.load().is_empty())
        && replicas::is_readable(relay)
    {
        // Each shard is then read from a replica, if it has one.
        relay.reading = true;
        relay.presumes = replicas::presumes(relay);
    }
    if let Some(opened) = relay.opened.take() {
        dtx.kind = Kind::Block;
        dtx.began = opened.at();
        dtx.opening = opened.text().into();
    }
    dtx.serve(relay).await
}

/// Goes on with a block whose first shard is leased, from the message in front on.
pub(in crate::session) async fn take_over(
    relay: &mut Relay,
    mut lease: ServerLease,
) -> Option<Bye> {
    let mut dtx = Dtx::new(relay, clock::now())?;
    dtx.kind = Kind::Block;
    if !relay.control.runs_nowhere() {
        // A cancel request is on its way there, for what is over.
        let about = Arc::clone(&lease.about);
        about.cancels.settled().await;
    }
    // Over shards nobody may ask for what a sequence gave last, so that nobody keeps a server for it.
    lease.used_sequence = false;
    lease.flow.hand_over(&mut relay.down);
    let sent = poll_fn(|cx| poll_write_from(&mut lease.stream, cx, &mut relay.up)).await;
    let shard = relay.spread.as_deref().map_or(0, |spread| spread.at);
    let mut leg = Leg::new(shard, lease);
    leg.reading = relay.reading;
    leg.sent = sent.is_ok();
    match dtx.adopt(relay, leg).await {
        Ok(()) => {}
        Err(fault) => {
            if let Some(bye) = dtx.refuse_front(relay, fault).await {
                return bye.0;
            }
        }
    }
    dtx.serve(relay).await
}

/// The transaction has been left; how the session ends, if it does.
struct Left(Option<Bye>);

impl Dtx {
    fn new(relay: &Relay, asked: Instant) -> Option<Self> {
        let spread = relay.spread.as_deref()?;
        Some(Self {
            group: Arc::clone(&spread.group),
            kind: Kind::Implicit,
            opening: b"BEGIN"[..].into(),
            legs: BTreeMap::new(),
            abilities: HashMap::new(),
            waiter: None,
            home: None,
            unproven: None,
            failed: false,
            altered: false,
            before: Arc::clone(&spread.before),
            began: asked,
            thinking: Thinking::default(),
            portals: HashMap::new(),
            made: 0,
            cursors: HashMap::new(),
            had_cursors: false,
            unchecked: Vec::new(),
            fresh: Vec::new(),
            unbound: None,
            owes: false,
            skipping: false,
            unsynced: false,
            scripted: false,
            still: false,
            hears: false,
            last_word: None,
        })
    }

    async fn serve(&mut self, relay: &mut Relay) -> Option<Bye> {
        loop {
            let left = match self.next(relay).await {
                Next::Message(tag, total) => {
                    let message: Box<[u8]> = relay.up.unjudged()[..total].into();
                    relay.up.hide(total);
                    relay.control.stand(Standing::Active);
                    self.take(relay, tag, &message[frame::HEADER_LEN..]).await
                }
                Next::Unread(total) => {
                    let is_query = relay.up.unjudged().first() == Some(&tag::QUERY);
                    relay.up.hide(total);
                    match self.skipping {
                        true => None,
                        false => self.told(relay, Err(unread().into()), is_query).await,
                    }
                }
                Next::Over(Fault::Lost(report)) => {
                    self.lost_idle(relay, report);
                    Some(Left(None))
                }
                Next::Over(Fault::Over(bye)) => return self.abandon(relay, bye),
                Next::Over(Fault::SentAway) => return self.abandon(relay, sent_away(relay)),
                Next::Over(Fault::Refused(_) | Fault::Said(_)) => None,
            };
            if let Some(Left(bye)) = left {
                let ordered = relay.control.ordered() != Order::Serve;
                if bye.is_none() && ordered && relay.opened.is_none() {
                    return Some(sent_away(relay));
                }
                return bye;
            }
            if self.is_done() {
                return None;
            }
        }
    }

    /// Whether there is nothing that a Sync or a statement would have to end.
    fn is_done(&self) -> bool {
        self.kind == Kind::Implicit && self.legs.is_empty() && !self.unsynced && !self.skipping
    }

    /// A server has hung up while the client has said nothing. Within a pipeline the client is told at once, as it has
    /// been told of statements that are taken back now; else the next statement is.
    fn lost_idle(&mut self, relay: &mut Relay, report: Box<ErrorReport>) {
        self.lose(relay);
        relay.lost_block = self.kind == Kind::Block;
        if !self.unsynced && !self.skipping {
            relay.untold = relay.lost_block.then_some(report);
            return;
        }
        if !self.skipping {
            relay.record(&report);
            report.encode_error(relay.down.made());
        }
        relay.refusing = true;
    }

    async fn take(&mut self, relay: &mut Relay, tag: u8, body: &[u8]) -> Option<Left> {
        // From here on a cancel request is one of this message, whatever it waits for.
        relay.control.begin_waiting();
        match tag {
            tag::TERMINATE => Some(Left(self.abandon(relay, Bye::Left))),
            // Behind an error, a simple query is discarded as everything else is.
            _ if self.skipping && tag != tag::SYNC => None,
            tag::QUERY => {
                if let Some(statements) = relay.statements.as_deref_mut() {
                    statements.unnamed = Unnamed::None;
                }
                let answer = match (self.forget(relay, b"").await, frontend::Query::parse(body)) {
                    (Err(fault), _) => Err(fault),
                    (_, Ok(query)) => self.query(relay, query.text).await,
                    (_, Err(error)) => Err(Fault::Over(violation(error.to_string()))),
                };
                self.told(relay, answer, true).await
            }
            tag::SYNC => self.sync(relay).await,
            tag::FLUSH => {
                let answer = self.settle(relay).await;
                self.told(relay, answer, false).await
            }
            tag::COPY_DATA | tag::COPY_DONE | tag::COPY_FAIL => None,
            tag::FUNCTION_CALL => {
                let report = super::no_function_call();
                self.told(relay, Err(report.into()), true).await
            }
            tag::PARSE | tag::BIND | tag::DESCRIBE | tag::EXECUTE | tag::CLOSE => {
                self.unsynced = true;
                let answer = self.extended(relay, tag, body).await;
                self.told(relay, answer, false).await
            }
            other => {
                let text = format!("invalid frontend message type {other}");
                Some(Left(self.abandon(relay, violation(text))))
            }
        }
    }

    /// Ends a pipeline, and with it what that has done without a block.
    async fn sync(&mut self, relay: &mut Relay) -> Option<Left> {
        self.skipping = false;
        self.unsynced = false;
        let mut answer = self.check(relay).await;
        if self.kind == Kind::Implicit && answer.is_ok() {
            // It is told of an error already, if there was one before.
            let is_told = self.failed;
            answer = match self.finish(relay, true).await {
                Ok(false) if !is_told => Err(uncommitted().into()),
                ended => ended.map(drop),
            };
        }
        // Only that it may go on says that all of it is committed.
        let last_word = self.last_word.take();
        let left = self.told(relay, answer, true).await;
        match (left, last_word) {
            (None, Some(bye)) => Some(Left(self.abandon(relay, bye))),
            (left, _) => left,
        }
    }

    /// Tells the client how a request has ended; `ready` is whether it is told that it may go on.
    async fn told(
        &mut self,
        relay: &mut Relay,
        answer: Result<(), Fault>,
        ready: bool,
    ) -> Option<Left> {
        let mut left = None;
        match answer {
            Ok(()) => {}
            Err(Fault::Over(bye)) => return Some(Left(self.abandon(relay, bye))),
            Err(Fault::SentAway) => return Some(Left(self.abandon(relay, sent_away(relay)))),
            Err(Fault::Lost(report)) => {
                self.lose(relay);
                relay.record(&report);
                report.encode_error(relay.down.made());
                relay.lost_block = self.kind == Kind::Block;
                relay.refusing = !ready;
                left = Some(Left(None));
            }
            Err(Fault::Refused(report)) => {
                relay.record(&report);
                report.encode_error(relay.down.made());
                self.fail(relay, ready).await;
            }
            Err(Fault::Said(message)) => {
                relay.down.insert(&message);
                self.fail(relay, ready).await;
            }
        }
        self.heed(relay);
        if let Some(bye) = self.last_word.take() {
            return Some(Left(self.abandon(relay, bye)));
        }
        if ready {
            self.unsynced = false;
            let status = match (relay.lost_block, self.kind) {
                (true, _) => TransactionStatus::Failed,
                (false, Kind::Block) if self.failed => TransactionStatus::Failed,
                (false, Kind::Block) => TransactionStatus::InTransaction,
                (false, Kind::Implicit) => TransactionStatus::Idle,
            };
            backend::ready_for_query(relay.down.made(), status);
        }
        left
    }

    /// A statement has failed, and with it all that is not marked by a savepoint.
    async fn fail(&mut self, relay: &mut Relay, ready: bool) {
        if let Some(block) = &mut relay.block {
            block.fail();
        }
        self.failed = true;
        self.skipping = !ready;
        if self.kind == Kind::Implicit {
            self.roll_back(relay).await;
            self.failed = !ready;
        }
    }

    /// Answers the request in front with a fault that came before it was looked at.
    async fn refuse_front(&mut self, relay: &mut Relay, fault: Fault) -> Option<Left> {
        let Ok(Some(header)) = frame::header(relay.up.unjudged()) else {
            return Some(Left(self.abandon(relay, Bye::Gone)));
        };
        let is_query = header.tag == tag::QUERY;
        self.unsynced = !is_query;
        relay.up.hide(header.total());
        self.told(relay, Err(fault), is_query).await
    }

    /// Gives the client what waits for it, and waits for its next message, for a limit to run out, for a server to hang
    /// up, or for an order to go at once.
    async fn next(&mut self, relay: &mut Relay) -> Next {
        let settings = relay.pool.settings().timeouts.clone();
        let now = clock::now();
        let idle = settings
            .idle_in_transaction
            .map(|limit| (now + limit, Expired::IdleInTransaction));
        let whole = settings
            .transaction
            .map(|limit| (self.began + limit, Expired::Transaction));
        let limit = idle.into_iter().chain(whole).min_by_key(|(at, _)| *at);
        let mut timer =
            limit.map(|(at, what)| (Box::pin(tokio::time::sleep_until(at.into())), what));
        relay.control.stand(Standing::Active);
        self.thinking.note(true);
        let mut next = pin!(poll_fn(|cx| {
            let control = &relay.control;
            if control.poll_ordered(cx).is_ready() && control.ordered() == Order::Terminate {
                return Poll::Ready(Next::Over(Fault::SentAway));
            }
            // A client that does not read is one that says nothing: it holds the servers up no longer.
            match poll_to_client(relay, &mut Flow::default(), cx) {
                Poll::Ready(Ok(())) => {
                    if let Poll::Ready(next) = poll_message(relay, cx) {
                        return Poll::Ready(next);
                    }
                }
                Poll::Ready(Err(_)) => return Poll::Ready(Next::Over(Fault::Over(Bye::Gone))),
                Poll::Pending => {}
            }
            for leg in self.legs.values_mut() {
                if leg.lease.stream.poll_readable(cx).is_ready()
                    && let Err(report) = leg.overheard(cx)
                {
                    return Poll::Ready(Next::Over(Fault::Lost(report)));
                }
            }
            let Some((timer, what)) = &mut timer else {
                return Poll::Pending;
            };
            timer.as_mut().poll(cx).map(|()| {
                let bye = Bye::Sent(Box::new(what.report()));
                Next::Over(Fault::Over(bye))
            })
        }));
        let next = next.as_mut().await;
        self.thinking.note(false);
        next
    }
}

fn poll_message(relay: &mut Relay, cx: &mut Context<'_>) -> Poll<Next> {
    loop {
        if relay.up.resume() {
            match frame::header(relay.up.unjudged()) {
                // It is of a COPY that has failed.
                Ok(Some(header))
                    if header.tag == tag::COPY_DATA && !is_held(relay, header.total()) =>
                {
                    relay.up.hide(header.total());
                    continue;
                }
                Ok(Some(header)) if !is_held(relay, header.total()) => {
                    return Poll::Ready(match header.tag {
                        tag::QUERY | tag::PARSE | tag::BIND => Next::Unread(header.total()),
                        other => {
                            let text = format!("invalid message of type {other}");
                            Next::Over(Fault::Over(violation(text)))
                        }
                    });
                }
                Ok(Some(header)) if relay.up.unjudged().len() >= header.total() => {
                    return Poll::Ready(Next::Message(header.tag, header.total()));
                }
                Ok(_) => {}
                Err(error) => {
                    return Poll::Ready(Next::Over(Fault::Over(violation(error.to_string()))));
                }
            }
        }
        match poll_read_into(&mut relay.client, cx, &mut relay.up.buffer, READ) {
            Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Next::Over(gone(relay))),
            Poll::Ready(Ok(count)) => relay.pool.stats.received_from_client(count),
            Poll::Pending => return Poll::Pending,
        }
    }
}

/// How a session ends that was told to go.
fn sent_away(relay: &Relay) -> Bye {
    relay.control.farewell().map_or(Bye::Left, Bye::Sent)
}

/// The client is heard no more: it has left, unless it is to go at once and only not listened to.
fn gone(relay: &Relay) -> Fault {
    match relay.control.ordered() {
        Order::Terminate => Fault::SentAway,
        Order::Serve | Order::Drain => Fault::Over(Bye::Gone),
    }
}

fn violation(text: String) -> Bye {
    Bye::Sent(Box::new(ErrorReport::fatal(
        sqlstate::PROTOCOL_VIOLATION,
        text,
    )))
}

/// What keeps a session from a server is told as any other error.
impl From<Denied> for Fault {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Gone => Self::Over(Bye::Gone),
            Denied::Ordered => Self::SentAway,
            Denied::Refused(report) => Self::Refused(report),
            Denied::Fatal(report) => Self::Over(Bye::Sent(report)),
            Denied::Lost(report) => Self::Over(Bye::Sent(Box::new(report.into_fatal()))),
        }
    }
}
