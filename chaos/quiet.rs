//! What pgherd holds when nobody uses it, and whether it holds no more after a run.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::checks::{Check, Wrong};
use crate::proxy::Proxy;
use crate::rig::{arrive, console};

/// How long all may take to be given back.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often it is looked at meanwhile.
const TICK: Duration = Duration::from_millis(50);

/// Columns of `SHOW POOLS` that are 0 where nothing is under way.
const BUSY: [&str; 6] = [
    "cl_active",
    "cl_waiting",
    "sv_active",
    "sv_active_cancel",
    "sv_being_canceled",
    "sv_login",
];

/// What a pgherd holds that nobody uses, apart from its connections to servers.
#[derive(Clone, Debug)]
pub(crate) struct Quiet {
    /// The ports of its servers.
    servers: Vec<u16>,
    descriptors: usize,
    threads: usize,
}

impl Quiet {
    /// Looks at a pgherd before servers at these ports, behind its first use.
    pub(crate) async fn of(proxy: &Proxy, servers: &[u16]) -> Self {
        // The first use makes what stays.
        for database in ["postgres", "pgherd"] {
            drop(arrive(proxy, database).await);
        }
        sleep(Duration::from_millis(300)).await;
        Self {
            servers: servers.to_vec(),
            descriptors: proxy.descriptors_but(servers),
            threads: proxy.threads(),
        }
    }

    /// Waits until it is quiet again; gives what does not come to an end.
    pub(crate) async fn returns(&self, proxy: &Proxy) -> Vec<Wrong> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let held = self.held(proxy).await;
            if held.is_empty() || Instant::now() > deadline {
                return held.into_iter().map(|it| Check::Leak.caught(it)).collect();
            }
            sleep(TICK).await;
        }
    }

    /// What there is more than before.
    async fn held(&self, proxy: &Proxy) -> Vec<String> {
        let mut held = Vec::new();
        for (name, before, now) in [
            (
                "descriptors",
                self.descriptors,
                proxy.descriptors_but(&self.servers),
            ),
            ("threads", self.threads, proxy.threads()),
        ] {
            if now > before {
                held.push(format!("{now} {name} where there were {before}"));
            }
        }
        for row in console(proxy, "show pools").await {
            let user = row.get("user");
            // Who asks is there, too.
            if row.get("database") == Some("pgherd") {
                continue;
            }
            let busy = BUSY.map(|name| (name, row.get(name)));
            let busy = busy.into_iter().filter(|(_, value)| *value != Some("0"));
            held.extend(busy.map(|(name, value)| {
                let value = value.unwrap_or("nothing");
                format!("{name} of the pool of {user:?} is {value}")
            }));
        }
        for row in console(proxy, "show lists").await {
            let most = match row.get("list") {
                Some("used_clients") => "1",
                Some("login_clients") => "0",
                _ => continue,
            };
            if row.get("items") != Some(most) {
                held.push(format!("{:?} are {:?}", row.get(0), row.get(1)));
            }
        }
        for row in console(proxy, "show pins").await {
            held.push(format!("client {:?} is bound to its server", row.get(2)));
        }
        for row in console(proxy, "show tree").await {
            let name = row.get("name").unwrap_or_default().trim();
            let state = row.get("state");
            if state != Some("running") {
                held.push(format!("actor {name} is {state:?}"));
            }
        }
        held
    }
}
