//! Parents of several kinds.

use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};
use tokio::sync::oneshot;

use crate::probe::{Journal, Remains};

/// Does all that ractor does by default.
pub(super) struct Naive;

impl Actor for Naive {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

/// Takes its time to start.
pub(super) struct Slow(pub(super) Duration);

impl Actor for Slow {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        tokio::time::sleep(self.0).await;
        Ok(())
    }
}

/// Stops its children before it ends.
pub(super) struct Caring;

impl Actor for Caring {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn post_stop(&self, myself: ActorRef<()>, (): &mut ()) -> Result<(), ActorProcessingErr> {
        myself.stop_children_and_wait(None, None).await;
        Ok(())
    }
}

/// Survives its children and notes what it hears of them.
pub(super) struct Watcher(pub(super) Journal);

pub(super) enum WatcherOrder {
    Note,
    Dwell(Duration),
    /// Spawns a task that answers after the actor is gone.
    Spawn(oneshot::Sender<&'static str>),
    Sync(RpcReplyPort<()>),
    Return(Arc<()>, RpcReplyPort<Arc<()>>),
}

impl Actor for Watcher {
    type Msg = WatcherOrder;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Self::Msg>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        order: WatcherOrder,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        match order {
            WatcherOrder::Note => self.0.note("watcher heard"),
            WatcherOrder::Dwell(time) => {
                self.0.note("watcher dwells");
                tokio::time::sleep(time).await;
            }
            WatcherOrder::Spawn(alive) => {
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    alive.send("the task ran on").unwrap();
                });
                self.0.note("watcher spawned");
            }
            WatcherOrder::Sync(reply) => reply.send(())?,
            WatcherOrder::Return(held, reply) => {
                if reply.send(held).is_err() {
                    self.0.note("watcher could not return it");
                }
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorStarted(_) => self.0.note("a started"),
            SupervisionEvent::ActorTerminated(_, state, reason) => {
                let with = state.is_some_and(|mut state| state.take::<Remains>().is_ok());
                self.0
                    .note(format!("terminated: {reason:?} with state: {with}"));
            }
            SupervisionEvent::ActorFailed(_, error) => self.0.note(format!("failed: {error}")),
            SupervisionEvent::ProcessGroupChanged(_) => {}
        }
        Ok(())
    }
}
