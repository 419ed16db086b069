//! The pump between rustls, which never touches a socket, and the socket.

use std::future::poll_fn;
use std::io::{self, BufRead, Read, Write};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use rustls::{Connection, ProtocolVersion};

use super::certificate::{PeerCertificate, end_point};
use super::error::TlsError;
use super::info::TlsInfo;
use crate::socket::Socket;

/// A TLS connection over a socket, of either side.
pub(crate) struct Channel {
    socket: Arc<Socket>,
    connection: Connection,
    /// The hash of our own certificate, where we are the server.
    end_point: Option<Arc<[u8]>>,
    farewell: Farewell,
}

/// Whether we have said that we send no more.
enum Farewell {
    Unsaid,
    Said,
}

impl Channel {
    pub(crate) fn new(
        socket: Arc<Socket>,
        connection: Connection,
        end_point: Option<Arc<[u8]>>,
    ) -> Self {
        Self {
            socket,
            connection,
            end_point,
            farewell: Farewell::Unsaid,
        }
    }

    pub(crate) fn socket(&self) -> &Arc<Socket> {
        &self.socket
    }

    /// Goes on over the same connection, registered elsewhere.
    pub(crate) fn carry_on(&mut self, socket: Arc<Socket>) {
        self.socket = socket;
    }

    pub(crate) fn rehome(
        mut self: Box<Self>,
        rehome: impl FnOnce(Arc<Socket>) -> io::Result<Arc<Socket>>,
    ) -> io::Result<Box<Self>> {
        let Self {
            socket,
            connection,
            end_point,
            farewell,
        } = *self;
        self = Box::new(Self {
            socket: rehome(socket)?,
            connection,
            end_point,
            farewell,
        });
        Ok(self)
    }

    /// Runs the handshake to its end.
    pub(crate) async fn handshake(&mut self) -> Result<(), TlsError> {
        poll_fn(|cx| self.poll_handshake(cx)).await
    }

    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TlsError>> {
        loop {
            ready!(self.poll_flush(cx))?;
            if !self.connection.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            if ready!(self.poll_receive(cx))? == 0 {
                return Poll::Ready(Err(TlsError::Closed));
            }
            if let Err(error) = self.connection.process_new_packets() {
                self.try_send();
                return Poll::Ready(Err(error.into()));
            }
        }
    }

    pub(crate) fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.connection.reader().fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.socket.poll_read_ready(cx)
            }
            // Data, the end, or an error the next read will tell.
            _ => Poll::Ready(Ok(())),
        }
    }

    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_plaintext(cx, |connection| connection.reader().read(buf))
    }

    pub(crate) fn poll_read_into(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut BytesMut,
        room: usize,
    ) -> Poll<io::Result<usize>> {
        self.poll_plaintext(cx, |connection| {
            let mut reader = connection.reader();
            let plaintext = reader.fill_buf()?;
            let count = plaintext.len().min(room);
            buf.extend_from_slice(&plaintext[..count]);
            reader.consume(count);
            Ok(count)
        })
    }

    pub(crate) fn poll_peek_first(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<u8>>> {
        self.poll_plaintext(cx, |connection| {
            Ok(connection.reader().fill_buf()?.first().copied())
        })
    }

    /// Reads without waiting.
    pub(crate) fn try_read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.connection.reader().read(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                outcome => return outcome,
            }
            self.connection.read_tls(&mut Now(&self.socket))?;
            self.process()?;
        }
    }

    /// Takes plaintext by `take`, receiving records until there is some.
    fn poll_plaintext<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut take: impl FnMut(&mut Connection) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        loop {
            match take(&mut self.connection) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                outcome => return Poll::Ready(outcome),
            }
            ready!(self.poll_receive(cx))?;
            self.process()?;
        }
    }

    /// One read from the socket into rustls; 0 is the end, of which rustls has taken note.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.socket.poll_read_ready(cx))?;
            match self.connection.read_tls(&mut Ready(&self.socket)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                outcome => return Poll::Ready(outcome),
            }
        }
    }

    /// Lets rustls work on what it has received, and sends what it says to that: a key update, an alert.
    fn process(&mut self) -> io::Result<()> {
        let outcome = self.connection.process_new_packets();
        self.try_send();
        match outcome {
            Ok(_) => Ok(()),
            Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        }
    }

    /// Sends what there is if the socket takes it; what stays behind, and any error, is met by the next write.
    fn try_send(&mut self) {
        while self.connection.wants_write() {
            if self.connection.write_tls(&mut Ready(&self.socket)).is_err() {
                return;
            }
        }
    }

    /// Encrypts and tries the socket at once. Rustls takes a bounded amount (64 KiB), so this is pending if the
    /// socket does not keep up.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        loop {
            let count = self.connection.writer().write(buf)?;
            let sent = self.poll_flush(cx);
            if let Poll::Ready(Err(error)) = sent {
                return Poll::Ready(Err(error));
            }
            if count > 0 {
                return Poll::Ready(Ok(count));
            }
            ready!(sent)?;
        }
    }

    /// Sends all that rustls holds.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.connection.wants_write() {
            ready!(self.socket.poll_write_ready(cx))?;
            match self.connection.write_tls(&mut Ready(&self.socket)) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Says `close_notify`, once, and sends it.
    pub(crate) fn poll_goodbye(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Farewell::Unsaid = self.farewell {
            self.connection.send_close_notify();
            self.farewell = Farewell::Said;
        }
        self.poll_flush(cx)
    }

    pub(crate) fn info(&self) -> TlsInfo {
        let peer = self.connection.peer_certificates().and_then(<[_]>::first);
        let server_end_point = match &self.connection {
            Connection::Client(_) => peer.and_then(|certificate| end_point(certificate)),
            Connection::Server(_) => self.end_point.as_deref().map(<[u8]>::to_vec),
        };
        TlsInfo {
            version: match self.connection.protocol_version() {
                Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
                Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
                _ => "unknown",
            },
            cipher: self.connection.negotiated_cipher_suite().map_or_else(
                || "unknown".to_owned(),
                |suite| suite.suite().as_str().unwrap_or("unknown").to_owned(),
            ),
            alpn: self.connection.alpn_protocol().map(<[u8]>::to_vec),
            server_end_point,
            peer_certificate: peer.and_then(|certificate| PeerCertificate::parse(certificate)),
        }
    }
}

/// The socket as rustls wants it, by what the runtime knows of it.
struct Ready<'a>(&'a Socket);

impl Read for Ready<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

impl Write for Ready<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.write(buf)
    }

    fn write_vectored(&mut self, bufs: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.0.write_vectored(bufs)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The socket as it is at this moment.
struct Now<'a>(&'a Socket);

impl Read for Now<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read_now(buf)
    }
}
