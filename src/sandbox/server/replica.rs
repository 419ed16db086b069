use tokio::time::{Instant, sleep};

use crate::certificate::Certificate;
use crate::error::Error;
use crate::home::Home;
use crate::port::free_port;
use crate::server::builder::ATTEMPTS;
use crate::server::{PATIENCE, Server, TICK};
use crate::tool;

impl Server {
    /// Makes a streaming replica of this server and waits until it answers.
    ///
    /// Its `application_name` is `replica_<port of the first start>`.
    ///
    /// # Errors
    /// As [`crate::Builder::start`].
    pub async fn replica(&self) -> Result<Self, Error> {
        let home = Home::new(self.account)?;
        let data = home.join("data");
        let port = free_port();
        let mut backup = self.client("pg_basebackup")?;
        backup
            .arg("--dbname")
            .arg(self.origin(port))
            .arg("--pgdata")
            .arg(&data)
            .args(["--wal-method=stream", "--checkpoint=fast"])
            .args(["--write-recovery-conf", "--no-sync", "--no-password"]);
        tool::run(backup).await?;
        let mut replica = Self {
            daemon: None,
            certificate: self.certificate.as_ref().map(|_| Certificate {
                ca: data.join("ca.crt"),
                cert: data.join("server.crt"),
                key: data.join("server.key"),
            }),
            home,
            binaries: self.binaries.clone(),
            account: self.account,
            port,
        };
        replica.settle(ATTEMPTS).await?;
        Ok(replica)
    }

    /// Waits until this replica has applied all that its primary has written by now.
    ///
    /// # Errors
    /// [`Error::Behind`] if it takes too long, else as [`Server::sql`].
    pub async fn caught_up(&self, primary: &Self) -> Result<(), Error> {
        let target = primary.sql("select pg_current_wal_lsn()").await?;
        let question = format!("select pg_last_wal_replay_lsn() >= '{target}'::pg_lsn");
        let deadline = Instant::now() + PATIENCE;
        while self.sql(&question).await? != "t" {
            if Instant::now() > deadline {
                return Err(Error::Behind(PATIENCE));
            }
            sleep(TICK).await;
        }
        Ok(())
    }

    /// Makes a primary of this replica and waits until it accepts writes.
    ///
    /// # Errors
    /// As [`Server::sql`].
    pub async fn promote(&self) -> Result<(), Error> {
        self.sql("select pg_promote(true, 60)").await.map(drop)
    }

    /// Makes this replica stream from another server of the same history.
    ///
    /// # Errors
    /// As [`Server::sql`].
    pub async fn follow(&self, primary: &Self) -> Result<(), Error> {
        let origin = primary.origin(self.port).replace('\'', "''");
        self.sql(&format!(
            "alter system set primary_conninfo = '{origin}';\n\
             select pg_reload_conf();"
        ))
        .await
        .map(drop)
    }

    /// Gives the connection string for a replica with this port.
    fn origin(&self, port: u16) -> String {
        format!(
            "host='{}' port={} user=postgres application_name=replica_{port}",
            self.home.path().display(),
            self.port
        )
    }
}
