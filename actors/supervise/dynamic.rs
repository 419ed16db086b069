//! Owns: very many temporary children, such as client sessions. Hears: their starts and ends, and the order to let
//! all of them go. Tells: how many there are, by a counter. If it dies its children are killed, and its next
//! incarnation begins with none.

use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use ractor::rpc::CallResult;
use ractor::{
    Actor, ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort, SpawnErr, SupervisionEvent,
};
use tokio::time::Instant;

use crate::heartbeat::Heartbeat;
use crate::spawn;
use crate::spec::{ChildSpec, Shutdown, linked};
use crate::stop::KillOnDrop;
use crate::tree::{NodeKind, NodeState, TreeNode};

/// No grace is longer, so that deadlines cannot overflow.
const LONGEST: Duration = Duration::from_secs(30 * 86_400);
/// How long killed children may take to be gone; only a handler that never yields outlives it.
const AFTER_KILL: Duration = Duration::from_secs(1);

/// What a [`Dynamic`] supervisor's actor hears; callers use the methods of [`Dynamic`].
#[derive(Debug)]
pub enum DynamicMessage {
    /// See [`Dynamic::stop_all`].
    StopAll {
        /// The time the children have before they are killed.
        within: Duration,
        /// Answered when none is left.
        reply: RpcReplyPort<Drained>,
    },
    /// The time of the [`StopAll`](Self::StopAll) is over.
    Deadline,
    /// Describes itself.
    Tree(RpcReplyPort<TreeNode>),
    /// It is time for a sign of life.
    Beat,
    /// A test wants to see it crash.
    #[cfg(feature = "chaos")]
    Crash,
    /// A test wants to see it stand still.
    #[cfg(feature = "chaos")]
    Stick,
}

/// How the children went that were told to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// How many there were.
    pub children: usize,
    /// How many of them had to be killed.
    pub killed: usize,
}

/// Why a [`Dynamic`] supervisor did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum DynamicError {
    /// It does not run now.
    #[error("the supervisor does not run")]
    Absent,
    /// It is letting its children go, and takes no more.
    #[error("the supervisor takes no more children")]
    Draining,
    /// Some child is still there after it was killed: one of its handlers never yields.
    #[error("a child outlived its kill")]
    Stuck,
    /// The child did not start.
    #[error("the child did not start")]
    Spawn(#[from] SpawnErr),
}

/// A supervisor of very many temporary children, as others hold it: it outlives the restarts of its actor.
///
/// Children are spawned by the caller, in the caller's task and on the caller's runtime, and only linked to the
/// supervisor. It keeps no entry of its own for a child; a child's end is counted, logged if it failed, and otherwise
/// without effect.
#[derive(Debug, Clone)]
pub struct Dynamic {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    name: String,
    present: ArcSwapOption<Incarnation>,
    failures: AtomicU64,
}

/// One life of the actor, with a counter of its own, so that nothing late can bend the count of the next.
#[derive(Debug)]
struct Incarnation {
    actor: ActorRef<DynamicMessage>,
    population: Arc<AtomicUsize>,
    draining: AtomicBool,
}

impl Dynamic {
    /// A supervisor that is not running yet; [`child`](Self::child) makes it part of a tree.
    pub fn new(name: impl Into<String>) -> Self {
        let shared = Shared {
            name: name.into(),
            present: ArcSwapOption::empty(),
            failures: AtomicU64::new(0),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// The permanent child that runs it, under its name. When it is stopped, its children have `grace` to stop and are
    /// then killed.
    #[must_use]
    pub fn child(&self, grace: Duration) -> ChildSpec {
        self.kept(grace, None)
    }

    /// As [`child`](Self::child), for children that may be lost if their supervisor is: it is killed when it hears nothing
    /// any more.
    #[must_use]
    pub fn beating_child(&self, grace: Duration, heartbeat: Heartbeat) -> ChildSpec {
        self.kept(grace, Some(heartbeat))
    }

    fn kept(&self, grace: Duration, heartbeat: Option<Heartbeat>) -> ChildSpec {
        let dynamic = self.clone();
        let beats = heartbeat.clone();
        let start = move |supervisor| {
            linked(
                supervisor,
                Keeper {
                    shared: Arc::clone(&dynamic.shared),
                    grace,
                    heartbeat: beats.clone(),
                },
                (),
            )
        };
        let spec = ChildSpec::permanent(self.shared.name.clone(), start).shutdown(
            Shutdown::Within(grace.saturating_add(Duration::from_secs(5))),
        );
        ChildSpec {
            kind: NodeKind::Dynamic,
            heartbeat,
            ..spec
        }
    }

    /// Spawns an actor as a child, in the caller's task.
    ///
    /// # Errors
    /// See [`DynamicError`]; the arguments are gone in any case.
    pub async fn spawn<A: Actor>(
        &self,
        actor: A,
        arguments: A::Arguments,
    ) -> Result<ActorRef<A::Msg>, DynamicError>
    where
        A::Msg: Debug,
    {
        let present = self
            .shared
            .present
            .load_full()
            .ok_or(DynamicError::Absent)?;
        if present.draining.load(Ordering::Acquire) {
            return Err(DynamicError::Draining);
        }
        let place = Place::take(&present.population);
        let supervisor = present.actor.get_cell();
        let child = spawn::below(supervisor, actor, arguments).await?;
        // Each linked child has exactly one end, and the supervisor counts it.
        place.keep();
        Ok(child)
    }

    /// How many children there are, those just being spawned included.
    #[must_use]
    pub fn count(&self) -> usize {
        let present = self.shared.present.load();
        present
            .as_deref()
            .map_or(0, |present| present.population.load(Ordering::Acquire))
    }

    /// The counter of the present incarnation, for who reads it often; `None` if it was never started.
    #[must_use]
    pub fn population(&self) -> Option<Arc<AtomicUsize>> {
        self.shared
            .present
            .load()
            .as_deref()
            .map(|present| Arc::clone(&present.population))
    }

    /// How many children failed by a panic, an error, a kill or an abort, over all incarnations.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.shared.failures.load(Ordering::Relaxed)
    }

    /// Asks all children to stop, waits until none is left, and kills those that are still there after `within`.
    /// No child is taken from now on, unless the actor is restarted.
    ///
    /// # Errors
    /// [`DynamicError::Absent`] if it does not run, or does not live to see the end; [`DynamicError::Stuck`] if not
    /// even killing helped.
    pub async fn stop_all(&self, within: Duration) -> Result<Drained, DynamicError> {
        let present = self
            .shared
            .present
            .load_full()
            .ok_or(DynamicError::Absent)?;
        present.draining.store(true, Ordering::Release);
        let request = |reply| DynamicMessage::StopAll { within, reply };
        let limit = within.min(LONGEST) + 2 * AFTER_KILL;
        match present.actor.call(request, Some(limit)).await {
            Ok(CallResult::Success(drained)) => Ok(drained),
            Ok(CallResult::Timeout) => Err(DynamicError::Stuck),
            _ => Err(DynamicError::Absent),
        }
    }
}

/// A place in the count, given back unless it is kept.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(population: &'a AtomicUsize) -> Self {
        population.fetch_add(1, Ordering::AcqRel);
        Self(population)
    }

    fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        leave(self.0);
    }
}

/// Counts one child less. Actors that were linked past [`Dynamic::spawn`] were never counted, so it stops at zero.
fn leave(population: &AtomicUsize) {
    let _ = population.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| n.checked_sub(1));
}

struct Keeper {
    shared: Arc<Shared>,
    grace: Duration,
    heartbeat: Option<Heartbeat>,
}

impl Keeper {
    fn beat(&self, myself: &ActorRef<DynamicMessage>) {
        if let Some(heartbeat) = &self.heartbeat {
            heartbeat.beat(myself, || DynamicMessage::Beat);
        }
    }
}

struct Kept {
    present: Arc<Incarnation>,
    since: Instant,
    last_failure: Option<String>,
    mode: Mode,
}

enum Mode {
    Taking,
    /// Children are being let go; those who asked for it wait.
    Draining {
        drained: Drained,
        waiting: Vec<RpcReplyPort<Drained>>,
    },
}

impl Actor for Keeper {
    type Msg = DynamicMessage;
    type State = Kept;
    type Arguments = ();

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        (): (),
    ) -> Result<Kept, ActorProcessingErr> {
        self.beat(&myself);
        let present = Arc::new(Incarnation {
            actor: myself,
            population: Arc::new(AtomicUsize::new(0)),
            draining: AtomicBool::new(false),
        });
        self.shared.present.store(Some(Arc::clone(&present)));
        Ok(Kept {
            present,
            since: Instant::now(),
            last_failure: None,
            mode: Mode::Taking,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Kept,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            DynamicMessage::StopAll { within, reply } => state.drain(&myself, within, reply),
            DynamicMessage::Deadline => state.cut(&myself),
            DynamicMessage::Tree(reply) => {
                // A caller that has gone does not mind.
                let _ = reply.send(state.node(&self.shared.name));
            }
            DynamicMessage::Beat => self.beat(&myself),
            #[cfg(feature = "chaos")]
            DynamicMessage::Crash => panic!("a test wanted this"),
            #[cfg(feature = "chaos")]
            DynamicMessage::Stick => std::future::pending().await,
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _myself: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        state: &mut Kept,
    ) -> Result<(), ActorProcessingErr> {
        let failure = match event {
            SupervisionEvent::ActorStarted(child) => {
                // It was under way when the others were asked to stop.
                if matches!(state.mode, Mode::Draining { .. }) {
                    child.stop(Some("drain".to_owned()));
                }
                return Ok(());
            }
            SupervisionEvent::ActorTerminated(_, last, reason) => {
                // The child's state holds its sockets and tasks: it goes before anything else happens.
                drop(last);
                reason.filter(|reason| reason == "killed" || reason == "actor_task_cancelled")
            }
            SupervisionEvent::ActorFailed(_, error) => Some(error.to_string()),
            SupervisionEvent::ProcessGroupChanged(_) => return Ok(()),
        };
        if let Some(reason) = failure {
            tracing::warn!(supervisor = self.shared.name, reason, "child failed");
            self.shared.failures.fetch_add(1, Ordering::Relaxed);
            state.last_failure = Some(reason);
        }
        leave(&state.present.population);
        state.finish();
        Ok(())
    }

    async fn post_stop(
        &self,
        myself: ActorRef<Self::Msg>,
        state: &mut Kept,
    ) -> Result<(), ActorProcessingErr> {
        state.present.draining.store(true, Ordering::Release);
        dismiss(&myself.get_cell(), self.grace).await;
        state.present.population.store(0, Ordering::Release);
        Ok(())
    }
}

impl Kept {
    fn drain(
        &mut self,
        myself: &ActorRef<DynamicMessage>,
        within: Duration,
        reply: RpcReplyPort<Drained>,
    ) {
        self.present.draining.store(true, Ordering::Release);
        if let Mode::Draining { waiting, .. } = &mut self.mode {
            waiting.retain(|reply| !reply.is_closed());
            waiting.push(reply);
        } else {
            let children = self.present.population.load(Ordering::Acquire);
            let drained = Drained {
                children,
                killed: 0,
            };
            self.mode = Mode::Draining {
                drained,
                waiting: vec![reply],
            };
            myself.stop_children(Some("drain".to_owned()));
        }
        // A second request may shorten the time, never lengthen it.
        drop(myself.send_after(within, || DynamicMessage::Deadline));
        self.finish();
    }

    fn cut(&mut self, myself: &ActorRef<DynamicMessage>) {
        let children = myself.get_children();
        if let Mode::Draining { drained, .. } = &mut self.mode {
            drained.killed += children.len();
        }
        for child in children {
            child.kill();
        }
    }

    /// Answers those who wait for the last child to go, if it has gone.
    fn finish(&mut self) {
        if self.present.population.load(Ordering::Acquire) > 0 {
            return;
        }
        if let Mode::Draining { drained, waiting } = &mut self.mode {
            for reply in waiting.drain(..) {
                // A caller that has gone does not mind.
                let _ = reply.send(*drained);
            }
        }
    }

    fn node(&self, name: &str) -> TreeNode {
        TreeNode {
            name: name.to_owned(),
            kind: NodeKind::Dynamic,
            state: match self.mode {
                Mode::Taking => NodeState::Running,
                Mode::Draining { .. } => NodeState::Stopping,
            },
            since: self.since,
            restarts: 0,
            last_failure: self.last_failure.clone(),
            population: Some(self.present.population.load(Ordering::Acquire)),
            children: Vec::new(),
        }
    }
}

/// Stops all children at once from within `post_stop`, where no event is handled any more: they are unlinked, so that
/// their states do not pile up in events, and killed if they outstay their time or this future is dropped.
async fn dismiss(supervisor: &ActorCell, grace: Duration) {
    let children: Vec<KillOnDrop> = supervisor
        .get_children()
        .into_iter()
        .map(|child| {
            child.unlink(supervisor.clone());
            child.stop(Some("shutdown".to_owned()));
            KillOnDrop::new(child)
        })
        .collect();
    let deadline = Instant::now() + grace.min(LONGEST);
    let children = gather(children, deadline, |_| {}).await;
    if !children.is_empty() {
        tracing::warn!(
            children = children.len(),
            "killing the children that did not stop"
        );
        let deadline = Instant::now() + AFTER_KILL;
        gather(children, deadline, ActorCell::kill).await;
    }
}

/// Waits for the children until the deadline; returns those that are still there.
async fn gather(
    children: Vec<KillOnDrop>,
    deadline: Instant,
    before: impl Fn(&ActorCell),
) -> Vec<KillOnDrop> {
    children
        .iter()
        .filter_map(KillOnDrop::cell)
        .for_each(before);
    let mut left = Vec::new();
    for child in children {
        if within(deadline, child.wait()).await {
            child.release();
        } else {
            left.push(child);
        }
    }
    left
}

async fn within(deadline: Instant, future: impl Future<Output = ()>) -> bool {
    tokio::time::timeout_at(deadline, future).await.is_ok()
}

#[cfg(test)]
mod tests;
