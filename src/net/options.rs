//! What is set on every socket.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

use crate::memory::Network;

/// Socket options, for clients as for servers. They concern TCP; a unix socket needs none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketOptions {
    /// Probes on a silent connection; `None` leaves them off.
    pub keepalive: Option<Keepalive>,
    /// How long sent bytes may stay unacknowledged before the kernel gives the connection up (`TCP_USER_TIMEOUT`);
    /// `None` leaves it to the retransmission count.
    pub user_timeout: Option<Duration>,
    /// Sends small writes at once (`TCP_NODELAY`).
    pub nodelay: bool,
    /// Where connections are made; the options above concern the kernel's.
    pub network: Network,
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self {
            keepalive: Some(Keepalive::default()),
            user_timeout: None,
            nodelay: true,
            network: Network::Kernel,
        }
    }
}

/// When the kernel asks a silent peer whether it still lives. Whole seconds: the kernel counts no finer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence before the first probe.
    pub idle: Duration,
    /// Between two probes.
    pub interval: Duration,
    /// Unanswered probes that end the connection.
    pub count: u32,
}

impl Default for Keepalive {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(60),
            interval: Duration::from_secs(10),
            count: 3,
        }
    }
}

impl SocketOptions {
    /// Sets the options on a TCP socket, connected or not.
    pub(crate) fn apply(&self, socket: &SockRef<'_>) -> io::Result<()> {
        socket.set_tcp_nodelay(self.nodelay)?;
        if let Some(keepalive) = self.keepalive {
            socket.set_tcp_keepalive(
                &TcpKeepalive::new()
                    .with_time(keepalive.idle)
                    .with_interval(keepalive.interval)
                    .with_retries(keepalive.count),
            )?;
        }
        if self.user_timeout.is_some() {
            socket.set_tcp_user_timeout(self.user_timeout)?;
        }
        Ok(())
    }
}
