//! Runs a whole tree and tells how it ended.

use ractor::{ActorRef, SpawnErr};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::spawn;
use crate::spec::SupervisorSpec;
use crate::supervisor::{Supervisor, SupervisorArguments, SupervisorMessage, settled};

/// How a tree ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootExit {
    /// It was told to stop, and stopped its children in reverse order.
    Stopped,
    /// A child of the root failed more often than the root grants: the process cannot do its work.
    Exhausted {
        /// The child of the root.
        child: String,
        /// Why it failed the last time.
        reason: String,
    },
    /// The root was killed, or failed itself; its children were killed.
    Killed,
}

/// A running tree.
#[derive(Debug)]
pub struct RootHandle {
    /// The root: `actor.stop(None)` stops the tree in order, `actor.kill()` at once.
    pub actor: ActorRef<SupervisorMessage>,
    /// Ends with the root.
    pub join: JoinHandle<RootExit>,
}

/// Runs `spec` as the root of a tree. Returns when each child was started once, which is no promise that it succeeded:
/// how it goes on is told by the handle.
///
/// # Errors
/// If two children of the root have the same id.
pub async fn run_root(spec: SupervisorSpec) -> Result<RootHandle, SpawnErr> {
    let (verdict, heard) = oneshot::channel();
    let arguments = SupervisorArguments::root(spec, verdict);
    let (actor, ended) = spawn::alone(Supervisor, arguments).await?;
    let join = tokio::spawn(async move {
        // The root's state is gone only when its task has ended, so that is waited for whatever the verdict.
        let _ = ended.await;
        heard.await.unwrap_or(RootExit::Killed)
    });
    // A root that is exhausted by now says so through the handle.
    let _ = settled(&actor).await;
    Ok(RootHandle { actor, join })
}
