//! What goes wrong, and who is promoted for it.

use std::sync::Arc;

use pgherd_actors::chaos;
use pgherd_actors::facts::Facts;

use super::net::{Net, Node};
use super::servers::{Condition, Servers};
use crate::checks::Check;

/// A fault.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// The primary's processes are killed.
    Kill,
    /// Its machine is: nobody hears of it.
    Vanish,
    /// It is stopped, replaced, and goes on.
    Freeze,
    /// Another is promoted while it is well.
    Usurp,
    /// It was killed and replaced, and comes back on its old timeline, taking writes.
    Revive,
    /// One connection breaks in the middle of a message.
    Cut,
    /// Nothing goes from the proxy to a host, or back, or neither.
    Part,
    /// A replica is killed.
    Replica,
    /// A monitor, a pool or the router panics.
    Panic,
}

const KINDS: [Kind; 14] = [
    Kind::Kill,
    Kind::Kill,
    Kind::Vanish,
    Kind::Freeze,
    Kind::Freeze,
    Kind::Usurp,
    Kind::Revive,
    Kind::Cut,
    Kind::Cut,
    Kind::Cut,
    Kind::Part,
    Kind::Replica,
    Kind::Panic,
    Kind::Panic,
];

/// Tenths of a second in which clients must write again once there is a primary.
const RESUMES: usize = 50;

/// More panics would be beyond what supervisors put up with, as they should.
const PANICS: usize = 3;

pub(super) struct Director<'a> {
    servers: &'a Servers,
    facts: &'a Arc<Facts>,
    net: Net,
    pub(super) leader: usize,
    timeline: u32,
    pub(super) promotions: u64,
    panics: usize,
}

impl<'a> Director<'a> {
    pub(super) fn new(servers: &'a Servers, facts: &'a Arc<Facts>) -> Self {
        Self {
            servers,
            facts,
            net: servers.net().clone(),
            leader: 0,
            timeline: 1,
            promotions: 0,
            panics: 0,
        }
    }

    /// The next fault, and what is done about it.
    pub(super) async fn strike(&mut self) {
        self.net.pause(300..3000).await;
        let drawn = self.net.draw(KINDS.len() as u64);
        let kind = KINDS[usize::try_from(drawn).unwrap_or(0)];
        let leader = self.leader;
        self.net.note(format_args!("{kind:?}, host {leader} leads"));
        match kind {
            Kind::Kill | Kind::Vanish => {
                self.servers.kill(leader, matches!(kind, Kind::Vanish));
                self.replace().await;
                self.resume().await;
                self.net.pause(0..3000).await;
                self.servers.revive(leader).await;
                self.gather().await;
            }
            Kind::Freeze => {
                self.servers.freeze(leader);
                self.net.pause(50..1500).await;
                // Sometimes it wakes before anybody has decided anything.
                if self.net.draw(4) > 0 {
                    self.replace().await;
                    self.resume().await;
                    self.net.pause(0..2000).await;
                }
                self.servers.thaw(leader);
                self.net.pause(0..500).await;
                self.gather().await;
            }
            Kind::Usurp => {
                self.replace().await;
                self.resume().await;
                // What was on its way to the former one has arrived by then.
                self.net.pause(1000..1100).await;
                self.servers.leave(leader);
                self.net.pause(0..2000).await;
                self.gather().await;
            }
            Kind::Revive => self.revive().await,
            Kind::Cut => {
                for _ in 0..1 + self.net.draw(3) {
                    self.net.cut(Node::Host(leader));
                }
            }
            Kind::Part => self.part().await,
            Kind::Replica => {
                let replica = (leader + 1) % self.servers.count();
                self.servers.kill(replica, self.net.draw(2) == 0);
                self.net.pause(100..2000).await;
                self.servers.revive(replica).await;
            }
            Kind::Panic => self.panic().await,
        }
    }

    /// Whoever has most is promoted, after a while. Until then nobody may be written to.
    async fn replace(&mut self) {
        self.net.pause(50..2500).await;
        let heir = loop {
            match self.servers.heir(self.leader) {
                Some(heir) => break heir,
                None => self.net.pause(50..100).await,
            }
        };
        self.timeline += 1;
        self.promotions += 1;
        self.servers.promote(heir, self.timeline);
        let before = std::mem::replace(&mut self.leader, heir);
        self.net.note(format_args!("host {heir} is promoted"));
        // Who followed the former one finds the new one soon: commits wait for that.
        for host in 0..self.servers.count() {
            if host != heir && host != before && self.servers.condition(host) == Condition::Up {
                self.net.pause(10..400).await;
                self.servers.follow(host, heir).await;
            }
        }
    }

    /// Waits until clients write to the leader, which they must not wait for long.
    async fn resume(&self) {
        let leader = self.leader;
        let before = self.servers.role(leader).lsn;
        for _ in 0..RESUMES {
            self.net.pause(90..110).await;
            if self.servers.role(leader).lsn > before {
                return;
            }
        }
        let what = format!("host {leader} leads, and nobody writes to it");
        self.servers.accuse(Check::Stuck, what);
    }

    /// All hosts follow the leader.
    async fn gather(&self) {
        for host in 0..self.servers.count() {
            if host != self.leader {
                self.servers.follow(host, self.leader).await;
            }
        }
    }

    /// A former primary that knows nothing of its successor takes writes. By then the proxy has written to that
    /// one, so whatever comes here is a fault of it.
    async fn revive(&mut self) {
        let former = self.leader;
        self.servers.kill(former, false);
        self.replace().await;
        self.resume().await;
        self.servers.unbind(former);
        self.servers.revive(former).await;
        self.net.pause(500..4000).await;
        self.gather().await;
    }

    /// The proxy and a host do not hear each other for a while.
    async fn part(&self) {
        let count = self.servers.count() as u64;
        let host = match self.net.draw(3) {
            0 => usize::try_from(self.net.draw(count)).unwrap_or(0),
            _ => self.leader,
        };
        let (there, back) = [(true, false), (false, true), (true, true)]
            [usize::try_from(self.net.draw(3)).unwrap_or(0)];
        let node = Node::Host(host);
        self.net
            .note(format_args!("host {host} is parted: {there} {back}"));
        self.net.silence(Node::Proxy, node, there);
        self.net.silence(node, Node::Proxy, back);
        self.net.pause(100..5000).await;
        self.net.silence(Node::Proxy, node, false);
        self.net.silence(node, Node::Proxy, false);
    }

    /// An actor panics, and is started anew.
    async fn panic(&mut self) {
        if self.panics == PANICS {
            return;
        }
        self.panics += 1;
        let may = |path: &str| {
            path.contains("/monitor ") || path.contains("/pool ") || path == "root/router"
        };
        let mut living = chaos::living(self.facts).await;
        living.retain(|actor| may(&actor.path));
        living.sort_by(|a, b| a.path.cmp(&b.path));
        if living.is_empty() {
            return;
        }
        let drawn = usize::try_from(self.net.draw(living.len() as u64)).unwrap_or(0);
        let actor = &living[drawn];
        self.net.note(format_args!("{} is to panic", actor.path));
        // One that has ended meanwhile is as good.
        let _ = chaos::crash(&actor.cell);
    }

    /// Everything works, and follows the leader.
    pub(super) async fn heal(&self) {
        for host in 0..self.servers.count() {
            let node = Node::Host(host);
            self.net.silence(Node::Proxy, node, false);
            self.net.silence(node, Node::Proxy, false);
            self.servers.thaw(host);
            if self.servers.condition(host) == Condition::Down {
                self.servers.revive(host).await;
            }
        }
        self.gather().await;
    }
}
