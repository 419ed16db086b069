use std::net::{Ipv4Addr, SocketAddr};

use pgherd_sandbox::{Binaries, Cluster, Error, Options, Pgbouncer};
use tokio::sync::watch;

use super::health::Health;
use super::{Plan, Way};
use crate::checks::Wrong;
use crate::door::Door;
use crate::haproxy::{Behind, Haproxy};
use crate::proxy::Proxy;
use crate::quiet::Quiet;

/// Server connections of each pool; fewer than there are clients.
const POOL: usize = 20;

/// What stands between the clients and the servers.
pub(crate) enum Middle {
    Pgherd(Box<(Proxy, Quiet)>),
    Pgbouncer(Pgbouncer),
    Haproxy(Box<Checked>),
    Nobody,
}

/// PgBouncer, which asks HAProxy, which asks who leads. They end in this order.
pub(crate) struct Checked {
    bouncer: Pgbouncer,
    _haproxy: Haproxy,
    _health: Vec<Health>,
}

impl Middle {
    /// Starts it before the servers of a cluster.
    pub(super) async fn start(plan: &Plan, cluster: &Cluster) -> Result<Self, Error> {
        let ports = cluster.ports();
        let options = Options {
            pool_size: POOL,
            ..Options::default()
        };
        match &plan.way {
            Way::Pgherd(executable) => {
                let executable = executable.to_string_lossy();
                let proxy = Proxy::start(&executable, &configuration(&ports, plan));
                let quiet = Quiet::of(&proxy, &ports).await;
                Ok(Self::Pgherd(Box::new((proxy, quiet))))
            }
            Way::Pgbouncer => {
                let primary = cluster.node(cluster.primary());
                Ok(Self::Pgbouncer(Pgbouncer::start(primary, &options).await?))
            }
            Way::Haproxy => {
                let checked = Checked::start(&ports, &options).await?;
                Ok(Self::Haproxy(Box::new(checked)))
            }
            Way::Direct => Ok(Self::Nobody),
        }
    }

    /// The way in; who goes directly is told where.
    pub(super) fn door(&self, primary: &watch::Receiver<SocketAddr>) -> Door {
        match self {
            Self::Pgherd(proxy) => Door::pgherd(proxy.0.port()),
            Self::Pgbouncer(bouncer) => Door::pooler(bouncer.port()),
            Self::Haproxy(checked) => Door::pooler(checked.bouncer.port()),
            Self::Nobody => Door::direct(primary.clone()),
        }
    }

    /// Tells it of a new primary, if it does not find out itself.
    pub(super) async fn tell(&self, port: u16) -> Result<(), Error> {
        match self {
            Self::Pgbouncer(bouncer) => bouncer.point(port).await,
            Self::Pgherd(_) | Self::Haproxy(_) | Self::Nobody => Ok(()),
        }
    }

    /// What pgherd still holds behind a run, with all clients gone.
    pub(super) async fn left(&self) -> Vec<Wrong> {
        match self {
            Self::Pgherd(both) => both.1.returns(&both.0).await,
            Self::Pgbouncer(_) | Self::Haproxy(_) | Self::Nobody => Vec::new(),
        }
    }

    /// The last lines that pgherd has logged.
    pub(super) fn log(&self) -> Vec<String> {
        match self {
            Self::Pgherd(proxy) => proxy.0.log(),
            Self::Pgbouncer(_) | Self::Haproxy(_) | Self::Nobody => Vec::new(),
        }
    }
}

impl Checked {
    async fn start(ports: &[u16], options: &Options) -> Result<Self, Error> {
        let mut health = Vec::new();
        for port in ports {
            let started = Health::start(*port).await;
            health.push(started.map_err(|source| Error::Io {
                what: "answer health checks".to_owned(),
                source,
            })?);
        }
        let behind: Vec<Behind> = ports
            .iter()
            .zip(&health)
            .map(|(port, health)| Behind {
                server: SocketAddr::from((Ipv4Addr::LOCALHOST, *port)),
                check: health.port(),
            })
            .collect();
        let haproxy = Haproxy::start(&behind).await?;
        let binaries = Binaries::find()?;
        Ok(Self {
            bouncer: Pgbouncer::before(&binaries, haproxy.port(), options).await?,
            _haproxy: haproxy,
            _health: health,
        })
    }
}

/// A configuration before servers at these ports.
fn configuration(ports: &[u16], plan: &Plan) -> String {
    let resolution = if plan.resolve { "on" } else { "off" };
    let reads = if plan.reads { "replicas" } else { "primary" };
    let hosts: Vec<String> = ports
        .iter()
        .map(|port| format!("\"127.0.0.1:{port}\""))
        .collect();
    format!(
        "[pool]\nsize = {POOL}\n\
         [auth]\nmethod = \"trust\"\n\
         [failover]\ncommit_resolution = \"{resolution}\"\n\
         [reads]\nfrom = \"{reads}\"\n\
         [admin]\nadmins = [\"postgres\"]\n\
         [databases.postgres]\nhosts = [{}]\n\
         [users.postgres]\npassword = \"postgres\"\n",
        hosts.join(", ")
    )
}
