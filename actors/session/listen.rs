//! LISTEN and UNLISTEN of a session that keeps no server: its pool's [herald](crate::herald) listens for
//! it.
//!
//! In the place of the client's statement a mark goes to the server (a NOTIFY that only the herald
//! hears) in the client's own transaction, and its answer is worded as the statement's. So the server
//! decides whether and when the statement takes effect. The mark is not sent before the herald listens,
//! and the end of a listening client's transaction is told only when all that was committed before it
//! has come: so its own notifications come before its ReadyForQuery, as from Postgres.

mod plan;
mod send;

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use pgherd_net::poll_write_from;
use pgherd_session::{ClientStatements, Edit, Owed, Unnamed, Verdict};
use pgherd_sql::{Listened, Pin as Reason, PinSet, listened};
use pgherd_wire::backend::{self, tag};
use pgherd_wire::error::ErrorReport;
use pgherd_wire::frontend::{self, BindHead};
use pgherd_wire::{frame, sqlstate};
use tokio::time::Sleep;

use crate::control::Order;
use crate::herald::audience::{Announced, Readiness};
use crate::judgement::{Judgement, Listens};
use crate::pool::{Pool, ServerLease};
use crate::server::ServerAbout;
use crate::session::listen::plan::Plan;
use crate::session::relay::Relay;
use crate::session::turn::{Loss, Turn};
use crate::session::{Bye, attempt, checkout, mark, reasons, replies, requests, shards};

/// The statement that marks are prepared as; no client's statement has this name on a server.
pub(super) const MARK: &[u8] = b"pgherd_mark";

/// What is to be done with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// What is done with any other.
    Usual,
    /// Nothing more.
    Taken,
    /// Nothing yet: something must happen first.
    Later,
}

/// How far a session is with what it listens to, during a turn.
#[derive(Debug, Default)]
pub(super) struct Progress {
    stall: Option<Box<Stall>>,
    /// The same while that message is looked at.
    looked_at: Option<Box<Stall>>,
    fence: Fence,
    /// Portals of LISTEN and UNLISTEN, and what their execution is answered with.
    portals: Vec<(Box<[u8]>, &'static [u8])>,
    /// Statements answered since the session was idle.
    done: usize,
    /// Something was rolled back since.
    excused: bool,
}

/// What the client's message in front waits for: the herald. Each look at the message takes it up again or drops it, so
/// that it is never another's.
#[derive(Debug)]
struct Stall {
    announced: Announced,
    timer: Pin<Box<Sleep>>,
    /// What has come of it: nothing is waited for any more, and the message is to be looked at again.
    outcome: Option<Result<Arc<ServerAbout>, Box<ErrorReport>>>,
}

/// Whether the ReadyForQuery in front may be passed on.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Fence {
    #[default]
    None,
    Waiting(u64),
    Passed,
}

impl Progress {
    /// Whether there is anything to wait for.
    pub(super) fn waits(&self) -> bool {
        self.is_stalled() || self.waits_for_fence()
    }

    /// Whether nothing may be read from the server.
    pub(super) fn waits_for_fence(&self) -> bool {
        matches!(self.fence, Fence::Waiting(_))
    }

    /// Whether the client's message in front waits.
    pub(super) fn is_stalled(&self) -> bool {
        let stall = self.stall.as_deref();
        stall.is_some_and(|stall| stall.outcome.is_none())
    }

    /// The client's message in front is about to be looked at.
    #[inline]
    pub(super) fn looks(&mut self) {
        self.looked_at = self.stall.take();
    }

    /// It was. Where it was to wait and went another way after all, what was announced for it is off.
    #[inline]
    pub(super) fn has_looked(&mut self) {
        self.looked_at = None;
    }

    /// A message of the server was judged.
    pub(super) fn completed(&mut self, message: u8, verdict: &Verdict) {
        if message == tag::COMMAND_COMPLETE && matches!(verdict, Verdict::Replace(_)) {
            self.done += 1;
        }
    }

    /// Something was rolled back, and perhaps a LISTEN with it.
    pub(super) fn excuse(&mut self) {
        self.excused = true;
    }
}

/// Looks whether what is waited for has happened; true when something has moved.
pub(super) fn poll_turn(turn: &mut Turn<'_>, cx: &mut Context<'_>) -> Result<bool, Loss> {
    let mut moved = false;
    if let Fence::Waiting(ticket) = turn.listen.fence {
        let listening = turn.relay.listening.as_deref();
        if listening.is_none_or(|listening| listening.poll_fenced(ticket, cx).is_ready()) {
            turn.listen.fence = Fence::Passed;
            turn.judge()?;
            moved = true;
        }
    }
    if poll_stall(turn, cx) {
        // What came to an idle client before it stops listening is still its own.
        if turn.server.exchange.is_over() && !turn.beginning {
            tell(turn)?;
        }
        requests::take(turn)?;
        moved = true;
    }
    Ok(moved)
}

/// The server is lost, and nothing is waited for any more: what is here of its answers goes to the client.
pub(super) fn give_up(turn: &mut Turn<'_>) -> Result<(), Loss> {
    if turn.listen.waits_for_fence() {
        turn.listen.fence = Fence::Passed;
        replies::judge(turn)?;
    }
    Ok(())
}

/// Whether the client's message in front need not wait any longer.
fn poll_stall(turn: &mut Turn<'_>, cx: &mut Context<'_>) -> bool {
    let stall = turn.listen.stall.as_deref_mut();
    let Some(stall) = stall.filter(|stall| stall.outcome.is_none()) else {
        return false;
    };
    stall.outcome = match stall.announced.poll_ready(cx) {
        Readiness::Ready(about) => Some(Ok(about)),
        Readiness::Refused(report) => Some(Err(report)),
        Readiness::Waiting => match stall.timer.as_mut().poll(cx) {
            Poll::Ready(()) => Some(Err(Box::new(plan::timed_out(turn.relay)))),
            Poll::Pending => None,
        },
    };
    stall.outcome.is_some()
}

/// What is to be done with a simple query that listens.
pub(super) enum Taken {
    /// It is passed on as any other.
    No,
    /// It is answered, or on its way.
    Wholly,
    /// Nothing yet: something must happen first.
    Later,
    /// It is passed on with marks in the place of some of its statements.
    Marked(Marked),
}

/// A text with marks in it.
pub(super) struct Marked {
    /// The text.
    pub(super) text: Vec<u8>,
    /// Where it differs from the client's.
    pub(super) edits: Vec<Edit>,
    /// For each statement, what the client is answered with if it is a mark.
    pub(super) answers: Vec<Option<&'static [u8]>>,
}

/// Takes a simple query that listens.
pub(super) fn query(turn: &mut Turn<'_>, total: usize, judgement: &mut Judgement) -> Taken {
    let body = &turn.relay.up.unjudged()[frame::HEADER_LEN..total];
    let text = body.strip_suffix(b"\0").unwrap_or(body).to_vec();
    let several = several(turn.relay, &text, judgement);
    let alone = judgement.plain && turn.server.exchange.is_unasked() && !turn.beginning;
    let plan = match &several {
        Some((_, found)) => plan::several(turn, found, judgement),
        None => plan::plan(turn, &text, judgement, alone),
    };
    match plan {
        Plan::Usual => Taken::No,
        Plan::Pin if turn.relay.spread.is_some() => {
            requests::refuse_query(turn, total, &plan::unfollowed());
            Taken::Wholly
        }
        Plan::Pin => {
            judgement.pins.insert(Reason::Listen);
            Taken::No
        }
        Plan::Later => Taken::Later,
        Plan::Refuse(report) => {
            requests::refuse_query(turn, total, &report);
            Taken::Wholly
        }
        Plan::Send(asked) => match several {
            Some((statements, found)) => {
                // It is known what it does to what the session listens to, and the server does none of it.
                judgement.pins.remove(Reason::Listen);
                judgement.unpins.remove(Reason::Listen);
                Taken::Marked(send::marked(turn, &text, statements, &found, &asked))
            }
            None => {
                for asked in asked {
                    send::query(turn, total, asked, judgement.listens);
                }
                Taken::Wholly
            }
        },
    }
}

/// How many statements a text has that listens among other things, and which of them do, if all of that can be
/// told.
fn several(relay: &Relay, text: &[u8], judgement: &Judgement) -> Option<(usize, Vec<Listened>)> {
    // Names are put into a text by itself.
    let mixed = judgement.listens == Listens::Opaque && !judgement.names && !judgement.inspects;
    // What it asks would be answered as if it did not listen.
    if !mixed || names_question(text) {
        return None;
    }
    listened(text, relay.lexing).filter(|(_, found)| !found.is_empty())
}

/// Whether a text asks what its session listens to, where only the herald could tell: the server at hand
/// would say that it is nothing.
pub(super) fn asks(relay: &Relay, tail: &[u8]) -> bool {
    relay.listening.is_some() && names_question(tail)
}

fn names_question(text: &[u8]) -> bool {
    const QUESTION: &[u8] = b"pg_listening_channels";
    let asked = |part: &[u8]| part.eq_ignore_ascii_case(QUESTION);
    text.windows(QUESTION.len()).any(asked)
}

/// What a client is told that asks so.
pub(super) fn unanswered() -> ErrorReport {
    ErrorReport::error(
        sqlstate::FEATURE_NOT_SUPPORTED,
        "pg_listening_channels() is not supported while the pool listens for the session",
    )
    .hint("In session mode, the server itself listens and tells.")
}

/// Refuses a simple query that asks so.
pub(super) fn refuse_question(turn: &mut Turn<'_>, total: usize) {
    requests::refuse_query(turn, total, &unanswered());
}

/// Takes a Bind of a statement that listens.
#[inline]
pub(super) fn bind(turn: &mut Turn<'_>, total: usize) -> Result<Way, Loss> {
    // It is not told of a session that has its server for itself.
    let statements = turn.relay.statements.as_deref();
    let listens = statements.is_some_and(ClientStatements::listens);
    // What is bound now may take the place of a portal that listened.
    if listens || !turn.listen.portals.is_empty() {
        bind_any(turn, total)
    } else {
        Ok(Way::Usual)
    }
}

#[cold]
fn bind_any(turn: &mut Turn<'_>, total: usize) -> Result<Way, Loss> {
    let here = turn.relay.up.unjudged();
    let body = &here[frame::HEADER_LEN..total.min(here.len())];
    let head = BindHead::parse(body).map_err(|error| requests::violation(error.to_string()))?;
    let Some(head) = head else {
        return Ok(Way::Usual);
    };
    // From here on the portal is another.
    let portals = &mut turn.listen.portals;
    portals.retain(|(portal, _)| **portal != *head.portal);
    let Some(statements) = turn.relay.statements.as_deref() else {
        return Ok(Way::Usual);
    };
    let (judgement, tail) = match (statements.get(head.statement), &statements.unnamed) {
        (Some(held), _) => (held.statement.judgement, &held.statement.tail),
        (
            None,
            Unnamed::Parsed {
                judgement, tail, ..
            },
        ) if head.statement.is_empty() => (*judgement, tail),
        _ => return Ok(Way::Usual),
    };
    // On another shard it is looked at as any other that does not belong there.
    if judgement.listens == Listens::Nothing || !shards::hears(turn.relay) {
        return Ok(Way::Usual);
    }
    let text = text(tail).to_vec();
    let lexing = turn.relay.lexing;
    if let Some(spread) = turn.relay.spread.as_deref_mut() {
        shards::note_notice(spread, &text, &judgement, lexing);
    }
    mark::unread(turn);
    attempt::note(turn, &judgement);
    bind_listening(turn, total, judgement, &text)
}

/// The text of a Parse whose name is cut off.
fn text(tail: &[u8]) -> &[u8] {
    tail.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// A Bind of a LISTEN has no parameters; a larger one is left to the server to refuse.
const BIND_MAX: usize = 32 * 1024;

fn bind_listening(
    turn: &mut Turn<'_>,
    total: usize,
    judgement: Judgement,
    text: &[u8],
) -> Result<Way, Loss> {
    let spread = turn.relay.spread.is_some();
    if total > BIND_MAX && !spread {
        pin(turn);
        return Ok(Way::Usual);
    }
    if turn.relay.up.unjudged().len() < total {
        return Ok(Way::Later);
    }
    Ok(match plan::plan(turn, text, &judgement, false) {
        Plan::Usual => Way::Usual,
        Plan::Pin if !spread => {
            pin(turn);
            Way::Usual
        }
        Plan::Pin => {
            requests::refuse(turn, plan::unfollowed());
            turn.relay.up.hide(total);
            Way::Taken
        }
        Plan::Later => Way::Later,
        Plan::Refuse(report) => {
            requests::refuse(turn, *report);
            turn.relay.up.hide(total);
            Way::Taken
        }
        Plan::Send(asked) => {
            for asked in asked {
                send::bind(turn, total, asked, judgement.listens)?;
            }
            Way::Taken
        }
    })
}

/// The server itself listens, whatever is still to be answered of an UNLISTEN.
fn pin(turn: &mut Turn<'_>) {
    replies::doubt(turn);
    reasons::bind(turn, PinSet::of(&[Reason::Listen]));
}

/// Takes an Execute of a portal that listens.
#[inline]
pub(super) fn execute(turn: &mut Turn<'_>, total: usize, whole: bool) -> Result<Way, Loss> {
    if turn.listen.portals.is_empty() || total > BIND_MAX {
        return Ok(Way::Usual);
    }
    if !whole {
        return Ok(Way::Later);
    }
    let body = &turn.relay.up.unjudged()[frame::HEADER_LEN..total];
    let execute =
        frontend::Execute::parse(body).map_err(|error| requests::violation(error.to_string()))?;
    let mut portals = turn.listen.portals.iter();
    let ours = portals.find(|(portal, _)| **portal == *execute.portal);
    let Some((_, reply)) = ours else {
        return Ok(Way::Usual);
    };
    turn.server.exchange.sent(Owed::ExecuteSaying(reply));
    turn.relay.up.pass(total);
    Ok(Way::Taken)
}

/// Whether the ReadyForQuery in front may go to the client. Between transactions, everything that was
/// notified up to now is told to a listening client first.
pub(super) fn may_be_ready(turn: &mut Turn<'_>, total: usize) -> Result<bool, Loss> {
    let Some(listening) = turn.relay.listening.as_deref() else {
        return Ok(true);
    };
    let status = turn.server.flow.unjudged().get(frame::HEADER_LEN..total);
    if turn.server.exchange.in_setup() || status != Some(b"I") {
        return Ok(true);
    }
    match turn.listen.fence {
        Fence::Waiting(_) => return Ok(false),
        // Nobody has notified anything there.
        Fence::None if !shards::hears(turn.relay) => {}
        Fence::None => {
            turn.listen.fence = Fence::Waiting(listening.fence());
            return Ok(false);
        }
        Fence::Passed => turn.listen.fence = Fence::None,
    }
    // A text that stood alone, has an UNLISTEN * in it, and has succeeded.
    let alone = turn.alone.as_ref();
    if alone.is_some_and(|judgement| judgement.unpins.contains(Reason::Listen)) {
        listening.unlisten_all();
    }
    let settled = listening.settle();
    let done = std::mem::take(&mut turn.listen.done);
    let excused = std::mem::take(&mut turn.listen.excused);
    if done > settled.seen && (settled.interrupted || !excused) {
        return Err(Loss::Fatal(Box::new(unseen(settled.interrupted))));
    }
    tell(turn)?;
    Ok(true)
}

fn tell(turn: &mut Turn<'_>) -> Result<(), Loss> {
    let alike = plan::is_alike(turn.relay);
    let Some(listening) = turn.relay.listening.as_deref() else {
        return Ok(());
    };
    let told = listening.ear().tell(turn.server.flow.made(), alike);
    if !listening.is_listening() {
        turn.relay.listening = None;
    }
    told.map_err(|_| Loss::Fatal(Box::new(unreadable())))
}

/// It is not known, or cannot be, whether a LISTEN is in force.
fn unseen(interrupted: bool) -> ErrorReport {
    let report = ErrorReport::fatal(
        sqlstate::CONNECTION_FAILURE,
        "whether LISTEN or UNLISTEN took effect is unknown",
    );
    if interrupted {
        report.detail("The server connection that listens for this session was lost meanwhile.")
    } else {
        report.detail("The server connection that listens leads to another server.")
    }
}

fn unreadable() -> ErrorReport {
    ErrorReport::fatal(
        sqlstate::FEATURE_NOT_SUPPORTED,
        "a notification cannot be converted to the client's encoding",
    )
    .hint("Listen with the server's own encoding as client_encoding.")
}

/// Puts the client's numbers in the place of the server's in a notification of the server that the
/// session is bound to.
pub(super) fn pass_on(turn: &mut Turn<'_>, total: usize) {
    let server: &mut crate::server::ServerConn = &mut *turn.server;
    let body = &server.flow.unjudged()[frame::HEADER_LEN..total];
    let (pool, own) = (&turn.relay.pool, turn.relay.control.id);
    match renumbered(pool, own, server.about.backend, body) {
        Some(told) => {
            server.flow.hide(total);
            server.flow.insert(&told);
        }
        None => server.flow.pass(total),
    }
}

/// A notification with the numbers of clients in it, as the one with the number `own` is to be told of
/// what its server, the process `backend`, says. `None` if it is none.
pub(super) fn renumbered(
    pool: &Pool,
    own: i32,
    backend: i32,
    body: &[u8],
) -> Option<bytes::BytesMut> {
    let heard = backend::Notification::parse(body).ok()?;
    let from = if heard.pid == backend {
        own
    } else {
        pool.audience.shown(heard.pid)
    };
    let mut told = bytes::BytesMut::new();
    // It came in one message, and so fits into one.
    backend::notification(&mut told, from, heard.channel, heard.payload).ok()?;
    Some(told)
}

/// Why a listening client cannot be told what was notified.
pub(super) enum Untold {
    /// Something is not in an encoding that it can read.
    Unreadable,
    /// Its session is over.
    Gone,
}

impl Untold {
    /// How the session ends by that.
    pub(super) fn bye(self, relay: &Relay) -> Bye {
        match self {
            Self::Unreadable => Bye::Sent(Box::new(unreadable())),
            Self::Gone => relay.gone(),
        }
    }
}

/// Gives a listening client all that was notified up to now, behind a transaction that did not run in a turn.
pub(super) async fn catch_up(relay: &mut Relay) -> Result<(), Untold> {
    let alike = plan::is_alike(relay);
    let Some(listening) = relay.listening.as_deref() else {
        return Ok(());
    };
    let ticket = listening.fence();
    fenced(relay, ticket).await?;
    let Some(listening) = relay.listening.as_deref() else {
        return Ok(());
    };
    listening.settle();
    let told = listening.ear().tell(relay.down.made(), alike);
    told.map_err(|_| Untold::Unreadable)
}

/// Waits until all has come that was notified before this sign was asked for, as long as there is a session that
/// it could be told.
async fn fenced(relay: &mut Relay, ticket: u64) -> Result<(), Untold> {
    poll_fn(|cx| {
        let ordered = relay.control.poll_ordered(cx).is_ready();
        if ordered && relay.control.ordered() == Order::Terminate {
            return Poll::Ready(Err(Untold::Gone));
        }
        let listening = relay.listening.as_deref();
        if listening.is_none_or(|listening| listening.poll_fenced(ticket, cx).is_ready()) {
            return Poll::Ready(Ok(()));
        }
        checkout::poll_presence(relay, cx).map(|()| Err(Untold::Gone))
    })
    .await
}

/// The session listens to nothing any more.
pub(super) fn unlisten_all(relay: &Relay) {
    if let Some(listening) = relay.listening.as_deref() {
        listening.unlisten_all();
    }
}

/// Sees to it that what the server notifies from here on is known to be this session's, as long as it has it.
pub(super) async fn hold(relay: &mut Relay, lease: &mut ServerLease) -> Result<(), Untold> {
    let listening = relay.listening.as_deref();
    let Some(listening) = listening.filter(|_| shards::hears(relay)) else {
        return Ok(());
    };
    if listening.holds(&lease.about) {
        return Ok(());
    }
    // What its last client has notified may be on its way.
    if let Some(ticket) = listening.fence_since(lease.heard) {
        fenced(relay, ticket).await?;
    }
    if let Some(listening) = relay.listening.as_deref() {
        listening.hold(lease);
    }
    Ok(())
}

/// The transaction is over; answers up to when everything has come from its server, which is let go.
pub(super) fn settle(relay: &Relay) -> Option<Instant> {
    let listening = relay.listening.as_deref();
    let listening = listening.filter(|_| shards::hears(relay))?;
    listening.settle();
    listening.fenced_up_to()
}

/// Ready when there is something to tell to an idle client. One that believes to be in a transaction
/// or in the middle of a pipeline is told later.
pub(super) fn poll_heard(relay: &Relay, cx: &Context<'_>) -> Poll<()> {
    match relay.listening.as_deref() {
        Some(listening) if !relay.lost_block && !relay.refusing && relay.opened.is_none() => {
            listening.ear().poll_heard(cx)
        }
        _ => Poll::Pending,
    }
}

/// Tells an idle client what was heard; answers how the session ends, if it does. A client that does
/// not read can still be sent away.
pub(super) async fn deliver(relay: &mut Relay) -> Option<Bye> {
    let alike = plan::is_alike(relay);
    let listening = relay.listening.as_deref()?;
    if listening.ear().tell(relay.down.made(), alike).is_err() {
        return Some(Bye::Sent(Box::new(unreadable())));
    }
    let control = Arc::clone(&relay.control);
    let outcome = poll_fn(|cx| {
        if let Poll::Ready(outcome) = poll_write_from(&mut relay.client, cx, &mut relay.down) {
            return Poll::Ready(Some(outcome));
        }
        control.poll_ordered(cx).map(|()| None)
    })
    .await;
    match outcome {
        Some(Ok(())) => None,
        Some(Err(_)) => Some(Bye::Gone),
        None => Some(relay.control.farewell().map_or(Bye::Left, Bye::Sent)),
    }
}
