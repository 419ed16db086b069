//! Tests of whole conversations, over real sockets.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use pgherd_config::{Config, LoadInput, Role};
use pgherd_net::{ClientTls, Listener, SocketOptions, Stream};
use pgherd_pool::PoolCore;
use pgherd_supervise::{Heartbeat, Slot};
use pgherd_wire::backend::DataRow;
use pgherd_wire::error::ErrorReport;
use pgherd_wire::{frontend, sqlstate};
use ractor::Actor;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::desk::Desk;
use super::serve;
use super::show::Show;
use super::table::Cell;
use crate::control::{Control, Identity, Order};
use crate::drain::{Curtain, Ending};
use crate::facts::Facts;
use crate::pool::{Pool, PoolKey, limits};
use crate::router;
use crate::session::Bye;
use crate::session::prove::Proof;
use crate::totals::{Totals, TotalsArguments};
use crate::upstream::Secret;

/// A client of the console, and what is behind it.
struct Client {
    stream: TcpStream,
    facts: Arc<Facts>,
    control: Arc<Control>,
    session: JoinHandle<Bye>,
}

fn facts() -> Arc<Facts> {
    let mut input = LoadInput::default();
    input.overrides.urls = vec!["postgres://u:p@127.0.0.1:1/shop".to_owned()];
    let config = Config::load(&input).expect("a configuration").config;
    Facts::new(
        Arc::new(config),
        Arc::new(ClientTls::disabled()),
        [0; 32],
        Curtain::default(),
    )
}

/// Puts a pool without connections into the routing table.
fn add_pool(facts: &Arc<Facts>, database: &str, user: &str) -> Arc<Pool> {
    let config = facts.config.load_full();
    let section = config.database(database).expect("configured");
    let proof = Proof {
        secret: Secret::None,
    };
    let key = PoolKey::new(database, user);
    let upstream = router::upstream(facts, &config, &section, &key, &proof);
    let upstream = upstream.expect("an upstream");
    let settings = Arc::new(config.effective_pool(&section, None));
    let core = PoolCore::new(limits(&settings), Vec::new(), || {});
    let cluster = facts.topology.of(&section.name).expect("a cluster");
    let pool = Pool::new(key.clone(), upstream, settings, core, Slot::new(), cluster);
    let pool = Arc::new(pool);
    let routes = HashMap::from([(key, Arc::clone(&pool))]);
    facts.routes.store(Arc::new(routes));
    pool
}

async fn pair() -> (TcpStream, Stream) {
    let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    let listener = Listener::bind(any, 8, false).expect("a port");
    let address = listener.local().expect("an address");
    let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    let accepted = accepted.expect("accepted");
    let stream = accepted.into_stream(&SocketOptions::default());
    (client.expect("connected"), stream.expect("a stream"))
}

impl Client {
    async fn new(role: Role) -> Self {
        let (client, stream) = pair().await;
        let facts = facts();
        let control = Arc::new(Control::new(7, stream.killer()));
        control.identify(Arc::new(Identity {
            user: "u".to_owned(),
            database: "pgherd".to_owned(),
            ..Identity::default()
        }));
        let (own_facts, own_control) = (Arc::clone(&facts), Arc::clone(&control));
        let session = tokio::spawn(async move {
            // As a session does, so that the list of sessions is right.
            let _entry = own_facts.sessions.enter(&own_control);
            let (facts, control) = (Arc::clone(&own_facts), Arc::clone(&own_control));
            serve(stream, BytesMut::new(), role, facts, control).await
        });
        Self {
            stream: client,
            facts,
            control,
            session,
        }
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("sent");
    }

    async fn message(&mut self) -> (u8, Vec<u8>) {
        let mut header = [0; 5];
        self.stream
            .read_exact(&mut header)
            .await
            .expect("a message");
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]);
        let mut body = vec![0; length as usize - 4];
        self.stream.read_exact(&mut body).await.expect("a body");
        (header[0], body)
    }

    /// Everything up to ReadyForQuery, which is left out.
    async fn answer(&mut self) -> Vec<(u8, Vec<u8>)> {
        let mut messages = Vec::new();
        loop {
            match self.message().await {
                (b'Z', body) => {
                    assert_eq!(body, b"I");
                    return messages;
                }
                message => messages.push(message),
            }
        }
    }

    async fn ask(&mut self, text: &str) -> Vec<(u8, Vec<u8>)> {
        let mut out = BytesMut::new();
        frontend::query(&mut out, text.as_bytes()).expect("short");
        self.send(&out).await;
        self.answer().await
    }

    /// The values of all rows that a query gives.
    async fn rows(&mut self, text: &str) -> Vec<Vec<Option<String>>> {
        let messages = self.ask(text).await;
        let rows = messages.iter().filter(|(tag, _)| *tag == b'D');
        rows.map(|(_, body)| values(body)).collect()
    }
}

fn values(body: &[u8]) -> Vec<Option<String>> {
    let row = DataRow::parse(body).expect("a row");
    let text = |value: &[u8]| String::from_utf8(value.to_vec()).expect("utf-8");
    row.values().map(|value| value.map(text)).collect()
}

fn tags(messages: &[(u8, Vec<u8>)]) -> String {
    messages.iter().map(|(tag, _)| char::from(*tag)).collect()
}

fn code(messages: &[(u8, Vec<u8>)]) -> String {
    let (_, body) = messages
        .iter()
        .find(|(tag, _)| *tag == b'E')
        .expect("an error");
    ErrorReport::parse(body).code.as_str().to_owned()
}

#[tokio::test]
async fn several_statements_are_answered_in_order() {
    let mut client = Client::new(Role::Reader).await;
    let answer = client.ask("show version; SET a_b = 1; SHOW LISTS").await;
    assert_eq!(tags(&answer), "TDCE", "the reader's SET ends it");
    assert_eq!(code(&answer), "42501");
    let answer = client.ask("SHOW VERSION;SHOW HELP;").await;
    assert_eq!(tags(&answer), "TDCNC");
    assert_eq!(answer[2].1, b"SHOW\0");
    assert_eq!(tags(&client.ask(" ; ").await), "I");
    assert_eq!(client.rows("SELECT 42").await, [[Some("42".to_owned())]]);
}

#[tokio::test]
async fn every_table_is_answered() {
    let mut client = Client::new(Role::Reader).await;
    add_pool(&client.facts, "shop", "u");
    for name in super::show::Show::names() {
        let answer = client.ask(&format!("SHOW {name}")).await;
        match name {
            "HELP" => assert_eq!(tags(&answer), "NC"),
            // There is no tree in this test.
            "TREE" => assert_eq!(code(&answer), "57P03"),
            _ => {
                assert_eq!(answer.first().map(|it| it.0), Some(b'T'), "{name}");
                assert_eq!(answer.last().map(|it| it.0), Some(b'C'), "{name}");
                let columns = u16::from_be_bytes([answer[0].1[0], answer[0].1[1]]);
                for (_, row) in answer.iter().filter(|(tag, _)| *tag == b'D') {
                    assert_eq!(row[..2], columns.to_be_bytes(), "{name}");
                }
            }
        }
    }
    let clients = client.rows("SHOW CLIENTS").await;
    assert_eq!(clients[0][0].as_deref(), Some("C"));
    assert_eq!(clients[0].last(), Some(&Some("7".to_owned())));
    let databases = client.rows("SHOW DATABASES").await;
    assert_eq!(
        databases[0][..3],
        ["shop", "127.0.0.1", "1"].map(|it| Some(it.to_owned()))
    );
}

#[tokio::test]
async fn pools_are_paused_and_resumed_by_database() {
    let mut client = Client::new(Role::Admin).await;
    let pool = add_pool(&client.facts, "shop", "u");
    assert_eq!(
        client.ask("PAUSE shop").await,
        [(b'C', b"PAUSE\0".to_vec())]
    );
    assert!(pool.core.is_paused());
    let state = client.rows("SHOW STATE").await;
    assert_eq!(state[1], ["paused", "yes"].map(|it| Some(it.to_owned())));
    client.ask("RESUME").await;
    assert!(!pool.core.is_paused());
    client.ask("KILL shop").await;
    assert!(pool.core.is_paused(), "KILL leaves a pause");
    assert_eq!(
        tags(&client.ask("RECONNECT; WAIT_CLOSE; RESUME shop").await),
        "CCC"
    );
    assert_eq!(code(&client.ask("PAUSE nowhere").await), "3D000");
    assert_eq!(code(&client.ask("KILL_CLIENT 99").await), "42704");
    assert_eq!(code(&client.ask("SET pool.size = 1").await), "0A000");
    assert_eq!(code(&client.ask("RELOAD").await), "57P03");
}

#[tokio::test]
async fn the_extended_protocol_answers_the_same() {
    let mut client = Client::new(Role::Reader).await;
    let mut out = BytesMut::new();
    frontend::parse(&mut out, b"", b"SHOW LISTS", &[]).expect("short");
    // Bind with all results in binary, Describe, Execute of three rows and of the rest.
    out.extend_from_slice(b"B\0\0\0\x0e\0\0\0\0\0\0\0\x01\0\x01");
    out.extend_from_slice(b"D\0\0\0\x06P\0E\0\0\0\x09\0\0\0\0\x03E\0\0\0\x09\0\0\0\0\0S\0\0\0\x04");
    client.send(&out).await;
    let answer = client.answer().await;
    assert_eq!(tags(&answer), format!("12TDDDs{}C", "D".repeat(11)));
    assert_eq!(
        answer[3].1[answer[3].1.len() - 12..][..4],
        [0, 0, 0, 8],
        "binary int8"
    );
}

#[tokio::test]
async fn after_an_error_everything_up_to_sync_is_passed_over() {
    let mut client = Client::new(Role::Reader).await;
    let mut out = BytesMut::new();
    frontend::parse(&mut out, b"", b"nonsense", &[]).expect("short");
    out.extend_from_slice(b"D\0\0\0\x06P\0");
    frontend::query(&mut out, b"SHOW VERSION").expect("short");
    out.extend_from_slice(b"S\0\0\0\x04");
    client.send(&out).await;
    let answer = client.answer().await;
    assert_eq!(tags(&answer), "E");
    assert_eq!(code(&answer), "42601");
    assert_eq!(tags(&client.ask("SHOW VERSION").await), "TDC");
}

#[tokio::test]
async fn flush_sends_what_is_there() {
    let mut client = Client::new(Role::Reader).await;
    let mut out = BytesMut::new();
    frontend::parse(&mut out, b"", b"SHOW VERSION", &[]).expect("short");
    out.extend_from_slice(b"D\0\0\0\x06S\0H\0\0\0\x04");
    client.send(&out).await;
    for wanted in *b"1tT" {
        assert_eq!(client.message().await.0, wanted);
    }
}

#[tokio::test]
async fn an_idle_client_hears_why_it_must_go() {
    let mut client = Client::new(Role::Reader).await;
    client.ask("").await;
    let why = ErrorReport::fatal(sqlstate::ADMIN_SHUTDOWN, "going");
    client.control.order(Order::Drain, why);
    let (tag, body) = client.message().await;
    assert_eq!(
        (tag, ErrorReport::parse(&body).message.as_str()),
        (b'E', "going")
    );
    assert!(matches!(client.session.await, Ok(Bye::Sent(_))));
}

/// Asks for more than the sockets hold, and reads none of it.
async fn deaf() -> Client {
    let mut client = Client::new(Role::Reader).await;
    let mut out = BytesMut::new();
    frontend::query(&mut out, "SHOW CONFIG;".repeat(5000).as_bytes()).expect("short");
    client.send(&out).await;
    client
}

/// The clock stands still while anybody works, and goes on to the next deadline when all wait.
#[tokio::test(start_paused = true)]
async fn who_does_not_read_is_given_up() {
    let client = deaf().await;
    let hour = Duration::from_secs(3600);
    let ended = tokio::time::timeout(hour, client.session).await;
    match ended.expect("within the deadline") {
        Ok(Bye::Sent(report)) => assert_eq!(report.code.as_str(), "57014"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn who_does_not_read_does_not_hold_its_farewell_up() {
    let mut client = deaf().await;
    // The answer has begun.
    client.message().await;
    let why = ErrorReport::fatal(sqlstate::ADMIN_SHUTDOWN, "going");
    client.control.order(Order::Drain, why);
    let ended = tokio::time::timeout(Duration::from_secs(20), client.session).await;
    match ended.expect("before the deadline for reading") {
        Ok(Bye::Sent(report)) => assert_eq!(report.message, "going"),
        other => panic!("{other:?}"),
    }
}

/// What was counted in a minute is shown in the next, and no longer.
#[tokio::test(start_paused = true)]
async fn averages_are_taken_of_the_last_minute() {
    let facts = facts();
    let pool = add_pool(&facts, "shop", "u");
    let arguments = TotalsArguments {
        facts: Arc::clone(&facts),
        heartbeat: Heartbeat::new(Duration::from_secs(60)),
    };
    let started = Actor::spawn(None, Totals, arguments).await;
    let (actor, ended) = started.expect("started");
    let assigned = async || {
        let rows = Show::StatsAverages.rows(&facts).await;
        rows.expect("rows")[0][1].clone()
    };
    // Ten a second, and a half, which is cut off.
    (0..630).for_each(|_| pool.stats.assigned(Duration::ZERO));
    tokio::time::sleep(Duration::from_secs(65)).await;
    assert_eq!(assigned().await, Cell::Int(10));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(assigned().await, Cell::Int(0));
    actor.stop(None);
    ended.await.expect("stopped");
}

#[tokio::test]
async fn shutdown_is_asked_for_once_it_is_answered() {
    let mut client = Client::new(Role::Admin).await;
    assert_eq!(
        client.ask("SHUTDOWN").await,
        [(b'C', b"SHUTDOWN\0".to_vec())]
    );
    client.facts.curtain.at_least(Ending::AtOnce).await;
}

#[tokio::test]
async fn the_last_console_does_not_keep_the_proxy() {
    let mut client = Client::new(Role::Admin).await;
    client.ask("SHUTDOWN WAIT_FOR_CLIENTS").await;
    let (tag, body) = client.message().await;
    assert_eq!(
        (tag, ErrorReport::parse(&body).code.as_str()),
        (b'E', "57P01")
    );
}

#[tokio::test]
async fn what_breaks_the_protocol_ends_the_session() {
    for (bytes, wanted) in [
        (&b"Q\0\0\0\x03"[..], "08P01"),
        (&b"Q\x7f\0\0\0"[..], "08P01"),
        (&b"Q\0\x02\0\0"[..], "54000"),
        (&b"p\0\0\0\x04"[..], "08P01"),
        (&b"\0\0\0\0\x04"[..], "08P01"),
    ] {
        let mut client = Client::new(Role::Admin).await;
        client.send(bytes).await;
        let (tag, body) = client.message().await;
        let report = ErrorReport::parse(&body);
        assert_eq!((tag, report.code.as_str()), (b'E', wanted), "{bytes:?}");
        assert!(report.is_fatal());
    }
}

#[tokio::test]
async fn a_query_that_is_no_text_is_an_error_and_no_more() {
    let mut client = Client::new(Role::Admin).await;
    client.send(b"Q\0\0\0\x06\xff\0").await;
    assert_eq!(code(&client.answer().await), "08P01");
    client.send(b"Q\0\0\0\x05a").await;
    assert_eq!(code(&client.answer().await), "08P01");
    client.send(b"X\0\0\0\x04").await;
    assert!(matches!(client.session.await, Ok(Bye::Left)));
}

#[tokio::test]
async fn who_leaves_while_a_deed_is_waited_for_is_noticed() {
    let (client, stream) = pair().await;
    let facts = facts();
    let control = Arc::new(Control::new(7, stream.killer()));
    let mut desk = Desk::new(stream, BytesMut::new(), facts, control);
    drop(client);
    let waited = desk.attend(std::future::pending::<()>()).await;
    assert!(matches!(waited, Err(Bye::Gone)));
}
