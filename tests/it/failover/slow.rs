//! Servers that are far away: each byte is under way for some time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use pgherd_tests::{connect, until};

use super::fleet::Fleet;
use crate::retries::node::Node;

/// Everything takes so long each way.
const AWAY: Duration = Duration::from_millis(60);

/// How long everything takes each way, in milliseconds.
type Away = Arc<AtomicU64>;

/// Opens a port that leads to another from far away; both end with the tasks.
async fn far(port: u16, tasks: &mut JoinSet<()>) -> u16 {
    let away = u64::try_from(AWAY.as_millis()).unwrap();
    let away = Arc::new(AtomicU64::new(away));
    at_times_far(port, &away, &away, tasks).await
}

/// The same, where that may change, and what comes back may take another time.
async fn at_times_far(port: u16, there: &Away, back: &Away, tasks: &mut JoinSet<()>) -> u16 {
    let (there, back) = (Arc::clone(there), Arc::clone(back));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let here = listener.local_addr().unwrap().port();
    tasks.spawn(async move {
        let mut links = JoinSet::new();
        while let Ok((client, _)) = listener.accept().await {
            let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else {
                continue;
            };
            let (client, server) = (client.into_split(), server.into_split());
            links.spawn(carry(client.0, server.1, Arc::clone(&there)));
            links.spawn(carry(server.0, client.1, Arc::clone(&back)));
        }
    });
    here
}

async fn carry(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    away: Away,
) {
    let (send, mut carried) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let read = async move {
        let mut room = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = from.read(&mut room).await {
            let away = Duration::from_millis(away.load(Ordering::SeqCst));
            let _ = send.send((Instant::now() + away, room[..count].to_vec()));
        }
    };
    let write = async move {
        while let Some((due, bytes)) = carried.recv().await {
            tokio::time::sleep_until(due.into()).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(read, write);
}

/// No look is answered in time, and each is answered.
#[tokio::test]
async fn a_primary_that_answers_late_is_not_taken_for_none() {
    let fleet = Fleet::new().await;
    let mut tasks = JoinSet::new();
    let ports = [
        far(fleet.primary.port(), &mut tasks).await,
        far(fleet.replica.port(), &mut tasks).await,
    ];
    let more = "[failover]\nprobe = \"200ms\"\nprobe_timeout = \"100ms\"\nevidence = \"2s\"\n\
                [timeouts]\nhold = \"6s\"\n";
    let proxy = fleet.proxy(&ports, more).await;
    let client = fleet.client(&proxy).await;
    let begun = Instant::now();
    let mut slowest = Duration::ZERO;
    // For longer than anything that was seen is believed.
    while begun.elapsed() < Duration::from_secs(5) {
        let asked = Instant::now();
        client
            .batch_execute("insert into acked values (1)")
            .await
            .unwrap();
        if begun.elapsed() > Duration::from_secs(2) {
            slowest = slowest.max(asked.elapsed());
        }
    }
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
}

/// It is read from no more, as if it were ill, but it does what it was asked to do.
#[tokio::test]
async fn who_reads_from_a_replica_that_has_too_much_to_do_may_finish() {
    const ROWS: usize = 300;
    let fleet = Fleet::new().await;
    let mut tasks = JoinSet::new();
    let away = Away::default();
    let replica = fleet.replica.port();
    let replica = at_times_far(replica, &away, &Away::default(), &mut tasks).await;
    let more = "[failover]\nprobe = \"200ms\"\nprobe_timeout = \"100ms\"\n\
                [reads]\nfrom = \"replicas\"\n";
    let proxy = fleet.proxy(&[fleet.primary.port(), replica], more).await;
    let (busy, client) = (fleet.client(&proxy).await, fleet.client(&proxy).await);
    let console = connect(&proxy.url("app", "pgherd")).await;
    let on = async |port: u16| client.one("select inet_server_port()").await == port.to_string();
    until("the replica is read from", async || {
        on(fleet.replica.port()).await
    })
    .await;
    busy.batch_execute("begin read only").await.unwrap();
    let port = busy.one("select inet_server_port()").await;
    assert_eq!(port, fleet.replica.port().to_string());
    // Each row is more than the server keeps to itself.
    let text = format!("select repeat('x', 10000), pg_sleep(0.02) from generate_series(1, {ROWS})");
    let reading = tokio::spawn(async move {
        let rows = busy.column(&text).await.unwrap();
        busy.batch_execute("commit").await.unwrap();
        rows.len()
    });
    let running = "select count(*) from pg_stat_activity \
                   where state = 'active' and query like 'select repeat%'";
    until("it reads", async || {
        fleet.replica.sql(running).await.unwrap() == "1"
    })
    .await;
    // No look is answered before the second is overdue, too.
    away.store(400, Ordering::SeqCst);
    until("new reads go elsewhere", async || {
        fleet.host(&console, replica).await.get("health") == Some("ill")
            && on(fleet.primary.port()).await
    })
    .await;
    assert!(!reading.is_finished(), "it was to go on behind that");
    assert_eq!(reading.await.unwrap(), ROWS);
    away.store(0, Ordering::SeqCst);
    until("the replica is read from again", async || {
        on(fleet.replica.port()).await
    })
    .await;
}

/// Its monitor gets no answer for longer than anything that was seen is believed, but clients do.
#[tokio::test]
async fn a_primary_that_answers_clients_is_not_silent() {
    let fleet = Fleet::new().await;
    let node = Arc::new(Node::new(fleet.primary.port()).await);
    let more = "[failover]\nprobe = \"100ms\"\nprobe_timeout = \"200ms\"\nevidence = \"1s\"\n\
                [timeouts]\nhold = \"6s\"\n";
    let proxy = fleet
        .proxy(&[node.port(), fleet.replica.port()], more)
        .await;
    let client = fleet.client(&proxy).await;
    let console = connect(&proxy.url("app", "pgherd")).await;
    client
        .batch_execute("insert into acked values (1)")
        .await
        .unwrap();
    let mut tasks = JoinSet::new();
    let deaf = Arc::clone(&node);
    tasks.spawn(async move {
        loop {
            if !deaf.is_to_swap() {
                deaf.swap("pg_control_system", "select pg_catalog.pg_sleep(60)");
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    let fault = async || {
        let row = fleet.host(&console, node.port()).await;
        row.get("health") == Some("ill")
    };
    let epochs = console.column("show epochs").await.unwrap();
    let mut slowest = Duration::ZERO;
    let mut ill_since = None;
    let begun = Instant::now();
    while ill_since.is_none_or(|since: Instant| since.elapsed() < Duration::from_secs(3)) {
        assert!(begun.elapsed() < Duration::from_secs(20), "it seems well");
        let asked = Instant::now();
        client
            .batch_execute("insert into acked values (1)")
            .await
            .unwrap();
        slowest = slowest.max(asked.elapsed());
        if ill_since.is_none() && fault().await {
            ill_since = Some(Instant::now());
        }
    }
    assert!(slowest < Duration::from_secs(3), "{slowest:?}");
    assert_eq!(console.column("show epochs").await.unwrap(), epochs);
    tasks.abort_all();
}
