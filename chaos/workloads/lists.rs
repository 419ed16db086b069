//! Serializable transactions that append to lists and read them.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::task::JoinHandle;
use tokio_postgres::SimpleQueryMessage;

use crate::checks::errors::Doing;
use crate::checks::lists::{Op, Transaction};
use crate::door::{Caller, Door, Failure, Fate, Stage};
use crate::history::joined;
use crate::workloads::acked::roll_back;
use crate::workloads::life::Life;

/// The name in the table of errors.
pub const KIND: &str = "lists";

/// The lists; one that is not there is empty.
pub const TABLE: &str = "create table lists (key bigint primary key, vals bigint[] not null)";

/// How many lists are in use at a time.
const OPEN: i64 = 6;

/// After so many values the lists in use move on by one, so that none grows long.
const VALUES: i64 = 40;

/// Clients that append and read until their life ends.
#[derive(Debug)]
pub struct Appenders {
    clients: Vec<JoinHandle<Vec<Transaction>>>,
}

impl Appenders {
    /// Starts the clients.
    pub fn start(life: &Arc<Life>, door: &Door, clients: usize, seed: u64) -> Self {
        let next = Arc::new(AtomicI64::new(1));
        let clients = (0..clients)
            .map(|number| {
                let appender = Appender {
                    number,
                    name: format!("{KIND}{number}"),
                    door: door.clone(),
                    life: Arc::clone(life),
                    next: Arc::clone(&next),
                };
                let rng = StdRng::seed_from_u64(seed.wrapping_add(number as u64));
                tokio::spawn(appender.live(rng))
            })
            .collect();
        Self { clients }
    }

    /// Gives what the clients saw, once their life has ended.
    ///
    /// # Panics
    /// If a client broke down.
    pub async fn finish(self) -> Vec<Transaction> {
        let mut transactions = Vec::new();
        for client in self.clients {
            transactions.extend(client.await.expect("a client does not break down"));
        }
        transactions
    }
}

/// One client.
struct Appender {
    number: usize,
    name: String,
    door: Door,
    life: Arc<Life>,
    next: Arc<AtomicI64>,
}

impl Appender {
    async fn live(self, mut rng: StdRng) -> Vec<Transaction> {
        let mut transactions = Vec::new();
        let mut present = None;
        let life = &self.life;
        while let Some(caller) = life.caller(present, &self.door, KIND, &self.name).await {
            let (ops, outcome, stage) = self.transact(&caller, &mut rng).await;
            let fate = self.door.fate(&outcome, stage);
            if let Err(failure) = &outcome {
                life.failed(KIND, &self.name, Doing::Block, failure);
            }
            life.history
                .note(&self.name, format_args!("{fate:?} {}", joined(&ops)));
            transactions.push(Transaction {
                client: self.number,
                ops,
                fate,
            });
            life.rest().await;
            present = Some(caller);
        }
        transactions
    }

    /// A few steps and the COMMIT; gives the steps that were answered, and the append that was not.
    async fn transact(
        &self,
        caller: &Caller,
        rng: &mut StdRng,
    ) -> (Vec<Op>, Result<(), Failure>, Stage) {
        let mut ops = Vec::new();
        let begin = "begin isolation level serializable";
        if let Err(failure) = caller.ask(caller.client.batch_execute(begin)).await {
            roll_back(caller, &self.life, KIND, &self.name).await;
            return (ops, Err(failure), Stage::Before);
        }
        let appends = rng.random_ratio(3, 4);
        // All lock in one order, so that nobody is refused for a deadlock.
        let mut places: Vec<i64> = (0..rng.random_range(1..4))
            .map(|_| rng.random_range(0..OPEN))
            .collect();
        places.sort_unstable();
        let newest = self.next.load(Ordering::Relaxed) / VALUES;
        for place in places {
            let key = newest + place;
            let done = if appends && rng.random() {
                let value = self.next.fetch_add(1, Ordering::Relaxed);
                ops.push(Op::Append { key, value });
                append(caller, key, value).await
            } else {
                let read = read(caller, key).await;
                read.map(|values| ops.push(Op::Read { key, values }))
            };
            if let Err(failure) = done {
                roll_back(caller, &self.life, KIND, &self.name).await;
                return (ops, Err(failure), Stage::Before);
            }
        }
        let outcome = caller.ask(caller.client.batch_execute("commit")).await;
        if outcome.is_err() {
            roll_back(caller, &self.life, KIND, &self.name).await;
        }
        (ops, outcome, Stage::Commit)
    }
}

async fn append(caller: &Caller, key: i64, value: i64) -> Result<(), Failure> {
    let text = format!(
        "insert into lists values ({key}, array[{value}]) \
         on conflict (key) do update set vals = lists.vals || excluded.vals"
    );
    caller.ask(caller.client.batch_execute(&text)).await
}

async fn read(caller: &Caller, key: i64) -> Result<Vec<i64>, Failure> {
    let text = format!("select array_to_string(vals, ' ') from lists where key = {key}");
    let messages = caller.ask(caller.client.simple_query(&text)).await?;
    let row = messages.into_iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let text = row.as_ref().and_then(|row| row.get(0)).unwrap_or_default();
    Ok(numbers(text))
}

/// The numbers of a text that has blanks between them; what is none is -1, which nobody appends.
pub fn numbers(text: &str) -> Vec<i64> {
    text.split_whitespace()
        .map(|word| word.parse().unwrap_or(-1))
        .collect()
}

/// Whether anything was written, so that the check means something.
pub fn has_worked(transactions: &[Transaction]) -> bool {
    transactions
        .iter()
        .any(|transaction| transaction.fate == Fate::Acknowledged && transaction.ops.len() > 1)
}
