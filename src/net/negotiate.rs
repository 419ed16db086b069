//! TLS towards a server, as libpq agrees on it.

use std::io;
use std::net::SocketAddr;

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, Connection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::connect::{ConnectError, connect_to};
use crate::options::SocketOptions;
use crate::socket::Socket;
use crate::stream::Stream;
use crate::target::Target;
use crate::tls::{Channel, ServerTls, SslMode, TlsError};

/// The SSLRequest message: its length and the code 80877103 (PostgreSQL manual, "Message Formats").
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// Connects and agrees on TLS as the mode says.
///
/// A unix socket is never encrypted, whatever the mode, as with libpq. [`SslMode::Allow`] connects in plain text: only
/// the login can tell that the server wants TLS, and the caller then tries again with [`SslMode::Require`].
/// [`SslMode::Prefer`] falls back to plain text, on a new connection if the first one is spoilt.
///
/// # Errors
/// [`ConnectError`]. The text of an error the server sent instead of an answer is never part of it: nobody has
/// vouched for it (CVE-2024-10977).
pub async fn connect_tls(
    target: &Target,
    options: &SocketOptions,
    tls: &ServerTls,
) -> Result<Stream, ConnectError> {
    connect_tls_to(target, None, options, tls).await
}

/// As [`connect_tls`], to this one of the addresses that the name leads to, or once did. The server's certificate is still
/// to be for the name.
///
/// # Errors
/// As [`connect_tls`].
pub async fn connect_tls_to(
    target: &Target,
    address: Option<SocketAddr>,
    options: &SocketOptions,
    tls: &ServerTls,
) -> Result<Stream, ConnectError> {
    let stream = connect_to(target, address, options).await?;
    let host = match target {
        Target::Tcp { host, .. } if tls.mode().wants_tls() => host,
        _ => return Ok(stream),
    };
    // Boxed, so that the many futures that hold this one stay small.
    match Box::pin(secure(stream, host, tls)).await {
        Ok(stream) => Ok(stream),
        Err(error) if tls.mode() == SslMode::Prefer && error.allows_fallback() => {
            connect_to(target, address, options).await
        }
        Err(source) => Err(ConnectError::Tls {
            target: target.clone(),
            source,
        }),
    }
}

async fn secure(mut stream: Stream, host: &str, tls: &ServerTls) -> Result<Stream, TlsError> {
    if !tls.is_direct() {
        match ask(&mut stream).await? {
            Answer::Yes => {}
            Answer::No if tls.mode() == SslMode::Prefer => return Ok(stream),
            Answer::No => return Err(TlsError::Unsupported),
        }
    }
    let socket = stream.into_plain().map_err(|_| TlsError::Nested)?;
    if !tls.is_direct() {
        check_silence(&socket)?;
    }
    let name = server_name(tls.server_name().unwrap_or(host))?;
    let config = tls.config().ok_or(TlsError::Disabled)?;
    let connection = Connection::Client(ClientConnection::new(config, name)?);
    let mut channel = Box::new(Channel::new(socket, connection, None));
    channel
        .handshake()
        .await
        .map_err(|error| match tls.is_direct() {
            true => error.of_direct(),
            false => error,
        })?;
    let stream = Stream::tls(channel);
    let spoke = stream.tls_info().is_some_and(|info| info.speaks_postgres());
    if tls.is_direct() && !spoke {
        return Err(TlsError::Alpn);
    }
    Ok(stream)
}

enum Answer {
    Yes,
    No,
}

/// Sends SSLRequest and reads one byte of answer, never more: what follows belongs to the handshake.
async fn ask(stream: &mut Stream) -> Result<Answer, TlsError> {
    stream.write_all(&SSL_REQUEST).await?;
    let mut answer = [0];
    if stream.read(&mut answer).await? == 0 {
        return Err(TlsError::Closed);
    }
    match answer[0] {
        b'S' => Ok(Answer::Yes),
        b'N' => Ok(Answer::No),
        b'E' => Err(TlsError::ServerError),
        other => Err(TlsError::Answer(other)),
    }
}

/// A server has nothing to say before our hello: bytes behind the `S` were put there by somebody else
/// (CVE-2021-23222). Any that arrive later end in rustls, which refuses them as no handshake.
fn check_silence(socket: &Socket) -> Result<(), TlsError> {
    match socket.peek_now(&mut [0]) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        Err(error) => Err(error.into()),
        Ok(0) => Err(TlsError::Closed),
        Ok(_) => Err(TlsError::Smuggled),
    }
}

/// The name in the form that certificates are checked against.
pub(crate) fn server_name(host: &str) -> Result<ServerName<'static>, TlsError> {
    // A fully qualified name may end in a dot; certificates are written without it.
    let host = host.strip_suffix('.').unwrap_or(host);
    ServerName::try_from(host.to_owned()).map_err(|_| TlsError::Name(host.to_owned()))
}

#[cfg(test)]
mod tests;
