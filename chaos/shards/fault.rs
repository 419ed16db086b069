use std::fmt;
use std::str::FromStr;

use crate::failover;

/// What is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The primary of a shard, upon which one of its replicas is promoted.
    Primary(failover::Fault),
    /// A proxy, which is killed and started again.
    Proxy,
    /// Both at once.
    Both,
    /// The coordinators of a proxy's commits, each some milliseconds behind its birth, for a while; then the proxy.
    Coordinators,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Primary(failover::Fault::Kill),
        Self::Primary(failover::Fault::Stop),
        Self::Primary(failover::Fault::Freeze),
        Self::Primary(failover::Fault::Revive),
        Self::Proxy,
        Self::Both,
        Self::Coordinators,
    ];
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Primary(fault) => fault.fmt(f),
            Self::Proxy => f.write_str("proxy"),
            Self::Both => f.write_str("both"),
            Self::Coordinators => f.write_str("coordinators"),
        }
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL
            .into_iter()
            .find(|fault| fault.to_string() == text);
        let all: Vec<String> = Self::ALL.iter().map(ToString::to_string).collect();
        found.ok_or_else(|| format!("it is one of {}", all.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::Fault;

    #[test]
    fn each_is_read_as_it_is_shown() {
        for fault in Fault::ALL {
            assert_eq!(fault.to_string().parse(), Ok(fault));
        }
        assert!("fire".parse::<Fault>().is_err());
    }
}
