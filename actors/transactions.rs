//! Transactions over several servers: those that are being committed, and what was left behind of others.
//!
//! [`coordinator`] brings one to its end, [`recovery`] ends what another coordinator has left prepared, of
//! this proxy or of any; [`decisions`] is the row by which they agree. Those that wait for each other are found by
//! `deadlocks`. What is here is a value that both
//! write to, and that the console and the metrics read.

pub mod coordinator;
pub(crate) mod deadlocks;
pub mod decisions;
pub mod recovery;
pub(crate) mod schemas;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime};

use parking_lot::Mutex;
use pgherd_config::Config;
use pgherd_supervise::Dynamic;
use tokio::sync::Notify;

use crate::clock;
use crate::server::{Life, ServerConn};
use crate::upstream::{self, OpenError, Upstream};
use deadlocks::Waiters;

/// What our connections are numbered from: pools count from one.
const NUMBERS: u64 = 1 << 48;
/// How many of those that are in doubt are remembered for who looks.
const DOUBTS_MAX: usize = 1000;

/// All of a proxy.
#[derive(Debug)]
pub struct Transactions {
    /// Who supervises the coordinators.
    pub coordinators: Dynamic,
    live: Mutex<BTreeMap<String, Arc<Record>>>,
    /// What was found prepared when that was looked for last.
    doubts: Mutex<Vec<Doubt>>,
    /// Those whose coordinator was one of ours, and is gone.
    orphans: Mutex<Vec<String>>,
    woken: Notify,
    /// Those that may have to wait for others.
    pub(crate) waiters: Waiters,
    next: AtomicU64,
    counts: [AtomicU64; Count::ALL.len()],
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// Committed, where one server at most had been written to.
    CommittedPlainly,
    /// Committed in two phases.
    CommittedInTwoPhases,
    /// Rolled back at their `COMMIT`.
    Aborted,
    /// What became of them was not known when their client was answered.
    Unknown,
    /// Parts that were left prepared and were committed later.
    RecoveredCommit,
    /// Parts that were left prepared and were rolled back later.
    RecoveredRollback,
}

impl Count {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::CommittedPlainly,
        Self::CommittedInTwoPhases,
        Self::Aborted,
        Self::Unknown,
        Self::RecoveredCommit,
        Self::RecoveredRollback,
    ];

    /// The word for it in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::CommittedPlainly => "committed_1p",
            Self::CommittedInTwoPhases => "committed_2p",
            Self::Aborted => "aborted",
            Self::Unknown => "unknown",
            Self::RecoveredCommit => "recovered_commit",
            Self::RecoveredRollback => "recovered_rollback",
        }
    }
}

/// A transaction that is being committed.
#[derive(Debug)]
pub struct Record {
    /// Its number, by which all proxies know it.
    pub id: String,
    /// The sharded database.
    pub database: String,
    /// Whose it is.
    pub user: String,
    /// The sections of the servers that it is on.
    pub shards: Vec<String>,
    /// When its `COMMIT` came.
    pub since: SystemTime,
    stage: AtomicU8,
    /// The place of the decider among the shards.
    decider: OnceLock<usize>,
    /// When the decider was told to decide.
    deciding_since: OnceLock<Instant>,
}

/// How far a transaction is that is being committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Nothing of it can be committed yet.
    Preparing,
    /// The one server that was written to was told to commit.
    Committing,
    /// The decider was told to decide: its row says what becomes of it.
    Deciding,
    /// What has become of it is known.
    Finishing,
}

impl Stage {
    const ALL: [Self; 4] = [
        Self::Preparing,
        Self::Committing,
        Self::Deciding,
        Self::Finishing,
    ];

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Preparing => "preparing",
            Self::Committing => "committing",
            Self::Deciding => "deciding",
            Self::Finishing => "finishing",
        }
    }
}

/// Why a configuration is not taken over that leaves a shard out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "databases.{database}.shards: {shard} cannot be left out while a transaction is prepared that has a part there, or \
     is decided there (SHOW TRANSACTIONS): {id}"
)]
pub struct Prepared {
    database: String,
    shard: String,
    id: String,
}

/// A part that was found prepared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doubt {
    /// The sharded database.
    pub database: String,
    /// The section of the server that has it.
    pub shard: String,
    /// Its name there.
    pub name: String,
    /// For how many seconds it has been there.
    pub age: u64,
    /// Why it could not be ended, if that was tried.
    pub why: Option<String>,
}

impl Record {
    /// How far it is.
    pub fn stage(&self) -> Stage {
        let at = usize::from(self.stage.load(Ordering::Acquire));
        Stage::ALL.get(at).copied().unwrap_or(Stage::Finishing)
    }

    fn decider(&self) -> Option<usize> {
        self.decider.get().copied()
    }

    fn decided_by(&self, decider: usize) {
        // It is said once.
        let _ = self.decider.set(decider);
    }

    /// Whether a server was told to commit, or to decide. It was not if the transaction is rolled back before.
    fn may_be_committed(&self) -> bool {
        self.stage() == Stage::Committing || self.deciding_since().is_some()
    }

    fn deciding_since(&self) -> Option<Instant> {
        self.deciding_since.get().copied()
    }

    fn reached(&self, stage: Stage) {
        if stage == Stage::Deciding {
            // It is told once.
            let _ = self.deciding_since.set(clock::now());
        }
        self.stage.store(stage as u8, Ordering::Release);
    }
}

/// The number of the lock that is held on each shard by whoever writes to tables that are the same on all of them. It stands
/// for "pgherd".
pub(crate) const REPLICATED: u64 = 123_589_435_421_284;

impl Default for Transactions {
    fn default() -> Self {
        Self {
            coordinators: Dynamic::new("coordinators"),
            live: Mutex::default(),
            doubts: Mutex::default(),
            orphans: Mutex::default(),
            woken: Notify::new(),
            waiters: Waiters::default(),
            next: AtomicU64::new(NUMBERS),
            counts: Default::default(),
        }
    }
}

impl Transactions {
    /// Enters a transaction whose `COMMIT` has come.
    fn enter(&self, database: &str, user: &str, shards: Vec<String>) -> Arc<Record> {
        let record = Arc::new(Record {
            id: format!("{:032x}", rand::random::<u128>()),
            database: database.to_owned(),
            user: user.to_owned(),
            shards,
            since: SystemTime::now(),
            stage: AtomicU8::new(Stage::Preparing as u8),
            decider: OnceLock::new(),
            deciding_since: OnceLock::new(),
        });
        let mut live = self.live.lock();
        live.insert(record.id.clone(), Arc::clone(&record));
        drop(live);
        record
    }

    /// Those that are being committed.
    pub fn live(&self) -> Vec<Arc<Record>> {
        self.live.lock().values().cloned().collect()
    }

    /// The parts that were found prepared last, without those that are being committed here.
    pub fn doubts(&self) -> Vec<Doubt> {
        self.doubts.lock().clone()
    }

    /// Whether a configuration has all shards of the transactions that are being committed, and of the parts that were found
    /// prepared last.
    ///
    /// # Errors
    /// Which shard is missing.
    pub fn are_kept(&self, config: &Config) -> Result<(), Prepared> {
        let has = |database: &str, shard: &str| {
            let sharded = config.sharded.get(database);
            sharded.is_some_and(|sharded| sharded.shards.iter().any(|known| known == shard))
        };
        let kept = |database: &str, shard: &str, id: &str| match has(database, shard) {
            true => Ok(()),
            false => Err(Prepared {
                database: database.to_owned(),
                shard: shard.to_owned(),
                id: id.to_owned(),
            }),
        };
        for record in self.live() {
            let mut shards = record.shards.iter();
            shards.try_for_each(|shard| kept(&record.database, shard, &record.id))?;
        }
        for doubt in self.doubts() {
            let decider = decisions::decider(&doubt.name, &doubt.database);
            let shards = [Some(doubt.shard.as_str()), decider];
            let mut shards = shards.into_iter().flatten();
            shards.try_for_each(|shard| kept(&doubt.database, shard, &doubt.name))?;
        }
        Ok(())
    }

    fn found(&self, mut doubts: Vec<Doubt>) {
        doubts.truncate(DOUBTS_MAX);
        *self.doubts.lock() = doubts;
    }

    fn is_live(&self, id: &str) -> bool {
        self.live.lock().contains_key(id)
    }

    /// The coordinator is gone; `left` says whether something may have stayed prepared.
    fn leave(&self, record: &Record, left: bool) {
        self.live.lock().remove(&record.id);
        if left {
            let mut orphans = self.orphans.lock();
            if orphans.len() < DOUBTS_MAX {
                orphans.push(record.id.clone());
            }
            drop(orphans);
            self.woken.notify_one();
        }
    }

    fn count(&self, what: Count) {
        self.counts[what as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How often each thing has happened.
    pub fn counts(&self) -> impl Iterator<Item = (Count, u64)> {
        let count = |what: Count| self.counts[what as usize].load(Ordering::Relaxed);
        Count::ALL.into_iter().map(move |what| (what, count(what)))
    }

    /// A connection for a purpose of ours, which waits for no place in a pool: those who have them may be
    /// waiting for us.
    pub(crate) async fn open(
        &self,
        upstream: &Arc<Upstream>,
    ) -> Result<Box<ServerConn>, OpenError> {
        let (life, _ended) = Life::new();
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (server, _welcome) = upstream::open(upstream, id, life).await?;
        Ok(server)
    }
}

#[cfg(test)]
mod tests {
    use pgherd_config::{Config, LoadInput};

    use super::{Doubt, Stage, Transactions};

    /// A configuration with these shards of `shop`, of four databases.
    fn config(shards: &[&str]) -> Config {
        let mut input = LoadInput::default();
        let urls = (0..4).map(|at| format!("postgres://u:p@127.0.0.1:1/s{at}"));
        input.overrides.urls = urls.collect();
        let mut config = Config::load(&input).expect("a configuration").config;
        let sharded = pgherd_config::Sharded {
            name: "shop".to_owned(),
            shards: shards.iter().map(|name| (*name).to_owned()).collect(),
            sharding: pgherd_config::Sharding::default(),
        };
        config
            .sharded
            .insert("shop".to_owned(), std::sync::Arc::new(sharded));
        config
    }

    #[test]
    fn no_shard_is_left_out_that_has_a_part_prepared_or_decides() {
        let transactions = Transactions::default();
        assert_eq!(transactions.are_kept(&config(&["s3"])), Ok(()));
        let id = "0123456789abcdef0123456789abcdef";
        transactions.found(vec![Doubt {
            database: "shop".to_owned(),
            shard: "s0".to_owned(),
            name: format!("pgherd:{id}:1:s1:shop"),
            age: 1,
            why: None,
        }]);
        assert_eq!(transactions.are_kept(&config(&["s0", "s1"])), Ok(()));
        for shards in [&["s0"][..], &["s1", "s2"], &[]] {
            let told = transactions.are_kept(&config(shards));
            let told = told.expect_err("one is missing").to_string();
            assert!(told.contains("databases.shop.shards"), "{told}");
        }
        transactions.found(Vec::new());
        let record = transactions.enter("shop", "app", vec!["s0".to_owned(), "s2".to_owned()]);
        assert!(transactions.are_kept(&config(&["s0", "s1"])).is_err());
        transactions.leave(&record, false);
        assert_eq!(transactions.are_kept(&config(&["s0", "s1"])), Ok(()));
    }

    #[test]
    fn what_is_rolled_back_before_anybody_decides_is_not_in_doubt() {
        let transactions = Transactions::default();
        let record = |stages: &[Stage]| {
            let record = transactions.enter("shop", "app", Vec::new());
            stages.iter().for_each(|stage| record.reached(*stage));
            record
        };
        assert!(!record(&[]).may_be_committed());
        assert!(!record(&[Stage::Finishing]).may_be_committed());
        assert!(record(&[Stage::Committing]).may_be_committed());
        assert!(record(&[Stage::Deciding]).may_be_committed());
        assert!(record(&[Stage::Deciding, Stage::Finishing]).may_be_committed());
    }
}
