use std::fs::{self, File, OpenOptions};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pgherd_sandbox::{Account, Binaries, Error, Replication, tool};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::sleep;

use super::cut::Cut;
use super::network::{Namespace, Network, failed};
use super::place::{self, POSTGRES};
use super::settings;

/// How long killed processes may take to be gone, and a server to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often that is looked at.
const TICK: Duration = Duration::from_millis(10);

/// A node: a network, a Patroni and its Postgres.
#[derive(Debug)]
pub(super) struct Node {
    number: usize,
    namespace: Namespace,
    dir: PathBuf,
    account: Account,
    binaries: Binaries,
    patroni: PathBuf,
    /// What was started here: Patroni, or Postgres without it. What Patroni starts is nobody's child.
    child: Option<Child>,
}

impl Node {
    /// Makes a node in which nothing runs yet.
    ///
    /// # Errors
    /// [`Error::Io`] if its files cannot be written.
    pub(super) fn new(
        network: &Network,
        number: usize,
        binaries: &Binaries,
        patroni: &Path,
        replication: Replication,
    ) -> Result<Self, Error> {
        let dir = network.home.join(&format!("n{}", number + 1));
        let settings = settings::patroni(number, &dir, binaries.dir(), replication);
        fs::create_dir(&dir)
            .and_then(|()| fs::write(dir.join("patroni.yml"), settings))
            .and_then(|()| network.account.own(&dir))
            .map_err(|source| failed("make a directory for a node", source))?;
        Ok(Self {
            number,
            namespace: network.nodes[number].clone(),
            dir,
            account: network.account,
            binaries: binaries.clone(),
            patroni: patroni.to_owned(),
            child: None,
        })
    }

    /// Its name in Patroni.
    pub(super) fn name(&self) -> String {
        format!("n{}", self.number + 1)
    }

    /// Where it is.
    pub(super) fn address(&self) -> Ipv4Addr {
        place::node(self.number)
    }

    /// What Patroni and Postgres have logged.
    pub(super) fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// Starts Patroni.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be run.
    pub(super) fn start(&mut self) -> Result<(), Error> {
        let mut command = self.namespace.command(self.account, &self.patroni);
        command.arg(self.dir.join("patroni.yml"));
        self.spawn(command)
    }

    fn spawn(&mut self, mut command: Command) -> Result<(), Error> {
        let log = log_file(&self.dir)?;
        let errors = log
            .try_clone()
            .map_err(|source| failed("open a log file twice", source))?;
        let child = command
            .env("HOME", &self.dir)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .map_err(|source| failed("start a node", source))?;
        self.child = Some(child);
        Ok(())
    }

    /// Kills all that runs here, and waits until it is gone.
    ///
    /// # Errors
    /// [`Error::Stuck`] if it does not go.
    pub(super) async fn kill9(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + PATIENCE;
        while self.namespace.signal(Signal::KILL) > 0 {
            if Instant::now() > deadline {
                return Err(Error::Stuck {
                    name: "a node",
                    after: PATIENCE,
                });
            }
            sleep(TICK).await;
        }
        if let Some(mut child) = self.child.take() {
            // A zombie has its number still, and Patroni would take it for a postmaster.
            let _ = child.wait();
        }
        Ok(())
    }

    /// Kills the postmaster alone; its children end with it, and Patroni sees it.
    ///
    /// # Errors
    /// [`Error::Down`] if there is none.
    pub(super) fn kill_postmaster(&self) -> Result<(), Error> {
        let text = fs::read_to_string(self.dir.join("data/postmaster.pid")).unwrap_or_default();
        let pid = text.lines().next().and_then(|line| line.parse().ok());
        let pid = pid.and_then(Pid::from_raw);
        pid.and_then(|pid| kill_process(pid, Signal::KILL).ok())
            .ok_or(Error::Down("postgres"))
    }

    /// Kills Patroni alone, which does not see to Postgres any more.
    pub(super) fn kill_patroni(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Stops Patroni alone without its knowledge.
    ///
    /// # Errors
    /// [`Error::Down`] if it does not run.
    pub(super) fn freeze_patroni(&self) -> Result<(), Error> {
        let pid = self.child.as_ref().map(Pid::from_child);
        pid.and_then(|pid| kill_process(pid, Signal::STOP).ok())
            .ok_or(Error::Down("patroni"))
    }

    /// Stops all that runs here without its knowledge.
    pub(super) fn freeze(&self) {
        self.namespace.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub(super) fn thaw(&self) {
        self.namespace.signal(Signal::CONT);
    }

    /// Cuts it off.
    ///
    /// # Errors
    /// As [`Namespace::cut`].
    pub(super) async fn cut(&self, cut: Cut) -> Result<(), Error> {
        self.namespace.cut(cut, self.number).await
    }

    /// Cuts it off no longer.
    ///
    /// # Errors
    /// As [`Namespace::heal`].
    pub(super) async fn heal(&self) -> Result<(), Error> {
        self.namespace.heal().await
    }

    /// Starts Postgres without Patroni, with the data that are there, as a primary that waits for
    /// nobody, and waits until it takes writes.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be run, [`Error::Silent`] if it does not take any.
    pub(super) async fn revive(&mut self) -> Result<(), Error> {
        let postgres = self.binaries.tool("postgres")?;
        let mut command = self.namespace.command(self.account, &postgres);
        command
            .arg("-D")
            .arg(self.dir.join("data"))
            .args(["-c", "synchronous_standby_names="]);
        self.spawn(command)?;
        let deadline = Instant::now() + PATIENCE;
        while self.sql("select pg_is_in_recovery()").await.ok().as_deref() != Some("f") {
            if Instant::now() > deadline {
                return Err(Error::Silent {
                    name: "a stale primary",
                    after: PATIENCE,
                    log: fs::read_to_string(self.log()).unwrap_or_default(),
                });
            }
            sleep(TICK).await;
        }
        Ok(())
    }

    /// Has a Postgres that runs without a Patroni that sees to it wait for nobody.
    ///
    /// # Errors
    /// As [`Self::sql`].
    pub(super) async fn wait_for_nobody(&self) -> Result<(), Error> {
        let alone = "alter system set synchronous_standby_names = ''; select from pg_reload_conf()";
        self.sql(alone).await.map(drop)
    }

    /// Has it wait for whom Patroni says.
    ///
    /// # Errors
    /// As [`Self::sql`].
    pub(super) async fn wait_again(&self) -> Result<(), Error> {
        let again = "alter system reset synchronous_standby_names; select from pg_reload_conf()";
        self.sql(again).await.map(drop)
    }

    /// Runs statements over the unix socket, which no network can cut off.
    ///
    /// # Errors
    /// [`Error::Tool`] with Postgres' message.
    pub(super) async fn sql(&self, text: &str) -> Result<String, Error> {
        let mut command = self.account.command(self.binaries.tool("psql")?);
        command
            .env("PGHOST", &self.dir)
            .env("PGPORT", POSTGRES.to_string())
            .env("PGUSER", "postgres")
            .env("PGDATABASE", "postgres")
            .env("PGCONNECT_TIMEOUT", "5")
            .env("PGOPTIONS", "-c statement_timeout=30s")
            .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-f", "-"]);
        Ok(tool::feed(command, text).await?.trim_end().to_owned())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.namespace.signal(Signal::KILL);
        if let Some(child) = &mut self.child {
            let _ = child.wait();
        }
    }
}

/// The log in a directory, to be appended to.
pub(super) fn log_file(dir: &Path) -> Result<File, Error> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(dir.join("log"))
        .map_err(|source| failed("open a log file", source))
}
