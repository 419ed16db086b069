use std::net::SocketAddr;

use pgherd_sandbox::{Error, Options, Pgbouncer};
use tokio::sync::watch;

use super::{Plan, Way};
use crate::door::Door;
use crate::proxy::Proxy;

/// Server connections of each pool; fewer than there are clients.
const POOL: usize = 20;

/// What stands between the clients and the servers.
pub(super) enum Middle {
    Pgherd(Proxy),
    Pgbouncer(Pgbouncer),
    Nobody,
}

impl Middle {
    /// Starts it before servers at these ports, of which one is the primary.
    pub(super) async fn start(
        plan: &Plan,
        ports: &[u16],
        primary: &pgherd_sandbox::Server,
    ) -> Result<Self, Error> {
        match &plan.way {
            Way::Pgherd(executable) => {
                let executable = executable.to_string_lossy();
                Ok(Self::Pgherd(Proxy::start(
                    &executable,
                    &configuration(ports, plan.resolve),
                )))
            }
            Way::Pgbouncer => {
                let options = Options {
                    pool_size: POOL,
                    ..Options::default()
                };
                Ok(Self::Pgbouncer(Pgbouncer::start(primary, &options).await?))
            }
            Way::Direct => Ok(Self::Nobody),
        }
    }

    /// The way in; who goes directly is told where.
    pub(super) fn door(&self, primary: &watch::Receiver<SocketAddr>) -> Door {
        match self {
            Self::Pgherd(proxy) => Door::pgherd(proxy.port()),
            Self::Pgbouncer(bouncer) => Door::pooler(bouncer.port()),
            Self::Nobody => Door::direct(primary.clone()),
        }
    }

    /// Tells it of a new primary, if it does not find out itself.
    pub(super) async fn tell(&self, port: u16) -> Result<(), Error> {
        match self {
            Self::Pgbouncer(bouncer) => bouncer.point(port).await,
            Self::Pgherd(_) | Self::Nobody => Ok(()),
        }
    }

    /// The last lines that pgherd has logged.
    pub(super) fn log(&self) -> Vec<String> {
        match self {
            Self::Pgherd(proxy) => proxy.log(),
            Self::Pgbouncer(_) | Self::Nobody => Vec::new(),
        }
    }
}

/// A configuration before servers at these ports.
fn configuration(ports: &[u16], resolve: bool) -> String {
    let resolution = if resolve { "on" } else { "off" };
    let hosts: Vec<String> = ports
        .iter()
        .map(|port| format!("\"127.0.0.1:{port}\""))
        .collect();
    format!(
        "[pool]\nsize = {POOL}\n\
         [auth]\nmethod = \"trust\"\n\
         [failover]\ncommit_resolution = \"{resolution}\"\n\
         [admin]\nadmins = [\"postgres\"]\n\
         [databases.postgres]\nhosts = [{}]\n\
         [users.postgres]\npassword = \"postgres\"\n",
        hosts.join(", ")
    )
}
