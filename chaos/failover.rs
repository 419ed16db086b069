//! Primaries are lost again and again while clients of all kinds go on, and what they were told is
//! compared with what is there.

mod fault;
mod health;
pub(crate) mod promoter;
mod run;
pub(crate) mod stage;

use std::path::PathBuf;

use pgherd_sandbox::Replication;

pub use fault::Fault;
pub use run::run;

pub use crate::report::{Pace, Report};

/// Who stands between the clients and the servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// pgherd, of which this is the executable; it has to find out itself who is the primary.
    Pgherd(PathBuf),
    /// PgBouncer, which is told by its console.
    Pgbouncer,
    /// PgBouncer behind which is HAProxy, which asks each server whether it leads, as is usual with Patroni.
    Haproxy,
    /// Nobody: the clients are told.
    Direct,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Who is tested.
    pub way: Way,
    /// How the servers replicate.
    pub replication: Replication,
    /// pgherd finds out what became of commits without an answer, and no client may be left without knowing.
    pub resolve: bool,
    /// pgherd reads from replicas, and clients must find there what they have written.
    pub reads: bool,
    /// How short the pauses have to be.
    pub pace: Pace,
    /// How often the primary is lost.
    pub failovers: usize,
    /// By which faults, in turn, in an order by chance.
    pub faults: Vec<Fault>,
    /// What decides about everything that is left to chance, but for the timing.
    pub seed: u64,
    /// Where the history is written; it stays if anything was wrong.
    pub history: PathBuf,
}
