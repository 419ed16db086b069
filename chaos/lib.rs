//! Faults: hostile peers, killed servers, crashed actors; and what must hold all the while.

pub mod canary;
pub mod checks;
pub mod commits;
mod crowd;
pub mod cuts;
pub mod door;
pub mod failover;
mod haproxy;
pub mod history;
pub mod hostile;
pub mod patroni;
pub mod proxy;
mod quiet;
pub mod replicas;
pub mod report;
pub mod rig;
mod schedule;
pub mod shards;
pub mod simulation;
pub mod workloads;
