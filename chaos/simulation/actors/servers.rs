//! The servers behind the proxy: their roles, their ledgers, and how one follows the other.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pgherd_net::Wire;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::backend;
use super::net::{Net, Node};
use crate::checks::{Check, Wrong};

/// Whether a server works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    Up,
    /// Its processes are stopped; what it has is kept.
    Frozen,
    Down,
    /// It lets nobody in yet.
    Starting,
}

/// An entry of a ledger: what was inserted.
pub(super) type Row = i64;

/// One server, as it is at the moment.
#[derive(Debug)]
struct Host {
    condition: Condition,
    primary: bool,
    timeline: u32,
    /// Whom a replica follows.
    follows: Option<usize>,
    /// A commit waits until a replica has it.
    waits: bool,
    /// The proxy is known to have left it.
    left: bool,
    ledger: Vec<Row>,
    /// Ends all its sessions.
    sessions: Option<JoinSet<()>>,
}

/// All servers.
#[derive(Clone)]
pub(super) struct Servers(Arc<Inner>);

struct Inner {
    net: Net,
    hosts: Mutex<Vec<Host>>,
    /// Something has changed with any of them.
    changed: Notify,
    faults: Mutex<Vec<Wrong>>,
}

/// What a session finds its server to be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Role {
    pub(super) primary: bool,
    pub(super) timeline: u32,
    pub(super) lsn: usize,
}

impl Servers {
    /// The first leads, the others follow it. To be called in the runtime.
    pub(super) fn start(net: &Net, count: usize) -> Self {
        let host = |number: usize| Host {
            condition: Condition::Down,
            primary: number == 0,
            timeline: 1,
            follows: (number > 0).then_some(0),
            waits: true,
            left: false,
            ledger: Vec::new(),
            sessions: None,
        };
        let servers = Self(Arc::new(Inner {
            net: net.clone(),
            hosts: Mutex::new((0..count).map(host).collect()),
            changed: Notify::new(),
            faults: Mutex::default(),
        }));
        for number in 0..count {
            servers.open(number, Condition::Up);
            let all = servers.clone();
            tokio::spawn(async move { all.replicate(number).await });
        }
        servers
    }

    pub(super) fn net(&self) -> &Net {
        &self.0.net
    }

    pub(super) fn count(&self) -> usize {
        self.0.hosts.lock().len()
    }

    /// Something that a server must never see.
    pub(super) fn accuse(&self, check: Check, what: String) {
        self.0.faults.lock().push(check.caught(what));
    }

    /// What servers have seen that they must never see.
    pub(super) fn accusations(&self) -> Vec<Wrong> {
        self.0.faults.lock().clone()
    }

    fn change<R>(&self, act: impl FnOnce(&mut Vec<Host>) -> R) -> R {
        let result = act(&mut self.0.hosts.lock());
        self.0.changed.notify_waiters();
        result
    }

    /// Waits until something is so of the hosts.
    async fn until(&self, so: impl Fn(&[Host]) -> bool) {
        loop {
            let changed = self.0.changed.notified();
            if so(&self.0.hosts.lock()) {
                return;
            }
            changed.await;
        }
    }

    /// Waits while a server is stopped.
    pub(super) async fn running(&self, host: usize) {
        self.until(|hosts| hosts[host].condition != Condition::Frozen)
            .await;
    }

    pub(super) fn condition(&self, host: usize) -> Condition {
        self.0.hosts.lock()[host].condition
    }

    pub(super) fn role(&self, host: usize) -> Role {
        let hosts = self.0.hosts.lock();
        let host = &hosts[host];
        Role {
            primary: host.primary,
            timeline: host.timeline,
            lsn: host.ledger.len(),
        }
    }

    /// Whether nobody may write here any more.
    pub(super) fn is_left(&self, host: usize) -> bool {
        self.0.hosts.lock()[host].left
    }

    /// From now on whoever writes to this host is wrong, for it was replaced, and the proxy knows it.
    pub(super) fn leave(&self, host: usize) {
        self.change(|hosts| hosts[host].left = true);
    }

    /// How often something is in a server's ledger.
    pub(super) fn entered(&self, host: usize, row: Row) -> usize {
        let hosts = self.0.hosts.lock();
        hosts[host].ledger.iter().filter(|it| **it == row).count()
    }

    /// Commits, and waits until a replica has it if the server does.
    pub(super) async fn commit(&self, host: usize, rows: &[Row]) {
        self.net().note(format_args!("host {host} enters {rows:?}"));
        let end = self.change(|hosts| {
            hosts[host].ledger.extend(rows);
            hosts[host].ledger.len()
        });
        if !self.0.hosts.lock()[host].waits {
            return;
        }
        let has = move |other: &Host| other.follows == Some(host) && other.ledger.len() >= end;
        self.until(move |hosts| hosts.iter().any(has)).await;
        self.running(host).await;
    }

    /// Takes over what another writes, for as long as this one follows it.
    async fn replicate(&self, host: usize) {
        let behind = move |hosts: &[Host]| {
            let up = |host: usize| hosts[host].condition == Condition::Up;
            let source = hosts[host].follows.filter(|source| up(*source) && up(host));
            source.filter(|source| hosts[*source].ledger.len() > hosts[host].ledger.len())
        };
        loop {
            self.until(|hosts| behind(hosts).is_some()).await;
            let latency = 1 + self.net().draw(4);
            sleep(Duration::from_millis(latency)).await;
            self.change(|hosts| {
                if let Some(source) = behind(hosts) {
                    let have = hosts[host].ledger.len();
                    let rest = hosts[source].ledger[have..].to_vec();
                    hosts[host].ledger.extend(rest);
                }
            });
        }
    }

    /// Lets sessions come.
    fn open(&self, host: usize, condition: Condition) {
        let (door, mut guests) = mpsc::channel::<Wire>(64);
        let servers = self.clone();
        let mut sessions = JoinSet::new();
        sessions.spawn(async move {
            let mut inner = JoinSet::new();
            while let Some(wire) = guests.recv().await {
                let servers = servers.clone();
                inner.spawn(async move {
                    // How a session ends is for its client to find out.
                    let _ = backend::serve(wire.into_stream(), host, &servers).await;
                });
            }
        });
        self.0.net.open(Node::Host(host), door);
        self.change(|hosts| {
            hosts[host].condition = condition;
            hosts[host].sessions = Some(sessions);
        });
    }

    /// The server is gone, and all its sessions; or the machine, so that nobody hears of it.
    pub(super) fn kill(&self, host: usize, machine: bool) {
        let node = Node::Host(host);
        if machine {
            self.0.net.silence(Node::Proxy, node, true);
            self.0.net.silence(node, Node::Proxy, true);
        }
        self.0.net.close(node);
        let sessions = self.change(|hosts| {
            hosts[host].condition = Condition::Down;
            hosts[host].sessions.take()
        });
        drop(sessions);
        self.0.net.sever(node);
    }

    /// The server comes back as what its disk says.
    pub(super) async fn revive(&self, host: usize) {
        let node = Node::Host(host);
        self.0.net.silence(Node::Proxy, node, false);
        self.0.net.silence(node, Node::Proxy, false);
        self.open(host, Condition::Starting);
        self.0.net.pause(50..400).await;
        self.change(|hosts| {
            if hosts[host].condition == Condition::Starting {
                hosts[host].condition = Condition::Up;
            }
        });
    }

    pub(super) fn freeze(&self, host: usize) {
        self.change(|hosts| hosts[host].condition = Condition::Frozen);
    }

    pub(super) fn thaw(&self, host: usize) {
        self.change(|hosts| {
            if hosts[host].condition == Condition::Frozen {
                hosts[host].condition = Condition::Up;
            }
        });
    }

    /// Nobody follows a host any more that was replaced, and it takes writes all the same.
    pub(super) fn unbind(&self, host: usize) {
        self.change(|hosts| (hosts[host].waits, hosts[host].left) = (false, true));
    }

    /// Who has all that any replica of the leader has, if it works.
    pub(super) fn heir(&self, leader: usize) -> Option<usize> {
        let hosts = self.0.hosts.lock();
        let followers = (0..hosts.len()).filter(|host| hosts[*host].follows == Some(leader));
        let heir = followers.max_by_key(|host| hosts[*host].ledger.len())?;
        (hosts[heir].condition == Condition::Up).then_some(heir)
    }

    /// A replica becomes the primary of a new timeline. From that moment nobody acknowledges anything to the former
    /// one, or what that one still commits would be lost.
    pub(super) fn promote(&self, host: usize, timeline: u32) {
        self.change(|hosts| {
            hosts.iter_mut().for_each(|host| host.follows = None);
            hosts[host].primary = true;
            hosts[host].follows = None;
            hosts[host].waits = true;
            hosts[host].timeline = timeline;
        });
    }

    /// A server gives up what it has of its own, and follows another; a former primary starts anew for it.
    pub(super) async fn follow(&self, host: usize, leader: usize) {
        let was = self.role(host);
        if was.primary {
            self.kill(host, false);
            self.net().pause(5..100).await;
        }
        self.change(|hosts| {
            let (ledger, timeline) = (hosts[leader].ledger.clone(), hosts[leader].timeline);
            let host = &mut hosts[host];
            // What it has beyond the fork is taken back; the rest comes by and by.
            let common = host.ledger.iter().zip(&ledger);
            let common = common.take_while(|(mine, theirs)| mine == theirs).count();
            host.ledger.truncate(common);
            (host.primary, host.follows) = (false, Some(leader));
            host.left = false;
            (host.timeline, host.waits) = (timeline, true);
        });
        if was.primary {
            self.revive(host).await;
        }
    }

    /// All ids that a host has more than once.
    pub(super) fn doubled(&self, host: usize) -> Vec<Row> {
        let hosts = self.0.hosts.lock();
        let mut seen = BTreeSet::new();
        let rows = hosts[host].ledger.iter().copied();
        rows.filter(|row| !seen.insert(*row)).collect()
    }
}
