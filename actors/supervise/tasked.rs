//! An actor whose whole life is one task: the frame that such actors share.

use std::future::Future;
#[cfg(feature = "chaos")]
use std::pin::Pin;
#[cfg(feature = "chaos")]
use std::sync::Arc;
#[cfg(feature = "chaos")]
use std::sync::atomic::{AtomicBool, Ordering};
#[cfg(feature = "chaos")]
use std::task::{Context, Poll};

use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};

use crate::task::{OwnedTask, Panicked, owned_task};

/// What a [`Tasked`] actor does.
pub trait Work: Send + Sync + 'static {
    /// What the task is made from.
    type Arguments: Send + 'static;

    /// The task. Its end decides what becomes of the actor; its panic is the actor's failure.
    fn run(arguments: Self::Arguments) -> impl Future<Output = End> + Send + 'static;
}

/// What becomes of a [`Tasked`] actor when its task has ended by itself.
#[derive(Debug)]
pub enum End {
    /// It stops; a permanent one is started again.
    Stop,
    /// It stays, with nothing to do any more, so that nobody starts another.
    Stay,
    /// It fails.
    Fail(ActorProcessingErr),
}

/// An actor that owns one task and does nothing else.
///
/// The task begins with the actor. It is aborted when the actor stops, is killed or panics, and lets go of what it
/// holds at its next await.
///
/// Its mailbox says nothing of the task: one that is to be known to be stuck has a [`Heartbeat`](crate::Heartbeat) among
/// its arguments, and advances it in its loop.
#[derive(Debug, Clone, Copy)]
pub struct Tasked<W>(pub W);

/// What a [`Tasked`] actor hears.
#[derive(Debug)]
pub enum TaskedMessage {
    /// Its task has ended.
    Ended(Result<End, Panicked>),
    /// A test wants to see it crash.
    #[cfg(feature = "chaos")]
    Crash,
    /// A test wants to see its task stand still.
    #[cfg(feature = "chaos")]
    Stick,
}

/// What a [`Tasked`] actor keeps.
#[derive(Debug)]
pub struct TaskedState {
    _task: OwnedTask,
    #[cfg(feature = "chaos")]
    stuck: Arc<AtomicBool>,
}

impl<W: Work> Actor for Tasked<W> {
    type Msg = TaskedMessage;
    type State = TaskedState;
    type Arguments = W::Arguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        arguments: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let task = W::run(arguments);
        #[cfg(feature = "chaos")]
        let stuck = Arc::new(AtomicBool::new(false));
        #[cfg(feature = "chaos")]
        let task = Stickable {
            task: Box::pin(task),
            stuck: Arc::clone(&stuck),
        };
        Ok(TaskedState {
            _task: owned_task(&myself, task, TaskedMessage::Ended),
            #[cfg(feature = "chaos")]
            stuck,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        #[cfg_attr(
            not(feature = "chaos"),
            allow(unused_variables, reason = "only tests have a task stand still")
        )]
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            TaskedMessage::Ended(Ok(End::Stop)) => myself.stop(None),
            TaskedMessage::Ended(Ok(End::Stay)) => {}
            TaskedMessage::Ended(Ok(End::Fail(error))) => return Err(error),
            TaskedMessage::Ended(Err(panicked)) => return Err(panicked.into()),
            #[cfg(feature = "chaos")]
            TaskedMessage::Crash => panic!("a test wanted this"),
            #[cfg(feature = "chaos")]
            TaskedMessage::Stick => state.stuck.store(true, Ordering::Relaxed),
        }
        Ok(())
    }

    /// It has no children.
    async fn handle_supervisor_evt(
        &self,
        _myself: ActorRef<Self::Msg>,
        _event: SupervisionEvent,
        _state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

/// A task that stands still once a test wants it.
#[cfg(feature = "chaos")]
struct Stickable<F> {
    task: Pin<Box<F>>,
    stuck: Arc<AtomicBool>,
}

#[cfg(feature = "chaos")]
impl<F: Future> Future for Stickable<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        match self.stuck.load(Ordering::Relaxed) {
            true => Poll::Pending,
            false => self.task.as_mut().poll(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use ractor::ActorCell;
    use ractor::rpc::CallResult;
    use tokio::sync::oneshot;

    use super::{End, Tasked, Work};
    use crate::{
        ChildSpec, NodeState, RootHandle, SupervisorMessage, SupervisorSpec, TreeNode, linked,
        run_root,
    };

    /// Waits for an order, and holds something meanwhile.
    struct Waits;

    struct Orders(Arc<()>, oneshot::Receiver<End>);

    impl Work for Waits {
        type Arguments = Orders;

        async fn run(orders: Orders) -> End {
            let Orders(held, order) = orders;
            let end = order.await.unwrap();
            drop(held);
            end
        }
    }

    /// A tree with one such actor that is never started again, its orders, and what it holds.
    async fn house() -> (RootHandle, oneshot::Sender<End>, Arc<()>) {
        let (order, orders) = oneshot::channel();
        let held = Arc::new(());
        let orders = parking_lot::Mutex::new(Some(Orders(Arc::clone(&held), orders)));
        let child = ChildSpec::temporary("waits", move |supervisor| {
            let orders = orders.lock().take().unwrap();
            linked(supervisor, Tasked(Waits), orders)
        });
        let root = run_root(SupervisorSpec::new("root").child(child)).await;
        (root.unwrap(), order, held)
    }

    async fn child(root: &RootHandle) -> TreeNode {
        match root.actor.call(SupervisorMessage::Tree, None).await {
            Ok(CallResult::Success(mut tree)) => tree.children.remove(0),
            other => panic!("{other:?}"),
        }
    }

    /// The state and the last failure of the child, once it has ended and what it held is free.
    async fn after(root: &RootHandle, held: &Arc<()>) -> (NodeState, Option<String>) {
        loop {
            let child = child(root).await;
            if child.state != NodeState::Running && Arc::strong_count(held) == 1 {
                return (child.state, child.last_failure);
            }
        }
    }

    fn only(root: &RootHandle) -> ActorCell {
        root.actor.get_children().remove(0)
    }

    #[tokio::test]
    async fn the_end_of_the_task_decides() {
        let (root, order, held) = house().await;
        order.send(End::Stop).unwrap();
        assert_eq!(after(&root, &held).await, (NodeState::Stopped, None));

        let (root, order, held) = house().await;
        order.send(End::Fail("no more".into())).unwrap();
        let failed = (NodeState::Stopped, Some("no more".to_owned()));
        assert_eq!(after(&root, &held).await, failed);

        let (root, order, held) = house().await;
        drop(order);
        let (state, why) = after(&root, &held).await;
        assert_eq!(state, NodeState::Stopped);
        assert!(why.is_some_and(|why| why.starts_with("panicked: ")));
    }

    #[tokio::test(start_paused = true)]
    async fn an_actor_may_outlive_its_task() {
        let (root, order, held) = house().await;
        order.send(End::Stay).unwrap();
        let actor = only(&root);
        // Time passes only when nobody has anything left to do.
        let waited = actor.wait(Some(Duration::from_secs(1))).await;
        assert!(waited.is_err(), "it has ended");
        assert_eq!(Arc::strong_count(&held), 1, "the task has not ended");
        actor.stop(None);
        assert_eq!(after(&root, &held).await, (NodeState::Stopped, None));
    }

    #[tokio::test]
    async fn the_task_ends_with_its_actor() {
        let (root, _order, held) = house().await;
        only(&root).kill();
        let killed = (NodeState::Stopped, Some("killed".to_owned()));
        assert_eq!(after(&root, &held).await, killed);

        let (root, _order, held) = house().await;
        only(&root).stop(None);
        assert_eq!(after(&root, &held).await, (NodeState::Stopped, None));
    }
}
