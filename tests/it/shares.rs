//! Pools that want more server connections together than a limit that they share allows.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pgherd_sandbox::free_port;
use pgherd_tests::{Database, Proxy, until};
use tokio::task::JoinHandle;

use crate::failures::metrics;

/// Clients that ask one thing after another.
struct Load {
    answered: Arc<AtomicUsize>,
    tasks: Vec<JoinHandle<()>>,
}

impl Load {
    async fn of(user: &str, clients: usize, proxy: &Proxy, database: &Database) -> Self {
        let answered = Arc::new(AtomicUsize::new(0));
        let mut tasks = Vec::new();
        for _ in 0..clients {
            let client = proxy.client(user, database).await;
            let answered = Arc::clone(&answered);
            tasks.push(tokio::spawn(async move {
                loop {
                    client.batch_execute("select pg_sleep(0.01)").await.unwrap();
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            }));
        }
        Self { answered, tasks }
    }

    /// Waits for so many more answers, none of which may be an error.
    async fn go_on(&self, count: usize) {
        let goal = self.answered.load(Ordering::Relaxed) + count;
        until("clients are answered", async || {
            assert!(self.tasks.iter().all(|task| !task.is_finished()));
            self.answered.load(Ordering::Relaxed) >= goal
        })
        .await;
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// How many connections were closed in favour of other pools.
async fn reclaimed(http: u16) -> u64 {
    let page = metrics(http).await;
    let name = "pgherd_pool_servers_lost_total{";
    let rows = page.lines().filter(|line| line.starts_with(name));
    let rows = rows.filter(|line| line.contains("reason=\"reclaimed\""));
    let counts = rows.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    counts.sum::<f64>() as u64
}

/// A proxy whose pools share this limit, and the port of its metrics.
async fn before(database: &Database, limit: &str, max: usize) -> (Proxy, u16) {
    let http = free_port();
    let more = format!(
        "[metrics]\nlisten = \"127.0.0.1:{http}\"\n[limits]\n{limit} = {max}\n\
         [timeouts]\ncheckout = \"10s\""
    );
    (Proxy::before(database, &more).await, http)
}

#[tokio::test]
async fn a_busy_pool_leaves_another_its_share_of_a_limit() {
    let database = Database::new().await;
    for limit in [
        "max_connections",
        "max_database_connections",
        "max_host_connections",
    ] {
        let (proxy, http) = before(&database, limit, 4).await;
        let busy = Load::of("app", 12, &proxy, &database).await;
        until(&format!("{limit} is used up"), async || {
            database.backends("app").await == 4
        })
        .await;
        busy.go_on(50).await;
        // Its first client has somebody before it at all times, and comes to its turn.
        let first = proxy.client("other", &database).await;
        assert_eq!(first.one("select 'served'").await, "served");
        let other = Load::of("other", 6, &proxy, &database).await;
        until(&format!("{limit} is shared"), async || {
            let shares = (
                database.backends("app").await,
                database.backends("other").await,
            );
            shares == (2, 2)
        })
        .await;
        // None goes back and forth from here on.
        let before = reclaimed(http).await;
        assert!(before >= 2, "{limit}: {before}");
        busy.go_on(100).await;
        other.go_on(100).await;
        assert_eq!(reclaimed(http).await, before, "{limit}");
    }
}

#[tokio::test]
async fn who_listens_gets_its_connection_from_busy_pools() {
    let database = Database::new().await;
    let (proxy, _) = before(&database, "max_connections", 4).await;
    let busy = Load::of("app", 12, &proxy, &database).await;
    until("the limit is used up", async || {
        database.backends("app").await == 4
    })
    .await;
    busy.go_on(50).await;
    let listener = proxy.client("other", &database).await;
    listener.batch_execute("listen news").await.unwrap();
    until("it is one of those that others had", async || {
        let app = database.backends("app").await;
        (app, database.backends("other").await) == (3, 1)
    })
    .await;
    busy.go_on(50).await;
}

#[tokio::test]
async fn pools_take_turns_where_a_limit_leaves_each_less_than_one_connection() {
    let database = Database::new().await;
    let (proxy, http) = before(&database, "max_host_connections", 1).await;
    let app = Load::of("app", 3, &proxy, &database).await;
    let other = Load::of("other", 3, &proxy, &database).await;
    for _ in 0..2 {
        app.go_on(10).await;
        other.go_on(10).await;
    }
    // A turn lasts for more than one transaction.
    let done = [&app, &other].map(|load| load.answered.load(Ordering::Relaxed) as u64);
    let turns = reclaimed(http).await;
    assert!(
        turns > 0 && turns * 4 < done[0] + done[1],
        "{turns} {done:?}"
    );
}
