//! Who is behind a proxy that carries a client's connection on.

use pgherd_config::Config;
use pgherd_net::{Peer, Stream};
use pgherd_wire::error::ErrorReport;
use pgherd_wire::proxy::{Progress, header};
use pgherd_wire::sqlstate;
use tokio::io::AsyncReadExt as _;

use crate::session::Bye;

/// Finds the other end of a connection; of one that comes from a proxy that is believed, the other end of that one's, as
/// it says in front of everything else. Nothing behind that is read. Until it has said so, and if it does not, `peer` is
/// the proxy.
pub(super) async fn find(stream: &mut Stream, config: &Config, peer: &mut Peer) -> Result<(), Bye> {
    *peer = stream.peer();
    let Peer::Tcp(proxy) = *peer else {
        return Ok(());
    };
    if !config.listen.is_proxy(proxy.ip()) {
        return Ok(());
    }
    let mut bytes = Vec::new();
    loop {
        match header(&bytes) {
            Ok(Progress::From(source)) => {
                *peer = source.map_or(*peer, Peer::Tcp);
                return Ok(());
            }
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
