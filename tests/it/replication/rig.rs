//! A server that may be replicated, and what replicates it.

use std::collections::HashSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use pgherd_sandbox::{Account, Binaries, Daemon, Home, Server, free_port};
use pgherd_tests::{Config, Database, PATIENCE, Proxy, run, until};
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::OnceCell;

static SERVER: OnceCell<Server> = OnceCell::const_new();
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// `all` means ordinary databases only, hence both words.
const RULES: &[&str] = &[
    "host all,replication scram 127.0.0.1/32 scram-sha-256",
    "hostssl all,replication tls 127.0.0.1/32 scram-sha-256",
    "hostnossl all,replication tls 127.0.0.1/32 reject",
    "host replication unruled 127.0.0.1/32 reject",
    "host all,replication all 127.0.0.1/32 trust",
    "local all,replication all trust",
];

const ROLES: &str = "\
    create role app login superuser replication;\n\
    create role other login;\n\
    create role unruled login replication;\n\
    create role scram login replication password 'scram';\n\
    create role tls login replication password 'tls';\n";

/// Starts a server of one's own whose user `app` may replicate.
pub(super) async fn start() -> Server {
    let binaries = Binaries::find().expect("Postgres is needed");
    let server = Server::builder(&binaries)
        .auth(RULES)
        .tls(true)
        .settings(&[("max_wal_senders", "40"), ("max_replication_slots", "40")])
        .start()
        .await
        .expect("the server starts");
    server.sql(ROLES).await.expect("the users are made");
    server
}

/// Gives the server that the tests of replication share.
pub(super) async fn server() -> &'static Server {
    SERVER.get_or_init(start).await
}

/// Makes a database of a test's own.
pub(super) async fn database(server: &Server) -> Database {
    let name = format!("r{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    let create = format!("create database {name} template template0");
    server.sql(&create).await.unwrap();
    Database {
        name,
        port: server.port(),
    }
}

/// A configuration as [`Config::before`] has it that listens on one more port, which stays the
/// same when the proxy is started anew.
pub(super) fn config_at(database: &Database, port: u16) -> Config {
    let (name, host) = (&database.name, database.port);
    Config::text(format!(
        "[listen]\naddresses = [\"127.0.0.1:{{port}}\", \"127.0.0.1:{port}\"]\n\
         [auth]\nmethod = \"trust\"\n[users.app]\n\
         [databases.{name}]\nhosts = [\"127.0.0.1:{host}\"]\n"
    ))
}

/// Ends a proxy as an operator would, and sees that it goes in time and content.
pub(super) async fn stop(mut proxy: Proxy) {
    proxy.signal(Signal::TERM);
    assert!(proxy.wait().await.success(), "{}", proxy.log());
}

/// A program of Postgres that goes to a port on this machine as `app`; `name` is its application
/// name.
pub(super) fn program(server: &Server, tool: &str, port: u16, name: &str) -> Command {
    let mut command = server.client(tool).expect("it is installed");
    command
        .env("PGHOST", "127.0.0.1")
        .env("PGPORT", port.to_string())
        .env("PGUSER", "app")
        .env("PGAPPNAME", name);
    command
}

/// A program that runs until it is told to end; dropped, it is killed.
pub(super) struct Running {
    child: tokio::process::Child,
}

impl Running {
    pub(super) fn start(mut command: Command) -> Self {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let child = tokio::process::Command::from(command)
            .kill_on_drop(true)
            .spawn()
            .expect("it starts");
        Self { child }
    }

    pub(super) fn signal(&self, signal: Signal) {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok());
        let pid = pid.and_then(Pid::from_raw).expect("it runs");
        kill_process(pid, signal).expect("it takes a signal");
    }

    /// Waits for its end and gives its exit code, -1 after a signal, with what it complained of.
    pub(super) async fn end(self) -> (i32, String) {
        let ended = tokio::time::timeout(PATIENCE, self.child.wait_with_output());
        let output = ended.await.expect("it ends").expect("it is waited for");
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code().unwrap_or(-1), errors)
    }
}

/// A server that was started from a directory that a backup has made.
pub(super) struct Restored {
    daemon: Daemon,
    home: Home,
    port: u16,
    server: &'static Server,
}

impl Restored {
    /// Takes a backup by `pg_basebackup` with these arguments, and starts it.
    pub(super) async fn from_backup(mut backup: Command, server: &'static Server) -> Self {
        let account = Account::choose();
        let mut home = Home::new(account).unwrap();
        let data = home.join("data");
        backup.arg("--pgdata").arg(&data);
        run(backup, "").await.success();
        let port = free_port();
        let daemon = launch(&data, port, account, &mut home, server);
        let restored = Self {
            daemon,
            home,
            port,
            server,
        };
        until("the restored server answers", async || {
            restored.try_sql("postgres", "select 1").await.is_ok()
        })
        .await;
        restored
    }

    /// Runs statements as its superuser.
    pub(super) async fn sql(&self, database: &str, statements: &str) -> String {
        let answer = self.try_sql(database, statements).await;
        answer.unwrap_or_else(|error| panic!("{error}\n{}", self.home.tail("log")))
    }

    async fn try_sql(&self, database: &str, statements: &str) -> Result<String, String> {
        let mut psql = self.server.client("psql").unwrap();
        psql.env("PGHOST", self.home.path())
            .env("PGPORT", self.port.to_string())
            .args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1"])
            .args(["-d", database]);
        let output = run(psql, statements).await;
        match output.code {
            0 => Ok(output.out.trim_end().to_owned()),
            _ => Err(output.err),
        }
    }

    /// Gives all that was logged.
    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(self.home.join("log")).unwrap_or_default()
    }

    /// Kills it.
    pub(super) fn kill(&mut self) {
        self.daemon.kill();
    }
}

fn launch(data: &Path, port: u16, account: Account, home: &mut Home, server: &Server) -> Daemon {
    let mut postgres = account.command(server.binaries().tool("postgres").unwrap());
    postgres.arg("-D").arg(data);
    let sockets = format!("unix_socket_directories={}", home.path().display());
    for setting in [
        &*sockets,
        &format!("port={port}"),
        "wal_retrieve_retry_interval=100ms",
    ] {
        postgres.args(["-c", setting]);
    }
    Daemon::spawn("postgres", postgres, home).unwrap()
}

/// How many walsenders of this application name a server has.
pub(super) async fn senders(server: &Server, name: &str) -> usize {
    let question = format!(
        "select count(*) from pg_stat_activity \
         where backend_type = 'walsender' and application_name = '{name}'"
    );
    server.sql(&question).await.unwrap().parse().unwrap()
}

/// Waits until a server has so many walsenders of this application name.
pub(super) async fn wait_for_senders(server: &Server, name: &str, count: usize) {
    until("the walsenders are so many", async || {
        senders(server, name).await == count
    })
    .await;
}

/// How many TCP connections a process has open, by the sockets among its descriptors.
pub(super) fn connections(pid: u32) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let connections = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // The fourth column is the state, of which 0A is to listen; the tenth is the inode.
        (fields[3] != "0A").then(|| format!("socket:[{}]", fields[9]))
    });
    let connections: HashSet<String> = connections.collect();
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    descriptors
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter(|target| connections.contains(&*target.to_string_lossy()))
        .count()
}
