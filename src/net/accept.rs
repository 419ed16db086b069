//! TLS towards a client.

use rustls::{Connection, ServerConnection};

use crate::stream::Stream;
use crate::tls::{Channel, ClientTls, TlsError};

/// Takes a client into TLS, after its SSLRequest was answered with `S`.
///
/// The caller has made sure that nothing it had read was left behind the request: such bytes came in plain text, from
/// whomever (CVE-2021-23214).
///
/// # Errors
/// [`TlsError`]; the connection is closed then.
pub async fn accept_tls(stream: Stream, tls: &ClientTls) -> Result<Stream, TlsError> {
    let socket = stream.into_plain().map_err(|_| TlsError::Nested)?;
    let config = tls.config().ok_or(TlsError::Disabled)?;
    let connection = Connection::Server(ServerConnection::new(config)?);
    let mut channel = Box::new(Channel::new(socket, connection, tls.end_point()));
    channel.handshake().await?;
    Ok(Stream::tls(channel))
}

/// Takes a client into TLS that opened with a TLS hello (`sslnegotiation=direct`). It must name the protocol
/// `postgresql` (ALPN), or another protocol's client could be led here.
///
/// # Errors
/// [`TlsError`]; the connection is closed then.
pub async fn accept_tls_direct(stream: Stream, tls: &ClientTls) -> Result<Stream, TlsError> {
    let stream = accept_tls(stream, tls).await?;
    match stream.tls_info() {
        Some(info) if info.speaks_postgres() => Ok(stream),
        _ => Err(TlsError::Alpn),
    }
}

#[cfg(test)]
mod tests;
