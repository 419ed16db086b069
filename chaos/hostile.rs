//! Peers that break the protocol on purpose, and what it takes to watch the proxy meanwhile.
//!
//! Bytes are put together by hand here, not by the proxy's own builders, since those refuse to
//! write most of what is needed.

pub mod answer;
pub mod attack;
pub mod client;
pub mod malformed;
pub mod mutated;
pub mod opening;
pub mod packet;
pub mod papers;
pub mod peer;
pub mod proxy;
pub mod scram;
pub mod server;

pub use answer::{Answer, End, Message};
pub use client::Client;
pub use proxy::Proxy;
pub use server::Server;
