//! Tests of the page, and of the actor over a real socket.

use std::sync::Arc;
use std::time::Duration;

use pgherd_config::{Config, LoadInput};
use pgherd_net::ClientTls;
use pgherd_supervise::{Heartbeat, Tasked};
use ractor::Actor;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::page::{Sights, page};
use super::{Http, HttpArguments};
use crate::console::samples::{figures, node};
use crate::drain::Curtain;
use crate::facts::Facts;
use crate::failures::{Failures, LoginFailure, SessionFailure};
use crate::session::replication::{Census, Kind};

fn sights() -> Sights {
    let failures = Failures::default();
    failures.login(LoginFailure::Password);
    failures.session(SessionFailure::Gone);
    Sights {
        transactions: crate::http::page::transactions::TransactionSights::default(),
        sharded: vec![("all".to_owned(), Arc::default())],
        failures: failures.counts(),
        pools: vec![figures("a", "u\"v"), figures("b", "u")],
        hosts: Vec::new(),
        logins: vec![("db:5432".to_owned(), 3)],
        sessions: 30,
        unauthenticated: 2,
        kept: 70_000,
        replication: Census {
            live: vec![(figures("a", "u").key, Kind::Logical, 3)],
            begun: 4,
            from_clients: 5,
            from_servers: 6,
        },
        ready: true,
        age: Duration::from_millis(1500),
        tree: Some(node(
            "root",
            0,
            vec![node("aux", 1, vec![node("http", 4, vec![])])],
        )),
    }
}

fn text(sights: &Sights) -> String {
    String::from_utf8(page(sights).expect("sound names")).expect("utf-8")
}

#[test]
fn a_page_of_made_up_figures() {
    let text = text(&sights());
    let wanted = [
        "pgherd_ready 1",
        "pgherd_uptime_seconds 1.5",
        "pgherd_sessions 30",
        "pgherd_sessions_unauthenticated 2",
        "pgherd_waiting_bytes 70000",
        "pgherd_replication_sessions{database=\"a\",user=\"u\",kind=\"logical\"} 3",
        "pgherd_replication_sessions_total 4",
        "pgherd_replication_received_bytes_total 5",
        "pgherd_replication_sent_bytes_total 6",
        "pgherd_login_failures_total{reason=\"password\"} 1",
        "pgherd_login_failures_total{reason=\"limit\"} 0",
        "pgherd_session_failures_total{reason=\"gone\"} 1",
        "pgherd_pool_clients{database=\"b\",user=\"u\"} 12",
        "pgherd_pool_waiting{database=\"b\",user=\"u\"} 5",
        "pgherd_pool_oldest_wait_seconds{database=\"b\",user=\"u\"} 2.000007",
        "pgherd_pool_servers{database=\"b\",user=\"u\",state=\"idle\"} 3",
        "pgherd_pool_servers{database=\"b\",user=\"u\",state=\"active\"} 3",
        "pgherd_pool_servers{database=\"b\",user=\"u\",state=\"being_canceled\"} 1",
        "pgherd_pool_servers{database=\"b\",user=\"u\",state=\"login\"} 1",
        "pgherd_pool_transactions_total{database=\"b\",user=\"u\"} 50",
        "pgherd_pool_queries_total{database=\"b\",user=\"u\"} 200",
        "pgherd_pool_wait_microseconds_total{database=\"b\",user=\"u\"} 70",
        "pgherd_pool_pinned_total{database=\"b\",user=\"u\"} 1",
        "pgherd_pool_servers_lost_total{database=\"b\",user=\"u\",reason=\"broken\"} 0",
        "pgherd_pool_refusals_total{database=\"b\",user=\"u\",reason=\"checkout_timeout\"} 0",
        "pgherd_pool_refusals_total{database=\"b\",user=\"u\",reason=\"queue_full\"} 1",
        "pgherd_sharded_statements_total{database=\"all\",tier=\"pulled\"} 0",
        "pgherd_sharded_refusals_total{database=\"all\",reason=\"function\"} 0",
        "pgherd_host_logins_waiting{host=\"db:5432\"} 3",
        "pgherd_actor_restarts_total{actor=\"root/aux/http\"} 4",
        "# TYPE pgherd_pool_queries_total counter",
        "# TYPE pgherd_pool_waiting gauge",
    ];
    for line in wanted {
        assert!(
            text.lines().any(|known| known == line),
            "{line} is missing in\n{text}"
        );
    }
}

#[test]
fn names_of_users_cannot_break_a_line() {
    let text = text(&sights());
    assert!(
        text.contains("pgherd_pool_clients{database=\"a\",user=\"u\\\"v\"} 12"),
        "{text}"
    );
    let types = text
        .lines()
        .filter(|line| line.starts_with("# TYPE pgherd_pool_clients "));
    assert_eq!(types.count(), 1);
}

#[test]
fn a_tree_that_does_not_answer_hides_nothing_else() {
    let text = text(&Sights {
        tree: None,
        ..sights()
    });
    assert!(!text.contains("restarts"));
    assert!(text.contains("pgherd_sessions 30"));
}

/// The status line and the body that the endpoint gives for a path.
async fn fetch(address: std::net::SocketAddr, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).await.expect("connected");
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (
        head.lines().next().unwrap_or_default().to_owned(),
        body.to_owned(),
    )
}

fn facts() -> Arc<Facts> {
    let mut input = LoadInput::default();
    input.overrides.urls = vec!["postgres://u@localhost/d".to_owned()];
    let config = Config::load(&input).expect("a configuration").config;
    Facts::new(
        Arc::new(config),
        Arc::new(ClientTls::disabled()),
        [0; 32],
        Curtain::default(),
    )
}

#[tokio::test]
async fn health_readiness_and_metrics_over_http() {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    socket.set_nonblocking(true).expect("a socket");
    let address = socket.local_addr().expect("an address");
    let facts = facts();
    let arguments = HttpArguments {
        socket: Arc::new(socket),
        facts: Arc::clone(&facts),
        heartbeat: Heartbeat::new(Duration::from_secs(10)),
    };
    let (actor, ended) = Actor::spawn(None, Tasked(Http), arguments)
        .await
        .expect("started");
    assert_eq!(fetch(address, "/healthz").await.1, "ok\n");
    assert!(fetch(address, "/readyz").await.0.contains("503"));
    facts.set_ready(true);
    assert!(fetch(address, "/readyz").await.0.contains("200"));
    let (status, body) = fetch(address, "/metrics").await;
    assert!(
        status.contains("200") && body.contains("pgherd_ready 1"),
        "{status}\n{body}"
    );
    assert!(fetch(address, "/none").await.0.contains("404"));
    actor.stop(None);
    ended.await.expect("stopped");
}
