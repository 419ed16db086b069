//! Unique inserts, each entered in a ledger by what its client was told.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, Error, NoTls};

/// What a client knows of an insert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It was acknowledged.
    Acknowledged,
    /// It failed for certain.
    Failed,
    /// Nobody knows.
    Unknown,
}

/// What became of all inserts.
#[derive(Default)]
pub struct Ledger {
    fates: HashMap<i64, Fate>,
}

/// Clients that insert numbers into `herd` until they are stopped.
#[derive(Debug)]
pub struct Acked {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Vec<(i64, Fate)>>>,
}

impl Acked {
    /// Starts the clients. Every second one inserts within explicit transactions.
    pub fn start(proxy: &Config, clients: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let next = Arc::new(AtomicI64::new(1));
        let clients = (0..clients)
            .map(|number| {
                let (stop, next, proxy) = (Arc::clone(&stop), Arc::clone(&next), proxy.clone());
                tokio::spawn(insert(number % 2 == 0, proxy, next, stop))
            })
            .collect();
        Self { stop, clients }
    }

    /// Stops the clients and gives what they were told.
    ///
    /// # Panics
    /// If a client broke down.
    pub async fn stop(self) -> Ledger {
        self.stop.store(true, Ordering::Relaxed);
        let mut ledger = Ledger::default();
        for client in self.clients {
            ledger
                .fates
                .extend(client.await.expect("a client does not break down"));
        }
        ledger
    }
}

async fn insert(
    explicitly: bool,
    proxy: Config,
    next: Arc<AtomicI64>,
    stop: Arc<AtomicBool>,
) -> Vec<(i64, Fate)> {
    let mut fates = Vec::new();
    let mut client = None;
    while !stop.load(Ordering::Relaxed) {
        let Some(present) = client.take().filter(|client: &Client| !client.is_closed()) else {
            match proxy.connect(NoTls).await {
                Ok((fresh, connection)) => {
                    tokio::spawn(connection);
                    client = Some(fresh);
                }
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
            continue;
        };
        let id = next.fetch_add(1, Ordering::Relaxed);
        let fate = if explicitly {
            in_transaction(&present, id).await
        } else {
            fate(
                &present
                    .execute("insert into herd values ($1)", &[&id])
                    .await
                    .map(drop),
                true,
            )
        };
        fates.push((id, fate));
        client = Some(present);
    }
    fates
}

/// Only the COMMIT may leave a doubt.
async fn in_transaction(client: &Client, id: i64) -> Fate {
    let before = async {
        client.batch_execute("begin").await?;
        client
            .execute("insert into herd values ($1)", &[&id])
            .await
            .map(drop)
    };
    if let Err(error) = before.await {
        if !client.is_closed() {
            let _ = client.batch_execute("rollback").await;
        }
        return fate(&Err(error), false);
    }
    fate(&client.batch_execute("commit").await, true)
}

/// What an answer says. Without a word from the proxy, an insert that could have committed may
/// have.
fn fate(outcome: &Result<(), Error>, could_commit: bool) -> Fate {
    match outcome {
        Ok(()) => Fate::Acknowledged,
        Err(error) => match error.code() {
            Some(code) if *code == SqlState::TRANSACTION_RESOLUTION_UNKNOWN => Fate::Unknown,
            Some(_) => Fate::Failed,
            None if could_commit => Fate::Unknown,
            None => Fate::Failed,
        },
    }
}

impl Ledger {
    /// How many inserts were acknowledged.
    pub fn acknowledged(&self) -> usize {
        self.count(Fate::Acknowledged)
    }

    /// How many failed for certain, or nobody knows.
    pub fn failed(&self) -> usize {
        self.count(Fate::Failed) + self.count(Fate::Unknown)
    }

    /// Compares with the numbers that are in the table.
    pub fn faults(&self, there: &[i64]) -> Vec<String> {
        let mut counts: HashMap<i64, usize> = HashMap::new();
        for id in there {
            *counts.entry(*id).or_default() += 1;
        }
        let mut faults = Vec::new();
        for (id, fate) in &self.fates {
            let count = counts.remove(id).unwrap_or_default();
            match (fate, count) {
                (Fate::Acknowledged, 1) | (Fate::Failed, 0) | (Fate::Unknown, 0 | 1) => {}
                _ => faults.push(format!("{id} is {fate:?} and there {count} times")),
            }
        }
        faults.extend(counts.keys().map(|id| format!("nobody has written {id}")));
        faults
    }

    fn count(&self, wanted: Fate) -> usize {
        self.fates.values().filter(|fate| **fate == wanted).count()
    }
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger")
            .field("acknowledged", &self.acknowledged())
            .field("failed", &self.count(Fate::Failed))
            .field("unknown", &self.count(Fate::Unknown))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::{Fate, Ledger};

    #[test]
    fn what_was_lost_doubled_or_undead_is_found() {
        let fates = [
            (1, Fate::Acknowledged),
            (2, Fate::Failed),
            (3, Fate::Unknown),
        ];
        let ledger = Ledger {
            fates: fates.into_iter().collect(),
        };
        assert!(ledger.faults(&[1]).is_empty());
        assert!(ledger.faults(&[1, 3]).is_empty());
        assert_eq!(ledger.faults(&[]).len(), 1, "lost");
        assert_eq!(ledger.faults(&[1, 1]).len(), 1, "doubled");
        assert_eq!(ledger.faults(&[1, 2]).len(), 1, "undead");
        assert_eq!(ledger.faults(&[1, 3, 3]).len(), 1, "doubled");
        assert_eq!(ledger.faults(&[1, 9]).len(), 1, "from nowhere");
    }
}
