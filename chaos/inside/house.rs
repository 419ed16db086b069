//! A proxy in this process before a real server, its tree, and what it holds.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pgherd_actors::chaos;
use pgherd_actors::config::ConfigMessage;
use pgherd_actors::facts::Facts;
use pgherd_actors::workers::Workers;
use pgherd_actors::{Curtain, Ending, Outcome, Proxy};
use pgherd_chaos::rig::configuration;
use pgherd_config::{Config, LoadInput, Overrides};
use pgherd_sandbox::{Binaries, Server, free_port};
use pgherd_supervise::reach::Living;
use pgherd_supervise::{NodeState, SupervisorMessage, TreeNode};
use ractor::ActorCell;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::NoTls;

use crate::patroni::Patroni;
use crate::{Blow, PATIENCE};

/// How often it is looked whether something has happened.
pub(crate) const TICK: Duration = Duration::from_millis(5);

/// A blow leaves so many timers of the dead behind at most, for some seconds; a pool has as many
/// tasks.
const LATE: usize = 4;

/// How many connections each pool has at most.
pub(crate) const SIZE: usize = 4;

/// A server with a table for canaries, which everybody may use.
pub(crate) async fn server() -> Server {
    let server = Server::builder(&Binaries::find().unwrap());
    let server = server.start().await.unwrap();
    server
        .sql(pgherd_chaos::workloads::canary::TABLE)
        .await
        .unwrap();
    server.create_user("other", "x").await.unwrap();
    server
}

/// Such a server and its replica.
pub(crate) async fn pair() -> (Server, Server) {
    let primary = server().await;
    let replica = primary.replica().await.unwrap();
    replica.caught_up(&primary).await.unwrap();
    (primary, replica)
}

/// What the configuration says of a database with these hosts.
pub(crate) fn hosts(hosts: &[(&str, u16)]) -> String {
    let hosts: Vec<String> = hosts
        .iter()
        .map(|(host, port)| format!("\"{host}:{port}\""))
        .collect();
    format!("hosts = [{}]", hosts.join(", "))
}

/// Such hosts by their addresses.
fn addresses(ports: &[u16]) -> String {
    let all: Vec<_> = ports.iter().map(|port| ("127.0.0.1", *port)).collect();
    hosts(&all)
}

/// A running proxy.
pub(crate) struct House {
    pub(crate) facts: Arc<Facts>,
    pub(crate) address: SocketAddr,
    pub(crate) metrics: SocketAddr,
    workers: Arc<Workers>,
    curtain: Curtain,
    running: JoinHandle<Outcome>,
    strikes: AtomicUsize,
    file: PathBuf,
    more: String,
    _home: tempfile::TempDir,
}

/// What is there when nobody uses the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Quiet {
    held: Held,
    /// Tasks but those of sessions and of server connections.
    tasks: usize,
}

/// What is the same whenever nobody uses the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Held {
    /// Actors but sessions, pools and their connections, by their paths.
    actors: Vec<String>,
    /// Descriptors of this process but those of idle server connections.
    descriptors: usize,
    /// Tasks where sessions live.
    session_tasks: usize,
    /// Connections as the server counts them, but idle ones.
    strays: usize,
    /// Sessions and their actors, leases, waiters, and connections being opened.
    busy: usize,
}

impl House {
    /// Starts a proxy with two workers.
    pub(crate) fn before(server: &Server) -> Self {
        Self::with(server, "")
    }

    /// Starts such a proxy with more tables in its configuration.
    pub(crate) fn with(server: &Server, more: &str) -> Self {
        Self::of(&addresses(&[server.port()]), more)
    }

    /// Starts such a proxy where there is no server, and nobody comes.
    pub(crate) fn before_nobody() -> Self {
        Self::of(&addresses(&[free_port()]), "")
    }

    /// Starts such a proxy before a server and its replica.
    pub(crate) fn between(server: &Server, replica: &Server) -> Self {
        Self::of(&addresses(&[server.port(), replica.port()]), "")
    }

    /// Starts such a proxy that reads from the replica.
    pub(crate) fn reading(server: &Server, replica: &Server) -> Self {
        let more = "[reads]\nfrom = \"replicas\"\n";
        Self::of(&addresses(&[server.port(), replica.port()]), more)
    }

    /// Starts such a proxy that is told by Patroni which servers there are.
    pub(crate) fn told_by(patroni: &Patroni) -> Self {
        let source = format!("patroni = [\"http://127.0.0.1:{}\"]", patroni.port);
        Self::of(&source, "")
    }

    /// Starts such a proxy before a database of which the configuration says `place`, with more tables.
    pub(crate) fn of(place: &str, more: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("pgherd.toml");
        let metrics = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let more = format!(
            "[pool]\nsize = {SIZE}\n[workers]\ncount = 2\n[timeouts]\ncheckout_notice = 0\n\
             [metrics]\nlisten = \"{metrics}\"\n[users.other]\npassword = \"x\"\n{more}"
        );
        fs::write(&file, text(place, &more)).unwrap();
        let input = LoadInput {
            file: Some(file.clone()),
            overrides: Overrides {
                listen: Some("127.0.0.1:0".to_owned()),
                ..Overrides::default()
            },
            ..LoadInput::default()
        };
        let loaded = Config::load(&input).unwrap();
        let curtain = Curtain::default();
        let proxy = Proxy::bind(loaded.config, input, curtain.clone()).unwrap();
        Self {
            facts: Arc::clone(proxy.facts()),
            address: proxy.addresses()[0],
            metrics,
            workers: Arc::clone(proxy.workers()),
            curtain,
            running: tokio::spawn(proxy.run()),
            strikes: AtomicUsize::new(0),
            file,
            more,
            _home: home,
        }
    }

    /// Has the configuration say `place` of the database from now on.
    pub(crate) async fn rewrite(&self, place: &str) {
        fs::write(&self.file, text(place, &self.more)).unwrap();
        let reload = self
            .facts
            .configuration
            .call(ConfigMessage::Reload, PATIENCE);
        assert!(!reload.await.unwrap().unwrap().changes.is_empty());
    }

    /// Settings for a client.
    pub(crate) fn client(&self, user: &str) -> tokio_postgres::Config {
        let mut client = tokio_postgres::Config::new();
        client
            .host("127.0.0.1")
            .port(self.address.port())
            .user(user)
            .dbname("postgres");
        client
    }

    /// Logs in, asks something, and leaves.
    pub(crate) async fn visit(&self, user: &str) {
        let visit = async {
            let (client, connection) = self.client(user).connect(NoTls).await.unwrap();
            let connection = tokio::spawn(connection);
            let row = client.query_one("select 42", &[]).await.unwrap();
            assert_eq!(row.get::<_, i32>(0), 42);
            drop(client);
            connection.await.unwrap().unwrap();
        };
        timeout(PATIENCE, visit)
            .await
            .expect("a visitor is served in time");
    }

    /// All actors of the moment.
    pub(crate) async fn living(&self) -> Vec<Living> {
        chaos::living(&self.facts).await
    }

    /// The actor at a path; of several the first.
    pub(crate) async fn find(&self, path: &str) -> ActorCell {
        let mut living = self.living().await;
        match living
            .iter()
            .position(|actor| unnumbered(&actor.path) == path)
        {
            Some(index) => living.swap_remove(index).cell,
            None => panic!("no {path} among {:?}", paths(&living)),
        }
    }

    /// Deals an actor a blow, and waits until it is gone.
    pub(crate) async fn strike(&self, actor: &ActorCell, blow: Blow) {
        self.strikes.fetch_add(1, Ordering::Relaxed);
        match blow {
            Blow::Kill => actor.kill(),
            Blow::Panic => assert!(chaos::crash(actor), "it cannot be made to panic"),
        }
        actor.wait(Some(PATIENCE)).await.expect("it ends");
    }

    /// Deals the actor at a path a blow, and waits until the tree shows that it was started again
    /// and why, and all of the tree runs.
    pub(crate) async fn strike_and_await_restart(&self, path: &str, blow: Blow) {
        let before = self.node(path).await.restarts;
        self.strike(&self.find(path).await, blow).await;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let tree = self.tree().await;
            let runs = tree
                .iter()
                .all(|(_, node)| node.state == NodeState::Running);
            if let Some((_, node)) = tree.iter().find(|(at, _)| unnumbered(at) == path)
                && runs
                && node.restarts == before + 1
            {
                let why = node.last_failure.as_deref().unwrap_or_default();
                assert!(why.contains(blow.reason()), "{path} failed with {why:?}");
                return;
            }
            assert!(Instant::now() < deadline, "no restart of {path}: {tree:?}");
            sleep(TICK).await;
        }
    }

    /// Waits until there is an actor at a path.
    pub(crate) async fn lives(&self, path: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !paths(&self.living().await).iter().any(|at| at == path) {
            assert!(Instant::now() < deadline, "there is no {path}");
            sleep(TICK).await;
        }
    }

    /// What the tree says of the actor at a path.
    pub(crate) async fn node(&self, path: &str) -> TreeNode {
        let tree = self.tree().await;
        match tree.iter().find(|(at, _)| unnumbered(at) == path) {
            Some((_, node)) => node.clone(),
            None => panic!("no {path} in {tree:?}"),
        }
    }

    /// The nodes of the tree with their paths.
    pub(crate) async fn tree(&self) -> Vec<(String, TreeNode)> {
        let root = &self.facts.root;
        let tree = root.call(SupervisorMessage::Tree, PATIENCE).await;
        let mut nodes = vec![("root".to_owned(), tree.expect("the tree"))];
        let mut next = 0;
        while let Some((path, node)) = nodes.get(next) {
            let below = node.children.iter();
            let below: Vec<_> = below
                .map(|child| (format!("{path}/{}", child.name), child.clone()))
                .collect();
            nodes.extend(below);
            next += 1;
        }
        nodes
    }

    /// How many connections were opened so far, and how many are open.
    pub(crate) fn connections(&self) -> (u64, usize) {
        let mut counts = (0, 0);
        for pool in self.facts.routes.load().values() {
            let snapshot = pool.core.snapshot(std::time::Instant::now());
            counts.0 += snapshot.opened;
            counts.1 += snapshot.idle + snapshot.leased;
        }
        counts
    }

    /// What is there, once nobody uses the proxy and it has been so for two looks.
    pub(crate) async fn quiet(&self, server: &Server) -> Quiet {
        let deadline = Instant::now() + PATIENCE;
        let mut before = None;
        loop {
            let now = self.look(server).await;
            if now.held.busy == 0 && before.as_ref() == Some(&now) {
                return now;
            }
            assert!(Instant::now() < deadline, "no rest: {now:?}");
            before = Some(now);
            sleep(TICK).await;
        }
    }

    /// Waits until all is as it was, but for the pools that have come, and timers that the dead have
    /// left behind.
    pub(crate) async fn settle(&self, server: &Server, quiet: &Quiet) {
        let deadline = Instant::now() + PATIENCE;
        let late = LATE * (1 + self.strikes.load(Ordering::Relaxed));
        loop {
            let now = self.look(server).await;
            if now.held == quiet.held && now.tasks <= quiet.tasks + late {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "left behind: {now:?} for {quiet:?}"
            );
            sleep(TICK).await;
        }
    }

    async fn look(&self, server: &Server) -> Quiet {
        let (mut idle, mut busy) = (0, self.facts.sessions.count());
        for pool in self.facts.routes.load().values() {
            let snapshot = pool.core.snapshot(std::time::Instant::now());
            idle += snapshot.idle;
            busy += snapshot.leased + snapshot.waiting + snapshot.opening;
        }
        busy += self.facts.sessions.logins.count();
        let backends = server.backend_pids().await.unwrap();
        let mut actors = paths(&self.living().await);
        let nameless = |path: &String, below: &str| path.contains(below) && path.ends_with("/*");
        busy += actors
            .iter()
            .filter(|path| nameless(path, "/sessions "))
            .count();
        let connections = actors
            .iter()
            .filter(|path| nameless(path, "/pools/"))
            .count();
        actors.retain(|path| !path.contains("/pools/") && !nameless(path, "/sessions "));
        let held = Held {
            actors,
            descriptors: descriptors().saturating_sub(idle),
            session_tasks: self.workers.tasks(),
            strays: backends.len().saturating_sub(idle),
            busy,
        };
        let tasks = Handle::current().metrics().num_alive_tasks();
        Quiet {
            held,
            // Each is an actor and the task that it owns.
            tasks: tasks.saturating_sub(2 * connections),
        }
    }

    /// Ends the proxy in an orderly way.
    pub(crate) async fn end(self) {
        self.curtain.ask(Ending::AtOnce);
        assert_eq!(self.outcome().await, Outcome::Ended);
    }

    /// How the proxy ends.
    pub(crate) async fn outcome(self) -> Outcome {
        let ended = timeout(PATIENCE, self.running).await;
        ended.expect("it ends in time").unwrap()
    }
}

/// A configuration that says `place` of its database.
fn text(place: &str, more: &str) -> String {
    configuration(0, more).replace(&addresses(&[0]), place)
}

/// A path without the numbers by which actors of pools are told apart.
pub(crate) fn unnumbered(path: &str) -> String {
    let mut parts = path.split(" #");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    parts.for_each(|part| {
        plain.push_str(part.trim_start_matches(|sign: char| sign.is_ascii_digit()))
    });
    plain
}

/// The paths of actors.
pub(crate) fn paths(living: &[Living]) -> Vec<String> {
    living.iter().map(|actor| actor.path.clone()).collect()
}

/// How many descriptors this process has open.
pub(crate) fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// The threads of this process on which sessions live.
pub(crate) fn worker_threads() -> usize {
    let threads = fs::read_dir("/proc/self/task").unwrap();
    let names =
        threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with("worker-")).count()
}
