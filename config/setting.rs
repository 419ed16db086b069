use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use crate::draft::{Node, Value};
use crate::fault::{Findings, Origin, Problem};
use crate::host::split_port;
use crate::secret::Secret;
use crate::time;

/// A type that a setting may have.
pub(crate) trait Setting: Sized {
    /// How `None` is written.
    const OFF: &str = "";

    /// Says in words what may be written.
    fn allowed() -> String;

    /// Understands a value; `None` if it is not allowed.
    fn parse(node: &Node) -> Option<Self>;

    /// Writes the value for people.
    fn show(&self) -> String;

    /// Tells whether a value means "off", where that is possible.
    fn is_off(node: &Node) -> bool {
        node.text() == Some("")
    }

    /// Says how a faulty value is told of; a secret must not be.
    fn written(node: &Node) -> String {
        node.written()
    }

    /// Reads a value, or tells of its faults.
    fn read(node: &Node, path: &str, findings: &mut Findings) -> Option<Self> {
        let value = Self::parse(node);
        if value.is_none() {
            let problem = Problem::Value(Self::written(node));
            findings.fault(&node.origin, path, problem, Self::allowed());
        }
        value
    }
}

impl<T: Setting> Setting for Option<T> {
    const OFF: &str = T::OFF;

    fn allowed() -> String {
        let off = if T::OFF.is_empty() { "\"\"" } else { T::OFF };
        format!("{}; {off} for none", T::allowed())
    }

    fn parse(node: &Node) -> Option<Self> {
        if T::is_off(node) {
            Some(None)
        } else {
            T::parse(node).map(Some)
        }
    }

    fn show(&self) -> String {
        self.as_ref().map_or_else(|| T::OFF.to_owned(), T::show)
    }

    fn written(node: &Node) -> String {
        T::written(node)
    }
}

impl<T: Setting> Setting for Vec<T> {
    fn allowed() -> String {
        format!("a list of {}", T::allowed())
    }

    fn parse(node: &Node) -> Option<Self> {
        items(node)?.iter().map(T::parse).collect()
    }

    fn show(&self) -> String {
        self.iter().map(T::show).collect::<Vec<_>>().join(", ")
    }

    fn read(node: &Node, path: &str, findings: &mut Findings) -> Option<Self> {
        let Some(items) = items(node) else {
            let problem = Problem::Value(node.written());
            findings.fault(&node.origin, path, problem, Self::allowed());
            return None;
        };
        // All are read before any is missed, so that all faults are found.
        let read: Vec<_> = items
            .iter()
            .map(|item| T::read(item, path, findings))
            .collect();
        read.into_iter().collect()
    }
}

/// Gives the items of a list; in a variable they are parted by commas.
fn items(node: &Node) -> Option<Vec<Node>> {
    match &node.value {
        Value::List(items) => Some(items.clone()),
        Value::Text(text) if node.is_untyped() => Some(
            text.split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty())
                .map(|item| Node::text_at(&node.origin, item))
                .collect(),
        ),
        _ => None,
    }
}

impl Setting for String {
    fn allowed() -> String {
        "a text".to_owned()
    }

    fn parse(node: &Node) -> Option<Self> {
        node.text()
            .filter(|text| !text.is_empty() && !text.contains('\0'))
            .map(str::to_owned)
    }

    fn show(&self) -> String {
        self.clone()
    }
}

impl Setting for Secret {
    fn allowed() -> String {
        "a text".to_owned()
    }

    fn parse(node: &Node) -> Option<Self> {
        String::parse(node).map(Self::new)
    }

    fn show(&self) -> String {
        format!("{self:?}")
    }

    fn written(_: &Node) -> String {
        "what is given".to_owned()
    }
}

impl Setting for bool {
    fn allowed() -> String {
        "true, false".to_owned()
    }

    fn parse(node: &Node) -> Option<Self> {
        match &node.value {
            Value::Boolean(value) => Some(*value),
            Value::Text(text) if node.is_untyped() => text.trim().parse().ok(),
            _ => None,
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// Numbers beyond this are slips of the finger; they would also overflow sums.
const MOST: i64 = 1_000_000_000_000;

impl Setting for usize {
    fn allowed() -> String {
        "a number from 0".to_owned()
    }

    fn parse(node: &Node) -> Option<Self> {
        node.integer()
            .filter(|number| *number <= MOST)
            .and_then(|number| number.try_into().ok())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for NonZeroUsize {
    const OFF: &str = "0";

    fn allowed() -> String {
        "a number from 1".to_owned()
    }

    fn parse(node: &Node) -> Option<Self> {
        usize::parse(node).and_then(Self::new)
    }

    fn show(&self) -> String {
        self.to_string()
    }

    fn is_off(node: &Node) -> bool {
        node.integer() == Some(0)
    }
}

impl Setting for u32 {
    fn allowed() -> String {
        format!("a number from 1 to {}", i32::MAX)
    }

    fn parse(node: &Node) -> Option<Self> {
        let number = node
            .integer()
            .filter(|number| (1..=i64::from(i32::MAX)).contains(number))?;
        number.try_into().ok()
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for u16 {
    fn allowed() -> String {
        "a port from 1 to 65535".to_owned()
    }

    fn parse(node: &Node) -> Option<Self> {
        node.integer()
            .and_then(|number| number.try_into().ok())
            .filter(|port| *port > 0)
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for Duration {
    const OFF: &str = "0";

    fn allowed() -> String {
        "seconds, or a text such as \"500ms\", \"30s\", \"5m\", \"1h\", \"1d\"".to_owned()
    }

    fn parse(node: &Node) -> Option<Self> {
        match node.integer() {
            Some(seconds) => time::seconds(seconds.try_into().ok()?),
            None => time::parse(node.text()?),
        }
    }

    fn show(&self) -> String {
        time::show(*self)
    }

    fn is_off(node: &Node) -> bool {
        Self::parse(node) == Some(Self::ZERO)
    }
}

impl Setting for PathBuf {
    fn allowed() -> String {
        "a path, relative to the file it stands in".to_owned()
    }

    fn parse(node: &Node) -> Option<Self> {
        let path = Self::from(String::parse(node)?);
        Some(match &node.origin {
            Origin::File { file, .. } => file
                .parent()
                .map_or_else(|| path.clone(), |dir| dir.join(&path)),
            _ => path,
        })
    }

    fn show(&self) -> String {
        self.display().to_string()
    }
}

impl Setting for SocketAddr {
    fn allowed() -> String {
        "\"127.0.0.1:6432\", \"[::1]:6432\", \"localhost:6432\", \"*:6432\" for all of IPv4, \
         \"[::]:6432\" for all"
            .to_owned()
    }

    fn parse(node: &Node) -> Option<Self> {
        let (host, port) = split_port(node.text()?)?;
        let ip = match host {
            "*" => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
            host => host.parse().ok()?,
        };
        Some(Self::new(ip, port.unwrap_or(DEFAULT_PORT)))
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// The port where clients look for a pooler, PgBouncer's.
pub(crate) const DEFAULT_PORT: u16 = 6432;
