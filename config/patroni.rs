use std::fmt;
use std::path::PathBuf;

use crate::draft::Node;
use crate::files::check_pem;
use crate::host::split_port;
use crate::reader::Reader;
use crate::row::{Effect, Row};
use crate::section::{Check, Section};
use crate::setting::Setting;
use crate::tls::{Roots, check_pair};

/// Where Patroni answers over HTTP.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Patroni {
    /// Whether that is under TLS.
    pub scheme: Scheme,
    /// A name or an address; IPv6 without brackets.
    pub host: String,
    /// The port of its `restapi`.
    pub port: u16,
}

/// How Patroni is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// In plain text.
    Http,
    /// Under TLS, once it has proved who it is.
    Https,
}

/// TLS towards Patroni, whose certificate is always checked, and that it is for the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatroniTls {
    /// Whose certificates are believed; the system's authorities if nothing else is said.
    pub ca: Roots,
    /// The certificate chain shown to a Patroni that asks for one, PEM; present together with the key.
    pub cert: Option<PathBuf>,
    /// The private key of the certificate, PEM.
    pub key: Option<PathBuf>,
}

/// The port that Patroni's documentation has in all examples.
const USUAL_PORT: u16 = 8008;

impl Scheme {
    const ALL: [Self; 2] = [Self::Http, Self::Https];

    /// What stands in front of the host.
    fn prefix(self) -> &'static str {
        match self {
            Self::Http => "http://",
            Self::Https => "https://",
        }
    }
}

impl Setting for Patroni {
    fn allowed() -> String {
        "\"http://host\", \"http://host:8008\", \"https://host:8008\"".to_owned()
    }

    fn parse(node: &Node) -> Option<Self> {
        let text = node.text()?;
        let after = |scheme: Scheme| Some((scheme, text.strip_prefix(scheme.prefix())?));
        let (scheme, place) = Scheme::ALL.into_iter().find_map(after)?;
        let (host, port) = split_port(place.strip_suffix('/').unwrap_or(place))?;
        let odd = |c: char| c.is_whitespace() || c.is_control() || "@?,/#".contains(c);
        let port = port.unwrap_or(USUAL_PORT);
        (!host.contains(odd) && port > 0).then(|| Self {
            scheme,
            host: host.to_owned(),
            port,
        })
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for Patroni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.scheme.prefix(), self.authority())
    }
}

impl Patroni {
    /// The host and the port, as a request names them.
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl Default for PatroniTls {
    fn default() -> Self {
        Self {
            ca: Roots::System,
            cert: None,
            key: None,
        }
    }
}

impl Section for PatroniTls {
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            ca: reader.optional("ca").unwrap_or(Roots::System),
            cert: reader.optional("cert"),
            key: reader.optional("key"),
        })
    }

    fn rows(&self, path: &str) -> Vec<Row> {
        let row = |key: &str, value: String| {
            Row::plain(format!("{path}.{key}"), value, Effect::NextConnection)
        };
        let mut rows = vec![row("ca", self.ca.show())];
        rows.extend(self.cert.as_ref().map(|cert| row("cert", cert.show())));
        rows.extend(self.key.as_ref().map(|key| row("key", key.show())));
        rows
    }
}

impl Check for PatroniTls {
    fn check(&self, reader: &mut Reader<'_>) {
        if let Roots::File(file) = &self.ca {
            check_pem("ca", file, reader);
        }
        check_pair(self.cert.as_deref(), self.key.as_deref(), reader);
    }
}

/// Finds TLS towards Patroni under which nobody is asked.
pub(crate) fn check_sources(sources: &[Patroni], reader: &mut Reader<'_>) {
    if !reader.has("patroni_tls") {
        return;
    }
    if !reader.has("patroni") {
        let allowed = "with `patroni` only";
        reader.contradiction("patroni_tls", "no Patroni is asked", allowed);
    } else if !sources.is_empty() && !sources.iter().any(|it| it.scheme == Scheme::Https) {
        let what = "it protects nothing, as no source in `patroni` is https";
        reader.warn("patroni_tls", what);
    }
}
