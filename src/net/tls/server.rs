//! TLS towards servers: what a connection asks for and whom it trusts.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::Resumption;

use super::error::TlsSetupError;
use super::identity::{Identity, Roots};
use super::mode::SslMode;
use super::verify::{Check, Verifier};
use super::version::TlsVersion;
use super::{ALPN, provider};

/// What an operator says about TLS towards a server.
#[derive(Clone, Debug, Default)]
pub struct ServerTlsOptions {
    /// How much TLS is asked for.
    pub mode: SslMode,
    /// Whom we trust. Given, a certificate is checked in every mode that comes to TLS, as with libpq's root
    /// certificate file.
    pub roots: Option<Roots>,
    /// What we show a server that asks for a client certificate.
    pub identity: Option<Identity>,
    /// The name to send and to check in the place of the host's.
    pub server_name: Option<String>,
    /// Starts with TLS at once (`sslnegotiation=direct`, PostgreSQL 17 and later).
    pub direct: bool,
    /// The oldest version of TLS that is spoken.
    pub oldest: TlsVersion,
}

/// TLS towards a server, ready for use; cheap to clone.
#[derive(Clone, Debug)]
pub struct ServerTls {
    mode: SslMode,
    config: Option<Arc<ClientConfig>>,
    server_name: Option<String>,
    direct: bool,
}

impl ServerTls {
    /// Checks and prepares the options.
    ///
    /// # Errors
    /// [`TlsSetupError`].
    pub fn new(options: ServerTlsOptions) -> Result<Self, TlsSetupError> {
        let mode = options.mode;
        if options.direct && !mode.requires_tls() {
            return Err(TlsSetupError::WeakDirect);
        }
        let config = match mode.wants_tls() {
            true => {
                let check = check(mode, options.roots)?;
                let config = configure(check, options.oldest, options.identity, ALPN)?;
                Some(Arc::new(config))
            }
            false => None,
        };
        Ok(Self {
            mode,
            config,
            server_name: options.server_name,
            direct: options.direct,
        })
    }

    /// How much TLS is asked for.
    pub fn mode(&self) -> SslMode {
        self.mode
    }

    /// Whether a connection starts with TLS at once.
    pub fn is_direct(&self) -> bool {
        self.direct
    }

    pub(crate) fn server_name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    pub(crate) fn config(&self) -> Option<Arc<ClientConfig>> {
        self.config.clone()
    }
}

fn check(mode: SslMode, roots: Option<Roots>) -> Result<Check, TlsSetupError> {
    Ok(match (mode, roots) {
        (SslMode::VerifyFull, Some(roots)) => Check::ChainAndName(roots),
        (SslMode::VerifyFull | SslMode::VerifyCa, None) => return Err(TlsSetupError::NoRoots),
        (_, Some(roots)) => Check::Chain(roots),
        (_, None) => Check::Nothing,
    })
}

/// What a connection to a server asks for that speaks this protocol (ALPN).
pub(super) fn configure(
    check: Check,
    oldest: TlsVersion,
    identity: Option<Identity>,
    protocol: &[u8],
) -> Result<ClientConfig, TlsSetupError> {
    let provider = provider();
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(oldest.and_later())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier { check, provider }));
    let mut config = match identity {
        Some(identity) => builder.with_client_auth_cert(identity.chain, identity.key)?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![protocol.to_vec()];
    // PostgreSQL gives out no tickets, so there is nothing to remember; others are not met that often.
    config.resumption = Resumption::disabled();
    Ok(config)
}
