//! Opening a connection, without TLS.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpSocket, UnixStream, lookup_host};
use tokio::task::JoinSet;

use crate::deadline::Deadline;
use crate::memory::Network;
use crate::options::SocketOptions;
use crate::socket::Socket;
use crate::stream::Stream;
use crate::target::Target;
use crate::tls::TlsError;

/// How long an address has before the next one of the same name is tried, too (RFC 8305, section 5).
const HEAD_START: Duration = Duration::from_millis(250);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The host's name has no address.
    #[error("cannot resolve {host}: {source}")]
    Resolve {
        /// The name asked for.
        host: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// Nobody listens there: the port is closed, or the socket file is missing or stale.
    #[error("{target} refused the connection: {source}")]
    Refused {
        /// The address asked for.
        target: Target,
        /// What the kernel said.
        source: io::Error,
    },
    /// There was no answer in time.
    #[error("{target} did not answer in time")]
    TimedOut {
        /// The address asked for.
        target: Target,
    },
    /// The connection stands, but TLS does not.
    #[error("no TLS with {target}: {source}")]
    Tls {
        /// The address asked for.
        target: Target,
        /// What went wrong.
        source: TlsError,
    },
    /// Anything else: no route, no permission, no descriptor left, a reset.
    #[error("cannot connect to {target}: {source}")]
    Other {
        /// The address asked for.
        target: Target,
        /// What the kernel said.
        source: io::Error,
    },
}

impl ConnectError {
    pub(crate) fn from_io(target: &Target, source: io::Error) -> Self {
        let target = target.clone();
        match (source.kind(), &target) {
            (io::ErrorKind::ConnectionRefused, _)
            | (io::ErrorKind::NotFound, Target::Unix { .. }) => Self::Refused { target, source },
            (io::ErrorKind::TimedOut, _) => Self::TimedOut { target },
            _ => Self::Other { target, source },
        }
    }
}

/// Connects without TLS: resolves the name and tries its addresses, each with a head start before the next.
///
/// It sets no deadline of its own; drop the future to give up.
///
/// # Errors
/// [`ConnectError`], of the address tried last.
pub async fn connect(target: &Target, options: &SocketOptions) -> Result<Stream, ConnectError> {
    connect_to(target, None, options).await
}

/// As [`connect`], to this one of the addresses that the name leads to, or once did.
pub(crate) async fn connect_to(
    target: &Target,
    address: Option<SocketAddr>,
    options: &SocketOptions,
) -> Result<Stream, ConnectError> {
    if let Network::Simulated(network) = &options.network {
        return Network::simulate(&**network, target).await;
    }
    match target {
        Target::Tcp { host, port } => match address {
            Some(address) => connect_address(address, options)
                .await
                .map(Stream::plain)
                .map_err(|error| ConnectError::from_io(target, error)),
            None => connect_tcp(target, host, *port, options).await,
        },
        Target::Unix { path } => match UnixStream::connect(path).await {
            Ok(stream) => Ok(Stream::plain(Socket::Unix(stream))),
            Err(error) => Err(ConnectError::from_io(target, error)),
        },
    }
}

/// The addresses that a name leads to, in the order in which they are to be tried, each once. It takes as long as the
/// resolver of the system; drop the future to give up.
///
/// # Errors
/// What the resolver said.
pub async fn resolve(name: &str) -> io::Result<Vec<IpAddr>> {
    let mut addresses: Vec<IpAddr> = Vec::new();
    for found in lookup_host((name, 0)).await? {
        if !addresses.contains(&found.ip()) {
            addresses.push(found.ip());
        }
    }
    Ok(addresses)
}

async fn connect_tcp(
    target: &Target,
    host: &str,
    port: u16,
    options: &SocketOptions,
) -> Result<Stream, ConnectError> {
    let resolve = |source| ConnectError::Resolve {
        host: host.to_owned(),
        source,
    };
    let addresses = lookup_host((host, port)).await.map_err(resolve)?;
    match connect_any(addresses, options).await {
        Ok(socket) => Ok(Stream::plain(socket)),
        Err(Some(error)) => Err(ConnectError::from_io(target, error)),
        Err(None) => Err(resolve(io::Error::new(
            io::ErrorKind::NotFound,
            "the name has no address",
        ))),
    }
}

/// Tries addresses in turn, and the next one also while the last says nothing, as RFC 8305 does: packets to the first may
/// be dropped on their way, and whoever waits has one deadline for all. Fails as the last that has failed.
async fn connect_any(
    addresses: impl IntoIterator<Item = SocketAddr>,
    options: &SocketOptions,
) -> Result<Socket, Option<io::Error>> {
    let mut addresses = addresses.into_iter();
    let mut attempts = JoinSet::new();
    let mut failed = None;
    loop {
        let next = addresses.next();
        let is_last = next.is_none();
        if let Some(address) = next {
            let options = options.clone();
            attempts.spawn(async move { connect_address(address, &options).await });
        }
        let ended = match is_last {
            true => attempts.join_next().await,
            false => match tokio::time::timeout(HEAD_START, attempts.join_next()).await {
                Ok(ended) => ended,
                Err(_) => continue,
            },
        };
        match ended {
            Some(Ok(Ok(socket))) => return Ok(socket),
            Some(Ok(Err(error))) => failed = Some(error),
            Some(Err(broken)) => failed = Some(io::Error::other(broken)),
            None => return Err(failed),
        }
    }
}

/// The options are set before the connection is opened: the user timeout then bounds the SYN, too.
async fn connect_address(address: SocketAddr, options: &SocketOptions) -> io::Result<Socket> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    options.apply(&SockRef::from(&socket))?;
    let stream = socket.connect(address).await?;
    Ok(Socket::Tcp(stream, Deadline::on(options.user_timeout)))
}

#[cfg(test)]
mod tests {
    use super::{ConnectError, connect, connect_any};
    use crate::testing::{accept, listener};
    use crate::{SocketOptions, Target};
    use socket2::{Domain, SockRef, Socket, Type};
    use std::net::{SocketAddr, TcpStream};
    use std::time::Duration;
    use tokio::time::timeout;

    /// An address whose packets nobody answers: what waits there to be accepted is all that it takes.
    struct Mute {
        address: SocketAddr,
        _held: (Socket, Vec<TcpStream>),
    }

    impl Mute {
        fn new() -> Self {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            let any = SocketAddr::from(([127, 0, 0, 1], 0));
            socket.bind(&any.into()).unwrap();
            socket.listen(0).unwrap();
            let address = socket.local_addr().unwrap().as_socket().unwrap();
            let wait = Duration::from_millis(300);
            let mut waiting = Vec::new();
            while let Ok(stream) = TcpStream::connect_timeout(&address, wait) {
                waiting.push(stream);
            }
            Self {
                address,
                _held: (socket, waiting),
            }
        }
    }

    #[tokio::test]
    async fn an_address_that_says_nothing_keeps_nobody_from_the_next() {
        let mute = Mute::new();
        let open = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let [open_at, closed_at] = [&open, &closed].map(|it| it.local_addr().unwrap());
        drop(closed);
        let options = SocketOptions::default();
        let patience = Duration::from_secs(10);
        let addresses = [mute.address, closed_at, open_at];
        let connected = timeout(patience, connect_any(addresses, &options)).await;
        let socket = connected.expect("in time").unwrap();
        assert_eq!(SockRef::from(&socket).peer_addr().unwrap(), open_at.into());
        let failed = timeout(patience, connect_any([closed_at], &options)).await;
        let error = failed.expect("in time").unwrap_err().unwrap();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
        assert!(connect_any([], &options).await.unwrap_err().is_none());
    }

    #[tokio::test]
    async fn a_closed_port_refuses() {
        let (listener, target) = listener();
        drop(listener);
        let error = connect(&target, &SocketOptions::default())
            .await
            .unwrap_err();
        assert!(matches!(error, ConnectError::Refused { .. }), "{error}");
        assert!(error.to_string().contains("127.0.0.1"));
    }

    #[tokio::test]
    async fn a_name_without_address_is_named() {
        // No resolver can have it: an empty label is no DNS name.
        let target = Target::Tcp {
            host: "no..such".to_owned(),
            port: 5432,
        };
        let error = connect(&target, &SocketOptions::default())
            .await
            .unwrap_err();
        assert!(
            matches!(&error, ConnectError::Resolve { host, .. } if host == "no..such"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn options_are_set_at_both_ends() {
        let (listener, target) = listener();
        let options = SocketOptions {
            user_timeout: Some(Duration::from_secs(7)),
            ..SocketOptions::default()
        };
        let near = connect(&target, &options).await.unwrap();
        let far = accept(&listener).await;
        let sockets = [near, far].map(|stream| stream.into_plain().unwrap());
        for socket in &sockets {
            let socket = SockRef::from(&**socket);
            assert!(socket.tcp_nodelay().unwrap());
            assert!(socket.keepalive().unwrap());
            assert_eq!(
                socket.tcp_keepalive_time().unwrap(),
                Duration::from_secs(60)
            );
        }
        let near = SockRef::from(&*sockets[0]);
        assert_eq!(near.tcp_user_timeout().unwrap(), options.user_timeout);
    }
}
