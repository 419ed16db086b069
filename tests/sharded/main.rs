//! Sharded databases through the real executable: what is answered is what one Postgres answers, and the
//! rest is refused.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its helpers"
)]

#[path = "../sharding/answer.rs"]
#[allow(dead_code, reason = "the planner's tests use all of it")]
mod answer;
#[path = "../sharding/line.rs"]
mod line;
#[path = "../sharding/made.rs"]
mod made;
#[path = "../sharding/server.rs"]
mod server;
#[path = "../sharding/world.rs"]
#[allow(dead_code, reason = "the planner's tests use all of it")]
mod world;

mod actions;
mod chance;
mod check;
mod collection;
mod commits;
mod contents;
mod copied;
mod copy;
mod counted;
mod cursors;
mod defaults;
mod drawn;
mod durable;
mod elsewhere;
mod explain;
mod faults;
mod form;
mod groups;
mod hints;
mod keys;
mod leaving;
mod limits;
mod listen;
mod lookup;
mod merge;
mod moved;
mod named;
mod portals;
mod proxies;
mod pull;
mod random;
mod reads;
mod refused;
mod regress;
mod replicas;
mod replicated;
mod rig;
mod rivals;
mod scatter;
mod schema;
mod script;
mod spread;
mod tap;
mod tpch;
mod traces;
mod transactions;
mod unique;
mod values;
mod verify;
mod views;
mod writes;
