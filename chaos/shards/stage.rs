//! The shards, and the proxies before them.

use std::sync::LazyLock;
use std::time::Duration;

use pgherd_planner::placement::{KeyValue, Method, Placement, Shard};
use pgherd_sandbox::{Binaries, Cluster, Error, Replication, Server};
use tokio::time::{Instant, sleep};

use crate::door::Door;
use crate::failover;
use crate::failover::promoter::{Done, Promoter};
use crate::failover::stage::Middle;
use crate::proxy::Proxy;
use crate::workloads::lists::numbers;

/// The databases that are the shards; each is on a cluster of its own.
pub(super) const SHARDS: [&str; 2] = ["shop0", "shop1"];

/// What they are together.
pub(super) const WHOLE: &str = "shop";

/// A primary and two replicas: after each failover one is left to acknowledge what is written.
const NODES: usize = 3;

/// Server connections of each pool; fewer than there are clients.
const POOL: usize = 10;

/// How many accounts there are on each shard.
pub(super) const ACCOUNTS: i64 = 60;

/// What is on each at first.
pub(super) const BALANCE: i64 = 1000;

/// How long what was left prepared may stay so; those who do not know whose it is wait eight seconds.
const PATIENCE: Duration = Duration::from_secs(40);

/// How often it is looked at meanwhile.
const TICK: Duration = Duration::from_millis(50);

const TABLES: &str = "create table accounts (id bigint primary key, balance bigint not null);
    create table moves (account bigint not null, id bigint not null, amount bigint not null);
    create table herd (account bigint not null, id bigint not null);
    create table herd_direct (id bigint not null);";

/// How many parts of transactions are prepared on a server.
const PREPARED: &str = "select count(*) from pg_prepared_xacts";

/// The accounts of each shard.
static KEYS: LazyLock<[Vec<i64>; 2]> = LazyLock::new(|| {
    let shards = SHARDS.len() as u16;
    let mut placement = Placement::new(shards);
    let group = placement.group(Method::hash(shards));
    let group = group.expect("a hash spreads over all shards");
    [0, 1].map(|shard| {
        let here = |key: &i64| placement.shard(group, &[KeyValue::Int(*key)]) == Ok(Shard(shard));
        (1..).filter(here).take(ACCOUNTS as usize).collect()
    })
});

/// An account by its number on a shard.
pub(super) fn account(shard: u16, number: i64) -> i64 {
    KEYS[usize::from(shard)][number as usize]
}

/// All of them, by shard.
pub(super) fn accounts() -> &'static [Vec<i64>] {
    &*KEYS
}

/// Two clusters and two proxies.
pub(super) struct Stage {
    pub(super) proxies: [Proxy; 2],
    pub(super) shards: [Promoter; 2],
}

impl Stage {
    pub(super) async fn start(pgherd: &str) -> Result<Self, Error> {
        let binaries = Binaries::find()?;
        let (one, two) = tokio::try_join!(shard(&binaries, 0), shard(&binaries, 1))?;
        let configuration = configuration([&one, &two]);
        let proxies = [0, 1].map(|_| Proxy::start(pgherd, &configuration));
        Ok(Self {
            proxies,
            shards: [one, two],
        })
    }

    /// The ways in, through either proxy.
    pub(super) fn doors(&self) -> [Door; 2] {
        self.proxies
            .each_ref()
            .map(|proxy| Door::pgherd(proxy.port()).to(WHOLE))
    }

    /// The way to the primary of a shard for who is told where it is.
    pub(super) fn direct(&self, shard: usize) -> Door {
        Door::direct(self.shards[shard].whereabouts()).to(SHARDS[shard])
    }

    /// Asks the primary of a shard.
    pub(super) async fn ask(&self, shard: usize, text: &str) -> Result<String, Error> {
        let cluster = self.shards[shard].cluster();
        cluster
            .node(cluster.primary())
            .sql_in(SHARDS[shard], text)
            .await
    }

    /// The numbers that a question gives on both shards.
    pub(super) async fn numbers(&self, text: &str) -> Result<Vec<i64>, Error> {
        let mut all = Vec::new();
        for shard in 0..SHARDS.len() {
            all.extend(numbers(&self.ask(shard, text).await?));
        }
        Ok(all)
    }

    /// How many parts of transactions are prepared at the moment.
    pub(super) async fn prepared(&self) -> Result<i64, Error> {
        Ok(self.numbers(PREPARED).await?.iter().sum())
    }

    /// Waits until nothing is prepared any more, and gives how much is still there when patience ends.
    pub(super) async fn settled(&self) -> Result<i64, Error> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = self.prepared().await?;
            if left == 0 || Instant::now() > deadline {
                return Ok(left);
            }
            sleep(TICK).await;
        }
    }

    /// Breaks the primary of a shard, and gives when another one took writes.
    pub(super) async fn fail_over(
        &mut self,
        shard: usize,
        fault: failover::Fault,
    ) -> Result<Done, Error> {
        self.shards[shard].fail_over(fault, &Middle::Nobody).await
    }
}

async fn shard(binaries: &Binaries, number: usize) -> Result<Promoter, Error> {
    let primary = Server::builder(binaries).settings(&[
        ("max_connections", "60"),
        ("max_prepared_transactions", "60"),
    ]);
    let cluster = Cluster::start_as(primary, NODES, Replication::Synchronous).await?;
    let database = SHARDS[number];
    let server = cluster.node(cluster.primary());
    server.sql(&format!("create database {database}")).await?;
    let values = KEYS[number].iter().map(|id| format!("({id}, {BALANCE})"));
    let values: Vec<String> = values.collect();
    let fill = format!("{TABLES} insert into accounts values {}", values.join(", "));
    server.sql_in(database, &fill).await?;
    Ok(Promoter::new(cluster))
}

fn configuration(shards: [&Promoter; 2]) -> String {
    let mut text = format!(
        "[pool]\nsize = {POOL}\n\
         [auth]\nmethod = \"trust\"\n\
         [admin]\nadmins = [\"postgres\"]\n\
         [users.postgres]\npassword = \"postgres\"\n"
    );
    for (name, shard) in SHARDS.iter().zip(shards) {
        let ports = shard.cluster().ports().into_iter();
        let hosts: Vec<String> = ports.map(|port| format!("\"127.0.0.1:{port}\"")).collect();
        text += &format!("[databases.{name}]\nhosts = [{}]\n", hosts.join(", "));
    }
    text + &format!(
        "[databases.{WHOLE}]\nshards = {SHARDS:?}\n\
         [databases.{WHOLE}.sharding]\n\
         tables = [{{ name = \"accounts\", key = \"id\" }}, {{ name = \"moves\", key = \"account\" }}, \
         {{ name = \"herd\", key = \"account\" }}]\n"
    )
}
