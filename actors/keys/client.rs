//! A client that says what a test wants.

use std::net::SocketAddr;
use std::path::Path;

use bytes::BytesMut;
use pgherd_wire::error::ErrorReport;
use pgherd_wire::{frontend, startup};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::PATIENCE;

/// What is read from and written to.
trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// A message: its type and its body.
pub(super) type Message = (u8, Vec<u8>);

/// A client of the proxy.
pub(super) struct Client {
    wire: Box<dyn Wire>,
}

impl Client {
    /// A client that has said nothing yet.
    pub(super) async fn silent(address: SocketAddr) -> Self {
        let wire = TcpStream::connect(address).await.expect("connected");
        Self {
            wire: Box::new(wire),
        }
    }

    /// As [`Client::silent`], over a unix socket.
    pub(super) async fn unix(path: &Path) -> Self {
        let wire = UnixStream::connect(path).await.expect("connected");
        Self {
            wire: Box::new(wire),
        }
    }

    /// A client over TLS or anything else.
    pub(super) fn over(wire: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        Self {
            wire: Box::new(wire),
        }
    }

    /// A client that has logged in, or what it was told instead.
    pub(super) async fn enter(
        address: SocketAddr,
        user: &str,
        database: &str,
    ) -> Result<Self, ErrorReport> {
        Self::silent(address).await.login(user, database).await
    }

    /// Sends the start-up packet.
    pub(super) async fn start(&mut self, user: &str, database: &str) {
        let mut out = BytesMut::new();
        let parameters = [("user", user), ("database", database)];
        startup::startup(&mut out, startup::Version::V3_0, &parameters).expect("short");
        self.send(&out).await;
    }

    /// Logs in, with the password `secret` if one is asked for.
    pub(super) async fn login(mut self, user: &str, database: &str) -> Result<Self, ErrorReport> {
        self.start(user, database).await;
        loop {
            let (tag, body) = self.message().await.expect("an answer to the login");
            match tag {
                b'R' if body == [0, 0, 0, 3] => {
                    let mut out = BytesMut::new();
                    frontend::password(&mut out, b"secret").expect("short");
                    self.send(&out).await;
                }
                b'E' => return Err(ErrorReport::parse(&body)),
                b'Z' => return Ok(self),
                _ => {}
            }
        }
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) {
        self.wire.write_all(bytes).await.expect("sent");
    }

    /// The next message; `None` at the end.
    pub(super) async fn message(&mut self) -> Option<Message> {
        timeout(PATIENCE, async {
            let mut header = [0; 5];
            self.wire.read_exact(&mut header).await.ok()?;
            let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]);
            let mut body = vec![0; length as usize - 4];
            self.wire.read_exact(&mut body).await.ok()?;
            Some((header[0], body))
        })
        .await
        .expect("the proxy says something")
    }

    /// Sends a simple query without waiting.
    pub(super) async fn ask(&mut self, text: &str) {
        let mut out = BytesMut::new();
        frontend::query(&mut out, text.as_bytes()).expect("short");
        self.send(&out).await;
    }

    /// Everything up to ReadyForQuery, or to the end.
    pub(super) async fn answer(&mut self) -> Vec<Message> {
        let mut messages = Vec::new();
        while let Some(message) = self.message().await {
            let last = message.0 == b'Z';
            messages.push(message);
            if last {
                break;
            }
        }
        messages
    }

    /// Runs a simple query, which must go well.
    pub(super) async fn query(&mut self, text: &str) {
        self.ask(text).await;
        let answer = self.answer().await;
        assert!(error(&answer).is_none(), "{text}: {:?}", error(&answer));
        assert!(
            answer.last().is_some_and(|(tag, _)| *tag == b'Z'),
            "{text}: {answer:?}"
        );
    }

    /// Waits for the end of the connection, and gives the error that came before it.
    pub(super) async fn end(&mut self) -> Option<ErrorReport> {
        let mut last = None;
        while let Some((tag, body)) = self.message().await {
            if tag == b'E' {
                last = Some(ErrorReport::parse(&body));
            }
        }
        last
    }
}

/// The first error among messages.
pub(super) fn error(messages: &[Message]) -> Option<ErrorReport> {
    messages
        .iter()
        .find(|(tag, _)| *tag == b'E')
        .map(|(_, body)| ErrorReport::parse(body))
}
