//! The HTTP endpoint for metrics and health.
//!
//! Owns: the task that accepts and serves its connections, at most 64 at a time. The socket belongs
//!   to whoever started the proxy, so a restarted endpoint finds the requests that queued meanwhile.
//! Hears: that its task has ended.
//! Tells: nobody; it asks the root for the tree.
//! If it dies: traffic goes on; the next one serves the same socket.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use pgherd_supervise::{End, Heartbeat, SupervisorMessage, Work};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::facts::Facts;

pub mod page;

/// How many connections are served at a time; more wait in the socket's queue.
const CONNECTIONS_MAX: usize = 64;
/// How long a client may take to send the head of its next request.
const HEAD: Duration = Duration::from_secs(10);
/// How long a connection may exist: one that reads too slowly must not keep its place.
const LIFE: Duration = Duration::from_secs(60);
/// How long the supervision tree may take to list itself.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long to wait when the process is out of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// The actor, once it is [`Tasked`](pgherd_supervise::Tasked).
#[derive(Debug)]
pub struct Http;

/// What it is born with.
#[derive(Debug, Clone)]
pub struct HttpArguments {
    /// The socket, listening and not blocking.
    pub socket: Arc<std::net::TcpListener>,
    /// The facts.
    pub facts: Arc<Facts>,
    /// Its sign of life.
    pub heartbeat: Heartbeat,
}

impl Work for Http {
    type Arguments = HttpArguments;

    /// It ends only when the socket cannot be used.
    async fn run(arguments: HttpArguments) -> End {
        match serve(arguments).await {
            Ok(never) => match never {},
            Err(error) => End::Fail(error.into()),
        }
    }
}

/// Accepts and serves for ever. Connections end with this future, since it owns their tasks.
async fn serve(arguments: HttpArguments) -> io::Result<Infallible> {
    let HttpArguments {
        socket,
        facts,
        heartbeat,
    } = arguments;
    let listener = TcpListener::from_std(socket.try_clone()?)?;
    let routes = routes(facts);
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        heartbeat.touch();
        tokio::select! {
            () = tokio::time::sleep(heartbeat.every) => {}
            (accepted, place) = accept(&listener, &places) => match accepted {
                Ok(stream) => drop(connections.spawn(connection(stream, routes.clone(), place))),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a request for metrics");
                    tokio::time::sleep(PAUSE).await;
                }
            },
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "a request for metrics failed");
                }
            }
        }
    }
}

/// Accepts a connection once there is a place for it.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> (io::Result<TcpStream>, Option<OwnedSemaphorePermit>) {
    // Nobody closes the semaphore, so there is always a permit.
    let place = Arc::clone(places).acquire_owned().await.ok();
    (listener.accept().await.map(|(stream, _)| stream), place)
}

async fn connection(stream: TcpStream, routes: Router, place: Option<OwnedSemaphorePermit>) {
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    match timeout(LIFE, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection for metrics broke"),
        Err(_) => tracing::debug!("a connection for metrics was closed at the end of its time"),
    }
    drop(place);
}

/// What requests are answered from.
#[derive(Debug, Clone)]
struct Site {
    facts: Arc<Facts>,
    /// Where the metrics are. It is an operator's word, so it is compared, not taken for a pattern.
    path: Arc<str>,
}

fn routes(facts: Arc<Facts>) -> Router {
    let path = facts.config.load().metrics.path.as_str().into();
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .fallback(get(page))
        .with_state(Site { facts, path })
}

async fn ready(State(site): State<Site>) -> (StatusCode, &'static str) {
    if site.facts.is_ready() {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    }
}

async fn page(State(site): State<Site>, uri: Uri) -> Response {
    if uri.path() == &*site.path {
        metrics(&site.facts).await
    } else {
        (StatusCode::NOT_FOUND, "not found\n").into_response()
    }
}

async fn metrics(facts: &Facts) -> Response {
    // A tree that does not answer must not hide the rest.
    let tree = facts
        .root
        .call(SupervisorMessage::Tree, PATIENCE)
        .await
        .ok();
    match page::page(&page::Sights::of(facts, tree)) {
        Ok(text) => ([(header::CONTENT_TYPE, page::CONTENT_TYPE)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics cannot be written");
            (
                StatusCode::INTERNAL_SERVER_ERROR,
                "metrics cannot be written\n",
            )
                .into_response()
        }
    }
}

#[cfg(test)]
mod tests;
