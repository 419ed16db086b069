use std::fmt;

use crate::draft::Node;
use crate::host::split_port;
use crate::setting::Setting;

/// Where Patroni answers over HTTP.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Patroni {
    /// A name or an address; IPv6 without brackets.
    pub host: String,
    /// The port of its `restapi`.
    pub port: u16,
}

/// The port that Patroni's documentation has in all examples.
const USUAL_PORT: u16 = 8008;

impl Setting for Patroni {
    fn allowed() -> String {
        "\"http://host\", \"http://host:8008\"".to_owned()
    }

    fn parse(node: &Node) -> Option<Self> {
        let text = node.text()?;
        let place = text.strip_prefix("http://")?;
        let (host, port) = split_port(place.strip_suffix('/').unwrap_or(place))?;
        let odd = |c: char| c.is_whitespace() || c.is_control() || "@?,/#".contains(c);
        let port = port.unwrap_or(USUAL_PORT);
        (!host.contains(odd) && port > 0).then(|| Self {
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
        write!(f, "http://{}", self.authority())
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
