//! What the log says now and then about the traffic, and the console on average.
//!
//! Owns: the totals of the last time.
//! Hears: its own clock.
//! Tells: the log; each pool that a period is over.
//! If it dies: the next one begins to count anew.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pgherd_supervise::Heartbeat;
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};

use crate::clock;
use crate::facts::Facts;
use crate::pool::Totals as Counted;

/// How often to look whether totals are wanted while they are not, and whether a period is over.
const LOOK: Duration = Duration::from_secs(10);

/// The actor.
#[derive(Debug)]
pub struct Totals;

/// What it hears.
#[derive(Debug)]
pub enum TotalsMessage {
    /// It is time.
    Tick,
    /// A test wants to see it crash.
    #[cfg(feature = "chaos")]
    Crash,
    /// A test wants to see it stand still.
    #[cfg(feature = "chaos")]
    Stick,
}

/// What it is born with.
#[derive(Debug, Clone)]
pub struct TotalsArguments {
    /// The facts.
    pub facts: Arc<Facts>,
    /// Its sign of life, at each tick.
    pub heartbeat: Heartbeat,
}

/// What it keeps.
#[derive(Debug)]
pub struct TotalsState {
    facts: Arc<Facts>,
    heartbeat: Heartbeat,
    last: Counted,
    failed: u64,
    at: Instant,
}

impl Actor for Totals {
    type Msg = TotalsMessage;
    type State = TotalsState;
    type Arguments = TotalsArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        arguments: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let TotalsArguments { facts, heartbeat } = arguments;
        let state = TotalsState {
            last: sum(&facts),
            failed: failed(&facts),
            at: clock::now(),
            facts,
            heartbeat,
        };
        state.wind(&myself);
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            TotalsMessage::Tick => {
                state.heartbeat.touch();
                state.tick(clock::now());
                state.wind(&myself);
            }
            #[cfg(feature = "chaos")]
            TotalsMessage::Crash => panic!("a test wanted this"),
            #[cfg(feature = "chaos")]
            TotalsMessage::Stick => std::future::pending().await,
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _myself: ActorRef<Self::Msg>,
        _event: SupervisionEvent,
        _state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

impl TotalsState {
    /// Sets the clock to when totals are due, or to the next look at whether they are wanted.
    fn wind(&self, myself: &ActorRef<TotalsMessage>) {
        let due = self.facts.config.load().log.stats_every;
        let left = due.map_or(LOOK, |every| every.saturating_sub(clock::since(self.at)));
        // A reload may want them sooner.
        myself.send_after(left.min(LOOK), || TotalsMessage::Tick);
    }

    fn tick(&mut self, now: Instant) {
        self.facts.periods.turn(&self.facts.routes.load(), now);
        let past = now.saturating_duration_since(self.at);
        match self.facts.config.load().log.stats_every {
            Some(every) if past < every => return,
            Some(_) => self.write(past),
            None => {
                self.last = sum(&self.facts);
                self.failed = failed(&self.facts);
            }
        }
        self.at = now;
    }

    /// Writes what has come since the last time.
    fn write(&mut self, past: Duration) {
        let totals = sum(&self.facts);
        let last = std::mem::replace(&mut self.last, totals);
        let failed = failed(&self.facts);
        let failed_before = std::mem::replace(&mut self.failed, failed);
        let transactions = totals.xact_count.saturating_sub(last.xact_count);
        let busy = totals.xact_time.saturating_sub(last.xact_time);
        let average = u32::try_from(transactions)
            .ok()
            .and_then(|count| busy.checked_div(count));
        tracing::info!(
            seconds = past.as_secs(),
            clients = self.facts.sessions.count(),
            logins = totals.client_login_count.saturating_sub(last.client_login_count),
            failed_logins = failed.saturating_sub(failed_before),
            transactions,
            queries = totals.query_count.saturating_sub(last.query_count),
            received = totals.bytes_received.saturating_sub(last.bytes_received),
            sent = totals.bytes_sent.saturating_sub(last.bytes_sent),
            average_transaction = ?average.unwrap_or_default(),
            waited = ?totals.wait_time.saturating_sub(last.wait_time),
            "totals"
        );
    }
}

/// Logins that failed, for whatever reason.
fn failed(facts: &Facts) -> u64 {
    facts
        .failures
        .counts()
        .logins()
        .map(|(_, count)| count)
        .sum()
}

/// The counters of all pools together.
fn sum(facts: &Facts) -> Counted {
    let mut sum = Counted::default();
    for pool in facts.routes.load().values() {
        let own = pool.stats.totals();
        sum.xact_count += own.xact_count;
        sum.query_count += own.query_count;
        sum.bytes_received += own.bytes_received;
        sum.bytes_sent += own.bytes_sent;
        sum.xact_time += own.xact_time;
        sum.wait_time += own.wait_time;
        sum.client_login_count += own.client_login_count;
    }
    sum
}
