//! One connection, whatever carries it: TCP or a unix socket, plain or under TLS.

mod home;

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::killer::Killer;
use crate::memory::Wire;
use crate::peer::Peer;
use crate::socket::Socket;
use crate::tls::{Channel, TlsInfo};

/// A connection to a client or to a server.
///
/// A plain stream holds no buffer: a read is one system call, a write tries the socket at once. A TLS stream holds
/// what rustls holds. The value is two words, so it is cheap to move; [`rehome`](Self::rehome) moves it between
/// runtimes.
///
/// Under TLS an end without `close_notify` reads as [`io::ErrorKind::UnexpectedEof`]: somebody may have cut it off.
pub struct Stream {
    carrier: Carrier,
}

enum Carrier {
    Plain(Arc<Socket>),
    Tls(Box<Channel>),
}

impl Stream {
    pub(crate) fn plain(socket: Socket) -> Self {
        Self {
            carrier: Carrier::Plain(Arc::new(socket)),
        }
    }

    pub(crate) fn simulated(wire: Wire) -> Self {
        Self::plain(Socket::Memory(wire))
    }

    pub(crate) fn tls(channel: Box<Channel>) -> Self {
        Self {
            carrier: Carrier::Tls(channel),
        }
    }

    /// The socket of a plain stream, or the stream itself if it is under TLS already.
    pub(crate) fn into_plain(self) -> Result<Arc<Socket>, Self> {
        match self.carrier {
            Carrier::Plain(socket) => Ok(socket),
            Carrier::Tls(_) => Err(self),
        }
    }

    /// Waits for something to read, and reads nothing. It may be wrong under TLS, where a record need not carry
    /// data; a read then waits on. The end of the stream and an error count as something to read.
    pub fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.carrier {
            Carrier::Plain(socket) => socket.poll_read_ready(cx),
            Carrier::Tls(channel) => channel.poll_readable(cx),
        }
    }

    /// Whether nothing has happened on the stream that was not looked at, as far as the runtime knows. It registers
    /// nobody for what happens later.
    pub fn is_quiet(&mut self) -> bool {
        match &mut self.carrier {
            Carrier::Plain(socket) => !socket.is_read_ready(),
            Carrier::Tls(channel) => channel
                .poll_readable(&mut Context::from_waker(Waker::noop()))
                .is_pending(),
        }
    }

    /// Reads what is there at this moment: the system is asked, whatever the runtime last saw. It serves as a look
    /// at an idle connection, which should neither say anything nor end.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if there is nothing; else what reading may say.
    pub fn try_read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match &mut self.carrier {
            Carrier::Plain(socket) => socket.read_now(buf),
            Carrier::Tls(channel) => channel.try_read(buf),
        }
    }

    /// Waits for the next byte and leaves it unread; `None` at the end of the stream. A TLS hello starts with 0x16,
    /// a start-up packet with the high byte of its length, which is 0.
    ///
    /// # Errors
    /// What reading may say.
    pub async fn peek_first(&mut self) -> io::Result<Option<u8>> {
        poll_fn(|cx| self.poll_peek_first(cx)).await
    }

    fn poll_peek_first(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<u8>>> {
        match &mut self.carrier {
            Carrier::Plain(socket) => {
                let mut byte = [0];
                let count = ready!(socket.poll_peek(cx, &mut byte))?;
                Poll::Ready(Ok((count > 0).then_some(byte[0])))
            }
            Carrier::Tls(channel) => channel.poll_peek_first(cx),
        }
    }

    /// Leaves the runtime this stream is registered with and joins the current one. TLS state is kept, a
    /// [`Killer`] taken before is not. Call it in the new runtime.
    ///
    /// # Errors
    /// [`io::ErrorKind::ConnectionAborted`] if the connection is being killed at this moment; else what the system
    /// says. The connection is closed then.
    pub fn rehome(self) -> io::Result<Self> {
        let carrier = match self.carrier {
            Carrier::Plain(socket) => Carrier::Plain(rehome(socket)?),
            Carrier::Tls(channel) => Carrier::Tls(channel.rehome(rehome)?),
        };
        Ok(Self { carrier })
    }

    /// A handle that ends this connection from any thread.
    pub fn killer(&self) -> Killer {
        Killer::new(Arc::downgrade(self.socket()))
    }

    /// Who is at the other end, asked of the kernel each time.
    pub fn peer(&self) -> Peer {
        Peer::of(self.socket())
    }

    /// This end's address; `None` for a unix socket.
    pub fn local(&self) -> Option<SocketAddr> {
        match &**self.socket() {
            Socket::Tcp(stream, _) => stream.local_addr().ok(),
            Socket::Unix(_) => None,
            Socket::Memory(wire) => Some(wire.near()),
        }
    }

    /// The other end is known to have read all that was written: from here on the user timeout holds again that a bulk has
    /// lifted. It costs no system call unless one has.
    pub fn settle(&self) {
        self.socket().settle();
    }

    /// Whether it is under TLS.
    pub fn is_tls(&self) -> bool {
        matches!(self.carrier, Carrier::Tls(_))
    }

    /// What TLS was agreed on; `None` for a plain stream.
    pub fn tls_info(&self) -> Option<TlsInfo> {
        match &self.carrier {
            Carrier::Plain(_) => None,
            Carrier::Tls(channel) => Some(channel.info()),
        }
    }

    pub(crate) fn socket(&self) -> &Arc<Socket> {
        match &self.carrier {
            Carrier::Plain(socket) => socket,
            Carrier::Tls(channel) => channel.socket(),
        }
    }

    /// One read at the end of `buf`, of at most `room` bytes. Memory is reserved only once there is something.
    pub(crate) fn poll_read_into(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut BytesMut,
        room: usize,
    ) -> Poll<io::Result<usize>> {
        let socket = match &mut self.carrier {
            Carrier::Plain(socket) => socket,
            Carrier::Tls(channel) => return channel.poll_read_into(cx, buf, room),
        };
        loop {
            ready!(socket.poll_read_ready(cx))?;
            buf.reserve(room);
            match socket.read_into(buf, room) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                outcome => return Poll::Ready(outcome),
            }
        }
    }

    /// Writes until `buf` is empty, and the bytes have left for the kernel.
    pub(crate) fn poll_write_from(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut impl Buf,
    ) -> Poll<io::Result<()>> {
        while buf.has_remaining() {
            let count = match &mut self.carrier {
                Carrier::Plain(socket) => {
                    let mut slices = [io::IoSlice::new(&[]); SLICES];
                    match buf.chunks_vectored(&mut slices) {
                        0 | 1 => ready!(poll_write(socket, cx, buf.chunk()))?,
                        count => ready!(poll_write_vectored(socket, cx, &slices[..count]))?,
                    }
                }
                Carrier::Tls(channel) => ready!(channel.poll_write(cx, buf.chunk()))?,
            };
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            buf.advance(count);
        }
        match &mut self.carrier {
            Carrier::Plain(_) => Poll::Ready(Ok(())),
            Carrier::Tls(channel) => channel.poll_flush(cx),
        }
    }
}

/// Chunks of a buffer handed to one system call: a flow has two.
const SLICES: usize = 2;

fn rehome(socket: Arc<Socket>) -> io::Result<Arc<Socket>> {
    let socket =
        Arc::try_unwrap(socket).map_err(|_| io::Error::from(io::ErrorKind::ConnectionAborted))?;
    Ok(Arc::new(socket.rehome()?))
}

fn poll_write(socket: &Socket, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
    loop {
        // Most often it can be written to, and needs no registration.
        match socket.write(buf) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            outcome => return Poll::Ready(outcome),
        }
        ready!(socket.poll_write_ready(cx))?;
    }
}

fn poll_write_vectored(
    socket: &Socket,
    cx: &mut Context<'_>,
    bufs: &[io::IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    loop {
        // Most often it can be written to, and needs no registration.
        match socket.write_vectored(bufs) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            outcome => return Poll::Ready(outcome),
        }
        ready!(socket.poll_write_ready(cx))?;
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let count = match &mut self.get_mut().carrier {
            Carrier::Plain(socket) => loop {
                ready!(socket.poll_read_ready(cx))?;
                match socket.read(buf.initialize_unfilled()) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    outcome => break outcome?,
                }
            },
            Carrier::Tls(channel) => ready!(channel.poll_read(cx, buf.initialize_unfilled()))?,
        };
        buf.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().carrier {
            Carrier::Plain(socket) => poll_write(socket, cx, buf),
            Carrier::Tls(channel) => channel.poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().carrier {
            Carrier::Plain(socket) => poll_write_vectored(socket, cx, bufs),
            Carrier::Tls(channel) => {
                let first = bufs.iter().find(|buf| !buf.is_empty());
                channel.poll_write(cx, first.map_or(&[], |buf| buf))
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        !self.is_tls()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().carrier {
            Carrier::Plain(_) => Poll::Ready(Ok(())),
            Carrier::Tls(channel) => channel.poll_flush(cx),
        }
    }

    /// Says goodbye: `close_notify` under TLS, then the end of our direction of the socket.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().carrier {
            Carrier::Plain(socket) => Poll::Ready(socket.shutdown(Shutdown::Write)),
            Carrier::Tls(channel) => {
                ready!(channel.poll_goodbye(cx))?;
                Poll::Ready(channel.socket().shutdown(Shutdown::Write))
            }
        }
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("peer", &self.peer())
            .field("tls", &self.is_tls())
            .finish()
    }
}

#[cfg(test)]
mod tests;
