//! What the supervision tree looks like at a moment, for `SHOW TREE`.

use tokio::time::Instant;

/// One node of the tree with all that is below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeNode {
    /// The id its supervisor knows it by.
    pub name: String,
    /// What it is.
    pub kind: NodeKind,
    /// How it is.
    pub state: NodeState,
    /// Since when it is so.
    pub since: Instant,
    /// How often its supervisor has started it again.
    pub restarts: u64,
    /// Why it last failed, if it ever did.
    pub last_failure: Option<String>,
    /// For a [`NodeKind::Dynamic`], how many children it has; they are not listed.
    pub population: Option<usize>,
    /// The children in start order.
    pub children: Vec<Self>,
}

/// What a node of the tree is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeKind {
    /// An actor that is not known to have children.
    Worker,
    /// A [`Supervisor`](crate::Supervisor).
    Supervisor,
    /// A [`Dynamic`](crate::Dynamic) supervisor of very many.
    Dynamic,
}

/// How a node of the tree is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeState {
    /// Waits for those before it.
    Waiting,
    /// Is being started.
    Starting,
    /// Runs.
    Running,
    /// Runs, but did not answer when it was asked for its children.
    Silent,
    /// Failed, and waits to be started again.
    Restarting,
    /// Is being stopped.
    Stopping,
    /// Has ended and will not be started again.
    Stopped,
    /// Failed too often; all its children are stopped until it tries again.
    Isolated,
}

impl std::fmt::Display for NodeKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Worker => "worker",
            Self::Supervisor => "supervisor",
            Self::Dynamic => "dynamic",
        })
    }
}

impl std::fmt::Display for NodeState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Waiting => "waiting",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Silent => "silent",
            Self::Restarting => "restarting",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Isolated => "isolated",
        })
    }
}

impl TreeNode {
    /// The node with this name at or below this one.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Self> {
        if self.name == name {
            return Some(self);
        }
        self.children.iter().find_map(|child| child.find(name))
    }
}
