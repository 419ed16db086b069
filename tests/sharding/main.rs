//! Sharding before a real Postgres: rows are placed as its own partitions place them, and what a plan says
//! gives what one server with all rows gives.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its helpers"
)]

mod answer;
mod execute;
mod line;
mod made;
mod mutated;
mod placed;
mod queries;
mod random;
mod server;
mod tpch;
mod world;
mod writes;
