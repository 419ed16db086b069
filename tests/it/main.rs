//! The real executable before a real Postgres.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its helpers"
)]

mod abandoned;
mod ahead;
mod aurora;
mod behind;
mod binding;
mod bulk;
mod cancel;
mod command;
mod console;
mod copy;
mod crowd;
mod direct;
mod drivers;
mod failover;
mod failures;
mod features;
mod function_call;
mod huge;
mod identity;
mod interplay;
mod leaks;
mod listen;
mod login;
mod md5;
mod modes;
mod mute;
mod names;
mod opened;
mod outcomes;
mod parameters;
mod passwords;
mod patroni;
mod pipeline;
mod prepared;
mod prepared_sql;
mod protocol;
mod proxied;
mod reading;
mod reads;
mod replication;
mod retries;
mod rules;
mod sequences;
mod settings;
mod shares;
mod sharing;
mod strangers;
mod switchover;
mod transcripts;
mod waiting;
mod watched;
