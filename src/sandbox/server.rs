use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use crate::account::Account;
use crate::binaries::Binaries;
use crate::certificate::Certificate;
use crate::daemon::Daemon;
use crate::error::Error;
use crate::home::Home;
use crate::process;
use crate::tool;

mod builder;
mod disk;
mod replica;
#[cfg(test)]
mod tests;

pub use builder::Builder;

/// How long a server may take to answer, to stop, or to catch up.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often it is looked at meanwhile.
const TICK: Duration = Duration::from_millis(20);

/// The name in error messages.
const NAME: &str = "postgres";

/// A Postgres server of one's own; its superuser is `postgres`, without a password on the unix
/// socket.
///
/// Dropped, it is killed, and its data are removed. The drop blocks for some milliseconds.
#[derive(Debug)]
pub struct Server {
    // Fields drop in this order: the process must be gone before its directory is.
    daemon: Option<Daemon>,
    home: Home,
    binaries: Binaries,
    account: Account,
    port: u16,
    certificate: Option<Certificate>,
    /// How many bytes its own disk has, if it has one.
    disk: Option<u64>,
}

/// How a server is asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Roll back, write a checkpoint, end (SIGINT).
    Fast,
    /// End at once; the next start recovers (SIGQUIT).
    Immediate,
}

impl Server {
    /// Describes a server to be started.
    pub fn builder(binaries: &Binaries) -> Builder {
        Builder::new(binaries)
    }

    /// Gives a URL over TCP, without a password.
    pub fn url(&self, user: &str, database: &str) -> String {
        format!("postgres://{user}@127.0.0.1:{}/{database}", self.port)
    }

    /// Gives a URL over TCP with a password, which must not need escaping.
    pub fn url_with_password(&self, user: &str, password: &str, database: &str) -> String {
        format!(
            "postgres://{user}:{password}@127.0.0.1:{}/{database}",
            self.port
        )
    }

    /// Gives the TCP port on 127.0.0.1, which is also the number of the unix socket.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Gives the directory of the unix socket.
    pub fn socket_dir(&self) -> &Path {
        self.home.path()
    }

    /// Gives the data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.home.join("data")
    }

    /// Gives the log file.
    pub fn log(&self) -> PathBuf {
        self.home.join("log")
    }

    /// Gives the certificate, if the server speaks TLS.
    pub fn certificate(&self) -> Option<&Certificate> {
        self.certificate.as_ref()
    }

    /// Gives the programs the server was started from.
    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// Gives the number of the postmaster's process, if it was started and not stopped by us.
    pub fn pid(&self) -> Option<u32> {
        self.daemon.as_ref().map(Daemon::pid)
    }

    /// Runs statements as `postgres` in the database `postgres`, one transaction each, and gives
    /// the rows, columns separated by `|`.
    ///
    /// # Errors
    /// [`Error::Tool`] with Postgres' message at the first statement that fails.
    pub async fn sql(&self, statements: &str) -> Result<String, Error> {
        self.sql_in("postgres", statements).await
    }

    /// Runs statements as [`Server::sql`] does, in another database.
    ///
    /// # Errors
    /// As [`Server::sql`].
    pub async fn sql_in(&self, database: &str, statements: &str) -> Result<String, Error> {
        let mut psql = self.client("psql")?;
        psql.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-f", "-"])
            .args(["-d", database]);
        let output = tool::feed(psql, statements).await?;
        Ok(output.trim_end().to_owned())
    }

    /// Makes a user who may log in with a password; both must be plain words.
    ///
    /// # Errors
    /// As [`Server::sql`].
    pub async fn create_user(&self, name: &str, password: &str) -> Result<(), Error> {
        let statement = format!("create role \"{name}\" login password '{password}'");
        self.sql(&statement).await.map(drop)
    }

    /// Gives the process numbers of the server's client connections, but for the one that asks.
    ///
    /// # Errors
    /// As [`Server::sql`].
    pub async fn backend_pids(&self) -> Result<Vec<u32>, Error> {
        let rows = self
            .sql(
                "select pid from pg_stat_activity \
                 where backend_type = 'client backend' and pid <> pg_backend_pid()",
            )
            .await?;
        Ok(rows.lines().filter_map(|row| row.parse().ok()).collect())
    }

    /// Stops the server and waits for its end.
    ///
    /// # Errors
    /// [`Error::Down`] if it is not running, [`Error::Stuck`] if it had to be killed.
    pub async fn stop(&mut self, how: Stop) -> Result<(), Error> {
        let mut daemon = self.daemon.take().ok_or(Error::Down(NAME))?;
        daemon.signal(match how {
            Stop::Fast => Signal::INT,
            Stop::Immediate => Signal::QUIT,
        });
        let ended = daemon.wait(PATIENCE).await;
        self.home.unwatch();
        ended
    }

    /// Kills all processes of the server (SIGKILL), as a power cut would, but for what the
    /// kernel has still to write.
    pub fn kill9(&mut self) {
        self.daemon = None;
        self.home.unwatch();
    }

    /// Kills one of the server's processes (SIGKILL), upon which Postgres ends all connections
    /// and recovers.
    pub fn kill_backend(&self, pid: u32) {
        self.signal_backend(pid, Signal::KILL);
    }

    /// Freezes one of the server's processes (SIGSTOP): its connection stays open and silent, and the others go on.
    pub fn freeze_backend(&self, pid: u32) {
        self.signal_backend(pid, Signal::STOP);
    }

    /// Lets a frozen process of the server go on.
    pub fn thaw_backend(&self, pid: u32) {
        self.signal_backend(pid, Signal::CONT);
    }

    fn signal_backend(&self, pid: u32, signal: Signal) {
        let ours = self
            .daemon
            .as_ref()
            .is_some_and(|daemon| daemon.children().contains(&pid));
        if ours {
            process::signal(pid, signal);
        }
    }

    /// Freezes all processes of the server (SIGSTOP): connections stay open and silent.
    pub fn freeze(&self) {
        if let Some(daemon) = &self.daemon {
            daemon.freeze();
        }
    }

    /// Lets a frozen server go on.
    pub fn thaw(&self) {
        if let Some(daemon) = &self.daemon {
            daemon.thaw();
        }
    }

    /// Reads the configuration files anew (SIGHUP).
    pub fn reload(&self) {
        if let Some(daemon) = &self.daemon {
            daemon.signal(Signal::HUP);
        }
    }

    /// Stops the server, if it runs, and starts it on the same port with the same data.
    ///
    /// # Errors
    /// As [`Server::stop`] and [`Builder::start`].
    pub async fn restart(&mut self) -> Result<(), Error> {
        if self.daemon.is_some() {
            self.stop(Stop::Fast).await?;
        }
        self.launch().await
    }

    /// Starts the process and waits until it answers.
    async fn launch(&mut self) -> Result<(), Error> {
        let mut postgres = self.account.command(self.binaries.tool("postgres")?);
        postgres.arg("-D").arg(self.data_dir());
        let daemon = self
            .daemon
            .insert(Daemon::spawn(NAME, postgres, &mut self.home)?);
        let deadline = Instant::now() + PATIENCE;
        loop {
            if daemon.ended() {
                let log = self.home.tail("log");
                self.kill9();
                return Err(Error::Died { name: NAME, log });
            }
            let mut probe = client(
                &self.binaries,
                "pg_isready",
                self.account,
                &self.home,
                self.port,
            )?;
            probe.args(["-q", "-t", "1"]);
            if tool::run(probe).await.is_ok() {
                return Ok(());
            }
            if Instant::now() > deadline {
                let log = self.home.tail("log");
                self.kill9();
                return Err(Error::Silent {
                    name: NAME,
                    after: PATIENCE,
                    log,
                });
            }
            sleep(TICK).await;
        }
    }

    /// Gives a command for one of Postgres' client programs (`psql`, `pgbench`, `pg_dump`), which
    /// goes to this server's unix socket as `postgres` unless its arguments say otherwise.
    ///
    /// # Errors
    /// [`Error::Missing`] if it is not installed.
    pub fn client(&self, name: &str) -> Result<Command, Error> {
        client(&self.binaries, name, self.account, &self.home, self.port)
    }
}

fn client(
    binaries: &Binaries,
    name: &str,
    account: Account,
    home: &Home,
    port: u16,
) -> Result<Command, Error> {
    let mut command = account.command(binaries.tool(name)?);
    command
        .env("PGHOST", home.path())
        .env("PGPORT", port.to_string())
        .env("PGUSER", "postgres")
        .env("PGCONNECT_TIMEOUT", "10")
        // Without a home no personal psqlrc, pgpass or service file is read.
        .env("HOME", home.path());
    Ok(command)
}
