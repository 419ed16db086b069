//! The hosts of a cluster, and where their names lead.

use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::time::Instant;

use pgherd_cluster::names::Names;
use pgherd_cluster::{HostName, Look, Standing};
use pgherd_config::{Address, Config, Database, Host};

use crate::cluster::Cluster;
use crate::router::RouterMessage;

/// Hosts by the name that the judge knows them by, in the order of the configuration.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Members(Vec<(HostName, Host)>);

impl Members {
    /// The host of this name.
    pub fn get(&self, name: &HostName) -> Option<&Host> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map(|(_, host)| host)
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// All of them.
    pub fn iter(&self) -> std::slice::Iter<'_, (HostName, Host)> {
        self.0.iter()
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &HostName> {
        self.0.iter().map(|(name, _)| name)
    }

    /// Their addresses.
    pub fn hosts(&self) -> impl Iterator<Item = &Host> {
        self.0.iter().map(|(_, host)| host)
    }
}

impl FromIterator<(HostName, Host)> for Members {
    fn from_iter<I: IntoIterator<Item = (HostName, Host)>>(hosts: I) -> Self {
        Self(hosts.into_iter().collect())
    }
}

impl Cluster {
    /// The names of hosts that are to be looked up.
    pub fn looked_up(&self) -> Vec<String> {
        if !self.follows_names() {
            return Vec::new();
        }
        let written = self.written.lock();
        let names = written.iter().filter_map(Host::looked_up);
        names.map(str::to_owned).collect()
    }

    /// Leaves what a name led to before, if it leads to a primary now: before that one is judged, for these
    /// two are no split.
    pub(super) fn leave_behind(&self, host: &HostName, look: &Look, now: Instant) {
        let verdict = self.verdict.load();
        let ours = verdict.system.is_none_or(|system| system == look.system);
        let current = ours && look.timeline >= verdict.timeline && !look.read_only;
        if look.standing != Standing::Primary || !current {
            return;
        }
        let member = self.members.load().get(host).cloned();
        let Some(address) = member.as_ref().and_then(address) else {
            return;
        };
        let left = match self.names.lock().as_mut() {
            Some(names) => names.leads(address),
            None => false,
        };
        if left {
            self.regroup("names lead here", now);
        }
    }

    /// A name was looked up; without an answer it leads where it led.
    pub fn answered(&self, name: &str, addresses: &[IpAddr], now: Instant) {
        if let Some(names) = self.names.lock().as_mut() {
            names.answered(name, addresses, now);
        }
        self.regroup("names lead here", now);
    }

    /// The hosts of the configuration, wherever their names lead.
    pub(super) fn written_members(&self) -> Members {
        let (written, names) = (self.written.lock(), self.names.lock());
        members(&written, names.as_ref()).unwrap_or_default()
    }

    /// Takes over where names lead now, and which instances there are.
    pub(super) fn regroup(&self, why: &str, now: Instant) {
        if self.told.load(Ordering::Relaxed) {
            return;
        }
        // Both stay locked, so that of two changes at once none undoes the other.
        let (written, names) = (self.written.lock(), self.names.lock());
        // With a name that a reload has brought the others stay until that was looked up, too.
        let Some(members) = members(&written, names.as_ref()) else {
            return;
        };
        let members = self.aurora.join(members);
        if **self.members.load() == members {
            return;
        }
        tracing::info!(database = self.name, hosts = ?members.names().collect::<Vec<_>>(), "{why}");
        self.enlist(members, now);
        let section = self.name.clone();
        let _ = self.router.cast(RouterMessage::Enlist { section });
    }
}

/// A host by the name that Patroni gives it, `address:port`.
pub(super) fn host(name: &HostName) -> Option<Host> {
    let (host, port) = name.as_str().rsplit_once(':')?;
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    Some(Host::new(host, port.parse().ok()?))
}

/// The hosts of a configuration, in its order; one that is given by a name at each of the addresses that
/// this leads to, if names are followed. `None` before all names were looked up: that takes a moment only.
pub(super) fn members(written: &[Host], names: Option<&Names>) -> Option<Members> {
    let mut members: Vec<(HostName, Host)> = Vec::new();
    let mut add = |host: Host| {
        let name = HostName::from(crate::router::target(&host.address).to_string());
        if members.iter().all(|(known, _)| *known != name) {
            members.push((name, host));
        }
    };
    for host in written {
        let Some((names, name)) = names.zip(host.looked_up()) else {
            add(host.clone());
            continue;
        };
        let mut addresses = names.of(name)?.peekable();
        if addresses.peek().is_none() {
            // Whoever connects will say why.
            add(host.clone());
        }
        addresses.for_each(|ip| add(host.found_at(ip)));
    }
    Some(Members(members))
}

pub(super) fn is_single(database: &Database) -> bool {
    database.patroni.is_empty() && database.hosts.len() == 1
}

/// Patroni says itself which hosts there are, and by addresses.
pub(super) fn follows_names(config: &Config, database: &Database) -> bool {
    let mut hosts = database.hosts.iter();
    let named = hosts.any(|host| host.looked_up().is_some());
    named && database.patroni.is_empty() && config.failover.resolve.is_some()
}

/// The address at which a host is, if it is given by one.
pub(super) fn address(host: &Host) -> Option<IpAddr> {
    match &host.address {
        Address::Tcp { host, .. } => host.parse().ok(),
        Address::Unix { .. } => None,
    }
}
