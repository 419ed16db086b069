//! A real server, pgherd before it, and what both of them hold when all is quiet.

use std::time::Duration;

use pgherd_sandbox::{Binaries, Builder, Server};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error, NoTls, SimpleQueryMessage};

use crate::proxy::Proxy;

/// How long anything may take that is to happen by itself.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How often it is looked at meanwhile.
const TICK: Duration = Duration::from_millis(20);

/// The table that clients write into; it exists in the server's database `postgres`.
const TABLE: &str = "create table herd (id bigint not null)";

/// A server and a proxy before it; everybody is trusted, and is `postgres`.
#[derive(Debug)]
pub struct Rig {
    /// The proxy; first, so that it ends first.
    pub proxy: Proxy,
    /// The server.
    pub server: Server,
    quiet: Quiet,
}

/// What the proxy holds when nobody uses it, apart from idle server connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Quiet {
    descriptors: usize,
    threads: usize,
}

/// A client and the task that carries its bytes.
#[derive(Debug)]
pub struct Guest {
    /// The client.
    pub client: Client,
    connection: JoinHandle<()>,
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Rig {
    /// Starts both; `more` are tables of the configuration other than `[auth]`, `[admin]`,
    /// `[databases]` and `[users]`.
    pub async fn start(executable: &str, more: &str) -> Self {
        let binaries = Binaries::find().expect("Postgres is installed");
        Self::before(executable, more, Server::builder(&binaries)).await
    }

    /// Starts both, the server as described.
    pub async fn before(executable: &str, more: &str, server: Builder) -> Self {
        let server = server.start().await.expect("the server starts");
        server.sql(TABLE).await.expect("the table is made");
        let proxy = Proxy::start(executable, &configuration(server.port(), more));
        let mut rig = Self {
            proxy,
            server,
            quiet: Quiet {
                descriptors: 0,
                threads: 0,
            },
        };
        // The first use makes what stays.
        drop(rig.guest().await);
        sleep(Duration::from_millis(300)).await;
        rig.quiet = rig.held().await;
        rig
    }

    /// Logs in and asks something.
    pub async fn guest(&self) -> Guest {
        let guest = self.try_guest().await.expect("the client is let in");
        guest
            .client
            .batch_execute("select 1")
            .await
            .expect("the client is served");
        guest
    }

    /// Logs in.
    ///
    /// # Errors
    /// What the proxy says.
    pub async fn try_guest(&self) -> Result<Guest, Error> {
        arrive(&self.proxy, "postgres").await
    }

    /// Waits until the sessions are as before, each serves and holds nothing, nobody waits, and no
    /// descriptor or thread has been left behind.
    ///
    /// # Panics
    /// If that does not come to pass in time.
    pub async fn settle(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (held, lists) = (self.held().await, self.pool().await);
            if held == self.quiet && lists.iter().all(|(_, count)| *count == 0) {
                return;
            }
            let late = Instant::now() > deadline;
            assert!(
                !late,
                "left behind: {held:?} for {:?}, {lists:?}",
                self.quiet
            );
            sleep(TICK).await;
        }
    }

    /// What the proxy holds, without its idle server connections.
    async fn held(&self) -> Quiet {
        // Between the two looks a connection may come or go; then the next look will agree.
        let servers = self.server.backend_pids().await.unwrap_or_default().len();
        Quiet {
            descriptors: self.proxy.descriptors().saturating_sub(servers),
            threads: self.proxy.threads(),
        }
    }

    /// What the console says that is under way in the pool.
    async fn pool(&self) -> Vec<(&'static str, u64)> {
        let rows = console(&self.proxy, "show pools").await;
        let busy = [
            "cl_waiting",
            "sv_active",
            "sv_active_cancel",
            "sv_being_canceled",
        ];
        rows.iter()
            .flat_map(|row| busy.map(|name| (name, row)))
            .map(|(name, row)| {
                let value = row.get(name).and_then(|value| value.parse().ok());
                (name, value.unwrap_or(u64::MAX))
            })
            .collect()
    }
}

/// Logs in to a database of a proxy as `postgres`.
///
/// # Errors
/// What the proxy says.
pub async fn arrive(proxy: &Proxy, database: &str) -> Result<Guest, Error> {
    let config = proxy.client("postgres", "postgres", database);
    let (client, connection) = config.connect(NoTls).await?;
    let connection = tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(Guest { client, connection })
}

/// Asks the console for rows.
///
/// # Panics
/// If it does not answer.
pub async fn console(proxy: &Proxy, ask: &str) -> Vec<tokio_postgres::SimpleQueryRow> {
    let guest = arrive(proxy, "pgherd")
        .await
        .expect("the console lets us in");
    let answer = guest
        .client
        .simple_query(ask)
        .await
        .expect("the console answers");
    answer
        .into_iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        })
        .collect()
}

/// The code of an error that the proxy or the server gave.
///
/// # Panics
/// If the connection was lost without a word.
pub fn code(error: &Error) -> &SqlState {
    match error.code() {
        Some(code) => code,
        None => panic!("the connection was lost: {error}"),
    }
}

/// A configuration before the server at a port.
pub fn configuration(port: u16, more: &str) -> String {
    format!(
        "{more}\n\
         [auth]\nmethod = \"trust\"\n\
         [admin]\nadmins = [\"postgres\"]\n\
         [databases.postgres]\nhosts = [\"127.0.0.1:{port}\"]\n\
         [users.postgres]\npassword = \"postgres\"\n"
    )
}
