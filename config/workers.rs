use std::num::NonZeroUsize;

use crate::draft::Node;
use crate::section::Check;
use crate::setting::Setting;

section! {
    /// The threads that carry the traffic.
    pub struct Workers {
        /// How many.
        [Restart] count: WorkerCount,
    }
}

/// How many threads carry the traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerCount {
    /// Half the cores, at least one: the other half is Postgres' if it lives beside us, and the
    /// kernel's work for our sockets if it does not.
    Auto,
    /// As many as said.
    Exactly(NonZeroUsize),
}

impl WorkerCount {
    /// Gives the number of threads on a machine with so many cores.
    pub fn threads(self, cores: usize) -> NonZeroUsize {
        match self {
            Self::Auto => NonZeroUsize::new(cores / 2).unwrap_or(NonZeroUsize::MIN),
            Self::Exactly(count) => count,
        }
    }
}

impl Check for Workers {}

impl Setting for WorkerCount {
    fn allowed() -> String {
        "\"auto\", or a number from 1 to 1024".to_owned()
    }

    fn parse(node: &Node) -> Option<Self> {
        if node.text() == Some("auto") {
            return Some(Self::Auto);
        }
        let count = NonZeroUsize::parse(node).filter(|count| count.get() <= 1024)?;
        Some(Self::Exactly(count))
    }

    fn show(&self) -> String {
        match self {
            Self::Auto => "auto".to_owned(),
            Self::Exactly(count) => count.to_string(),
        }
    }
}
