//! TLS towards a server that speaks HTTP.

use std::sync::Arc;

use rustls::ClientConfig;

use super::error::TlsSetupError;
use super::identity::{Identity, Roots};
use super::server::configure;
use super::verify::Check;
use super::version::TlsVersion;

/// The protocol's name in TLS, IANA's registry of ALPN protocol ids.
const HTTP: &[u8] = b"http/1.1";

/// TLS towards a server that speaks HTTP, ready for use; cheap to clone. The server's certificate is always checked, and
/// that it is for the host, as with [`SslMode::VerifyFull`](super::SslMode::VerifyFull).
#[derive(Clone, Debug)]
pub struct HttpsTls {
    config: Arc<ClientConfig>,
}

impl HttpsTls {
    /// Prepares the check of the server's certificate and what we show if we are asked for one.
    ///
    /// # Errors
    /// [`TlsSetupError::Refused`] if the certificate and the key of ours do not belong together.
    pub fn new(roots: Roots, identity: Option<Identity>) -> Result<Self, TlsSetupError> {
        let check = Check::ChainAndName(roots);
        let config = configure(check, TlsVersion::default(), identity, HTTP)?;
        Ok(Self {
            config: Arc::new(config),
        })
    }

    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }
}

#[cfg(test)]
mod tests;
