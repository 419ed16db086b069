//! Servers, and lanes of two proxies each before three databases on them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use pgherd_sandbox::{Binaries, Error, Server};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use super::lane::Lane;
use super::tap::Tap;
use super::transfer::{BALANCE, BOOK, SHARDS, TABLES};
use crate::checks::{Check, Wrong};
use crate::proxy::Proxy;
use crate::workloads::life::Life;

/// What the shards are together.
pub(super) const WHOLE: &str = "shop";

/// How long a server may take to answer that was killed and started again.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often it is tried meanwhile.
const TICK: Duration = Duration::from_millis(20);

/// All of it.
pub(super) struct Stage {
    /// First, so that their proxies end first.
    pub(super) lanes: Vec<Lane>,
}

/// The way to a database of a server's, past everybody.
pub(super) struct Place {
    port: u16,
    database: String,
    client: Option<Client>,
}

/// Starts so many lanes with servers of their own, and so many that share one server, on which each has three databases.
///
/// # Errors
/// When the servers do not do as they are told.
pub(super) async fn start(
    pgherd: &Path,
    own: usize,
    shared: usize,
    life: &Arc<Life>,
) -> Result<Stage, Error> {
    let binaries = Binaries::find()?;
    let binaries = &binaries;
    let owned = (0..own).map(|number| async move {
        let servers = servers(binaries, SHARDS, 60).await?;
        let lane = lane(&format!("own{number}"), pgherd, &servers, life).await?;
        Ok::<_, Error>(lane.with(servers))
    });
    let mut lanes = try_join_all(owned).await?;
    if shared > 0 {
        let servers: Arc<[Server]> = servers(binaries, 1, 400).await?.into();
        let all = (0..shared).map(|number| {
            let servers = Arc::clone(&servers);
            async move {
                let name = format!("lane{number}");
                let lane = lane(&name, pgherd, &servers, life).await?;
                Ok::<_, Error>(lane.beside(servers))
            }
        });
        lanes.extend(try_join_all(all).await?);
    }
    Ok(Stage { lanes })
}

async fn servers(
    binaries: &Binaries,
    count: usize,
    connections: u16,
) -> Result<Vec<Server>, Error> {
    let connections = connections.to_string();
    let all = (0..count).map(|_| {
        let settings = [
            ("max_connections", connections.as_str()),
            ("max_prepared_transactions", connections.as_str()),
            ("autovacuum", "off"),
        ];
        Server::builder(binaries).settings(&settings).start()
    });
    try_join_all(all).await
}

async fn lane(
    name: &str,
    pgherd: &Path,
    servers: &[Server],
    life: &Arc<Life>,
) -> Result<Lane, Error> {
    let sections = (0..SHARDS).map(|shard| format!("{name}_{shard}"));
    let sections: Vec<String> = sections.collect();
    let servers = servers.iter().cycle().take(SHARDS);
    for (shard, server) in servers.clone().enumerate() {
        let section = &sections[shard];
        server.sql(&format!("create database {section}")).await?;
        let rows = BOOK.accounts(shard).map(|id| format!("({id}, {BALANCE})"));
        let rows: Vec<String> = rows.collect();
        let fill = format!("{TABLES} insert into accounts values {}", rows.join(", "));
        server.sql_in(section, &fill).await?;
    }
    let places = sections
        .iter()
        .zip(servers.clone())
        .map(|(section, server)| Place {
            port: server.port(),
            database: section.clone(),
            client: None,
        });
    let places = places.collect();
    let mut taps = Vec::new();
    let mut proxies = Vec::new();
    for _ in 0..2 {
        let own = servers.clone().map(|server| Tap::before(server.port()));
        let own = try_join_all(own).await.map_err(|source| Error::Io {
            what: "start a relay".to_owned(),
            source,
        })?;
        let text = configuration(&sections, &own);
        let pgherd = pgherd.to_string_lossy().into_owned();
        let proxy = spawn_blocking(move || Proxy::start_obedient(&pgherd, &text)).await;
        proxies.push(proxy.expect("pgherd starts"));
        taps.push(own);
    }
    Ok(Lane::new(name, proxies, taps, places, life))
}

fn configuration(sections: &[String], taps: &[Tap]) -> String {
    let mut text = "[pool]\nsize = 6\n\
         [log]\nstats_every = 0\n\
         [auth]\nmethod = \"trust\"\n\
         [admin]\nadmins = [\"postgres\"]\n\
         [users.postgres]\npassword = \"postgres\"\n"
        .to_owned();
    for (section, tap) in sections.iter().zip(taps) {
        // What is encrypted nobody can look into.
        text += &format!(
            "[databases.{section}]\nhosts = [\"127.0.0.1:{}\"]\ntls = {{ mode = \"disable\" }}\n",
            tap.port()
        );
    }
    text + &format!(
        "[databases.{WHOLE}]\nshards = {sections:?}\n\
         [databases.{WHOLE}.sharding]\n\
         tables = [{{ name = \"accounts\", key = \"id\" }}, {{ name = \"moves\", key = \"account\" }}]\n"
    )
}

impl Place {
    /// The numbers that a question gives, once the server answers.
    pub(super) async fn numbers(&mut self, text: &str) -> Result<Vec<i64>, Wrong> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let error = match self.ask(text).await {
                Ok(numbers) => return Ok(numbers),
                Err(error) => error,
            };
            self.client = None;
            if Instant::now() > deadline {
                let what = format!("{} does not answer {text}: {error}", self.database);
                return Err(Check::Work.caught(what));
            }
            sleep(TICK).await;
        }
    }

    async fn ask(&mut self, text: &str) -> Result<Vec<i64>, tokio_postgres::Error> {
        let client = match self.client.take() {
            Some(client) if !client.is_closed() => client,
            _ => arrive(self.port, &self.database).await?,
        };
        let client = self.client.insert(client);
        let answer = client.simple_query(text).await?;
        let values = answer.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
            _ => None,
        });
        Ok(values.collect())
    }
}

async fn arrive(port: u16, database: &str) -> Result<Client, tokio_postgres::Error> {
    let mut config = tokio_postgres::Config::new();
    config
        .host("127.0.0.1")
        .port(port)
        .user("postgres")
        .dbname(database)
        .connect_timeout(PATIENCE);
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}
