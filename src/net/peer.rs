//! Who is at the other end.

use std::fmt;
use std::net::SocketAddr;

use crate::socket::Socket;

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A process on this machine, as the kernel names it (`SO_PEERCRED`).
    Unix {
        /// Its process id, where the kernel tells.
        pid: Option<i32>,
        /// The user it ran as when it connected.
        uid: u32,
    },
    /// The kernel no longer knows: the connection is broken.
    Gone,
}

impl Peer {
    pub(crate) fn of(socket: &Socket) -> Self {
        match socket {
            Socket::Memory(wire) => Self::Tcp(wire.far()),
            Socket::Tcp(stream, _) => stream.peer_addr().map_or(Self::Gone, Self::Tcp),
            Socket::Unix(stream) => {
                stream
                    .peer_cred()
                    .map_or(Self::Gone, |credentials| Self::Unix {
                        pid: credentials.pid(),
                        uid: credentials.uid(),
                    })
            }
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix {
                pid: Some(pid),
                uid,
            } => write!(f, "unix(pid {pid}, uid {uid})"),
            Self::Unix { pid: None, uid } => write!(f, "unix(uid {uid})"),
            Self::Gone => f.write_str("gone"),
        }
    }
}
