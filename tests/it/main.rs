//! The real executable before a real Postgres.

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
