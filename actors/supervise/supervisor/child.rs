//! One child as its supervisor knows it.

use std::sync::Arc;

use ractor::{ActorCell, ActorId, RpcReplyPort};
use tokio::time::Instant;

use super::{ChildError, SupervisorMessage};
use crate::dynamic::DynamicMessage;
use crate::spec::{ChildSpec, Restart};
use crate::task::OwnedTask;
use crate::tree::{NodeKind, NodeState};

/// Names one attempt at something. A message that carries another ticket than the child has now came too late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket(pub(super) u64);

pub(super) type StartReply = RpcReplyPort<Result<ActorCell, ChildError>>;
pub(super) type StopReply = RpcReplyPort<Result<(), ChildError>>;

/// How a child ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Exit {
    Normal(String),
    Abnormal(String),
}

impl Exit {
    /// ractor reports a kill and an abort as terminations; only the reason tells them from a clean stop.
    pub(super) fn terminated(reason: Option<String>) -> Self {
        match reason {
            Some(reason) if reason == "killed" || reason == "actor_task_cancelled" => {
                Self::Abnormal(reason)
            }
            Some(reason) => Self::Normal(reason),
            None => Self::Normal("stopped".to_owned()),
        }
    }

    pub(super) fn failed(reason: String) -> Self {
        Self::Abnormal(reason)
    }

    pub(super) fn calls_for_restart(&self, restart: Restart) -> bool {
        match restart {
            Restart::Permanent => true,
            Restart::Transient => matches!(self, Self::Abnormal(_)),
            Restart::Temporary => false,
        }
    }

    pub(super) fn reason(&self) -> &str {
        match self {
            Self::Normal(reason) | Self::Abnormal(reason) => reason,
        }
    }
}

/// Where a child is between two starts.
pub(super) enum Condition {
    /// Its turn has not come.
    Waiting,
    /// A task starts it.
    Starting(#[expect(dead_code, reason = "held for its drop, which aborts")] OwnedTask),
    Running(ActorCell),
    /// A timer will make it wait for its turn.
    Restarting,
    Stopping(ActorCell, Then),
    Stopped,
}

/// What becomes of a child that was stopped.
pub(super) enum Then {
    /// It is started again in its turn.
    Wait,
    /// It is forgotten.
    Forget(StopReply),
}

/// Where a child comes from.
pub(super) enum Origin {
    /// From the supervisor's spec: it is kept when it has ended.
    Listed,
    /// From a request, which still waits for the first start.
    Asked(StartReply),
    /// From a request: it is forgotten when it has ended.
    Added,
}

pub(super) struct Child {
    pub(super) spec: Arc<ChildSpec>,
    pub(super) origin: Origin,
    pub(super) condition: Condition,
    pub(super) ticket: Ticket,
    pub(super) since: Instant,
    /// Starts since the supervisor began or came out of isolation.
    pub(super) attempts: u64,
    /// Starts in all.
    pub(super) starts: u64,
    /// Failures in a row, which the backoff goes by.
    pub(super) failures: u32,
    pub(super) last_failure: Option<String>,
    pub(super) kind: NodeKind,
    pub(super) pulse: Pulse,
}

/// What was last seen of a child's heartbeat.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    pub(super) seen: u64,
    pub(super) missed: u32,
}

impl Child {
    pub(super) fn new(spec: ChildSpec, origin: Origin, ticket: Ticket) -> Self {
        Self {
            kind: spec.kind,
            spec: Arc::new(spec),
            origin,
            condition: Condition::Waiting,
            ticket,
            since: Instant::now(),
            attempts: 0,
            starts: 0,
            failures: 0,
            last_failure: None,
            pulse: Pulse::default(),
        }
    }

    /// Every change of condition makes what is under way for the old one late.
    pub(super) fn turn(&mut self, condition: Condition, ticket: Ticket) -> Condition {
        self.ticket = ticket;
        self.since = Instant::now();
        std::mem::replace(&mut self.condition, condition)
    }

    /// The actor, if one runs or is being stopped.
    pub(super) fn cell(&self) -> Option<&ActorCell> {
        match &self.condition {
            Condition::Running(cell) | Condition::Stopping(cell, _) => Some(cell),
            _ => None,
        }
    }

    pub(super) fn is(&self, id: ActorId) -> bool {
        self.cell().is_some_and(|cell| cell.get_id() == id)
    }

    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.condition, Condition::Waiting)
    }

    pub(super) fn is_starting(&self) -> bool {
        matches!(self.condition, Condition::Starting(_))
    }

    pub(super) fn is_stopping(&self) -> bool {
        matches!(self.condition, Condition::Stopping(..))
    }

    /// Whether it is being stopped for good.
    pub(super) fn is_leaving(&self) -> bool {
        matches!(self.condition, Condition::Stopping(_, Then::Forget(_)))
    }

    /// Notes what kind of actor it turned out to be.
    pub(super) fn recognise(&mut self, cell: &ActorCell) {
        if cell.is_message_type_of::<SupervisorMessage>() == Some(true) {
            self.kind = NodeKind::Supervisor;
        } else if cell.is_message_type_of::<DynamicMessage>() == Some(true) {
            self.kind = NodeKind::Dynamic;
        }
    }

    pub(super) fn node_state(&self) -> NodeState {
        match self.condition {
            Condition::Waiting => NodeState::Waiting,
            Condition::Starting(_) => NodeState::Starting,
            Condition::Running(_) => NodeState::Running,
            Condition::Restarting => NodeState::Restarting,
            Condition::Stopping(..) => NodeState::Stopping,
            Condition::Stopped => NodeState::Stopped,
        }
    }
}
