//! libpq's `sslmode`.

use std::str::FromStr;

/// How much TLS is asked for, in libpq's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SslMode {
    /// Never TLS.
    Disable,
    /// Plain text, and TLS if the other side insists.
    Allow,
    /// TLS if it can be had.
    #[default]
    Prefer,
    /// TLS, with whomever; with an authority given, as [`VerifyCa`](Self::VerifyCa).
    Require,
    /// TLS with a certificate of an authority we trust.
    VerifyCa,
    /// And the certificate names the host.
    VerifyFull,
}

impl SslMode {
    /// Whether a connection to a server starts by asking for TLS.
    pub fn wants_tls(self) -> bool {
        self >= Self::Prefer
    }

    /// Whether plain text is out of the question.
    pub fn requires_tls(self) -> bool {
        self >= Self::Require
    }
}

/// The text is none of `disable`, `allow`, `prefer`, `require`, `verify-ca`, `verify-full`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an sslmode is one of disable, allow, prefer, require, verify-ca, verify-full")]
pub struct NoSuchMode;

impl FromStr for SslMode {
    type Err = NoSuchMode;

    fn from_str(text: &str) -> Result<Self, NoSuchMode> {
        Ok(match text {
            "disable" => Self::Disable,
            "allow" => Self::Allow,
            "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            _ => return Err(NoSuchMode),
        })
    }
}
