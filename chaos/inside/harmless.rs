//! Actors whose crash costs no client anything: all but sessions, those who supervise them, and the
//! root.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pgherd_actors::config::ConfigMessage;
use pgherd_chaos::checks::Wrong;
use pgherd_chaos::workloads::canary::Canary;
use pgherd_sandbox::Server;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_postgres::NoTls;

use crate::house::{self, House};
use crate::load::Load;
use crate::{ALONE, Blow, PATIENCE};

/// By their paths from the root, the listener without its address.
pub(crate) const HARMLESS: [&str; 15] = [
    "root/config",
    "root/aux",
    "root/aux/totals",
    "root/aux/http",
    "root/router",
    "root/cluster postgres",
    "root/cluster postgres/hosts",
    "root/cluster postgres/pools",
    "root/cluster postgres/pools/pool postgres/postgres",
    "root/cluster postgres/pools/pool postgres/postgres/*",
    "root/cluster postgres/pools/herald postgres/postgres",
    "root/transactions",
    "root/transactions/coordinators",
    "root/transactions/recovery",
    "root/front/listener",
];

/// The root bears three restarts a minute, so those of its children take turns in two proxies.
const ROUNDS: [&[&str]; 2] = [
    &[
        "root/cluster postgres/pools/pool postgres/postgres",
        "root/cluster postgres/pools",
        "root/cluster postgres/hosts",
        "root/cluster postgres",
        "root/router",
        "root/config",
    ],
    &[
        "root/aux/totals",
        "root/aux/http",
        "root/aux",
        "root/transactions/recovery",
        "root/transactions/coordinators",
        "root/transactions",
        "root/front/listener",
        "root/cluster postgres/pools/pool postgres/postgres",
    ],
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_actors_cost_no_client_anything() {
    nobody_notices(Blow::Kill).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn panicking_actors_cost_no_client_anything() {
    nobody_notices(Blow::Panic).await;
}

/// Each is struck while clients come and go, cancel and vanish: the tree shows its restart, it does
/// its work again, no client notices, and nothing is left behind.
async fn nobody_notices(blow: Blow) {
    let _alone = ALONE.lock().await;
    let server = house::server().await;
    for round in ROUNDS {
        let house = House::before(&server);
        house.visit("postgres").await;
        let quiet = house.quiet(&server).await;
        let canaries = Canaries::start(&house);
        let load = Load::start(&house, 4).await;
        for path in round {
            let path = match *path {
                "root/front/listener" => format!("{path} {}", house.address),
                path => path.to_owned(),
            };
            house.strike_and_await_restart(&path, blow).await;
            load.progress().await;
        }
        load.stop().await;
        canaries.stop().await;
        everything_works(&house, &server).await;
        house.settle(&server, &quiet).await;
        house.end().await;
    }
}

/// The life of a connection's actor is not the connection's: it goes on, in the hands of sessions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_outlive_their_actors() {
    let _alone = ALONE.lock().await;
    let server = house::server().await;
    let house = House::before(&server);
    house.visit("postgres").await;
    let quiet = house.quiet(&server).await;
    let load = Load::start(&house, 8).await;
    let path = "root/cluster postgres/pools/pool postgres/postgres/*";
    while house.connections().1 < house::SIZE {
        load.progress().await;
    }
    let opened = house.connections();
    for blow in [Blow::Kill, Blow::Panic] {
        house.strike(&house.find(path).await, blow).await;
        load.progress().await;
    }
    load.stop().await;
    assert_eq!(house.connections(), opened, "none was lost or replaced");
    // Those without an actor end as the others do.
    house.settle(&server, &quiet).await;
    house.end().await;
    gone(&server).await;
}

/// The server has no connections any more.
async fn gone(server: &Server) {
    let deadline = Instant::now() + PATIENCE;
    while !server.backend_pids().await.unwrap().is_empty() {
        assert!(Instant::now() < deadline, "connections stay");
    }
}

/// The pool opens connections, the router makes pools, the configuration reloads, the endpoint
/// answers.
async fn everything_works(house: &House, server: &Server) {
    let end = "select pg_terminate_backend(pid) from pg_stat_activity \
               where backend_type = 'client backend' and pid <> pg_backend_pid()";
    server.sql(end).await.unwrap();
    gone(server).await;
    for user in ["postgres", "other"] {
        house.visit(user).await;
    }
    let configuration = &house.facts.configuration;
    let reload = configuration.call(ConfigMessage::Reload, PATIENCE).await;
    assert!(reload.unwrap().unwrap().changes.is_empty());
    let ready = timeout(PATIENCE, fetch(house, "/readyz")).await.unwrap();
    assert!(ready.ends_with("ready\n"), "{ready}");
}

async fn fetch(house: &House, path: &str) -> String {
    let mut stream = TcpStream::connect(house.metrics).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Empties the canaries' table, since the next ones have the names of the last.
async fn forget(client: &tokio_postgres::Config) {
    let (client, connection) = client.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute("truncate canary").await.unwrap();
}

/// Clients of all manners, as long as they are wanted.
pub(crate) struct Canaries {
    wanted: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<u64>,
}

impl Canaries {
    pub(crate) fn start(house: &House) -> Self {
        let wanted = Arc::new(AtomicBool::new(true));
        let (still, client) = (Arc::clone(&wanted), house.client("postgres"));
        let task = tokio::spawn(async move {
            let mut right = 0;
            while still.load(Ordering::Relaxed) {
                let canary = Canary {
                    clients: 12,
                    time: Duration::from_secs(1),
                    seed: rand::random(),
                };
                let identity = canary.run(&client).await;
                assert_eq!(identity.faults(), Vec::<Wrong>::new(), "{canary:?}");
                right += identity.right();
                forget(&client).await;
            }
            right
        });
        Self { wanted, task }
    }

    pub(crate) async fn stop(self) {
        self.wanted.store(false, Ordering::Relaxed);
        let right = timeout(PATIENCE, self.task).await.unwrap().unwrap();
        assert!(right > 100, "too little happened: {right}");
    }
}
