use std::fmt;
use std::str::FromStr;

use super::cut::Cut;

/// What befalls the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Patroni is asked for another primary.
    Switchover,
    /// The postmaster is killed, and Patroni sees it.
    Postgres,
    /// Patroni alone is killed, and started again later; meanwhile Postgres takes any write, waiting
    /// for nobody.
    Patroni,
    /// Patroni alone is stopped, and goes on later in the belief that it still leads; meanwhile the
    /// same.
    PatroniFreeze,
    /// All processes of the node are killed, and Patroni is started again later.
    Node,
    /// All of them are stopped without their knowledge, and go on later, believing that they still
    /// lead.
    Freeze,
    /// The node is cut off from everybody.
    Partition,
    /// Nothing reaches the node.
    PartitionIn,
    /// Nothing leaves it.
    PartitionOut,
    /// Only pgherd and the clients are cut off from it, so nobody else becomes the primary.
    ProxyOnly,
    /// It is cut off from etcd and the other nodes, and clients still reach it.
    DcsOnly,
    /// The same, and its lease is taken away at once, so that another leads while it still believes
    /// that it does, and takes writes.
    Split,
    /// All its processes are killed, and Postgres is started on its old timeline without Patroni,
    /// waiting for nobody, where clients reach it.
    Stale,
    /// Etcd is killed, upon which whoever leads gives that up, and started again later.
    Etcd,
}

/// Who leads behind a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heir {
    /// Another node.
    Another,
    /// The same one, all the while.
    Same,
    /// Nobody, until the fault is mended; then any node, perhaps the same.
    Any,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Switchover,
        Self::Postgres,
        Self::Patroni,
        Self::PatroniFreeze,
        Self::Node,
        Self::Freeze,
        Self::Partition,
        Self::PartitionIn,
        Self::PartitionOut,
        Self::ProxyOnly,
        Self::DcsOnly,
        Self::Split,
        Self::Stale,
        Self::Etcd,
    ];

    /// Who leads behind it.
    pub(super) fn heir(self) -> Heir {
        match self {
            Self::ProxyOnly => Heir::Same,
            Self::Etcd => Heir::Any,
            Self::Switchover
            | Self::Postgres
            | Self::Patroni
            | Self::PatroniFreeze
            | Self::Node
            | Self::Freeze
            | Self::Partition
            | Self::PartitionIn
            | Self::PartitionOut
            | Self::DcsOnly
            | Self::Split
            | Self::Stale => Heir::Another,
        }
    }

    /// Whether the old primary takes writes, waiting for nobody, when another one is there.
    pub(super) fn leaves_stale(self) -> bool {
        matches!(self, Self::Patroni | Self::PatroniFreeze | Self::Stale)
    }

    /// Whether the primary's lease is taken away: by this fault, or because it would have to run out
    /// first, and nobody wants to wait for that. Who is cut off from etcd alone is left to find out
    /// by itself.
    pub(super) fn ends_lease(self, patient: bool) -> bool {
        match self {
            Self::Split => true,
            Self::Patroni
            | Self::PatroniFreeze
            | Self::Node
            | Self::Freeze
            | Self::Partition
            | Self::PartitionIn
            | Self::PartitionOut
            | Self::Stale => !patient,
            Self::Switchover | Self::Postgres | Self::ProxyOnly | Self::DcsOnly | Self::Etcd => {
                false
            }
        }
    }

    /// What no longer passes between the node and others.
    pub(super) fn cut(self) -> Option<Cut> {
        match self {
            Self::Partition => Some(Cut::All),
            Self::PartitionIn => Some(Cut::In),
            Self::PartitionOut => Some(Cut::Out),
            Self::ProxyOnly => Some(Cut::Clients),
            Self::DcsOnly | Self::Split | Self::Stale => Some(Cut::Cluster),
            Self::Switchover
            | Self::Postgres
            | Self::Patroni
            | Self::PatroniFreeze
            | Self::Node
            | Self::Freeze
            | Self::Etcd => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Switchover => "switchover",
            Self::Postgres => "postgres",
            Self::Patroni => "patroni",
            Self::PatroniFreeze => "patroni-freeze",
            Self::Node => "node",
            Self::Freeze => "freeze",
            Self::Partition => "partition",
            Self::PartitionIn => "partition-in",
            Self::PartitionOut => "partition-out",
            Self::ProxyOnly => "proxy-only",
            Self::DcsOnly => "dcs-only",
            Self::Split => "split",
            Self::Stale => "stale",
            Self::Etcd => "etcd",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|fault| fault.name() == text);
        found.ok_or_else(|| format!("it is one of {}", Self::ALL.map(Self::name).join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::{Fault, Heir};

    #[test]
    fn each_is_read_as_it_is_shown() {
        for fault in Fault::ALL {
            assert_eq!(fault.to_string().parse(), Ok(fault));
        }
        assert!("fire".parse::<Fault>().is_err());
    }

    #[test]
    fn a_lease_is_taken_only_where_another_one_gets_it() {
        for fault in Fault::ALL {
            let another = fault.heir() == Heir::Another;
            assert!(another || !(fault.ends_lease(false) || fault.leaves_stale()));
        }
        let always = |fault: &Fault| fault.ends_lease(true);
        let always: Vec<Fault> = Fault::ALL.into_iter().filter(always).collect();
        assert_eq!(always, [Fault::Split]);
    }
}
