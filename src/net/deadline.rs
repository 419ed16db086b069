//! For how long what is sent may stay unacknowledged, on a connection whose peer may take its time to read.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpStream;

/// So much is always taken by a peer that does not read: less than the smallest window that kernels begin with.
const ROOM: u32 = 32 * 1024;
/// What stands for the count while the kernel's timeout is off.
const LIFTED: u32 = u32::MAX;

/// The kernel's `TCP_USER_TIMEOUT` for a connection to a server.
///
/// It ends a connection whose peer acknowledges nothing, which is what it is for; but also one whose peer is well and
/// does not *read* for so long, since its window is closed then (Linux counts probes that are answered, too). A server
/// that waits for a lock, and has a bulk load or a long pipeline behind that, is such a peer. So it is off as soon as
/// more was written than any peer takes unread, until the peer is known to have read it all.
#[derive(Debug, Default)]
pub(crate) struct Deadline {
    timeout: Option<Duration>,
    written: AtomicU32,
}

impl Deadline {
    /// One that is on, as the socket's options have it.
    pub(crate) const fn on(timeout: Option<Duration>) -> Self {
        Self {
            timeout,
            written: AtomicU32::new(0),
        }
    }

    /// The same for another descriptor of the socket.
    pub(crate) fn again(&self) -> Self {
        Self {
            timeout: self.timeout,
            written: AtomicU32::new(self.written.load(Ordering::Relaxed)),
        }
    }

    /// So many bytes were written.
    pub(crate) fn wrote(&self, stream: &TcpStream, count: usize) {
        let before = self.written.load(Ordering::Relaxed);
        if self.timeout.is_none() || before == LIFTED {
            return;
        }
        let count = u32::try_from(count).unwrap_or(LIFTED);
        let mut written = before.saturating_add(count);
        if written > ROOM {
            // Where it cannot be lifted it stays, as it would without any of this.
            let _ = SockRef::from(stream).set_tcp_user_timeout(None);
            written = LIFTED;
        }
        self.written.store(written, Ordering::Relaxed);
    }

    /// The peer has read all of it.
    pub(crate) fn settle(&self, stream: &TcpStream) {
        if self.written.load(Ordering::Relaxed) == 0 {
            return;
        }
        if self.written.swap(0, Ordering::Relaxed) == LIFTED {
            let _ = SockRef::from(stream).set_tcp_user_timeout(self.timeout);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use socket2::SockRef;
    use tokio::io::AsyncReadExt as _;

    use crate::testing::{accept, listener};
    use crate::{SocketOptions, connect, poll_write_from};

    const TIMEOUT: Duration = Duration::from_millis(500);

    #[tokio::test]
    async fn a_peer_that_only_does_not_read_is_not_given_up() {
        let (listener, target) = listener();
        let options = SocketOptions {
            user_timeout: Some(TIMEOUT),
            ..SocketOptions::default()
        };
        let mut near = connect(&target, &options).await.unwrap();
        let mut far = accept(&listener).await;
        let on = |stream: &crate::Stream| {
            let socket = stream.socket();
            SockRef::from(&**socket).tcp_user_timeout().unwrap()
        };
        let mut small = &[0_u8; 1000][..];
        std::future::poll_fn(|cx| poll_write_from(&mut near, cx, &mut small))
            .await
            .unwrap();
        assert_eq!(on(&near), Some(TIMEOUT));
        // More than its window takes: it is probed, and answers each time that there is no room.
        let bulk = vec![0_u8; 16 * 1024 * 1024];
        let mut rest = &bulk[..];
        let write = std::future::poll_fn(|cx| poll_write_from(&mut near, cx, &mut rest));
        let unread = tokio::time::timeout(TIMEOUT * 4, write).await;
        assert!(unread.is_err(), "it waits, and is not cut off: {unread:?}");
        assert_eq!(on(&near), None);
        let all = 1000 + bulk.len();
        let reader = tokio::spawn(async move {
            let mut read = vec![0; all];
            far.read_exact(&mut read).await.map(drop)
        });
        std::future::poll_fn(|cx| poll_write_from(&mut near, cx, &mut rest))
            .await
            .unwrap();
        reader.await.unwrap().unwrap();
        near.settle();
        assert_eq!(on(&near), Some(TIMEOUT));
    }
}
