//! Unique inserts, each entered in a ledger by what its client was told.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::checks::errors::Doing;
use crate::checks::ledger::Ledger;
use crate::door::{Caller, Door, Failure, Fate, Stage};
use crate::workloads::life::Life;

/// How a client commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Each insert by itself, in the extended protocol.
    Alone,
    /// In a transaction, message by message.
    Block,
    /// In a transaction that is one message.
    Text,
    /// As [`Self::Alone`], some at once.
    Piped,
}

/// How many inserts are sent at once where they are.
const PIPED: usize = 3;

/// How many inserts so many clients may have under way.
pub(crate) const fn under_way(clients: usize) -> usize {
    clients + clients / Way::ALL.len() * (PIPED - 1)
}

impl Way {
    const ALL: [Self; 4] = [Self::Alone, Self::Block, Self::Text, Self::Piped];

    const fn doing(self) -> Doing {
        match self {
            Self::Alone | Self::Piped => Doing::Write,
            Self::Block | Self::Text => Doing::Block,
        }
    }
}

/// When which client was acknowledged something.
#[derive(Debug, Default)]
pub struct Acknowledged {
    times: Mutex<Vec<(Instant, usize)>>,
    /// When which number was.
    numbers: Mutex<HashMap<i64, Instant>>,
    news: Notify,
}

/// Clients that insert numbers into a table until their life ends.
#[derive(Debug)]
pub struct Acked {
    next: Arc<AtomicI64>,
    acknowledged: Arc<Acknowledged>,
    clients: Vec<JoinHandle<Vec<(i64, Fate)>>>,
}

impl Acked {
    /// Starts the clients. The table has one column `id`; the kind is the name in the table of errors.
    pub fn start(
        life: &Arc<Life>,
        door: &Door,
        table: &'static str,
        kind: &'static str,
        clients: usize,
    ) -> Self {
        Self::start_with(
            life,
            door,
            &format!("insert into {table} values ("),
            kind,
            clients,
        )
    }

    /// The same with an insert that lacks no more than the number and a parenthesis behind it.
    pub(crate) fn start_with(
        life: &Arc<Life>,
        door: &Door,
        insert: &str,
        kind: &'static str,
        clients: usize,
    ) -> Self {
        let next = Arc::new(AtomicI64::new(1));
        let acknowledged = Arc::new(Acknowledged::default());
        let clients = (0..clients)
            .map(|number| {
                let client = Inserter {
                    way: Way::ALL[number % Way::ALL.len()],
                    number,
                    name: format!("{kind}{number}"),
                    kind,
                    insert: insert.to_owned(),
                    door: door.clone(),
                    life: Arc::clone(life),
                    next: Arc::clone(&next),
                    acknowledged: Arc::clone(&acknowledged),
                };
                tokio::spawn(client.live())
            })
            .collect();
        Self {
            next,
            acknowledged,
            clients,
        }
    }

    /// No number from this one on was inserted before the call.
    pub fn next(&self) -> i64 {
        self.next.load(Ordering::Relaxed)
    }

    /// When which client was acknowledged something.
    pub fn acknowledged(&self) -> &Arc<Acknowledged> {
        &self.acknowledged
    }

    /// Gives what the clients were told, once their life has ended.
    ///
    /// # Panics
    /// If a client broke down.
    pub async fn finish(self) -> Ledger {
        let mut ledger = Ledger::default();
        for client in self.clients {
            ledger.enter(client.await.expect("a client does not break down"));
        }
        ledger
    }
}

impl Acknowledged {
    /// The first time of each client at or after a moment; in the order of time.
    fn since(&self, moment: Instant) -> Vec<(usize, Instant)> {
        let times = self.times.lock();
        let mut firsts: Vec<(usize, Instant)> = Vec::new();
        let from = times.partition_point(|(time, _)| *time < moment);
        for (time, client) in &times[from..] {
            if firsts.iter().all(|(known, _)| known != client) {
                firsts.push((*client, *time));
            }
        }
        firsts
    }

    /// Waits for the first time at or after a moment.
    pub async fn first(&self, moment: Instant) -> Instant {
        loop {
            let news = self.news.notified();
            if let Some((_, time)) = self.since(moment).first() {
                return *time;
            }
            news.await;
        }
    }

    /// Waits for that of each of so many clients.
    pub async fn everybody(&self, moment: Instant, clients: usize) -> Vec<Instant> {
        loop {
            let news = self.news.notified();
            let firsts = self.since(moment);
            if firsts.len() >= clients {
                return firsts.into_iter().map(|(_, time)| time).collect();
            }
            news.await;
        }
    }

    /// When this number was acknowledged, if it was.
    pub(crate) fn moment(&self, number: i64) -> Option<Instant> {
        self.numbers.lock().get(&number).copied()
    }

    /// This number is acknowledged now.
    pub(crate) fn enter(&self, number: i64) {
        self.numbers.lock().insert(number, Instant::now());
    }

    /// A client is acknowledged something now.
    pub(crate) fn add(&self, client: usize) {
        // Under the lock, so that the times are in order.
        let mut times = self.times.lock();
        times.push((Instant::now(), client));
        drop(times);
        self.news.notify_waiters();
    }
}

/// What a client was told.
type Outcome = Result<(), Failure>;

/// One client.
struct Inserter {
    way: Way,
    number: usize,
    name: String,
    kind: &'static str,
    insert: String,
    door: Door,
    life: Arc<Life>,
    next: Arc<AtomicI64>,
    acknowledged: Arc<Acknowledged>,
}

impl Inserter {
    async fn live(self) -> Vec<(i64, Fate)> {
        let mut fates = Vec::new();
        let mut present = None;
        let life = &self.life;
        while let Some(caller) = life
            .caller(present, &self.door, self.kind, &self.name)
            .await
        {
            let sent = Instant::now();
            for (id, outcome, stage) in self.act(&caller).await {
                let fate = self.door.fate(&outcome, stage);
                if let Err(failure) = &outcome {
                    life.failed(self.kind, &self.name, self.way.doing(), failure);
                    if self.way.doing() == Doing::Write {
                        life.unbegun.told(self.kind, &self.name, sent, failure);
                    }
                }
                life.history.note(&self.name, format_args!("{id} {fate:?}"));
                fates.push((id, fate));
            }
            life.rest().await;
            present = Some(caller);
        }
        fates
    }

    async fn roll_back(&self, caller: &Caller) {
        roll_back(caller, &self.life, self.kind, &self.name).await;
    }

    fn next(&self) -> i64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Inserts a number, or some.
    async fn act(&self, caller: &Caller) -> Vec<(i64, Outcome, Stage)> {
        let at_once = match self.way {
            Way::Piped => PIPED,
            Way::Alone | Way::Block | Way::Text => 1,
        };
        let inserts = (0..at_once).map(async |_| {
            let id = self.next();
            let (outcome, stage) = self.insert(caller, id).await;
            if outcome.is_ok() {
                self.acknowledged.add(self.number);
                self.acknowledged.enter(id);
            }
            (id, outcome, stage)
        });
        join_all(inserts).await
    }

    async fn insert(&self, caller: &Caller, id: i64) -> (Outcome, Stage) {
        let client = &caller.client;
        let insert = format!("{}{id})", self.insert);
        match self.way {
            Way::Alone | Way::Piped => {
                let ask = async { client.query_typed(&insert, &[]).await.map(drop) };
                (caller.ask(ask).await, Stage::Commit)
            }
            Way::Text => {
                let text = format!("begin; {insert}; commit");
                let outcome = caller.ask(client.batch_execute(&text)).await;
                if outcome.is_err() {
                    self.roll_back(caller).await;
                }
                (outcome, Stage::Commit)
            }
            Way::Block => {
                for text in ["begin", &insert] {
                    if let Err(failure) = caller.ask(client.batch_execute(text)).await {
                        self.roll_back(caller).await;
                        return (Err(failure), Stage::Before);
                    }
                }
                let outcome = caller.ask(client.batch_execute("commit")).await;
                if outcome.is_err() {
                    self.roll_back(caller).await;
                }
                (outcome, Stage::Commit)
            }
        }
    }
}

/// Leaves a failed block, if the client is still there.
pub(crate) async fn roll_back(caller: &Caller, life: &Life, kind: &'static str, name: &str) {
    if caller.is_usable()
        && let Err(failure) = caller.ask(caller.client.batch_execute("rollback")).await
    {
        life.failed(kind, name, Doing::Rollback, &failure);
    }
}
