//! A task that an actor owns: it ends with its owner, and its panic becomes a message to its owner.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use ractor::{ActorRef, Message};
use tokio::task::AbortHandle;

/// A running task. Dropping this aborts it: `kill` ends an actor and drops its state, but does not touch tasks.
///
/// The abort takes effect at the task's next await, so what the task holds is let go a little later than the owner.
#[derive(Debug)]
#[must_use = "dropping an owned task aborts it"]
pub struct OwnedTask {
    handle: AbortHandle,
}

impl OwnedTask {
    /// Whether the task has ended, in whatever way.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }

    /// Aborts the task, as dropping does. Its owner hears nothing.
    pub fn abort(&self) {
        self.handle.abort();
    }
}

impl Drop for OwnedTask {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

/// The task panicked; this is what it said.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("panicked: {0}")]
pub struct Panicked(pub String);

/// Runs `future` as a task of `owner`, who hears by `done` of its end, good or bad. What the future held is dropped
/// before the message is sent. Nothing is sent if the task is aborted.
pub fn owned_task<M, F>(
    owner: &ActorRef<M>,
    future: F,
    done: impl FnOnce(Result<F::Output, Panicked>) -> M + Send + 'static,
) -> OwnedTask
where
    M: Message,
    F: Future + Send + 'static,
    F::Output: Send,
{
    let owner = owner.clone();
    let task = tokio::spawn(async move {
        let outcome = Caught(Some(Box::pin(future))).await;
        // An owner that is gone has dropped its handle too, so there is nobody left to tell.
        let _ = owner.cast(done(outcome));
    });
    OwnedTask {
        handle: task.abort_handle(),
    }
}

/// A future whose panic is its output.
struct Caught<F>(Option<Pin<Box<F>>>);

impl<F: Future> Future for Caught<F> {
    type Output = Result<F::Output, Panicked>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(future) = self.0.as_mut() else {
            return Poll::Ready(Err(Panicked("polled after its end".to_owned())));
        };
        let outcome = match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(output)) => Ok(output),
            Err(payload) => Err(Panicked(words(payload.as_ref()))),
        };
        self.0 = None;
        Poll::Ready(outcome)
    }
}

fn words(payload: &(dyn Any + Send)) -> String {
    match payload.downcast_ref::<&str>() {
        Some(words) => (*words).to_owned(),
        None => payload
            .downcast_ref::<String>()
            .cloned()
            .unwrap_or_else(|| "something other than words".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::{OwnedTask, Panicked, owned_task};
    use ractor::{Actor, ActorProcessingErr, ActorRef};
    use std::sync::Arc;
    use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

    /// Holds a task that never ends, and passes on what it hears.
    struct Owner(UnboundedSender<Result<u32, Panicked>>, Arc<()>);

    impl Actor for Owner {
        type Msg = Result<u32, Panicked>;
        type State = OwnedTask;
        type Arguments = ();

        async fn pre_start(
            &self,
            myself: ActorRef<Self::Msg>,
            (): (),
        ) -> Result<OwnedTask, ActorProcessingErr> {
            let held = Arc::clone(&self.1);
            let endless = async move {
                std::future::pending::<()>().await;
                drop(held);
                0
            };
            Ok(owned_task(&myself, endless, |outcome| outcome))
        }

        async fn handle(
            &self,
            _: ActorRef<Self::Msg>,
            heard: Self::Msg,
            _: &mut OwnedTask,
        ) -> Result<(), ActorProcessingErr> {
            Ok(self.0.send(heard)?)
        }
    }

    type Heard = UnboundedReceiver<Result<u32, Panicked>>;

    async fn owner() -> (ActorRef<Result<u32, Panicked>>, Heard, Arc<()>) {
        let (sender, receiver) = unbounded_channel();
        let held = Arc::new(());
        let owner = Owner(sender, Arc::clone(&held));
        (
            Actor::spawn(None, owner, ()).await.unwrap().0,
            receiver,
            held,
        )
    }

    #[tokio::test]
    async fn a_panic_is_told_after_all_was_let_go() {
        let (owner, mut heard, held) = owner().await;
        let before = Arc::strong_count(&held);
        let inner = Arc::clone(&held);
        let _task = owned_task(
            &owner,
            async move {
                let _inner = inner;
                tokio::task::yield_now().await;
                panic!("at {}", 7)
            },
            |outcome| outcome,
        );
        assert_eq!(heard.recv().await, Some(Err(Panicked("at 7".to_owned()))));
        assert_eq!(Arc::strong_count(&held), before);
        let _task = owned_task(&owner, async { 5 }, |outcome| outcome);
        assert_eq!(heard.recv().await, Some(Ok(5)));
    }

    #[tokio::test]
    async fn the_task_ends_with_a_killed_owner() {
        let (owner, mut heard, held) = owner().await;
        owner.kill();
        while Arc::strong_count(&held) > 1 {
            tokio::task::yield_now().await;
        }
        assert_eq!(
            heard.recv().await,
            None,
            "the owner is gone and heard nothing"
        );
    }
}
