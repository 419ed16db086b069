//! Stopping a child: asked first, killed when its time is over.

use std::time::Duration;

use ractor::ActorCell;

use crate::spec::Shutdown;

/// How long a killed actor may take to be gone. Only a handler that never yields outlives a kill, and nothing helps
/// against that but leaving it behind.
const AFTER_KILL: Duration = Duration::from_secs(1);

/// How a child went when it had to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Farewell {
    /// By itself, after it was asked or before.
    Stopped,
    /// It had to be killed.
    Killed,
    /// It is still there: some handler of it never yields.
    Left,
}

/// Stops one actor, and waits until it is gone or past help.
pub(crate) async fn stop(cell: &ActorCell, shutdown: Shutdown) -> Farewell {
    if let Shutdown::Within(time) = shutdown {
        cell.stop(Some("shutdown".to_owned()));
        if cell.wait(Some(time)).await.is_ok() {
            return Farewell::Stopped;
        }
    }
    cell.kill();
    match cell.wait(Some(AFTER_KILL)).await {
        Ok(()) => Farewell::Killed,
        Err(_) => Farewell::Left,
    }
}

/// An actor that is killed when this is dropped, unless it was released. It covers the awaits between taking a child
/// out of ractor's tree, which would kill it, and the moment it is somebody else's or gone.
#[derive(Debug)]
pub(crate) struct KillOnDrop(Option<ActorCell>);

impl KillOnDrop {
    pub(crate) fn new(cell: ActorCell) -> Self {
        Self(Some(cell))
    }

    pub(crate) fn cell(&self) -> Option<&ActorCell> {
        self.0.as_ref()
    }

    /// Waits until the actor is gone.
    pub(crate) async fn wait(&self) {
        if let Some(cell) = &self.0 {
            // Without a time limit the wait cannot fail.
            let _ = cell.wait(None).await;
        }
    }

    pub(crate) fn release(mut self) -> Option<ActorCell> {
        self.0.take()
    }
}

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        if let Some(cell) = self.0.take() {
            cell.kill();
        }
    }
}

/// Stops a child of `supervisor` from within the supervisor's own `post_stop`, where no event is handled any more.
///
/// The child is unlinked first: else its state would lie, sockets open, in the event in the supervisor's mailbox
/// until the supervisor itself is gone.
pub(crate) async fn part(supervisor: &ActorCell, cell: ActorCell, shutdown: Shutdown) -> Farewell {
    cell.unlink(supervisor.clone());
    let guard = KillOnDrop::new(cell.clone());
    let farewell = stop(&cell, shutdown).await;
    guard.release();
    farewell
}
