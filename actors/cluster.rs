//! What is known of the servers of one database, for all who must know which of them may be written
//! to.
//!
//! A value and not an actor: monitors put in what they saw, and the verdict that follows is in force at
//! once. It outlives them all, so that no crash makes anybody forget an epoch. Only the router is told
//! of a new verdict by message, as the routing table has no other writer.

pub(crate) mod aurora;
pub mod chronicle;
pub mod holds;
pub mod login;
pub mod look;
mod members;
pub mod monitor;
pub mod names;
pub mod patroni;
pub mod plan;
pub mod reads;
pub mod traits;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use pgherd_cluster::names::Names;
use pgherd_cluster::outcome::Promotions;
use pgherd_cluster::patroni::PatroniCluster;
use pgherd_cluster::{
    Absence, Fault, HostName, Judge, LagBounds, Look, Plan, Rules, Stage, Verdict, Writer,
};
use pgherd_config::{Config, Database, Host, HostSettings};
use pgherd_supervise::Slot;
use tokio::sync::Notify;

use crate::clock;
use crate::cluster::aurora::Aurora;
use crate::cluster::chronicle::{Chronicle, Entry};
use crate::cluster::holds::Holds;
use crate::cluster::members::{Members, follows_names, host, is_single, members};
use crate::cluster::plan::Patience;
use crate::cluster::reads::{Arrivals, Parting};
use crate::cluster::traits::AllTraits;
use crate::router::{RouterMessage, target};
use crate::upstream::Upstream;

/// The servers of a database's section, and what is known of them.
pub struct Cluster {
    /// The name of the section.
    pub name: String,
    judge: Mutex<Judge>,
    verdict: ArcSwap<Verdict>,
    members: ArcSwap<Members>,
    /// The hosts are told by Patroni.
    told: AtomicBool,
    /// The hosts as the configuration has them.
    written: Mutex<Vec<Host>>,
    /// That is one, and it is for us to say where it is.
    single: AtomicBool,
    /// There are names among them, and it is followed where they lead.
    named: AtomicBool,
    /// Where the names among these lead; `None` if that is not followed.
    names: Mutex<Option<Names>>,
    /// Those that Patroni has told.
    discovered: Mutex<Option<Members>>,
    /// Those of them that Patroni says not to read from.
    spared: Mutex<HashSet<HostName>>,
    aurora: Aurora,
    host_settings: Mutex<Vec<HostSettings>>,
    traits: ArcSwap<AllTraits>,
    doubt: Notify,
    chronicle: Chronicle,
    /// The times in which work waited for a primary.
    pub holds: Holds,
    patience: ArcSwap<Patience>,
    /// The change of the primary that is planned, or was.
    plan: Mutex<Option<Plan>>,
    arrivals: Mutex<Arrivals>,
    suspects: Mutex<HashSet<HostName>>,
    /// Where its servers' timelines began.
    pub promotions: Mutex<Promotions>,
    /// Whether it was said that those who look are not told all.
    has_told_of_rights: AtomicBool,
    router: Slot<RouterMessage>,
}

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
        let mut judge = Judge::new(rules(config, database));
        let names = config.failover.resolve.map(|_| Names::default());
        let members = members(&database.hosts, names.as_ref()).unwrap_or_default();
        let now = clock::now();
        judge.members(members.names().cloned(), now);
        let cluster = Self {
            name: name.to_owned(),
            verdict: ArcSwap::new(judge.verdict(now)),
            judge: Mutex::new(judge),
            members: ArcSwap::from_pointee(members),
            told: AtomicBool::new(!database.patroni.is_empty()),
            single: AtomicBool::new(is_single(database)),
            named: AtomicBool::new(follows_names(config, database)),
            written: Mutex::new(database.hosts.clone()),
            names: Mutex::new(names),
            discovered: Mutex::default(),
            spared: Mutex::default(),
            aurora: Aurora::of(database),
            host_settings: Mutex::new(database.host_settings.clone()),
            traits: ArcSwap::default(),
            doubt: Notify::new(),
            chronicle: Chronicle::default(),
            holds: Holds::default(),
            plan: Mutex::default(),
            patience: ArcSwap::from_pointee(Patience::of(config, database)),
            arrivals: Mutex::default(),
            suspects: Mutex::default(),
            promotions: Mutex::default(),
            has_told_of_rights: AtomicBool::new(false),
            router,
        };
        cluster.characterize();
        cluster
    }

    /// Whether it must be found out where writes go: a single server is asked nothing, unless its name may
    /// lead elsewhere, or it may lead to other instances.
    pub fn is_watched(&self) -> bool {
        self.told.load(Ordering::Relaxed)
            || self.members.load().count() > 1
            || self.follows_names()
            || self.aurora.searches()
    }

    /// Whether writes go where the evidence says. A single name leads where it leads until a primary was
    /// seen there: it may be that of a replica, or of something that lets nobody look. If it has several
    /// addresses, then they are all asked first.
    pub fn is_led(&self) -> bool {
        let verdict = self.verdict.load();
        let open = self.single.load(Ordering::Relaxed) && verdict.holder.is_none() && {
            let asking = verdict.writer == Writer::Nobody(Absence::Asking);
            !asking || self.members.load().count() <= 1
        };
        self.is_watched() && !open
    }

    /// Whether some of its hosts have names of which it is followed where they lead.
    pub fn follows_names(&self) -> bool {
        self.named.load(Ordering::Relaxed)
    }

    /// The hosts.
    pub fn members(&self) -> Arc<Members> {
        self.members.load_full()
    }

    /// Where writes go at this moment.
    pub fn lead(&self) -> Lead {
        let members = self.members.load();
        if !self.is_led() {
            let first = || self.written.lock().first().cloned();
            let host = members.hosts().next().cloned().or_else(first);
            return Lead { host, epoch: 0 };
        }
        let verdict = self.verdict.load();
        let host = match &verdict.writer {
            Writer::At(name) if self.stage() == Stage::Over => members.get(name).cloned(),
            Writer::At(_) | Writer::Nobody(_) => None,
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

    /// Whether who was written to last is not to be written to any more, however alive it is: it was
    /// replaced or demoted, or it is one of several.
    pub fn has_left(&self) -> bool {
        match &self.verdict.load().writer {
            Writer::At(_) => false,
            Writer::Nobody(absence) => match absence {
                Absence::Demoted { .. }
                | Absence::Removed { .. }
                | Absence::Superseded { .. }
                | Absence::Two { .. } => true,
                Absence::Asking
                | Absence::NoneSeen
                | Absence::Full { .. }
                | Absence::Gone { .. }
                | Absence::Silent { .. }
                | Absence::ReadOnly { .. } => false,
            },
        }
    }

    /// Whether nobody is to go on at the server with this name, whatever it says: writes go to another one, or
    /// [they must not go there](Self::has_left).
    pub fn has_passed(&self, server: &str) -> bool {
        self.is_led()
            && match self.lead().host {
                Some(host) => target(&host.address).to_string() != server,
                None => self.has_left(),
            }
    }

    /// Lets time pass: what was seen grows old even if nobody looks.
    pub fn age(&self, now: Instant) {
        self.judged(now, |_| {});
    }

    /// How often it changed who may be written to.
    pub fn changes(&self) -> u64 {
        self.chronicle.count()
    }

    /// How often another server than before came to be written to.
    pub fn failovers(&self) -> u64 {
        self.chronicle.failovers()
    }

    /// A host has answered: takes note of what it says beside the look at it, which is given back.
    fn told_by(&self, told: look::Told, upstream: &Upstream) -> Look {
        if let Some(primary) = &told.primary {
            self.promotions.lock().note(primary);
        }
        if told.is_short() && !self.has_told_of_rights.swap(true, Ordering::Relaxed) {
            let (database, host) = (&self.name, &upstream.name);
            tracing::warn!(database, host, "{}", look::advice(&upstream.user));
        }
        told.look
    }

    /// A host was looked at; it was asked at `asked`.
    pub fn saw(&self, host: &HostName, outcome: Result<Look, Fault>, asked: Instant, now: Instant) {
        let look = outcome.as_ref().ok().cloned();
        if let Some(look) = &look {
            self.leave_behind(host, look, now);
        }
        if look.is_none() && self.is_shared() {
            self.missed(host);
        }
        self.judged(now, |judge| judge.saw(host, outcome, now));
        if self.is_shared() {
            self.take_claim(now);
        }
        if look.is_none() {
            self.arrivals.lock().forget(host);
            // All others are looked at, too, if this has raised a doubt.
            self.doubt.notify_waiters();
        }
        if let Some(look) = look {
            let verdict = self.verdict.load();
            self.arrivals.lock().note(&verdict, host, &look, asked);
        }
    }

    /// Whether all that was written until `moment` is known to have arrived at a host.
    pub fn has_arrived(&self, host: &HostName, moment: Instant) -> bool {
        self.arrivals.lock().has_arrived(host, moment)
    }

    /// Somebody has met what speaks against a host: all are looked at at once.
    pub fn suspect(&self, host: &str, now: Instant) {
        if self.is_watched() {
            let name = HostName::from(host);
            if self.members.load().get(&name).is_some() {
                self.suspects.lock().insert(name.clone());
            }
            self.judged(now, |judge| judge.suspect(&name, now));
            self.doubt.notify_waiters();
        }
    }

    /// A host takes its time to say how it is. If that is the primary, the others are looked at soon: frozen, it says
    /// nothing, nobody's connection breaks, and another one may have taken its place.
    pub fn hesitates(&self, host: &HostName, now: Instant) {
        if self.verdict().writer() == Some(host) {
            self.judged(now, |judge| judge.hesitates(host, now));
            self.doubt.notify_waiters();
        }
    }

    /// Sessions were answered by a host at that time.
    pub fn served(&self, host: &HostName, at: Instant, now: Instant) {
        self.judged(now, |judge| judge.lives(host, at, now));
    }

    /// How long the last answer of a host took.
    pub fn latency(&self, host: &HostName) -> Option<Duration> {
        self.verdict.load().host(host)?.latency
    }

    /// Whether somebody has met what speaks against a host since this was asked last.
    pub fn take_suspect(&self, host: &HostName) -> bool {
        self.suspects.lock().remove(host)
    }

    /// How long after the last look at a host it is time for the next.
    pub fn pace(&self, host: &HostName, now: Instant) -> Duration {
        self.judge.lock().pace(host, now)
    }

    /// Resolves when hosts should be looked at sooner than was thought, or may be for the first time.
    pub fn doubted(&self) -> tokio::sync::futures::Notified<'_> {
        self.doubt.notified()
    }

    /// Resolves when hosts are known: at once the addresses of the configuration, its names when they were
    /// looked up once, and those that Patroni tells of when it has told for the first time.
    pub async fn introduced(&self) {
        loop {
            let news = self.doubted();
            if self.members.load().iter().next().is_some() {
                return;
            }
            news.await;
        }
    }

    /// There may be somebody now as whom hosts can be looked at.
    pub fn wake(&self) {
        self.doubt.notify_waiters();
    }

    /// Takes over what the configuration says now.
    pub fn reconfigure(&self, config: &Config, database: &Database, now: Instant) {
        self.patience
            .store(Arc::new(Patience::of(config, database)));
        let told = !database.patroni.is_empty();
        self.told.store(told, Ordering::Relaxed);
        self.aurora.reconfigure(database);
        self.host_settings
            .lock()
            .clone_from(&database.host_settings);
        // All stay locked to the end, so that of two changes at once none undoes the other.
        let mut discovered = self.discovered.lock();
        if !told {
            *discovered = None;
            self.spared.lock().clear();
        }
        let mut written = self.written.lock();
        written.clone_from(&database.hosts);
        self.single.store(is_single(database), Ordering::Relaxed);
        let named = follows_names(config, database);
        self.named.store(named, Ordering::Relaxed);
        let mut names = self.names.lock();
        match (config.failover.resolve, names.as_mut()) {
            (None, _) => *names = None,
            (Some(_), None) => *names = Some(Names::default()),
            (Some(_), Some(names)) => {
                names.keep(database.hosts.iter().filter_map(Host::looked_up));
            }
        }
        let named = || match told && written.is_empty() {
            true => None,
            false => members(&written, names.as_ref()).map(|written| self.aurora.join(written)),
        };
        // Until Patroni has told which there are, or the names of all were looked up, the hosts stay that there were: what
        // is under way there must not be cut off for a question.
        let found = discovered.clone().or_else(named);
        let members = found.unwrap_or_else(|| Members::clone(&self.members()));
        self.judged(now, |judge| judge.set_rules(rules(config, database), now));
        self.enlist(members, now);
    }

    /// Patroni has said which hosts there are and who leads. Who may be written to is still for the
    /// hosts themselves to show.
    pub fn heard(&self, told: PatroniCluster, now: Instant) {
        let members: Members = told
            .members
            .iter()
            .filter_map(|member| Some((member.host.clone(), host(&member.host)?)))
            .collect();
        let members = match &told.claim.leader {
            Some(_) => members,
            None => self.with_writer(members),
        };
        // A cluster without members is one that is being set up, or a Patroni that knows nothing.
        if !told.members.is_empty() {
            let spared = told.members.iter().filter(|member| member.no_reads);
            let spared = spared.map(|member| member.host.clone()).collect();
            self.take_told(members, spared, now);
        }
        self.judged(now, |judge| judge.told(told.claim, now));
        self.schedule(told.switchover.as_ref(), now);
        // It may name another than the one that is written to.
        self.rouse(now);
    }

    /// The same hosts, with the one that is written to: while nobody is said to lead, its Patroni may be stopped (for an
    /// upgrade, in maintenance) and its server go on. Its own answers judge it, then.
    fn with_writer(&self, members: Members) -> Members {
        let (verdict, known) = (self.verdict(), self.members());
        let writer = verdict.writer().filter(|it| members.get(it).is_none());
        let writer = writer.and_then(|it| Some((it.clone(), known.get(it)?.clone())));
        members.iter().cloned().chain(writer).collect()
    }

    /// Takes over the hosts that Patroni has told, and which of them are not to be read from, unless it is not asked any
    /// more as of a moment ago.
    fn take_told(&self, members: Members, spared: HashSet<HostName>, now: Instant) {
        let mut discovered = self.discovered.lock();
        if !self.told.load(Ordering::Relaxed) {
            return;
        }
        // Before the members, so that a new one is never read from in between.
        *self.spared.lock() = spared;
        if discovered.as_ref() == Some(&members) {
            self.characterize();
            return;
        }
        *discovered = Some(members.clone());
        tracing::info!(database = self.name, hosts = ?members.names().collect::<Vec<_>>(), "told by patroni");
        self.enlist(members, now);
        let section = self.name.clone();
        let _ = self.router.cast(RouterMessage::Enlist { section });
    }

    /// Has all hosts be looked at at once if anything is in doubt.
    fn rouse(&self, now: Instant) {
        if self.is_suspicious(now) {
            self.doubt.notify_waiters();
        }
    }

    /// Whether anything is in doubt.
    pub fn is_suspicious(&self, now: Instant) -> bool {
        self.judge.lock().is_suspicious(now)
    }

    fn enlist(&self, members: Members, now: Instant) {
        let names: Vec<HostName> = members.names().cloned().collect();
        self.members.store(Arc::new(members));
        self.characterize();
        self.judged(now, |judge| judge.members(names, now));
        self.doubt.notify_waiters();
    }

    /// How long it is until some host should be looked at.
    pub fn soonest(&self, now: Instant) -> Duration {
        let judge = self.judge.lock();
        let members = self.members.load();
        let paces = members.names().map(|host| judge.pace(host, now));
        paces.min().unwrap_or(Duration::from_secs(1))
    }

    fn judged(&self, now: Instant, act: impl FnOnce(&mut Judge)) {
        let mut judge = self.judge.lock();
        act(&mut judge);
        let verdict = judge.verdict(now);
        // Stored under the lock: of two verdicts the later stays.
        let before = self.verdict.swap(Arc::clone(&verdict));
        self.chronicle.suspects(&self.name, judge.doubt(now), now);
        self.advance_plan(&verdict, now);
        if Arc::ptr_eq(&before, &verdict) {
            return;
        }
        let turned = (&before.writer, before.epoch) != (&verdict.writer, verdict.epoch);
        let moves = turned || partings(&before) != partings(&verdict);
        self.chronicle.note(&self.name, &before, &verdict);
        drop(judge);
        if moves {
            self.turn();
        }
    }

    /// Has the pools follow what holds now.
    fn turn(&self) {
        // A router that is being restarted follows all verdicts when it starts.
        let _ = self.router.cast(RouterMessage::Follow {
            section: self.name.clone(),
        });
    }
}

/// The hosts from which readers keep away, and how far.
fn partings(verdict: &Verdict) -> Vec<(&HostName, Parting)> {
    let hosts = verdict.hosts.iter();
    hosts
        .map(|state| (&state.name, reads::parting(state)))
        .filter(|(_, parting)| *parting != Parting::Stay)
        .collect()
}

fn rules(config: &Config, database: &Database) -> Rules {
    let failover = &config.failover;
    let reads = config.effective_pool(database, None).reads;
    Rules {
        expiry: failover.evidence,
        pace: failover.probe,
        quick_pace: failover.probe_suspect,
        ill_after: 2,
        lag: LagBounds {
            bytes: reads.max_lag_bytes.map(|max| max.get() as u64),
            time: reads.max_lag,
        },
        ..Rules::default()
    }
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
        let now = clock::now();
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

#[cfg(test)]
mod tests;
