//! Money that moves between accounts, most often from one shard to another.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::task::JoinHandle;

use crate::checks::errors::Doing;
use crate::checks::ledger::Ledger;
use crate::door::{Caller, Door, Failure, Fate, Stage};
use crate::workloads::acked::{Acknowledged, roll_back};
use crate::workloads::life::Life;

/// The name in the table of errors.
pub(crate) const KIND: &str = "transfers";

/// Clients that move money until their life ends.
pub(crate) struct Transfers {
    clients: Vec<JoinHandle<Vec<(i64, Fate)>>>,
    acknowledged: Arc<Acknowledged>,
}

impl Transfers {
    /// Starts so many clients at each door, of which each takes any accounts of these: those of each shard, of which
    /// all have as many.
    pub(crate) fn start(
        life: &Arc<Life>,
        doors: &[Door],
        clients: usize,
        accounts: &'static [Vec<i64>],
        seed: u64,
    ) -> Self {
        let next = Arc::new(AtomicI64::new(1));
        let acknowledged = Arc::new(Acknowledged::default());
        let all = doors.iter().cycle().take(clients * doors.len());
        let clients = all.enumerate().map(|(number, door)| {
            let teller = Teller {
                number,
                name: format!("{KIND}{number}"),
                door: door.clone(),
                life: Arc::clone(life),
                accounts,
                next: Arc::clone(&next),
                acknowledged: Arc::clone(&acknowledged),
            };
            let rng = StdRng::seed_from_u64(seed.wrapping_add(number as u64));
            tokio::spawn(teller.live(rng))
        });
        Self {
            clients: clients.collect(),
            acknowledged,
        }
    }

    /// Nobody.
    pub(crate) fn none() -> Self {
        Self {
            clients: Vec::new(),
            acknowledged: Arc::default(),
        }
    }

    /// When which client was acknowledged a transfer over both shards.
    pub(crate) fn acknowledged(&self) -> &Acknowledged {
        &self.acknowledged
    }

    /// Gives what the clients were told, once their life has ended.
    pub(crate) async fn finish(self) -> Ledger {
        let mut ledger = Ledger::default();
        for client in self.clients {
            ledger.enter(client.await.expect("a client does not break down"));
        }
        ledger
    }
}

/// One client.
struct Teller {
    number: usize,
    name: String,
    door: Door,
    life: Arc<Life>,
    /// Those of each shard.
    accounts: &'static [Vec<i64>],
    next: Arc<AtomicI64>,
    acknowledged: Arc<Acknowledged>,
}

/// From where to where, and how much.
struct Transfer {
    id: i64,
    source: i64,
    target: i64,
    amount: i64,
    /// From one shard to another.
    over: bool,
}

impl Teller {
    async fn live(self, mut rng: StdRng) -> Vec<(i64, Fate)> {
        let mut fates = Vec::new();
        let mut present = None;
        let life = &self.life;
        while let Some(caller) = life.caller(present, &self.door, KIND, &self.name).await {
            let transfer = self.choose(&mut rng);
            let (outcome, stage) = self.transfer(&caller, &transfer).await;
            let fate = self.door.fate(&outcome, stage);
            match &outcome {
                Ok(()) if transfer.over => self.acknowledged.add(self.number),
                Ok(()) => {}
                Err(failure) => {
                    life.failed(KIND, &self.name, Doing::Block, failure);
                    roll_back(&caller, life, KIND, &self.name).await;
                }
            }
            let id = transfer.id;
            life.history.note(&self.name, format_args!("{id} {fate:?}"));
            fates.push((id, fate));
            life.rest().await;
            present = Some(caller);
        }
        fates
    }

    fn choose(&self, rng: &mut StdRng) -> Transfer {
        let over = rng.random_ratio(4, 5);
        let shards = self.accounts.len();
        let from = rng.random_range(0..shards);
        let to = match over {
            true => (from + rng.random_range(1..shards)) % shards,
            false => from,
        };
        let count = self.accounts[from].len();
        let source = rng.random_range(0..count);
        let target = (source + rng.random_range(1..count)) % count;
        Transfer {
            id: self.next.fetch_add(1, Ordering::Relaxed),
            source: self.accounts[from][source],
            target: self.accounts[to][target],
            amount: rng.random_range(1..20),
            over,
        }
    }

    async fn transfer(&self, caller: &Caller, transfer: &Transfer) -> (Result<(), Failure>, Stage) {
        let mut sides = [
            (transfer.source, -transfer.amount),
            (transfer.target, transfer.amount),
        ];
        // All lock in one order, of which no server could see that it is broken.
        sides.sort_unstable();
        let mut steps = vec!["begin".to_owned()];
        for (account, change) in sides {
            let id = transfer.id;
            steps.push(format!(
                "update accounts set balance = balance + {change} where id = {account}"
            ));
            steps.push(format!(
                "insert into moves values ({account}, {id}, {change})"
            ));
        }
        for step in &steps {
            if let Err(failure) = caller.ask(caller.client.batch_execute(step)).await {
                return (Err(failure), Stage::Before);
            }
        }
        let outcome = caller.ask(caller.client.batch_execute("commit")).await;
        (outcome, Stage::Commit)
    }
}
