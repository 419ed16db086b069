//! Connections and servers that are lost while clients listen.

use std::time::{Duration, Instant};

use pgherd_sandbox::{Binaries, Server};
use pgherd_tests::{Config, Database, Proxy, Raw, connect, until};

use super::{enter, heard, herald, house, next};

/// Waits for the notice that something may have been missed.
async fn warned(client: &mut Raw) {
    let notice = client.message().await;
    assert_eq!(notice.tag, 'N', "{notice:?}");
    assert_eq!(notice.field('C').as_deref(), Some("01000"));
    assert_eq!(
        notice.field('M').as_deref(),
        Some("notifications may have been lost")
    );
}

#[tokio::test]
async fn a_lost_herald_connection_is_told_of_once_and_made_anew() {
    let (proxy, database) = house().await;
    let mut clients = Vec::new();
    for channel in ["a", "b", "a"] {
        let mut client = enter(&proxy, &database).await;
        client.ask(&Raw::query(&format!("listen {channel}"))).await;
        clients.push(client);
    }
    let mut idler = enter(&proxy, &database).await;
    idler.ask(&Raw::query("select 1")).await;
    for round in 0..2 {
        let pid = herald(&database).await;
        let kill = format!("select pg_terminate_backend({pid})");
        assert_eq!(database.sql(&kill).await, "t", "{round}");
        for client in &mut clients {
            warned(client).await;
        }
        database.sql("notify a, 'a'; notify b, 'b'").await;
        for (client, payload) in clients.iter_mut().zip(["a", "b", "a"]) {
            assert_eq!(next(client).await.2, payload);
        }
        assert_eq!(heard(&mut clients[0], "notify a, 'own'").await, ["own"]);
        assert_eq!(next(&mut clients[2]).await.2, "own");
    }
    assert_eq!(idler.ask(&Raw::query("select 1")).await, "T D C ZI");
}

/// A backend that says nothing, as long as this lives.
struct Stopped(String);

impl Stopped {
    fn new(pid: String) -> Self {
        signal("-STOP", &pid);
        Self(pid)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        signal("-CONT", &self.0);
    }
}

fn signal(which: &str, pid: &str) {
    let status = std::process::Command::new("kill")
        .args([which, pid])
        .status();
    assert!(status.is_ok_and(|status| status.success()), "{which} {pid}");
}

#[tokio::test]
async fn a_mute_herald_connection_holds_nobody_up_for_long() {
    let (proxy, database) = house().await;
    let mut client = enter(&proxy, &database).await;
    client.ask(&Raw::query("listen a")).await;
    let _stopped = Stopped::new(herald(&database).await);
    let begun = Instant::now();
    client.send(&Raw::query("select 1")).await;
    let tags: Vec<char> = client.ready().await.iter().map(|it| it.tag).collect();
    assert!(
        begun.elapsed() < Duration::from_secs(8),
        "{:?}",
        begun.elapsed()
    );
    let told: Vec<char> = tags.into_iter().filter(|tag| *tag != 'N').collect();
    assert_eq!(told, ['T', 'D', 'C', 'Z']);
    until("it is heard again", async || {
        heard(&mut client, "notify a, 'own'").await == ["own"]
    })
    .await;
}

/// Nothing of what it has asked for is run, and its server is not kept.
#[tokio::test]
async fn who_is_sent_away_while_a_mute_herald_is_awaited_goes_at_once() {
    let database = Database::new().await;
    database.sql("create table kept (a int)").await;
    let proxy = Proxy::before(&database, "[pool]\nsize = 1").await;
    let mut client = enter(&proxy, &database).await;
    assert_eq!(client.ask(&Raw::query("listen a")).await, "C ZI");
    // What this one might have notified would be awaited.
    let mut other = enter(&proxy, &database).await;
    assert_eq!(other.one("select 1").await, "1");
    let console = connect(&proxy.url("app", "pgherd")).await;
    let stopped = Stopped::new(herald(&database).await);
    let insert = "insert into kept values (1)";
    client.send(&Raw::query(insert)).await;
    let kill = format!("kill_client {}", client.key.0);
    console.simple_query(&kill).await.unwrap();
    let rest = String::from_utf8_lossy(&client.end().await).into_owned();
    assert!(rest.contains("57P01"), "{rest}");
    assert!(!rest.contains("INSERT"), "{rest}");
    drop(stopped);
    assert_eq!(other.one("select count(*)::text from kept").await, "0");
}

#[tokio::test]
async fn an_answer_that_only_waits_for_notifications_is_not_lost_with_its_server() {
    let (proxy, database) = house().await;
    database.sql("create table kept (a int)").await;
    let mut client = enter(&proxy, &database).await;
    client.ask(&Raw::query("listen a")).await;
    let _stopped = Stopped::new(herald(&database).await);
    client
        .send(&Raw::query("insert into kept values (pg_backend_pid())"))
        .await;
    assert_eq!(client.message().await.tag, 'C');
    let kill = "select pg_terminate_backend(a, 5000) from kept";
    assert_eq!(database.sql(kill).await, "t");
    // The first only makes the other side say that there is nobody. An answer to somebody else shows that they were
    // sent on meanwhile.
    let mut other = enter(&proxy, &database).await;
    for _ in 0..5 {
        client.send(&Raw::query("select 1")).await;
        for _ in 0..5 {
            other.ask(&Raw::query("select 1")).await;
        }
    }
    let messages = client.ready().await;
    let told: Vec<char> = messages.iter().map(|it| it.tag).collect();
    assert!(!told.contains(&'E'), "{messages:?}");
}

#[tokio::test]
async fn listening_outlives_a_crash_of_the_server() {
    let mut server = Server::builder(&Binaries::find().unwrap())
        .start()
        .await
        .unwrap();
    let text = format!(
        "[listen]\naddresses = [\"127.0.0.1:{{port}}\"]\n[auth]\nmethod = \"trust\"\n\
         [timeouts]\ncheckout = \"3s\"\n\
         [users.postgres]\n[databases.postgres]\nhosts = [\"127.0.0.1:{}\"]\n",
        server.port()
    );
    let proxy = Proxy::start(&Config::text(text)).await;
    let mut client = Raw::login(proxy.port(), "postgres", "postgres", &[]).await;
    assert_eq!(client.ask(&Raw::query("listen a")).await, "C ZI");
    let mut late = Raw::login(proxy.port(), "postgres", "postgres", &[]).await;
    late.ask(&Raw::query("select 1")).await;
    server.kill9();
    proxy.logged("notifications are not heard", 1).await;
    let refused = late.ask(&Raw::query("listen a")).await;
    assert!(refused.starts_with('E'), "{refused}");
    server.restart().await.unwrap();
    warned(&mut client).await;
    server.sql("notify a, 'again'").await.unwrap();
    assert_eq!(next(&mut client).await.2, "again");
    until("it listens", async || {
        late.ask(&Raw::query("listen a")).await == "C ZI"
    })
    .await;
    assert_eq!(heard(&mut late, "notify a, 'late'").await, ["late"]);
    assert_eq!(next(&mut client).await.2, "late");
}

#[tokio::test]
async fn a_drain_sends_listening_clients_away_like_idle_ones() {
    let (mut proxy, database) = house().await;
    let mut client = enter(&proxy, &database).await;
    client.ask(&Raw::query("listen a")).await;
    proxy.signal(rustix::process::Signal::TERM);
    let farewell = client.message().await;
    assert_eq!(farewell.field('C').as_deref(), Some("57P01"));
    assert!(proxy.wait().await.success());
    // Postgres takes note of it a moment later.
    until("nothing is left", async || {
        database.backends("app").await == 0
    })
    .await;
}

#[tokio::test]
async fn all_users_of_a_database_listen_over_one_connection_whoever_may_connect() {
    let database = Database::new().await;
    let proxy = Proxy::before(&database, "[pool]\nsize = 2").await;
    let mut other = Raw::login(proxy.port(), "other", &database.name, &[]).await;
    assert_eq!(other.ask(&Raw::query("listen a; listen b")).await, "C C ZI");
    let mut app = enter(&proxy, &database).await;
    assert_eq!(app.ask(&Raw::query("listen a")).await, "C ZI");
    let question = "select string_agg(usename, ' ') from pg_stat_activity \
                    where datname = current_database() and application_name = 'pgherd herald'";
    assert_eq!(database.sql(question).await, "other");
    // Each knows the other by the number that it was told.
    assert_eq!(heard(&mut app, "notify a, 'from app'").await, ["from app"]);
    let (from, _, payload) = next(&mut other).await;
    assert_eq!((from, &*payload), (app.key.0, "from app"));
    assert!(heard(&mut app, "notify b").await.is_empty());
    assert_eq!(next(&mut other).await.1, "b");
    // A user that is not let in any more takes nothing from the others, nor from those who are in.
    let name = &database.name;
    let revoke = format!("revoke connect on database {name} from public");
    database.sql(&revoke).await;
    let pid = herald(&database).await;
    database
        .sql(&format!("select pg_terminate_backend({pid})"))
        .await;
    for client in [&mut other, &mut app] {
        assert_eq!(client.message().await.field('C').as_deref(), Some("01000"));
    }
    assert_eq!(database.sql(question).await, "app");
    database.sql("notify a, 'after'").await;
    for client in [&mut other, &mut app] {
        assert_eq!(next(client).await.2, "after");
    }
    // Who has left leaves the others.
    drop(app);
    database.sql("notify a, 'still'").await;
    assert_eq!(next(&mut other).await.2, "still");
}
