//! Faults: hostile peers, killed servers, crashed actors; and what must hold all the while.

pub mod checks;
pub mod door;
pub mod failover;
pub mod history;
pub mod hostile;
pub mod proxy;
pub mod rig;
pub mod simulation;
pub mod workloads;
