//! Bugs that a chaos build can be given on purpose: a check that has never failed shows nothing.
//!
//! Where the code does the right thing, it asks [`is`] whether it is to do the wrong one. In the executable that is
//! released this function is `false` for all the compiler knows, and nothing of the bug is left; only a build with
//! the feature `bugs` (which pgherd-chaos has) and with debug assertions looks at the variable [`VARIABLE`].

use std::fmt;

/// The variable of the environment that names the bug.
pub const VARIABLE: &str = "CHAOS_PLANT";

/// What can be done wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// The timelines of hosts are not compared: writes may go to a primary that was replaced.
    SkipEpochCheck,
    /// A pool that is led elsewhere keeps what was opened in earlier epochs.
    SkipFence,
    /// A connection goes back to its pool while a cancel request is on its way to it.
    ReuseDuringCancel,
    /// A client is told COMMIT although the answer to it was lost.
    AckLostCommit,
    /// A write that may have run is sent again.
    RetryWrite,
    /// What one client has set stays for the next.
    ForgetUndo,
    /// Some leases whose server was lost are never given back.
    LeakLease,
    /// A session that has ended stays in the list of sessions.
    LeakSession,
    /// A replica that is behind a client's own write is read from by it.
    StaleReads,
    /// What is still owed to a client that has left is given to the next one.
    WrongClient,
    /// A notification goes to all who listen to anything.
    WrongListener,
    /// Work that had not begun gets an error in a failover.
    DropHold,
    /// Idle clients are cut off in a failover.
    CutIdle,
    /// A replica that does not answer is read from for as long as it does not say that it is ill.
    TrustSilence,
    /// What a proxy has left prepared is rolled back, whatever the decider's row says.
    SkipDecision,
    /// Nobody asks what became of a commit whose answer was lost.
    SkipResolution,
    /// A commit whose answer was lost is taken for one, whatever the histories of the servers say.
    TrustCommit,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::SkipEpochCheck,
        Self::SkipFence,
        Self::ReuseDuringCancel,
        Self::AckLostCommit,
        Self::RetryWrite,
        Self::ForgetUndo,
        Self::LeakLease,
        Self::LeakSession,
        Self::StaleReads,
        Self::WrongClient,
        Self::WrongListener,
        Self::DropHold,
        Self::CutIdle,
        Self::TrustSilence,
        Self::SkipDecision,
        Self::SkipResolution,
        Self::TrustCommit,
    ];

    /// Its name, as [`VARIABLE`] has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SkipEpochCheck => "skip-epoch-check",
            Self::SkipFence => "skip-fence",
            Self::ReuseDuringCancel => "reuse-during-cancel",
            Self::AckLostCommit => "ack-lost-commit",
            Self::RetryWrite => "retry-write",
            Self::ForgetUndo => "forget-undo",
            Self::LeakLease => "leak-lease",
            Self::LeakSession => "leak-session",
            Self::StaleReads => "stale-reads",
            Self::WrongClient => "wrong-client",
            Self::WrongListener => "wrong-listener",
            Self::DropHold => "drop-hold",
            Self::CutIdle => "cut-idle",
            Self::TrustSilence => "trust-silence",
            Self::SkipDecision => "skip-decision",
            Self::SkipResolution => "skip-resolution",
            Self::TrustCommit => "trust-commit",
        }
    }
}

impl fmt::Display for Bug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Whether this bug is planted.
#[cfg(all(feature = "bugs", debug_assertions))]
#[must_use]
pub fn is(bug: Bug) -> bool {
    std::env::var_os(VARIABLE).is_some_and(|planted| planted == bug.name())
}

/// Whether this bug is planted, which none can be in this build.
#[cfg(not(all(feature = "bugs", debug_assertions)))]
#[must_use]
#[inline(always)]
pub const fn is(_: Bug) -> bool {
    false
}

/// Whether bugs can be planted in this build.
#[must_use]
pub const fn is_possible() -> bool {
    cfg!(all(feature = "bugs", debug_assertions))
}

#[cfg(test)]
mod tests {
    use super::{Bug, is};

    #[test]
    fn nothing_is_planted_unless_it_is_wanted() {
        for (number, bug) in Bug::ALL.into_iter().enumerate() {
            assert!(!is(bug), "{bug}");
            let others = &Bug::ALL[number + 1..];
            assert!(others.iter().all(|other| other.name() != bug.name()));
        }
    }
}
