//! The whole: what is started in which order, and how it ends.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use pgherd_cluster::HostName;
use pgherd_config::{Config as Settings, LoadInput};
use pgherd_net::{ListenError, Listener as Socket, TlsSetupError};
use pgherd_supervise::{
    ChildSpec, Dynamic, Exhausted, Heartbeat, Intensity, RootExit, Slot, Strategy,
    SupervisorMessage, SupervisorSpec, Tasked, linked, run_root,
};

use crate::cluster::Cluster;
use crate::cluster::monitor::{Monitor, MonitorArguments};
use crate::cluster::names::{Guide, GuideArguments};
use crate::cluster::patroni::{Scout, ScoutArguments, SourceTls, SourceTlsError};
use crate::config::{self, Config, ConfigArguments};
use crate::drain::{self, Curtain};
use crate::facts::Facts;
use crate::herald::{Herald, HeraldArguments};
use crate::http::{Http, HttpArguments};
use crate::listener::{Listener, ListenerArguments};
use crate::pool::{Pool, PoolArguments, PoolManager};
use crate::router::{Router, RouterArguments};
use crate::totals::{Totals, TotalsArguments};
use crate::transactions::recovery::{Recovery, RecoveryArguments};
use crate::workers::Workers;

/// A proxy that is about to run: its sockets are bound, so a fault shows before anything is started.
#[derive(Debug)]
pub struct Proxy {
    facts: Arc<Facts>,
    source: Arc<LoadInput>,
    sockets: Vec<Arc<Socket>>,
    http: Option<Arc<std::net::TcpListener>>,
    workers: Arc<Workers>,
    curtain: Curtain,
}

/// Why a proxy cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("{0}")]
    Listen(#[from] ListenError),
    /// A certificate cannot be used.
    #[error("tls: {0}")]
    Tls(#[from] TlsSetupError),
    /// A certificate for Patroni cannot be used.
    #[error(transparent)]
    Patroni(#[from] SourceTlsError),
    /// The address for metrics cannot be listened on.
    #[error("cannot listen on {address} for metrics: {source}")]
    Metrics {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// No threads.
    #[error("cannot start the worker threads: {0}")]
    Workers(io::Error),
}

/// How a proxy has ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it was asked to.
    Ended,
    /// A part that it cannot do without is beyond repair.
    BeyondRepair(String),
}

impl Proxy {
    /// Binds everything that the configuration names.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left behind.
    pub fn bind(
        settings: Settings,
        source: LoadInput,
        curtain: Curtain,
    ) -> Result<Self, StartError> {
        let tls = Arc::new(config::client_tls(&settings)?);
        for database in settings.databases.values() {
            crate::router::server_tls(&database.tls)?;
        }
        let source_tls = SourceTls::of(&settings)?;
        let listen = &settings.listen;
        let mut sockets = Vec::new();
        for address in &listen.addresses {
            sockets.push(Arc::new(Socket::bind(*address, listen.backlog, false)?));
        }
        if let Some(dir) = &listen.unix_dir {
            let mode = listen.unix_mode.bits();
            let socket = Socket::bind_unix(dir, listen.unix_port, listen.backlog, mode)?;
            sockets.push(Arc::new(socket));
        }
        let http = match settings.metrics.listen {
            Some(address) => {
                let failed = |source| StartError::Metrics { address, source };
                let socket = std::net::TcpListener::bind(address).map_err(failed)?;
                socket.set_nonblocking(true).map_err(failed)?;
                Some(Arc::new(socket))
            }
            None => None,
        };
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let workers = Workers::start(settings.workers.count.threads(cores).get());
        let workers = Arc::new(workers.map_err(StartError::Workers)?);
        let facts = Facts::new(Arc::new(settings), tls, rand::random(), curtain.clone());
        facts.source_tls.store(Arc::new(source_tls));
        Ok(Self {
            facts,
            source: Arc::new(source),
            sockets,
            http,
            workers,
            curtain,
        })
    }

    /// A proxy between networks that are simulated, all of which lives in the runtime of the caller.
    ///
    /// # Errors
    /// [`StartError`].
    #[cfg(feature = "chaos")]
    pub fn simulated(
        settings: Settings,
        curtain: Curtain,
        clients: Socket,
        servers: pgherd_net::Network,
    ) -> Result<Self, StartError> {
        let tls = Arc::new(config::client_tls(&settings)?);
        let source_tls = SourceTls::of(&settings)?;
        let facts = Facts::over(servers, Arc::new(settings), tls, [0; 32], curtain.clone());
        facts.source_tls.store(Arc::new(source_tls));
        Ok(Self {
            facts,
            source: Arc::default(),
            sockets: vec![Arc::new(clients)],
            http: None,
            workers: Arc::new(Workers::here()),
            curtain,
        })
    }

    /// The addresses on which clients may connect.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.sockets
            .iter()
            .filter_map(|socket| socket.local())
            .collect()
    }

    /// The unix sockets on which clients may connect.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.sockets
            .iter()
            .filter_map(|socket| socket.path().map(PathBuf::from))
            .collect()
    }

    /// The threads on which sessions live.
    #[cfg(feature = "chaos")]
    pub fn workers(&self) -> &Arc<Workers> {
        &self.workers
    }

    /// Everything that anybody may read.
    pub fn facts(&self) -> &Arc<Facts> {
        &self.facts
    }

    /// Runs until the end is asked for, or a part is beyond repair.
    pub async fn run(self) -> Outcome {
        let handle = run_root(self.tree()).await;
        let handle = match handle {
            Ok(handle) => handle,
            Err(error) => return Outcome::BeyondRepair(error.to_string()),
        };
        self.facts.root.fill(handle.actor.clone());
        self.facts.set_ready(true);
        #[cfg(feature = "chaos")]
        crate::chaos::obey(&self.facts);
        let mut exit = handle.join;
        let exited = tokio::select! {
            exited = &mut exit => Some(exited),
            () = drain::drain(&self.facts, &self.curtain) => None,
        };
        let exited = match exited {
            Some(exited) => exited,
            None => {
                handle.actor.stop(None);
                exit.await
            }
        };
        match exited {
            Ok(RootExit::Stopped) => Outcome::Ended,
            Ok(RootExit::Killed) => Outcome::BeyondRepair("the root was killed".to_owned()),
            Ok(RootExit::Exhausted { child, reason }) => {
                Outcome::BeyondRepair(format!("{child}: {reason}"))
            }
            Err(error) => Outcome::BeyondRepair(error.to_string()),
        }
    }

    /// The supervision tree, in the order in which it is started; it stops in the reverse.
    fn tree(&self) -> SupervisorSpec {
        let facts = &self.facts;
        let (config_beats, router_beats) = (Heartbeat::new(BEAT), Heartbeat::new(BEAT));
        let configuration = ConfigArguments {
            heartbeat: config_beats.clone(),
            facts: Arc::clone(facts),
            source: Arc::clone(&self.source),
            slot: facts.configuration.clone(),
        };
        let router = RouterArguments {
            facts: Arc::clone(facts),
            heartbeat: router_beats.clone(),
        };
        let mut root = SupervisorSpec::new("root")
            .intensity(Intensity {
                restarts: 3,
                within: Duration::from_secs(60),
            })
            .child(
                ChildSpec::permanent("config", move |parent| {
                    linked(parent, Config, configuration.clone())
                })
                .heartbeat(config_beats),
            )
            .child(self.aux())
            .child(
                ChildSpec::permanent("router", move |parent| {
                    linked(parent, Router, router.clone())
                })
                .heartbeat(router_beats),
            );
        for name in facts.config.load().databases.keys() {
            root = root.child(cluster(name.clone(), Arc::clone(facts)));
        }
        root.child(transactions(Arc::clone(facts)))
            .child(self.front())
    }

    fn aux(&self) -> ChildSpec {
        let (facts, http) = (Arc::clone(&self.facts), self.http.clone());
        ChildSpec::supervisor(move || {
            let mut spec = SupervisorSpec::new("aux").when_exhausted(Exhausted::isolate(
                |why| tracing::error!(%why, "aux gave up"),
            ));
            let heartbeat = Heartbeat::new(BEAT);
            let arguments = TotalsArguments {
                facts: Arc::clone(&facts),
                heartbeat: heartbeat.clone(),
            };
            let totals = ChildSpec::permanent("totals", move |parent| {
                linked(parent, Totals, arguments.clone())
            });
            spec = spec.child(totals.heartbeat(heartbeat));
            if let Some(socket) = http.clone() {
                let heartbeat = Heartbeat::new(BEAT);
                let arguments = HttpArguments {
                    socket,
                    facts: Arc::clone(&facts),
                    heartbeat: heartbeat.clone(),
                };
                let http = ChildSpec::permanent("http", move |parent| {
                    linked(parent, Tasked(Http), arguments.clone())
                });
                spec = spec.child(http.heartbeat(heartbeat));
            }
            spec
        })
    }

    /// Sessions first, listeners after them: a listener without sessions has nowhere to lead.
    fn front(&self) -> ChildSpec {
        let sessions: Arc<[Dynamic]> = (0..self.workers.count())
            .map(|worker| Dynamic::new(format!("sessions {worker}")))
            .collect();
        let turn = Arc::new(AtomicUsize::new(0));
        let listeners: Vec<(String, ListenerArguments)> = self
            .sockets
            .iter()
            .map(|socket| {
                let name = match (socket.local(), socket.path()) {
                    (Some(address), _) => format!("listener {address}"),
                    (None, Some(path)) => format!("listener {}", path.display()),
                    (None, None) => "listener".to_owned(),
                };
                let arguments = ListenerArguments {
                    socket: Arc::clone(socket),
                    facts: Arc::clone(&self.facts),
                    workers: Arc::clone(&self.workers),
                    sessions: Arc::clone(&sessions),
                    turn: Arc::clone(&turn),
                    heartbeat: Heartbeat::new(BEAT),
                };
                (name, arguments)
            })
            .collect();
        ChildSpec::supervisor(move || {
            let mut spec = SupervisorSpec::new("front").strategy(Strategy::RestForOne);
            for sessions in sessions.iter() {
                spec = spec.child(sessions.child(Duration::from_secs(1)));
            }
            for (name, arguments) in &listeners {
                let (arguments, heartbeat) = (arguments.clone(), arguments.heartbeat.clone());
                let listener = ChildSpec::permanent(name.clone(), move |parent| {
                    linked(parent, Tasked(Listener), arguments.clone())
                });
                spec = spec.child(listener.heartbeat(heartbeat));
            }
            spec
        })
        // All sessions would end with it, which need nothing of it.
        .unwatched()
    }
}

/// Coordinators, and who ends what others have left: a session that ends leaves a coordinator behind, so they stop
/// after the sessions.
///
/// Neither is started again with the other. To end the coordinators because recovery has crashed would leave prepared
/// what was about to be committed; and recovery needs nothing of theirs: what they leave when they end they note in the
/// facts, where it looks in its next round, whichever of the two was there first.
fn transactions(facts: Arc<Facts>) -> ChildSpec {
    ChildSpec::supervisor(move || {
        let heartbeat = Heartbeat::new(RECOVERY_BEAT);
        let arguments = RecoveryArguments {
            facts: Arc::clone(&facts),
            heartbeat: heartbeat.clone(),
        };
        let recovery = ChildSpec::permanent("recovery", move |parent| {
            linked(parent, Tasked(Recovery), arguments.clone())
        });
        SupervisorSpec::new("transactions")
            .when_exhausted(Exhausted::isolate(
                |why| tracing::error!(%why, "transactions over several shards gave up"),
            ))
            .child(
                facts
                    .transactions
                    .coordinators
                    .beating_child(Duration::from_secs(5), Heartbeat::new(BEAT)),
            )
            .child(recovery.heartbeat(heartbeat))
    })
}

/// How often permanent actors give a sign of life; one that misses three is killed and restarted.
const BEAT: Duration = Duration::from_secs(10);

/// The same for recovery, which beats at each question that it asks a server: each may take as long as `connect` allows.
const RECOVERY_BEAT: Duration = Duration::from_secs(30);

/// A database: the monitors of its hosts, and its pools. Its failures never touch its siblings.
pub(crate) fn cluster(name: String, facts: Arc<Facts>) -> ChildSpec {
    ChildSpec::supervisor(move || {
        let title = format!("cluster {name}");
        let isolated = title.clone();
        SupervisorSpec::new(title)
            .intensity(Intensity {
                restarts: 10,
                within: Duration::from_secs(60),
            })
            .when_exhausted(Exhausted::isolate(move |why| {
                tracing::error!(cluster = isolated, %why, "a cluster is down");
            }))
            .child(hosts(name.clone(), Arc::clone(&facts)))
            .child(pools(name.clone(), Arc::clone(&facts)))
    })
}

/// The monitors of a cluster's hosts; one without a choice of hosts has none.
fn hosts(name: String, facts: Arc<Facts>) -> ChildSpec {
    let mut watches = facts.memory.watches.lock();
    let slot = watches.entry(name.clone()).or_default().supervisor.clone();
    drop(watches);
    let own = move || own_monitors(&name, &facts);
    reachable("hosts", slot, own)
}

fn own_monitors(name: &str, facts: &Arc<Facts>) -> Vec<ChildSpec> {
    let cluster = facts.topology.of(name);
    let Some(cluster) = cluster.filter(|cluster| cluster.is_watched()) else {
        return Vec::new();
    };
    let config = facts.config.load();
    let database = config.databases.get(name);
    let asks = database.is_some_and(|database| !database.patroni.is_empty());
    let scout = asks.then(|| scout_child(&cluster, facts));
    let guide = cluster
        .follows_names()
        .then(|| guide_child(&cluster, facts));
    let members = cluster.members();
    let monitors = members
        .names()
        .map(|host| monitor_child(&cluster, host, facts));
    let children: Vec<ChildSpec> = scout.into_iter().chain(guide).chain(monitors).collect();
    if let Some(watch) = facts.memory.watches.lock().get(name) {
        let names = children.iter().map(|child| child.id.clone());
        *watch.children.lock() = names.collect();
    }
    children
}

/// What who asks Patroni is called among its siblings.
pub(crate) const SCOUT: &str = "patroni";

/// Who asks Patroni, as a child. It ends by itself when the configuration names no Patroni any more.
pub(crate) fn scout_child(cluster: &Arc<Cluster>, facts: &Arc<Facts>) -> ChildSpec {
    let arguments = ScoutArguments {
        cluster: Arc::clone(cluster),
        facts: Arc::clone(facts),
    };
    ChildSpec::transient(SCOUT, move |parent| {
        linked(parent, Tasked(Scout), arguments.clone())
    })
}

/// What who looks up names is called among its siblings.
pub(crate) const GUIDE: &str = "names";

/// Who looks up the names of hosts, as a child. It ends by itself when there are none any more.
pub(crate) fn guide_child(cluster: &Arc<Cluster>, facts: &Arc<Facts>) -> ChildSpec {
    let arguments = GuideArguments {
        cluster: Arc::clone(cluster),
        facts: Arc::clone(facts),
    };
    ChildSpec::transient(GUIDE, move |parent| {
        linked(parent, Tasked(Guide), arguments.clone())
    })
}

/// What the monitor of a host is called among its siblings.
pub(crate) fn monitor_name(host: &HostName) -> String {
    format!("monitor {host}")
}

/// The monitor of a host as a child. It ends by itself only when the host is none of the cluster's any
/// more.
pub(crate) fn monitor_child(
    cluster: &Arc<Cluster>,
    host: &HostName,
    facts: &Arc<Facts>,
) -> ChildSpec {
    let arguments = MonitorArguments {
        cluster: Arc::clone(cluster),
        host: host.clone(),
        facts: Arc::clone(facts),
    };
    ChildSpec::transient(monitor_name(host), move |parent| {
        linked(parent, Tasked(Monitor), arguments.clone())
    })
}

fn pools(name: String, facts: Arc<Facts>) -> ChildSpec {
    let slot = facts
        .memory
        .clusters
        .lock()
        .entry(name.clone())
        .or_default()
        .clone();
    let own = move || own_pools(&name, &facts);
    reachable("pools", slot, own)
}

/// A supervisor of children that come and go, which whoever starts one finds in `slot`. One that was
/// restarted takes up again those that exist, as `own` says.
fn reachable(
    title: &'static str,
    slot: Slot<SupervisorMessage>,
    own: impl Fn() -> Vec<ChildSpec> + Clone + Send + Sync + 'static,
) -> ChildSpec {
    let first = own.clone();
    let child = ChildSpec::supervisor(move || {
        let spec = SupervisorSpec::new(title);
        first().into_iter().fold(spec, SupervisorSpec::child)
    });
    // Whoever starts a child must find the supervisor of the moment.
    let start = child.start;
    ChildSpec {
        start: Box::new(move |parent| {
            let (started, slot, late) = (start(parent), slot.clone(), own.clone());
            Box::pin(async move {
                let cell = started.await?;
                slot.fill(cell.clone().into());
                // Those that were asked for meanwhile were told to its predecessor. It refuses those
                // that it has.
                for child in late() {
                    let (reply, _answer) = tokio::sync::oneshot::channel();
                    let _ = slot.cast(SupervisorMessage::StartChild(child, reply.into()));
                }
                Ok(cell)
            })
        }),
        ..child
    }
}

/// The actors of the pools that exist under a database's section.
fn own_pools(name: &str, facts: &Arc<Facts>) -> Vec<ChildSpec> {
    let (routes, config) = (facts.routes.load(), facts.config.load());
    let own = routes.iter().filter(|(key, _)| {
        let database = config.database(&key.database);
        database.is_some_and(|database| database.name == name)
    });
    own.flat_map(|(_, pool)| {
        let wanted = pool.audience.is_wanted(&pool.circle);
        let herald = wanted.then(|| herald_child(pool, facts));
        std::iter::once(pool_child(pool, facts)).chain(herald)
    })
    .collect()
}

/// Has the supervisor of a pool start its herald; one that it has is left alone. False if it is not
/// there at the moment.
pub(crate) fn start_herald(pool: &Arc<Pool>, facts: &Arc<Facts>) -> bool {
    let config = facts.config.load();
    let Some(database) = config.database(&pool.key.database) else {
        return false;
    };
    let supervisor = facts.memory.clusters.lock().get(&database.name).cloned();
    let (reply, _answer) = tokio::sync::oneshot::channel();
    supervisor.is_some_and(|supervisor| {
        supervisor.cast(SupervisorMessage::StartChild(
            herald_child(pool, facts),
            reply.into(),
        ))
    })
}

/// Has the herald of a pool stopped, if there is one.
pub(crate) fn stop_herald(pool: &Pool, facts: &Facts) {
    let section = pool.cluster.load().name.clone();
    let supervisor = facts.memory.clusters.lock().get(&section).cloned();
    if let Some(supervisor) = supervisor {
        crate::router::stop(&supervisor, herald_name(pool));
    }
}

/// What the herald of a pool is called among its siblings.
pub(crate) fn herald_name(pool: &Pool) -> String {
    let key = &pool.key;
    format!("herald {}/{} #{}", key.database, key.user, pool.number)
}

/// The herald of a pool as a child. It ends by itself only when another takes its place, or there is no
/// pool any more.
fn herald_child(pool: &Arc<Pool>, facts: &Arc<Facts>) -> ChildSpec {
    let arguments = HeraldArguments {
        pool: Arc::clone(pool),
        facts: Arc::clone(facts),
    };
    ChildSpec::transient(herald_name(pool), move |parent| {
        linked(parent, Tasked(Herald), arguments.clone())
    })
}

/// What the actor of a pool is called among its siblings.
pub(crate) fn child_name(pool: &Pool) -> String {
    let (key, number) = (&pool.key, pool.number);
    match &key.reader {
        Some(host) => format!("pool {}/{} at {host} #{number}", key.database, key.user),
        None => format!("pool {}/{} #{number}", key.database, key.user),
    }
}

/// The actor of a pool as a child.
pub(crate) fn pool_child(pool: &Arc<Pool>, facts: &Arc<Facts>) -> ChildSpec {
    let heartbeat = Heartbeat::new(BEAT);
    let arguments = PoolArguments {
        pool: Arc::clone(pool),
        facts: Arc::clone(facts),
        heartbeat: heartbeat.clone(),
    };
    ChildSpec::permanent(child_name(pool), move |parent| {
        linked(parent, PoolManager, arguments.clone())
    })
    .heartbeat(heartbeat)
}
