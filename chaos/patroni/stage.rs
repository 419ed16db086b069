use pgherd_sandbox::{Binaries, Error, Options, Pgbouncer};

use super::Way;
use super::control::Haproxy;
use super::place::{NODES, REST, node};
use crate::door::Door;
use crate::proxy::Proxy;

/// Server connections of each pool; fewer than there are clients.
const POOL: usize = 20;

/// What stands between the clients and the nodes.
pub(super) enum Middle {
    Pgherd(Proxy),
    Control(Box<(Pgbouncer, Haproxy)>),
}

impl Middle {
    pub(super) async fn start(way: &Way, binaries: &Binaries) -> Result<Self, Error> {
        match way {
            Way::Pgherd(executable) => {
                let executable = executable.to_string_lossy();
                Ok(Self::Pgherd(Proxy::start(&executable, &configuration())))
            }
            Way::Control => {
                let haproxy = Haproxy::start().await?;
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
            Self::Pgherd(proxy) => Door::pgherd(proxy.port()),
            Self::Control(both) => Door::pooler(both.0.port()),
        }
    }

    /// What pgherd has logged.
    pub(super) fn log(&self) -> Vec<String> {
        match self {
            Self::Pgherd(proxy) => proxy.log(),
            Self::Control(_) => Vec::new(),
        }
    }
}

/// A pgherd that knows where each Patroni answers, and nothing else of the nodes.
fn configuration() -> String {
    let sources: Vec<String> = (0..NODES)
        .map(|number| format!("\"http://{}:{REST}\"", node(number)))
        .collect();
    format!(
        "[pool]\nsize = {POOL}\n\
         [auth]\nmethod = \"trust\"\n\
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
        let text = super::configuration();
        let line = "patroni = [\"http://10.87.0.1:8008\", \"http://10.87.0.2:8008\", \
                    \"http://10.87.0.3:8008\"]\n";
        assert!(text.contains(line), "{text}");
        assert!(!text.contains("hosts"), "{text}");
    }
}
