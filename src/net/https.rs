//! TLS with a server that speaks HTTP: from the first byte on.

use rustls::{ClientConnection, Connection, Error as RustlsError};

use crate::connect::{ConnectError, connect};
use crate::negotiate::server_name;
use crate::options::SocketOptions;
use crate::stream::Stream;
use crate::target::Target;
use crate::tls::{Channel, HttpsTls, TlsError};

/// Connects under TLS to a host, which is a DNS name or an IP address that its certificate must be for.
///
/// Under TLS 1.3 the connection stands before the server has looked at our certificate: whether it is content with that
/// shows when something is read.
///
/// It sets no deadline of its own; drop the future to give up.
///
/// # Errors
/// [`ConnectError`].
pub async fn connect_https(
    host: &str,
    port: u16,
    options: &SocketOptions,
    tls: &HttpsTls,
) -> Result<Stream, ConnectError> {
    let target = Target::Tcp {
        host: host.to_owned(),
        port,
    };
    let stream = connect(&target, options).await?;
    let secured = secure(stream, host, tls).await;
    secured.map_err(|source| ConnectError::Tls { target, source })
}

async fn secure(stream: Stream, host: &str, tls: &HttpsTls) -> Result<Stream, TlsError> {
    let socket = stream.into_plain().map_err(|_| TlsError::Nested)?;
    let connection = ClientConnection::new(tls.config(), server_name(host)?)?;
    let mut channel = Box::new(Channel::new(socket, Connection::Client(connection), None));
    match channel.handshake().await {
        Ok(()) => Ok(Stream::tls(channel)),
        Err(TlsError::Handshake(RustlsError::InvalidMessage(_))) => Err(TlsError::Foreign),
        Err(error) => Err(error),
    }
}
