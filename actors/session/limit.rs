//! The time limits of a turn.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use pgherd_wire::error::ErrorReport;
use pgherd_wire::sqlstate;
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep};

use crate::server::{Cancels, ServerAbout};
use crate::session::unreplicated;
use crate::upstream;
use pgherd_config::PoolSettings;

/// A limit whose end is the end of the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expired {
    /// On a client that says nothing outside of a transaction.
    ClientIdle,
    /// On a client that says nothing in a transaction.
    IdleInTransaction,
    /// On a transaction as a whole.
    Transaction,
}

impl Expired {
    /// What the client is told.
    pub fn report(self) -> ErrorReport {
        let (code, what) = match self {
            Self::ClientIdle => (sqlstate::IDLE_SESSION_TIMEOUT, "client idle"),
            Self::IdleInTransaction => (
                sqlstate::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
                "idle-in-transaction",
            ),
            Self::Transaction => (sqlstate::TRANSACTION_TIMEOUT, "transaction"),
        };
        let text = format!("terminating connection due to the {what} timeout of the pool");
        ErrorReport::fatal(code, text)
    }
}

/// Which limit runs out next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Query,
    Transaction,
    IdleInTransaction,
    ClientIdle,
    Cancelled,
}

/// The limits on one turn; nothing is armed while none is configured.
#[derive(Debug)]
pub(super) struct Limits {
    query: Option<Duration>,
    transaction: Option<Duration>,
    idle: Option<Duration>,
    /// Outside of a transaction.
    outside: Option<Duration>,
    began: Instant,
    phase: Phase,
    /// A query was cancelled, which may hit whatever runs until all is answered.
    cancelled: bool,
    /// Whether what runs waits for a standby: the server is asked.
    asked: Option<oneshot::Receiver<bool>>,
    armed: Option<(Kind, Pin<Box<Sleep>>)>,
}

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Awaited {
    /// The server owes an answer, after so many of this turn.
    Server(u64),
    /// The client is to say what comes next.
    Client,
    /// The client is to send the rest of a message for which it keeps a server that owes it nothing.
    Rest,
    /// Something of ours is to happen, which has a limit of its own.
    Ourselves,
}

/// Whether what the server does now is a COMMIT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Commit {
    /// It is not.
    No,
    /// It may be, or something that stands before one in the same request: servers do not answer each statement at once.
    Perhaps,
    /// It is one.
    UnderWay,
}

/// How a turn ends for its limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    /// The server has not answered in time, nor has it done so since it was asked to stop.
    Mute,
    /// The session ends.
    Expired(Expired),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Ourselves,
    /// An answer is owed after so many, and since when it is the next.
    Server(u64, Instant),
    Client(Instant),
    Rest(Instant),
    /// The same of one whose time is up, which the server is asked about before it is cancelled.
    Asked(u64),
    /// The same of one that was cancelled, and when that was.
    Cancelled(u64, Instant),
}

impl Limits {
    /// Limits from now on, on a server that may have been asked to stop already.
    pub(super) fn new(
        settings: &PoolSettings,
        now: std::time::Instant,
        about: &ServerAbout,
    ) -> Self {
        Self {
            query: settings.timeouts.query,
            transaction: settings.timeouts.transaction,
            idle: settings.timeouts.idle_in_transaction,
            outside: settings.timeouts.client_idle,
            began: now.into(),
            phase: Phase::Ourselves,
            cancelled: settings.timeouts.query.is_some() && !about.cancels.quiet(),
            asked: None,
            armed: None,
        }
    }

    /// Whether there is anything to watch.
    pub(super) fn any(&self, awaited: Awaited) -> bool {
        self.query.is_some()
            || self.transaction.is_some()
            || self.idle.is_some()
            || awaited == Awaited::Rest && self.outside.is_some()
    }

    /// Whether a query was cancelled for its limit.
    #[inline]
    pub(super) fn has_cancelled(&self) -> bool {
        self.cancelled
    }

    /// Ready when a limit has run out and the turn must end for it. A query that runs too long is
    /// cancelled on the server first, and the turn goes on until the server has answered.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        awaited: Awaited,
        commit: Commit,
        about: &Arc<ServerAbout>,
    ) -> Poll<Over> {
        loop {
            self.enter(awaited);
            self.hear(cx, commit, about);
            let grace = about.upstream.cancel_patience;
            let Some((kind, at)) = self.next(commit, grace) else {
                self.armed = None;
                return Poll::Pending;
            };
            let timer = match &mut self.armed {
                Some((armed, timer)) if *armed == kind => {
                    if timer.deadline() != at {
                        timer.as_mut().reset(at);
                    }
                    timer
                }
                _ => {
                    &mut self
                        .armed
                        .insert((kind, Box::pin(tokio::time::sleep_until(at))))
                        .1
                }
            };
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            match kind {
                Kind::Query if commit == Commit::Perhaps => self.ask(about),
                Kind::Query => self.cancel(about),
                Kind::Cancelled => return Poll::Ready(Over::Mute),
                Kind::Transaction => return Poll::Ready(Over::Expired(Expired::Transaction)),
                Kind::ClientIdle => return Poll::Ready(Over::Expired(Expired::ClientIdle)),
                Kind::IdleInTransaction => {
                    return Poll::Ready(Over::Expired(Expired::IdleInTransaction));
                }
            }
        }
    }

    fn cancel(&mut self, about: &Arc<ServerAbout>) {
        if let Phase::Server(answers, _) | Phase::Asked(answers) = self.phase {
            self.phase = Phase::Cancelled(answers, Instant::now());
        }
        self.cancelled = true;
        // The request lives on its own: the turn goes on reading meanwhile.
        tokio::spawn(upstream::cancel(Cancels::begin(about)));
    }

    /// Asks whether what runs is a COMMIT that waits for a standby.
    fn ask(&mut self, about: &Arc<ServerAbout>) {
        let Phase::Server(answers, _) = self.phase else {
            return;
        };
        let (told, asked) = oneshot::channel();
        let about = Arc::clone(about);
        tokio::spawn(async move {
            // Nobody may wait for it any more.
            let _ = told.send(unreplicated::waits(&about).await);
        });
        self.phase = Phase::Asked(answers);
        self.asked = Some(asked);
    }

    /// Cancels what was asked about, unless it waits for a standby, or is known to be a COMMIT by now. That is left alone,
    /// and may be asked about again when as much time is over once more.
    fn hear(&mut self, cx: &mut Context<'_>, commit: Commit, about: &Arc<ServerAbout>) {
        let Phase::Asked(answers) = self.phase else {
            self.asked = None;
            return;
        };
        let waits = match self.asked.as_mut().map(|asked| Pin::new(asked).poll(cx)) {
            Some(Poll::Pending) => return,
            Some(Poll::Ready(waits)) => waits.unwrap_or(false),
            None => false,
        };
        self.asked = None;
        match waits || commit == Commit::UnderWay {
            true => self.phase = Phase::Server(answers, Instant::now()),
            false => self.cancel(about),
        }
    }

    fn enter(&mut self, awaited: Awaited) {
        self.phase = match (self.phase, awaited) {
            (phase @ Phase::Client(_), Awaited::Client)
            | (phase @ Phase::Rest(_), Awaited::Rest) => phase,
            // Each answer has the time of its own, however many are owed.
            (
                phase @ (Phase::Server(before, _)
                | Phase::Asked(before)
                | Phase::Cancelled(before, _)),
                Awaited::Server(answers),
            ) if before == answers => phase,
            (_, Awaited::Server(answers)) => Phase::Server(answers, Instant::now()),
            (_, Awaited::Client) => Phase::Client(Instant::now()),
            (_, Awaited::Rest) => Phase::Rest(Instant::now()),
            (_, Awaited::Ourselves) => Phase::Ourselves,
        };
    }

    fn next(&self, commit: Commit, grace: Duration) -> Option<(Kind, Instant)> {
        let running = match self.phase {
            Phase::Ourselves | Phase::Asked(_) => None,
            Phase::Cancelled(_, since) => return Some((Kind::Cancelled, since + grace)),
            // Cancelling a commit that waits for a standby would only hide that it has happened. Only the
            // limit on the whole holds for it: its client is told then that the outcome is not known.
            Phase::Server(..) if commit == Commit::UnderWay => None,
            Phase::Server(_, since) => self.query.map(|limit| (Kind::Query, since + limit)),
            Phase::Client(since) => self
                .idle
                .map(|limit| (Kind::IdleInTransaction, since + limit)),
            // Either is there for it: it says nothing, and it holds what others wait for.
            Phase::Rest(since) => {
                let outside = self.outside.map(|limit| (Kind::ClientIdle, since + limit));
                let idle = self
                    .idle
                    .map(|limit| (Kind::IdleInTransaction, since + limit));
                outside.into_iter().chain(idle).min_by_key(|(_, at)| *at)
            }
        };
        let whole = self
            .transaction
            .map(|limit| (Kind::Transaction, self.began + limit));
        match (running, whole) {
            (Some(running), Some(whole)) => {
                Some(if running.1 <= whole.1 { running } else { whole })
            }
            (running, whole) => running.or(whole),
        }
    }
}
