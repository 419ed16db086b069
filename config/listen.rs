use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::mode::FileMode;

section! {
    /// Where clients connect.
    pub struct Listen {
        /// The TCP addresses to accept on; empty if only a unix socket is wanted.
        [Restart] addresses: Vec<SocketAddr>,
        /// The directory of the unix socket; its name is `.s.PGSQL.<port>`, as libpq expects.
        [Restart] unix_dir: Option<PathBuf>,
        /// The port in the unix socket's name.
        [Restart] unix_port: u16,
        /// The permissions of the unix socket.
        [Restart] unix_mode: FileMode,
        /// How many connections the kernel holds before they are accepted.
        [Restart] backlog: u32,
        /// Silence on a client's connection before the kernel probes it; `None` turns probing off.
        [NextConnection] keepalive_idle: Option<Duration>,
        /// Time between two probes.
        [NextConnection] keepalive_interval: Duration,
        /// Probes without an answer before the connection is given up.
        [NextConnection] keepalive_count: u32,
        /// How long sent bytes may stay unacknowledged; `None` leaves it to the kernel.
        [NextConnection] user_timeout: Option<Duration>,
    }
}
