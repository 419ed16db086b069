//! The real executable before a real Postgres.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its helpers"
)]

mod abandoned;
mod bulk;
mod cancel;
mod command;
mod console;
mod drivers;
mod login;
mod parameters;
mod pipeline;
mod prepared;
mod sharing;
mod transcripts;
mod waiting;
