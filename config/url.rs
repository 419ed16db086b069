//! Connection strings, as libpq reads them.
//! <https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING>

mod conninfo;
mod options;
mod pgpass;
mod rest;
mod uri;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::binding::ChannelBinding;
use crate::host::{Host, SERVER_PORT};
use crate::secret::Secret;
use crate::time;
use crate::tls::{Negotiation, Roots, TlsMode, TlsVersion};

/// What a connection string says, with the surroundings' answers where it is silent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// The servers, at least one.
    pub hosts: Vec<Host>,
    /// The database; the user's name if only that is known.
    pub dbname: Option<String>,
    /// The user.
    pub user: Option<String>,
    /// The user's password.
    pub password: Option<Secret>,
    /// How far TLS goes, if it is said.
    pub tls_mode: Option<TlsMode>,
    /// Whom to believe about the servers' certificates.
    pub ca: Option<Roots>,
    /// The certificate chain shown to the servers, PEM.
    pub cert: Option<PathBuf>,
    /// The private key of the certificate, PEM.
    pub key: Option<PathBuf>,
    /// The name in the server's certificate, where `hostaddr` says where it is.
    pub server_name: Option<String>,
    /// How TLS begins, if it is said; `Direct` only where nothing goes in plain text.
    pub negotiation: Option<Negotiation>,
    /// The lowest version of TLS, if one higher than the usual is asked for.
    pub tls_min_version: Option<TlsVersion>,
    /// Whether logins are bound to TLS, if it is said.
    pub channel_binding: Option<ChannelBinding>,
    /// For a connection to be opened; `Some(None)` is without end.
    pub connect_timeout: Option<Option<Duration>>,
    /// Parameters of the session, by name.
    pub parameters: BTreeMap<String, String>,
    /// Parameters that are libpq's own business or another library's, and have no effect here.
    pub ignored: Vec<String>,
}

/// What is known beside the string: variables, and the user's files.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// Environment variables.
    pub variables: &'a BTreeMap<String, String>,
    /// What stands in `~/.pgpass`.
    pub pgpass: &'a str,
    /// `~/.postgresql/root.crt`, if there is one.
    pub root_cert: Option<&'a PathBuf>,
}

/// What is wrong with a connection string; none shows a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlFault {
    /// It begins like nothing that is known.
    #[error("neither a postgres:// URL nor keyword=value pairs")]
    Form,
    /// A `%` without two hexadecimal digits, or bytes that are no text.
    #[error("the {0} has a `%` escape that is none")]
    Escape(&'static str),
    /// A host, or the port after it, cannot be understood; the port may be a part of a password
    /// with an unescaped slash, and is not shown.
    #[error("host {0:?}, or its port, cannot be understood; in a password, `/` is written %2F")]
    Host(String),
    /// There are neither one port nor as many as hosts.
    #[error("there are {ports} ports for {hosts} hosts")]
    Ports {
        /// How many hosts there are.
        hosts: usize,
        /// How many ports there are.
        ports: usize,
    },
    /// A pair without an equals sign, or an open quote; what stood before it.
    #[error("a name=value pair is not whole{}", if .0.is_empty() { String::new() } else { format!(", after `{}`", .0) })]
    Pair(String),
    /// There is no such parameter.
    #[error("no such parameter: {0:?}")]
    Unknown(String),
    /// A parameter has a value that is not allowed.
    #[error("{value:?} is not a value for `{name}`, but {allowed} is")]
    Value {
        /// The parameter.
        name: &'static str,
        /// What was written.
        value: String,
        /// What may be.
        allowed: String,
    },
    /// A parameter asks for more than is done, so that leaving it out would mislead.
    #[error("`{name}` cannot be honoured: {why}")]
    Refused {
        /// The parameter.
        name: &'static str,
        /// What is done, or what to write instead.
        why: &'static str,
    },
    /// The options have something else than settings.
    #[error("`options` has {0:?}, which is not `-c name=value`")]
    Options(String),
}

/// Settings of a session that many libraries take in a URL by their own names, as Postgres has them.
const SETTINGS: [&str; 9] = [
    "DateStyle",
    "TimeZone",
    "application_name",
    "client_encoding",
    "idle_in_transaction_session_timeout",
    "lock_timeout",
    "search_path",
    "statement_timeout",
    "timezone",
];

/// The parameters that libpq takes from variables; the file of passwords is asked last.
const VARIABLES: [(&str, &str); 20] = [
    ("host", "PGHOST"),
    ("hostaddr", "PGHOSTADDR"),
    ("port", "PGPORT"),
    ("user", "PGUSER"),
    ("password", "PGPASSWORD"),
    ("dbname", "PGDATABASE"),
    ("sslmode", "PGSSLMODE"),
    ("sslrootcert", "PGSSLROOTCERT"),
    ("sslcert", "PGSSLCERT"),
    ("sslkey", "PGSSLKEY"),
    ("connect_timeout", "PGCONNECT_TIMEOUT"),
    ("channel_binding", "PGCHANNELBINDING"),
    // Who asks for protection there is to get it, or to be told.
    ("sslnegotiation", "PGSSLNEGOTIATION"),
    ("sslcertmode", "PGSSLCERTMODE"),
    ("sslcrl", "PGSSLCRL"),
    ("sslcrldir", "PGSSLCRLDIR"),
    ("ssl_min_protocol_version", "PGSSLMINPROTOCOLVERSION"),
    ("require_auth", "PGREQUIREAUTH"),
    ("requirepeer", "PGREQUIREPEER"),
    ("gssencmode", "PGGSSENCMODE"),
];

impl Url {
    /// Understands a URL or keyword=value pairs.
    ///
    /// # Errors
    /// The first thing that is wrong; parameters that libpq does not know are wrong too.
    pub fn parse(text: &str, around: &Surroundings<'_>) -> Result<Self, UrlFault> {
        let text = text.trim();
        let mut said = if let Some(rest) = uri::after_scheme(text) {
            uri::parse(rest)?
        } else if is_of_another_scheme(text) || !text.contains('=') {
            return Err(UrlFault::Form);
        } else {
            conninfo::parse(text)?
        };
        // An empty value is as good as none, in libpq too.
        said.retain(|_, value| !value.is_empty());
        for (name, variable) in VARIABLES {
            // A host from the string must not meet an address from the variables.
            if name == "hostaddr" && said.contains_key("host") {
                continue;
            }
            if let Some(value) = around
                .variables
                .get(variable)
                .filter(|value| !value.is_empty())
            {
                said.entry(name.to_owned()).or_insert_with(|| value.clone());
            }
        }
        Self::of(said, around)
    }

    fn of(mut said: BTreeMap<String, String>, around: &Surroundings<'_>) -> Result<Self, UrlFault> {
        let mut take = |name: &str| said.remove(name);
        let (hosts, server_name) = hosts(take("host"), take("hostaddr"), take("port"))?;
        let user = take("user");
        let dbname = take("dbname").or_else(|| user.clone());
        let password = take("password")
            .or_else(|| pgpass::find(around.pgpass, &hosts, dbname.as_deref()?, user.as_deref()?));
        let tls_mode = tls_mode(take("sslmode"), take("ssl"))?;
        let ca = take("sslrootcert").map(|file| match file.as_str() {
            "system" => Roots::System,
            _ => Roots::File(PathBuf::from(file)),
        });
        let needs_ca = tls_mode.is_some_and(|mode| mode >= TlsMode::VerifyCa);
        let own = || {
            around
                .root_cert
                .filter(|_| needs_ca)
                .cloned()
                .map(Roots::File)
        };
        let negotiation = take("sslnegotiation").map(negotiation).transpose()?;
        let may_be_plain = tls_mode.unwrap_or(match ca {
            Some(_) => TlsMode::VerifyFull,
            None => TlsMode::Prefer,
        }) < TlsMode::Require;
        if negotiation == Some(Negotiation::Direct) && may_be_plain {
            return Err(UrlFault::Refused {
                name: "sslnegotiation",
                why: "direct leaves no way to plain text, so sslmode must be require, verify-ca or verify-full",
            });
        }
        let tls_min_version = take("ssl_min_protocol_version").map(min_version);
        let tls_min_version = tls_min_version.transpose()?.flatten();
        let own_cert = [take("sslcert"), take("sslkey")].map(|file| file.map(PathBuf::from));
        let [cert, key] = match shows_cert(take("sslcertmode"))? {
            true => own_cert,
            false => [None, None],
        };
        let channel_binding = take("channel_binding").map(binding).transpose()?;
        let connect_timeout = take("connect_timeout").map(timeout).transpose()?;
        let mut parameters = take("options").map_or_else(|| Ok(BTreeMap::new()), options::parse)?;
        let fallback = take("fallback_application_name");
        parameters.extend(fallback.map(|value| ("application_name".to_owned(), value)));
        parameters.extend(schema(take("schema"), take("currentSchema")));
        for name in SETTINGS {
            parameters.extend(take(name).map(|value| (name.to_owned(), value)));
        }
        // libpq's word for what the terminal speaks, and there is none here.
        let is_auto = parameters
            .get("client_encoding")
            .is_some_and(|it| it == "auto");
        if is_auto {
            parameters.remove("client_encoding");
        }
        let mut ignored = rest::sort(said)?;
        ignored.extend(is_auto.then(|| "client_encoding".to_owned()));
        Ok(Self {
            hosts,
            dbname,
            user,
            password: password.map(Secret::new),
            tls_mode,
            ca: ca.or_else(own),
            cert,
            key,
            server_name,
            negotiation,
            tls_min_version,
            channel_binding,
            connect_timeout,
            parameters,
            ignored,
        })
    }
}

/// Tells a URL of something else from pairs, whose values may have anything in them.
fn is_of_another_scheme(text: &str) -> bool {
    text.split_once("://")
        .is_some_and(|(scheme, _)| !scheme.contains('='))
}

fn hosts(
    host: Option<String>,
    address: Option<String>,
    port: Option<String>,
) -> Result<(Vec<Host>, Option<String>), UrlFault> {
    let names = host.clone().unwrap_or_default();
    let places = address.clone().or(host).unwrap_or_default();
    let places: Vec<&str> = places.split(',').collect();
    let ports = port.unwrap_or_default();
    let ports: Vec<&str> = ports.split(',').collect();
    if ports.len() != 1 && ports.len() != places.len() {
        return Err(UrlFault::Ports {
            hosts: places.len(),
            ports: ports.len(),
        });
    }
    let hosts = places.iter().enumerate().map(|(at, place)| {
        let port = ports
            .get(at)
            .or_else(|| ports.first())
            .copied()
            .unwrap_or_default();
        let port = if port.is_empty() {
            SERVER_PORT
        } else {
            let number = port.parse().ok().filter(|port: &u16| *port > 0);
            number.ok_or_else(|| UrlFault::Host((*place).to_owned()))?
        };
        let odd = |c: char| c.is_whitespace() || c.is_control() || "@[]?".contains(c);
        if place.contains(odd) {
            return Err(UrlFault::Host((*place).to_owned()));
        }
        Ok(Host::new(
            if place.is_empty() { "localhost" } else { place },
            port,
        ))
    });
    let hosts = hosts.collect::<Result<Vec<_>, _>>()?;
    let named = address.is_some() && hosts.len() == 1 && !names.is_empty();
    Ok((hosts, named.then_some(names)))
}

fn tls_mode(mode: Option<String>, ssl: Option<String>) -> Result<Option<TlsMode>, UrlFault> {
    let fault = |name, value, allowed: String| {
        Err(UrlFault::Value {
            name,
            value,
            allowed,
        })
    };
    match (mode, ssl) {
        (Some(word), _) => match TlsMode::from_word(&word) {
            Some(mode) => Ok(Some(mode)),
            None => fault("sslmode", word, TlsMode::WORDS.join(", ")),
        },
        // libpq takes this word of JDBC's, and only when it is true.
        (None, Some(word)) if word == "true" => Ok(Some(TlsMode::Require)),
        (None, Some(word)) => fault("ssl", word, "true".to_owned()),
        (None, None) => Ok(None),
    }
}

fn binding(word: String) -> Result<ChannelBinding, UrlFault> {
    ChannelBinding::from_word(&word).ok_or_else(|| UrlFault::Value {
        name: "channel_binding",
        value: word,
        allowed: ChannelBinding::WORDS.join(", "),
    })
}

fn negotiation(word: String) -> Result<Negotiation, UrlFault> {
    Negotiation::from_word(&word).ok_or_else(|| UrlFault::Value {
        name: "sslnegotiation",
        value: word,
        allowed: Negotiation::WORDS.join(", "),
    })
}

/// The lowest version of TLS, where it is higher than what is spoken anyway.
fn min_version(word: String) -> Result<Option<TlsVersion>, UrlFault> {
    match word.to_ascii_lowercase().as_str() {
        "tlsv1" | "tlsv1.1" | "tlsv1.2" => Ok(None),
        "tlsv1.3" => Ok(Some(TlsVersion::V1_3)),
        _ => Err(UrlFault::Value {
            name: "ssl_min_protocol_version",
            value: word,
            allowed: "TLSv1, TLSv1.1, TLSv1.2, TLSv1.3".to_owned(),
        }),
    }
}

/// Whether a server that asks for a certificate is shown one.
fn shows_cert(word: Option<String>) -> Result<bool, UrlFault> {
    match word.as_deref() {
        None | Some("allow") => Ok(true),
        Some("disable") => Ok(false),
        Some("require") => Err(UrlFault::Refused {
            name: "sslcertmode",
            why: "a server that asks for no certificate is spoken to as well",
        }),
        Some(other) => Err(UrlFault::Value {
            name: "sslcertmode",
            value: other.to_owned(),
            allowed: "disable, allow".to_owned(),
        }),
    }
}

/// The path to a schema that Prisma names, or to those that JDBC does. All have `public` in theirs anyway.
fn schema(one: Option<String>, path: Option<String>) -> Option<(String, String)> {
    let quoted = one.map(|name| format!("\"{}\"", name.replace('"', "\"\"")));
    let path = path.or_else(|| quoted.filter(|name| name != "\"public\""))?;
    Some(("search_path".to_owned(), path))
}

fn timeout(text: String) -> Result<Option<Duration>, UrlFault> {
    let seconds: Option<i64> = text.trim().parse().ok();
    match seconds {
        // As in libpq: zero and less is without end.
        Some(seconds) if seconds <= 0 => Ok(None),
        Some(seconds) if time::seconds(seconds.unsigned_abs()).is_some() => {
            Ok(Some(Duration::from_secs(seconds.unsigned_abs())))
        }
        _ => {
            let allowed = "a number of seconds".to_owned();
            Err(UrlFault::Value {
                name: "connect_timeout",
                value: text,
                allowed,
            })
        }
    }
}
