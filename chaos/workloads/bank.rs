//! Money that moves between accounts, and never becomes more or less.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::task::JoinHandle;

use crate::checks::errors::Doing;
use crate::checks::ledger::Ledger;
use crate::checks::{Check, Wrong};
use crate::door::{Caller, Door, Failure, Fate, Stage, first};
use crate::workloads::acked::{Acknowledged, roll_back};
use crate::workloads::life::Life;

/// The name in the table of errors.
pub const KIND: &str = "bank";

/// How many accounts there are.
const ACCOUNTS: i32 = 12;

/// What is on each at first.
const BALANCE: i64 = 1000;

/// The accounts, and a line for each movement; without a key, so that one made twice shows.
pub const TABLES: &str = "create table bank (id int primary key, balance bigint not null);
    create table moves (id bigint, source int, target int, amount bigint);
    insert into bank select n, 1000 from generate_series(0, 11) n;";

/// How many accounts do not have what their movements leave on them.
pub const AUDIT: &str = "select count(*) from bank where balance <> 1000
    + (select coalesce(sum(amount), 0) from moves where target = bank.id)
    - (select coalesce(sum(amount), 0) from moves where source = bank.id)";

/// Clients that move money and count it until their life ends.
#[derive(Debug)]
pub struct Bank {
    clients: Vec<JoinHandle<Vec<(i64, Fate)>>>,
    seen: Arc<Seen>,
    acknowledged: Arc<Acknowledged>,
}

/// What the counting showed.
#[derive(Debug, Default)]
struct Seen {
    right: AtomicU64,
    wrong: Mutex<Vec<String>>,
}

impl Bank {
    /// Starts the clients.
    pub fn start(life: &Arc<Life>, door: &Door, clients: usize, seed: u64) -> Self {
        let next = Arc::new(AtomicI64::new(1));
        let seen = Arc::new(Seen::default());
        let acknowledged = Arc::new(Acknowledged::default());
        let clients = (0..clients)
            .map(|number| {
                let teller = Teller {
                    name: format!("{KIND}{number}"),
                    door: door.clone(),
                    life: Arc::clone(life),
                    next: Arc::clone(&next),
                    seen: Arc::clone(&seen),
                    acknowledged: Arc::clone(&acknowledged),
                };
                let rng = StdRng::seed_from_u64(seed.wrapping_add(number as u64));
                tokio::spawn(teller.live(rng))
            })
            .collect();
        Self {
            clients,
            seen,
            acknowledged,
        }
    }

    /// When which movement was acknowledged.
    pub(crate) fn acknowledged(&self) -> &Arc<Acknowledged> {
        &self.acknowledged
    }

    /// Gives what the clients were told of their movements, and what they counted wrong, once their
    /// life has ended.
    ///
    /// # Panics
    /// If a client broke down.
    pub async fn finish(self) -> (Ledger, Vec<Wrong>) {
        let mut ledger = Ledger::default();
        for client in self.clients {
            ledger.enter(client.await.expect("a client does not break down"));
        }
        let wrong = self.seen.wrong.lock().clone();
        let mut wrong: Vec<Wrong> = wrong
            .into_iter()
            .map(|what| Check::Balance.caught(what))
            .collect();
        if self.seen.right.load(Ordering::Relaxed) == 0 {
            wrong.push(Check::Work.caught("nobody has counted the money"));
        }
        (ledger, wrong)
    }
}

/// One client.
struct Teller {
    name: String,
    door: Door,
    life: Arc<Life>,
    next: Arc<AtomicI64>,
    seen: Arc<Seen>,
    acknowledged: Arc<Acknowledged>,
}

impl Teller {
    async fn live(self, mut rng: StdRng) -> Vec<(i64, Fate)> {
        let mut fates = Vec::new();
        let mut present = None;
        let life = &self.life;
        while let Some(caller) = life.caller(present, &self.door, KIND, &self.name).await {
            if rng.random_ratio(1, 3) {
                self.count(&caller).await;
            } else {
                let id = self.next.fetch_add(1, Ordering::Relaxed);
                let (outcome, stage) = self.transfer(&caller, id, &mut rng).await;
                let fate = self.door.fate(&outcome, stage);
                match &outcome {
                    Ok(()) => self.acknowledged.enter(id),
                    Err(failure) => life.failed(KIND, &self.name, Doing::Block, failure),
                }
                life.history.note(&self.name, format_args!("{id} {fate:?}"));
                fates.push((id, fate));
            }
            life.rest().await;
            present = Some(caller);
        }
        fates
    }

    /// Every snapshot has all the money.
    async fn count(&self, caller: &Caller) {
        let text = "select count(*) || ' ' || sum(balance) from bank";
        match caller.ask(caller.client.simple_query(text)).await {
            Ok(messages) => {
                let value = first(&messages);
                let all = format!("{ACCOUNTS} {}", i64::from(ACCOUNTS) * BALANCE);
                if value == Some(&all) {
                    self.seen.right.fetch_add(1, Ordering::Relaxed);
                } else {
                    let what = format!("{} counted {value:?} for {all}", self.name);
                    self.life.history.note(&self.name, &what);
                    self.seen.wrong.lock().push(what);
                }
            }
            Err(failure) => self.life.failed(KIND, &self.name, Doing::Read, &failure),
        }
    }

    /// Moves some money, in one message or in several.
    async fn transfer(
        &self,
        caller: &Caller,
        id: i64,
        rng: &mut StdRng,
    ) -> (Result<(), Failure>, Stage) {
        let source = rng.random_range(0..ACCOUNTS);
        let target = (source + rng.random_range(1..ACCOUNTS)) % ACCOUNTS;
        let amount = rng.random_range(1..20);
        let change = |id: i32| {
            let sign = if id == source { '-' } else { '+' };
            format!("update bank set balance = balance {sign} {amount} where id = {id}")
        };
        // All lock in one order, so that nobody is refused for a deadlock.
        let mut steps = vec![
            "begin".to_owned(),
            change(source.min(target)),
            change(source.max(target)),
            format!("insert into moves values ({id}, {source}, {target}, {amount})"),
        ];
        if rng.random() {
            steps.push("commit".to_owned());
            let outcome = caller
                .ask(caller.client.batch_execute(&steps.join("; ")))
                .await;
            if outcome.is_err() {
                self.roll_back(caller).await;
            }
            return (outcome, Stage::Commit);
        }
        for step in &steps {
            if let Err(failure) = caller.ask(caller.client.batch_execute(step)).await {
                self.roll_back(caller).await;
                return (Err(failure), Stage::Before);
            }
        }
        let outcome = caller.ask(caller.client.batch_execute("commit")).await;
        if outcome.is_err() {
            self.roll_back(caller).await;
        }
        (outcome, Stage::Commit)
    }

    async fn roll_back(&self, caller: &Caller) {
        roll_back(caller, &self.life, KIND, &self.name).await;
    }
}
