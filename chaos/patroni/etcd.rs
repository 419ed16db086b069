use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pgherd_sandbox::{Account, Error, tool};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::network::{Namespace, Network, failed};
use super::node::log_file;
use super::place::{DCS, ETCD};
use super::settings::SCOPE;

/// How long it may take to listen.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often it is looked at meanwhile.
const TICK: Duration = Duration::from_millis(50);

/// The store in which Patroni keeps who leads.
#[derive(Debug)]
pub(super) struct Etcd {
    /// `None` while it is down.
    child: Option<Child>,
    dir: PathBuf,
    namespace: Namespace,
    account: Account,
}

impl Etcd {
    /// Makes one that holds nothing, starts it, and waits until it listens.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Silent`].
    pub(super) async fn start(network: &Network) -> Result<Self, Error> {
        let dir = network.home.join("dcs");
        std::fs::create_dir(&dir)
            .and_then(|()| network.account.own(&dir))
            .map_err(|source| failed("make a directory for etcd", source))?;
        let mut etcd = Self {
            child: None,
            dir,
            namespace: network.dcs.clone(),
            account: network.account,
        };
        etcd.launch().await?;
        Ok(etcd)
    }

    /// Starts it with what it holds, and waits until it listens.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Silent`].
    pub(super) async fn launch(&mut self) -> Result<(), Error> {
        let log = log_file(&self.dir)?;
        let [clients, peers] = ETCD.map(|port| format!("http://{DCS}:{port}"));
        let mut command = self.namespace.command(self.account, Path::new("etcd"));
        command
            .args(["--name", "one", "--data-dir"])
            .arg(self.dir.join("data"))
            .args(["--listen-client-urls", &clients])
            .args(["--advertise-client-urls", &clients])
            .args(["--listen-peer-urls", &peers])
            .args(["--initial-advertise-peer-urls", &peers])
            .args(["--initial-cluster", &format!("one={peers}")]);
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|source| failed("start etcd", source))?;
        self.child = Some(child);
        self.listens().await
    }

    /// Kills it; what it has written stays.
    pub(super) fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    async fn listens(&self) -> Result<(), Error> {
        let deadline = Instant::now() + PATIENCE;
        let [port, _] = ETCD;
        while !timeout(TICK, TcpStream::connect((DCS, port)))
            .await
            .is_ok_and(|tried| tried.is_ok())
        {
            if Instant::now() > deadline {
                return Err(Error::Silent {
                    name: "etcd",
                    after: PATIENCE,
                    log: std::fs::read_to_string(self.log()).unwrap_or_default(),
                });
            }
            sleep(TICK).await;
        }
        Ok(())
    }

    /// What it has logged.
    pub(super) fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// Takes the lease from whoever leads, as if its time had run out.
    ///
    /// # Errors
    /// As [`tool::run`].
    pub(super) async fn end_lease(&self) -> Result<(), Error> {
        let [port, _] = ETCD;
        let mut command = Command::new("etcdctl");
        command
            .env("ETCDCTL_API", "3")
            .arg(format!("--endpoints=http://{DCS}:{port}"))
            .args(["del", &format!("/service/{SCOPE}/leader")]);
        tool::run(command).await.map(drop)
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill9();
    }
}
