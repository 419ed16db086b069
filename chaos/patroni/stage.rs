use pgherd_sandbox::{Binaries, Error, Options, Pgbouncer};

use super::place::{NODES, POSTGRES, REST, address, node};
use super::{Plan, Way};
use crate::checks::Wrong;
use crate::door::Door;
use crate::haproxy::{Behind, Haproxy};
use crate::proxy::Proxy;
use crate::quiet::Quiet;

/// Server connections of each pool; fewer than there are clients.
const POOL: usize = 20;

/// What stands between the clients and the nodes.
pub(super) enum Middle {
    Pgherd(Box<(Proxy, Quiet)>),
    Control(Box<(Pgbouncer, Haproxy)>),
}

impl Middle {
    pub(super) async fn start(plan: &Plan, binaries: &Binaries) -> Result<Self, Error> {
        match &plan.way {
            Way::Pgherd(executable) => {
                let executable = executable.to_string_lossy();
                let proxy = Proxy::start(&executable, &configuration(plan.resolve));
                let quiet = Quiet::of(&proxy, &[POSTGRES, REST]).await;
                Ok(Self::Pgherd(Box::new((proxy, quiet))))
            }
            Way::Control => {
                let behind = (0..NODES).map(|number| Behind {
                    server: address(number),
                    check: REST,
                });
                let haproxy = Haproxy::start(&behind.collect::<Vec<_>>()).await?;
                let options = Options {
                    pool_size: POOL,
                    ..Options::default()
                };
                let pool = Pgbouncer::before(binaries, haproxy.port(), &options).await?;
                Ok(Self::Control(Box::new((pool, haproxy))))
            }
        }
    }

    /// The way in.
    pub(super) fn door(&self) -> Door {
        match self {
            Self::Pgherd(proxy) => Door::pgherd(proxy.0.port()),
            Self::Control(both) => Door::pooler(both.0.port()),
        }
    }

    /// What pgherd still holds behind a run, with all clients gone.
    pub(super) async fn left(&self) -> Vec<Wrong> {
        match self {
            Self::Pgherd(both) => both.1.returns(&both.0).await,
            Self::Control(_) => Vec::new(),
        }
    }

    /// What pgherd has logged.
    pub(super) fn log(&self) -> Vec<String> {
        match self {
            Self::Pgherd(proxy) => proxy.0.log(),
            Self::Control(_) => Vec::new(),
        }
    }
}

/// A pgherd that knows where each Patroni answers, and nothing else of the nodes.
fn configuration(resolve: bool) -> String {
    let resolution = if resolve { "on" } else { "off" };
    let sources: Vec<String> = (0..NODES)
        .map(|number| format!("\"http://{}:{REST}\"", node(number)))
        .collect();
    format!(
        "[pool]\nsize = {POOL}\n\
         [auth]\nmethod = \"trust\"\n\
         [failover]\ncommit_resolution = \"{resolution}\"\n\
         [admin]\nadmins = [\"postgres\"]\n\
         [databases.postgres]\npatroni = [{}]\n\
         [users.postgres]\npassword = \"postgres\"\n",
        sources.join(", ")
    )
}

#[cfg(test)]
mod tests {
    #[test]
    fn pgherd_is_told_of_all_patronis_and_of_no_host() {
        let text = super::configuration(true);
        let line = "patroni = [\"http://10.87.0.1:8008\", \"http://10.87.0.2:8008\", \
                    \"http://10.87.0.3:8008\"]\n";
        assert!(text.contains(line), "{text}");
        assert!(!text.contains("hosts"), "{text}");
        assert!(text.contains("commit_resolution = \"on\"\n"), "{text}");
        let text = super::configuration(false);
        assert!(text.contains("commit_resolution = \"off\"\n"), "{text}");
    }
}
