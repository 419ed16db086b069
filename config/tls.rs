use std::path::PathBuf;

section! {
    /// TLS towards clients.
    pub struct ClientTls {
        /// How much is asked of clients.
        [NextConnection] mode: TlsMode,
        /// The certificate chain shown to clients, PEM.
        [NextConnection] cert: Option<PathBuf>,
        /// The private key of the certificate, PEM.
        [NextConnection] key: Option<PathBuf>,
        /// The authorities whose client certificates are accepted, PEM.
        [NextConnection] ca: Option<PathBuf>,
        /// The lowest protocol version spoken.
        [NextConnection] min_version: TlsVersion,
    }
}

/// How far TLS goes, in libpq's words.
/// <https://www.postgresql.org/docs/current/libpq-ssl.html#LIBPQ-SSL-PROTECTION>
///
/// Towards clients `VerifyCa` asks for a certificate of a known authority, and `VerifyFull` also
/// that its common name is the user's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsMode {
    /// Never.
    Disable,
    /// Only if the other side insists.
    Allow,
    /// If the other side can.
    Prefer,
    /// Always, whoever the other side is.
    Require,
    /// Always, with a certificate of a known authority.
    VerifyCa,
    /// Always, with a certificate of a known authority in the right name.
    VerifyFull,
}

/// A version of the TLS protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.2.
    V1_2,
    /// TLS 1.3.
    V1_3,
}

/// Whom to believe about a server's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Roots {
    /// The authorities of the operating system, as with libpq's `sslrootcert=system`.
    System,
    /// The authorities in a PEM file.
    File(PathBuf),
}

/// TLS towards the servers of a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTls {
    /// How far TLS goes; `VerifyFull` if only an authority was given.
    pub mode: TlsMode,
    /// The authorities; always present if the mode is `VerifyCa` or `VerifyFull`.
    pub ca: Option<Roots>,
    /// The certificate chain shown to the server, PEM; present together with the key.
    pub cert: Option<PathBuf>,
    /// The private key of the certificate, PEM.
    pub key: Option<PathBuf>,
    /// The name expected in the server's certificate, instead of the host's.
    pub server_name: Option<String>,
}

impl Default for ServerTls {
    fn default() -> Self {
        Self {
            mode: TlsMode::Prefer,
            ca: None,
            cert: None,
            key: None,
            server_name: None,
        }
    }
}
