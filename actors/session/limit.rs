//! The time limits of a turn.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use pgherd_wire::error::ErrorReport;
use pgherd_wire::sqlstate;
use tokio::time::{Instant, Sleep};

use crate::server::{Cancels, ServerAbout};
use crate::session::turn::Loss;
use crate::upstream;
use pgherd_config::PoolSettings;

/// How long a cancelled query may take to end before its server is given up.
const CANCEL_GRACE: Duration = Duration::from_secs(10);

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
    Cancelled,
}

/// The limits on one turn; nothing is armed while none is configured.
#[derive(Debug)]
pub(super) struct Limits {
    query: Option<Duration>,
    transaction: Option<Duration>,
    idle: Option<Duration>,
    began: Instant,
    phase: Phase,
    armed: Option<(Kind, Pin<Box<Sleep>>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    New,
    Server(Instant),
    Client(Instant),
    Cancelled(Instant),
}

impl Limits {
    pub(super) fn new(settings: &PoolSettings, now: std::time::Instant) -> Self {
        Self {
            query: settings.timeouts.query,
            transaction: settings.timeouts.transaction,
            idle: settings.timeouts.idle_in_transaction,
            began: now.into(),
            phase: Phase::New,
            armed: None,
        }
    }

    /// Whether there is anything to watch.
    pub(super) fn any(&self) -> bool {
        self.query.is_some() || self.transaction.is_some() || self.idle.is_some()
    }

    /// Ready when a limit has run out and the turn must end for it. A query that runs too long is
    /// cancelled on the server first, and the turn goes on until the server has answered.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        waits_for_server: bool,
        committing: bool,
        about: &Arc<ServerAbout>,
    ) -> Poll<Loss> {
        loop {
            self.enter(waits_for_server);
            let Some((kind, at)) = self.next(committing) else {
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
                Kind::Query => {
                    self.phase = Phase::Cancelled(Instant::now());
                    // The request lives on its own: the turn goes on reading meanwhile.
                    tokio::spawn(upstream::cancel(Cancels::begin(about)));
                }
                Kind::Cancelled => {
                    return Poll::Ready(Loss::Server(Box::new(ErrorReport::error(
                        sqlstate::QUERY_CANCELED,
                        "canceling statement due to the query timeout of the pool",
                    ))));
                }
                Kind::Transaction => {
                    let report = Expired::Transaction.report();
                    return Poll::Ready(Loss::Fatal(Box::new(report)));
                }
                Kind::IdleInTransaction => {
                    let report = Expired::IdleInTransaction.report();
                    return Poll::Ready(Loss::Fatal(Box::new(report)));
                }
            }
        }
    }

    fn enter(&mut self, waits_for_server: bool) {
        self.phase = match (self.phase, waits_for_server) {
            (phase @ (Phase::Server(_) | Phase::Cancelled(_)), true)
            | (phase @ Phase::Client(_), false) => phase,
            (_, true) => Phase::Server(Instant::now()),
            (_, false) => Phase::Client(Instant::now()),
        };
    }

    fn next(&self, committing: bool) -> Option<(Kind, Instant)> {
        let running = match self.phase {
            Phase::New => None,
            Phase::Cancelled(since) => return Some((Kind::Cancelled, since + CANCEL_GRACE)),
            // Cancelling a commit that waits for a standby would only hide that it has happened.
            Phase::Server(_) if committing => return None,
            Phase::Server(since) => self.query.map(|limit| (Kind::Query, since + limit)),
            Phase::Client(since) => self
                .idle
                .map(|limit| (Kind::IdleInTransaction, since + limit)),
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
