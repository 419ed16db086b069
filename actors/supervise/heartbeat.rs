//! A sign of life: a counter that an actor advances, from its own mailbox or from the loop of its task, and its supervisor
//! looks at.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ractor::{ActorRef, Message};

/// The counter a child advances and how often it does so.
///
/// A supervisor kills a child whose counter has not advanced for `3 * every`: an actor that is alive but stuck in a
/// handler answers nobody, and ractor never notices. The same heartbeat goes to the [`ChildSpec`](crate::ChildSpec)
/// and, as an argument, to each incarnation of the actor:
///
/// ```ignore
/// // pre_start:            arguments.heartbeat.beat(&myself, || Message::Beat);
/// // handle Message::Beat: state.heartbeat.beat(&myself, || Message::Beat);
/// ```
#[derive(Debug, Clone)]
pub struct Heartbeat {
    /// Advanced by the child; only a change matters.
    pub progress: Arc<AtomicU64>,
    /// The longest time the child should let pass between two beats.
    pub every: Duration,
}

impl Heartbeat {
    /// A heartbeat that stands at zero.
    #[must_use]
    pub fn new(every: Duration) -> Self {
        Self {
            progress: Arc::new(AtomicU64::new(0)),
            every,
        }
    }

    /// Advances the counter and has `message` sent to the actor itself after `every`. Called again by the handler of
    /// that message it keeps beating, with at most one message in the mailbox, and it stops when the actor is stuck.
    pub fn beat<M: Message>(&self, myself: &ActorRef<M>, message: fn() -> M) {
        self.touch();
        // The timer ends by itself: it sends once, to an actor that may be gone by then.
        drop(myself.send_after(self.every, message));
    }

    /// Advances the counter alone, for actors that have a rhythm of their own.
    pub fn touch(&self) {
        self.progress.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits for what may take any time, and beats meanwhile. The loop of a task is all right as long as it stands here; one
    /// that stands anywhere else for three beats is stuck.
    pub async fn through<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        loop {
            self.touch();
            if let Ok(output) = tokio::time::timeout(self.every, future.as_mut()).await {
                self.touch();
                return output;
            }
        }
    }

    pub(crate) fn read(&self) -> u64 {
        self.progress.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::time::Duration;

    use tokio::time::{sleep, timeout};

    use super::Heartbeat;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn it_beats_while_somebody_waits_through_it() {
        let heartbeat = Heartbeat::new(SECOND);
        assert!(
            timeout(SECOND * 10, heartbeat.through(pending::<()>()))
                .await
                .is_err()
        );
        let beats = heartbeat.read();
        assert!((10..=11).contains(&beats), "{beats}");
        sleep(SECOND * 10).await;
        assert_eq!(heartbeat.read(), beats, "nobody waits any more");
        assert_eq!(heartbeat.through(async { 7 }).await, 7);
    }
}
