//! How the proxy ends: nobody new, idle clients sent away, transactions allowed to end, then the
//! rest.
//!
//! It is a function beside the tree and no actor in it: what the drain may take, up to the whole
//! grace, no supervisor has to wait out as the stop of a child; and it cannot crash with an actor, so
//! the end comes even while the tree is being restarted. It needs no mailbox either: the end is asked
//! for through a [`Curtain`], and each session is told through its own handle.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use pgherd_wire::error::ErrorReport;
use pgherd_wire::sqlstate;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::control::Order;
use crate::facts::Facts;

/// How the proxy is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ending {
    /// Not at all.
    Not,
    /// When the clients have left by themselves.
    WhenClientsLeft,
    /// When the transactions under way are over, within the shutdown grace.
    Gracefully,
    /// At once.
    AtOnce,
}

/// Where anybody may ask for the end; requests only grow more urgent.
#[derive(Debug, Clone)]
pub struct Curtain(Arc<watch::Sender<Ending>>);

impl Default for Curtain {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Ending::Not)))
    }
}

impl Curtain {
    /// Asks for the end.
    pub fn ask(&self, ending: Ending) {
        self.0.send_if_modified(|now| {
            let grows = ending > *now;
            *now = (*now).max(ending);
            grows
        });
    }

    /// Asks for the end, and for a quick one if it was asked for before.
    pub fn ask_again(&self) {
        let before = *self.0.borrow();
        self.ask(if before == Ending::Not {
            Ending::Gracefully
        } else {
            Ending::AtOnce
        });
    }

    /// What has been asked for.
    pub fn asked(&self) -> Ending {
        *self.0.borrow()
    }

    /// Waits until at least this is asked for.
    pub async fn at_least(&self, ending: Ending) {
        let mut watcher = self.0.subscribe();
        // The sender lives as long as `self`.
        let _ = watcher.wait_for(|asked| *asked >= ending).await;
    }
}

/// What signals ask for, one behind the other: notice is given that no clients are wanted any more, the end begins when
/// that is over, and then it is a quick one.
#[derive(Debug)]
pub struct Notice {
    facts: Arc<Facts>,
    curtain: Curtain,
    /// When the notice is over that has been given.
    until: Option<Instant>,
}

impl Notice {
    /// No notice has been given.
    pub fn new(facts: Arc<Facts>, curtain: Curtain) -> Self {
        Self {
            facts,
            curtain,
            until: None,
        }
    }

    /// A signal has come that asks for the end.
    pub fn signal(&mut self) {
        if self.until.take().is_some() {
            return self.curtain.ask(Ending::Gracefully);
        }
        match self.facts.config.load().drain.delay {
            Some(delay) if self.curtain.asked() == Ending::Not => {
                tracing::info!(?delay, "not ready any more, before draining");
                self.facts.announce_end();
                self.until = Some(Instant::now() + delay);
            }
            _ => self.curtain.ask_again(),
        }
    }

    /// Asks for the end when the notice is over that has been given; waits for ever if there is none.
    pub async fn expire(&mut self) {
        match self.until {
            Some(until) => sleep_until(until).await,
            None => return pending().await,
        }
        self.until = None;
        self.curtain.ask(Ending::Gracefully);
    }
}

/// Waits for the end to be asked for and empties the proxy.
pub async fn drain(facts: &Arc<Facts>, curtain: &Curtain) {
    curtain.at_least(Ending::WhenClientsLeft).await;
    facts.close();
    if curtain.asked() == Ending::WhenClientsLeft {
        tokio::select! {
            () = emptied(facts) => {}
            () = curtain.at_least(Ending::Gracefully) => {}
        }
    }
    let grace = facts.config.load().timeouts.shutdown;
    tracing::info!(clients = facts.sessions.awaited(), ?grace, "draining");
    for control in facts.sessions.all() {
        control.order(Order::Drain, going(None));
    }
    tokio::select! {
        _ = timeout(grace, emptied(facts)) => {}
        () = curtain.at_least(Ending::AtOnce) => {}
    }
    let clients = facts.sessions.awaited();
    if clients > 0 {
        tracing::warn!(
            clients,
            "ending clients in the middle of their transactions"
        );
        for control in facts.sessions.all() {
            control.order(
                Order::Terminate,
                going(Some("the grace time for transactions is over")),
            );
        }
        let _ = timeout(LAST_WORDS, emptied(facts)).await;
    }
}

/// How long clients have to take their last message.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Over when all are gone who were there before. Who was sent away comes again and again, and is not waited for.
async fn emptied(facts: &Arc<Facts>) {
    let began = Instant::now();
    while facts.sessions.awaited() > 0 {
        // The count has no waker; the end of a process may look at it now and then.
        let pause = if began.elapsed() < Duration::from_secs(1) {
            5
        } else {
            50
        };
        sleep(Duration::from_millis(pause)).await;
    }
}

fn going(detail: Option<&str>) -> ErrorReport {
    let report = ErrorReport::fatal(
        sqlstate::ADMIN_SHUTDOWN,
        "terminating connection because pgherd is shutting down",
    );
    match detail {
        Some(detail) => report.detail(detail),
        None => report,
    }
}
