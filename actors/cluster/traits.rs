//! What the configuration and Patroni say of single hosts, whatever leads to them.

use std::collections::{HashMap, HashSet};

use pgherd_cluster::HostName;
use pgherd_config::{Host, HostSettings};

use crate::cluster::Cluster;
use crate::cluster::members::Members;
use crate::router::target;

/// What is said of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traits {
    /// How much it is read from, compared to others.
    pub weight: u32,
    /// The zone that it is in.
    pub zone: Option<String>,
    /// Patroni says that it is not to be read from (`noloadbalance`), as of one that is behind on purpose; then the weight
    /// is zero, whatever the configuration says.
    pub spared: bool,
}

/// Of a host of which nothing is said.
const USUAL: Traits = Traits {
    weight: 1,
    zone: None,
    spared: false,
};

/// What is said of all hosts.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct AllTraits(HashMap<HostName, Traits>);

impl AllTraits {
    /// What is said of this host.
    pub fn of(&self, host: &HostName) -> &Traits {
        self.0.get(host).unwrap_or(&USUAL)
    }
}

impl Cluster {
    /// What is said of its hosts.
    pub fn traits(&self) -> std::sync::Arc<AllTraits> {
        self.traits.load_full()
    }

    /// Brings what is said of hosts to those that there are.
    pub(super) fn characterize(&self) {
        let (said, spared) = (self.host_settings.lock(), self.spared.lock());
        if said.is_empty() && spared.is_empty() && self.traits.load().0.is_empty() {
            return;
        }
        let members = self.members.load();
        let all = AllTraits(self.all_traits(&said, &spared, &members));
        if **self.traits.load() != all {
            self.traits.store(all.into());
        }
    }

    fn all_traits(
        &self,
        said: &[HostSettings],
        spared: &HashSet<HostName>,
        members: &Members,
    ) -> HashMap<HostName, Traits> {
        let of = |(name, host): &(HostName, Host)| {
            let instance = self.aurora.instance(name);
            let is = |said: &Host| {
                let written = HostName::from(target(&said.address).to_string());
                // By its address, by the name that has led to it, or as an instance of Aurora's.
                written == *name || leads(said, host) || Some(&written) == instance.as_ref()
            };
            let settings = said.iter().find(|said| is(&said.host));
            let spared = spared.contains(name);
            if settings.is_none() && !spared {
                return None;
            }
            let weight = settings.map_or(USUAL.weight, |settings| settings.weight);
            let traits = Traits {
                weight: if spared { 0 } else { weight },
                zone: settings.and_then(|settings| settings.zone.clone()),
                spared,
            };
            Some((name.clone(), traits))
        };
        members.iter().filter_map(of).collect()
    }
}

/// Whether this is the name that has led to that address.
fn leads(said: &Host, host: &Host) -> bool {
    let found = |name: &String| Host::new(name, port(host)) == *said;
    host.name.as_ref().is_some_and(found)
}

fn port(host: &Host) -> u16 {
    match host.address {
        pgherd_config::Address::Tcp { port, .. } | pgherd_config::Address::Unix { port, .. } => {
            port
        }
    }
}
