//! Clients that only read: from one shard, and from both.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::task::JoinHandle;
use tokio_postgres::SimpleQueryMessage;

use super::stage::{ACCOUNTS, account};
use crate::checks::errors::Doing;
use crate::checks::{Check, Wrong};
use crate::door::{Caller, Door, Failure};
use crate::workloads::life::Life;

/// The name in the table of errors.
pub(super) const KIND: &str = "readers";

/// Clients that read until their life ends.
pub(super) struct Readers {
    clients: Vec<JoinHandle<()>>,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    right: AtomicU64,
    wrong: Mutex<Vec<String>>,
}

impl Readers {
    /// Starts a client at each door.
    pub(super) fn start(life: &Arc<Life>, doors: &[Door], seed: u64) -> Self {
        let seen = Arc::new(Seen::default());
        let clients = doors.iter().enumerate().map(|(number, door)| {
            let rng = StdRng::seed_from_u64(seed.wrapping_add(number as u64));
            let (life, door, seen) = (Arc::clone(life), door.clone(), Arc::clone(&seen));
            tokio::spawn(live(life, door, seen, number, rng))
        });
        Self {
            clients: clients.collect(),
            seen,
        }
    }

    /// Gives how many answers were right, and what was wrong, once their life has ended.
    pub(super) async fn finish(self) -> (u64, Vec<Wrong>) {
        for client in self.clients {
            client.await.expect("a client does not break down");
        }
        let wrong = self.seen.wrong.lock().clone().into_iter();
        let mut wrong: Vec<Wrong> = wrong.map(|what| Check::Balance.caught(what)).collect();
        let right = self.seen.right.load(Ordering::Relaxed);
        if right == 0 {
            wrong.push(Check::Work.caught("nobody has read"));
        }
        (right, wrong)
    }
}

async fn live(life: Arc<Life>, door: Door, seen: Arc<Seen>, number: usize, mut rng: StdRng) {
    let name = format!("{KIND}{number}");
    let mut present = None;
    while let Some(caller) = life.caller(present, &door, KIND, &name).await {
        // The sum of both shards at two moments need not be that of either; the number of accounts is.
        let (text, expected) = match rng.random_range(0..3) {
            0 => ("select count(*) from accounts".to_owned(), 2 * ACCOUNTS),
            1 => {
                let text = "select count(*), id > 0 from accounts group by 2";
                (text.to_owned(), 2 * ACCOUNTS)
            }
            _ => {
                let id = account(rng.random_range(0..2), rng.random_range(0..ACCOUNTS));
                (format!("select id from accounts where id = {id}"), id)
            }
        };
        match first(&caller, &text).await {
            Ok(value) if value.as_deref() == Some(&expected.to_string()) => {
                seen.right.fetch_add(1, Ordering::Relaxed);
            }
            Ok(value) => {
                let what = format!("{name} was told {value:?} for {expected}: {text}");
                life.history.note(&name, &what);
                seen.wrong.lock().push(what);
            }
            Err(failure) => life.failed(KIND, &name, Doing::Read, &failure),
        }
        life.rest().await;
        present = Some(caller);
    }
}

/// The first value of the first row.
async fn first(caller: &Caller, text: &str) -> Result<Option<String>, Failure> {
    let messages = caller.ask(caller.client.simple_query(text)).await?;
    Ok(messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    }))
}
