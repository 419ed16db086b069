//! Messages that reach past the end of what they belong to: a server that waits for the rest of one is nobody else's,
//! and what it would stumble over there never reaches it.

use pgherd_tests::{Client, Config, Database, Proxy, Raw, connect, until};
use tokio_postgres::SimpleQueryMessage;

use super::Protocol::{Extended, Simple};
use super::{data, done};

const COPY: &str = "copy goods from stdin";

/// More than is read at once from a client, or waits for a server that does not read.
fn long_data() -> Vec<u8> {
    data(&"4\n".repeat(32_000))
}

/// The first bytes of a CopyData whose other 256 do not come.
fn begun_data() -> Vec<u8> {
    data(&"x".repeat(256))[..5].to_vec()
}

/// A database with a table `goods`, and a proxy with one server before it.
async fn shop(more: &str) -> (Database, Proxy) {
    let database = Database::new().await;
    database.sql("create table goods (a int)").await;
    let proxy = Proxy::before(&database, &format!("[pool]\nsize = 1\n{more}")).await;
    (database, proxy)
}

async fn enter(proxy: &Proxy, database: &Database) -> Raw {
    Raw::login(proxy.port(), "app", &database.name, &[]).await
}

/// Whether somebody waits for a server.
async fn waits(console: &Client) -> bool {
    let pools = console.simple_query("show pools").await.unwrap();
    pools.iter().any(|message| match message {
        SimpleQueryMessage::Row(row) => row.get("cl_waiting") == Some("1"),
        _ => false,
    })
}

#[tokio::test]
async fn a_server_that_waits_for_the_rest_of_a_message_is_nobody_elses() {
    let (database, proxy) = shop("").await;
    let console = connect(&proxy.url("app", "pgherd")).await;
    let mut client = enter(&proxy, &database).await;
    let mut other = enter(&proxy, &database).await;
    let (first, rest) = (long_data(), long_data());
    let (first, rest) = (&first[..20_000], &rest[20_000..]);
    for asked in [
        [Raw::query(COPY), data("x\n")].concat(),
        [Raw::query(COPY), data("1\n"), done()].concat(),
        [Extended.statement("select 1"), Vec::new()].concat(),
        Raw::query("select 1"),
    ] {
        client.send(&[&asked, first].concat()).await;
        client.ready().await;
        other.send(&Raw::query("select 'in step'")).await;
        until("the other one waits", async || waits(&console).await).await;
        // Of one more that belongs to nothing the server need not know.
        client.send(&[rest, first].concat()).await;
        let answer = other.ready().await;
        let row = answer.iter().find(|message| message.tag == 'D');
        assert_eq!(row.unwrap().columns(), ["in step"]);
        client.send(rest).await;
        assert_eq!(client.one("select 'in step'").await, "in step");
        assert_eq!(other.one("select 'in step'").await, "in step");
    }
    assert_eq!(database.sql("select count(*) from goods").await, "1");
    assert!(proxy.memory() < 1 << 30);
}

#[tokio::test]
async fn who_stops_within_a_message_is_sent_away_by_each_limit_that_can_hold_for_it() {
    for (limit, code) in [
        ("idle_in_transaction", "25P03"),
        ("client_idle", "57P05"),
        ("transaction", "25P04"),
    ] {
        let (database, proxy) = shop(&format!("[timeouts]\n{limit} = \"500ms\"")).await;
        let mut client = enter(&proxy, &database).await;
        client
            .send(&[Raw::query("select 1"), begun_data()].concat())
            .await;
        client.ready().await;
        let mut other = enter(&proxy, &database).await;
        assert_eq!(other.one("select 'in step'").await, "in step");
        assert_eq!(client.farewell().await.0, code, "{limit}");
    }
}

#[tokio::test]
async fn who_goes_within_a_message_takes_its_server_along() {
    let (database, proxy) = shop("").await;
    let console = connect(&proxy.url("app", "pgherd")).await;
    for killed in [false, true] {
        let mut client = enter(&proxy, &database).await;
        let backend = client.one("select pg_backend_pid()").await;
        client
            .send(&[Raw::query("select 1"), begun_data()].concat())
            .await;
        client.ready().await;
        let mut other = enter(&proxy, &database).await;
        other.send(&Raw::query("select pg_backend_pid()")).await;
        until("the other one waits", async || waits(&console).await).await;
        if killed {
            let kill = format!("kill_client {}", client.key.0);
            console.simple_query(&kill).await.unwrap();
            assert_eq!(client.farewell().await.0, "57P01");
        }
        drop(client);
        let answer = other.ready().await;
        let row = answer.iter().find(|message| message.tag == 'D');
        assert_ne!(row.unwrap().columns(), [backend]);
    }
}

#[tokio::test]
async fn what_a_server_would_stumble_over_when_nothing_is_owed_any_more_is_refused() {
    let (database, proxy) = shop("").await;
    let mut other = enter(&proxy, &database).await;
    let long = |tag| Raw::framed(tag, &b"x".repeat(10_000 - 3));
    for wrong in [
        Raw::framed(b'H', b"x"),
        Raw::framed(b'S', b"x"),
        long(b'c'),
        long(b'f'),
        // Its length alone is enough.
        long(b'f')[..5].to_vec(),
    ] {
        for asked in [Raw::query("select 1"), Vec::new()] {
            let mut client = enter(&proxy, &database).await;
            client.send(&[asked, wrong.clone()].concat()).await;
            assert_eq!(client.farewell().await.0, "08P01", "{:?}", &wrong[..5]);
            assert_eq!(other.one("select 'in step'").await, "in step");
        }
    }
    // Postgres ignores what it does not look into, up to this size.
    for (port, name) in [
        (database.port, &database.name),
        (proxy.port(), &database.name),
    ] {
        let mut client = Raw::login(port, "app", name, &[]).await;
        for right in [
            Raw::framed(b'f', &b"x".repeat(10_000 - 4)),
            Raw::framed(b'c', &b"x".repeat(10_000 - 4)),
            Raw::flush(),
        ] {
            let asked = [Raw::query("select 1"), right].concat();
            assert_eq!(client.ask(&asked).await, "T D C ZI");
            assert_eq!(client.one("select 'in step'").await, "in step");
        }
    }
}

/// Behind some texts nothing is sent before they are answered; a COPY in them waits for its data.
#[tokio::test]
async fn data_is_no_question_that_has_to_wait_for_an_answer() {
    let database = Database::new().await;
    database.sql("create table goods (a int)").await;
    let rows = || [data("1\n2\n"), done()].concat();
    for resolution in ["off", "on"] {
        let more = format!("[pool]\nsize = 1\n[failover]\ncommit_resolution = \"{resolution}\"");
        let proxy = Proxy::start(&Config::before(&database, &more)).await;
        let mut client = enter(&proxy, &database).await;
        // The catalogue is looked at behind the first transaction.
        client.one("select 1").await;
        client.one("select 1").await;
        let mut direct = Raw::login(database.port, "app", &database.name, &[]).await;
        for text in [
            COPY,
            "begin; copy goods from stdin; commit",
            "copy goods from stdin; prepare b as select 1",
            "deallocate all; copy goods from stdin",
            "discard plans; copy goods from stdin",
        ] {
            eprintln!("{resolution}: {text}");
            let asked = [Simple.begin(text), rows()].concat();
            let expected = direct.ask(&asked).await;
            assert_eq!(client.ask(&asked).await, expected, "{resolution}: {text}");
        }
    }
}

/// The same where what leaves something to be cleared away stands in front of the COPY in one stretch to its Sync.
#[tokio::test]
async fn what_is_cleared_away_behind_a_sync_does_not_end_a_copy_in_front_of_it() {
    let database = Database::new().await;
    database.sql("create table goods (a int)").await;
    let run = |text: &str| {
        [
            Raw::parse("", text),
            Raw::bind("", "", &[]),
            Raw::execute("", 0),
        ]
        .concat()
    };
    for resolution in ["off", "on"] {
        let more = format!("[pool]\nsize = 1\n[failover]\ncommit_resolution = \"{resolution}\"");
        let proxy = Proxy::start(&Config::before(&database, &more)).await;
        let mut client = enter(&proxy, &database).await;
        client.one("select 1").await;
        client.one("select 1").await;
        let mut direct = Raw::login(database.port, "app", &database.name, &[]).await;
        for first in [
            "deallocate a",
            "deallocate all",
            "prepare b as select 1",
            "execute a",
            "select name from pg_prepared_statements",
            "discard plans",
        ] {
            for early in [true, false] {
                eprintln!("{resolution}, {first}, {early}");
                let prepare = [run("deallocate all"), Raw::sync()].concat();
                let named = [run("prepare a as select 7"), Raw::sync()].concat();
                // libpq and tokio-postgres send a Sync before the data, and psycopg one behind.
                let open = match early {
                    true => [run(first), run(COPY), Raw::sync()].concat(),
                    false => [run(first), run(COPY)].concat(),
                };
                let data = [data("1\n2\n"), done(), Raw::sync()].concat();
                let mut said = Vec::new();
                for side in [&mut direct, &mut client] {
                    side.ask(&prepare).await;
                    side.ask(&named).await;
                    side.send(&open).await;
                    if !early {
                        side.send(&Raw::flush()).await;
                    }
                    let mut tags = String::new();
                    loop {
                        let message = side.message().await;
                        tags.push(message.tag);
                        if matches!(message.tag, 'G' | 'Z') {
                            break;
                        }
                    }
                    tags.push_str(&side.ask(&data).await);
                    tags.push_str(&side.ask(&Raw::query("select 'in step'")).await);
                    said.push(tags);
                }
                assert_eq!(said[1], said[0], "{resolution}, {first}, {early}");
            }
        }
    }
}
