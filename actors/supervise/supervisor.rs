//! Owns: its children, as a list in start order. Hears: their ends; requests to start, stop and list children.
//! Tells: its own supervisor, by failing, when restarts do not help. If it dies, ractor kills its children, and they
//! are started anew with it.
//!
//! It never waits: starting and stopping run in tasks it owns, which report by message. Every attempt to start, stop
//! or wait has a ticket of its own, and ends are matched by actor id, so whatever comes late matches nothing.

mod child;
mod fault;
mod state;
mod survey;

use std::fmt;

use ractor::{
    Actor, ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort, SpawnErr, SupervisionEvent,
};
use tokio::sync::oneshot;

use crate::heartbeat::Heartbeat;
use crate::root::RootExit;
use crate::spawn;
use crate::spec::{Exhaustion, SupervisorSpec};
use crate::stop::KillOnDrop;
use crate::tree::TreeNode;
use child::{Exit, Ticket};
use state::State;

/// What a [`Supervisor`] hears.
pub enum SupervisorMessage {
    /// Starts one more child, as the last. Answered when it runs. If its first start fails it is not kept.
    StartChild(
        crate::ChildSpec,
        RpcReplyPort<Result<ActorCell, ChildError>>,
    ),
    /// Stops a child for good and forgets it. Answered when it is gone.
    StopChild(String, RpcReplyPort<Result<(), ChildError>>),
    /// Lists the tree from here down. Supervisors below are asked with three quarters of the caller's timeout.
    Tree(RpcReplyPort<TreeNode>),
    /// Answered when nothing is being started or stopped, though a child may be waiting for its restart.
    Settled(RpcReplyPort<()>),
    /// What a supervisor tells itself.
    Inner(Inner),
    /// Names the children that run.
    #[cfg(feature = "chaos")]
    Children(RpcReplyPort<Vec<(String, ActorCell)>>),
    /// A test wants to see it crash.
    #[cfg(feature = "chaos")]
    Crash,
    /// A test wants to see it stand still.
    #[cfg(feature = "chaos")]
    Stick,
}

/// A message from a supervisor to itself; nobody else can make one.
pub struct Inner(Event);

#[derive(Debug)]
enum Event {
    Started(Ticket, Result<ActorCell, String>),
    Respawn(Ticket),
    Beat(Ticket),
    Gone(Ticket),
    Swept,
    Retry(Ticket),
    /// It is time for a sign of life of its own.
    Alive,
}

/// Names a message, without what it carries.
impl fmt::Debug for SupervisorMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StartChild(child, _) => f.debug_tuple("StartChild").field(&child.id).finish(),
            Self::StopChild(child, _) => f.debug_tuple("StopChild").field(child).finish(),
            Self::Tree(_) => f.write_str("Tree"),
            Self::Settled(_) => f.write_str("Settled"),
            Self::Inner(Inner(event)) => event.fmt(f),
            #[cfg(feature = "chaos")]
            Self::Children(_) => f.write_str("Children"),
            #[cfg(feature = "chaos")]
            Self::Crash => f.write_str("Crash"),
            #[cfg(feature = "chaos")]
            Self::Stick => f.write_str("Stick"),
        }
    }
}

impl From<Event> for SupervisorMessage {
    fn from(event: Event) -> Self {
        Self::Inner(Inner(event))
    }
}

/// Why a child was not started or stopped on request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChildError {
    /// There is a child of this id already.
    #[error("there is a child {0} already")]
    Duplicate(String),
    /// There is no child of this id.
    #[error("there is no child {0}")]
    Unknown(String),
    /// It did not start.
    #[error("the child did not start: {0}")]
    Failed(String),
    /// The supervisor is stopping its children, or isolated.
    #[error("the supervisor is not taking children now")]
    Unavailable,
}

/// Keeps its children alive. See [`SupervisorSpec`]; started by [`ChildSpec::supervisor`](crate::ChildSpec::supervisor)
/// or [`run_root`](crate::run_root).
#[derive(Debug, Clone, Copy)]
pub struct Supervisor;

/// What a [`Supervisor`] starts from; made from a [`SupervisorSpec`].
pub struct SupervisorArguments {
    spec: SupervisorSpec,
    above: Above,
}

/// Who looks after a supervisor.
pub(crate) enum Above {
    /// A supervisor, which looks whether this one beats.
    Supervisor(Heartbeat),
    /// Whoever runs the tree, and hears how it ended.
    Nobody(Option<oneshot::Sender<RootExit>>),
}

impl SupervisorArguments {
    pub(crate) fn root(spec: SupervisorSpec, verdict: oneshot::Sender<RootExit>) -> Self {
        let above = Above::Nobody(Some(verdict));
        Self { spec, above }
    }
}

/// Starts a supervisor below `parent`, and waits until each of its children was started once.
pub(crate) async fn start(
    spec: SupervisorSpec,
    heartbeat: Heartbeat,
    parent: ActorCell,
) -> Result<ActorCell, SpawnErr> {
    let above = Above::Supervisor(heartbeat);
    let actor = spawn::below(parent, Supervisor, SupervisorArguments { spec, above }).await?;
    // It is linked from here on but nobody's child yet, if this future is dropped while it waits.
    let guard = KillOnDrop::new(actor.get_cell());
    settled(&actor).await?;
    guard.release();
    Ok(actor.get_cell())
}

/// Waits until the supervisor has started each of its children once.
pub(crate) async fn settled(actor: &ActorRef<SupervisorMessage>) -> Result<(), SpawnErr> {
    match actor.call(SupervisorMessage::Settled, None).await {
        Ok(answer) if answer.is_success() => Ok(()),
        _ => Err(SpawnErr::StartupFailed(
            "it failed while it started its children".into(),
        )),
    }
}

impl Actor for Supervisor {
    type Msg = SupervisorMessage;
    type State = State;
    type Arguments = SupervisorArguments;

    async fn pre_start(
        &self,
        _myself: ActorRef<Self::Msg>,
        arguments: Self::Arguments,
    ) -> Result<State, ActorProcessingErr> {
        Ok(State::new(arguments.spec, arguments.above)?)
    }

    async fn post_start(
        &self,
        myself: ActorRef<Self::Msg>,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        state.beat(&myself);
        state.advance(&myself);
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SupervisorMessage::StartChild(spec, reply) => state.add(spec, reply),
            SupervisorMessage::StopChild(id, reply) => state.remove(&myself, &id, reply),
            SupervisorMessage::Tree(reply) => survey::answer(state, reply),
            SupervisorMessage::Settled(reply) => state.await_settled(reply),
            SupervisorMessage::Inner(Inner(event)) => {
                let is_look = matches!(event, Event::Beat(_) | Event::Alive);
                hear(&myself, event, state);
                if is_look {
                    // It leaves nothing to settle, and comes all the time.
                    return Ok(());
                }
            }
            #[cfg(feature = "chaos")]
            SupervisorMessage::Children(reply) => drop(reply.send(state.running())),
            #[cfg(feature = "chaos")]
            SupervisorMessage::Crash => panic!("a test wanted this"),
            #[cfg(feature = "chaos")]
            SupervisorMessage::Stick => std::future::pending().await,
        }
        Ok(state.settle(&myself)?)
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let (id, exit) = match event {
            SupervisionEvent::ActorTerminated(cell, last, reason) => {
                // The child's state holds its sockets and tasks: it goes before anything else happens.
                drop(last);
                (cell.get_id(), Exit::terminated(reason))
            }
            SupervisionEvent::ActorFailed(cell, error) => {
                (cell.get_id(), Exit::failed(error.to_string()))
            }
            SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => {
                return Ok(());
            }
        };
        state.ended(&myself, id, exit);
        Ok(state.settle(&myself)?)
    }

    async fn post_stop(
        &self,
        myself: ActorRef<Self::Msg>,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        state.dismiss(&myself).await;
        state.pronounce(RootExit::Stopped);
        Ok(())
    }
}

fn hear(myself: &ActorRef<SupervisorMessage>, event: Event, state: &mut State) {
    match event {
        Event::Started(ticket, Ok(cell)) => state.started(myself, ticket, cell),
        Event::Started(ticket, Err(reason)) => state.start_failed(myself, ticket, reason),
        Event::Respawn(ticket) => state.respawn(ticket),
        Event::Beat(ticket) => state.look(myself, ticket),
        Event::Gone(ticket) => state.gone(ticket),
        Event::Swept => state.swept(),
        Event::Retry(ticket) => state.retry(ticket),
        Event::Alive => state.beat(myself),
    }
}

impl From<&Exhaustion> for RootExit {
    fn from(exhaustion: &Exhaustion) -> Self {
        Self::Exhausted {
            child: exhaustion.child.clone(),
            reason: exhaustion.reason.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
