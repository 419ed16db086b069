//! The real executable before a real Postgres.

mod drivers;
mod sharing;
