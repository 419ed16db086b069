//! What a supervisor does when a child fails: restart, rest, escalate or isolate.

use ractor::ActorRef;
use tokio::time::Instant;

use super::child::{Child, Condition, Exit, Origin, Pulse, Ticket};
use super::state::{Phase, State};
use super::{ChildError, Event, SupervisorMessage};
use crate::backoff::Backoff;
use crate::root::RootExit;
use crate::spec::{Exhausted, Exhaustion, Strategy};

/// So many looks without progress, and a child is taken for stuck.
const LOOKS: u32 = 3;

impl State {
    /// A running child ended without having been told to.
    pub(super) fn failed(
        &mut self,
        myself: &ActorRef<SupervisorMessage>,
        index: usize,
        exit: Exit,
    ) {
        let healthy_after = self.backoff.healthy_after;
        let child = &mut self.children[index];
        if child.since.elapsed() >= healthy_after {
            child.failures = 0;
        }
        // A child that was killed for its silence already has a better reason than "killed".
        let silent = child.pulse.missed >= LOOKS;
        let reason = match (&child.spec.heartbeat, silent) {
            (Some(heartbeat), true) => {
                format!(
                    "gave no sign of life for {:?}",
                    heartbeat.every.saturating_mul(LOOKS)
                )
            }
            _ => exit.reason().to_owned(),
        };
        if matches!(exit, Exit::Abnormal(_)) {
            child.last_failure = Some(reason.clone());
        }
        if exit.calls_for_restart(child.spec.restart) {
            self.answer_failure(myself, index, reason);
            return;
        }
        tracing::info!(
            supervisor = self.name,
            child = child.spec.id,
            reason,
            "child ended"
        );
        self.retire(index);
    }

    /// A child could not be started.
    pub(super) fn start_failed(
        &mut self,
        myself: &ActorRef<SupervisorMessage>,
        ticket: Ticket,
        reason: String,
    ) {
        let Some(index) = self.find(ticket) else {
            return;
        };
        if matches!(self.children[index].origin, Origin::Asked(_)) {
            let child = self.children.remove(index);
            if let Origin::Asked(reply) = child.origin {
                // A caller that has gone does not mind.
                let _ = reply.send(Err(ChildError::Failed(reason)));
            }
            return;
        }
        let exit = Exit::failed(reason.clone());
        let child = &mut self.children[index];
        child.last_failure = Some(reason.clone());
        if exit.calls_for_restart(child.spec.restart) {
            self.answer_failure(myself, index, reason);
        } else {
            tracing::warn!(
                supervisor = self.name,
                child = child.spec.id,
                reason,
                "not started"
            );
            self.turn(index, Condition::Stopped);
        }
    }

    fn answer_failure(
        &mut self,
        myself: &ActorRef<SupervisorMessage>,
        index: usize,
        reason: String,
    ) {
        let child = &mut self.children[index];
        child.failures = child.failures.saturating_add(1);
        let delay = self.backoff.delay(child.failures);
        let id = child.spec.id.clone();
        if !self.budget.spend(Instant::now()) {
            self.give_up(myself, index, id, reason);
            return;
        }
        tracing::warn!(
            supervisor = self.name,
            child = id,
            reason,
            ?delay,
            "child failed"
        );
        self.turn(index, Condition::Restarting);
        let ticket = self.children[index].ticket;
        drop(myself.send_after(delay, move || Event::Respawn(ticket).into()));
        if self.strategy == Strategy::RestForOne {
            let rest = (index + 1..self.children.len()).rev().collect();
            self.sweep(myself, rest);
        }
    }

    fn give_up(
        &mut self,
        myself: &ActorRef<SupervisorMessage>,
        index: usize,
        child: String,
        reason: String,
    ) {
        let exhaustion = Exhaustion {
            supervisor: self.name.clone(),
            child,
            reason,
        };
        tracing::error!(%exhaustion, "restarts do not help");
        self.turn(index, Condition::Waiting);
        self.last_failure = Some(exhaustion.to_string());
        if self.since.elapsed() >= self.backoff.healthy_after {
            self.isolations = 0;
        }
        self.phase = Phase::Clearing(exhaustion);
        self.since = Instant::now();
        let all = (0..self.children.len()).rev().collect();
        self.sweep(myself, all);
    }

    /// When the last child is gone after the supervisor gave up: fails, or begins its isolation.
    pub(super) fn finish_clearing(
        &mut self,
        myself: &ActorRef<SupervisorMessage>,
    ) -> Result<(), Exhaustion> {
        let Phase::Clearing(exhaustion) = &self.phase else {
            return Ok(());
        };
        if self.children.iter().any(Child::is_stopping) {
            return Ok(());
        }
        let exhaustion = exhaustion.clone();
        let Exhausted::Isolate(told) = &self.when_exhausted else {
            self.pronounce(RootExit::from(&exhaustion));
            return Err(exhaustion);
        };
        told(&exhaustion);
        self.isolations = self.isolations.saturating_add(1);
        let longest = self.backoff.max;
        let rest = Backoff {
            min: longest,
            max: longest.saturating_mul(8),
            ..self.backoff
        };
        let ticket = self.ticket();
        self.phase = Phase::Isolated(ticket);
        self.since = Instant::now();
        drop(myself.send_after(rest.delay(self.isolations), move || {
            Event::Retry(ticket).into()
        }));
        Ok(())
    }

    /// The isolation is over: all children start again in order, with a clean record.
    pub(super) fn retry(&mut self, ticket: Ticket) {
        if !matches!(self.phase, Phase::Isolated(current) if current == ticket) {
            return;
        }
        self.phase = Phase::Keeping;
        self.since = Instant::now();
        self.budget.reset();
        for child in &mut self.children {
            child.attempts = 0;
            child.failures = 0;
        }
    }

    /// Begins to watch a child's heartbeat, if it has one.
    pub(super) fn watch(&mut self, myself: &ActorRef<SupervisorMessage>, index: usize) {
        let child = &mut self.children[index];
        let Some(heartbeat) = &child.spec.heartbeat else {
            return;
        };
        child.pulse = Pulse {
            seen: heartbeat.read(),
            missed: 0,
        };
        let ticket = child.ticket;
        drop(myself.send_after(heartbeat.every, move || Event::Beat(ticket).into()));
    }

    /// Looks at a child's heartbeat. The child that stood still for too long is killed; its end is then an event like
    /// any other.
    pub(super) fn look(&mut self, myself: &ActorRef<SupervisorMessage>, ticket: Ticket) {
        let Some(index) = self.find(ticket) else {
            return;
        };
        let child = &mut self.children[index];
        let (Some(heartbeat), Condition::Running(cell)) = (&child.spec.heartbeat, &child.condition)
        else {
            return;
        };
        let now = heartbeat.read();
        if now == child.pulse.seen {
            child.pulse.missed += 1;
        } else {
            child.pulse = Pulse {
                seen: now,
                missed: 0,
            };
        }
        if child.pulse.missed >= LOOKS {
            tracing::error!(
                supervisor = self.name,
                child = child.spec.id,
                "stuck, killing it"
            );
            cell.kill();
            return;
        }
        drop(myself.send_after(heartbeat.every, move || Event::Beat(ticket).into()));
    }
}
