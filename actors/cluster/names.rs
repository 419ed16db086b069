//! Looks up where the names of hosts lead, again and again.
//!
//! Owns: the lookups under way, at most one a name: the system's resolver cannot be called off.
//! Hears: that its task has ended.
//! Tells: the [`Cluster`], by a call, what each lookup gave.
//! If it dies: names lead where they led; the next one looks them up again.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use pgherd_supervise::{End, Work};
use tokio::task::JoinHandle;
use tokio::time::timeout_at;

use crate::clock;
use crate::cluster::Cluster;
use crate::facts::Facts;

/// The actor, once it is [`Tasked`](pgherd_supervise::Tasked).
#[derive(Debug)]
pub struct Guide;

/// What it is born with.
#[derive(Debug, Clone)]
pub struct GuideArguments {
    /// Where it tells what it found.
    pub cluster: Arc<Cluster>,
    /// The facts, for the configuration.
    pub facts: Arc<Facts>,
}

/// For so long an answer is waited for, before it goes on without; the lookup goes on, too.
const PATIENCE: Duration = Duration::from_secs(2);
/// Under suspicion names are looked up that often: it is a cache that answers, of this machine or one nearby.
const PACE_MIN: Duration = Duration::from_millis(200);

type Lookup = JoinHandle<io::Result<Vec<IpAddr>>>;

impl Work for Guide {
    type Arguments = GuideArguments;

    async fn run(arguments: GuideArguments) -> End {
        let GuideArguments { cluster, facts } = arguments;
        let mut under_way: HashMap<String, Lookup> = HashMap::new();
        loop {
            let names = cluster.looked_up();
            let Some(pace) = facts.config.load().failover.resolve else {
                return End::Stop;
            };
            if names.is_empty() {
                return End::Stop;
            }
            under_way.retain(|name, _| names.contains(name));
            for name in &names {
                under_way.entry(name.clone()).or_insert_with(|| begin(name));
            }
            let deadline = tokio::time::Instant::now() + PATIENCE;
            for name in names {
                let Some(mut lookup) = under_way.remove(&name) else {
                    continue;
                };
                let found = timeout_at(deadline, &mut lookup).await;
                if found.is_err() {
                    under_way.insert(name.clone(), lookup);
                }
                let addresses = match found {
                    Ok(Ok(Ok(addresses))) => addresses,
                    Ok(Ok(Err(error))) => unknown(&cluster, &name, &error),
                    Ok(Err(error)) => unknown(&cluster, &name, &error.into()),
                    Err(elapsed) => unknown(&cluster, &name, &elapsed.into()),
                };
                cluster.answered(&name, &addresses, clock::now());
            }
            rest(&cluster, pace).await;
        }
    }
}

fn begin(name: &str) -> Lookup {
    let name = name.to_owned();
    tokio::spawn(async move { pgherd_net::resolve(&name).await })
}

/// No addresses, and why.
fn unknown(cluster: &Cluster, name: &str, error: &io::Error) -> Vec<IpAddr> {
    tracing::debug!(database = cluster.name, name, %error, "a name leads nowhere");
    Vec::new()
}

/// Waits for the next round, which comes sooner while anything is in doubt.
async fn rest(cluster: &Cluster, pace: Duration) {
    let begun = tokio::time::Instant::now();
    tokio::time::sleep(PACE_MIN.min(pace)).await;
    while !cluster.is_suspicious(clock::now()) {
        let doubted = timeout_at(begun + pace, cluster.doubted()).await;
        if doubted.is_err() {
            return;
        }
    }
}
