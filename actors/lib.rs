//! What is alive: one file an actor.
//!
//! ```text
//! root                     one_for_one; stops in the reverse order
//! ├ config                 the only writer of the configuration snapshot
//! ├ aux                    totals for the log, the endpoint for metrics and health
//! ├ router                 the only writer of the routing table
//! ├ cluster (a database)   isolates its failures
//! │  ├ hosts               monitor (of a host, where there are several): who may be written to
//! │  │                     patroni: which hosts there are
//! │  └ pools               pool (per user and database) → server connection (temporary)
//! │                        herald (of a pool, once a client listens): one hears for the database
//! ├ transactions           coordinators (one a commit over several shards), recovery of what was left prepared
//! └ front                  rest_for_one
//!    ├ sessions (a worker) client sessions, never restarted
//!    └ listener (an address)
//! ```
//! Actors own lifecycles; values own sockets: no byte of a query and no checkout crosses a mailbox.

pub mod accounts;
pub mod caps;
#[cfg(feature = "chaos")]
pub mod chaos;
mod clock;
pub mod cluster;
pub mod config;
pub mod connection;
pub mod console;
pub mod control;
pub mod dialogue;
pub mod doors;
pub mod drain;
pub mod facts;
pub mod failures;
pub mod gate;
pub mod herald;
pub mod hidden;
pub mod hindrance;
pub mod http;
pub mod judgement;
pub mod keeping;
#[cfg(test)]
mod keys;
pub mod listener;
pub mod logins;
pub mod natives;
pub mod outcomes;
pub mod periods;
pub mod pins;
pub mod pool;
pub mod retries;
pub mod root;
pub mod router;
pub mod server;
pub mod session;
pub mod shards;
pub mod totals;
pub mod transactions;
pub mod unserved;
pub mod upstream;
pub mod workers;

pub use drain::{Curtain, Ending, Notice};
pub use root::{Outcome, Proxy, StartError};
