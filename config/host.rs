use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;

use crate::draft::Node;
use crate::setting::Setting;

/// A server of a database.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host {
    /// Where it is.
    pub address: Address,
    /// The name that has led to its address, which is the one that its certificate bears; `None` if
    /// the address is as it is written.
    pub name: Option<String>,
}

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// Over TCP.
    Tcp {
        /// A name or an address; IPv6 without brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// Over a unix socket, `<dir>/.s.PGSQL.<port>`.
    Unix {
        /// The directory of the socket.
        dir: PathBuf,
        /// The port in the socket's name.
        port: u16,
    },
}

/// The port of a Postgres server that says nothing else.
pub(crate) const SERVER_PORT: u16 = 5432;

impl Host {
    /// Takes a host by name, address, or absolute directory of a unix socket, as libpq does.
    pub fn new(host: &str, port: u16) -> Self {
        let address = if host.starts_with('/') {
            Address::Unix {
                dir: PathBuf::from(host),
                port,
            }
        } else {
            Address::Tcp {
                host: host.to_owned(),
                port,
            }
        };
        Self {
            address,
            name: None,
        }
    }

    /// The name that has to be looked up to find it; `None` for an address, a socket, or this machine
    /// itself (`localhost`), which never lead elsewhere.
    pub fn looked_up(&self) -> Option<&str> {
        let Address::Tcp { host, .. } = &self.address else {
            return None;
        };
        let label = host.trim_end_matches('.').rsplit('.').next();
        let here = label.is_some_and(|label| label.eq_ignore_ascii_case("localhost"));
        (!here && host.parse::<IpAddr>().is_err()).then_some(host)
    }

    /// Tells whether it is given by an endpoint of a cluster of Aurora's.
    pub fn is_aurora_endpoint(&self) -> bool {
        let name = self.looked_up().unwrap_or_default().to_ascii_lowercase();
        let name = name.trim_end_matches('.');
        let ends = [".rds.amazonaws.com", ".rds.amazonaws.com.cn"];
        name.contains(".cluster-") && ends.iter().any(|end| name.ends_with(end))
    }

    /// The host at an address that its name has led to.
    pub fn found_at(&self, ip: IpAddr) -> Self {
        match &self.address {
            Address::Tcp { host, port } => Self {
                address: Address::Tcp {
                    host: ip.to_string(),
                    port: *port,
                },
                name: Some(host.clone()),
            },
            Address::Unix { .. } => self.clone(),
        }
    }
}

impl Setting for Host {
    fn allowed() -> String {
        "\"host\", \"host:5432\", \"[::1]:5432\", \"/directory:5432\"".to_owned()
    }

    fn parse(node: &Node) -> Option<Self> {
        let (host, port) = split_port(node.text()?)?;
        let odd = |c: char| c.is_whitespace() || c.is_control() || "@?,".contains(c);
        if host.contains(odd) || (host.contains('/') && !host.starts_with('/')) {
            return None;
        }
        let port = port.unwrap_or(SERVER_PORT);
        (port > 0).then(|| Self::new(host, port))
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix { dir, port } => write!(f, "{}:{port}", dir.display()),
        }
    }
}

/// Parts a host from its port; IPv6 stands in brackets if there is a port, and may if not.
pub(crate) fn split_port(text: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = if let Some(inner) = text.strip_prefix('[') {
        let (host, rest) = inner.split_once(']')?;
        host.parse::<Ipv6Addr>().ok()?;
        match rest.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if rest.is_empty() => (host, None),
            None => return None,
        }
    } else if text.parse::<Ipv6Addr>().is_ok() {
        (text, None)
    } else {
        match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    let digits = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let port = match port {
        Some(port) if digits(port) => Some(port.parse().ok()?),
        Some(_) => return None,
        None => None,
    };
    (!host.is_empty()).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::{Host, split_port};

    #[test]
    fn only_names_are_looked_up() {
        let name = |host: &str| Host::new(host, 1).looked_up().map(str::to_owned);
        assert_eq!(name("db.internal").as_deref(), Some("db.internal"));
        for other in [
            "127.0.0.1",
            "::1",
            "localhost",
            "LocalHost.",
            "a.localhost",
            "/tmp",
        ] {
            assert_eq!(name(other), None, "{other}");
        }
        let found = Host::new("db", 7).found_at([10, 0, 0, 1].into());
        assert_eq!(found.to_string(), "10.0.0.1:7");
        assert_eq!(found.name.as_deref(), Some("db"));
        assert_eq!(found.looked_up(), None);
    }

    #[test]
    fn parts_hosts_from_ports() {
        assert_eq!(split_port("db"), Some(("db", None)));
        assert_eq!(split_port("db:1"), Some(("db", Some(1))));
        assert_eq!(split_port("[::1]:7"), Some(("::1", Some(7))));
        assert_eq!(split_port("::1"), Some(("::1", None)));
        assert_eq!(split_port("/tmp:9"), Some(("/tmp", Some(9))));
        for wrong in [
            "", ":1", "db:", "db:x", "db:+1", "db:70000", "[db]:1", "[::1]x", "a:b:c",
        ] {
            assert_eq!(
                split_port(wrong).filter(|(_, port)| port.is_some()),
                None,
                "{wrong}"
            );
        }
    }
}
