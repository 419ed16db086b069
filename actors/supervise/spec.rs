//! What an operator of a tree says: which children, how they are restarted, what happens when that does not help.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use ractor::{Actor, ActorCell, SpawnErr};

use crate::backoff::{Backoff, Intensity};
use crate::heartbeat::Heartbeat;
use crate::spawn;
use crate::tree::NodeKind;

/// A boxed future that may move between threads.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

pub(crate) type Start =
    Box<dyn Fn(ActorCell) -> BoxFuture<Result<ActorCell, SpawnErr>> + Send + Sync>;

const SHUTDOWN: Duration = Duration::from_secs(5);
const SUPERVISOR_SHUTDOWN: Duration = Duration::from_secs(60);
const START_WITHIN: Duration = Duration::from_secs(30);
const SUPERVISOR_BEAT: Duration = Duration::from_secs(10);

/// When a child is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// Whenever it ends.
    Permanent,
    /// When it ends abnormally: by a panic, an error, a kill or an abort.
    Transient,
    /// Never.
    Temporary,
}

/// How a child is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// It is asked to stop, runs its `post_stop`, and is killed if it is still there after this time.
    Within(Duration),
    /// It is killed at once.
    Kill,
}

/// A child and how it is kept.
pub struct ChildSpec {
    /// Its name among its siblings; no two may be equal.
    pub id: String,
    /// When it is started again.
    pub restart: Restart,
    /// How it is stopped.
    pub shutdown: Shutdown,
    /// If set, a child that stops beating is killed, and then restarted like any killed child.
    pub heartbeat: Option<Heartbeat>,
    /// A start that takes longer than this has failed.
    pub start_within: Duration,
    /// What `SHOW TREE` calls it.
    pub kind: NodeKind,
    /// Spawns the actor linked to the supervisor that is handed over. It runs in a task of its own, so a slow one
    /// delays nobody but those that have to start after it. It is dropped when its time is over.
    pub start: Start,
}

impl fmt::Debug for ChildSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildSpec")
            .field("id", &self.id)
            .field("restart", &self.restart)
            .field("shutdown", &self.shutdown)
            .finish_non_exhaustive()
    }
}

impl ChildSpec {
    /// A child with 5 s to stop and 30 s to start. [`linked`] is the usual body of `start`:
    ///
    /// ```ignore
    /// ChildSpec::new("router", Restart::Permanent, move |supervisor| {
    ///     linked(supervisor, Router, RouterArguments { slot: slot.clone() })
    /// })
    /// ```
    pub fn new<F, R>(id: impl Into<String>, restart: Restart, start: F) -> Self
    where
        F: Fn(ActorCell) -> R + Send + Sync + 'static,
        R: Future<Output = Result<ActorCell, SpawnErr>> + Send + 'static,
    {
        Self {
            id: id.into(),
            restart,
            shutdown: Shutdown::Within(SHUTDOWN),
            heartbeat: None,
            start_within: START_WITHIN,
            kind: NodeKind::Worker,
            start: Box::new(move |supervisor| Box::pin(start(supervisor))),
        }
    }

    /// A child that is started again whenever it ends.
    pub fn permanent<F, R>(id: impl Into<String>, start: F) -> Self
    where
        F: Fn(ActorCell) -> R + Send + Sync + 'static,
        R: Future<Output = Result<ActorCell, SpawnErr>> + Send + 'static,
    {
        Self::new(id, Restart::Permanent, start)
    }

    /// A child that is started again when it ends abnormally.
    pub fn transient<F, R>(id: impl Into<String>, start: F) -> Self
    where
        F: Fn(ActorCell) -> R + Send + Sync + 'static,
        R: Future<Output = Result<ActorCell, SpawnErr>> + Send + 'static,
    {
        Self::new(id, Restart::Transient, start)
    }

    /// A child that is never started again.
    pub fn temporary<F, R>(id: impl Into<String>, start: F) -> Self
    where
        F: Fn(ActorCell) -> R + Send + Sync + 'static,
        R: Future<Output = Result<ActorCell, SpawnErr>> + Send + 'static,
    {
        Self::new(id, Restart::Temporary, start)
    }

    /// A permanent child that is itself a supervisor, described anew by `spec` for every start. Its id is the name in
    /// the spec. It counts as started when each of its children was started once, and has 60 s to stop, since it
    /// stops its own children meanwhile. It beats every 10 s: one that hears nothing any more is killed, and its children
    /// with it, which are started anew.
    pub fn supervisor(spec: impl Fn() -> SupervisorSpec + Send + Sync + 'static) -> Self {
        let name = spec().name;
        let heartbeat = Heartbeat::new(SUPERVISOR_BEAT);
        let beats = heartbeat.clone();
        let start = move |parent| crate::supervisor::start(spec(), beats.clone(), parent);
        Self {
            shutdown: Shutdown::Within(SUPERVISOR_SHUTDOWN),
            kind: NodeKind::Supervisor,
            heartbeat: Some(heartbeat),
            ..Self::permanent(name, start)
        }
    }

    /// The same child with another way to be stopped.
    #[must_use]
    pub fn shutdown(self, shutdown: Shutdown) -> Self {
        Self { shutdown, ..self }
    }

    /// The same child with another rule of restart.
    #[must_use]
    pub fn restart(self, restart: Restart) -> Self {
        Self { restart, ..self }
    }

    /// The same child, watched for signs of life.
    #[must_use]
    pub fn heartbeat(self, heartbeat: Heartbeat) -> Self {
        Self {
            heartbeat: Some(heartbeat),
            ..self
        }
    }

    /// The same child, whose silence is borne: to end it would cost more than that it hears nothing.
    #[must_use]
    pub fn unwatched(self) -> Self {
        Self {
            heartbeat: None,
            ..self
        }
    }

    /// The same child with another time to start.
    #[must_use]
    pub fn start_within(self, start_within: Duration) -> Self {
        Self {
            start_within,
            ..self
        }
    }
}

/// Spawns an unnamed actor linked to `supervisor`: the usual body of a child's start.
///
/// # Errors
/// Those of its `pre_start`, a panic in it included.
pub async fn linked<A: Actor>(
    supervisor: ActorCell,
    actor: A,
    arguments: A::Arguments,
) -> Result<ActorCell, SpawnErr>
where
    A::Msg: fmt::Debug,
{
    let child = spawn::below(supervisor, actor, arguments).await?;
    Ok(child.get_cell())
}

/// Who is restarted when a child has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// That child alone.
    OneForOne,
    /// That child and all that were started after it: they are stopped, last first, and started again in order.
    RestForOne,
}

/// What a supervisor does when its children fail more often than its [`Intensity`] grants.
pub enum Exhausted {
    /// It stops its children, last first, and fails with an [`Exhaustion`]: its own supervisor has to act.
    Escalate,
    /// It stops its children, last first, tells of it, and tries again later: first after the longest wait of its
    /// [`Backoff`], then twice that, up to eight times. Its own supervisor sees nothing of it.
    Isolate(Box<dyn Fn(&Exhaustion) + Send + Sync>),
}

impl Exhausted {
    /// [`Exhausted::Isolate`] with what is to be told. It is called by the supervisor itself, so it must not wait.
    pub fn isolate(told: impl Fn(&Exhaustion) + Send + Sync + 'static) -> Self {
        Self::Isolate(Box::new(told))
    }
}

impl fmt::Debug for Exhausted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Escalate => "Escalate",
            Self::Isolate(_) => "Isolate",
        })
    }
}

/// A supervisor's children failed more often than it grants.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{child} of {supervisor} is beyond repair: {reason}")]
pub struct Exhaustion {
    /// The supervisor that gave up.
    pub supervisor: String,
    /// The child whose failure was one too many.
    pub child: String,
    /// Why that child failed.
    pub reason: String,
}

/// A supervisor and its children.
#[derive(Debug)]
pub struct SupervisorSpec {
    /// Its name in the tree.
    pub name: String,
    /// Who is restarted when a child has failed.
    pub strategy: Strategy,
    /// How many restarts are granted.
    pub intensity: Intensity,
    /// How long a restart waits.
    pub backoff: Backoff,
    /// The children in start order; they are stopped in the reverse.
    pub children: Vec<ChildSpec>,
    /// What happens when restarts do not help.
    pub when_exhausted: Exhausted,
}

impl SupervisorSpec {
    /// A supervisor without children that restarts one for one and escalates, with the default intensity and backoff.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            strategy: Strategy::OneForOne,
            intensity: Intensity::default(),
            backoff: Backoff::default(),
            children: Vec::new(),
            when_exhausted: Exhausted::Escalate,
        }
    }

    /// The same supervisor with one child more, the last to start.
    #[must_use]
    pub fn child(mut self, child: ChildSpec) -> Self {
        self.children.push(child);
        self
    }

    /// The same supervisor with another strategy.
    #[must_use]
    pub fn strategy(self, strategy: Strategy) -> Self {
        Self { strategy, ..self }
    }

    /// The same supervisor with another intensity.
    #[must_use]
    pub fn intensity(self, intensity: Intensity) -> Self {
        Self { intensity, ..self }
    }

    /// The same supervisor with another backoff.
    #[must_use]
    pub fn backoff(self, backoff: Backoff) -> Self {
        Self { backoff, ..self }
    }

    /// The same supervisor with another last resort.
    #[must_use]
    pub fn when_exhausted(self, when_exhausted: Exhausted) -> Self {
        Self {
            when_exhausted,
            ..self
        }
    }
}
