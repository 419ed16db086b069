//! A server, pgherd before it, and lanes on which cases run side by side.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use pgherd_sandbox::{Binaries, Error, Server};
use tokio::time::{Instant, sleep};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage, SimpleQueryRow};

use super::leg::Encryption;
use super::relay::Relay;
use crate::hostile::papers::Papers;
use crate::proxy::Proxy;

/// Everybody's password.
pub(super) const PASSWORD: &str = "secret";

/// Who is trusted on both sides.
pub(super) const TRUSTED: &str = "app";

/// Who has to prove who it is on both sides.
pub(super) const PROVEN: &str = "prover";

/// How long anything may take that is to happen by itself.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often it is looked at meanwhile.
const TICK: Duration = Duration::from_millis(3);

/// What a case writes into.
const TABLE: &str = "create table herd (id bigint not null, part int not null, note text); \
                     grant all on herd to public";

/// What ends a silence, and is short so that the matrix is.
const SETTINGS: &str = r#"
[pool]
size = 1
[timeouts]
login = "3s"
connect = "3s"
checkout = "12s"
checkout_notice = 0
hold = "2s"
query = "2s"
transaction = "5s"
idle_in_transaction = "2s"
client_idle = "6s"
rollback = "1s"
cancel = "500ms"
[admin]
admins = ["app"]
[users.app]
password = "secret"
[users.prover]
password = "secret"
[auth]
rules = [
    { type = "host", users = ["prover"], method = "scram-sha-256" },
    { type = "host", method = "trust" },
]
"#;

/// Both of them.
#[derive(Debug)]
pub(super) struct Stage {
    /// First, so that it ends first.
    pub(super) proxy: Proxy,
    pub(super) server: Server,
    _papers: Option<Papers>,
}

/// A database of pgherd's own, with a relay on each side of pgherd.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) database: String,
    /// Between pgherd and the server.
    pub(super) behind: Relay,
    /// Between clients and pgherd.
    pub(super) before: Relay,
    /// pgherd itself.
    pub(super) proxy: SocketAddr,
    /// The server itself.
    pub(super) server: SocketAddr,
    /// The time zone of a session that has set none.
    pub(super) timezone: String,
    direct: Client,
    console: Client,
}

/// Starts both, with so many lanes, and with TLS on both sides of pgherd if that is wanted.
///
/// # Errors
/// When the server does not do as it is told.
pub(super) async fn start(
    executable: &Path,
    lanes: usize,
    tls: bool,
) -> Result<(Stage, Vec<Lane>), Error> {
    let papers = if tls {
        Some(Papers::make().map_err(relayed)?)
    } else {
        None
    };
    let own = papers.as_ref().map(Papers::certificate);
    let or_plain = |made: Option<std::io::Result<Encryption>>| {
        made.unwrap_or(Ok(Encryption::Nowhere)).map_err(relayed)
    };
    let to_relays = or_plain(own.map(Encryption::near))?;
    let to_clients = or_plain(own.map(Encryption::far))?;
    let binaries = Binaries::find()?;
    let server = Server::builder(&binaries)
        .settings(&[("max_connections", "200")])
        .auth(&[
            "local all all trust",
            "host all prover 127.0.0.1/32 scram-sha-256",
            "host all all 127.0.0.1/32 trust",
        ])
        .start()
        .await?;
    server.create_user(TRUSTED, PASSWORD).await?;
    server.create_user(PROVEN, PASSWORD).await?;
    server.sql(TABLE).await?;
    let timezone = server.sql("show timezone").await?.trim().to_owned();
    let database = |number: usize| format!("lane{number}");
    let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut settings = SETTINGS.to_owned();
    settings += &papers.as_ref().map(Papers::section).unwrap_or_default();
    let mode = own.map_or_else(
        || "mode = \"disable\"".to_owned(),
        |own| format!("mode = \"verify-full\", ca = {:?}", own.ca),
    );
    let mut relays = Vec::new();
    for number in 0..lanes {
        let name = database(number);
        let relay = Relay::start(at(server.port()), to_relays.clone()).await;
        let relay = relay.map_err(relayed)?;
        settings += &format!(
            "[databases.{name}]\ndbname = \"postgres\"\nhosts = [\"{}\"]\ntls = {{ {mode} }}\n",
            relay.address()
        );
        relays.push(relay);
    }
    let proxy = Proxy::start(&executable.to_string_lossy(), &settings);
    let mut all = Vec::new();
    for (number, behind) in relays.into_iter().enumerate() {
        let database = database(number);
        all.push(Lane {
            before: Relay::start(proxy.address(), to_clients.clone())
                .await
                .map_err(relayed)?,
            behind,
            proxy: proxy.address(),
            server: at(server.port()),
            timezone: timezone.clone(),
            direct: arrive(server.port(), "postgres", "postgres").await,
            console: arrive(proxy.port(), TRUSTED, "pgherd").await,
            database,
        });
    }
    let stage = Stage {
        proxy,
        server,
        _papers: papers,
    };
    Ok((stage, all))
}

fn relayed(source: std::io::Error) -> Error {
    Error::Io {
        what: "start a relay".to_owned(),
        source,
    }
}

/// Logs in on this machine.
async fn arrive(port: u16, user: &str, database: &str) -> Client {
    let mut config = tokio_postgres::Config::new();
    config
        .host("127.0.0.1")
        .port(port)
        .user(user)
        .dbname(database);
    let (client, connection) = config.connect(NoTls).await.expect("the client is let in");
    tokio::spawn(connection);
    client
}

async fn rows(client: &Client, sql: &str) -> Vec<SimpleQueryRow> {
    let answer = client.simple_query(sql).await.expect("it answers");
    let rows = answer.into_iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    rows.collect()
}

impl Lane {
    /// Logs in as everybody once, so that pgherd has what it keeps.
    pub(super) async fn settle(&self) {
        for user in [TRUSTED, PROVEN] {
            let entered = super::talk::login(self.proxy, user, &self.database, None).await;
            if let Ok(Ok(mut talk)) = entered {
                let every_function = super::act::question("", true);
                talk.ask(crate::hostile::packet::query(&every_function))
                    .await;
            }
        }
    }

    /// Waits until none of these processes is there any more.
    pub(super) async fn gone(&self, processes: &[u32]) -> Result<(), String> {
        let list: Vec<String> = processes.iter().map(u32::to_string).collect();
        let list = list.join(", ");
        if list.is_empty() {
            return Ok(());
        }
        let sql = format!("select pid from pg_stat_activity where pid in ({list})");
        let deadline = Instant::now() + PATIENCE;
        while !rows(&self.direct, &sql).await.is_empty() {
            if Instant::now() > deadline {
                return Err(format!("of the server's processes {list} one stays"));
            }
            sleep(TICK).await;
        }
        Ok(())
    }

    /// How often a row is there.
    pub(super) async fn count(&self, id: &str, part: u32) -> u64 {
        let sql = format!("select count(*) from herd where id = {id} and part = {part}");
        let rows = rows(&self.direct, &sql).await;
        let count = rows.first().and_then(|row| row.get(0)?.parse().ok());
        count.unwrap_or(u64::MAX)
    }

    /// Waits until pgherd has nothing under way in this lane, and lends nothing to anybody.
    pub(super) async fn quiet(&self) -> Result<(), String> {
        const BUSY: [&str; 5] = [
            "cl_waiting",
            "sv_active",
            "sv_active_cancel",
            "sv_being_canceled",
            "sv_login",
        ];
        self.becomes(&BUSY).await
    }

    /// Waits until it has no client either.
    pub(super) async fn empty(&self) -> Result<(), String> {
        self.becomes(&["cl_active", "cl_waiting", "sv_active"])
            .await
    }

    async fn becomes(&self, none: &[&str]) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let pools = rows(&self.console, "show pools").await;
            let own = pools
                .iter()
                .filter(|row| row.get("database") == Some(&self.database));
            let busy: Vec<String> = own
                .flat_map(|row| none.iter().map(move |name| (name, row.get(*name))))
                .filter(|(_, value)| *value != Some("0"))
                .map(|(name, value)| format!("{name} = {}", value.unwrap_or("?")))
                .collect();
            if busy.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("the pool keeps {}", busy.join(", ")));
            }
            sleep(TICK).await;
        }
    }
}

impl Stage {
    /// The descriptors of pgherd but those of its connections to the server.
    pub(super) async fn descriptors(&self) -> usize {
        let ask = "select count(*) from pg_stat_activity where usename in ('app', 'prover')";
        let servers = self.server.sql(ask).await;
        let servers = servers.ok().and_then(|text| text.parse().ok());
        self.proxy
            .descriptors()
            .saturating_sub(servers.unwrap_or(0))
    }
}
