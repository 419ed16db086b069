use std::path::{Path, PathBuf};

use crate::draft::Node;
use crate::files::{check_key, check_pem};
use crate::reader::Reader;
use crate::row::{Effect, Row};
use crate::section::{Check, Section};
use crate::setting::Setting;

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

/// How TLS with a server begins, in libpq's words.
/// <https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-SSLNEGOTIATION>
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Negotiation {
    /// The server is asked first whether it speaks TLS.
    #[default]
    Postgres,
    /// The first byte is TLS; servers of PostgreSQL 17 and later understand it.
    Direct,
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
    /// How far TLS goes; `VerifyFull` if only an authority was given, and `VerifyCa` instead of
    /// `Require` if a file of authorities was.
    pub mode: TlsMode,
    /// The authorities; always present if the mode is `VerifyCa` or `VerifyFull`.
    pub ca: Option<Roots>,
    /// The certificate chain shown to the server, PEM; present together with the key.
    pub cert: Option<PathBuf>,
    /// The private key of the certificate, PEM.
    pub key: Option<PathBuf>,
    /// The name expected in the server's certificate, instead of the host's.
    pub server_name: Option<String>,
    /// How it begins; `Direct` only where the mode is `Require` or stronger.
    pub negotiation: Negotiation,
    /// The lowest protocol version spoken.
    pub min_version: TlsVersion,
}

impl Default for ServerTls {
    fn default() -> Self {
        Self {
            mode: TlsMode::Prefer,
            ca: None,
            cert: None,
            key: None,
            server_name: None,
            negotiation: Negotiation::Postgres,
            min_version: TlsVersion::V1_2,
        }
    }
}

words! {
    TlsMode {
        Disable = "disable",
        Allow = "allow",
        Prefer = "prefer",
        Require = "require",
        VerifyCa = "verify-ca",
        VerifyFull = "verify-full",
    }
}
words! { Negotiation { Postgres = "postgres", Direct = "direct", } }
words! { TlsVersion { V1_2 = "1.2", V1_3 = "1.3", } }

impl Setting for Roots {
    fn allowed() -> String {
        "\"system\", or the path of a PEM file".to_owned()
    }

    fn parse(node: &Node) -> Option<Self> {
        match node.text()? {
            "system" => Some(Self::System),
            _ => PathBuf::parse(node).map(Self::File),
        }
    }

    fn show(&self) -> String {
        match self {
            Self::System => "system".to_owned(),
            Self::File(file) => file.show(),
        }
    }
}

impl Check for ClientTls {
    fn check(&self, reader: &mut Reader<'_>) {
        check_pair(self.cert.as_deref(), self.key.as_deref(), reader);
        if let Some(ca) = &self.ca {
            check_pem("ca", ca, reader);
        }
        let mode = self.mode.word();
        if self.mode == TlsMode::Disable {
            if self.cert.is_some() && self.key.is_some() {
                reader.warn("cert", "it is not used, as the mode is disable");
            }
        } else if self.cert.is_none() && self.key.is_none() {
            let problem = format!("{mode} needs a certificate");
            reader.contradiction("mode", problem, "disable, or with `cert` and `key`");
        }
        if self.mode >= TlsMode::VerifyCa && self.ca.is_none() {
            let problem = format!("{mode} needs to know whom to believe");
            reader.contradiction("mode", problem, "up to require, or with `ca`");
        }
    }
}

impl Section for ServerTls {
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let mode: Option<TlsMode> = reader.optional("mode");
        let ca: Option<Roots> = reader.optional("ca");
        let cert = reader.optional("cert");
        let key = reader.optional("key");
        let server_name = reader.optional("server_name");
        let negotiation = reader.optional("negotiation").unwrap_or_default();
        let min_version = reader.optional("min_version").unwrap_or(TlsVersion::V1_2);
        let mode = match (mode, &ca) {
            (None, Some(_)) => TlsMode::VerifyFull,
            (None, None) => TlsMode::Prefer,
            // As in libpq: an authority that is named is asked, even by a mode that need not.
            (Some(TlsMode::Require), Some(Roots::File(_))) => TlsMode::VerifyCa,
            (Some(mode), _) => mode,
        };
        Some(Self {
            mode,
            ca,
            cert,
            key,
            server_name,
            negotiation,
            min_version,
        })
    }

    fn rows(&self, path: &str) -> Vec<Row> {
        let row = |key: &str, value: String| {
            Row::plain(format!("{path}.{key}"), value, Effect::NextConnection)
        };
        let mut rows = vec![row("mode", self.mode.show())];
        rows.extend(self.ca.as_ref().map(|ca| row("ca", ca.show())));
        rows.extend(self.cert.as_ref().map(|cert| row("cert", cert.show())));
        rows.extend(self.key.as_ref().map(|key| row("key", key.show())));
        rows.extend(
            self.server_name
                .as_ref()
                .map(|name| row("server_name", name.clone())),
        );
        if self.negotiation != Negotiation::Postgres {
            rows.push(row("negotiation", self.negotiation.show()));
        }
        if self.min_version != TlsVersion::V1_2 {
            rows.push(row("min_version", self.min_version.show()));
        }
        rows
    }
}

impl Check for ServerTls {
    fn check(&self, reader: &mut Reader<'_>) {
        check_pair(self.cert.as_deref(), self.key.as_deref(), reader);
        let mode = self.mode.word();
        // As in libpq: who has sent TLS already cannot go on without.
        if self.negotiation == Negotiation::Direct && self.mode < TlsMode::Require {
            let problem = format!("direct TLS leaves no way to plain text, which {mode} may take");
            let allowed = "postgres; or with `mode` require, verify-ca or verify-full";
            reader.contradiction("negotiation", problem, allowed);
        }
        match &self.ca {
            Some(Roots::File(file)) => {
                check_pem("ca", file, reader);
                if self.mode < TlsMode::Require {
                    reader.warn("mode", "it goes on without TLS, so `ca` protects nothing");
                }
            }
            // As in libpq: anyone may have a certificate of a public authority, so it says
            // nothing without the name.
            Some(Roots::System) if self.mode != TlsMode::VerifyFull => {
                let problem = format!("{mode} is too weak for the system's authorities");
                reader.contradiction("mode", problem, "verify-full");
            }
            None if self.mode >= TlsMode::VerifyCa => {
                let problem = format!("{mode} needs to know whom to believe");
                let allowed = "with `ca`, \"system\" or a file; or up to require";
                reader.contradiction("mode", problem, allowed);
            }
            Some(Roots::System) | None => {}
        }
    }
}

/// Finds a certificate without a key, or the other way, and files that cannot be used.
pub(crate) fn check_pair(cert: Option<&Path>, key: Option<&Path>, reader: &mut Reader<'_>) {
    match (cert, key) {
        (Some(_), None) => reader.contradiction("cert", "it has no key", "with `key` only"),
        (None, Some(_)) => reader.contradiction("key", "it has no certificate", "with `cert` only"),
        _ => {}
    }
    if let Some(cert) = cert {
        check_pem("cert", cert, reader);
    }
    if let Some(key) = key {
        check_key("key", key, reader);
    }
}
