//! Which of several replicas is read from, and which is not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pgherd_sandbox::Server;
use pgherd_tests::{connect, until};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

use super::{Fleet, WHERE, reads_on, settled, spread};

/// What is read from them is what was there when it was taken off: it gets no further, and the primary does.
#[tokio::test]
async fn a_replica_too_far_behind_is_left_out_until_it_has_caught_up() {
    let fleet = Fleet::new().await;
    let (primary, replica) = (fleet.primary.port(), fleet.replica.port());
    let ports = [primary, replica];
    let reads = "[reads]\nfrom = \"replicas\"\n";
    let patient = fleet.proxy(&ports, reads).await;
    let patient = fleet.client(&patient).await;
    settled(&patient, &fleet).await;
    for (round, bound) in ["max_lag_bytes = 10_000", "max_lag = \"500ms\""]
        .into_iter()
        .enumerate()
    {
        let proxy = fleet.proxy(&ports, &format!("{reads}{bound}\n")).await;
        let (client, reader) = (fleet.client(&proxy).await, fleet.client(&proxy).await);
        let console = connect(&proxy.url("app", "pgherd")).await;
        settled(&client, &fleet).await;
        reader.batch_execute("begin read only").await.unwrap();
        assert!(reads_on(&reader, replica).await);
        fleet
            .replica
            .sql("select pg_wal_replay_pause()")
            .await
            .unwrap();
        let rows = "insert into acked select generate_series(1, 1000)";
        fleet.primary.sql(rows).await.unwrap();
        until(&format!("it is left out by {bound}"), async || {
            reads_on(&client, primary).await
        })
        .await;
        let row = fleet.host(&console, replica).await;
        assert_eq!(row.get("reads"), Some("no: behind"), "{row:?}");
        assert_eq!(row.get("health"), Some("well"), "{row:?}");
        let count = "select count(*) / 1000 from acked";
        for _ in 0..20 {
            assert_eq!(client.one(count).await, (round + 1).to_string());
        }
        // Who reads there may finish, and whom it does not bother reads there.
        assert!(reads_on(&reader, replica).await);
        assert_eq!(reader.one(count).await, round.to_string());
        reader.batch_execute("commit").await.unwrap();
        assert!(reads_on(&patient, replica).await);
        assert_eq!(patient.one(count).await, round.to_string());
        fleet
            .replica
            .sql("select pg_wal_replay_resume()")
            .await
            .unwrap();
        settled(&client, &fleet).await;
        assert_eq!(client.one(count).await, (round + 1).to_string());
        let row = fleet.host(&console, replica).await;
        assert_eq!(row.get("reads"), Some("yes"), "{row:?}");
    }
}

/// A fleet with one replica more.
async fn two_replicas() -> (Fleet, Server) {
    let fleet = Fleet::new().await;
    let other = fleet.primary.replica().await.unwrap();
    other.caught_up(&fleet.primary).await.unwrap();
    (fleet, other)
}

#[tokio::test]
async fn hosts_are_read_from_in_turn() {
    let (fleet, other) = two_replicas().await;
    let (one, two) = (fleet.replica.port(), other.port());
    let more = "[reads]\nfrom = \"replicas\"\nstrategy = \"round_robin\"";
    let proxy = fleet.proxy(&[fleet.primary.port(), one, two], more).await;
    let client = fleet.client(&proxy).await;
    let in_turn = |reads: &[u16]| {
        let alternate = reads.windows(2).all(|pair| pair[0] != pair[1]);
        alternate && reads.iter().all(|port| [one, two].contains(port))
    };
    until("both are read from", async || {
        in_turn(&spread(&client, 2).await)
    })
    .await;
    let reads = spread(&client, 100).await;
    assert!(in_turn(&reads), "{reads:?}");
    // All who read have one turn.
    let second = fleet.client(&proxy).await;
    for _ in 0..20 {
        let pair = [spread(&client, 1).await, spread(&second, 1).await].concat();
        assert!(in_turn(&pair), "{pair:?}");
    }
}

/// A way to a server that takes some milliseconds longer there.
struct Detour {
    port: u16,
    longer: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Detour {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Detour {
    async fn to(server: &Server) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, server) = (socket.local_addr().unwrap().port(), server.port());
        let longer: Arc<AtomicU64> = Arc::default();
        let wait = Arc::clone(&longer);
        let task = tokio::spawn(async move {
            while let Ok((near, _)) = socket.accept().await {
                let Ok(far) = TcpStream::connect(("127.0.0.1", server)).await else {
                    continue;
                };
                let ((from, back), (answers, to)) = (near.into_split(), far.into_split());
                tokio::spawn(carry(from, to, Arc::clone(&wait)));
                tokio::spawn(carry(answers, back, Arc::default()));
            }
        });
        Self { port, longer, task }
    }

    fn takes(&self, milliseconds: u64) {
        self.longer.store(milliseconds, Ordering::Relaxed);
    }
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, longer: Arc<AtomicU64>) {
    let mut bytes = [0; 8192];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        // What the length of a way is made of.
        sleep(Duration::from_millis(longer.load(Ordering::Relaxed))).await;
        if to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn the_host_that_answers_faster_is_read_from() {
    let (fleet, other) = two_replicas().await;
    let ways = [Detour::to(&fleet.replica).await, Detour::to(&other).await];
    let ports = [fleet.primary.port(), ways[0].port, ways[1].port];
    let more = "[reads]\nfrom = \"replicas\"\nstrategy = \"latency\"";
    let proxy = fleet.proxy(&ports, more).await;
    let client = fleet.client(&proxy).await;
    for (near, far) in [(0, 1), (1, 0), (0, 1)] {
        ways[near].takes(0);
        ways[far].takes(100);
        let there = [fleet.replica.port(), other.port()][near];
        // A look that had to wait for the machine may speak for the other one, until the next.
        until("the faster one is read from", async || {
            spread(&client, 30).await == [there; 30]
        })
        .await;
    }
}

/// It lets nobody in any more, and so cannot be looked at; who is in is answered.
#[tokio::test]
async fn the_best_of_ill_replicas_is_the_last_resort() {
    let mut fleet = Fleet::new().await;
    let (primary, replica) = (fleet.primary.port(), fleet.replica.port());
    // Else it would be left for good where this test gets no time to read for a while.
    let more = "[reads]\nfrom = \"replicas\"\n[failover]\nevidence = \"20s\"";
    let proxy = fleet.proxy(&[primary, replica], more).await;
    let client = fleet.client(&proxy).await;
    let console = connect(&proxy.url("app", "pgherd")).await;
    settled(&client, &fleet).await;
    // One of whom it is certain that it wrote nothing, from its first statement on.
    let client = fleet.client(&proxy).await;
    let inside = connect(&fleet.replica.url("postgres", "postgres")).await;
    fleet.primary.kill9();
    assert!(reads_on(&client, replica).await);
    let postmaster = fleet.replica.pid().unwrap().try_into().ok();
    let postmaster = postmaster.and_then(Pid::from_raw).unwrap();
    kill_process(postmaster, Signal::STOP).unwrap();
    let lookers = "select count(pg_terminate_backend(pid)) from pg_stat_activity \
                   where query like '%pg_control_system%' and pid <> pg_backend_pid()";
    assert_ne!(inside.one(lookers).await, "0");
    let offered = async || {
        let row = fleet.host(&console, replica).await;
        (row.get("health") == Some("ill")).then(|| row.get("reads").unwrap().to_owned())
    };
    until("it looks ill", async || {
        assert!(reads_on(&client, replica).await);
        offered().await.is_some()
    })
    .await;
    assert_eq!(offered().await.as_deref(), Some("last resort"));
    proxy.logged("no replica is well", 1).await;
    for _ in 0..20 {
        assert_eq!(client.one(WHERE).await, replica.to_string());
    }
    // A primary that works is better.
    fleet.primary.restart().await.unwrap();
    until("reads go to the primary", async || {
        reads_on(&client, primary).await
    })
    .await;
    assert_eq!(spread(&client, 20).await, [primary; 20]);
    kill_process(postmaster, Signal::CONT).unwrap();
    settled(&client, &fleet).await;
}
