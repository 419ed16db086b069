use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use pgherd_sandbox::{Cluster, Error, Rejoined};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_postgres::NoTls;

use super::fault::Fault;
use super::stage::Middle;
use crate::crowd::Witness;

/// How often the one that is being promoted is asked.
const TICK: Duration = Duration::from_millis(2);

/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a primary whose disk is full may refuse what its clients write before it gives up.
const REFUSING: Duration = Duration::from_millis(1_500);

/// A small failover manager of our own: it breaks the primary, and makes another one.
pub(crate) struct Promoter {
    cluster: Cluster,
    /// Told to those who go directly.
    primary: watch::Sender<SocketAddr>,
}

/// A failover that is done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Done {
    /// The number of the primary before.
    pub(crate) old: usize,
    /// When the old one acknowledged nothing any more.
    pub(crate) gone: Instant,
    /// When the new one took writes first.
    pub(crate) writable: Instant,
    /// How long it took from the fault until then.
    pub(crate) took: Duration,
}

impl Promoter {
    pub(crate) fn new(cluster: Cluster) -> Self {
        let port = cluster.node(cluster.primary()).port();
        let (primary, _) = watch::channel(address(port));
        Self { cluster, primary }
    }

    pub(crate) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Where the primary is.
    pub(crate) fn whereabouts(&self) -> watch::Receiver<SocketAddr> {
        self.primary.subscribe()
    }

    /// Keeps from the replicas for a while what the primary writes, which is lost with it.
    pub(crate) async fn fall_behind(&self, time: Duration) -> Result<(), Error> {
        self.cluster.sever().await?;
        sleep(time).await;
        Ok(())
    }

    /// Breaks the primary and promotes another one, of which everybody who must be is told at once,
    /// unless it is to start again itself.
    pub(crate) async fn fail_over(&mut self, fault: Fault, middle: &Middle) -> Result<Done, Error> {
        let old = self.cluster.primary();
        let began = Instant::now();
        match fault {
            Fault::Kill | Fault::Revive => self.cluster.kill9(old),
            Fault::Stop => self.cluster.stop(old).await?,
            Fault::Freeze => self.cluster.node(old).freeze(),
            Fault::Full | Fault::Room => {
                self.cluster.node(old).fill().await?;
                sleep(REFUSING).await;
                self.cluster.choke(old).await?;
                self.cluster.node(old).make_room()?;
            }
        }
        let gone = Instant::now();
        if fault == Fault::Room {
            self.cluster.start_again().await?;
            let writable = writable(self.cluster.node(old).port()).await?;
            return Ok(Done {
                old,
                gone,
                writable,
                took: writable - began,
            });
        }
        let new = self.cluster.elect().await?;
        let port = self.cluster.node(new).port();
        let told = async {
            let writable = writable(port).await?;
            self.primary.send_replace(address(port));
            middle.tell(port).await?;
            Ok::<_, Error>(writable)
        };
        let (promoted, writable) = tokio::join!(self.cluster.promote(), told);
        promoted?;
        let writable = writable?;
        Ok(Done {
            old,
            gone,
            writable,
            took: writable.saturating_duration_since(began),
        })
    }

    /// Lets the old primary take writes again, as if nothing had happened.
    pub(crate) async fn bring_back(&mut self, fault: Fault, old: usize) -> Result<(), Error> {
        if fault == Fault::Freeze {
            self.cluster.node(old).thaw();
        }
        self.cluster.revive(old).await
    }

    /// The numbers in a table of the old primary from this one on.
    pub(crate) async fn stale(
        &self,
        old: usize,
        table: &str,
        from: i64,
    ) -> Result<Vec<String>, Error> {
        let text = format!("select id from {table} where id >= {from} order by id");
        let rows = self.cluster.node(old).sql(&text).await?;
        Ok(rows.lines().map(str::to_owned).collect())
    }

    /// Makes a replica of the old primary.
    pub(crate) async fn rejoin(&mut self, old: usize) -> Result<Rejoined, Error> {
        self.cluster.rejoin(old).await
    }
}

impl Witness for Promoter {
    async fn sql(&self, text: &str) -> Result<String, Error> {
        self.cluster.node(self.cluster.primary()).sql(text).await
    }
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Waits until a server takes writes.
async fn writable(port: u16) -> Result<Instant, Error> {
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(port).user("postgres");
    let slow = Error::Behind(PATIENCE);
    let Ok((client, connection)) = config.connect(NoTls).await else {
        return Err(slow);
    };
    let connection = tokio::spawn(async move {
        let _ = connection.await;
    });
    let deadline = Instant::now() + PATIENCE;
    let mut when = None;
    while when.is_none() && Instant::now() < deadline {
        let answer = client
            .query_typed("select pg_is_in_recovery()", &[])
            .await
            .ok();
        let row = answer.as_ref().and_then(|rows| rows.first());
        if row.is_some_and(|row| !row.get::<_, bool>(0)) {
            when = Some(Instant::now());
        } else {
            sleep(TICK).await;
        }
    }
    connection.abort();
    when.ok_or(slow)
}
