use std::time::Duration;

use serde::Serialize;
use tokio::net::TcpStream;
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

/// Connects the clients, lets each ask one query, waits, and lets them go; `None` for direct.
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
    let sockets = connect(&target.door, clients).await?;
    let took = begin.elapsed();
    sleep(SETTLE).await;
    let full = usage::memory(pid)?;
    let cpu_before = usage::cpu(pid)?;
    sleep(watch).await;
    let cpu = usage::cpu(pid)?.saturating_sub(cpu_before);
    drop(sockets);
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

async fn connect(door: &Door, clients: usize) -> Result<Vec<TcpStream>, Error> {
    let mut sockets = Vec::with_capacity(clients);
    let mut under_way = JoinSet::new();
    for _ in 0..clients {
        if under_way.len() >= AT_ONCE {
            sockets.extend(next(&mut under_way).await?);
        }
        let (port, user, database) = (door.port, door.user.clone(), door.database.clone());
        under_way.spawn(async move {
            let mut client = Client::connect(port, &user, &database, 1024).await?;
            client.count("select 1").await?;
            Ok(client.idle())
        });
    }
    while let Some(socket) = next(&mut under_way).await? {
        sockets.push(socket);
    }
    Ok(sockets)
}

async fn next(
    under_way: &mut JoinSet<Result<TcpStream, Error>>,
) -> Result<Option<TcpStream>, Error> {
    match under_way.join_next().await {
        None => Ok(None),
        Some(Ok(socket)) => socket.map(Some),
        Some(Err(error)) => Err(Error::Refused(error.to_string())),
    }
}

/// Memory may shrink too, and a process has far less than 2^52 bytes.
fn growth(before: u64, after: u64) -> f64 {
    after as f64 - before as f64
}
