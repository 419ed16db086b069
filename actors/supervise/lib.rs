//! The supervisor kit: restart strategies, intensity, backoff, ordered shutdown, heartbeats.
//!
//! ractor gives actors, links and events; it restarts nothing and stops children by killing them. This crate adds
//! what a tree needs:
//!
//! * [`Supervisor`] keeps a list of children alive by a [`Strategy`], an [`Intensity`] and a [`Backoff`];
//! * [`Dynamic`] holds very many temporary children, counts them and lets them go in an orderly way;
//! * [`run_root`] runs a tree and tells how it ended ([`RootExit`]);
//! * [`Slot`], [`Hint`], [`Heartbeat`] and [`OwnedTask`] are what actors and their callers need to live in such a tree;
//! * [`Tasked`] is the actor that is nothing but one task.
//!
//! With the feature `chaos`, which only tests have, every actor can be made to crash, some to stand still, and every
//! message is counted.
//!
//! `semantics.rs` holds one test for each fact about ractor that all this stands on.

mod backoff;
#[cfg(feature = "chaos")]
pub mod census;
mod dynamic;
mod heartbeat;
mod hint;
#[cfg(feature = "chaos")]
pub mod reach;
mod root;
mod slot;
mod spawn;
mod spec;
mod stop;
mod supervisor;
mod task;
mod tasked;
mod tree;

#[cfg(test)]
mod probe;
#[cfg(test)]
mod semantics;

pub use backoff::{Backoff, Intensity};
pub use dynamic::{Drained, Dynamic, DynamicError, DynamicMessage};
pub use heartbeat::Heartbeat;
pub use hint::Hint;
pub use root::{RootExit, RootHandle, run_root};
pub use slot::{Slot, SlotError};
pub use spec::{
    BoxFuture, ChildSpec, Exhausted, Exhaustion, Restart, Shutdown, Strategy, SupervisorSpec,
    linked,
};
pub use supervisor::{ChildError, Supervisor, SupervisorMessage};
pub use task::{OwnedTask, Panicked, owned_task};
pub use tasked::{End, Tasked, TaskedMessage, TaskedState, Work};
pub use tree::{NodeKind, NodeState, TreeNode};
