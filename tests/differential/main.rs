//! The same scripts on Postgres and through pgherd: whatever is said must be the same.
//!
//! A script runs on two servers that are alike, statement by statement on the one directly and on
//! the other through pgherd, in transaction mode with a pool of two connections. Others share the
//! pool, use the script's names for other things, and see to it that the script finds another
//! server at each new transaction. Compared is everything that a client hears: row descriptions,
//! rows, tags, errors and notices with all their fields, ParameterStatus, notifications, and where
//! the transaction stands.
//!
//! `known.txt` lists what is known to differ; a difference that is not there fails the test, and so
//! does one that is there and has gone. The long form takes random turns, and Postgres' own scripts:
//!
//! ```sh
//! tests/differential/long.sh        # prints its seed; PGHERD_DIFFERENTIAL_SEED repeats it
//! ```
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its helpers"
)]

mod corpus;
mod known;
mod long;
mod noise;
mod request;
mod rotation;
mod run;
mod side;
mod stage;
mod transcript;
