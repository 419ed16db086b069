//! What two sides agreed on.

use super::ALPN;
use super::certificate::PeerCertificate;

/// The TLS of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsInfo {
    /// `TLSv1.2` or `TLSv1.3`, as `pg_stat_ssl` spells it.
    pub version: &'static str,
    /// The cipher suite by its IANA name.
    pub cipher: String,
    /// The protocol agreed on by ALPN, if any.
    pub alpn: Option<Vec<u8>>,
    /// The channel binding data `tls-server-end-point` (RFC 5929 §4): a hash of the server's certificate. `None`
    /// if its signature algorithm names no hash (Ed25519).
    pub server_end_point: Option<Vec<u8>>,
    /// The other side's certificate. A server always has one; a client's is there only if it was asked for, sent and
    /// checked.
    pub peer_certificate: Option<PeerCertificate>,
}

impl TlsInfo {
    /// Whether both sides named the protocol `postgresql`.
    pub fn speaks_postgres(&self) -> bool {
        self.alpn.as_deref() == Some(ALPN)
    }
}
