//! Who gets which server connection, and for how long.

use std::collections::BTreeSet;
use std::time::Duration;

use pgherd_tests::{Database, Proxy, until};
use tokio::task::JoinSet;

const PID: &str = "select pg_backend_pid()";

#[tokio::test]
async fn clients_share_a_server_connection_by_transaction() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[pool]\nsize = 1").await;
    let first = proxy.client("app", &database).await;
    let second = proxy.client("app", &database).await;
    assert_eq!(first.one(PID).await, second.one(PID).await);
    assert_eq!(database.backends("app").await, 1);
}

#[tokio::test]
async fn a_transaction_keeps_its_server_connection() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[pool]\nsize = 2").await;
    let first = proxy.client("app", &database).await;
    let second = proxy.client("app", &database).await;
    first.batch_execute("begin read write").await.unwrap();
    let pid = first.one(PID).await;
    for _ in 0..3 {
        assert_ne!(second.one(PID).await, pid);
        assert_eq!(first.one(PID).await, pid);
    }
    first.batch_execute("commit").await.unwrap();
}

#[tokio::test]
async fn many_clients_use_few_server_connections() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[pool]\nsize = 3").await;
    let mut clients = JoinSet::new();
    for _ in 0..12 {
        let client = proxy.client("app", &database).await;
        clients.spawn(async move {
            let mut seen = BTreeSet::new();
            for _ in 0..10 {
                seen.insert(
                    client
                        .one("select pg_backend_pid() from pg_sleep(0.003)")
                        .await,
                );
            }
            seen
        });
    }
    let seen: BTreeSet<String> = clients.join_all().await.into_iter().flatten().collect();
    assert!((2..=3).contains(&seen.len()), "{seen:?}");
    assert_eq!(database.backends("app").await, seen.len());
}

#[tokio::test]
async fn users_and_databases_have_pools_of_their_own() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[pool]\nsize = 1").await;
    let app = proxy.client("app", &database).await;
    let other = proxy.client("other", &database).await;
    assert_ne!(app.one(PID).await, other.one(PID).await);
    assert_eq!(app.one("select current_user").await, "app");
    assert_eq!(other.one("select current_user").await, "other");
}

#[tokio::test]
async fn session_mode_keeps_the_server_connection_and_cleans_it() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[pool]\nmode = \"session\"\nsize = 1").await;
    let first = proxy.client("app", &database).await;
    let pid = first.one(PID).await;
    let dirty = "set work_mem = '77MB'; create temp table mine (a int); \
                 prepare p as select 1; select pg_advisory_lock(5); set timezone = 'Asia/Tokyo'";
    first.batch_execute(dirty).await.unwrap();
    assert_eq!(first.one("show work_mem").await, "77MB");
    let second = proxy.client("app", &database);
    drop(first);
    let second = second.await;
    assert_eq!(second.one(PID).await, pid);
    assert_ne!(second.one("show work_mem").await, "77MB");
    assert_ne!(second.one("show timezone").await, "Asia/Tokyo");
    assert_eq!(second.one("select to_regclass('mine')").await, "NULL");
    assert_eq!(second.refused("execute p").await.0, "26000");
    let locks = "select count(*) from pg_locks where locktype = 'advisory' \
                 and database = (select oid from pg_database where datname = current_database())";
    assert_eq!(second.one(locks).await, "0");
}

#[tokio::test]
async fn session_mode_makes_others_wait_for_the_whole_session() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[pool]\nmode = \"session\"\nsize = 1").await;
    let first = proxy.client("app", &database).await;
    let pid = first.one(PID).await;
    let second = proxy.client("app", &database).await;
    let waiting = tokio::spawn(async move { second.one(PID).await });
    for _ in 0..5 {
        first.one("select 1").await;
    }
    assert!(!waiting.is_finished());
    drop(first);
    assert_eq!(waiting.await.unwrap(), pid);
}

#[tokio::test]
async fn statement_mode_refuses_transactions() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[pool]\nmode = \"statement\"\nsize = 1").await;
    let client = proxy.client("app", &database).await;
    assert_eq!(client.one("select 1").await, "1");
    let (code, message) = client.refused("begin").await;
    assert_eq!(code, "0A000");
    assert!(message.contains("statement pooling mode"), "{message}");
    until("it is sent away", async || client.is_closed()).await;
    let next = proxy.client("app", &database).await;
    let open = "select count(*) from pg_stat_activity where usename = 'app' \
                and datname = current_database() and state like 'idle in transaction%'";
    assert_eq!(next.one(open).await, "0");
}

#[tokio::test]
async fn a_user_may_have_another_mode_and_size() {
    let database = Database::new().await;
    let more = "[pool]\nsize = 1\n[users.app.pool]\nmode = \"session\"\nsize = 2";
    let proxy = Proxy::before(&database, more).await;
    let first = proxy.client("app", &database).await;
    let second = proxy.client("app", &database).await;
    let pid = first.one(PID).await;
    assert_ne!(second.one(PID).await, pid);
    assert_eq!(first.one(PID).await, pid);
    let third = proxy.client("other", &database).await;
    let fourth = proxy.client("other", &database).await;
    assert_eq!(third.one(PID).await, fourth.one(PID).await);
}

#[tokio::test]
async fn a_minimum_is_kept_open() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[pool]\nmin = 3").await;
    let client = proxy.client("app", &database).await;
    client.one("select 1").await;
    until("three are open", async || {
        database.backends("app").await == 3
    })
    .await;
    let all = "select string_agg(pid::text, ',') from pg_stat_activity \
               where usename = 'app' and datname = current_database()";
    let pids = database.sql(all).await;
    let of = format!("from pg_stat_activity where pid in ({pids})");
    assert_eq!(
        database
            .sql(&format!("select count(pg_terminate_backend(pid)) {of}"))
            .await,
        "3"
    );
    let left = format!("select count(*) {of}");
    until("they are dead", async || database.sql(&left).await == "0").await;
    // The dead ones are met by whoever asks next, who does not notice.
    assert_eq!(client.one("select 1").await, "1");
    until("three are open again", async || {
        database.backends("app").await == 3
    })
    .await;
}

#[tokio::test]
async fn the_reserve_helps_who_waited() {
    let database = Database::new().await;
    let more = "[pool]\nsize = 1\nreserve = 1\nreserve_after = \"300ms\"";
    let proxy = Proxy::before(&database, more).await;
    let first = proxy.client("app", &database).await;
    let second = proxy.client("app", &database).await;
    first.batch_execute("begin read write").await.unwrap();
    let begun = std::time::Instant::now();
    second.one("select 1").await;
    let waited = begun.elapsed();
    assert!(waited >= Duration::from_millis(290), "{waited:?}");
    assert_eq!(database.backends("app").await, 2);
}

#[tokio::test]
async fn an_unused_server_connection_is_closed() {
    let database = Database::new().await;
    let proxy = Proxy::before(
        &database,
        "[timeouts]\nserver_idle = \"300ms\"\nserver_check = 0",
    )
    .await;
    let client = proxy.client("app", &database).await;
    client.one("select 1").await;
    assert_eq!(database.backends("app").await, 1);
    until("it is closed", async || database.backends("app").await == 0).await;
    assert_eq!(client.one("select 1").await, "1");
}

#[tokio::test]
async fn an_old_server_connection_is_replaced() {
    let database = Database::new().await;
    let more =
        "[pool]\nsize = 1\n[timeouts]\nserver_lifetime = \"500ms\"\nserver_lifetime_jitter = 0";
    let proxy = Proxy::before(&database, more).await;
    let client = proxy.client("app", &database).await;
    let pid = client.one(PID).await;
    until("another one serves", async || client.one(PID).await != pid).await;
    until("one is left", async || database.backends("app").await == 1).await;
}

#[tokio::test]
async fn an_old_server_connection_ends_no_transaction() {
    let database = Database::new().await;
    let more =
        "[pool]\nsize = 1\n[timeouts]\nserver_lifetime = \"200ms\"\nserver_lifetime_jitter = 0";
    let proxy = Proxy::before(&database, more).await;
    let client = proxy.client("app", &database).await;
    client.batch_execute("begin read write").await.unwrap();
    let pid = client.one(PID).await;
    assert_eq!(
        client
            .one("select pg_backend_pid() from pg_sleep(0.6)")
            .await,
        pid
    );
    client.batch_execute("commit").await.unwrap();
}

#[tokio::test]
async fn few_server_connections_stay_warm() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[pool]\nsize = 3\nmin = 3").await;
    let client = proxy.client("app", &database).await;
    client.one("select 1").await;
    until("three are open", async || {
        database.backends("app").await == 3
    })
    .await;
    let mut seen = BTreeSet::new();
    for _ in 0..9 {
        seen.insert(client.one(PID).await);
    }
    assert_eq!(seen.len(), 1, "{seen:?}");
}
