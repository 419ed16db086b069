//! The real executable before a real Postgres.

mod sharing;
