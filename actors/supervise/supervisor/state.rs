//! The children in start order, and the steps that need no failure: starting, stopping, adding, forgetting.

use std::sync::Arc;
use std::time::Duration;

use ractor::{ActorCell, ActorId, ActorRef, RpcReplyPort, SpawnErr};
use tokio::time::Instant;

use super::child::{Child, Condition, Exit, Origin, StartReply, StopReply, Then, Ticket};
use super::{Above, ChildError, Event, SupervisorMessage};
use crate::backoff::{Backoff, Budget};
use crate::root::RootExit;
use crate::spec::{ChildSpec, Exhausted, Exhaustion, Restart, Shutdown, Strategy, SupervisorSpec};
use crate::stop::{part, stop};
use crate::task::{OwnedTask, owned_task};

/// How long an actor that turned out to be nobody's child may take to stop.
const STRAY: Duration = Duration::from_secs(5);

/// Whether the children are being kept.
pub(super) enum Phase {
    Keeping,
    /// All children are being stopped, because one failed once too often.
    Clearing(Exhaustion),
    /// All children are stopped, and a timer runs.
    Isolated(Ticket),
}

/// A supervisor's state.
pub struct State {
    pub(super) name: String,
    pub(super) strategy: Strategy,
    pub(super) budget: Budget,
    pub(super) backoff: Backoff,
    pub(super) when_exhausted: Exhausted,
    pub(super) children: Vec<Child>,
    pub(super) phase: Phase,
    pub(super) since: Instant,
    pub(super) isolations: u32,
    pub(super) last_failure: Option<String>,
    /// Ends of actors that are not known yet, because the report of their start is still in the mailbox. Kept only
    /// while something is being started.
    early: Vec<(ActorId, Exit)>,
    settled: Vec<RpcReplyPort<()>>,
    sweepers: Vec<OwnedTask>,
    above: Above,
    tickets: u64,
}

impl State {
    pub(super) fn new(spec: SupervisorSpec, above: Above) -> Result<Self, ChildError> {
        let mut state = Self {
            name: spec.name,
            strategy: spec.strategy,
            budget: Budget::new(spec.intensity),
            backoff: spec.backoff,
            when_exhausted: spec.when_exhausted,
            children: Vec::with_capacity(spec.children.len()),
            phase: Phase::Keeping,
            since: Instant::now(),
            isolations: 0,
            last_failure: None,
            early: Vec::new(),
            settled: Vec::new(),
            sweepers: Vec::new(),
            above,
            tickets: 0,
        };
        for child in spec.children {
            if state.named(&child.id).is_some() {
                return Err(ChildError::Duplicate(child.id));
            }
            let ticket = state.ticket();
            state
                .children
                .push(Child::new(child, Origin::Listed, ticket));
        }
        Ok(state)
    }

    /// Where the child of this name is, but for one that is about to be forgotten.
    fn named(&self, id: &str) -> Option<usize> {
        self.children
            .iter()
            .position(|child| child.spec.id == id && !child.is_leaving())
    }

    /// Whether one of this name is still on its way out, for which its successor waits.
    fn is_taken(&self, id: &str) -> bool {
        self.children
            .iter()
            .any(|child| child.is_leaving() && child.spec.id == id)
    }

    pub(super) fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    pub(super) fn find(&self, ticket: Ticket) -> Option<usize> {
        self.children
            .iter()
            .position(|child| child.ticket == ticket)
    }

    /// Gives a child another condition and ticket; returns the condition it had.
    pub(super) fn turn(&mut self, index: usize, condition: Condition) -> Condition {
        let ticket = self.ticket();
        self.children[index].turn(condition, ticket)
    }

    /// The children that run, by their names.
    #[cfg(feature = "chaos")]
    pub(super) fn running(&self) -> Vec<(String, ActorCell)> {
        let running = self.children.iter().filter_map(|child| {
            let Condition::Running(cell) = &child.condition else {
                return None;
            };
            Some((child.spec.id.clone(), cell.clone()))
        });
        running.collect()
    }

    /// Tells whoever runs the root how this ended; only the first word counts.
    pub(super) fn pronounce(&mut self, exit: RootExit) {
        if let Above::Nobody(verdict) = &mut self.above
            && let Some(verdict) = verdict.take()
        {
            // Nobody may be waiting for it.
            let _ = verdict.send(exit);
        }
    }

    /// A sign of life, and the next when its time has come.
    pub(super) fn beat(&self, myself: &ActorRef<SupervisorMessage>) {
        if let Above::Supervisor(heartbeat) = &self.above {
            heartbeat.beat(myself, || Event::Alive.into());
        }
    }

    pub(super) fn await_settled(&mut self, reply: RpcReplyPort<()>) {
        self.settled.retain(|reply| !reply.is_closed());
        self.settled.push(reply);
    }

    /// The end of every handler: whatever can go on goes on, whoever waits for calm is told of it.
    pub(super) fn settle(
        &mut self,
        myself: &ActorRef<SupervisorMessage>,
    ) -> Result<(), Exhaustion> {
        self.finish_clearing(myself)?;
        self.advance(myself);
        if !self.children.iter().any(Child::is_starting) {
            self.early.clear();
            if !self.children.iter().any(Child::is_stopping) {
                for reply in self.settled.drain(..) {
                    // A caller that has gone does not mind.
                    let _ = reply.send(());
                }
            }
        }
        Ok(())
    }

    /// Starts every child whose turn has come.
    pub(super) fn advance(&mut self, myself: &ActorRef<SupervisorMessage>) {
        if !matches!(self.phase, Phase::Keeping) {
            return;
        }
        match self.strategy {
            Strategy::OneForOne => self.advance_each(myself),
            Strategy::RestForOne => self.advance_in_order(myself),
        }
    }

    /// First starts go one by one in order; restarts wait for nobody.
    fn advance_each(&mut self, myself: &ActorRef<SupervisorMessage>) {
        let mut first = self
            .children
            .iter()
            .any(|child| child.is_starting() && child.attempts == 1);
        for index in 0..self.children.len() {
            let child = &self.children[index];
            let waits = child.is_waiting() && !(child.attempts == 0 && first);
            if !waits || self.is_taken(&child.spec.id) {
                continue;
            }
            first |= child.attempts == 0;
            self.begin(myself, index);
        }
    }

    /// A child is started when all before it run, and none after it is still being stopped.
    fn advance_in_order(&mut self, myself: &ActorRef<SupervisorMessage>) {
        if self.children.iter().any(Child::is_stopping) {
            return;
        }
        let next = self.children.iter().position(|child| {
            !matches!(child.condition, Condition::Running(_) | Condition::Stopped)
        });
        if let Some(index) = next
            && self.children[index].is_waiting()
        {
            self.begin(myself, index);
        }
    }

    fn begin(&mut self, myself: &ActorRef<SupervisorMessage>, index: usize) {
        let ticket = self.ticket();
        let child = &mut self.children[index];
        child.attempts += 1;
        child.starts += 1;
        let spec = Arc::clone(&child.spec);
        let supervisor = myself.get_cell();
        let start = async move {
            match tokio::time::timeout(spec.start_within, (spec.start)(supervisor)).await {
                Ok(started) => started.map_err(reason),
                Err(_) => Err(format!("did not start within {:?}", spec.start_within)),
            }
        };
        let task = owned_task(myself, start, move |outcome| {
            let started = outcome.unwrap_or_else(|panicked| Err(panicked.to_string()));
            Event::Started(ticket, started).into()
        });
        child.turn(Condition::Starting(task), ticket);
    }

    pub(super) fn started(
        &mut self,
        myself: &ActorRef<SupervisorMessage>,
        ticket: Ticket,
        cell: ActorCell,
    ) {
        let Some(index) = self.find(ticket) else {
            // It was no longer wanted when it came.
            tokio::spawn(async move { stop(&cell, Shutdown::Within(STRAY)).await });
            return;
        };
        let id = cell.get_id();
        let child = &mut self.children[index];
        child.recognise(&cell);
        tracing::debug!(
            supervisor = self.name,
            child = child.spec.id,
            "child started"
        );
        if matches!(child.origin, Origin::Asked(_))
            && let Origin::Asked(reply) = std::mem::replace(&mut child.origin, Origin::Added)
        {
            // A caller that has gone does not mind.
            let _ = reply.send(Ok(cell.clone()));
        }
        self.turn(index, Condition::Running(cell));
        self.watch(myself, index);
        if let Some(position) = self.early.iter().position(|(early, _)| *early == id) {
            let (_, exit) = self.early.swap_remove(position);
            self.failed(myself, index, exit);
        }
    }

    /// A linked actor ended: a child, one that is not known yet, or a late one.
    pub(super) fn ended(&mut self, myself: &ActorRef<SupervisorMessage>, id: ActorId, exit: Exit) {
        match self.children.iter().position(|child| child.is(id)) {
            Some(index) if self.children[index].is_stopping() => {
                self.gone(self.children[index].ticket);
            }
            Some(index) => self.failed(myself, index, exit),
            None if self.children.iter().any(Child::is_starting) => self.early.push((id, exit)),
            None => {}
        }
    }

    pub(super) fn respawn(&mut self, ticket: Ticket) {
        if let Some(index) = self.find(ticket)
            && matches!(self.children[index].condition, Condition::Restarting)
        {
            self.turn(index, Condition::Waiting);
        }
    }

    pub(super) fn add(&mut self, spec: ChildSpec, reply: StartReply) {
        let refusal = if !matches!(self.phase, Phase::Keeping) {
            ChildError::Unavailable
        } else if self.named(&spec.id).is_some() {
            ChildError::Duplicate(spec.id)
        } else {
            let ticket = self.ticket();
            self.children
                .push(Child::new(spec, Origin::Asked(reply), ticket));
            return;
        };
        // A caller that has gone does not mind.
        let _ = reply.send(Err(refusal));
    }

    pub(super) fn remove(
        &mut self,
        myself: &ActorRef<SupervisorMessage>,
        id: &str,
        reply: StopReply,
    ) {
        let Some(index) = self.named(id) else {
            let error = match self.is_taken(id) {
                true => ChildError::Unavailable,
                false => ChildError::Unknown(id.to_owned()),
            };
            let _ = reply.send(Err(error));
            return;
        };
        if matches!(self.children[index].condition, Condition::Running(_)) {
            self.sweep(myself, vec![index]);
        }
        if let Condition::Stopping(_, then) = &mut self.children[index].condition {
            *then = Then::Forget(reply);
        } else {
            self.forget(index);
            let _ = reply.send(Ok(()));
        }
    }

    /// A child has ended and is not started again.
    pub(super) fn retire(&mut self, index: usize) {
        match self.children[index].origin {
            Origin::Listed => {
                self.turn(index, Condition::Stopped);
            }
            Origin::Asked(_) | Origin::Added => self.forget(index),
        }
    }

    /// Drops a child from the list, and with it whatever is under way to start it.
    pub(super) fn forget(&mut self, index: usize) {
        if let Origin::Asked(reply) = self.children.remove(index).origin {
            let _ = reply.send(Err(ChildError::Unavailable));
        }
    }

    /// Stops the children at `indices` one after another, in the order given, without waiting for it. Those that
    /// were about to start are kept from it.
    pub(super) fn sweep(&mut self, myself: &ActorRef<SupervisorMessage>, indices: Vec<usize>) {
        let mut doomed = Vec::new();
        for index in indices {
            // Those that are gone stay so, and those on their way out have a sweeper already.
            if matches!(
                self.children[index].condition,
                Condition::Stopping(..) | Condition::Stopped
            ) {
                continue;
            }
            if let Condition::Running(cell) = self.turn(index, Condition::Waiting) {
                self.turn(index, Condition::Stopping(cell.clone(), Then::Wait));
                let child = &self.children[index];
                doomed.push((child.ticket, cell, child.spec.shutdown));
            }
        }
        if doomed.is_empty() {
            return;
        }
        let owner = myself.clone();
        let work = async move {
            for (ticket, cell, shutdown) in doomed {
                let farewell = stop(&cell, shutdown).await;
                tracing::debug!(actor = ?cell.get_id(), ?farewell, "child stopped");
                // The end of the actor is an event that comes first; this is for the one that cannot be killed.
                let _ = owner.cast(Event::Gone(ticket).into());
            }
        };
        self.sweepers
            .push(owned_task(myself, work, |_| Event::Swept.into()));
    }

    /// A child that was being stopped is gone, or past help.
    pub(super) fn gone(&mut self, ticket: Ticket) {
        let Some(index) = self.find(ticket) else {
            return;
        };
        if !self.children[index].is_stopping() {
            return;
        }
        if let Condition::Stopping(_, Then::Forget(reply)) = self.turn(index, Condition::Waiting) {
            self.children.remove(index);
            // A caller that has gone does not mind.
            let _ = reply.send(Ok(()));
        } else if self.children[index].spec.restart == Restart::Temporary {
            self.retire(index);
        }
    }

    pub(super) fn swept(&mut self) {
        self.sweepers.retain(|sweeper| !sweeper.is_finished());
    }

    /// The last thing a supervisor does: stops its children, last first, and waits for them.
    pub(super) async fn dismiss(&mut self, myself: &ActorRef<SupervisorMessage>) {
        self.sweepers.clear();
        let supervisor = myself.get_cell();
        while let Some(child) = self.children.pop() {
            if let Condition::Running(cell) | Condition::Stopping(cell, _) = child.condition {
                let farewell = part(&supervisor, cell, child.spec.shutdown).await;
                tracing::debug!(
                    supervisor = self.name,
                    child = child.spec.id,
                    ?farewell,
                    "stopped"
                );
            }
        }
        // Whoever was started but not yet reported is linked already.
        for stray in supervisor.get_children() {
            part(&supervisor, stray, Shutdown::Within(STRAY)).await;
        }
    }
}

/// Why a spawn failed, without the crate's own words around it, which speak of a panic even where there was none.
fn reason(error: SpawnErr) -> String {
    match error {
        SpawnErr::StartupFailed(cause) => cause.to_string(),
        other => other.to_string(),
    }
}
