//! The clock, the links and the faults between a cluster and its proxies.

mod fault;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use pgherd_cluster::{Fault, Look};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::proxy::{Got, Proxy};
use super::truth::{Condition, Truth};
use super::{Seen, Trace};
use crate::checks::{Check, Wrong};

/// How long a look, or a login, may take.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long a session waits for a connection.
const HOLD: Duration = Duration::from_secs(10);
/// How long everything is well before it is looked whether all have recovered.
const CALM: Duration = Duration::from_secs(16);
/// Faults between two such times.
const BOUT: usize = 8;

/// What will happen.
#[derive(Debug)]
enum Event {
    /// A monitor asks.
    Look {
        proxy: usize,
        host: usize,
    },
    /// Its question is there.
    Arrive {
        proxy: usize,
        host: usize,
        asked: Duration,
    },
    /// It has an answer, or none.
    Answer {
        proxy: usize,
        host: usize,
        outcome: Result<Look, Fault>,
    },
    /// The same answer once more, as of then.
    Double {
        proxy: usize,
        host: usize,
        outcome: Result<Look, Fault>,
        at: Duration,
    },
    /// The router hears of a verdict.
    Follow(usize),
    /// A connection was opened, or not.
    Opened {
        proxy: usize,
        slot: u64,
        host: usize,
    },
    /// A pool looks what it wants.
    LookAgain(usize),
    /// A session begins.
    Ask(usize),
    /// A session ends what it does.
    Done {
        proxy: usize,
        lease: u64,
    },
    /// A session waits no longer.
    Expire {
        proxy: usize,
        place: u64,
    },
    Sweep(usize),
    Fault,
    /// A replica, or a former primary, finds the new one.
    Attach {
        host: usize,
        life: u64,
    },
    Start {
        host: usize,
        life: u64,
    },
    Up {
        host: usize,
        life: u64,
    },
    /// Whoever decides about failovers looks whether one is needed.
    Elect,
    Mend {
        proxy: usize,
        host: usize,
        cut: u64,
    },
    /// All has been well for long enough.
    Check,
}

impl Event {
    /// The proxy that it concerns; all are concerned by what has none.
    const fn proxy(&self) -> Option<usize> {
        match self {
            Self::Look { proxy, .. }
            | Self::Arrive { proxy, .. }
            | Self::Answer { proxy, .. }
            | Self::Double { proxy, .. }
            | Self::Opened { proxy, .. }
            | Self::Done { proxy, .. }
            | Self::Expire { proxy, .. }
            | Self::Follow(proxy)
            | Self::LookAgain(proxy)
            | Self::Ask(proxy)
            | Self::Sweep(proxy) => Some(*proxy),
            _ => None,
        }
    }
}

pub(super) struct World {
    base: Instant,
    time: Duration,
    rng: StdRng,
    agenda: BTreeMap<(Duration, u64), Event>,
    number: u64,
    truth: Truth,
    /// A host's lives: what was to happen to an earlier one does not happen to a later.
    lives: Vec<u64>,
    proxies: Vec<Proxy>,
    /// Links that are cut, with the number of the cut.
    cuts: BTreeMap<(usize, usize), u64>,
    faults: usize,
    calm: bool,
    /// Proxies that are to lend something before the calm is over.
    unserved: BTreeSet<usize>,
    past: Seen,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let base = Instant::now();
        let truth = Truth::new(rng.random_range(2..=4));
        let proxies = (0..3).map(|number| Proxy::new(number, &truth, base));
        let proxies = proxies.collect();
        let mut world = Self {
            base,
            time: Duration::ZERO,
            rng,
            agenda: BTreeMap::new(),
            number: 0,
            lives: vec![0; truth.hosts.len()],
            truth,
            proxies,
            cuts: BTreeMap::new(),
            faults: 0,
            calm: false,
            unserved: BTreeSet::new(),
            past: Seen::default(),
        };
        for proxy in 0..world.proxies.len() {
            world.begin(proxy);
        }
        world.within(1..2000, Event::Fault);
        world.within(1..500, Event::Elect);
        world
    }

    /// What a proxy does by itself.
    fn begin(&mut self, proxy: usize) {
        for host in 0..self.truth.hosts.len() {
            self.within(0..300, Event::Look { proxy, host });
        }
        self.within(0..50, Event::Ask(proxy));
        self.within(0..1000, Event::Sweep(proxy));
        self.within(0..10, Event::Follow(proxy));
    }

    fn seen(&self) -> Seen {
        let mut seen = Seen {
            promotions: self.truth.promotions,
            time: self.time,
            ..self.past
        };
        for proxy in &self.proxies {
            seen.epochs += proxy.epochs();
            seen.leases += proxy.lent;
            seen.waited += proxy.waited;
            seen.fenced += proxy.fenced;
            seen.splits += proxy.splits;
        }
        seen
    }

    fn now(&self) -> Instant {
        self.base + self.time
    }

    fn at(&mut self, time: Duration, event: Event) {
        self.number += 1;
        self.agenda.insert((time, self.number), event);
    }

    fn within(&mut self, millis: std::ops::Range<u64>, event: Event) {
        let micros = self
            .rng
            .random_range(millis.start * 1000..millis.end * 1000);
        self.at(self.time + Duration::from_micros(micros), event);
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    fn latency(&mut self) -> Duration {
        let most = if self.chance(3) { 700_000 } else { 8_000 };
        Duration::from_micros(self.rng.random_range(100..most))
    }

    /// Lets so many faults happen, and ends in a calm.
    pub(super) fn run(mut self, faults: usize, trace: &mut Trace) -> Result<Seen, Wrong> {
        while self.faults < faults || self.calm {
            let Some(((time, _), event)) = self.agenda.pop_first() else {
                return Err(Check::Stuck.caught("nothing will ever happen again"));
            };
            self.time = self.time.max(time);
            let shown = !matches!(event, Event::Sweep(_) | Event::Ask(_) | Event::Elect);
            if shown {
                trace.note(self.time, format_args!("{event:?}"));
            }
            self.past.events += 1;
            let concerns = event.proxy();
            self.happen(event, trace)?;
            match concerns {
                Some(proxy) => self.settle(proxy)?,
                None => (0..self.proxies.len()).try_for_each(|proxy| self.settle(proxy))?,
            }
        }
        Ok(self.seen())
    }

    fn happen(&mut self, event: Event, trace: &mut Trace) -> Result<(), Wrong> {
        match event {
            Event::Look { proxy, host } => self.look(proxy, host),
            Event::Arrive { proxy, host, asked } => self.arrive(proxy, host, asked),
            Event::Answer {
                proxy,
                host,
                outcome,
            } => self.answer(proxy, host, outcome),
            Event::Double {
                proxy,
                host,
                outcome,
                at,
            } => {
                let (at, now) = (self.base + at, self.now());
                if self.proxies[proxy].saw(&self.truth, host, outcome, at, now) {
                    self.within(0..3, Event::Follow(proxy));
                }
            }
            Event::Follow(proxy) => {
                let now = self.now();
                self.proxies[proxy].follow(&self.truth, now);
            }
            Event::Opened { proxy, slot, host } => {
                let stands = self.truth.serves(host) && !self.cuts.contains_key(&(proxy, host));
                let now = self.now();
                if !self.proxies[proxy].opened(&self.truth, slot, stands, now) {
                    self.within(80..120, Event::LookAgain(proxy));
                }
            }
            Event::LookAgain(proxy) => self.proxies[proxy].look_again(),
            Event::Ask(proxy) => self.ask(proxy)?,
            Event::Done { proxy, lease } => {
                let clean = self.chance(90);
                self.proxies[proxy].done(lease, clean);
            }
            Event::Expire { proxy, place } => {
                self.proxies[proxy].expire(place);
            }
            Event::Sweep(proxy) => {
                self.proxies[proxy].sweep(self.now());
                self.within(900..1100, Event::Sweep(proxy));
                // A verdict ages by itself; monitors look at it when they tell of their host.
                self.within(0..3, Event::Follow(proxy));
            }
            Event::Fault => self.strike(trace),
            Event::Attach { host, life } => self.attach(host, life),
            Event::Start { host, life } => self.start(host, life),
            Event::Up { host, life } => {
                if self.lives[host] == life {
                    self.truth.hosts[host].condition = Condition::Up;
                }
            }
            Event::Elect => self.elect(trace),
            Event::Mend { proxy, host, cut } => {
                if self.cuts.get(&(proxy, host)) == Some(&cut) {
                    self.cuts.remove(&(proxy, host));
                }
            }
            Event::Check => self.check_calm()?,
        }
        Ok(())
    }

    fn look(&mut self, proxy: usize, host: usize) {
        if self.cuts.contains_key(&(proxy, host)) || self.chance(1) {
            let outcome = Err(Fault::TimedOut);
            self.at(
                self.time + PATIENCE,
                Event::Answer {
                    proxy,
                    host,
                    outcome,
                },
            );
            return;
        }
        let (asked, latency) = (self.time, self.latency());
        self.at(asked + latency, Event::Arrive { proxy, host, asked });
    }

    fn arrive(&mut self, proxy: usize, host: usize, asked: Duration) {
        let back = self.time + self.latency();
        let mut outcome = self.truth.look(host, back - asked);
        let late = back - asked > PATIENCE || outcome == Err(Fault::TimedOut);
        let lost = late || self.cuts.contains_key(&(proxy, host)) || self.chance(1);
        let back = if lost {
            (asked + PATIENCE).max(self.time)
        } else {
            back
        };
        if lost {
            outcome = Err(Fault::TimedOut);
        }
        self.at(
            back,
            Event::Answer {
                proxy,
                host,
                outcome,
            },
        );
    }

    fn answer(&mut self, proxy: usize, host: usize, outcome: Result<Look, Fault>) {
        let now = self.now();
        if outcome.is_ok() && self.chance(2) {
            let (at, outcome) = (self.time, outcome.clone());
            self.within(
                0..2000,
                Event::Double {
                    proxy,
                    host,
                    outcome,
                    at,
                },
            );
        }
        if self.proxies[proxy].saw(&self.truth, host, outcome, now, now) {
            self.within(0..3, Event::Follow(proxy));
        }
        let pace = self.proxies[proxy].pace(&self.truth.hosts[host].name, now);
        let pace = pace.max(Duration::from_millis(10));
        self.at(self.time + pace, Event::Look { proxy, host });
    }

    fn ask(&mut self, proxy: usize) -> Result<(), Wrong> {
        self.within(5..200, Event::Ask(proxy));
        if self.calm && !proxy.is_multiple_of(2) {
            return Ok(());
        }
        let now = self.now();
        let asked = self.proxies[proxy].ask(now);
        match asked.map_err(|why| Check::Epoch.caught(why))? {
            Got::Lease(lease) => self.lent(proxy, lease),
            Got::Place(place) => self.at(self.time + HOLD, Event::Expire { proxy, place }),
            Got::Refused => {}
        }
        Ok(())
    }

    fn lent(&mut self, proxy: usize, lease: u64) {
        self.unserved.remove(&proxy);
        let most = if self.chance(4) { 3000 } else { 120 };
        self.within(1..most, Event::Done { proxy, lease });
    }

    /// What follows at once for a proxy from what has happened, and whether all holds.
    fn settle(&mut self, proxy: usize) -> Result<(), Wrong> {
        let now = self.now();
        for (slot, host) in self.proxies[proxy].open(now) {
            let takes = match self.truth.hosts[host].condition {
                Condition::Frozen => PATIENCE,
                _ if self.cuts.contains_key(&(proxy, host)) => PATIENCE,
                _ => self.latency(),
            };
            self.at(self.time + takes, Event::Opened { proxy, slot, host });
        }
        let served = self.proxies[proxy].serve();
        for lease in served.map_err(|why| Check::Epoch.caught(why))? {
            self.lent(proxy, lease);
        }
        let at = |check: Check| move |why: String| check.caught(format!("proxy {proxy}: {why}"));
        self.proxies[proxy]
            .check_verdict(&self.truth, now)
            .map_err(at(Check::Verdict))?;
        self.proxies[proxy]
            .check_counts(now)
            .map_err(at(Check::Epoch))
    }

    /// All was well for long: all must know it.
    fn check_calm(&mut self) -> Result<(), Wrong> {
        let (now, leader) = (self.now(), self.truth.leader);
        for (number, proxy) in self.proxies.iter_mut().enumerate() {
            let at =
                |check: Check| move |why: String| check.caught(format!("proxy {number}: {why}"));
            let writer = proxy.writer(now);
            if writer.as_ref() != Some(&self.truth.hosts[leader].name) {
                let why = format!("host {leader} leads, {writer:?} is written to");
                return Err(at(Check::Verdict)(why));
            }
            proxy
                .compare(&self.truth, now)
                .map_err(at(Check::Verdict))?;
            let oldest = proxy.core.snapshot(now).oldest_wait.unwrap_or_default();
            if oldest > Duration::from_secs(8) {
                let why = format!("somebody waits for {oldest:?} although all is well");
                return Err(at(Check::Stuck)(why));
            }
        }
        if !self.unserved.is_empty() {
            let why = format!("proxies {:?} lend nothing", self.unserved);
            return Err(Check::Stuck.caught(why));
        }
        self.calm = false;
        self.within(1..2000, Event::Fault);
        Ok(())
    }
}
