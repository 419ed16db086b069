//! What goes wrong, and how it is mended.

use std::time::Duration;

use pgherd_cluster::Standing;
use rand::Rng;

use super::{BOUT, CALM, Event, World};
use crate::simulation::Trace;
use crate::simulation::machines::proxy::Proxy;
use crate::simulation::machines::truth::Condition;

/// A fault.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Kill,
    Freeze,
    /// Another is promoted although the primary is well, and goes on taking writes.
    Usurp,
    /// Two are promoted onto one timeline.
    Split,
    /// Another was promoted and then the former primary again, before anybody has looked.
    Detour,
    /// The primary becomes a replica before another is promoted.
    Switch,
    /// A proxy does not reach a host.
    Cut,
    /// A proxy sleeps.
    Jump,
    /// A proxy is started anew, and knows nothing.
    Restart,
    /// A proxy replaces all its connections.
    Retire,
}

const KINDS: [Kind; 14] = [
    Kind::Kill,
    Kind::Kill,
    Kind::Freeze,
    Kind::Freeze,
    Kind::Usurp,
    Kind::Split,
    Kind::Detour,
    Kind::Detour,
    Kind::Switch,
    Kind::Cut,
    Kind::Cut,
    Kind::Jump,
    Kind::Restart,
    Kind::Retire,
];

impl World {
    /// The next fault, or a calm.
    pub(super) fn strike(&mut self, trace: &mut Trace) {
        self.faults += 1;
        if self.faults.is_multiple_of(BOUT) {
            trace.note(self.time, "all is mended");
            self.heal();
            return;
        }
        let kind = KINDS[self.rng.random_range(0..KINDS.len())];
        let proxy = self.rng.random_range(0..self.proxies.len());
        // Mostly the primary, for it is what matters.
        let any = self.rng.random_range(0..self.truth.hosts.len());
        let host = if self.chance(70) {
            self.truth.leader
        } else {
            any
        };
        trace.note(
            self.time,
            format_args!("{kind:?} host {host} proxy {proxy}"),
        );
        self.befall(kind, host, proxy);
        self.within(50..4000, Event::Fault);
    }

    fn befall(&mut self, kind: Kind, host: usize, proxy: usize) {
        match kind {
            Kind::Kill => self.kill(host),
            Kind::Freeze => {
                let life = self.leave(host, Condition::Frozen);
                self.within(50..9000, Event::Up { host, life });
            }
            Kind::Usurp => self.promote(false),
            Kind::Split => {
                self.promote(false);
                self.promote(true);
            }
            Kind::Detour => {
                let leader = self.truth.leader;
                self.promote(false);
                if self.truth.leader != leader && self.truth.serves(leader) {
                    let between = self.truth.leader;
                    self.truth.follow(leader);
                    self.truth.promote(leader, false);
                    self.truth.follow(between);
                }
            }
            Kind::Switch => {
                let leader = self.truth.leader;
                if self.truth.heirs().is_empty() || !self.truth.serves(leader) {
                    return;
                }
                self.truth.hosts[leader].standing = Standing::Replica;
                self.kill(leader);
            }
            Kind::Cut => {
                self.number += 1;
                let cut = self.number;
                self.cuts.insert((proxy, host), cut);
                self.within(50..7000, Event::Mend { proxy, host, cut });
            }
            Kind::Jump => {
                // For all, since there is one clock; to each it is as if it had slept.
                self.time += Duration::from_millis(self.rng.random_range(500..20_000));
            }
            Kind::Restart => self.restart(proxy),
            Kind::Retire => drop(self.proxies[proxy].core.retire_all()),
        }
    }

    /// A new life of a host begins in this condition.
    fn leave(&mut self, host: usize, condition: Condition) -> u64 {
        self.lives[host] += 1;
        self.truth.hosts[host].condition = condition;
        self.lives[host]
    }

    fn kill(&mut self, host: usize) {
        let life = self.leave(host, Condition::Down);
        self.within(100..12_000, Event::Start { host, life });
    }

    /// A host that was down comes back as what it was: a primary that was replaced does not know it.
    pub(super) fn start(&mut self, host: usize, life: u64) {
        if self.lives[host] == life {
            let life = self.leave(host, Condition::Starting);
            self.within(50..800, Event::Up { host, life });
            self.within(1000..6000, Event::Attach { host, life });
        }
    }

    /// A host follows the leader, if both can.
    pub(super) fn attach(&mut self, host: usize, life: u64) {
        if self.lives[host] != life || self.truth.hosts[host].condition != Condition::Up {
            return;
        }
        if self.truth.hosts[host].standing == Standing::Replica {
            self.truth.follow(host);
        } else if host != self.truth.leader {
            self.truth.follow(host);
            let life = self.leave(host, Condition::Starting);
            self.within(50..800, Event::Up { host, life });
        }
    }

    /// Somebody who has it all is promoted; the others find out later.
    fn promote(&mut self, beside: bool) {
        let heirs = self.truth.heirs();
        // The second of two has not heard of the first: it was a replica of the one before.
        let heirs: Vec<usize> = if beside {
            (0..self.truth.hosts.len())
                .filter(|host| {
                    let server = &self.truth.hosts[*host];
                    server.standing == Standing::Replica && server.condition == Condition::Up
                })
                .collect()
        } else {
            heirs
        };
        if heirs.is_empty() {
            return;
        }
        let heir = heirs[self.rng.random_range(0..heirs.len())];
        self.truth.promote(heir, beside);
        for host in 0..self.truth.hosts.len() {
            let life = self.lives[host];
            self.within(50..5000, Event::Attach { host, life });
        }
    }

    /// A primary that cannot be reached is replaced after a while.
    pub(super) fn elect(&mut self, trace: &mut Trace) {
        let leader = self.truth.leader;
        let lost =
            !self.truth.serves(leader) || self.truth.hosts[leader].standing == Standing::Replica;
        if lost {
            trace.note(self.time, format_args!("host {leader} is to be replaced"));
            let before = self.truth.leader;
            self.promote(false);
            // Nobody has all of it but the one that is down, which must come back as what it was.
            if self.truth.leader == before {
                self.truth.hosts[before].standing = Standing::Primary;
            }
        }
        for host in 0..self.truth.hosts.len() {
            let behind = self.truth.hosts[host].timeline < self.truth.timeline
                || (host != self.truth.leader && self.truth.writable().contains(&host));
            if behind && self.chance(20) {
                let life = self.lives[host];
                self.within(0..1000, Event::Attach { host, life });
            }
        }
        self.within(200..3000, Event::Elect);
    }

    fn restart(&mut self, proxy: usize) {
        let old = &self.proxies[proxy];
        self.past.epochs += old.epochs();
        self.past.leases += old.lent;
        self.past.waited += old.waited;
        self.past.fenced += old.fenced;
        self.past.splits += old.splits;
        self.forget(proxy);
        self.proxies[proxy] = Proxy::new(proxy, &self.truth, self.now());
        self.begin(proxy);
    }

    /// What was to happen to a proxy that is gone does not happen to its successor.
    fn forget(&mut self, gone: usize) {
        self.agenda.retain(|_, event| event.proxy() != Some(gone));
    }

    /// All hosts are up and follow the leader, and all links lead there.
    fn heal(&mut self) {
        self.calm = true;
        self.cuts.clear();
        for host in 0..self.truth.hosts.len() {
            self.leave(host, Condition::Up);
            self.truth.follow(host);
        }
        let leader = self.truth.leader;
        self.truth.hosts[leader].standing = Standing::Primary;
        // Of the others nobody asks anew: who waits there is to be served all the same.
        self.unserved = (0..self.proxies.len()).step_by(2).collect();
        self.at(self.time + CALM, Event::Check);
    }
}
