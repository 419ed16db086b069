//! Clients of whom nothing is read, or who read nothing: that one has left is noticed all the same, and who is sent
//! away goes.

use std::time::Duration;

use pgherd_tests::{Client, Database, Proxy, Raw, connect, until};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// It waits for [`holder`].
const SLOW: &str = "insert into goods select 1 from pg_advisory_xact_lock(1)";

const ON: &str = "[failover]\ncommit_resolution = \"on\"";

/// A database with a table `goods`, a proxy with one server before it, its console, and a client that has been served.
async fn shop(more: &str) -> (Database, Proxy, Client, Raw) {
    let database = Database::new().await;
    database.sql("create table goods (a int)").await;
    let proxy = Proxy::before(&database, &format!("[pool]\nsize = 1\n{more}")).await;
    let console = connect(&proxy.url("app", "pgherd")).await;
    let mut client = Raw::login(proxy.port(), "app", &database.name, &[]).await;
    // The catalogue is looked at behind the first transaction.
    client.one("select 1").await;
    client.one("select 1").await;
    (database, proxy, console, client)
}

/// Somebody who holds a lock until its block ends.
async fn holder(database: &Database) -> Raw {
    let mut holder = Raw::login(database.port, "other", &database.name, &[]).await;
    assert_eq!(holder.ask(&Raw::query("begin")).await, "C ZT");
    let lock = Raw::query("select pg_advisory_xact_lock(1)");
    assert_eq!(holder.ask(&lock).await, "T D C ZT");
    holder
}

/// How many backends of `app` wait for that.
async fn waiting(database: &Database) -> String {
    let waiting = "select count(*) from pg_stat_activity where usename = 'app' and \
                   datname = current_database() and wait_event_type = 'Lock'";
    database.sql(waiting).await
}

/// How many clients the proxy has, beside those of its console.
async fn clients(console: &Client) -> usize {
    let all = console.rows("show clients", ["database"]).await;
    all.iter().filter(|[database]| database != "pgherd").count()
}

async fn kill(console: &Client, client: &Raw) {
    let kill = format!("kill_client {}", client.key.0);
    console.simple_query(&kill).await.unwrap();
}

/// What a client has sent that is read no further until a lock is free.
fn held_up() -> Vec<(&'static str, Vec<u8>)> {
    let part = [Raw::bind("", "one", &[]), Raw::execute("", 0), Raw::sync()].concat();
    let pipeline = [
        Raw::parse("one", "select 1"),
        Raw::parse("", SLOW),
        Raw::bind("", "", &[]),
        Raw::execute("", 0),
        Raw::sync(),
        part.repeat(1500),
    ];
    vec![
        ("", [SLOW, "deallocate all"].map(Raw::query).concat()),
        ("", pipeline.concat()),
        (ON, Raw::query(SLOW)),
    ]
}

#[tokio::test]
async fn who_leaves_while_it_is_held_up_is_missed() {
    for (more, sent) in held_up() {
        let (database, _proxy, console, mut client) = shop(more).await;
        let _holder = holder(&database).await;
        client.send(&sent).await;
        until("it waits", async || waiting(&database).await == "1").await;
        drop(client);
        until("its query is cancelled", async || {
            waiting(&database).await == "0"
        })
        .await;
        until("it is gone", async || clients(&console).await == 0).await;
        assert_eq!(database.sql("select count(*) from goods").await, "0");
    }
}

#[tokio::test]
async fn who_is_sent_away_while_it_is_held_up_goes() {
    let goodbye = || Raw::framed(b'X', b"");
    let with_goodbye = held_up()
        .into_iter()
        .map(|(more, sent)| (more, [sent, goodbye()].concat()));
    let said = ("", [Raw::query(SLOW), goodbye()].concat());
    for (more, sent) in held_up().into_iter().chain(with_goodbye).chain([said]) {
        let (database, _proxy, console, mut client) = shop(more).await;
        let _holder = holder(&database).await;
        client.send(&sent).await;
        until("it waits", async || waiting(&database).await == "1").await;
        kill(&console, &client).await;
        client.end().await;
        until("its query is cancelled", async || {
            waiting(&database).await == "0"
        })
        .await;
        until("it is gone", async || clients(&console).await == 0).await;
    }
}

#[tokio::test]
async fn who_says_goodbye_while_it_is_held_up_has_asked_all_the_same() {
    for (more, sent) in held_up() {
        let (database, _proxy, console, mut client) = shop(more).await;
        let mut holder = holder(&database).await;
        client.send(&[sent, Raw::framed(b'X', b"")].concat()).await;
        drop(client);
        until("it waits", async || waiting(&database).await == "1").await;
        assert_eq!(holder.ask(&Raw::query("commit")).await, "C ZI");
        until("it is there", async || {
            database.sql("select count(*) from goods").await == "1"
        })
        .await;
        until("it is gone", async || clients(&console).await == 0).await;
    }
}

/// A client that can be written to and does not read, and the half that writes.
async fn deaf(proxy: &Proxy, database: &Database) -> (Raw, TcpStream) {
    let stream = TcpStream::connect(("127.0.0.1", proxy.port()))
        .await
        .unwrap();
    let stream = stream.into_std().unwrap();
    let writer = stream.try_clone().unwrap();
    let raw = Raw::over(TcpStream::from_std(stream).unwrap());
    let entered = raw.enter("app", &database.name, &[]).await;
    let writer = TcpStream::from_std(writer).unwrap();
    (entered.unwrap(), writer)
}

/// Writes the same until nobody takes any more of it.
async fn fill(writer: &mut TcpStream, message: &[u8]) {
    let message = message.repeat(1000);
    let taken = |written| matches!(written, Ok(Ok(())));
    while taken(timeout(Duration::from_secs(1), writer.write_all(&message)).await) {}
}

#[tokio::test]
async fn who_sends_more_than_its_server_takes_can_be_sent_away() {
    let (database, proxy, console, _client) = shop("").await;
    let mut holder = Raw::login(database.port, "app", &database.name, &[]).await;
    let lock = Raw::query("begin; lock table goods");
    assert_eq!(holder.ask(&lock).await, "C C ZT");
    let (client, mut writer) = deaf(&proxy, &database).await;
    let copy = Raw::query("copy goods from stdin");
    writer.write_all(&copy).await.unwrap();
    fill(&mut writer, &Raw::framed(b'd', b"1\n")).await;
    kill(&console, &client).await;
    // The one that has been served before stays.
    until("it is gone", async || clients(&console).await == 1).await;
}

#[tokio::test]
async fn who_does_not_read_what_the_proxy_says_by_itself_can_be_sent_away_and_has_limits() {
    let block = [Raw::query("begin"), Raw::query("rollback")].concat();
    let limits = "[timeouts]\nidle_in_transaction = \"2s\"\nclient_idle = \"2s\"";
    for more in ["", limits] {
        let (database, proxy, console, client) = shop(more).await;
        drop(client);
        let (client, mut writer) = deaf(&proxy, &database).await;
        fill(&mut writer, &block).await;
        if more.is_empty() {
            kill(&console, &client).await;
        }
        until("it is gone", async || clients(&console).await == 0).await;
    }
}

/// A message too large to be looked at goes on as it comes.
#[tokio::test]
async fn a_query_that_is_not_looked_at_is_read_to_its_end_whatever_becomes_of_its_transaction() {
    let more = format!("[limits]\nmax_held_message = 8192\n{ON}");
    let (_database, _proxy, _console, mut client) = shop(&more).await;
    let query = format!("select length('{}')", "x".repeat(1_000_000));
    assert_eq!(client.one(&query).await, "1000000");
    assert_eq!(client.one("select 'in step'").await, "in step");
}
