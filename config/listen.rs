use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::fault::Problem;
use crate::hba::Network;
use crate::mode::FileMode;
use crate::reader::Reader;
use crate::section::Check;

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
        /// Who says in front of each connection from where it comes, by the PROXY protocol.
        [NextConnection] proxies: Vec<Network>,
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

/// What `sun_path` of 108 bytes leaves beside `/.s.PGSQL.65535` and a final NUL: unix(7).
const LONGEST_DIR: usize = 108 - 15 - 1;

impl Listen {
    /// Tells whether who connects from there is a proxy that is believed.
    pub fn is_proxy(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let mut proxies = self.proxies.iter();
        proxies.any(|network| network.canonical().has(address))
    }
}

impl Check for Listen {
    fn check(&self, reader: &mut Reader<'_>) {
        if self.addresses.is_empty() && self.unix_dir.is_none() {
            reader.contradiction(
                "addresses",
                "nobody could connect",
                "at least one address, or a `unix_dir`",
            );
        }
        // Port 0 asks the kernel for any free port, so two of those are not the same.
        for (at, address) in self.addresses.iter().enumerate() {
            if address.port() != 0 && self.addresses[..at].contains(address) {
                reader.fault("addresses", Problem::Repeated(address.to_string()), "");
            }
        }
        if let Some(dir) = &self.unix_dir
            && !dir.is_dir()
        {
            let why = "no such directory".to_owned();
            reader.fault(
                "unix_dir",
                Problem::File {
                    file: dir.clone(),
                    why,
                },
                "",
            );
        }
        if let Some(dir) = &self.unix_dir
            && dir.as_os_str().len() > LONGEST_DIR
        {
            let why = format!("longer than {LONGEST_DIR} bytes");
            let file = dir.clone();
            reader.fault("unix_dir", Problem::File { file, why }, "a shorter path");
        }
        if self.keepalive_interval < Duration::from_secs(1) {
            reader.contradiction(
                "keepalive_interval",
                "the kernel counts in seconds",
                "from 1s",
            );
        }
    }
}
