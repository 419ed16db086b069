//! Where a server listens.

use std::fmt;
use std::path::PathBuf;

/// An address to connect to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// A host by name or IP address, and its port.
    Tcp {
        /// A DNS name or an IP address.
        host: String,
        /// The TCP port.
        port: u16,
    },
    /// A socket file, by its full path (`/run/postgresql/.s.PGSQL.5432`).
    Unix {
        /// The path of the socket itself, not of its folder.
        path: PathBuf,
    },
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix { path } => path.display().fmt(f),
        }
    }
}
