//! No mailbox has a part in a transaction: what the actors hear is counted.

use std::collections::BTreeMap;

use pgherd_supervise::census::{Census, heard};
use tokio::time::Instant;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, NoTls, Statement};

use crate::house::{self, House, SIZE};
use crate::{ALONE, PATIENCE};

/// How many transactions are run in each way, by all clients together.
const TRANSACTIONS: usize = 2000;

/// What actors tell themselves when some time has passed.
const CLOCKS: [&str; 2] = ["Tick", "Beat"];

/// The ways to ask.
#[derive(Clone, Copy, Debug)]
enum Way {
    Simple,
    Block,
    Unnamed,
    Prepared,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_sends_no_message() {
    let _alone = ALONE.lock().await;
    let server = house::server().await;
    let house = House::before(&server);
    let mut clients = Vec::new();
    for _ in 0..3 * SIZE {
        let (client, connection) = house.client("postgres").connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        let prepared = client.prepare("select $1::int").await.unwrap();
        clients.push((client, prepared));
    }
    let deadline = Instant::now() + PATIENCE;
    while house.connections().1 < SIZE {
        assert!(Instant::now() < deadline, "the pool does not grow");
        run(&clients, Way::Simple).await;
    }

    for way in [Way::Simple, Way::Block, Way::Unnamed, Way::Prepared] {
        // As many clients as servers, then with a queue.
        for crowd in [&clients[..SIZE], &clients[..]] {
            let before = heard();
            run(crowd, way).await;
            let messages = since(&before);
            assert_eq!(
                messages,
                Census::new(),
                "{way:?} by {} clients",
                crowd.len()
            );
        }
    }
    it_counts(&house, clients).await;
    house.end().await;
}

/// Transactions of one kind, shared by the clients.
async fn run(clients: &[(Client, Statement)], way: Way) {
    let each = TRANSACTIONS.div_ceil(clients.len());
    let running = clients.iter().map(async |(client, prepared)| {
        for _ in 0..each {
            let outcome = match way {
                Way::Simple => client.batch_execute("select 1").await,
                Way::Block => client.batch_execute("begin; select 1; commit").await,
                Way::Unnamed => {
                    let asked = client.query_typed("select $1::int", &[(&1, Type::INT4)]);
                    asked.await.map(drop)
                }
                Way::Prepared => client.query_one(prepared, &[&1]).await.map(drop),
            };
            outcome.unwrap();
        }
    });
    futures_util::future::join_all(running).await;
}

/// What was heard since then, but for the clocks.
fn since(before: &Census) -> Census {
    let now = heard().into_iter();
    let new = now.map(|(name, count)| {
        let old = before.get(&name).copied().unwrap_or_default();
        (name, count - old)
    });
    let is_clock = |name: &str| {
        CLOCKS
            .iter()
            .any(|clock| name.ends_with(&format!(" {clock}")))
    };
    new.filter(|(name, count)| *count > 0 && !is_clock(name))
        .collect::<BTreeMap<_, _>>()
}

/// Messages that are sent are seen: the goodbyes of the clients.
async fn it_counts(house: &House, clients: Vec<(Client, Statement)>) {
    let (before, count) = (heard(), clients.len() as u64);
    drop(clients);
    while house.facts.sessions.count() > 0 {
        tokio::task::yield_now().await;
    }
    let ended = |census: &Census| census.get("Tasked<Session> Ended").copied();
    while ended(&since(&before)) != Some(count) {
        tokio::task::yield_now().await;
    }
}
