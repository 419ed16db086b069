//! What is really so: which servers there are, what they are, and who may be written to.

use std::collections::BTreeMap;
use std::time::Duration;

use pgherd_cluster::{Fault, HostName, Look, Lsn, Standing, Storage};

/// The system identifier of the cluster.
const SYSTEM: u64 = 7_106_835_957_012_965_359;

/// Whether a server can answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    Up,
    Frozen,
    Down,
    Starting,
}

/// One server.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) name: HostName,
    pub(super) condition: Condition,
    pub(super) standing: Standing,
    pub(super) timeline: u32,
}

/// All servers of a cluster, and its history.
#[derive(Debug)]
pub(super) struct Truth {
    pub(super) hosts: Vec<Server>,
    /// Who was promoted last; of two on one timeline the first.
    pub(super) leader: usize,
    /// The highest timeline there is.
    pub(super) timeline: u32,
    /// Who was ever promoted onto each timeline.
    reigns: BTreeMap<u32, Vec<usize>>,
    lsn: u64,
    pub(super) promotions: u64,
}

impl Truth {
    /// The first host leads, and the others follow it.
    pub(super) fn new(count: usize) -> Self {
        let server = |number: usize| Server {
            name: HostName::from(format!("host{number}:5432").as_str()),
            condition: Condition::Up,
            standing: match number {
                0 => Standing::Primary,
                _ => Standing::Replica,
            },
            timeline: 1,
        };
        Self {
            hosts: (0..count).map(server).collect(),
            leader: 0,
            timeline: 1,
            reigns: BTreeMap::from([(1, vec![0])]),
            lsn: 1000,
            promotions: 0,
        }
    }

    /// Whether a host was ever the primary of a timeline.
    pub(super) fn reigned(&self, host: usize, timeline: u32) -> bool {
        let of = self.reigns.get(&timeline);
        of.is_some_and(|hosts| hosts.contains(&host))
    }

    /// What a host answers to who asks it now.
    pub(super) fn look(&mut self, host: usize, latency: Duration) -> Result<Look, Fault> {
        self.lsn += 1;
        let server = &self.hosts[host];
        match server.condition {
            Condition::Up => Ok(Look {
                system: SYSTEM,
                timeline: server.timeline,
                standing: server.standing,
                storage: Storage::Own,
                lsn: Lsn::new(self.lsn),
                lsn_age: Duration::ZERO,
                received: None,
                replay_age: None,
                read_only: false,
                latency,
                server: None,
            }),
            Condition::Frozen => Err(Fault::TimedOut),
            Condition::Down => Err(Fault::Unreachable),
            Condition::Starting => Err(Fault::Starting),
        }
    }

    /// Whether a session can be had at a host.
    pub(super) fn serves(&self, host: usize) -> bool {
        self.hosts[host].condition == Condition::Up
    }

    /// Replicas that have all that there is.
    pub(super) fn heirs(&self) -> Vec<usize> {
        let heir = |server: &Server| {
            server.condition == Condition::Up
                && server.standing == Standing::Replica
                && server.timeline == self.timeline
        };
        (0..self.hosts.len())
            .filter(|host| heir(&self.hosts[*host]))
            .collect()
    }

    /// A replica becomes the primary of a new timeline, or of the newest beside who has it already.
    pub(super) fn promote(&mut self, host: usize, beside: bool) {
        if !beside {
            self.timeline += 1;
            self.leader = host;
        }
        self.promotions += 1;
        let server = &mut self.hosts[host];
        (server.standing, server.timeline) = (Standing::Primary, self.timeline);
        self.reigns.entry(self.timeline).or_default().push(host);
    }

    /// A host that is up becomes a replica of the leader, and gives up what it had of its own.
    pub(super) fn follow(&mut self, host: usize) {
        if host != self.leader {
            let server = &mut self.hosts[host];
            (server.standing, server.timeline) = (Standing::Replica, self.timeline);
        }
    }

    /// The hosts that take writes, whether they may or not.
    pub(super) fn writable(&self) -> Vec<usize> {
        let takes = |server: &Server| {
            server.condition == Condition::Up && server.standing == Standing::Primary
        };
        (0..self.hosts.len())
            .filter(|host| takes(&self.hosts[*host]))
            .collect()
    }

    /// The number of a host.
    pub(super) fn number(&self, name: &HostName) -> Option<usize> {
        self.hosts.iter().position(|host| host.name == *name)
    }
}
