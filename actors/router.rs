//! Where sessions find their pool.
//!
//! Owns: the routing table, of which it is the only writer; the quotas that pools share.
//! Hears: requests for a pool that does not exist yet, a new configuration, that writes go elsewhere.
//! Tells: the supervisor of a cluster's pools to start one, the supervisor of its monitors too; pools
//!   where they lead.
//! If it dies: the table stays in force; the next one reads it and goes on. Pools that exist are
//!   found without it.

mod memory;
mod places;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pgherd_cluster::{HostName, Stage};
use pgherd_config::{Config, Host, PoolMode, ReadFrom};
use pgherd_planted::{self as planted, Bug};
use pgherd_pool::{Ask, PoolCore};
use pgherd_supervise::{ChildError, ChildSpec, Heartbeat, Slot, SupervisorMessage};
use pgherd_wire::error::ErrorReport;
use pgherd_wire::sqlstate;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};

use crate::clock;
use crate::cluster::holds::HoldEnd;
use crate::cluster::{Cluster, Lead, reads};
use crate::control::{Control, Order, Standing};
use crate::facts::{Facts, Routes};
use crate::pool::{HELD_BY_ITSELF, Pool, PoolKey, PoolMessage, ServerLease, limits};
use crate::root::{
    GUIDE, SCOUT, child_name, cluster, guide_child, herald_name, monitor_child, monitor_name,
    pool_child, scout_child,
};
use crate::session::checkout::{check, denial, overdue};
use crate::session::prove::Proof;
use crate::upstream::OpenError;

pub use memory::{RouterMemory, Watch, mode, server_tls};
pub(crate) use memory::{roots, target, tls_version};
pub(crate) use places::{open, quotas};
pub use places::{try_out, upstream, upstreams};

/// After how long it tries again to have a pool follow.
const AGAIN: Duration = Duration::from_secs(1);

/// How long the router may take to make a pool.
const PATIENCE: Duration = Duration::from_secs(5);

/// The actor.
#[derive(Debug)]
pub struct Router;

/// What it is born with.
#[derive(Clone)]
pub struct RouterArguments {
    /// The facts; it writes the routing table.
    pub facts: Arc<Facts>,
    /// Its sign of life.
    pub heartbeat: Heartbeat,
}

/// What it hears.
#[derive(Debug)]
pub enum RouterMessage {
    /// A session looks for a pool that is not in the table.
    Pool {
        /// The pool.
        key: PoolKey,
        /// What its user has shown.
        proof: Proof,
        /// The pool, or why there is none.
        reply: RpcReplyPort<Result<Arc<Pool>, ErrorReport>>,
    },
    /// Another server of this section may be written to, or none.
    Follow {
        /// The name of the database's section.
        section: String,
    },
    /// A section has other hosts than before.
    Enlist {
        /// The name of the database's section.
        section: String,
    },
    /// Nobody seems to use this pool, of a database that has no section of its own.
    GiveUp {
        /// The pool.
        pool: Arc<Pool>,
    },
    /// The configuration has changed.
    Reconfigure(RpcReplyPort<()>),
    /// The same, if it was not followed yet: whoever was told of it has died, or could not do it all.
    CatchUp,
    /// Time for a sign of life.
    Beat,
    /// A test wants to see it crash.
    #[cfg(feature = "chaos")]
    Crash,
}

impl Actor for Router {
    type Msg = RouterMessage;
    type State = RouterArguments;
    type Arguments = RouterArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        arguments: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        arguments.heartbeat.beat(&myself, || RouterMessage::Beat);
        arguments.facts.router.fill(myself.clone());
        // What its predecessor was told and did not live to do.
        myself.cast(RouterMessage::CatchUp)?;
        for cluster in arguments.facts.topology.all() {
            let section = cluster.name.clone();
            myself.cast(RouterMessage::Enlist { section })?;
        }
        Ok(arguments)
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            RouterMessage::Beat => {
                state.heartbeat.beat(&myself, || RouterMessage::Beat);
                state.age();
            }
            RouterMessage::Pool { key, proof, reply } => {
                let made = state.pool(key, &proof);
                // An asker that is gone needs no answer.
                let _ = reply.send(made);
            }
            RouterMessage::GiveUp { pool } => state.give_up(pool),
            RouterMessage::Follow { section } => state.follow(&section),
            RouterMessage::Enlist { section } => {
                if let Some(cluster) = state.facts.topology.of(&section) {
                    state.watch(&cluster);
                }
                state.follow(&section);
            }
            RouterMessage::Reconfigure(reply) => {
                state.reconfigure().await;
                let _ = reply.send(());
            }
            RouterMessage::CatchUp if state.facts.memory.lags() => state.reconfigure().await,
            RouterMessage::CatchUp => {}
            #[cfg(feature = "chaos")]
            RouterMessage::Crash => panic!("a test wanted this"),
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _myself: ActorRef<Self::Msg>,
        _event: ractor::SupervisionEvent,
        _state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

impl RouterArguments {
    fn pool(&self, key: PoolKey, proof: &Proof) -> Result<Arc<Pool>, ErrorReport> {
        if let Some(pool) = self.facts.routes.load().get(&key) {
            pool.renew(&proof.secret);
            return Ok(Arc::clone(pool));
        }
        let config = self.facts.config.load_full();
        let Some(database) = config.database(&key.database) else {
            return Err(ErrorReport::fatal(
                sqlstate::INVALID_CATALOG_NAME,
                format!("database \"{}\" does not exist", key.database),
            ));
        };
        let supervisor = self
            .facts
            .memory
            .clusters
            .lock()
            .get(&database.name)
            .cloned();
        let Some(supervisor) = supervisor else {
            return Err(ErrorReport::fatal(
                sqlstate::CANNOT_CONNECT_NOW,
                "the pools are starting",
            ));
        };
        let settings =
            Arc::new(config.effective_pool(&database, config.user(&key.user).as_deref()));
        let cluster = self.facts.topology.of(&database.name).ok_or_else(|| {
            ErrorReport::fatal(sqlstate::CANNOT_CONNECT_NOW, "the database is starting")
        })?;
        let lead = cluster.lead();
        let host = leading(&lead, &cluster)?;
        let upstream = self
            .facts
            .memory
            .upstream(&config, &database, &settings, &key, proof, &host)?;
        let quotas = self
            .facts
            .memory
            .quotas(&config, &settings, &key, &upstream.name);
        let slot = Slot::new();
        let core = PoolCore::new(limits(&settings), quotas, hinting(slot.clone()));
        let pool = Pool::new(key.clone(), upstream, settings, core, slot, cluster);
        let audience = self.facts.memory.audience(&key.database);
        let pool = pool.listening_with(audience);
        let pool = pool.numbered_by(&self.facts.statements);
        let pool = pool.keeping_with(&self.facts.keeping);
        let pool = Arc::new(pool.called(self.facts.number()));
        drop(pool.core.fence(lead.epoch));
        if lead.host.is_none() {
            pool.core.hold(clock::now());
        }
        self.facts
            .memory
            .homes
            .lock()
            .insert(key.clone(), database.name.clone());
        let mut routes: Routes = (**self.facts.routes.load()).clone();
        let name = key.database.clone();
        routes.insert(key, Arc::clone(&pool));
        self.facts.routes.store(Arc::new(routes));
        // Behind the table: whoever pauses from here on finds the pool there.
        if self.facts.doors.is_paused(&name) {
            pool.core.pause();
        }
        // After it is in the table, where a supervisor that is being restarted looks for it.
        self.start(&supervisor, &pool);
        let mut routes: Routes = (**self.facts.routes.load()).clone();
        self.muster(&mut routes, &pool, &config);
        self.facts.routes.store(Arc::new(routes));
        // A monitor may have waited for somebody as whom it can look.
        pool.cluster.load().wake();
        Ok(pool)
    }

    /// Has the pools of a section lead to where writes go now, and those who only read leave what is not
    /// to be read from.
    fn follow(&self, section: &str) {
        let Some(cluster) = self.facts.topology.of(section) else {
            return;
        };
        self.lead(section, &cluster);
        let config = self.facts.config.load_full();
        let mut routes: Routes = (**self.facts.routes.load()).clone();
        let of_section = |pool: &&Arc<Pool>| pool.cluster.load().name == section;
        let pools: Vec<_> = routes.values().filter(of_section).cloned().collect();
        for pool in pools.iter().filter(|pool| pool.key.reader.is_none()) {
            self.muster(&mut routes, pool, &config);
        }
        self.facts.routes.store(Arc::new(routes));
        let verdict = cluster.verdict();
        for pool in &pools {
            let state = pool.key.reader.as_ref().and_then(|host| verdict.host(host));
            if let Some(state) = state {
                pool.part(reads::parting(state));
            }
        }
    }

    /// Sees to it that there is a pool for reading for each host but the one that is written to, if such
    /// are wanted. Nor is there one for that while writes wait for another: such a pool waits for nobody, and what
    /// came to be written by it would be lost with the old primary.
    fn muster(&self, routes: &mut Routes, pool: &Arc<Pool>, config: &Config) {
        let (settings, cluster) = (pool.settings().clone(), pool.cluster.load_full());
        let verdict = cluster.verdict();
        let wanted = cluster.is_led()
            && settings.reads.from != ReadFrom::Primary
            && settings.pool.mode == PoolMode::Transaction;
        let members = cluster.members();
        let hosts = members
            .iter()
            .filter(|(name, _)| wanted && verdict.writer() != Some(name));
        let before = pool.readers.load_full();
        let mut readers = Vec::new();
        for (name, host) in hosts {
            let known = before
                .iter()
                .find(|reader| reader.key.reader.as_ref() == Some(name));
            if let Some(reader) = known {
                readers.push(Arc::clone(reader));
                continue;
            }
            match self.reader(pool, name, host, config) {
                Ok(reader) => {
                    routes.insert(reader.key.clone(), Arc::clone(&reader));
                    readers.push(reader);
                }
                Err(report) => tracing::error!(error = report.message, "no pool for reading"),
            }
        }
        let gone = before.iter().filter(|reader| {
            let stays = readers.iter().any(|other| Arc::ptr_eq(other, reader));
            !stays
        });
        let gone: Vec<_> = gone.cloned().collect();
        pool.readers.store(Arc::new(readers));
        for reader in gone {
            self.discharge(routes, &reader);
        }
    }

    /// Forgets a pool that nobody uses; whoever asks for it later has another made.
    fn give_up(&self, pool: Arc<Pool>) {
        let routes = self.facts.routes.load_full();
        let is_known = routes
            .get(&pool.key)
            .is_some_and(|known| Arc::ptr_eq(known, &pool));
        let alone = self.is_last(&routes, &pool);
        let mut without: Routes = (*routes).clone();
        drop(routes);
        if is_known {
            if alone {
                return;
            }
            without.remove(&pool.key);
            self.facts.routes.store(Arc::new(without.clone()));
            // From here on nobody finds it. Whoever has found it before, or may still in the table that was, is seen in
            // the count: this is one, in place of the table, which had it before.
            if Arc::strong_count(&pool) > HELD_BY_ITSELF || !pool.is_forsaken(clock::now()) {
                return self.keep(without, pool);
            }
            for reader in pool.readers.swap(Arc::default()).iter() {
                self.discharge(&mut without, reader);
            }
            self.facts.routes.store(Arc::new(without));
            self.facts.memory.homes.lock().remove(&pool.key);
        }
        drop(pool.core.close("nobody has used the pool for a while"));
        let section = pool.cluster.load().name.clone();
        let supervisor = self.facts.memory.clusters.lock().get(&section).cloned();
        if let Some(supervisor) = supervisor {
            stop(&supervisor, child_name(&pool));
        }
    }

    /// Whether no other pool leads to a section's servers, as whose user they could be looked at, and this one may.
    fn is_last(&self, routes: &Routes, pool: &Pool) -> bool {
        let now = clock::now();
        let leads = |pool: &Pool| pool.core.snapshot(now).opened > 0;
        let others = || {
            routes.values().filter(|other| {
                other.number != pool.number && other.cluster.load().name == pool.cluster.load().name
            })
        };
        leads(pool) && !others().any(|other| leads(other))
    }

    /// A pool is found again that could not be for a moment: what was said meanwhile of its database holds for it.
    fn keep(&self, mut routes: Routes, pool: Arc<Pool>) {
        routes.insert(pool.key.clone(), Arc::clone(&pool));
        self.facts.routes.store(Arc::new(routes));
        match self.facts.doors.is_paused(&pool.key.database) {
            true => pool.core.pause(),
            false if pool.core.is_paused() => pool.core.resume(),
            false => {}
        }
    }

    /// A pool for reading is not wanted any more.
    fn discharge(&self, routes: &mut Routes, reader: &Arc<Pool>) {
        routes.remove(&reader.key);
        let home = self.facts.memory.homes.lock().remove(&reader.key);
        drop(reader.core.close("the host is not read from any more"));
        let clusters = self.facts.memory.clusters.lock();
        if let Some(supervisor) = home.and_then(|home| clusters.get(&home).cloned()) {
            stop(&supervisor, child_name(reader));
        }
    }

    fn reader(
        &self,
        pool: &Arc<Pool>,
        name: &HostName,
        host: &Host,
        config: &Config,
    ) -> Result<Arc<Pool>, ErrorReport> {
        let section = pool.cluster.load().name.clone();
        let database = config.databases.get(&section).ok_or_else(hostless)?;
        let supervisor = self.facts.memory.clusters.lock().get(&section).cloned();
        let supervisor = supervisor.ok_or_else(hostless)?;
        let settings = pool.settings().clone();
        let proof = Proof {
            secret: pool.upstream.load().learned(),
        };
        let (memory, key) = (&self.facts.memory, &pool.key);
        let upstream = memory.upstream(config, database, &settings, key, &proof, host)?;
        let quotas = memory.quotas(config, &settings, key, &upstream.name);
        let slot = Slot::new();
        let core = PoolCore::new(limits(&settings), quotas, hinting(slot.clone()));
        let reader = pool.reader(name.clone(), upstream, core, slot);
        let reader = Arc::new(reader.called(self.facts.number()));
        // Whoever comes to read there comes in spite of it.
        if let Some(state) = pool.cluster.load().verdict().host(name) {
            reader.part(reads::parting(state));
        }
        if self.facts.doors.is_paused(&key.database) {
            reader.core.pause();
        }
        memory.homes.lock().insert(reader.key.clone(), section);
        self.start(&supervisor, &reader);
        Ok(reader)
    }

    /// Has the pools of a section lead to where writes go, or wait.
    fn lead(&self, section: &str, cluster: &Cluster) {
        let config = self.facts.config.load_full();
        let lead = cluster.lead();
        let routes = self.facts.routes.load();
        let leading = routes
            .values()
            .filter(|pool| pool.key.reader.is_none() && pool.cluster.load().name == section);
        let ends = leading.filter_map(|pool| self.aim(pool, &lead, cluster, &config));
        if let Some(end) = ends.reduce(HoldEnd::join) {
            cluster.holds.ended(&cluster.name, end);
        }
        let of_section = |database: &str| {
            let database = config.database(database);
            database.is_some_and(|database| database.name == section)
        };
        for session in self.facts.replications.all() {
            let passed = cluster.has_passed(&session.about.upstream.name);
            if passed && of_section(&session.of.database) {
                session.about.killer.kill();
            }
        }
    }

    /// Sends all away who want nothing, which is what the bug of this name does.
    fn cut_idle(&self) {
        let idle = |control: &Arc<Control>| control.standing() == Standing::Idle;
        for control in self.facts.sessions.all().into_iter().filter(idle) {
            let why = ErrorReport::fatal(sqlstate::ADMIN_SHUTDOWN, "the primary is lost");
            control.order(Order::Terminate, why);
        }
    }

    /// Has one pool lead to where writes go, or wait; answers how its work has waited, if it goes on now.
    fn aim(
        &self,
        pool: &Arc<Pool>,
        lead: &Lead,
        cluster: &Cluster,
        config: &Config,
    ) -> Option<HoldEnd> {
        let now = clock::now();
        let Some(host) = &lead.host else {
            if planted::is(Bug::CutIdle) {
                self.cut_idle();
            }
            match cluster.has_left() || cluster.stage() == Stage::Cut {
                // Who still is at the former primary must not go on there.
                true => pool.abandon(now),
                false => pool.core.hold(now),
            }
            return None;
        };
        let database = config.databases.get(&cluster.name)?;
        let (memory, settings) = (&self.facts.memory, pool.settings().clone());
        let proof = Proof {
            secret: pool.upstream.load().learned(),
        };
        let key = &pool.key;
        match memory.upstream(config, database, &settings, key, &proof, host) {
            Ok(upstream) => {
                let quotas = memory.quotas(config, &settings, key, &upstream.name);
                pool.core.move_to(quotas);
                return pool.lead_to(upstream, lead.epoch, cluster.is_led());
            }
            // It leads where it led, and is left if that is no host any more.
            Err(report) if key.reader.is_some() => {
                tracing::error!(error = report.message, "a pool for reading stays as it was");
            }
            Err(report) => {
                tracing::error!(error = report.message, "a pool cannot follow yet");
                // What leads there already stays as it was.
                if !pool.leads_to(&target(&host.address).to_string(), lead.epoch) {
                    pool.abandon(now);
                }
                self.try_again(&cluster.name);
            }
        }
        None
    }

    /// What was seen of hosts grows old, also where the monitors are down whose business it is to say so.
    fn age(&self) {
        let now = clock::now();
        let watched = self.facts.topology.all().into_iter();
        watched
            .filter(|cluster| cluster.is_watched())
            .for_each(|cluster| cluster.age(now));
    }

    /// Has the pools of a section follow in a moment: once, however many of them could not.
    fn try_again(&self, section: &str) {
        if !self.facts.memory.behind.lock().insert(section.to_owned()) {
            return;
        }
        let (facts, section) = (Arc::clone(&self.facts), section.to_owned());
        tokio::spawn(async move {
            tokio::time::sleep(AGAIN).await;
            facts.memory.behind.lock().remove(&section);
            let _ = facts.router.cast(RouterMessage::Follow { section });
        });
    }

    fn start(&self, supervisor: &Slot<SupervisorMessage>, pool: &Arc<Pool>) {
        let child = pool_child(pool, &self.facts);
        // Nobody waits for the answer: a pool whose actor did not start shows in the tree, and its
        // clients run into their checkout timeout.
        let (reply, _answer) = tokio::sync::oneshot::channel();
        if !supervisor.cast(SupervisorMessage::StartChild(child, reply.into())) {
            tracing::error!("the supervisor of pools is not there");
        }
    }

    /// Brings everything to the configuration in force; pools of databases that are gone close.
    async fn reconfigure(&self) {
        let number = self.facts.memory.begun();
        let config = self.facts.config.load_full();
        self.facts.memory.knock(config.limits.max_host_logins.get());
        let facts = &self.facts;
        facts.topology.reconfigure(&config, &facts.router);
        let founded = self.found(&config).await;
        for cluster in facts.topology.all() {
            self.watch(&cluster);
        }
        self.reconfigure_pools(&config);
        self.facts.replications.leave_gone(&config);
        self.dissolve(&config);
        if founded {
            self.facts.memory.followed(number);
            return;
        }
        let router = self.facts.router.clone();
        tokio::spawn(async move {
            tokio::time::sleep(AGAIN).await;
            // If that is not enough, the next reload tries again.
            let _ = router.cast(RouterMessage::CatchUp);
        });
    }

    /// Starts the supervisors of databases that are new; false if one does not start.
    async fn found(&self, config: &Config) -> bool {
        let mut all = true;
        for name in config.databases.keys() {
            if self.facts.memory.clusters.lock().contains_key(name) {
                continue;
            }
            let child = cluster(name.clone(), Arc::clone(&self.facts));
            let ask = |reply| SupervisorMessage::StartChild(child, reply);
            let error = match self.facts.root.call(ask, PATIENCE).await {
                Ok(Ok(_)) => continue,
                // One that does not start has left its place, where nobody would find anything.
                Ok(Err(error @ ChildError::Failed(_))) => {
                    self.facts.memory.clusters.lock().remove(name);
                    self.facts.memory.watches.lock().remove(name);
                    error.to_string()
                }
                Ok(Err(error)) => error.to_string(),
                // It waits for one of its name that is still being stopped, and takes its place when it starts.
                Err(error) => error.to_string(),
            };
            all = false;
            tracing::error!(
                database = name,
                error,
                "a new database has no supervisor yet"
            );
        }
        all
    }

    /// Sees to it that each host has a monitor, and what is no host any more has none.
    fn watch(&self, cluster: &Arc<Cluster>) {
        let watches = self.facts.memory.watches.lock();
        let Some(watch) = watches.get(&cluster.name) else {
            return;
        };
        let config = self.facts.config.load();
        let patroni = config
            .databases
            .get(&cluster.name)
            .is_some_and(|database| !database.patroni.is_empty());
        let mut wanted: BTreeMap<String, ChildSpec> = BTreeMap::new();
        if cluster.is_watched() {
            for host in cluster.members().names() {
                let monitor = monitor_child(cluster, host, &self.facts);
                wanted.insert(monitor_name(host), monitor);
            }
        }
        if patroni {
            wanted.insert(SCOUT.to_owned(), scout_child(cluster, &self.facts));
        }
        if cluster.follows_names() {
            wanted.insert(GUIDE.to_owned(), guide_child(cluster, &self.facts));
        }
        let mut watched = watch.children.lock();
        for gone in watched.iter().filter(|name| !wanted.contains_key(*name)) {
            stop(&watch.supervisor, gone.clone());
        }
        let names = wanted.keys().cloned().collect();
        for (name, child) in wanted {
            if !watched.contains(&name) {
                // One of that name that has ended by itself is in the way.
                stop(&watch.supervisor, name);
            }
            // A supervisor refuses what it has.
            let (reply, _answer) = tokio::sync::oneshot::channel();
            let start = SupervisorMessage::StartChild(child, reply.into());
            if !watch.supervisor.cast(start) {
                // It takes up all of them when it starts.
                tracing::debug!("the supervisor of monitors is not there");
            }
        }
        *watched = names;
    }

    /// Stops the supervisors of databases that are gone.
    fn dissolve(&self, config: &Config) {
        let stays = |name: &String| config.databases.contains_key(name);
        let memory = &self.facts.memory;
        memory.watches.lock().retain(|name, _| stays(name));
        self.facts.memory.clusters.lock().retain(|name, _| {
            let stays = config.databases.contains_key(name);
            if !stays {
                stop(&self.facts.root, format!("cluster {name}"));
            }
            stays
        });
    }

    /// Sees to it that a pool's actor stands under the section that its database has now; true if that is another.
    fn rehome(&self, pool: &Arc<Pool>, section: &str) -> bool {
        let mut homes = self.facts.memory.homes.lock();
        let before = homes.insert(pool.key.clone(), section.to_owned());
        let Some(before) = before.filter(|before| before != section) else {
            return false;
        };
        let clusters = self.facts.memory.clusters.lock();
        // Two managers of one pool do no harm: what counts is in its core.
        if let Some(supervisor) = clusters.get(section) {
            self.start(supervisor, pool);
        }
        if let Some(supervisor) = clusters.get(&before) {
            stop(supervisor, child_name(pool));
            stop(supervisor, herald_name(pool));
        }
        true
    }

    fn reconfigure_pools(&self, config: &Config) {
        let mut routes: Routes = (**self.facts.routes.load()).clone();
        routes.retain(|key, pool| {
            let Some(database) = config.database(&key.database) else {
                let why = "the database was removed from the configuration";
                pool.audience.close(&pool.circle, why);
                drop(pool.core.close(why));
                self.facts.memory.homes.lock().remove(key);
                return false;
            };
            let has_moved = self.rehome(pool, &database.name);
            let user = config.user(&key.user);
            let settings = Arc::new(config.effective_pool(&database, user.as_deref()));
            let Some(cluster) = self.facts.topology.of(&database.name) else {
                return true;
            };
            pool.reconfigure(settings);
            pool.cluster.store(Arc::clone(&cluster));
            if has_moved && key.reader.is_none() {
                drop(pool.core.rebase(cluster.lead().epoch));
            }
            match &key.reader {
                None => {
                    if let Some(end) = self.aim(pool, &cluster.lead(), &cluster, config) {
                        cluster.holds.ended(&cluster.name, end);
                    }
                }
                // One whose host is gone is discharged below.
                Some(name) => {
                    if let Some(host) = cluster.members().get(name) {
                        let lead = Lead {
                            host: Some(host.clone()),
                            epoch: 0,
                        };
                        self.aim(pool, &lead, &cluster, config);
                    }
                }
            }
            true
        });
        let pools: Vec<_> = routes.values().cloned().collect();
        for pool in pools.iter().filter(|pool| pool.key.reader.is_none()) {
            self.muster(&mut routes, pool, config);
        }
        self.facts.routes.store(Arc::new(routes));
    }
}

/// Where a pool leads: to the server that may be written to, or, held, to the first of all.
fn leading(lead: &Lead, cluster: &Cluster) -> Result<Host, ErrorReport> {
    let first = || cluster.members().hosts().next().cloned();
    lead.host.clone().or_else(first).ok_or_else(hostless)
}

fn hostless() -> ErrorReport {
    ErrorReport::fatal(sqlstate::CANNOT_CONNECT_NOW, "the database has no host")
}

/// Has a supervisor stop a child for good.
pub(crate) fn stop(supervisor: &Slot<SupervisorMessage>, child: String) {
    // Nobody waits for the answer: a child that is not there need not be stopped.
    let (reply, _answer) = tokio::sync::oneshot::channel();
    if !supervisor.cast(SupervisorMessage::StopChild(child, reply.into())) {
        tracing::error!("a supervisor that should stop a child is not there");
    }
}

/// A hint to a pool's actor: at most one is queued, and one that nobody heard is not lost.
fn hinting(slot: Slot<PoolMessage>) -> impl Fn() + Send + Sync + 'static {
    move || {
        // A manager that is being restarted looks at the core when it starts.
        let _ = slot.cast(PoolMessage::Look);
    }
}

/// The pool for a user and a database, made if need be.
///
/// # Errors
/// What the client is told when there is none.
pub async fn pool(
    facts: &Arc<Facts>,
    database: &str,
    user: &str,
    proof: Proof,
) -> Result<Arc<Pool>, ErrorReport> {
    let key = PoolKey::new(database, user);
    if let Some(pool) = facts.routes.load().get(&key) {
        pool.renew(&proof.secret);
        return Ok(Arc::clone(pool));
    }
    introduced(facts, database, user).await;
    let ask = |reply| RouterMessage::Pool { key, proof, reply };
    facts
        .router
        .call(ask, PATIENCE)
        .await
        .unwrap_or_else(|error| {
            Err(
                ErrorReport::fatal(sqlstate::CANNOT_CONNECT_NOW, "the router does not answer")
                    .detail(error.to_string()),
            )
        })
}

/// Waits until the hosts of a database are known, but no longer than for there to be a primary: whoever
/// has just been started and asks Patroni knows of none for a moment.
pub(crate) async fn introduced(facts: &Facts, database: &str, user: &str) {
    let config = facts.config.load_full();
    let Some(database) = config.database(database) else {
        return;
    };
    let Some(cluster) = facts.topology.of(&database.name) else {
        return;
    };
    let settings = config.effective_pool(&database, config.user(user).as_deref());
    match settings.timeouts.hold {
        Some(limit) => drop(tokio::time::timeout(limit, cluster.introduced()).await),
        None => cluster.introduced().await,
    }
}

/// A server for a purpose of our own, waited for as a client would.
///
/// # Errors
/// Why there is none.
pub async fn lease(pool: &Arc<Pool>) -> Result<ServerLease, ErrorReport> {
    let asked = async {
        loop {
            let lease = match pool.core.lease(u16::MAX, clock::now()) {
                Ok(Ask::Ready(lease)) => lease,
                Ok(Ask::Wait(waiter)) => waiter.await.map_err(|error| denial(&error, pool))?,
                Err(error) => return Err(denial(&error, pool)),
            };
            if let Some(lease) = check(pool, lease, clock::now()).await {
                return Ok(lease);
            }
        }
    };
    let (mut asked, began) = (std::pin::pin!(asked), clock::now());
    loop {
        let look = tokio::time::timeout(Duration::from_millis(100), asked.as_mut());
        if let Ok(leased) = look.await {
            return leased;
        }
        match overdue(pool, began) {
            Some(_) if is_cut_off(pool) => return Err(unreachable(pool)),
            Some((_, report)) => return Err(report),
            None => {}
        }
    }
}

/// Whether no server can be reached, as opposed to one that is busy or paused, or a primary that is awaited.
pub(crate) fn is_cut_off(pool: &Pool) -> bool {
    let now = clock::now();
    let found = pool.core.snapshot(now);
    if found.held.is_some() || found.paused || found.idle + found.leased > 0 {
        return false;
    }
    // Else there may be no place for a connection, as others have them all.
    let (trouble, upstream) = (pool.trouble.load(), pool.upstream.load());
    found.opening > 0 || trouble.is_some() || pool.pause(&upstream, now).is_some()
}

/// There was no connection in time: no server could be reached, or one was, and lets nobody in, which is told as it says it.
pub fn unreachable(pool: &Pool) -> ErrorReport {
    let trouble = pool.trouble.load_full();
    if let Some(trouble) = &trouble
        && matches!(**trouble, OpenError::Refused { .. })
    {
        return trouble.report().into_fatal();
    }
    let report = ErrorReport::fatal(
        sqlstate::CONNECTION_FAILURE,
        format!("server {} cannot be reached", pool.upstream.load().name),
    );
    match trouble {
        Some(trouble) => report.detail(trouble.report().message),
        None => report,
    }
}
