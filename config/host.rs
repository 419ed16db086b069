use std::path::PathBuf;

/// A server of a database.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host {
    /// Where it is.
    pub address: Address,
}

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// Over TCP.
    Tcp {
        /// A name or an address; IPv6 without brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// Over a unix socket, `<dir>/.s.PGSQL.<port>`.
    Unix {
        /// The directory of the socket.
        dir: PathBuf,
        /// The port in the socket's name.
        port: u16,
    },
}
