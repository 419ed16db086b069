//! Connections within this process: what a simulated network gives in the place of sockets.
//!
//! A [`Wire`] is one end of a connection, as a socket is: what is written at one end is read at the other, in its order
//! and at once. Whoever wants latency, silence or cuts puts itself between two of them. Nothing here knows a runtime
//! or reads a clock.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, BufMut, BytesMut};
use tokio::sync::{Mutex, mpsc};

use crate::connect::ConnectError;
use crate::stream::Stream;
use crate::target::Target;

/// Bytes that one direction holds before its writer has to wait, as the kernel's buffers do.
const ROOM: usize = 64 * 1024;

/// Where connections come from.
#[derive(Clone, Default)]
pub enum Network {
    /// The kernel's sockets.
    #[default]
    Kernel,
    /// Somebody in this process.
    Simulated(Arc<dyn Simulated>),
}

/// A network that is none.
pub trait Simulated: Send + Sync {
    /// Connects, in its own time; the caller gives up by dropping the future.
    fn connect<'a>(&'a self, target: &'a Target) -> Connecting<'a>;
}

/// A connection that is being made.
pub type Connecting<'a> = Pin<Box<dyn Future<Output = io::Result<Wire>> + Send + 'a>>;

impl Network {
    pub(crate) async fn simulate(
        network: &dyn Simulated,
        target: &Target,
    ) -> Result<Stream, ConnectError> {
        let wire = network.connect(target).await;
        wire.map(Wire::into_stream)
            .map_err(|error| ConnectError::from_io(target, error))
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kernel => "Kernel",
            Self::Simulated(_) => "Simulated",
        })
    }
}

/// Two are the same if connections come from the same place.
impl PartialEq for Network {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Kernel, Self::Kernel) => true,
            (Self::Simulated(one), Self::Simulated(two)) => Arc::ptr_eq(one, two),
            _ => false,
        }
    }
}

impl Eq for Network {}

/// Clients that come over a simulated network.
#[derive(Debug)]
pub struct Arrivals(Mutex<mpsc::Receiver<Wire>>);

impl Arrivals {
    /// So many may wait to be accepted.
    #[must_use]
    pub fn new(backlog: usize) -> (mpsc::Sender<Wire>, Self) {
        let (sender, receiver) = mpsc::channel(backlog);
        (sender, Self(Mutex::new(receiver)))
    }

    pub(crate) async fn next(&self) -> Wire {
        match self.0.lock().await.recv().await {
            Some(wire) => wire,
            // Nobody will ever come again.
            None => std::future::pending().await,
        }
    }
}

/// One end of a connection. It is closed when the last of its clones is dropped.
#[derive(Clone, Debug)]
pub struct Wire(Arc<End>);

#[derive(Debug)]
struct End {
    incoming: Arc<Lane>,
    outgoing: Arc<Lane>,
    near: SocketAddr,
    far: SocketAddr,
}

/// One direction.
#[derive(Debug, Default)]
struct Lane(parking_lot::Mutex<Flow>);

#[derive(Debug, Default)]
struct Flow {
    bytes: VecDeque<u8>,
    /// No more will be written, or it may not be.
    ended: bool,
    /// Nobody will read it.
    unread: bool,
    /// It was torn off: what it holds is lost.
    reset: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Lane {
    /// Changes it, and wakes who may go on by that.
    fn change<R>(&self, act: impl FnOnce(&mut Flow) -> R) -> R {
        let mut flow = self.0.lock();
        let result = act(&mut flow);
        let reader = flow.is_readable().then(|| flow.reader.take()).flatten();
        let writer = flow.is_writable().then(|| flow.writer.take()).flatten();
        drop(flow);
        reader.into_iter().chain(writer).for_each(Waker::wake);
        result
    }
}

impl Flow {
    fn is_readable(&self) -> bool {
        !self.bytes.is_empty() || self.ended || self.unread || self.reset
    }

    fn is_writable(&self) -> bool {
        self.bytes.len() < ROOM || self.ended || self.unread || self.reset
    }

    /// How many bytes there are to be read, up to so many; 0 is the end.
    fn readable(&self, room: usize) -> io::Result<usize> {
        if self.reset {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        if self.unread || (self.bytes.is_empty() && self.ended) {
            return Ok(0);
        }
        match self.bytes.len().min(room) {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            count => Ok(count),
        }
    }
}

impl Wire {
    /// Both ends of a new connection, with the addresses that each of them has.
    #[must_use]
    pub fn pair(one: SocketAddr, two: SocketAddr) -> (Self, Self) {
        let (there, back) = (Arc::<Lane>::default(), Arc::<Lane>::default());
        let end = |incoming: &Arc<Lane>, outgoing: &Arc<Lane>, near, far| {
            Self(Arc::new(End {
                incoming: Arc::clone(incoming),
                outgoing: Arc::clone(outgoing),
                near,
                far,
            }))
        };
        (end(&back, &there, one, two), end(&there, &back, two, one))
    }

    /// This end as a stream.
    #[must_use]
    pub fn into_stream(self) -> Stream {
        Stream::simulated(self)
    }

    /// Tears the connection off for both ends: what was not read yet is lost.
    pub fn reset(&self) {
        for lane in [&self.0.incoming, &self.0.outgoing] {
            lane.change(|flow| {
                flow.reset = true;
                flow.bytes.clear();
            });
        }
    }

    /// The address of this end.
    #[must_use]
    pub fn near(&self) -> SocketAddr {
        self.0.near
    }

    /// The address of the other end.
    #[must_use]
    pub fn far(&self) -> SocketAddr {
        self.0.far
    }

    pub(crate) fn is_read_ready(&self) -> bool {
        self.0.incoming.0.lock().is_readable()
    }

    pub(crate) fn poll_read_ready(&self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        let mut flow = self.0.incoming.0.lock();
        if flow.is_readable() {
            return Poll::Ready(Ok(()));
        }
        flow.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    pub(crate) fn poll_write_ready(&self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        let mut flow = self.0.outgoing.0.lock();
        if flow.is_writable() {
            return Poll::Ready(Ok(()));
        }
        flow.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    pub(crate) fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        let room = buf.len();
        self.0.incoming.change(|flow| {
            let count = flow.readable(room)?;
            flow.bytes.copy_to_slice(&mut buf[..count]);
            Ok(count)
        })
    }

    pub(crate) fn read_into(&self, buf: &mut BytesMut, room: usize) -> io::Result<usize> {
        self.0.incoming.change(|flow| {
            let count = flow.readable(room)?;
            buf.put((&mut flow.bytes).take(count));
            Ok(count)
        })
    }

    pub(crate) fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        let flow = self.0.incoming.0.lock();
        let count = flow.readable(buf.len())?;
        for (place, byte) in buf.iter_mut().zip(flow.bytes.iter().take(count)) {
            *place = *byte;
        }
        Ok(count)
    }

    pub(crate) fn write(&self, buf: &[u8]) -> io::Result<usize> {
        self.0.outgoing.change(|flow| {
            if flow.reset {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            if flow.ended || flow.unread {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            let count = buf.len().min(ROOM.saturating_sub(flow.bytes.len()));
            if count == 0 && !buf.is_empty() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            flow.bytes.extend(&buf[..count]);
            Ok(count)
        })
    }

    /// As of a socket: the other end reads the end after what it has not read yet; this one reads nothing more.
    pub(crate) fn shutdown(&self, how: Shutdown) {
        self.0.shutdown(how);
    }
}

impl End {
    fn shutdown(&self, how: Shutdown) {
        if matches!(how, Shutdown::Read | Shutdown::Both) {
            self.incoming.change(|flow| flow.unread = true);
        }
        if matches!(how, Shutdown::Write | Shutdown::Both) {
            self.outgoing.change(|flow| flow.ended = true);
        }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.shutdown(Shutdown::Both);
    }
}

#[cfg(test)]
mod tests;
