use std::fs;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::certificate::Certificate;
use crate::error::Error;
use crate::home::Home;
use crate::port::free_port;
use crate::server::builder::ATTEMPTS;
use crate::server::{PATIENCE, Server, TICK};
use crate::tool;

/// How long nothing may be applied by a replica that receives nothing any more, before it has all it will get: it looks again
/// every five seconds, and the last it was sent may be half a record.
const STUCK: Duration = Duration::from_secs(12);

impl Server {
    /// Makes a streaming replica of this server and waits until it answers.
    ///
    /// Its `application_name` is `replica_<port of the first start>`.
    ///
    /// # Errors
    /// As [`crate::Builder::start`].
    pub async fn replica(&self) -> Result<Self, Error> {
        let home = Home::new(self.account)?;
        if let Some(bytes) = self.disk {
            home.mount(self.account, bytes).await?;
        }
        let data = home.join("data");
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
            port: free_port(),
            disk: self.disk,
        };
        replica.copy(self).await?;
        replica.settle(ATTEMPTS).await?;
        Ok(replica)
    }

    /// Kills this server, if it runs, and has it follow another one with a fresh copy of that one's
    /// data, under the port it had.
    ///
    /// # Errors
    /// As [`crate::Builder::start`].
    pub async fn replace(&mut self, primary: &Self) -> Result<(), Error> {
        self.kill9();
        fs::remove_dir_all(self.data_dir()).map_err(Error::io("remove a data directory"))?;
        self.copy(primary).await?;
        self.settle(1).await
    }

    /// Kills this server, if it runs, and has it follow another one of the same history, under the
    /// port it had. What it wrote after the two went apart is undone by `pg_rewind`, for which the
    /// other one must have `wal_log_hints` and `full_page_writes`.
    ///
    /// # Errors
    /// [`Error::Tool`] if `pg_rewind` refuses, upon which the data are of no use any more; else as
    /// [`crate::Builder::start`].
    pub async fn rewind(&mut self, primary: &Self) -> Result<(), Error> {
        self.kill9();
        // Only a checkpoint writes the timeline of a promoted server where pg_rewind reads it. Each
        // timeline has a file of its own for the segment it begins in, which the checkpoint takes
        // away once the segment is over; pg_rewind copies whatever there is.
        primary.sql("select pg_switch_wal(); checkpoint;").await?;
        let mut rewind = self.account.command(self.binaries.tool("pg_rewind")?);
        rewind
            .arg("--target-pgdata")
            .arg(self.data_dir())
            .arg("--source-server")
            .arg(primary.origin(self.port))
            .args(["--write-recovery-conf", "--no-sync"]);
        tool::run(rewind).await?;
        // The other one's settings have come along, and its port with them.
        self.settle(1).await
    }

    /// Fills the data directory, which must not exist.
    async fn copy(&self, primary: &Self) -> Result<(), Error> {
        let mut backup = primary.client("pg_basebackup")?;
        backup
            .arg("--dbname")
            .arg(primary.origin(self.port))
            .arg("--pgdata")
            .arg(self.data_dir())
            .args(["--wal-method=stream", "--checkpoint=fast"])
            .args(["--write-recovery-conf", "--no-sync", "--no-password"]);
        tool::run(backup).await.map(drop)
    }

    /// Takes this replica off its primary, and gives the position up to which it has all WAL, in
    /// bytes. It has applied that much, and receives no more.
    ///
    /// # Errors
    /// [`Error::Behind`] if it takes too long, else as [`Server::sql`].
    pub async fn detach(&self) -> Result<u64, Error> {
        self.sql("alter system set primary_conninfo = ''; select from pg_reload_conf();")
            .await?;
        // One question that goes on for as long would stand in the way of what is applied, and be cancelled.
        let question = "select case when exists (select from pg_stat_wal_receiver) then 'receives' \
                        when pg_last_wal_receive_lsn() > pg_last_wal_replay_lsn() \
                        then pg_last_wal_replay_lsn()::text else 'done' end";
        let begin = Instant::now();
        let (mut last, mut since) = (String::new(), begin);
        loop {
            let state = self.sql(question).await?;
            if state == "done" {
                break;
            }
            if state != last {
                (last, since) = (state, Instant::now());
            }
            if last != "receives" && since.elapsed() > STUCK {
                break;
            }
            if begin.elapsed() > PATIENCE {
                return Err(Error::Behind(PATIENCE));
            }
            sleep(TICK).await;
        }
        let position = self
            .sql("select pg_last_wal_replay_lsn() - '0/0'::pg_lsn")
            .await?;
        Ok(position.trim().parse().unwrap_or_default())
    }

    /// Waits until this replica streams.
    ///
    /// # Errors
    /// [`Error::Behind`] if it takes too long, else as [`Server::sql`].
    pub async fn streaming(&self) -> Result<(), Error> {
        let question = "select count(*) from pg_stat_wal_receiver where status = 'streaming'";
        let deadline = Instant::now() + PATIENCE;
        while self.sql(question).await? != "1" {
            if Instant::now() > deadline {
                return Err(Error::Behind(PATIENCE));
            }
            sleep(TICK).await;
        }
        Ok(())
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
