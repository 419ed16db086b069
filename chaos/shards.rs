//! A database over two shards, each a cluster of its own, before which stand two proxies: primaries are lost and proxies
//! killed while money moves from shard to shard, and what clients were told is compared with what is there.

mod fault;
mod readers;
mod run;
mod stage;

use std::path::PathBuf;

pub use fault::Fault;
pub use run::run;

pub use crate::report::Report;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The executable; without the feature `chaos` it knows nothing of [`Fault::Coordinators`].
    pub pgherd: PathBuf,
    /// How often something is lost.
    pub rounds: usize,
    /// By which faults, in turn, in an order by chance.
    pub faults: Vec<Fault>,
    /// What decides about everything that is left to chance, but for the timing.
    pub seed: u64,
    /// Where the history is written; it stays if anything was wrong.
    pub history: PathBuf,
}
