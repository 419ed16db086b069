//! Asking a server to cancel what one of its sessions does.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;

use bytes::BytesMut;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout_at};

use crate::buffer::poll_read_into;
use crate::connect::{ConnectError, connect_to};
use crate::negotiate::connect_tls_to;
use crate::options::SocketOptions;
use crate::target::Target;
use crate::tls::ServerTls;

/// Opens a connection of its own, under TLS if `tls` says so, sends the CancelRequest `packet` and waits for the
/// server to hang up: by then it has signalled its session, or has not found it. There is no other answer.
///
/// Give the `tls` the server connection was made with, or the key travels in plain text; and the `address` to which it
/// was made, if there is one, since by now the name may lead to another machine, where the key means nothing, or
/// somebody else's session.
///
/// # Errors
/// [`ConnectError`]; [`ConnectError::TimedOut`] at the deadline. After an error it is unknown whether the request
/// has reached the server.
pub async fn send_cancel(
    target: &Target,
    address: Option<SocketAddr>,
    options: &SocketOptions,
    tls: Option<&ServerTls>,
    packet: &[u8],
    deadline: Instant,
) -> Result<(), ConnectError> {
    let delivery = Box::pin(deliver(target, address, options, tls, packet));
    timeout_at(deadline, delivery).await.unwrap_or_else(|_| {
        Err(ConnectError::TimedOut {
            target: target.clone(),
        })
    })
}

async fn deliver(
    target: &Target,
    address: Option<SocketAddr>,
    options: &SocketOptions,
    tls: Option<&ServerTls>,
    packet: &[u8],
) -> Result<(), ConnectError> {
    let mut stream = match tls {
        Some(tls) => connect_tls_to(target, address, options, tls).await?,
        None => connect_to(target, address, options).await?,
    };
    let failed = |error| ConnectError::from_io(target, error);
    stream.write_all(packet).await.map_err(failed)?;
    stream.flush().await.map_err(failed)?;
    let mut answer = BytesMut::new();
    loop {
        answer.clear();
        match poll_fn(|cx| poll_read_into(&mut stream, cx, &mut answer, ROOM)).await {
            Ok(0) => return Ok(()),
            // A server says nothing here; what says something all the same is read to its end.
            Ok(_) => {}
            Err(error) if hung_up(&error) => return Ok(()),
            Err(error) => return Err(failed(error)),
        }
    }
}

/// Bytes of an answer that are read, and dropped, at a time.
const ROOM: usize = 512;

/// PostgreSQL ends a cancel connection without `close_notify`, and may reset it.
fn hung_up(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset
    )
}

#[cfg(test)]
mod tests;
