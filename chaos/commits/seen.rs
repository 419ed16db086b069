//! What has come of a case.

use std::fmt;
use std::time::Duration;

use crate::checks::{Check, Wrong};

/// Something that was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lost {
    Proxy,
    Coordinator,
    Recovery,
    Server,
    Connection,
    Time,
}

impl Lost {
    /// Whether somebody has died.
    pub(super) fn is_crash(self) -> bool {
        !matches!(self, Self::Connection | Self::Time)
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Proxy => "proxies killed",
            Self::Coordinator => "coordinators crashed",
            Self::Recovery => "recoveries crashed",
            Self::Server => "servers killed",
            Self::Connection => "connections cut",
            Self::Time => "proxies frozen",
        })
    }
}

/// What has come of a case.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// What is not as it must be.
    pub(super) faults: Vec<Wrong>,
    /// What was lost, in order.
    pub(super) lost: Vec<Lost>,
    /// How many parts were prepared at that moment.
    pub(super) prepared: i64,
    /// How long it took from there until none was.
    pub(super) settled: Duration,
    /// What the client was told: a SQLSTATE or a word.
    pub(super) told: String,
    /// Whether the transaction is committed.
    pub(super) committed: bool,
}

impl Seen {
    /// Whether something was lost, or is wrong for another reason than that it was not.
    pub(super) fn came_to_pass(&self) -> bool {
        let is_wrong = |wrong: &Wrong| wrong.check != Check::Work;
        !self.lost.is_empty() || self.faults.is_empty() || self.faults.iter().any(is_wrong)
    }
}
