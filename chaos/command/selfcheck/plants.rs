//! Which bug is caught where, and by which check.

use pgherd_chaos::checks::Check;
use pgherd_planted::Bug;

/// A bug, the shortest scenario that shows it, and the check that must catch it there.
pub(super) struct Plant {
    pub(super) bug: Bug,
    pub(super) scenario: &'static str,
    pub(super) check: Check,
    /// Another one that may catch it in its place: chance decides which clients it befalls.
    pub(super) or: Option<Check>,
}

impl Plant {
    /// Whether one of these is there for it.
    pub(super) fn is_caught(&self, caught: &[Check]) -> bool {
        let mut there = [Some(self.check), self.or].into_iter().flatten();
        there.any(|check| caught.contains(&check))
    }
}

const fn plant(bug: Bug, scenario: &'static str, check: Check) -> Plant {
    Plant {
        bug,
        scenario,
        check,
        or: None,
    }
}

const fn or(plant: Plant, check: Check) -> Plant {
    Plant {
        or: Some(check),
        ..plant
    }
}

const KILL: &str = "failover --failovers 1 --faults kill";
/// A failover that is over at once may find nobody waiting.
const KILLS: &str = "failover --failovers 4 --faults kill";
const REVIVE: &str = "failover --failovers 2 --faults revive";
const READS: &str = "failover --failovers 1 --faults kill --reads";
/// Several, for at each of them nothing may be at its commit.
const RESOLVE: &str = "failover --failovers 6 --faults kill --resolve";
const LOSSES: &str = "failover --failovers 4 --faults kill --async --resolve";
const ANSWERS: &str = "canary --kind answers --clients 12 --seconds 5";
const CANCELS: &str = "canary --kind cancels --seconds 3";
const STATE: &str = "canary --kind state --seconds 3";
const LISTEN: &str = "canary --kind listen --seconds 3";
const INSERT: &str = "cuts --flow insert --side server --way reset --lanes 4";
const BLOCK: &str = "cuts --flow block --side server --way reset --lanes 4";
const FORWARD: &str = "commits --flow forward --faults proxy --every 8 --lanes 3";
const REPLICAS: &str = "replicas --rounds 2";
const MACHINES: &str = "simulate --machines --seeds 100";
const ACTORS: &str = "simulate --actors --seeds 24 --steps 12 --each";

/// All of them.
pub(super) const PLANTS: &[Plant] = &[
    plant(Bug::SkipEpochCheck, REVIVE, Check::OldPrimary),
    plant(Bug::SkipEpochCheck, MACHINES, Check::Verdict),
    plant(Bug::SkipEpochCheck, ACTORS, Check::OldPrimary),
    plant(Bug::SkipFence, MACHINES, Check::Epoch),
    plant(Bug::ReuseDuringCancel, CANCELS, Check::Cancel),
    plant(Bug::AckLostCommit, BLOCK, Check::Rows),
    plant(Bug::AckLostCommit, ACTORS, Check::Lost),
    plant(Bug::RetryWrite, INSERT, Check::Rows),
    plant(Bug::RetryWrite, ACTORS, Check::Doubled),
    plant(Bug::ForgetUndo, STATE, Check::Session),
    plant(Bug::LeakLease, KILL, Check::Leak),
    plant(Bug::LeakLease, ACTORS, Check::Leak),
    plant(Bug::LeakSession, LISTEN, Check::Leak),
    plant(Bug::StaleReads, READS, Check::OwnWrites),
    // Where the other client waits for something else, what it gets is none of the protocol's answers to that.
    or(
        plant(Bug::WrongClient, ANSWERS, Check::Identity),
        Check::Errors,
    ),
    plant(Bug::WrongListener, LISTEN, Check::Listen),
    plant(Bug::DropHold, KILLS, Check::Errors),
    plant(Bug::DropHold, ACTORS, Check::Errors),
    plant(Bug::CutIdle, KILL, Check::Idle),
    plant(Bug::CutIdle, ACTORS, Check::Idle),
    plant(Bug::TrustSilence, REPLICAS, Check::Rotation),
    plant(Bug::SkipDecision, FORWARD, Check::Whole),
    plant(Bug::SkipResolution, RESOLVE, Check::Unresolved),
    or(
        plant(Bug::TrustCommit, LOSSES, Check::Lost),
        Check::OwnWrites,
    ),
];
