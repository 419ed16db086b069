//! Ending a connection from another thread.

use std::net::Shutdown;
use std::sync::Weak;

use crate::socket::Socket;

/// A cheap handle that ends one connection, and does not keep it open.
///
/// It belongs to the socket as registered at the time: after [`Stream::rehome`](crate::Stream::rehome) an older
/// handle does nothing, so take a new one there.
/// The default one ends nothing.
#[derive(Clone, Debug, Default)]
pub struct Killer {
    socket: Weak<Socket>,
}

impl Killer {
    pub(crate) fn new(socket: Weak<Socket>) -> Self {
        Self { socket }
    }

    /// Shuts the reading half down: a pending read ends at once, and a last word may still be written. Says whether
    /// the connection was still there.
    pub fn hang_up(&self) -> bool {
        self.socket
            .upgrade()
            .is_some_and(|socket| socket.shutdown(Shutdown::Read).is_ok())
    }

    /// Shuts the socket down in both directions, so that a pending read ends at once. Says whether the connection
    /// was still there to be ended.
    pub fn kill(&self) -> bool {
        self.socket
            .upgrade()
            .is_some_and(|socket| socket.shutdown(Shutdown::Both).is_ok())
    }
}
