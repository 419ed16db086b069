//! PostgreSQL protocol 3.x: bytes to messages and back, without I/O.
//!
//! Nothing here reads a socket or a clock, and no input makes it panic: what a peer sends is
//! either understood or refused with a typed error.

pub mod backend;
pub mod cancel;
pub mod error;
pub mod frame;
pub mod frontend;
#[cfg(test)]
mod fuzz;
pub mod md5;
pub mod options;
pub mod proxy;
mod read;
pub mod scram;
pub mod sqlstate;
pub mod startup;

pub use read::MessageError;
