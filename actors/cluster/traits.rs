//! What the configuration says of single hosts, whatever leads to them.

use std::collections::HashMap;

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
}

/// Of a host of which nothing is said.
const USUAL: Traits = Traits {
    weight: 1,
    zone: None,
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
        let said = self.host_settings.lock();
        if said.is_empty() && self.traits.load().0.is_empty() {
            return;
        }
        let members = self.members.load();
        let all = AllTraits(self.all_traits(&said, &members));
        if **self.traits.load() != all {
            self.traits.store(all.into());
        }
    }

    fn all_traits(&self, said: &[HostSettings], members: &Members) -> HashMap<HostName, Traits> {
        let of = |(name, host): &(HostName, Host)| {
            let instance = self.aurora.instance(name);
            let is = |said: &Host| {
                let written = HostName::from(target(&said.address).to_string());
                // By its address, by the name that has led to it, or as an instance of Aurora's.
                written == *name || leads(said, host) || Some(&written) == instance.as_ref()
            };
            let settings = said.iter().find(|said| is(&said.host))?;
            let traits = Traits {
                weight: settings.weight,
                zone: settings.zone.clone(),
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
