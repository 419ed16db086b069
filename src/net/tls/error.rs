//! What may go wrong with TLS.

use std::io;
use std::path::PathBuf;

/// Why a connection is not under TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The handshake failed: a certificate that is not trusted, no common version, bytes that are no TLS.
    #[error("the handshake failed: {0}")]
    Handshake(#[from] rustls::Error),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    /// The other side hung up.
    #[error("the other side hung up")]
    Closed,
    /// The server answered `N`.
    #[error("the server does not support TLS")]
    Unsupported,
    /// The server answered with an error, whose text is not to be believed.
    #[error("the server answered the request for TLS with an error")]
    ServerError,
    /// The server answered with a byte the protocol does not know.
    #[error("the server answered the request for TLS with byte {0:#04x}")]
    Answer(u8),
    /// Plain text followed the answer, and would have been taken for the server's.
    #[error("there was plain text behind the answer to the request for TLS")]
    Smuggled,
    /// The other side did not name the protocol `postgresql`, as direct TLS demands.
    #[error("the other side did not agree on the protocol postgresql (ALPN)")]
    Alpn,
    /// The server hung up on a TLS hello, or answered in plain text: it wants to be asked for TLS first.
    #[error("the server hung up at the first byte of TLS: direct TLS needs PostgreSQL 17 or later")]
    NotDirect,
    /// What the other side says is no TLS at all: most often plain text.
    #[error("the other side does not speak TLS")]
    Foreign,
    /// The host is neither a DNS name nor an IP address, so no certificate can be asked for.
    #[error("{0:?} is not a name a certificate can have")]
    Name(String),
    /// TLS was asked for where the mode is `disable`.
    #[error("TLS is switched off")]
    Disabled,
    /// The connection is under TLS already.
    #[error("the connection is under TLS already")]
    Nested,
}

impl TlsError {
    /// The error as it is to be told where TLS was the first thing the server heard. An older one takes the hello for
    /// a start-up packet without end, and hangs up; one that says why says so in plain text.
    pub(crate) fn of_direct(self) -> Self {
        match self {
            Self::Closed | Self::Handshake(rustls::Error::InvalidMessage(_)) => Self::NotDirect,
            Self::Io(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionReset
                        | io::ErrorKind::BrokenPipe
                        | io::ErrorKind::UnexpectedEof
                ) =>
            {
                Self::NotDirect
            }
            other => other,
        }
    }

    /// Whether `prefer` may go on in plain text: the server cannot do TLS, or not with us. An answer that shows
    /// somebody meddling is not one to fall back from.
    pub(crate) fn allows_fallback(&self) -> bool {
        matches!(
            self,
            Self::Handshake(_) | Self::Closed | Self::Io(_) | Self::Unsupported | Self::ServerError
        )
    }
}

/// Why certificates and keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsSetupError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The PEM text is broken, or holds no such thing.
    #[error("no {what} in the PEM text: {reason}")]
    Pem {
        /// What was looked for.
        what: &'static str,
        /// What the parser said.
        reason: String,
    },
    /// The certificate, the key or their pairing is refused.
    #[error("the certificate or key cannot be used: {0}")]
    Refused(#[from] rustls::Error),
    /// The mode checks certificates, and no authority is given to check them by.
    #[error("this sslmode needs a certificate authority")]
    NoRoots,
    /// Direct TLS leaves no way to plain text, so the mode must be `require` or stronger (as with libpq).
    #[error("direct TLS needs sslmode require, verify-ca or verify-full")]
    WeakDirect,
}
