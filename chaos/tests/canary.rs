//! Two hundred clients on four servers, and each hears only what it asked for.

use std::env;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pgherd_chaos::checks::Wrong;
use pgherd_chaos::checks::identity::Identity;
use pgherd_chaos::proxy::Proxy;
use pgherd_chaos::workloads::canary::prepared::Prepared;
use pgherd_chaos::workloads::canary::state::{Leave, ROLE, State};
use pgherd_chaos::workloads::canary::{Canary, TABLE};
use pgherd_sandbox::{Binaries, Options, Pgbouncer, Server};

/// How long the clients ask, in seconds; unless this variable says otherwise, 20.
const SECONDS: &str = "PGHERD_CHAOS_SECONDS";
/// Repeats a run, as far as chance decides; its number is printed.
const SEED: &str = "PGHERD_CHAOS_SEED";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_reaches_the_wrong_client() {
    let server = Server::builder(&Binaries::find().unwrap())
        .start()
        .await
        .unwrap();
    server.sql(TABLE).await.unwrap();
    let proxy = Proxy::start(
        crate::EXECUTABLE,
        &format!(
            "[auth]\nmethod = \"trust\"\n\
         [pool]\nsize = 4\n\
         [timeouts]\ncheckout_notice = 0\n\
         [workers]\ncount = 2\n\
         [log]\nlevel = \"warn\"\n\
         [databases.postgres]\nhosts = [\"127.0.0.1:{}\"]\n\
         [users.postgres]\n",
            server.port(),
        ),
    );
    let seconds = env::var(SECONDS).map_or(20, |text| text.parse().unwrap());
    let seed = env::var(SEED).map_or_else(|_| rand::random(), |text| text.parse().unwrap());
    println!("{SEED}={seed}");
    let canary = Canary {
        clients: 200,
        time: Duration::from_secs(seconds),
        seed,
    };
    let identity = canary.run(&proxy.client("postgres", "", "postgres")).await;
    let (right, cancelled) = (identity.right(), identity.cancelled());
    println!("{right} right answers, {cancelled} cancelled by their own clients");
    assert_eq!(identity.faults(), Vec::<Wrong>::new(), "{SEED}={seed}");
    assert!(
        right > 1000 && cancelled > 10,
        "too little happened: {right}, {cancelled}"
    );
    // What the clients left behind is in order.
    let busy = "select count(*) from pg_stat_activity \
                where backend_type = 'client backend' and pid <> pg_backend_pid() \
                and state <> 'idle'";
    assert_eq!(server.sql(busy).await.unwrap(), "0");
}

/// What Postgres itself does must be right, or the canary asks for more than that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_itself_passes() {
    let server = Server::builder(&Binaries::find().unwrap())
        .start()
        .await
        .unwrap();
    server.sql(TABLE).await.unwrap();
    let canary = Canary {
        clients: 24,
        time: Duration::from_secs(3),
        seed: rand::random(),
    };
    let mut config = tokio_postgres::Config::new();
    config
        .host("127.0.0.1")
        .port(server.port())
        .user("postgres")
        .dbname("postgres");
    let identity = canary.run(&config).await;
    assert_eq!(identity.faults(), Vec::<Wrong>::new());
    assert!(identity.right() > 100, "too little happened");
}

/// How long a canary of sessions' state sings, in seconds, unless [`SECONDS`] says otherwise.
const SHORT: u64 = 8;

/// A server, and a proxy that has few connections to it.
async fn few_connections(prepare: &str) -> (Proxy, Server) {
    let server = Server::builder(&Binaries::find().unwrap())
        .start()
        .await
        .unwrap();
    server.sql(prepare).await.unwrap();
    let configuration = format!(
        "[auth]\nmethod = \"trust\"\n\
         [pool]\nsize = 3\n\
         [timeouts]\ncheckout_notice = 0\n\
         [workers]\ncount = 2\n\
         [log]\nlevel = \"warn\"\n\
         [databases.postgres]\nhosts = [\"127.0.0.1:{}\"]\n\
         [users.postgres]\n",
        server.port(),
    );
    (Proxy::start(crate::EXECUTABLE, &configuration), server)
}

/// The time and the seed of a run, which it prints.
fn chance() -> (Duration, u64) {
    let seconds = env::var(SECONDS).map_or(SHORT, |text| text.parse().unwrap());
    let seed = env::var(SEED).map_or_else(|_| rand::random(), |text| text.parse().unwrap());
    println!("{SEED}={seed}");
    (Duration::from_secs(seconds), seed)
}

/// Lets clients do to their sessions what they like, and some of them leave; gives how many looks were
/// right.
async fn states_stay_apart(leave: Leave) -> u64 {
    let (proxy, _server) = few_connections(ROLE).await;
    let (time, seed) = chance();
    let state = State {
        clients: 12,
        time,
        seed,
        leave,
    };
    let identity = state.run(proxy.address()).await;
    assert_eq!(identity.faults(), Vec::<Wrong>::new(), "{SEED}={seed}");
    identity.right()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_client_sees_the_state_of_another() {
    let right = states_stay_apart(Leave::Outside).await;
    assert!(right > 300, "too little happened");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_that_is_left_takes_its_settings_along() {
    let right = states_stay_apart(Leave::Anywhere).await;
    assert!(right > 300, "too little happened");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_client_runs_its_own_statements() {
    let (proxy, _server) = few_connections("").await;
    let (time, seed) = chance();
    let prepared = Prepared {
        clients: 12,
        time,
        seed,
    };
    let identity = prepared.run(proxy.address()).await;
    assert_eq!(identity.faults(), Vec::<Wrong>::new(), "{SEED}={seed}");
    assert!(identity.right() > 300, "too little happened");
}

/// What Postgres itself does must be right, or the canaries ask for more than that.
/// A few clients of both kinds, for a moment, before whatever is there.
async fn both(address: SocketAddr, seed: u64) -> [Arc<Identity>; 2] {
    let (clients, time) = (6, Duration::from_secs(2));
    let state = State {
        clients,
        time,
        seed,
        leave: Leave::Anywhere,
    };
    let prepared = Prepared {
        clients,
        time,
        seed,
    };
    [state.run(address).await, prepared.run(address).await]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_itself_keeps_state_and_statements_apart() {
    let server = Server::builder(&Binaries::find().unwrap())
        .start()
        .await
        .unwrap();
    server.sql(ROLE).await.unwrap();
    let address = ([127, 0, 0, 1], server.port()).into();
    let seed = rand::random();
    for identity in both(address, seed).await {
        assert_eq!(identity.faults(), Vec::<Wrong>::new(), "{SEED}={seed}");
        assert!(identity.right() > 100, "too little happened");
    }
}

/// A pool that gives sessions no care mixes them up, and the canaries must tell.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_that_mixes_sessions_up_is_caught() {
    let server = Server::builder(&Binaries::find().unwrap())
        .start()
        .await
        .unwrap();
    server.sql(ROLE).await.unwrap();
    let options = Options {
        pool_size: 3,
        ..Options::default()
    };
    let pool = Pgbouncer::start(&server, &options).await.unwrap();
    let address = ([127, 0, 0, 1], pool.port()).into();
    let seed = rand::random();
    for identity in both(address, seed).await {
        assert_ne!(identity.faults(), Vec::<Wrong>::new(), "{SEED}={seed}");
    }
}
