//! What is known of the servers of one database, for all who must know which of them may be written
//! to.
//!
//! A value and not an actor: monitors put in what they saw, and the verdict that follows is in force at
//! once. It outlives them all, so that no crash makes anybody forget an epoch. Only the router is told
//! of a new verdict by message, as the routing table has no other writer.

pub mod chronicle;
pub mod login;
pub mod look;
pub mod monitor;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use pgherd_cluster::{Fault, HostName, Judge, Look, Rules, Verdict, Writer};
use pgherd_config::{Config, Database, Host};
use pgherd_supervise::Slot;
use tokio::sync::Notify;

use crate::cluster::chronicle::{Chronicle, Entry};
use crate::router::RouterMessage;

/// The servers of a database's section, and what is known of them.
pub struct Cluster {
    /// The name of the section.
    pub name: String,
    judge: Mutex<Judge>,
    verdict: ArcSwap<Verdict>,
    members: ArcSwap<Members>,
    doubt: Notify,
    chronicle: Chronicle,
    router: Slot<RouterMessage>,
}

/// Hosts by the name that the judge knows them by.
pub type Members = BTreeMap<HostName, Host>;

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Where writes go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lead {
    /// The server; `None` while there is none.
    pub host: Option<Host>,
    /// It only rises. Connections of an earlier one are not used any more.
    pub epoch: u64,
}

impl Cluster {
    fn new(name: &str, config: &Config, database: &Database, router: Slot<RouterMessage>) -> Self {
        let mut judge = Judge::new(rules(config));
        let members = members(database);
        let now = Instant::now();
        judge.members(members.keys().cloned(), now);
        Self {
            name: name.to_owned(),
            verdict: ArcSwap::new(judge.verdict(now)),
            judge: Mutex::new(judge),
            members: ArcSwap::from_pointee(members),
            doubt: Notify::new(),
            chronicle: Chronicle::default(),
            router,
        }
    }

    /// Whether it must be found out where writes go: a single server is asked nothing.
    pub fn is_watched(&self) -> bool {
        self.members.load().len() > 1
    }

    /// The hosts.
    pub fn members(&self) -> Arc<Members> {
        self.members.load_full()
    }

    /// Where writes go at this moment.
    pub fn lead(&self) -> Lead {
        let members = self.members.load();
        if members.len() == 1 {
            let host = members.values().next().cloned();
            return Lead { host, epoch: 0 };
        }
        let verdict = self.verdict.load();
        let host = match &verdict.writer {
            Writer::At(name) => members.get(name).cloned(),
            Writer::Nobody(_) => None,
        };
        Lead {
            host,
            epoch: verdict.epoch.as_u64(),
        }
    }

    /// What the evidence says.
    pub fn verdict(&self) -> Arc<Verdict> {
        self.verdict.load_full()
    }

    /// What the verdicts were, the latest last.
    pub fn history(&self) -> Vec<Entry> {
        self.chronicle.entries()
    }

    /// How often it changed who may be written to.
    pub fn changes(&self) -> u64 {
        self.chronicle.count()
    }

    /// A host was looked at.
    pub fn saw(&self, host: &HostName, outcome: Result<Look, Fault>, now: Instant) {
        self.judged(now, |judge| judge.saw(host, outcome, now));
    }

    /// Somebody has met what speaks against a host: all are looked at at once.
    pub fn suspect(&self, host: &str, now: Instant) {
        if self.is_watched() {
            let name = HostName::from(host);
            self.judged(now, |judge| judge.suspect(&name, now));
            self.doubt.notify_waiters();
        }
    }

    /// How long after the last look at a host it is time for the next.
    pub fn pace(&self, host: &HostName, now: Instant) -> Duration {
        self.judge.lock().pace(host, now)
    }

    /// Resolves when hosts should be looked at sooner than was thought, or may be for the first time.
    pub fn doubted(&self) -> tokio::sync::futures::Notified<'_> {
        self.doubt.notified()
    }

    /// There may be somebody now as whom hosts can be looked at.
    pub fn wake(&self) {
        self.doubt.notify_waiters();
    }

    /// Takes over what the configuration says now; true if the hosts are others.
    pub fn reconfigure(&self, config: &Config, database: &Database, now: Instant) -> bool {
        let members = members(database);
        let changed = **self.members.load() != members;
        let names: Vec<HostName> = members.keys().cloned().collect();
        self.members.store(Arc::new(members));
        self.judged(now, |judge| {
            judge.set_rules(rules(config), now);
            judge.members(names, now);
        });
        self.doubt.notify_waiters();
        changed
    }

    fn judged(&self, now: Instant, act: impl FnOnce(&mut Judge)) {
        let mut judge = self.judge.lock();
        let hurried = |judge: &Judge| {
            let members = self.members.load();
            let first = members.keys().next();
            first.map(|host| judge.pace(host, now))
        };
        let pace = hurried(&judge);
        act(&mut judge);
        let hurries = hurried(&judge) < pace;
        let verdict = judge.verdict(now);
        // Stored under the lock: of two verdicts the later stays.
        let before = self.verdict.swap(Arc::clone(&verdict));
        let turned = (&before.writer, before.epoch) != (&verdict.writer, verdict.epoch);
        if turned {
            self.chronicle.note(&self.name, &before, &verdict);
        }
        drop(judge);
        if hurries {
            self.doubt.notify_waiters();
        }
        if turned {
            // A router that is being restarted follows all verdicts when it starts.
            let _ = self.router.cast(RouterMessage::Follow {
                section: self.name.clone(),
            });
        }
    }
}

fn rules(config: &Config) -> Rules {
    let failover = &config.failover;
    Rules {
        expiry: failover.evidence,
        pace: failover.probe,
        quick_pace: failover.probe_suspect,
        ..Rules::default()
    }
}

fn members(database: &Database) -> Members {
    let named = |host: &Host| {
        let name = crate::router::target(&host.address).to_string();
        (HostName::from(name), host.clone())
    };
    database.hosts.iter().map(named).collect()
}

/// All databases' servers, by the name of the section.
#[derive(Debug, Default)]
pub struct Topology(ArcSwap<HashMap<String, Arc<Cluster>>>);

impl Topology {
    /// The servers of a section.
    pub fn of(&self, section: &str) -> Option<Arc<Cluster>> {
        self.0.load().get(section).cloned()
    }

    /// All of them.
    pub fn all(&self) -> Vec<Arc<Cluster>> {
        let mut all: Vec<_> = self.0.load().values().cloned().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Brings it to the sections of a configuration. Only the router calls this, once it runs.
    pub fn reconfigure(&self, config: &Config, router: &Slot<RouterMessage>) {
        let known = self.0.load();
        let now = Instant::now();
        let clusters = config.databases.iter().map(|(name, database)| {
            let cluster = match known.get(name) {
                Some(cluster) => {
                    cluster.reconfigure(config, database, now);
                    Arc::clone(cluster)
                }
                None => Arc::new(Cluster::new(name, config, database, router.clone())),
            };
            (name.clone(), cluster)
        });
        let clusters = clusters.collect();
        self.0.store(Arc::new(clusters));
    }
}
