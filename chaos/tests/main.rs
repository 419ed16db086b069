//! Chaos: the real executable before servers and clients that fail, lie and vanish.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its helpers"
)]

mod beyond_repair;
mod budget;
mod canary;
mod commits;
mod cuts;
mod failover;
mod faults;
mod hostile_client;
mod hostile_server;
mod shards;

/// The executable under test.
const EXECUTABLE: &str = env!("CARGO_BIN_EXE_pgherd");
