//! What sharding costs: one server that has all rows, beside four that share them, with pgherd before the four.

use std::path::Path;

use pgherd_sandbox::{Account, Binaries, Home, Server, free_port};
use serde::Serialize;

use crate::args::Args;
use crate::client::Client;
use crate::error::Error;
use crate::settings;
use crate::target::{Pgherd, launch};

mod large;
mod tpch;

use large::{Copied, Sorted};
use tpch::Tpch;

/// How many shards there are.
const COUNT: usize = 4;

/// The database on each server, and what the four are called together.
pub(crate) const DATABASE: &str = "herd";

/// How much is read at once.
const READ: usize = 256 * 1024;

/// What all servers are given besides Postgres' own settings: no proxy changes how long a server compiles, and
/// none of them has a disk of its own here.
const SETTINGS: &[(&str, &str)] = &[
    ("max_connections", "100"),
    ("max_prepared_transactions", "100"),
    ("shared_buffers", "256MB"),
    ("max_wal_size", "4GB"),
    ("autovacuum", "off"),
    ("synchronous_commit", "off"),
    ("jit", "off"),
];

/// All that was measured.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Proof {
    tpch: Option<Tpch>,
    sorted: Option<Sorted>,
    copied: Option<Copied>,
}

impl Proof {
    /// Whether an answer was refused or not that of one server.
    pub(crate) fn failed(&self) -> bool {
        self.tpch.as_ref().is_some_and(Tpch::failed)
    }

    /// The tables as text.
    pub(crate) fn text(&self) -> String {
        let tpch = self.tpch.as_ref().map(Tpch::text);
        let sorted = self.sorted.as_ref().map(Sorted::text);
        let copied = self.copied.as_ref().map(Copied::text);
        let parts = [tpch, sorted, copied];
        parts.into_iter().flatten().collect::<Vec<_>>().join("\n")
    }
}

/// Runs those of the cells that were asked for.
pub(crate) async fn run(program: &Path, args: &Args) -> Result<Proof, Error> {
    let mut proof = Proof::default();
    let wanted = [tpch::NAME, large::SORT, large::COPY].map(|name| args.wants(name));
    if !wanted.contains(&true) {
        return Ok(proof);
    }
    let herd = Herd::start(program, args.pool_size).await?;
    if wanted[0] {
        proof.tpch = Some(tpch::run(&herd, args).await?);
    }
    if wanted[1] {
        proof.sorted = Some(large::sort(&herd, args).await?);
    }
    if wanted[2] {
        proof.copied = Some(large::copy(&herd, args).await?);
    }
    Ok(proof)
}

/// The servers and the proxy.
struct Herd {
    pgherd: Pgherd,
    port: u16,
    whole: Server,
    shards: [Server; COUNT],
}

impl Herd {
    async fn start(program: &Path, pool_size: usize) -> Result<Self, Error> {
        eprintln!("servers of the shards ...");
        let binaries = Binaries::find().map_err(pgherd_sandbox::Error::from)?;
        let start = || Server::builder(&binaries).settings(SETTINGS).start();
        let (whole, zero, one, two, three) =
            tokio::try_join!(start(), start(), start(), start(), start())?;
        let shards = [zero, one, two, three];
        let create = format!("create database {DATABASE}");
        let tables = [pgherd_tpch::TABLES, large::TABLES].concat();
        for server in std::iter::once(&whole).chain(&shards) {
            server.sql(&create).await?;
            server.sql_in(DATABASE, &tables).await?;
        }
        let home = Home::new(Account::Own)?;
        let port = free_port();
        let servers = shards.each_ref().map(Server::port);
        let text = settings::spread(port, pool_size, &servers);
        Ok(Self {
            pgherd: launch(program, home, port, &text).await?,
            port,
            whole,
            shards,
        })
    }

    /// The number of the proxy's process.
    fn pid(&self) -> u32 {
        self.pgherd.pid()
    }

    /// A client of the shards.
    async fn spread(&self) -> Result<Client, Error> {
        Client::connect(self.port, "postgres", DATABASE, READ).await
    }

    /// A client of the server that has all rows.
    async fn direct(&self) -> Result<Client, Error> {
        Client::connect(self.whole.port(), "postgres", DATABASE, READ).await
    }

    /// Runs statements on all servers, one after the other.
    async fn everywhere(&self, statements: &str) -> Result<(), Error> {
        for server in std::iter::once(&self.whole).chain(&self.shards) {
            server.sql_in(DATABASE, statements).await?;
        }
        Ok(())
    }
}
