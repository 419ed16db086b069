//! TLS by rustls: what is agreed on, what is trusted, and the pump between rustls and a socket.

mod certificate;
mod channel;
mod client;
mod error;
mod https;
mod identity;
mod info;
mod mode;
mod server;
mod verify;
mod version;

pub use certificate::PeerCertificate;
pub(crate) use channel::Channel;
pub use client::ClientTls;
pub use error::{TlsError, TlsSetupError};
pub use https::HttpsTls;
pub use identity::{Identity, Roots};
pub use info::TlsInfo;
pub use mode::{NoSuchMode, SslMode};
pub use server::{ServerTls, ServerTlsOptions};
pub use version::TlsVersion;

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};

/// The protocol's name in TLS, IANA's registry of ALPN protocol ids.
const ALPN: &[u8] = b"postgresql";

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
