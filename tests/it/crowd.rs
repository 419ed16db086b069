//! Many clients that do nothing. `cargo bench-proxy --only idle --idle-clients 10000` measures ten
//! times as many on a release build, and PgBouncer beside it.

use std::process::Command;
use std::time::Duration;

use futures_util::future::join_all;
use pgherd_tests::{Config, Database, Proxy, Raw, executable, until};

const CLIENTS: usize = 1000;
/// How many log in at a time.
const AT_ONCE: usize = 50;
/// Memory that one of them may cost.
const EACH: u64 = 10 * 1024;
/// How long they are watched.
const WATCH: Duration = Duration::from_secs(2);
/// CPU time that the whole process may use meanwhile: the clocks of its actors tick.
const TICKS: Duration = Duration::from_millis(20);

/// Logs clients in, of whom each asks one query.
async fn crowd(proxy: &Proxy, database: &Database, count: usize) -> Vec<Raw> {
    let mut clients = Vec::with_capacity(count);
    while clients.len() < count {
        let some = AT_ONCE.min(count - clients.len());
        let enter = async || {
            let mut client = Raw::login(proxy.port(), "app", &database.name, &[]).await;
            client.one("select 1").await;
            client
        };
        clients.extend(join_all((0..some).map(|_| enter())).await);
    }
    clients
}

#[tokio::test]
async fn a_thousand_idle_clients_use_no_cpu_and_little_memory() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[pool]\nsize = 10").await;
    // What a first crowd leaves behind is what the process needs for good.
    drop(crowd(&proxy, &database, CLIENTS / 4).await);
    let before = proxy.memory();
    let mut clients = crowd(&proxy, &database, CLIENTS).await;
    let mut each = 0;
    until("the memory of the logins is given back", async || {
        each = proxy.memory().saturating_sub(before) / CLIENTS as u64;
        each < EACH
    })
    .await;
    // What the logins left to be done is done.
    let mut last = proxy.cpu();
    until("all is quiet", async || {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = proxy.cpu();
        std::mem::replace(&mut last, now) == now
    })
    .await;
    let used = proxy.cpu();
    tokio::time::sleep(WATCH).await;
    let used = proxy.cpu() - used;
    assert!(used <= TICKS, "{used:?} for {CLIENTS} clients in {WATCH:?}");
    for some in clients.chunks_mut(AT_ONCE) {
        let answers = join_all(some.iter_mut().map(|client| client.one("select 'here'"))).await;
        assert!(answers.iter().all(|answer| answer == "here"));
    }
    drop(clients);
    until("their memory is given back", async || {
        proxy.memory() < before + EACH * CLIENTS as u64 / 4
    })
    .await;
}

#[tokio::test]
async fn a_low_limit_of_descriptors_is_raised_as_far_as_allowed() {
    let database = Database::new().await;
    let config = Config::before(&database, "");
    let limited = |command: &mut Command| {
        let mut shell = Command::new("/bin/sh");
        let line = "ulimit -Sn 64 && exec \"$0\" \"$@\"";
        shell.args(["-c", line]).arg(executable());
        shell.args(command.get_args()).env_clear();
        shell.envs(
            command
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
        *command = shell;
    };
    let proxy = Proxy::start_by(&config, limited).await;
    let mut clients = crowd(&proxy, &database, 100).await;
    for client in &mut clients {
        assert_eq!(client.one("select 'here'").await, "here");
    }
}
