//! Two servers that are alike, one of them behind pgherd with a pool of two connections.

use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};

use pgherd_sandbox::{Binaries, Server};
use pgherd_tests::{Config, Proxy};

/// How the scripts' sessions call themselves, by which the server's log tells them apart.
pub(crate) const APPLICATION: &str = "script";

/// What every database begins with, the noisy clients' things among it; their sequence has one
/// value.
const ROLES: &str = "\
    create role app superuser login;\n\
    create role noise_role;\n\
    create database base template template0;\n";
const BASE: &str = "\
    create schema noise;\n\
    grant usage on schema noise to public;\n\
    create table noise.t (a int);\n\
    create sequence noise.s increment 2 minvalue 77 maxvalue 78 cycle;\n";

/// How much is shown of what a process did that died.
const SHOWN: usize = 30;

/// The servers and the proxy.
#[derive(Debug)]
pub(crate) struct Stage {
    // The proxy ends before what stands behind it.
    pub(crate) proxy: Proxy,
    pub(crate) direct: Server,
    pub(crate) behind: Server,
    number: AtomicU32,
}

impl Stage {
    pub(crate) async fn new() -> Self {
        let binaries = Binaries::find().expect("Postgres is needed");
        let start = || async {
            let server = Server::builder(&binaries)
                .settings(&[
                    ("max_connections", "400"),
                    ("log_statement", "all"),
                    ("log_line_prefix", "%d|%a|%p|"),
                    // Plans and sizes must not hang on when a worker came by.
                    ("autovacuum", "off"),
                ])
                .start()
                .await
                .expect("the server starts");
            server.sql(ROLES).await.expect("the roles are made");
            server.sql_in("base", BASE).await.expect("the base is made");
            server
        };
        let (direct, behind) = tokio::join!(start(), start());
        let config = Config::text(format!(
            "[listen]\naddresses = [\"127.0.0.1:{{port}}\"]\n\
             [auth]\nmethod = \"trust\"\n\
             [log]\nstats_every = 0\n\
             [pool]\nsize = 2\n\
             [timeouts]\ncheckout_notice = 0\nserver_idle = \"5s\"\n\
             [users.app]\npassword = \"app\"\nconsole = \"admin\"\n\
             [databases.\"*\"]\nhosts = [\"127.0.0.1:{}\"]\n",
            behind.port()
        ));
        Self {
            proxy: Proxy::start(&config).await,
            direct,
            behind,
            number: AtomicU32::new(0),
        }
    }

    /// Makes a database of the same name on both servers.
    pub(crate) async fn database(&self, template: &str) -> String {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let name = format!("d{number}");
        let create = format!("create database {name} template {template}");
        let (direct, behind) = tokio::join!(self.direct.sql(&create), self.behind.sql(&create));
        direct.expect("the database is made");
        behind.expect("the database is made");
        name
    }

    /// The processes of the server behind the proxy that have run statements of a script in this
    /// database, as the server's own log tells it.
    pub(crate) fn processes(&self, database: &str) -> BTreeSet<String> {
        let log = fs::read(self.behind.log()).expect("the log can be read");
        let log = String::from_utf8_lossy(&log);
        let begin = format!("{database}|{APPLICATION}|");
        log.lines()
            .filter_map(|line| line.strip_prefix(&begin)?.split_once('|'))
            .filter(|(_, rest)| rest.contains("statement: ") || rest.contains("execute "))
            .map(|(process, _)| process.to_owned())
            .collect()
    }

    /// What the servers' logs tell of processes that died, with what they were doing.
    pub(crate) fn crashes(&self) -> String {
        let mut crashes = String::new();
        for server in [&self.direct, &self.behind] {
            let log = fs::read(server.log()).unwrap_or_default();
            let log = String::from_utf8_lossy(&log).into_owned();
            let lines: Vec<_> = log.lines().collect();
            let dead = lines.iter().find_map(|line| {
                let (_, rest) = line.split_once("server process (PID ")?;
                rest.split_once(')').map(|(process, _)| process)
            });
            let Some(process) = dead else { continue };
            let mark = format!("|{process}|");
            let its: Vec<_> = lines.iter().filter(|line| line.contains(&mark)).collect();
            for line in &its[its.len().saturating_sub(SHOWN)..] {
                crashes += line;
                crashes.push('\n');
            }
        }
        crashes
    }
}
