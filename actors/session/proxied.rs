//! Who is behind a proxy that carries a client's connection on.

use pgherd_config::Config;
use pgherd_net::{Peer, Stream};
use pgherd_wire::error::ErrorReport;
use pgherd_wire::proxy::{Progress, header};
use pgherd_wire::sqlstate;
use tokio::io::AsyncReadExt as _;

use crate::session::Bye;

/// The other end of a connection; of one that comes from a proxy that is believed, the other end of that one's, as it
/// says in front of everything else. Nothing behind that is read.
pub(super) async fn peer(stream: &mut Stream, config: &Config) -> Result<Peer, Bye> {
    let peer = stream.peer();
    let Peer::Tcp(proxy) = peer else {
        return Ok(peer);
    };
    if !config.listen.is_proxy(proxy.ip()) {
        return Ok(peer);
    }
    let mut bytes = Vec::new();
    loop {
        match header(&bytes) {
            Ok(Progress::From(source)) => return Ok(source.map_or(peer, Peer::Tcp)),
            Ok(Progress::Needs(count)) => {
                let here = bytes.len();
                bytes.resize(here + count, 0);
                let read = stream.read(&mut bytes[here..]).await;
                match read {
                    Ok(read) if read > 0 => bytes.truncate(here + read),
                    // Who looks whether the port is open does just this.
                    Ok(_) | Err(_) => return Err(Bye::Gone),
                }
            }
            // Whoever it is does not wait for an answer in our protocol.
            Err(error) => {
                let text = format!("{error} (listen.proxies has {})", proxy.ip());
                let report = ErrorReport::fatal(sqlstate::PROTOCOL_VIOLATION, text);
                return Err(Bye::Refused(Box::new(report)));
            }
        }
    }
}
