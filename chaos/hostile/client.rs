//! A client that says what it likes.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use pgherd_net::{ServerTls, ServerTlsOptions, SocketOptions, SslMode, Stream, Target};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout_at};

use super::answer::{Answer, End, Message};
use super::{packet, scram};

/// The largest message that is read.
const MESSAGE_MAX: usize = 64 << 20;
/// How long the client listens before it calls the other side silent.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection to the proxy.
#[derive(Debug)]
pub struct Client {
    stream: Stream,
    buffer: Vec<u8>,
    patience: Duration,
    key: Option<(i32, Vec<u8>)>,
    address: SocketAddr,
}

impl Client {
    /// Connects, and says nothing yet.
    ///
    /// # Errors
    /// As the system says.
    pub async fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = pgherd_net::connect(&target(address), &SocketOptions::default()).await;
        Ok(Self::over(stream.map_err(io::Error::other)?, address))
    }

    /// Connects under TLS, without looking at the certificate.
    ///
    /// # Errors
    /// As the system says, or there is no TLS.
    pub async fn connect_tls(address: SocketAddr) -> io::Result<Self> {
        let options = ServerTlsOptions {
            mode: SslMode::Require,
            ..ServerTlsOptions::default()
        };
        let tls = ServerTls::new(options).map_err(io::Error::other)?;
        let options = SocketOptions::default();
        let stream = pgherd_net::connect_tls(&target(address), &options, &tls).await;
        Ok(Self::over(stream.map_err(io::Error::other)?, address))
    }

    fn over(stream: Stream, address: SocketAddr) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
            patience: PATIENCE,
            key: None,
            address,
        }
    }

    /// Connects and logs in as clients do.
    ///
    /// # Errors
    /// What was heard instead of a welcome.
    pub async fn login(
        address: SocketAddr,
        user: &str,
        password: &str,
        database: &str,
    ) -> Result<Self, Answer> {
        let mut client = Self::connect(address)
            .await
            .map_err(|_| Answer::nothing())?;
        let answer = client
            .authenticate(password, &[("user", user), ("database", database)])
            .await;
        match answer.end {
            End::Ready(_) => Ok(client),
            _ => Err(answer),
        }
    }

    /// Goes through start-up and authentication; all that was heard since the last request.
    pub async fn authenticate(&mut self, password: &str, parameters: &[(&str, &str)]) -> Answer {
        if self.send(&packet::startup(parameters)).await.is_err() {
            return Answer::nothing();
        }
        let asked = self.hear().await;
        match asked.end {
            End::Asked(10) => scram::login(self, password, &asked).await,
            End::Asked(3) => {
                let _ = self
                    .send(&packet::message(b'p', &packet::string(password)))
                    .await;
                self.hear().await
            }
            _ => asked,
        }
    }

    /// Sends these bytes.
    ///
    /// # Errors
    /// As the system says.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// Says that nothing more will be sent.
    pub async fn finish(&mut self) {
        // A connection that is closed already is finished as well.
        let _ = self.stream.shutdown().await;
    }

    /// Sends a query and hears the answer.
    pub async fn query(&mut self, text: &str) -> Answer {
        // A connection that is already closed shows when it is read.
        let _ = self.send(&packet::query(text)).await;
        self.hear().await
    }

    /// Listens until ReadyForQuery, a request for authentication, the end, or long silence.
    pub async fn hear(&mut self) -> Answer {
        let deadline = Instant::now() + self.patience;
        let mut messages = Vec::new();
        loop {
            let message = match timeout_at(deadline, self.message()).await {
                Err(_) => {
                    return Answer {
                        messages,
                        end: End::Silent,
                    };
                }
                Ok(Err(_) | Ok(None)) => {
                    return Answer {
                        messages,
                        end: End::Closed,
                    };
                }
                Ok(Ok(Some(message))) => message,
            };
            let end = match (message.tag, message.body.as_slice()) {
                (b'Z', [status]) => Some(End::Ready(*status)),
                (b'R', [a, b, c, d, ..]) => match u32::from_be_bytes([*a, *b, *c, *d]) {
                    0 | 12 => None,
                    code => Some(End::Asked(code)),
                },
                (b'K', [a, b, c, d, secret @ ..]) => {
                    self.key = Some((i32::from_be_bytes([*a, *b, *c, *d]), secret.to_vec()));
                    None
                }
                _ => None,
            };
            messages.push(message);
            if let Some(end) = end {
                return Answer { messages, end };
            }
        }
    }

    /// The next message; `None` at the end. What has come of one is kept if the future is dropped.
    ///
    /// # Errors
    /// As the system says, or when what comes cannot be a message.
    pub async fn message(&mut self) -> io::Result<Option<Message>> {
        loop {
            if let [tag, a, b, c, d, ..] = *self.buffer {
                let length = u32::from_be_bytes([a, b, c, d]) as usize;
                if !(4..=MESSAGE_MAX).contains(&length) {
                    return Err(io::Error::other("no message has this length"));
                }
                if self.buffer.len() > length {
                    let rest = self.buffer.split_off(length + 1);
                    let body = std::mem::replace(&mut self.buffer, rest).split_off(5);
                    return Ok(Some(Message { tag, body }));
                }
            }
            let mut chunk = [0; 16 * 1024];
            match self.stream.read(&mut chunk).await? {
                0 => return Ok(None),
                count => self.buffer.extend_from_slice(&chunk[..count]),
            }
        }
    }

    /// One byte, as the answer to a request for encryption; `None` at the end or in silence.
    pub async fn byte(&mut self) -> Option<u8> {
        let mut byte = [0];
        let read = self.stream.read(&mut byte);
        match tokio::time::timeout(self.patience, read).await {
            Ok(Ok(1)) => Some(byte[0]),
            _ => None,
        }
    }

    /// Every byte up to the end; `None` if the end does not come.
    pub async fn rest(&mut self) -> Option<Vec<u8>> {
        let mut rest = std::mem::take(&mut self.buffer);
        let read = self.stream.read_to_end(&mut rest);
        // A reset is an end as well.
        let _ = tokio::time::timeout(self.patience, read).await.ok()?;
        Some(rest)
    }

    /// Whether the connection is still open and nothing was said on it for this long.
    pub async fn stays_quiet(&mut self, time: Duration) -> bool {
        let mut byte = [0];
        tokio::time::timeout(time, self.stream.read(&mut byte))
            .await
            .is_err()
    }

    /// Listens no longer than this from now on.
    pub fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// The key by which the client may cancel.
    pub fn key(&self) -> Option<(i32, &[u8])> {
        self.key
            .as_ref()
            .map(|(pid, secret)| (*pid, secret.as_slice()))
    }

    /// Where it has connected to.
    pub fn peer(&self) -> SocketAddr {
        self.address
    }

    /// The hash of the proxy's certificate, under TLS.
    pub fn end_point(&self) -> Option<Vec<u8>> {
        self.stream.tls_info()?.server_end_point
    }
}

impl Answer {
    /// The connection ended before anything was said.
    pub(crate) fn nothing() -> Self {
        Self {
            messages: Vec::new(),
            end: End::Closed,
        }
    }
}

fn target(address: SocketAddr) -> Target {
    Target::Tcp {
        host: address.ip().to_string(),
        port: address.port(),
    }
}
