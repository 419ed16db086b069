use std::time::Duration;

use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::client::Client;
use crate::error::Error;
use crate::target::{Door, Target};
use crate::usage;

/// How many clients log in at a time.
const AT_ONCE: usize = 50;

/// How long memory is left to settle before it is read.
const SETTLE: Duration = Duration::from_secs(1);

/// Memory that one of pgherd's clients may cost, in bytes.
const MEMORY_MAX: f64 = 10.0 * 1024.0;

/// CPU time that all of them may cost, in per cent of one core: the clocks of pgherd's actors tick.
const CPU_MAX: f64 = 1.0;

/// The share of their memory that may stay when they have left.
const KEPT_MAX: f64 = 0.25;

/// The name of the cell.
pub(crate) const NAME: &str = "idle";

/// What many clients that do nothing cost a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Idle {
    /// How many there were.
    pub(crate) clients: usize,
    /// Clients that connected, logged in and asked one query, a second.
    pub(crate) logins: f64,
    /// Growth of the resident memory for each client, in bytes.
    pub(crate) memory: f64,
    /// CPU time while nothing happened, in per cent of one core.
    pub(crate) cpu: f64,
    /// Growth of the resident memory that stayed when all had left, in bytes.
    pub(crate) kept: f64,
}

impl Idle {
    /// What pgherd promises of idle clients, where these figures break it.
    pub(crate) fn broken_promise(&self) -> Option<&'static str> {
        if self.memory >= MEMORY_MAX {
            Some("an idle client costs 10 KiB or more")
        } else if self.cpu > CPU_MAX {
            Some("idle clients cost CPU time")
        } else if self.kept > self.memory * self.clients as f64 * KEPT_MAX {
            Some("memory is kept for clients that have left")
        } else {
            None
        }
    }
}

/// Connects the clients, lets each ask one query, waits, lets each ask again, and lets them go;
/// `None` for direct.
pub(crate) async fn run(
    target: &Target,
    clients: usize,
    watch: Duration,
) -> Result<Option<Idle>, Error> {
    let Some(pid) = target.pid() else {
        return Ok(None);
    };
    let before = usage::memory(pid)?;
    let begin = Instant::now();
    let idlers = connect(&target.door, clients).await?;
    let took = begin.elapsed();
    sleep(SETTLE).await;
    let full = usage::memory(pid)?;
    let cpu_before = usage::cpu(pid)?;
    sleep(watch).await;
    let cpu = usage::cpu(pid)?.saturating_sub(cpu_before);
    drop(ask(idlers).await?);
    sleep(SETTLE).await;
    let after = usage::memory(pid)?;
    Ok(Some(Idle {
        clients,
        logins: clients as f64 / took.as_secs_f64(),
        memory: growth(before, full) / clients as f64,
        cpu: cpu.as_secs_f64() / watch.as_secs_f64() * 100.0,
        kept: growth(before, after),
    }))
}

async fn connect(door: &Door, clients: usize) -> Result<Vec<Client>, Error> {
    let mut idlers = Vec::with_capacity(clients);
    let mut under_way = JoinSet::new();
    for _ in 0..clients {
        if under_way.len() >= AT_ONCE {
            idlers.extend(next(&mut under_way).await?);
        }
        let (port, user, database) = (door.port, door.user.clone(), door.database.clone());
        under_way.spawn(async move {
            let mut client = Client::connect(port, &user, &database, 1024).await?;
            client.count("select 1").await?;
            Ok(client)
        });
    }
    while let Some(client) = next(&mut under_way).await? {
        idlers.push(client);
    }
    Ok(idlers)
}

/// Lets each ask a query again: it is still there, and so is the proxy.
async fn ask(idlers: Vec<Client>) -> Result<Vec<Client>, Error> {
    let mut asked = Vec::with_capacity(idlers.len());
    let mut under_way = JoinSet::new();
    for mut client in idlers {
        if under_way.len() >= AT_ONCE {
            asked.extend(next(&mut under_way).await?);
        }
        under_way.spawn(async move {
            match client.count("select 1").await? {
                1 => Ok(client),
                _ => Err(Error::Refused("no row came back".to_owned())),
            }
        });
    }
    while let Some(client) = next(&mut under_way).await? {
        asked.push(client);
    }
    Ok(asked)
}

async fn next(under_way: &mut JoinSet<Result<Client, Error>>) -> Result<Option<Client>, Error> {
    match under_way.join_next().await {
        None => Ok(None),
        Some(Ok(client)) => client.map(Some),
        Some(Err(error)) => Err(Error::Refused(error.to_string())),
    }
}

/// Memory may shrink too, and a process has far less than 2^52 bytes.
fn growth(before: u64, after: u64) -> f64 {
    after as f64 - before as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promises_are_of_memory_and_time() {
        let kept = Idle {
            clients: 100,
            logins: 1000.0,
            memory: 8000.0,
            cpu: 0.2,
            kept: 100_000.0,
        };
        assert_eq!(kept.broken_promise(), None);
        for broken in [
            Idle {
                memory: 10_240.0,
                ..kept
            },
            Idle { cpu: 1.1, ..kept },
            Idle {
                kept: 210_000.0,
                ..kept
            },
        ] {
            assert!(broken.broken_promise().is_some(), "{broken:?}");
        }
    }
}
