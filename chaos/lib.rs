//! Faults: hostile peers, killed servers, crashed actors; and what must hold all the while.

pub mod checks;
mod crowd;
pub mod cuts;
pub mod door;
pub mod failover;
pub mod history;
pub mod hostile;
pub mod patroni;
pub mod proxy;
pub mod report;
pub mod rig;
mod schedule;
pub mod simulation;
pub mod workloads;
