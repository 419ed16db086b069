//! Sockets and TLS: the one seam to the operating system.
//!
//! Everything above this crate sees a [`Stream`], whatever carries it: also a simulated [`Network`]. TLS is driven by rustls directly, so that a
//! connection keeps its TLS state when it moves from one runtime to another ([`Stream::rehome`]).

mod accept;
mod buffer;
mod cancel;
mod connect;
mod deadline;
mod https;
mod killer;
mod listener;
mod memory;
mod negotiate;
mod options;
mod peer;
mod socket;
mod stream;
mod target;
mod tls;

#[cfg(test)]
mod testing;

pub use accept::{accept_tls, accept_tls_direct};
pub use buffer::{poll_read_into, poll_write_from};
pub use cancel::send_cancel;
pub use connect::{ConnectError, connect, resolve};
pub use https::connect_https;
pub use killer::Killer;
pub use listener::{Accepted, ListenError, Listener};
pub use memory::{Arrivals, Connecting, Network, Simulated, Wire};
pub use negotiate::{connect_tls, connect_tls_to};
pub use options::{Keepalive, SocketOptions};
pub use peer::Peer;
pub use stream::Stream;
pub use target::Target;
pub use tls::{
    ClientTls, HttpsTls, Identity, NoSuchMode, PeerCertificate, Roots, ServerTls, ServerTlsOptions,
    SslMode, TlsError, TlsInfo, TlsSetupError, TlsVersion,
};
