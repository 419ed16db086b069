//! Opening a connection, without TLS.

use std::io;
use std::net::{IpAddr, SocketAddr};

use socket2::SockRef;
use tokio::net::{TcpSocket, UnixStream, lookup_host};

use crate::deadline::Deadline;
use crate::memory::Network;
use crate::options::SocketOptions;
use crate::socket::Socket;
use crate::stream::Stream;
use crate::target::Target;
use crate::tls::TlsError;

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

/// Connects without TLS: resolves the name and tries each of its addresses in turn.
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
    let mut last = resolve(io::Error::new(
        io::ErrorKind::NotFound,
        "the name has no address",
    ));
    for address in lookup_host((host, port)).await.map_err(resolve)? {
        match connect_address(address, options).await {
            Ok(socket) => return Ok(Stream::plain(socket)),
            Err(error) => last = ConnectError::from_io(target, error),
        }
    }
    Err(last)
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
    use super::{ConnectError, connect};
    use crate::testing::{accept, listener};
    use crate::{SocketOptions, Target};
    use socket2::SockRef;
    use std::time::Duration;

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
