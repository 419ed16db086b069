//! A pool: the server connections of one user to one database.
//!
//! Owns: nothing that traffic needs. The connections, the queue and the accounting are in the
//!   [`PoolCore`], which outlives this actor.
//! Hears: that the core has changed (at most one such message is queued), that a connection was
//!   opened or could not be, and its own clock.
//! Tells: a [`ServerConnection`](crate::connection) to open; waiters that the server refuses them.
//! If it dies: traffic goes on over the core; the next one looks at the core and continues.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::Mutex;
use pgherd_cluster::HostName;
use pgherd_config::{PoolMode, PoolSettings, WILDCARD};
use pgherd_pool::{Age, Lease, Limits, Meta, Order, Place, PoolCore, Refused, Seen, SweepRules};
use pgherd_session::{Proven, Registry, Shared};
use pgherd_sql::PinSet;
use pgherd_supervise::{Heartbeat, Slot, Tasked, linked};
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};

use crate::clock;
use crate::cluster::Cluster;
use crate::cluster::holds::HoldEnd;
use crate::cluster::reads::Parting;
use crate::connection::{ConnectionArguments, ServerConnection};
use crate::facts::Facts;
use crate::gate::Backoff;
use crate::herald::audience::{Audience, Circle};
use crate::hindrance::Hindrance;
use crate::judgement::Judgement;
use crate::keeping::Keeping;
use crate::natives::Natives;
use crate::outcomes::Outcomes;
use crate::pins::{PinCounts, PinTotals};
use crate::retries::Retries;
use crate::router::RouterMessage;
use crate::server::{ServerAbout, ServerConn};
use crate::unserved::Refusals;
use crate::upstream::{OpenError, Secret, Source, Upstream, Welcome};

/// A server connection in the hands of a session.
pub type ServerLease = Lease<Box<ServerConn>, ServerAbout>;
/// The accounting of a pool.
pub type Core = PoolCore<Box<ServerConn>, ServerAbout>;

/// What names a pool.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolKey {
    /// The database that clients ask for.
    pub database: String,
    /// The user that clients log in as.
    pub user: String,
    /// The host, for a pool that is only read from; `None` is the pool of whatever host is written to.
    pub reader: Option<HostName>,
}

impl PoolKey {
    /// The pool of a database and a user that leads to where writes go.
    pub fn new(database: impl Into<String>, user: impl Into<String>) -> Self {
        Self {
            database: database.into(),
            user: user.into(),
            reader: None,
        }
    }

    /// The host of a pool that is only read from; empty for another.
    pub fn reader_name(&self) -> &str {
        self.reader.as_ref().map_or("", HostName::as_str)
    }
}

/// Everything that sessions of one user and database share.
pub struct Pool {
    /// Its name.
    pub key: PoolKey,
    /// Tells it from all other pools, also from earlier ones of its name.
    pub number: u64,
    /// The connections and the queue.
    pub core: Arc<Core>,
    /// Where its connections lead.
    pub upstream: ArcSwap<Upstream>,
    /// The servers of its database.
    pub cluster: ArcSwap<Cluster>,
    /// Prepared statements that its clients share.
    pub registry: Arc<Registry<Judgement>>,
    /// Parameter values that its server has accepted.
    pub proven: Arc<Proven>,
    /// The sets of parameters that its clients have.
    pub shared: Arc<Shared>,
    /// What the server says at login; known once one connection was made.
    pub welcome: ArcSwapOption<Welcome>,
    /// Why the last attempt to connect failed, until one succeeds.
    pub trouble: ArcSwapOption<OpenError>,
    /// The limit that keeps it from opening another connection.
    pub hindrance: Hindrance,
    /// Pauses behind logins that fail for reasons of their own, which keep nobody else from the host.
    pub backoff: Backoff,
    /// Its clients ask for what they remember of sequences behind the transactions that used them.
    pub asks_sequences: AtomicBool,
    /// Settings of the users' own that each of its connections has from its start.
    pub natives: Natives,
    /// Counters.
    pub stats: Stats,
    /// Requests that were sent again.
    pub retries: Retries,
    /// Clients that were given no server.
    pub refusals: Refusals,
    /// What was found out about COMMITs without an answer.
    pub outcomes: Outcomes,
    /// The actor that manages it.
    pub manager: Slot<PoolMessage>,
    /// The clients of its database that listen.
    pub audience: Arc<Audience>,
    /// Its own among them.
    pub circle: Arc<Circle>,
    /// The pools of the same database and user that are only read from, one a host.
    pub readers: ArcSwap<Vec<Arc<Self>>>,
    /// Counts what was read, to take the hosts in turns.
    pub turns: AtomicU64,
    /// What clients that wait have sent, of all pools.
    pub keeping: Arc<Keeping>,
    /// It has connections that began with other settings than new ones do.
    outdated: AtomicBool,
    /// How far it keeps away from the host that it reads from.
    parting: Mutex<Parting>,
    /// How many were cut off since it began to wait for a server.
    cut: AtomicU64,
    born: Instant,
    settings: ArcSwap<PoolSettings>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl Pool {
    /// A pool without connections.
    pub fn new(
        key: PoolKey,
        upstream: Arc<Upstream>,
        settings: Arc<PoolSettings>,
        core: Arc<Core>,
        manager: Slot<PoolMessage>,
        cluster: Arc<Cluster>,
    ) -> Self {
        Self {
            key,
            number: 0,
            manager,
            core,
            upstream: ArcSwap::new(upstream),
            cluster: ArcSwap::new(cluster),
            registry: Arc::default(),
            proven: Arc::default(),
            shared: Arc::default(),
            welcome: ArcSwapOption::empty(),
            trouble: ArcSwapOption::empty(),
            hindrance: Hindrance::default(),
            backoff: Backoff::default(),
            asks_sequences: AtomicBool::new(false),
            natives: Natives::default(),
            stats: Stats::default(),
            retries: Retries::default(),
            refusals: Refusals::default(),
            outcomes: Outcomes::default(),
            audience: Arc::default(),
            circle: Arc::default(),
            readers: ArcSwap::default(),
            turns: AtomicU64::new(0),
            keeping: Arc::default(),
            outdated: AtomicBool::new(false),
            parting: Mutex::default(),
            cut: AtomicU64::new(0),
            born: clock::now(),
            settings: ArcSwap::new(settings),
        }
    }

    /// Has a number of its own, by which its actors are called: names of databases and users may hold anything, and two
    /// pools may read alike.
    #[must_use]
    pub fn called(self, number: u64) -> Self {
        Self { number, ..self }
    }

    /// Has its statements numbered from here, so that no other pool's have their numbers.
    #[must_use]
    pub fn numbered_by(self, next: &Arc<AtomicU64>) -> Self {
        Self {
            registry: Arc::new(Registry::numbered_by(Arc::clone(next))),
            ..self
        }
    }

    /// Counts what its waiting clients have sent together with that of the other pools.
    #[must_use]
    pub fn keeping_with(self, keeping: &Arc<Keeping>) -> Self {
        Self {
            keeping: Arc::clone(keeping),
            ..self
        }
    }

    /// Has its clients listen together with those of the other pools of its database.
    #[must_use]
    pub fn listening_with(self, audience: Arc<Audience>) -> Self {
        Self { audience, ..self }
    }

    /// A pool for reading, beside this one: its clients are this one's, and so is what is known of them.
    pub fn reader(
        &self,
        host: HostName,
        upstream: Arc<Upstream>,
        core: Arc<Core>,
        manager: Slot<PoolMessage>,
    ) -> Self {
        let key = PoolKey {
            reader: Some(host),
            ..self.key.clone()
        };
        let (settings, cluster) = (self.settings.load_full(), self.cluster.load_full());
        Self {
            registry: Arc::clone(&self.registry),
            proven: Arc::clone(&self.proven),
            shared: Arc::clone(&self.shared),
            keeping: Arc::clone(&self.keeping),
            ..Self::new(key, upstream, settings, core, manager, cluster)
        }
    }

    /// How old it is, in nanoseconds.
    pub fn age(&self, now: Instant) -> Option<NonZeroU64> {
        NonZeroU64::new(nanos(now.saturating_duration_since(self.born)))
    }

    /// When it had this age.
    pub fn moment(&self, age: NonZeroU64) -> Instant {
        self.born + Duration::from_nanos(age.get())
    }

    /// What holds in this pool at the moment.
    pub fn settings(&self) -> arc_swap::Guard<Arc<PoolSettings>> {
        self.settings.load()
    }

    /// Takes new settings over.
    pub fn reconfigure(&self, settings: Arc<PoolSettings>) {
        self.core.resize(limits(&settings));
        self.settings.store(settings);
    }

    /// Leads to this server from now on, in an epoch that is not earlier. What leads elsewhere, or was
    /// opened in an earlier epoch, is closed. If it `cuts`, also what is on loan: what a session has not
    /// ended there it may not end any more. Answers how work has waited, if it has, or was cut off.
    pub fn lead_to(&self, upstream: Arc<Upstream>, epoch: u64, cuts: bool) -> Option<HoldEnd> {
        let before = lead(&self.upstream, &upstream);
        let upstream = self.upstream.load_full();
        drop(self.core.fence(epoch));
        if !upstream.is_as_good_as(&before) {
            drop(self.core.retire_all());
            self.backoff.succeeded();
        }
        if before.name != upstream.name {
            self.trouble.store(None);
            // Failures of its past, when it was no primary yet, are no reason to wait.
            upstream.gate.0.succeeded();
        }
        let replaced = self.cut_off(|seen| {
            // Before there was a choice of servers there were no epochs.
            let replaced = seen.meta.epoch != 0 && seen.meta.epoch < epoch;
            cuts && (replaced || seen.info.upstream.name != upstream.name)
        });
        let now = clock::now();
        let (held, waited) = (self.core.held(), self.core.snapshot(now).waiting);
        if held.is_some() {
            // The server may be the one of before, and its connections lost without a word: those who wait would meet
            // them one after the other.
            self.core
                .each(|seen| seen.info.doubted.store(true, Ordering::Relaxed));
        }
        self.core.release(now);
        let cut = replaced + self.cut.swap(0, Ordering::Relaxed);
        (held.is_some() || cut > 0).then(|| HoldEnd {
            held: held.map_or(Duration::ZERO, |since| now.saturating_duration_since(since)),
            waited: held.map_or(0, |_| waited as u64),
            cut,
        })
    }

    /// Whether it leads to this server in this epoch, and nobody waits for there to be one.
    pub fn leads_to(&self, host: &str, epoch: u64) -> bool {
        let is_there = self.core.held().is_none() && self.upstream.load().name == host;
        is_there && self.core.epoch() == epoch
    }

    /// Ends connections of which this holds; answers how many of those somebody has.
    fn cut_off(&self, is_to_end: impl Fn(&Seen<'_, Box<ServerConn>, ServerAbout>) -> bool) -> u64 {
        let mut cut = 0;
        self.core.each(|seen| {
            if is_to_end(&seen) && seen.info.killer.kill() && seen.place == Place::Leased {
                cut += 1;
            }
        });
        cut
    }

    /// Waits for a server to lead to, and leaves those that there are: nobody may be written to.
    pub fn abandon(&self, now: Instant) {
        self.core.hold(now);
        drop(self.core.retire_all());
        self.cut
            .fetch_add(self.cut_off(|_| true), Ordering::Relaxed);
    }

    /// Keeps so far away from the host that it reads from. Only to keep further away than before has consequences: who
    /// comes to read from an ill host because there is no better one is not sent away again each time that anything is
    /// new.
    pub fn part(&self, parting: Parting) {
        let before = std::mem::replace(&mut *self.parting.lock(), parting);
        if parting > before {
            match parting {
                Parting::Stay => {}
                Parting::Avoid => self.avoid(),
                Parting::Leave => self.desert(),
            }
        }
    }

    /// Is read from no more for now: who waits is told, and who reads may finish.
    fn avoid(&self) {
        let lost = OpenError::Withheld {
            host: self.upstream.load().name.clone(),
        };
        self.core.fail_waiters(Arc::new(lost));
    }

    /// Leaves a host that is not to be read from any more: who waits is told, and who reads is cut off.
    fn desert(&self) {
        self.avoid();
        drop(self.core.retire_all());
        let (cut, host) = (self.cut_off(|_| true), self.key.reader_name());
        tracing::info!(
            database = self.key.database,
            host,
            cut,
            "nobody reads here any more"
        );
    }

    /// Drops a secret that a client brought and the server has refused, so that nothing knocks with
    /// it again.
    pub fn forget(&self, used: &Arc<Upstream>) -> Forgotten {
        if used.source == Source::Configured || matches!(used.secret, Secret::None) {
            return Forgotten::Nothing;
        }
        let without = Arc::new(Upstream {
            secret: Secret::Refused,
            ..(**used).clone()
        });
        let found = self.upstream.compare_and_swap(used, without);
        if Arc::ptr_eq(&found, used) || matches!(found.secret, Secret::Refused) {
            Forgotten::Secret
        } else {
            Forgotten::Renewed
        }
    }

    /// A server has greeted a new connection, and said which settings sessions begin with. Where these are others than
    /// before, it may report values otherwise, too; and connections to the same host that are older have what was, so that
    /// they are to be replaced. Another host may have settings of its own, and what was connected to the one before is not
    /// used any more.
    pub fn greeted(&self, welcome: Welcome) {
        let welcome = Arc::new(welcome);
        let before = self.welcome.swap(Some(Arc::clone(&welcome)));
        let Some(before) = before.filter(|before| before.begins_otherwise(&welcome)) else {
            return;
        };
        self.proven.forget();
        if before.host == welcome.host {
            self.outdated.store(true, Ordering::Relaxed);
        }
    }

    /// Replaces connections that have begun with other settings than new ones do, if there are any: idle ones are closed,
    /// the others when they come back.
    fn replace_outdated(&self) -> bool {
        let is_outdated = self.outdated.swap(false, Ordering::Relaxed);
        if is_outdated {
            // What those that are on loan have reported meanwhile is of their kind.
            self.proven.forget();
            drop(self.core.retire_all());
            let (database, user) = (&self.key.database, &self.key.user);
            tracing::info!(
                database,
                user,
                "new sessions begin with other settings than before, so connections are replaced"
            );
        }
        is_outdated
    }

    /// How long no connection should be opened there, after failures of the host or of this pool's own.
    pub fn pause(&self, upstream: &Upstream, now: Instant) -> Option<Duration> {
        upstream.gate.0.pause(now).max(self.backoff.pause(now))
    }

    /// No connection could be opened: whoever would meet the same is to knock less often.
    pub fn note_failure(&self, error: &OpenError, upstream: &Upstream, forgotten: Forgotten) {
        let now = clock::now();
        if error.is_of_others() {
            upstream.gate.0.failed(error.failing(), now);
        } else if forgotten == Forgotten::Nothing {
            // Nothing knocks with a secret that is forgotten.
            self.backoff.failed(error.failing(), now);
        }
    }

    /// A client that logged in with a secret other than the pool's brings it along: what it has proved itself with just
    /// now is the newest that is known. A secret of the configuration stays.
    pub fn renew(&self, secret: &Secret) {
        if renew(&self.upstream, secret) {
            self.backoff.succeeded();
        }
        for reader in self.readers.load().iter() {
            reader.renew(secret);
        }
    }

    /// Whether it is one of a database that has no section of its own, and has nothing at the moment, nor anybody who
    /// waits. There may be sessions all the same.
    pub fn is_forsaken(&self, now: Instant) -> bool {
        let seen = self.core.snapshot(now);
        let is_empty = seen.idle + seen.leased + seen.opening + seen.waiting == 0;
        let is_wild = self.cluster.load().name == WILDCARD;
        is_wild && is_empty && self.key.reader.is_none() && !self.audience.is_wanted(&self.circle)
    }

    /// Whether a session with these pins keeps its server after the transaction.
    pub fn pins(&self, pins: PinSet, mode: PoolMode) -> bool {
        mode == PoolMode::Session || !pins.is_empty()
    }
}

/// Leads elsewhere, with the secret that a client has brought meanwhile; answers how it was before.
fn lead(known: &ArcSwap<Upstream>, upstream: &Arc<Upstream>) -> Arc<Upstream> {
    let learned = |upstream: &Upstream| upstream.source == Source::Client;
    known.rcu(|before| {
        match learned(before) && learned(upstream) && before.secret != upstream.secret {
            true => Arc::new(Upstream {
                secret: before.secret.clone(),
                ..(**upstream).clone()
            }),
            false => Arc::clone(upstream),
        }
    })
}

/// Takes a secret over that is to take the place of what is known; answers whether there is a newer one now.
fn renew(known: &ArcSwap<Upstream>, secret: &Secret) -> bool {
    let mut before = known.load_full();
    while before.source == Source::Client && secret.supersedes(&before.secret) {
        let renewed = Arc::new(Upstream {
            secret: secret.clone(),
            ..(*before).clone()
        });
        let found = known.compare_and_swap(&before, renewed);
        let newer = !matches!(found.secret, Secret::Refused) && found.secret != before.secret;
        if Arc::ptr_eq(&found, &before) || newer {
            // If another client was quicker, what it has brought is as new.
            return true;
        }
        // That the old one was refused meanwhile, or leads elsewhere, is no reason to lose this one.
        before = Arc::clone(&found);
    }
    false
}

/// What has become of a secret that was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forgotten {
    /// It stays: the configuration says it, or there is none.
    Nothing,
    /// It is dropped.
    Secret,
    /// Something has come in its place meanwhile.
    Renewed,
}

/// So many hold a pool that nobody uses: the routing table, its manager, and what that is started from.
pub const HELD_BY_ITSELF: usize = 3;

/// The sizes of a pool as its core takes them.
pub fn limits(settings: &PoolSettings) -> Limits {
    Limits {
        size: settings.pool.size.get(),
        min: settings.pool.min,
        reserve: settings.pool.reserve,
        reserve_after: settings.pool.reserve_after,
        max_waiters: settings.pool.max_waiters.get(),
        max_opening: 8,
        order: match settings.pool.order {
            pgherd_config::Order::Lifo => Order::Lifo,
            pgherd_config::Order::Fifo => Order::Fifo,
        },
    }
}

/// Counters of a pool; they only grow.
#[derive(Debug, Default)]
pub struct Stats {
    transactions: AtomicU64,
    queries: AtomicU64,
    transaction_ns: AtomicU64,
    query_ns: AtomicU64,
    wait_ns: AtomicU64,
    from_clients: AtomicU64,
    from_servers: AtomicU64,
    assignments: AtomicU64,
    client_parses: AtomicU64,
    server_parses: AtomicU64,
    server_parses_again: AtomicU64,
    evictions: AtomicU64,
    binds: AtomicU64,
    logins: AtomicU64,
    pinned: AtomicU64,
    checked: AtomicU64,
    surveyed: AtomicU64,
    pins: PinCounts,
    period: Mutex<Period>,
}

/// What the console takes its averages of.
#[derive(Debug, Default)]
struct Period {
    /// The counters when the present one began.
    began: Totals,
    /// What was counted in the last one.
    last: Totals,
}

/// The counters of a pool at one moment, in PgBouncer's terms.
#[derive(Debug, Default, Clone, Copy)]
pub struct Totals {
    /// Times a client was given a server.
    pub server_assignment_count: u64,
    /// Transactions.
    pub xact_count: u64,
    /// Queries.
    pub query_count: u64,
    /// Bytes from clients.
    pub bytes_received: u64,
    /// Bytes from servers, which go to clients.
    pub bytes_sent: u64,
    /// Time in transactions.
    pub xact_time: Duration,
    /// The same without what clients took to go on.
    pub query_time: Duration,
    /// Time that clients waited for a server.
    pub wait_time: Duration,
    /// Named statements that clients prepared.
    pub client_parse_count: u64,
    /// Named statements that servers had to prepare.
    pub server_parse_count: u64,
    /// Of these, those that no client had asked for then: for a client that had been moved, or
    /// because the statement had been evicted.
    pub server_parse_again_count: u64,
    /// Statements that were closed on a server to make room.
    pub eviction_count: u64,
    /// Executions of named statements.
    pub bind_count: u64,
    /// Logins of clients.
    pub client_login_count: u64,
    /// Transactions after which a session stayed pinned.
    pub pinned_count: u64,
    /// Looks at a server's session for what functions left in it.
    pub check_count: u64,
    /// Looks at the catalogue for functions that run unseen.
    pub survey_count: u64,
    /// Times a session came to be pinned, by reason.
    pub pins: PinTotals,
}

impl Totals {
    /// What has come since then, of what there are averages of.
    fn since(&self, then: &Self) -> Self {
        let more = |now: u64, then: u64| now.saturating_sub(then);
        Self {
            server_assignment_count: more(
                self.server_assignment_count,
                then.server_assignment_count,
            ),
            xact_count: more(self.xact_count, then.xact_count),
            query_count: more(self.query_count, then.query_count),
            bytes_received: more(self.bytes_received, then.bytes_received),
            bytes_sent: more(self.bytes_sent, then.bytes_sent),
            xact_time: self.xact_time.saturating_sub(then.xact_time),
            query_time: self.query_time.saturating_sub(then.query_time),
            wait_time: self.wait_time.saturating_sub(then.wait_time),
            client_parse_count: more(self.client_parse_count, then.client_parse_count),
            server_parse_count: more(self.server_parse_count, then.server_parse_count),
            bind_count: more(self.bind_count, then.bind_count),
            client_login_count: more(self.client_login_count, then.client_login_count),
            ..Self::default()
        }
    }
}

impl Stats {
    /// A lease has ended after this long, in which its client took so long to go on.
    pub fn transaction(&self, took: Duration, thought: Duration) {
        let queries = took.saturating_sub(thought);
        self.transactions.fetch_add(1, Ordering::Relaxed);
        self.transaction_ns
            .fetch_add(nanos(took), Ordering::Relaxed);
        self.query_ns.fetch_add(nanos(queries), Ordering::Relaxed);
    }

    /// So many queries were answered.
    pub fn queries(&self, count: u64) {
        self.queries.fetch_add(count, Ordering::Relaxed);
    }

    /// A client was given a server after it had waited this long.
    pub fn assigned(&self, waited: Duration) {
        self.assignments.fetch_add(1, Ordering::Relaxed);
        if !waited.is_zero() {
            self.wait_ns.fetch_add(nanos(waited), Ordering::Relaxed);
        }
    }

    /// Bytes came from a client.
    pub fn received_from_client(&self, bytes: usize) {
        self.from_clients.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Bytes came from a server.
    pub fn received_from_server(&self, bytes: usize) {
        self.from_servers.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// A client prepared a named statement.
    pub fn client_parse(&self) {
        self.client_parses.fetch_add(1, Ordering::Relaxed);
    }

    /// A server had to prepare a named statement.
    pub fn server_parse(&self) {
        self.server_parses.fetch_add(1, Ordering::Relaxed);
    }

    /// A server has to prepare a statement that its client had prepared already.
    pub fn server_parse_again(&self) {
        self.server_parses_again.fetch_add(1, Ordering::Relaxed);
    }

    /// A statement was closed on a server to make room.
    pub fn evicted(&self) {
        self.evictions.fetch_add(1, Ordering::Relaxed);
    }

    /// A named statement was bound.
    pub fn bind(&self) {
        self.binds.fetch_add(1, Ordering::Relaxed);
    }

    /// A client logged in.
    pub fn login(&self) {
        self.logins.fetch_add(1, Ordering::Relaxed);
    }

    /// A session stayed on its server after a transaction.
    pub fn pinned(&self) {
        self.pinned.fetch_add(1, Ordering::Relaxed);
    }

    /// A server's session was looked at for what functions left in it.
    pub fn checked(&self) {
        self.checked.fetch_add(1, Ordering::Relaxed);
    }

    /// The catalogue was asked for functions that run unseen.
    pub fn surveyed(&self) {
        self.surveyed.fetch_add(1, Ordering::Relaxed);
    }

    /// The present period is over. What was counted in it is kept until the next one is.
    pub fn turn(&self) {
        let totals = self.totals();
        let mut period = self.period.lock();
        *period = Period {
            last: totals.since(&period.began),
            began: totals,
        };
    }

    /// What was counted in the last period.
    pub fn last_period(&self) -> Totals {
        self.period.lock().last
    }

    /// A session came to be pinned for these reasons.
    pub fn pinned_for(&self, pins: PinSet) {
        self.pins.add(pins);
    }

    /// The counters as they are.
    pub fn totals(&self) -> Totals {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Totals {
            server_assignment_count: get(&self.assignments),
            xact_count: get(&self.transactions),
            query_count: get(&self.queries),
            bytes_received: get(&self.from_clients),
            bytes_sent: get(&self.from_servers),
            xact_time: Duration::from_nanos(get(&self.transaction_ns)),
            query_time: Duration::from_nanos(get(&self.query_ns)),
            wait_time: Duration::from_nanos(get(&self.wait_ns)),
            client_parse_count: get(&self.client_parses),
            server_parse_count: get(&self.server_parses),
            server_parse_again_count: get(&self.server_parses_again),
            eviction_count: get(&self.evictions),
            bind_count: get(&self.binds),
            client_login_count: get(&self.logins),
            pinned_count: get(&self.pinned),
            check_count: get(&self.checked),
            survey_count: get(&self.surveyed),
            pins: self.pins.totals(),
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The actor.
#[derive(Debug)]
pub struct PoolManager;

/// What it is born with.
#[derive(Debug, Clone)]
pub struct PoolArguments {
    /// Its pool.
    pub pool: Arc<Pool>,
    /// The facts, for numbers.
    pub facts: Arc<Facts>,
    /// Its sign of life.
    pub heartbeat: Heartbeat,
}

/// What it hears.
#[derive(Debug)]
pub enum PoolMessage {
    /// The core has changed.
    Look,
    /// The time is over for which nothing was to be opened.
    LookAgain,
    /// No connection could be opened.
    Failed(Arc<OpenError>),
    /// A second has passed.
    Tick,
    /// A client listens, and there may be no herald.
    Listen,
    /// A test wants to see it crash.
    #[cfg(feature = "chaos")]
    Crash,
}

/// What it keeps.
#[derive(Debug)]
pub struct PoolState {
    pool: Arc<Pool>,
    facts: Arc<Facts>,
    heartbeat: Heartbeat,
    looking_later: bool,
    /// It has seen to it that there is a herald.
    called: bool,
    /// Since when nobody uses the pool, if it may be given up for that.
    unused: Option<Instant>,
    /// When it has replaced connections that began with other settings than new ones.
    replaced: Option<Instant>,
}

impl Actor for PoolManager {
    type Msg = PoolMessage;
    type State = PoolState;
    type Arguments = PoolArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        arguments: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        arguments.pool.manager.fill(myself.clone());
        myself.cast(PoolMessage::Look)?;
        myself.send_after(TICK, || PoolMessage::Tick);
        Ok(PoolState {
            pool: arguments.pool,
            facts: arguments.facts,
            heartbeat: arguments.heartbeat,
            looking_later: false,
            called: false,
            unused: None,
            replaced: None,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            PoolMessage::Look => state.look(&myself).await,
            PoolMessage::LookAgain => {
                state.looking_later = false;
                state.look(&myself).await;
            }
            PoolMessage::Failed(error) => state.failed(error, &myself),
            PoolMessage::Listen => state.call_herald(),
            PoolMessage::Tick => {
                state.heartbeat.touch();
                state.tick();
                state.replace_outdated();
                state.call_herald();
                state.forsake();
                state.look(&myself).await;
                myself.send_after(TICK, || PoolMessage::Tick);
            }
            #[cfg(feature = "chaos")]
            PoolMessage::Crash => panic!("a test wanted this"),
        }
        Ok(())
    }

    /// Connections come and go; the core has the account.
    async fn handle_supervisor_evt(
        &self,
        _myself: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        _state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ActorFailed(_, error) = event {
            tracing::error!(%error, "a server connection's actor failed");
        }
        Ok(())
    }
}

/// How often idle connections are looked over.
const TICK: Duration = Duration::from_secs(1);

/// How long nobody may use a pool that has had connections before it is given up: by then it has none any more, and to
/// make it anew costs little.
const FORSAKEN: Duration = Duration::from_secs(60);

/// All connections are not replaced more often than this because new ones begin with other settings.
const REPLACED: Duration = Duration::from_secs(60);

impl PoolState {
    /// Opens what the core wants, unless the host is to be left alone for a while.
    async fn look(&mut self, myself: &ActorRef<PoolMessage>) {
        self.pool.core.heard();
        let now = clock::now();
        let mut wanted = self.pool.core.wanted(now);
        if wanted == 0 {
            self.pool.hindrance.ends();
            return;
        }
        let upstream = self.pool.upstream.load_full();
        if let Some(pause) = self.pool.pause(&upstream, now) {
            self.pool.core.withdraw();
            self.pool.hindrance.ends();
            self.look_later(pause, myself);
            return;
        }
        if upstream.gate.0.is_full() {
            // Once one is let in, the rest follow.
            wanted = usize::from(self.pool.core.snapshot(now).opening == 0);
            if wanted == 0 {
                // Until then permits that it was told of are for others.
                self.pool.core.withdraw();
            }
        }
        while wanted > 0 {
            let place = match self.pool.core.begin_open(now) {
                Ok(place) => place,
                Err(refused) => {
                    if let Refused::Quota { name, max } = refused {
                        self.pool.hindrance.meets(name, max);
                    }
                    return;
                }
            };
            self.pool.hindrance.ends();
            wanted -= 1;
            let arguments = ConnectionArguments {
                pool: Arc::clone(&self.pool),
                manager: myself.clone(),
                place,
                id: self.facts.number(),
            };
            let spawned = linked(myself.get_cell(), Tasked(ServerConnection), arguments).await;
            if let Err(error) = spawned {
                tracing::error!(%error, "cannot start a server connection's actor");
                return;
            }
        }
    }

    /// One timer at a time, however often it is looked meanwhile.
    fn look_later(&mut self, pause: Duration, myself: &ActorRef<PoolMessage>) {
        if !std::mem::replace(&mut self.looking_later, true) {
            myself.send_after(pause, || PoolMessage::LookAgain);
        }
    }

    /// What will not pass by itself is told to everybody who waits; the rest they may sit out.
    fn failed(&mut self, error: Arc<OpenError>, myself: &ActorRef<PoolMessage>) {
        // A login that brings a newer secret from here on may be answered, and its client wait, before this is over.
        let mark = self.pool.core.mark();
        let outdated = matches!(*error, OpenError::Outdated { .. });
        if outdated
            && self.pool.key.reader.is_none()
            && !matches!(self.pool.upstream.load().secret, Secret::Refused)
        {
            // A login has brought a newer one while this was on its way, and waits for it to be tried.
            let _ = myself.cast(PoolMessage::Look);
            return;
        }
        // Who only wants to read may do so elsewhere.
        if !error.is_passing() || self.pool.key.reader.is_some() {
            let failure = Arc::clone(&error) as Arc<_>;
            self.pool.core.fail_waiters_before(mark, failure);
        }
        self.pool.trouble.store(Some(error));
        let pause = self.pool.pause(&self.pool.upstream.load(), clock::now());
        self.look_later(pause.unwrap_or(TICK), myself);
    }

    /// Has a herald started, once somebody listens. A client may have come while nobody was here to be
    /// told, so this is looked after at each tick.
    fn call_herald(&mut self) {
        if !self.called && self.pool.audience.is_wanted(&self.pool.circle) {
            self.called = crate::root::start_herald(&self.pool, &self.facts);
        }
    }

    /// Has the pool given up once nobody uses it, where clients may name any database: each name that comes to their
    /// minds would stay for ever. One that has never had a connection, as there is no such database, goes at once.
    fn forsake(&mut self) {
        let now = clock::now();
        if !self.pool.is_forsaken(now) {
            self.unused = None;
            return;
        }
        if std::mem::take(&mut self.called) {
            // It has nobody to tell anything, and would hold the pool.
            crate::root::stop_herald(&self.pool, &self.facts);
            return;
        }
        let since = *self.unused.get_or_insert(now);
        let proven = self.pool.core.snapshot(now).opened > 0;
        let due = !proven || now.saturating_duration_since(since) >= FORSAKEN;
        if due && Arc::strong_count(&self.pool) <= HELD_BY_ITSELF {
            self.unused = None;
            let pool = Arc::clone(&self.pool);
            // Where no router is, the next tick asks again.
            let _ = self.facts.router.cast(RouterMessage::GiveUp { pool });
        }
    }

    /// Replaces connections that began with other settings than new ones do, but not again and again where several
    /// servers with settings of their own are behind one address.
    fn replace_outdated(&mut self) {
        let now = clock::now();
        let rests = |at: Instant| now.saturating_duration_since(at) < REPLACED;
        if !self.replaced.is_some_and(rests) && self.pool.replace_outdated() {
            self.replaced = Some(now);
        }
    }

    /// Ends connections that are too old or too long unused.
    fn tick(&self) {
        let settings = self.pool.settings().clone();
        let timeouts = &settings.timeouts;
        let now = clock::now();
        let (lifetime, jitter) = (timeouts.server_lifetime, timeouts.server_lifetime_jitter);
        let rules = SweepRules {
            idle_timeout: timeouts.server_idle,
            lifetime: |meta: &Meta| age(meta, now, lifetime, jitter),
        };
        drop(self.pool.core.sweep(now, &rules));
    }
}

/// How far a connection is in its life. Each has a lifetime of its own within the jitter, so that
/// connections made together do not end together.
fn age(meta: &Meta, now: Instant, lifetime: Option<Duration>, jitter: Duration) -> Age {
    let Some(lifetime) = lifetime else {
        return Age::Fresh;
    };
    // Spreads the numbers of connections evenly over the jitter.
    let share = (meta.id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f64 / f64::from(1 << 24);
    let lifetime = lifetime.saturating_sub(jitter.mul_f64(share));
    let lived = now.saturating_duration_since(meta.opened);
    if lived >= lifetime {
        Age::Over
    } else if lived >= lifetime.mul_f64(0.95) {
        Age::Ageing
    } else {
        Age::Fresh
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Barrier};
    use std::thread;

    use arc_swap::ArcSwap;
    use pgherd_config::{Config, LoadInput};
    use pgherd_net::ClientTls;

    use super::{PoolKey, lead, renew};
    use crate::drain::Curtain;
    use crate::facts::Facts;
    use crate::router;
    use crate::session::prove::Proof;
    use crate::upstream::{Secret, Source, Upstream};

    /// A server whose secret a client has brought.
    fn upstream() -> Upstream {
        let mut input = LoadInput::default();
        input.overrides.urls = vec!["postgres://u:p@127.0.0.1:1/shop".to_owned()];
        let config = Arc::new(Config::load(&input).expect("a configuration").config);
        let tls = Arc::new(ClientTls::disabled());
        let facts = Facts::new(Arc::clone(&config), tls, [0; 32], Curtain::default());
        let section = config.database("shop").expect("configured");
        let proof = Proof {
            secret: Secret::None,
        };
        let key = PoolKey::new("shop", "u");
        let made = router::upstream(&facts, &config, &section, &key, &proof);
        Upstream {
            secret: Secret::password("old"),
            source: Source::Client,
            ..(*made.expect("an upstream")).clone()
        }
    }

    #[test]
    fn a_newer_secret_is_not_lost_by_what_happens_beside() {
        let old = upstream();
        let new = Secret::password("new");
        for round in 0..2000 {
            let known = ArcSwap::from_pointee(old.clone());
            let both = Barrier::new(2);
            thread::scope(|scope| {
                scope.spawn(|| {
                    both.wait();
                    for _ in 0..20 {
                        // What was refused is refused again, and the pool is aimed anew.
                        let before = known.load_full();
                        if before.secret == new {
                            break;
                        }
                        let refused = Arc::new(Upstream {
                            secret: Secret::Refused,
                            ..(*before).clone()
                        });
                        known.compare_and_swap(&before, refused);
                    }
                    let elsewhere = Arc::new(Upstream {
                        secret: known.load().learned(),
                        name: "elsewhere".to_owned(),
                        ..old.clone()
                    });
                    lead(&known, &elsewhere);
                });
                both.wait();
                renew(&known, &new);
            });
            assert_eq!(known.load().secret, new, "round {round}");
            assert_eq!(known.load().name, "elsewhere");
        }
    }

    #[test]
    fn a_secret_of_the_configuration_stays() {
        let configured = Upstream {
            source: Source::Configured,
            ..upstream()
        };
        let known = ArcSwap::from_pointee(configured.clone());
        renew(&known, &Secret::password("new"));
        assert_eq!(known.load().secret, configured.secret);
        // Where the configuration has one from now on, it counts, whatever a client has brought.
        let known = ArcSwap::from_pointee(Upstream {
            secret: Secret::password("brought"),
            ..upstream()
        });
        lead(&known, &Arc::new(configured.clone()));
        assert_eq!(known.load().secret, configured.secret);
    }
}
