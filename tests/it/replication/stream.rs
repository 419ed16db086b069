//! The stream itself, by hand.

use pgherd_sandbox::Server;
use pgherd_tests::{Message, Proxy, Raw, until};

use super::rig::{database, server, wait_for_senders};

/// A client that streams physically under an application name, from a place in the WAL on.
pub(super) async fn streaming(proxy: &Proxy, server: &Server, name: &str) -> (Raw, u64) {
    let more = [("replication", "true"), ("application_name", name)];
    let mut client = Raw::login(proxy.port(), "app", "replication", &more).await;
    let from = server
        .sql("select pg_current_wal_flush_lsn()")
        .await
        .unwrap();
    client
        .send(&Raw::query(&format!("START_REPLICATION PHYSICAL {from}")))
        .await;
    assert_eq!(client.message().await.tag, 'W');
    (client, position(&from))
}

/// Reads a position as Postgres writes it.
fn position(text: &str) -> u64 {
    let (high, low) = text.split_once('/').expect("a position");
    let half = |text| u64::from_str_radix(text, 16).expect("hexadecimal");
    (half(high) << 32) | half(low)
}

/// A standby status update that has written, flushed and applied all up to here.
pub(super) fn status(at: u64) -> Vec<u8> {
    let mut body = vec![b'r'];
    for _ in 0..3 {
        body.extend(at.to_be_bytes());
    }
    body.extend([0; 9]);
    Raw::framed(b'd', &body)
}

/// The bytes of WAL in a message, and where they begin; `None` for a keepalive.
fn wal(message: &Message) -> Option<(u64, usize)> {
    assert_eq!(message.tag, 'd', "{message:?}");
    (message.body[0] == b'w').then(|| {
        let start = message.body[1..9].try_into().expect("eight bytes");
        (u64::from_be_bytes(start), message.body.len() - 25)
    })
}

/// What the proxy may need more than before, while so much passes.
const ROOM: u64 = 12 * 1024 * 1024;

#[tokio::test]
async fn reports_go_up_while_the_client_reads_nothing_and_no_byte_is_lost() {
    let server = server().await;
    let database = database(server).await;
    let proxy = Proxy::before(&database, "").await;
    let (mut client, from) = streaming(&proxy, server, "stalled").await;
    let before = proxy.memory();
    // Some 64 MB.
    let flood = "create table flood as select repeat('x', 1000) as a \
                 from generate_series(1, 60000); select pg_current_wal_flush_lsn()";
    let until_here = position(&server.sql_in(&database.name, flood).await.unwrap());
    client.send(&status(from + 1)).await;
    let heard = format!(
        "select flush_lsn - '0/0' = {} from pg_stat_replication where application_name = 'stalled'",
        from + 1
    );
    until("the report has come", async || {
        server.sql(&heard).await.unwrap() == "t"
    })
    .await;
    let stalled = proxy.memory();
    assert!(stalled < before + ROOM, "{before} {stalled}");
    let mut next = from;
    while next < until_here {
        if let Some((start, size)) = wal(&client.message().await) {
            assert_eq!(start, next, "WAL is missing");
            next = start + u64::try_from(size).unwrap();
        }
    }
    let passed = proxy.memory();
    assert!(passed < before + ROOM, "{before} {passed}");
    // A stream that its client ends is an answer like another, and the session goes on.
    client.send(&Raw::framed(b'c', b"")).await;
    let rest = client.ready().await;
    let end: String = rest
        .iter()
        .map(|message| message.tag)
        .filter(|tag| *tag != 'd')
        .collect();
    assert_eq!(end, "cCCZ");
    assert_eq!(client.ask(&Raw::query("IDENTIFY_SYSTEM")).await, "T D C ZI");
    client.send(&Raw::framed(b'X', b"")).await;
    assert_eq!(client.end().await, Vec::<u8>::new());
    wait_for_senders(server, "stalled", 0).await;
}

#[tokio::test]
async fn a_message_larger_than_any_buffer_passes_both_ways_through_little_memory() {
    let server = server().await;
    let database = database(server).await;
    let proxy = Proxy::before(&database, "").await;
    let more = [("replication", "database")];
    let mut client = Raw::login(proxy.port(), "app", &database.name, &more).await;
    let before = proxy.memory();
    let size = 40_000_000;
    let text = "x".repeat(size);
    let question = format!("select '{text}'");
    drop(text);
    client.send(&Raw::query(&question)).await;
    let answer = client.ready().await;
    let row = answer.iter().find(|message| message.tag == 'D').unwrap();
    assert_eq!(row.columns()[0].len(), size);
    let after = proxy.memory();
    assert!(after < before + ROOM, "{before} {after}");
}
