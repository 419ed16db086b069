//! What everybody may read at any time: snapshots, each with one writer.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use pgherd_config::{Config, Secret};
use pgherd_net::{ClientTls, Network, SocketOptions};
use pgherd_supervise::{Slot, SupervisorMessage};
use pgherd_wire::scram::Verifier;
use tokio::sync::Semaphore;

use crate::accounts::Accounts;
use crate::caps::Caps;
use crate::cluster::Topology;
use crate::cluster::patroni::SourceTls;
use crate::config::ConfigMessage;
use crate::control::Sessions;
use crate::doors::Doors;
use crate::drain::Curtain;
use crate::failures::Failures;
use crate::keeping::Keeping;
use crate::periods::Periods;
use crate::pool::{Pool, PoolKey};
use crate::router::{RouterMemory, RouterMessage};
use crate::session::replication::Replications;
use crate::shards::Groups;
use crate::transactions::Transactions;

/// How many users' verifiers are remembered.
const VERIFIERS_MAX: usize = 4096;

/// The pools, by database and user.
pub type Routes = HashMap<PoolKey, Arc<Pool>>;

/// The facts of one proxy.
pub struct Facts {
    /// The configuration in force; written by Config.
    pub config: ArcSwap<Config>,
    /// The routing table; written by Router.
    pub routes: ArcSwap<Routes>,
    /// The servers of each database, and what is known of them; its list is written by Router.
    pub topology: Topology,
    /// TLS towards clients; written by Config.
    pub client_tls: ArcSwap<ClientTls>,
    /// TLS towards Patroni; written by Config.
    pub source_tls: ArcSwap<SourceTls>,
    /// TCP options of clients' sockets; written by Config.
    pub client_socket: ArcSwap<SocketOptions>,
    /// All sessions.
    pub sessions: Arc<Sessions>,
    /// Those of them that replicate.
    pub replications: Arc<Replications>,
    /// Where to ask for a pool that does not exist yet.
    pub router: Slot<RouterMessage>,
    /// Where to ask for a reload.
    pub configuration: Slot<ConfigMessage>,
    /// What the router leaves to its successor.
    pub memory: RouterMemory,
    /// The root of the supervision tree.
    pub root: Slot<SupervisorMessage>,
    /// Where to ask for the end.
    pub curtain: Curtain,
    /// Cancel requests of clients that may be under way at once; written by Config.
    pub cancels: ArcSwap<Semaphore>,
    /// How many clients each database and each user has.
    pub caps: Arc<Caps>,
    /// Where the system's accounts are looked up.
    pub accounts: Accounts,
    /// What the sessions of sharded databases share.
    pub groups: Groups,
    /// Transactions over several servers.
    pub transactions: Arc<Transactions>,
    /// Logins that failed, and sessions that did not end as they should.
    pub failures: Arc<Failures>,
    /// What the console has closed.
    pub doors: Doors,
    /// The periods of the console's averages.
    pub periods: Periods,
    /// The secret behind the verifiers of users that do not exist.
    pub mock_secret: [u8; 32],
    /// When the proxy was started.
    pub started: SystemTime,
    /// The next number of a prepared statement: a session of a sharded database has statements of several
    /// pools, so no two pools give one number.
    pub statements: Arc<AtomicU64>,
    /// What clients that wait have sent.
    pub keeping: Arc<Keeping>,
    ready: AtomicBool,
    leaving: AtomicBool,
    closing: AtomicBool,
    next: AtomicU64,
    verifiers: Mutex<HashMap<String, (Secret, Arc<Verifier>)>>,
    /// Places for what proofs of clients need of the processors.
    deriving: Arc<Semaphore>,
}

impl std::fmt::Debug for Facts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Facts").finish_non_exhaustive()
    }
}

impl Facts {
    /// The first facts of a proxy.
    pub fn new(
        config: Arc<Config>,
        tls: Arc<ClientTls>,
        mock_secret: [u8; 32],
        curtain: Curtain,
    ) -> Arc<Self> {
        Self::over(Network::Kernel, config, tls, mock_secret, curtain)
    }

    /// The first facts of a proxy whose servers are reached over this network.
    pub fn over(
        network: Network,
        config: Arc<Config>,
        tls: Arc<ClientTls>,
        mock_secret: [u8; 32],
        curtain: Curtain,
    ) -> Arc<Self> {
        let cancels = ArcSwap::from_pointee(Semaphore::new(config.limits.max_cancels.get()));
        let socket = crate::config::client_socket(&config);
        let (topology, router) = (Topology::default(), Slot::default());
        topology.reconfigure(&config, &router);
        Arc::new(Self {
            config: ArcSwap::new(config),
            routes: ArcSwap::default(),
            topology,
            client_tls: ArcSwap::new(tls),
            source_tls: ArcSwap::default(),
            client_socket: ArcSwap::from_pointee(socket),
            sessions: Arc::default(),
            replications: Arc::default(),
            router,
            configuration: Slot::default(),
            memory: RouterMemory::over(network),
            root: Slot::default(),
            curtain,
            cancels,
            caps: Arc::default(),
            accounts: Accounts::default(),
            groups: Groups::default(),
            transactions: Arc::default(),
            statements: Arc::new(AtomicU64::new(1)),
            keeping: Arc::default(),
            failures: Arc::default(),
            doors: Doors::default(),
            periods: Periods::new(crate::clock::now()),
            mock_secret,
            started: SystemTime::now(),
            ready: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            next: AtomicU64::new(1),
            verifiers: Mutex::default(),
            deriving: Arc::new(Semaphore::new(half_of_processors())),
        })
    }

    /// A number that was never given before.
    pub fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether clients are wanted: false before the listeners are up, once the end is announced, and while draining.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire) && !self.leaving.load(Ordering::Acquire)
    }

    /// From here on no clients are wanted, for good. Those who come are served.
    pub fn announce_end(&self) {
        self.leaving.store(true, Ordering::Release);
    }

    /// Says whether clients are wanted.
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Release);
    }

    /// Whether the proxy is about to end, and lets nobody in any more.
    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// From here on nobody is let in. Sessions that come into being later see it.
    pub fn close(&self) {
        self.set_ready(false);
        self.closing.store(true, Ordering::Release);
    }

    /// The verifier of a user's plain password. Deriving one costs milliseconds, so each is derived
    /// once, and on a thread where nobody's traffic waits for it.
    pub async fn verifier(&self, user: &str, password: &Secret, iterations: u32) -> Arc<Verifier> {
        if let Some((known, verifier)) = self.verifiers.lock().get(user)
            && known == password
            && verifier.iterations == iterations
        {
            return Arc::clone(verifier);
        }
        let salt: [u8; 16] = rand::random();
        let text = password.clone();
        let derive = move || Verifier::from_password(text.expose().as_bytes(), &salt, iterations);
        let verifier = Arc::new(self.derive(derive).await);
        let mut verifiers = self.verifiers.lock();
        if verifiers.len() >= VERIFIERS_MAX {
            verifiers.clear();
        }
        verifiers.insert(user.to_owned(), (password.clone(), Arc::clone(&verifier)));
        verifier
    }

    /// Runs what a client's proof needs of a processor, aside. Anybody may knock, so that no more of these run at once than
    /// leave the traffic its share; who gives up waiting leaves the queue.
    pub(crate) async fn derive<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let place = Arc::clone(&self.deriving).acquire_owned().await;
        aside(move || {
            let done = work();
            drop(place);
            done
        })
        .await
    }
}

fn half_of_processors() -> usize {
    let all = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    all.div_ceil(2)
}

/// Runs what would hold up a worker on a thread of its own.
pub(crate) async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is going down, and whoever waits here with it.
            Err(_cancelled) => std::future::pending().await,
        },
    }
}
