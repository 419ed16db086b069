//! What a client sends on in a transaction whose server was lost.

use pgherd_chaos::rig::{PATIENCE, Rig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

/// What a client sends on in a transaction before it has read that its server is lost must not run
/// outside of that transaction.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_a_lost_transaction_runs_outside_of_it() {
    let rig = Rig::start(crate::EXECUTABLE, "[pool]\nsize = 4").await;
    let mut client = TcpStream::connect(rig.proxy.address()).await.unwrap();
    let body = b"\0\x03\0\0user\0postgres\0database\0postgres\0\0";
    let mut startup = u32::try_from(body.len() + 4)
        .unwrap()
        .to_be_bytes()
        .to_vec();
    startup.extend_from_slice(body);
    client.write_all(&startup).await.unwrap();
    let lines = ["begin", "select pg_sleep(60)"].map(query).concat();
    client.write_all(&lines).await.unwrap();
    let ask = "select count(*) from pg_stat_activity where wait_event = 'PgSleep'";
    let deadline = Instant::now() + PATIENCE;
    while rig.server.sql(ask).await.unwrap() != "1" {
        assert!(Instant::now() < deadline);
    }
    let end = "select pg_terminate_backend(pid, 5000) from pg_stat_activity \
               where wait_event = 'PgSleep'";
    rig.server.sql(end).await.unwrap();
    // The error has arrived, and the client has not read it yet.
    let mut seen = [0; 4096];
    loop {
        let count = timeout(PATIENCE, client.peek(&mut seen))
            .await
            .unwrap()
            .unwrap();
        if seen[..count].windows(5).any(|word| word == b"ERROR") {
            break;
        }
        assert!(Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
    let lines = ["insert into herd values (7)", "commit"]
        .map(query)
        .concat();
    let _ = client
        .write_all(&[lines, b"X\0\0\0\x04".to_vec()].concat())
        .await;
    let mut answer = Vec::new();
    let _ = timeout(PATIENCE, client.read_to_end(&mut answer))
        .await
        .unwrap();
    assert_eq!(
        rig.server.sql("select count(*) from herd").await.unwrap(),
        "0"
    );
}

fn query(sql: &str) -> Vec<u8> {
    let length = u32::try_from(sql.len() + 5).unwrap().to_be_bytes();
    [b"Q".as_slice(), &length, sql.as_bytes(), b"\0"].concat()
}
