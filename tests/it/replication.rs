//! Replication connections: tools, standbys and subscribers of the real Postgres through the real
//! executable.

mod ends;
mod limits;
mod logical;
mod physical;
mod rig;
mod stream;
