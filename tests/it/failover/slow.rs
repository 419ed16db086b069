//! Servers that are far away: each byte is under way for some time.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::fleet::Fleet;

/// Everything takes so long each way.
const AWAY: Duration = Duration::from_millis(60);

/// Opens a port that leads to another from far away; both end with the tasks.
async fn far(port: u16, tasks: &mut JoinSet<()>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let here = listener.local_addr().unwrap().port();
    tasks.spawn(async move {
        let mut links = JoinSet::new();
        while let Ok((client, _)) = listener.accept().await {
            let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else {
                continue;
            };
            let (client, server) = (client.into_split(), server.into_split());
            links.spawn(carry(client.0, server.1));
            links.spawn(carry(server.0, client.1));
        }
    });
    here
}

async fn carry(mut from: impl AsyncReadExt + Unpin, mut to: impl AsyncWriteExt + Unpin) {
    let (send, mut carried) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let read = async move {
        let mut room = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = from.read(&mut room).await {
            let _ = send.send((Instant::now() + AWAY, room[..count].to_vec()));
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
