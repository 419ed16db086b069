//! TLS towards clients: what we show them and what we ask of them.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};

use super::certificate::end_point;
use super::error::TlsSetupError;
use super::identity::{Identity, Roots};
use super::mode::SslMode;
use super::version::TlsVersion;
use super::{ALPN, provider};

/// TLS towards clients, ready for use; cheap to clone.
///
/// The mode reads as PgBouncer's `client_tls_sslmode`: `allow` and `prefer` leave it to the client, `require` refuses
/// plain text, `verify-ca` and `verify-full` demand a client certificate too. With roots given, a certificate that is
/// sent is checked in every mode.
#[derive(Clone, Debug)]
pub struct ClientTls {
    mode: SslMode,
    config: Option<Arc<ServerConfig>>,
    end_point: Option<Arc<[u8]>>,
}

impl ClientTls {
    /// No TLS at all.
    pub fn disabled() -> Self {
        Self {
            mode: SslMode::Disable,
            config: None,
            end_point: None,
        }
    }

    /// Prepares our certificate and, with `roots`, the check of the clients'.
    ///
    /// # Errors
    /// [`TlsSetupError`].
    pub fn new(
        mode: SslMode,
        identity: Identity,
        roots: Option<Roots>,
    ) -> Result<Self, TlsSetupError> {
        Self::at_least(TlsVersion::default(), mode, identity, roots)
    }

    /// As [`ClientTls::new`], and refuses clients that speak no version from `oldest` on.
    ///
    /// # Errors
    /// [`TlsSetupError`].
    pub fn at_least(
        oldest: TlsVersion,
        mode: SslMode,
        identity: Identity,
        roots: Option<Roots>,
    ) -> Result<Self, TlsSetupError> {
        if mode == SslMode::Disable {
            return Ok(Self::disabled());
        }
        let end_point = identity
            .chain
            .first()
            .and_then(|own| end_point(own))
            .map(Arc::from);
        let config = Some(Arc::new(configure(oldest, mode, identity, roots)?));
        Ok(Self {
            mode,
            config,
            end_point,
        })
    }

    /// How much TLS is asked of a client.
    pub fn mode(&self) -> SslMode {
        self.mode
    }

    /// Whether an SSLRequest is answered with `S`.
    pub fn offers_tls(&self) -> bool {
        self.config.is_some()
    }

    /// Whether a client in plain text is turned away.
    pub fn requires_tls(&self) -> bool {
        self.mode.requires_tls()
    }

    pub(crate) fn config(&self) -> Option<Arc<ServerConfig>> {
        self.config.clone()
    }

    /// The channel binding data of our certificate, for SCRAM-SHA-256-PLUS; `None` if it cannot be offered.
    pub fn end_point(&self) -> Option<Arc<[u8]>> {
        self.end_point.clone()
    }
}

fn configure(
    oldest: TlsVersion,
    mode: SslMode,
    identity: Identity,
    roots: Option<Roots>,
) -> Result<ServerConfig, TlsSetupError> {
    let provider = provider();
    let demands = mode >= SslMode::VerifyCa;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(oldest.and_later())?;
    let builder = match roots {
        None if demands => return Err(TlsSetupError::NoRoots),
        None => builder.with_no_client_auth(),
        Some(roots) => {
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots.store), provider);
            let verifier = match demands {
                true => verifier,
                false => verifier.allow_unauthenticated(),
            };
            // The builder fails only on empty roots, and ours are never empty, or on revocation lists, of which there are none.
            builder.with_client_cert_verifier(verifier.build().map_err(|_| TlsSetupError::NoRoots)?)
        }
    };
    let mut config = builder.with_single_cert(identity.chain, identity.key)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // As PostgreSQL: no session is resumed, so none is remembered for thousands of idle clients.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}
