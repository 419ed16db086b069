//! A connected socket registered with the runtime of the moment: TCP or unix, read and written by single system calls.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::task::{Context, Poll, ready};

use bytes::{BufMut, BytesMut};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};

/// What a stream reads from and writes to.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    pub(crate) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(cx),
            Self::Unix(stream) => stream.poll_read_ready(cx),
        }
    }

    /// Whether the runtime holds the socket for readable. Nobody is woken if it does not.
    pub(crate) fn is_read_ready(&self) -> bool {
        self.try_io(Interest::READABLE, || Ok(())).is_ok()
    }

    pub(crate) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_write_ready(cx),
            Self::Unix(stream) => stream.poll_write_ready(cx),
        }
    }

    /// Reads once if the runtime holds the socket for readable.
    pub(crate) fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        let room = buf.len();
        self.transfer(Interest::READABLE, room, || {
            let (_, count) = recv(self, buf, RecvFlags::empty())?;
            Ok(count)
        })
    }

    /// Reads once at the end of `buf`, at most `room` bytes, into memory that is not zeroed before.
    pub(crate) fn read_into(&self, buf: &mut BytesMut, room: usize) -> io::Result<usize> {
        let mut buf = buf.limit(room);
        let room = buf.chunk_mut().len();
        self.transfer(Interest::READABLE, room, || match self {
            Self::Tcp(stream) => stream.try_read_buf(&mut buf),
            Self::Unix(stream) => stream.try_read_buf(&mut buf),
        })
    }

    pub(crate) fn write(&self, buf: &[u8]) -> io::Result<usize> {
        self.transfer(Interest::WRITABLE, buf.len(), || {
            Ok(send(self, buf, SendFlags::NOSIGNAL)?)
        })
    }

    pub(crate) fn write_vectored(&self, bufs: &[io::IoSlice<'_>]) -> io::Result<usize> {
        let room = bufs.iter().map(|buf| buf.len()).sum();
        self.transfer(Interest::WRITABLE, room, || match self {
            Self::Tcp(stream) => stream.try_write_vectored(bufs),
            Self::Unix(stream) => stream.try_write_vectored(bufs),
        })
    }

    /// Reads without asking the runtime first, which may not have looked since the peer spoke.
    pub(crate) fn read_now(&self, buf: &mut [u8]) -> io::Result<usize> {
        let (_, count) = recv(self, buf, RecvFlags::DONTWAIT)?;
        Ok(count)
    }

    /// Looks at the next bytes and leaves them where they are.
    pub(crate) fn peek_now(&self, buf: &mut [u8]) -> io::Result<usize> {
        let (_, count) = recv(self, buf, RecvFlags::DONTWAIT | RecvFlags::PEEK)?;
        Ok(count)
    }

    /// Waits until there is a byte to look at, or the end of the stream.
    pub(crate) fn poll_peek(
        &self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.poll_read_ready(cx))?;
            match self.try_io(Interest::READABLE, || self.peek_now(buf)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                outcome => return Poll::Ready(outcome),
            }
        }
    }

    pub(crate) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        SockRef::from(self).shutdown(how)
    }

    /// Leaves the runtime it is registered with and joins the current one.
    pub(crate) fn rehome(self) -> io::Result<Self> {
        match self {
            Self::Tcp(stream) => Ok(Self::Tcp(TcpStream::from_std(stream.into_std()?)?)),
            Self::Unix(stream) => Ok(Self::Unix(UnixStream::from_std(stream.into_std()?)?)),
        }
    }

    /// A transfer of fewer bytes than there was room for has emptied (or filled) the kernel's buffer. Telling the
    /// runtime so saves the system call that would only say "would block"; with edge-triggered epoll the next byte
    /// raises a new event. Tokio does the same in its own `poll_read`, which needs the stream by `&mut`.
    fn transfer(
        &self,
        interest: Interest,
        room: usize,
        operation: impl FnOnce() -> io::Result<usize>,
    ) -> io::Result<usize> {
        let mut moved = None;
        let outcome = self.try_io(interest, || {
            let count = operation()?;
            moved = Some(count);
            if 0 < count && count < room {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(count)
        });
        moved.map_or(outcome, Ok)
    }

    fn try_io<R>(
        &self,
        interest: Interest,
        operation: impl FnOnce() -> io::Result<R>,
    ) -> io::Result<R> {
        match self {
            Self::Tcp(stream) => stream.try_io(interest, operation),
            Self::Unix(stream) => stream.try_io(interest, operation),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}
