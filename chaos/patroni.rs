//! Three nodes of Patroni with etcd, each in a network of its own, are broken in all ways that a
//! failover manager knows, while clients of all kinds go on.

mod cluster;
mod cut;
mod etcd;
mod fault;
mod needs;
mod network;
mod node;
mod place;
mod rest;
mod run;
mod settings;
mod stage;
mod watch;

use std::path::PathBuf;

use pgherd_sandbox::Replication;

pub use fault::Fault;
pub use needs::{Lacking, Venv, check};
pub use network::Network;
pub use run::run;

pub use crate::report::Pace;

/// Who stands between the clients and the nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// pgherd, of which this is the executable; it asks Patroni which hosts there are.
    Pgherd(PathBuf),
    /// PgBouncer behind HAProxy, which asks each Patroni whether it leads.
    Control,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Who is tested.
    pub way: Way,
    /// How the nodes replicate.
    pub replication: Replication,
    /// pgherd finds out what became of commits without an answer, and no client may be left without knowing.
    pub resolve: bool,
    /// How short the pauses have to be.
    pub pace: Pace,
    /// How many faults there are in all.
    pub rounds: usize,
    /// Which ones, in turn, in an order by chance.
    pub faults: Vec<Fault>,
    /// Whether Patroni's lease is left to run out by itself, which takes 20 seconds.
    pub patient: bool,
    /// What decides about everything that is left to chance, but for the timing.
    pub seed: u64,
    /// Where the history is written; it stays if anything was wrong, and the logs of all nodes beside
    /// it.
    pub history: PathBuf,
}
