//! Databases whose rows are spread over others: what the sessions of one user and such a database share.
//!
//! A [`Group`] is a value, as a pool's core is: the pools of its shards, where rows live, what the shards'
//! schemas are, and the plans of texts. Sessions read it before they take a server; the one that finds the
//! schemas out of date asks the shards, and the others wait for it or go on with what is known.

pub mod check;
mod counts;
mod known;
mod lookup;
mod lookups;
mod placed;
mod plans;
mod sequences;
#[cfg(test)]
mod tests;
mod types;
mod unique;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use pgherd_config::{Config, PoolMode, ShardSequences, Sharded};
use pgherd_planner::placement::Placement;
use pgherd_planner::{Names, Statement};
use pgherd_wire::error::ErrorReport;
use pgherd_wire::sqlstate;

use crate::clock;
use crate::control::{Control, Order};
use crate::facts::Facts;
use crate::pool::Pool;
use crate::router;
use crate::session::prove::Proof;
use crate::transactions::Transactions;

pub use counts::{AllCounts, Counts, Reason, Tier};
pub use known::Known;
use lookup::Lookup;
use lookups::Lookups;
pub use placed::{Misplaced, placement};
use placed::{Placed, placed};
pub use plans::{Kind, Reading};
use plans::{Plans, Readings};
pub use types::FIRST_OWN;

/// After this time the shards are asked again, since not every change of a schema passes through here.
const FRESH: Duration = Duration::from_secs(30);
/// After this time it is tried again to ask them, where that has failed or they differ.
const AGAIN: Duration = Duration::from_secs(1);

/// What is older is read anew before anything is planned by it, as far as that is done in a moment.
const OLD: Duration = Duration::from_secs(60);
/// Nothing is planned by what is older.
const AGE_MAX: Duration = Duration::from_secs(300);

/// What the sessions of one user and one sharded database share.
pub struct Group {
    /// What the configuration says of it.
    pub config: Arc<Sharded>,
    /// The pools of its shards, in their order.
    pub pools: Box<[Arc<Pool>]>,
    /// Transactions over several shards.
    pub transactions: Arc<Transactions>,
    /// How its statements ran.
    pub counts: Arc<Counts>,
    placement: Arc<Placement>,
    /// What its keys are looked up by.
    lookups: Lookups,
    known: ArcSwapOption<Known>,
    plans: Plans,
    readings: Readings,
    /// Who asks the shards holds it.
    asking: tokio::sync::Mutex<()>,
    /// Who looks for deadlocks over the shards holds it.
    pub(crate) deadlocks: tokio::sync::Mutex<()>,
    /// Why and when they could not be asked last.
    failed: Mutex<Option<(Instant, ErrorReport)>>,
    /// When to ask them again, in nanoseconds after `born`.
    due: AtomicU64,
    /// When they were asked last, in the same.
    read: AtomicU64,
    /// Until when nobody waits for the answer if what is known will do, in the same.
    slow: AtomicU64,
    born: Instant,
    retired: AtomicBool,
    /// The sessions that have listened: of its end, who waits for others hears only from us.
    listeners: Mutex<Vec<Weak<Control>>>,
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Group")
            .field("database", &self.config.name)
            .finish_non_exhaustive()
    }
}

/// The groups that there are, by database and user.
#[derive(Debug, Default)]
pub struct Groups {
    groups: Mutex<HashMap<(String, String), Arc<Group>>>,
    /// How the statements of each database ran.
    pub counts: AllCounts,
}

impl Groups {
    /// Ends those whose placement is another by this configuration: a session that is led by the old one
    /// must not go on.
    pub fn reconfigure(&self, config: &Config) {
        self.groups.lock().retain(|(database, _), group| {
            let stays = config.sharded.get(database) == Some(&group.config);
            match stays {
                true => group.expire(),
                false => group.retire(),
            }
            stays
        });
    }

    /// The group, unless its placement or one of its pools is another by now.
    fn take(&self, key: (String, String), made: Group, config: &Config) -> Arc<Group> {
        let mut groups = self.groups.lock();
        if let Some(known) = groups.get(&key)
            && known.is_alike(&made)
        {
            return Arc::clone(known);
        }
        let stays = config.sharded.get(&key.0) == Some(&made.config);
        made.retired.store(!stays, Ordering::Release);
        let made = Arc::new(made);
        groups.insert(key, Arc::clone(&made));
        made
    }
}

/// The group of a user and a sharded database, with the pools that it takes.
///
/// # Errors
/// What the client is told when there is none.
pub async fn group(
    facts: &Arc<Facts>,
    config: &Arc<Sharded>,
    user: &str,
    proof: &Proof,
) -> Result<Arc<Group>, ErrorReport> {
    let mut pools = Vec::with_capacity(config.shards.len());
    for shard in &config.shards {
        let pool = router::pool(facts, shard, user, proof.clone()).await?;
        if pool.settings().pool.mode != PoolMode::Transaction {
            let text = "the pools of a sharded database must be of transaction mode";
            return Err(ErrorReport::fatal(sqlstate::CONFIG_FILE_ERROR, text));
        }
        pools.push(pool);
    }
    let Placed { placement, lookups } = placed(config)
        .map_err(|error| ErrorReport::fatal(sqlstate::CONFIG_FILE_ERROR, error.to_string()))?;
    let made = Group {
        config: Arc::clone(config),
        pools: pools.into(),
        transactions: Arc::clone(&facts.transactions),
        counts: facts.groups.counts.of(&config.name),
        placement: Arc::new(placement),
        lookups: Lookups::new(lookups),
        known: ArcSwapOption::empty(),
        plans: Plans::default(),
        readings: Readings::default(),
        asking: tokio::sync::Mutex::new(()),
        deadlocks: tokio::sync::Mutex::new(()),
        failed: Mutex::new(None),
        due: AtomicU64::new(0),
        read: AtomicU64::new(0),
        slow: AtomicU64::new(0),
        born: clock::now(),
        retired: AtomicBool::new(false),
        listeners: Mutex::default(),
    };
    let key = (config.name.clone(), user.to_owned());
    Ok(facts.groups.take(key, made, &facts.config.load()))
}

/// What is said to a session whose group has ended.
pub fn elsewhere() -> ErrorReport {
    let text = "the sharding of this database was changed by a reload";
    ErrorReport::fatal(sqlstate::ADMIN_SHUTDOWN, text)
}

/// What is said in a transaction when rows live elsewhere by now.
pub fn resharded() -> ErrorReport {
    let text = "the sharding of this database was changed by a reload";
    ErrorReport::error(sqlstate::SERIALIZATION_FAILURE, text).hint("Try it again.")
}

impl Group {
    fn is_alike(&self, other: &Self) -> bool {
        let pools = self.pools.iter().zip(&other.pools);
        self.config == other.config
            && !self.retired.load(Ordering::Acquire)
            && pools.into_iter().all(|(one, two)| Arc::ptr_eq(one, two))
    }

    /// Ends it. Those who listen may do so where nobody notifies any more.
    fn retire(&self) {
        self.retired.store(true, Ordering::Release);
        let listeners = std::mem::take(&mut *self.listeners.lock());
        for listener in listeners.iter().filter_map(Weak::upgrade) {
            listener.order(Order::Drain, elsewhere());
        }
    }

    /// Takes note that a session listens.
    pub fn is_heard_by(&self, listener: &Arc<Control>) {
        let mut listeners = self.listeners.lock();
        if listeners.len() == listeners.capacity() {
            listeners.retain(|listener| listener.strong_count() > 0);
        }
        listeners.push(Arc::downgrade(listener));
        drop(listeners);
        // It may have ended before that.
        if self.is_retired() {
            listener.order(Order::Drain, elsewhere());
        }
    }

    /// Whether rows live elsewhere by now, so that no session may go on with it.
    pub fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    /// What is known of the shards, if nothing has changed it that passed through here.
    pub fn current(&self) -> Option<Arc<Known>> {
        let known = self.known.load_full();
        known.filter(|known| known.is_current(&self.pools) && self.lookups.hold())
    }

    /// Whether something is planned by what is known.
    pub fn is_usable(&self) -> bool {
        self.age() <= AGE_MAX && self.current().is_some()
    }

    /// What was known of the shards last, whether or not it still holds, and they agree.
    pub fn last(&self) -> Option<Arc<Known>> {
        self.known.load_full()
    }

    /// The number of the schemas that are known, if they are those of all shards, nothing has changed them that
    /// passed through here, and rows live where they did.
    pub fn settled(&self) -> Option<u64> {
        let known = self.known.load();
        let known = known.as_deref()?;
        let is_current = known.is_current(&self.pools) && self.lookups.hold();
        let settled = known.is_agreed() && is_current && !self.is_retired();
        settled.then(|| known.number())
    }

    /// The same, if it is not yet time to ask the shards again either.
    pub fn settled_at(&self, now: Instant) -> Option<u64> {
        let here = nanos(now.saturating_duration_since(self.born));
        let read = self.read.load(Ordering::Acquire);
        let is_old = here.saturating_sub(read) > nanos(OLD);
        let is_due = self.due.load(Ordering::Relaxed) <= here;
        if is_old || is_due || self.is_doubted() {
            None
        } else {
            self.settled()
        }
    }

    /// Whether others have said that the schemas may have changed since they were read.
    fn is_doubted(&self) -> bool {
        let known = self.known.load();
        known.as_deref().is_some_and(|known| !known.is_undoubted())
    }

    /// What is known of a text of one key, by all that its meaning hangs on besides the schemas of this number.
    pub fn reading(
        &self,
        key: &[u8],
        number: u64,
        make: impl FnOnce() -> Option<Reading>,
    ) -> Option<Arc<Reading>> {
        self.readings.of(key, number, make)
    }

    /// Has the shards asked in passing, unless somebody does so already or just failed to.
    pub fn look_again(self: &Arc<Self>) {
        let failed = self.failed_since(None);
        if failed.is_none() && self.asking.try_lock().is_ok() {
            let group = Arc::clone(self);
            tokio::spawn(async move { group.known().await.map(drop) });
        }
    }

    /// Why the shards could not be asked after this moment, or of late.
    fn failed_since(&self, moment: Option<Instant>) -> Option<ErrorReport> {
        let failed = self.failed.lock();
        let (at, report) = failed.as_ref()?;
        let since = moment.map_or_else(|| clock::since(*at) < AGAIN, |moment| *at >= moment);
        since.then(|| report.clone())
    }

    /// What is known of the shards; they are asked if need be.
    ///
    /// # Errors
    /// If they cannot be asked, or differ.
    pub async fn known(self: &Arc<Self>) -> Result<Arc<Known>, ErrorReport> {
        if (self.age() > OLD || self.is_doubted()) && self.is_usable() {
            self.renew().await;
        }
        if let Some(known) = self.current().filter(|_| self.is_usable()) {
            if self.claim(clock::now()) {
                let group = Arc::clone(self);
                tokio::spawn(async move { group.refresh().await });
            }
            return known.agreed();
        }
        let began = clock::now();
        let _asks = self.asking.lock().await;
        if let Some(known) = self.current().filter(|_| self.is_usable()) {
            return known.agreed();
        }
        // All who have waited for the same question get the same answer.
        if let Some(report) = self.failed_since(Some(began)) {
            return Err(report);
        }
        let age = match self.age() > AGE_MAX {
            true => known::Age::Any,
            false => known::Age::Current,
        };
        let asked = self.ask(age).await;
        *self.failed.lock() = asked.as_ref().err().map(|why| (clock::now(), why.clone()));
        asked?.agreed()
    }

    /// Asks the shards in passing. Where one cannot be asked, what was known before stays in force.
    async fn refresh(&self) {
        let _asks = self.asking.lock().await;
        self.look(known::Age::Any).await;
    }

    async fn look(&self, age: known::Age) {
        if let Err(report) = self.ask(age).await {
            self.put_off(AGAIN);
            *self.failed.lock() = Some((clock::now(), report.clone()));
            let (database, error) = (&self.config.name, &report.message);
            tracing::warn!(database, error, "the schemas of the shards cannot be read");
        }
    }

    /// Has the shards asked since what is known is old, or others say that it is, and waits for it, but only for a moment:
    /// one that cannot be asked must not hold up the others.
    async fn renew(self: &Arc<Self>) {
        let slow = Duration::from_nanos(self.slow.load(Ordering::Acquire));
        if self.failed_since(None).is_some() || clock::since(self.born) < slow {
            return;
        }
        let group = Arc::clone(self);
        let asks = tokio::spawn(async move {
            let _asks = group.asking.lock().await;
            if group.age() > OLD {
                group.look(known::Age::Any).await;
            } else if group.is_doubted() {
                group.look(known::Age::Current).await;
            }
        });
        if tokio::time::timeout(AGAIN, asks).await.is_err() {
            let until = clock::since(self.born).saturating_add(AGAIN);
            self.slow.store(nanos(until), Ordering::Release);
        }
    }

    /// How long ago the shards were asked.
    fn age(&self) -> Duration {
        let read = Duration::from_nanos(self.read.load(Ordering::Acquire));
        clock::since(self.born).saturating_sub(read)
    }

    async fn ask(&self, age: known::Age) -> Result<Arc<Known>, ErrorReport> {
        self.renew_lookups(age).await?;
        let before = self.known.load_full();
        let began = nanos(clock::since(self.born));
        let disjoint = are_disjoint(&self.config);
        let known = known::ask(&self.pools, before.as_deref(), age, disjoint).await?;
        let known = Arc::new(known);
        self.known.store(Some(Arc::clone(&known)));
        if age == known::Age::Any || before.is_none() {
            self.read.store(began, Ordering::Release);
        }
        let settled = known.is_agreed() && known.is_whole();
        self.put_off(if settled { FRESH } else { AGAIN });
        Ok(known)
    }

    /// The plan of a text that is read with these names.
    pub fn plan(&self, text: &str, names: &Names, known: &Known) -> Arc<Statement> {
        self.plans.of(text, names, known.number(), || {
            pgherd_planner::plan(text, names, known.catalog(), &self.placement)
        })
    }

    /// Takes it on to ask the shards again, if it is time.
    fn claim(&self, now: Instant) -> bool {
        let due = self.due.load(Ordering::Relaxed);
        let here = nanos(now.saturating_duration_since(self.born));
        let next = here.saturating_add(nanos(FRESH));
        due <= here
            && self
                .due
                .compare_exchange(due, next, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
    }

    fn put_off(&self, time: Duration) {
        let due = nanos(clock::since(self.born).saturating_add(time));
        self.due.store(due, Ordering::Release);
    }
}

/// What a look at the shards of a database has found, each thing in a sentence.
#[derive(Debug, Default)]
pub struct Comparison {
    /// What differs: nothing is run before it is the same.
    pub differences: Vec<String>,
    /// What of the schema does not agree with the placement.
    pub remarks: Vec<String>,
}

/// Looks at the shards of a database; for `pgherd check`. Where a shard has several hosts, the first that
/// answers is asked.
///
/// # Errors
/// Why they cannot be asked.
pub async fn compare(config: &Config, sharded: &Sharded) -> Result<Comparison, String> {
    let mut found = Comparison::default();
    let Placed { placement, lookups } = placed(sharded).map_err(|error| error.to_string())?;
    let mut first: Option<known::Facts> = None;
    let mut sequences = Vec::new();
    for name in &sharded.shards {
        let lookups = lookups.iter().filter(|lookup| lookup.on() == name);
        let (facts, own) = facts_of(config, name, lookups).await?;
        sequences.push((name.as_str(), own));
        match &first {
            None => {
                let remarks = facts.remarks(&placement);
                found.remarks.extend(remarks);
                first = Some(facts);
            }
            Some(first) => {
                let told = known::differences(first, &facts);
                let told = told.into_iter().map(|what| format!("{name}: {what}"));
                found.differences.extend(told);
            }
        }
    }
    if are_disjoint(sharded) {
        let each = sequences.iter().map(|(name, own)| (*name, own));
        let told = sequences::overlap(&each.collect::<Vec<_>>());
        found.differences.extend(told);
    }
    Ok(found)
}

/// Whether no number is to come of the sequences of two shards.
fn are_disjoint(sharded: &Sharded) -> bool {
    sharded.sharding.sequences == ShardSequences::Disjoint
}

async fn facts_of(
    config: &Config,
    section: &str,
    lookups: impl Iterator<Item = &Lookup>,
) -> Result<(known::Facts, sequences::Sequences), String> {
    let database = config.databases.get(section);
    let database = database.ok_or_else(|| format!("{section} is no database"))?;
    let mut why = format!("{section}: no host is named");
    for host in &database.hosts {
        match router::open(config, database, host).await {
            Ok(Some(mut server)) => {
                let failed = |report| format!("{section}: {report}");
                let facts = known::read(&mut server).await.map_err(failed)?;
                for lookup in lookups {
                    lookup.ask(&mut server).await.map_err(failed)?;
                }
                return Ok(facts);
            }
            Ok(None) => return Err("no user is configured".to_owned()),
            Err(error) => why = format!("{section}: {error}"),
        }
    }
    Err(why)
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
