//! The address of an actor for callers who outlive its restarts.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use ractor::rpc::CallResult;
use ractor::{ActorRef, Message, RpcReplyPort};

/// A cell that holds the present incarnation of an actor. The actor fills it in its `pre_start`; callers send through
/// it and never keep an [`ActorRef`] of their own.
#[derive(Debug)]
pub struct Slot<M> {
    inner: Arc<ArcSwapOption<ActorRef<M>>>,
}

/// Why a call through a [`Slot`] has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SlotError {
    /// Nobody is there: not started yet, restarting, or gone for good.
    #[error("the actor is not there")]
    Absent,
    /// It died, or let go of the request, before it answered. Whether it acted on it is unknown.
    #[error("the actor did not live to answer")]
    Dropped,
    /// No answer came in time. It may act on the request yet.
    #[error("the actor did not answer in time")]
    Timeout,
}

impl<M> Clone for Slot<M> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<M> Default for Slot<M> {
    fn default() -> Self {
        Self {
            inner: Arc::new(ArcSwapOption::empty()),
        }
    }
}

impl<M: Message> Slot<M> {
    /// An empty slot. Clones share what is in it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts the present incarnation in. To be called by the actor's `pre_start`.
    pub fn fill(&self, actor: ActorRef<M>) {
        self.inner.store(Some(Arc::new(actor)));
    }

    /// The present incarnation, dead or alive; `None` before the first start.
    #[must_use]
    pub fn get(&self) -> Option<ActorRef<M>> {
        self.inner.load().as_deref().cloned()
    }

    /// Sends a message. True if it lies in a living actor's mailbox, which is no promise that it will be handled.
    #[must_use]
    pub fn cast(&self, message: M) -> bool {
        self.inner
            .load()
            .as_deref()
            .is_some_and(|actor| actor.cast(message).is_ok())
    }

    /// Sends a request and waits for its answer at most `timeout`.
    ///
    /// # Errors
    /// See [`SlotError`]; only after [`SlotError::Absent`] it is certain that nothing was done.
    pub async fn call<T, F>(&self, request: F, timeout: Duration) -> Result<T, SlotError>
    where
        F: FnOnce(RpcReplyPort<T>) -> M,
        T: Send + 'static,
    {
        let actor = self.get().ok_or(SlotError::Absent)?;
        match actor.call(request, Some(timeout)).await {
            Ok(CallResult::Success(answer)) => Ok(answer),
            Ok(CallResult::SenderError) => Err(SlotError::Dropped),
            Ok(CallResult::Timeout) => Err(SlotError::Timeout),
            Err(_) => Err(SlotError::Absent),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Slot, SlotError};
    use crate::probe::{Journal, Order, Probe};
    use crate::{SupervisorMessage, SupervisorSpec, run_root};
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn a_slot_outlives_a_restart() {
        let journal = Journal::default();
        let probe = Probe::new("a", &journal);
        assert!(!probe.slot.cast(Order::Note("too early")));
        let _root = run_root(SupervisorSpec::new("root").child(probe.spec()))
            .await
            .unwrap();
        let first = probe.actor();
        probe.order(Order::Panic);
        journal.until("a dropped", 1).await;
        assert!(!probe.slot.cast(Order::Note("between")));
        journal.until("a up", 2).await;
        probe.order(Order::Note("heard"));
        journal.until("a heard", 1).await;
        assert_ne!(first, probe.actor());
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_tells_why_it_has_no_answer() {
        let second = Duration::from_secs(1);
        let slot = Slot::<SupervisorMessage>::new();
        let call = || slot.call(SupervisorMessage::Tree, second);
        assert_eq!(call().await.unwrap_err(), SlotError::Absent);
        let root = run_root(SupervisorSpec::new("root")).await.unwrap();
        slot.fill(root.actor.clone());
        assert_eq!(call().await.unwrap().name, "root");
        root.actor.stop(None);
        root.join.await.unwrap();
        assert_eq!(call().await.unwrap_err(), SlotError::Absent);
    }
}
