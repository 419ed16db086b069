//! A connected socket registered with the runtime of the moment: TCP or unix, read and written by single system calls;
//! or an end of a connection within this process.

use std::io;
use std::net::Shutdown;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, BytesMut};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};

use crate::deadline::Deadline;
use crate::memory::Wire;

/// What a stream reads from and writes to.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream, Deadline),
    Unix(UnixStream),
    Memory(Wire),
}

impl Socket {
    pub(crate) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream, _) => stream.poll_read_ready(cx),
            Self::Unix(stream) => stream.poll_read_ready(cx),
            Self::Memory(wire) => wire.poll_read_ready(cx),
        }
    }

    /// Whether the runtime holds the socket for readable. Nobody is woken if it does not.
    pub(crate) fn is_read_ready(&self) -> bool {
        match self {
            Self::Tcp(stream, _) => stream.try_io(Interest::READABLE, || Ok(())).is_ok(),
            Self::Unix(stream) => stream.try_io(Interest::READABLE, || Ok(())).is_ok(),
            Self::Memory(wire) => wire.is_read_ready(),
        }
    }

    pub(crate) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream, _) => stream.poll_write_ready(cx),
            Self::Unix(stream) => stream.poll_write_ready(cx),
            Self::Memory(wire) => wire.poll_write_ready(cx),
        }
    }

    /// Reads once if the runtime holds the socket for readable.
    pub(crate) fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        let room = buf.len();
        self.transfer(Interest::READABLE, room, || match self {
            Self::Tcp(stream, _) => Ok(recv(stream, buf, RecvFlags::empty())?.1),
            Self::Unix(stream) => Ok(recv(stream, buf, RecvFlags::empty())?.1),
            Self::Memory(wire) => wire.read(buf),
        })
    }

    /// Reads once at the end of `buf`, at most `room` bytes, into memory that is not zeroed before.
    pub(crate) fn read_into(&self, buf: &mut BytesMut, room: usize) -> io::Result<usize> {
        if let Self::Memory(wire) = self {
            return wire.read_into(buf, room);
        }
        let mut buf = buf.limit(room);
        let room = buf.chunk_mut().len();
        self.transfer(Interest::READABLE, room, || match self {
            Self::Tcp(stream, _) => stream.try_read_buf(&mut buf),
            Self::Unix(stream) => stream.try_read_buf(&mut buf),
            Self::Memory(_) => Err(io::ErrorKind::WouldBlock.into()),
        })
    }

    pub(crate) fn write(&self, buf: &[u8]) -> io::Result<usize> {
        let outcome = self.transfer(Interest::WRITABLE, buf.len(), || match self {
            Self::Tcp(stream, _) => Ok(send(stream, buf, SendFlags::NOSIGNAL)?),
            Self::Unix(stream) => Ok(send(stream, buf, SendFlags::NOSIGNAL)?),
            Self::Memory(wire) => wire.write(buf),
        });
        self.wrote(&outcome);
        outcome
    }

    pub(crate) fn write_vectored(&self, bufs: &[io::IoSlice<'_>]) -> io::Result<usize> {
        let room = bufs.iter().map(|buf| buf.len()).sum();
        let outcome = self.transfer(Interest::WRITABLE, room, || match self {
            Self::Tcp(stream, _) => stream.try_write_vectored(bufs),
            Self::Unix(stream) => stream.try_write_vectored(bufs),
            Self::Memory(wire) => {
                let first = bufs.iter().find(|buf| !buf.is_empty());
                wire.write(first.map_or(&[], |buf| buf))
            }
        });
        self.wrote(&outcome);
        outcome
    }

    fn wrote(&self, outcome: &io::Result<usize>) {
        if let (Self::Tcp(stream, deadline), Ok(count)) = (self, outcome) {
            deadline.wrote(stream, *count);
        }
    }

    /// The peer has read all that was written.
    pub(crate) fn settle(&self) {
        if let Self::Tcp(stream, deadline) = self {
            deadline.settle(stream);
        }
    }

    /// Reads without asking the runtime first, which may not have looked since the peer spoke.
    pub(crate) fn read_now(&self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream, _) => Ok(recv(stream, buf, RecvFlags::DONTWAIT)?.1),
            Self::Unix(stream) => Ok(recv(stream, buf, RecvFlags::DONTWAIT)?.1),
            Self::Memory(wire) => wire.read(buf),
        }
    }

    /// Looks at the next bytes and leaves them where they are.
    pub(crate) fn peek_now(&self, buf: &mut [u8]) -> io::Result<usize> {
        let flags = RecvFlags::DONTWAIT | RecvFlags::PEEK;
        match self {
            Self::Tcp(stream, _) => Ok(recv(stream, buf, flags)?.1),
            Self::Unix(stream) => Ok(recv(stream, buf, flags)?.1),
            Self::Memory(wire) => wire.peek(buf),
        }
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
        match self {
            Self::Tcp(stream, _) => SockRef::from(stream).shutdown(how),
            Self::Unix(stream) => SockRef::from(stream).shutdown(how),
            Self::Memory(wire) => {
                wire.shutdown(how);
                Ok(())
            }
        }
    }

    /// Leaves the runtime it is registered with and joins the current one.
    pub(crate) fn rehome(self) -> io::Result<Self> {
        match self {
            Self::Tcp(stream, deadline) => {
                let stream = TcpStream::from_std(stream.into_std()?)?;
                Ok(Self::Tcp(stream, deadline))
            }
            Self::Unix(stream) => Ok(Self::Unix(UnixStream::from_std(stream.into_std()?)?)),
            Self::Memory(wire) => Ok(Self::Memory(wire)),
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
            Self::Tcp(stream, _) => stream.try_io(interest, operation),
            Self::Unix(stream) => stream.try_io(interest, operation),
            Self::Memory(_) => operation(),
        }
    }
}

/// Only tests look at the options of a socket, and only the kernel's have any.
#[cfg(test)]
impl std::os::fd::AsFd for Socket {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        match self {
            Self::Tcp(stream, _) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
            Self::Memory(_) => panic!("it has no descriptor"),
        }
    }
}
