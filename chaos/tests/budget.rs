//! The control plane has no part in a transaction.
//!
//! All actors but the sessions live on the main thread. Whatever wakes one of them, wakes it, be it a
//! message, a timer or a socket; so, while transactions run, it must sleep through but for its clock.
//! The messages themselves are counted by `chaos/inside/budget.rs`.

use pgherd_chaos::rig::{Guest, Rig};
use tokio::time::Instant;

/// The main thread's own doings: each pool looks itself over once a second, the log tells totals.
const NAPS_A_SECOND: u64 = 20;

/// How many transactions each client runs.
const TRANSACTIONS: u64 = 1000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_wake_no_actor() {
    let more = "[pool]\nsize = 2\n[workers]\ncount = 2";
    let rig = Rig::start(crate::EXECUTABLE, more).await;
    let mut guests = Vec::new();
    for _ in 0..6 {
        guests.push(rig.guest().await);
    }
    // One to open all connections, then as many clients as servers, then with a queue.
    measure(&rig, &guests).await;
    for clients in [2, 6] {
        let (naps, allowed) = measure(&rig, &guests[..clients]).await;
        assert!(
            naps <= allowed,
            "{clients} clients woke the actors {naps} times, and {allowed} are allowed"
        );
    }
}

/// How often the main thread went to sleep while these clients ran their transactions, and how
/// often it may.
async fn measure(rig: &Rig, guests: &[Guest]) -> (u64, u64) {
    let (before, began) = (rig.proxy.naps(), Instant::now());
    let running = guests.iter().map(run);
    futures_util::future::join_all(running).await;
    let naps = rig.proxy.naps() - before;
    let allowed = NAPS_A_SECOND * (began.elapsed().as_secs() + 1);
    // Else the test could not tell a message a transaction from none.
    assert!(allowed * 4 < TRANSACTIONS * guests.len() as u64, "too slow");
    (naps, allowed)
}

/// Transactions of each kind.
async fn run(guest: &Guest) {
    let client = &guest.client;
    let prepared = client.prepare("select $1::int").await.expect("prepared");
    for number in 0..TRANSACTIONS {
        let outcome = match number % 3 {
            0 => client.batch_execute("select 1").await,
            1 => client.query_one(&prepared, &[&1]).await.map(drop),
            _ => client.batch_execute("begin; select 1; commit").await,
        };
        outcome.expect("the transaction runs");
    }
}
