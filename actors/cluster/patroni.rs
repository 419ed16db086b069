//! Asks Patroni which servers there are and who leads.
//!
//! Owns: nothing between two questions.
//! Hears: that its task has ended.
//! Tells: the [`Cluster`], by a call: the members, and who Patroni says leads. That is only a claim;
//!   who may be written to is decided by what the host itself says.
//! If it dies: the members stay; the next one asks again.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use pgherd_cluster::patroni::{MAX_BODY, PatroniCluster, PatroniError};
use pgherd_config::Patroni;
use pgherd_supervise::{End, Work};
use tokio::net::TcpStream;

use crate::clock;
use crate::cluster::Cluster;
use crate::facts::Facts;

/// The actor, once it is [`Tasked`](pgherd_supervise::Tasked).
#[derive(Debug)]
pub struct Scout;

/// What it is born with.
#[derive(Debug, Clone)]
pub struct ScoutArguments {
    /// Where it tells what it heard.
    pub cluster: Arc<Cluster>,
    /// The facts, for the configuration.
    pub facts: Arc<Facts>,
}

/// Patroni's own loop is slower than that, so asking more often tells nothing new.
const PACE_MIN: Duration = Duration::from_millis(200);

impl Work for Scout {
    type Arguments = ScoutArguments;

    async fn run(arguments: ScoutArguments) -> End {
        let ScoutArguments { cluster, facts } = arguments;
        let mut turn = 0;
        loop {
            let config = facts.config.load_full();
            let Some(database) = config.databases.get(&cluster.name) else {
                return End::Stop;
            };
            let sources = &database.patroni;
            let Some(at) = usize::checked_rem(turn, sources.len()) else {
                return End::Stop;
            };
            let asked = ask(&sources[at]);
            let heard = tokio::time::timeout(config.failover.probe_timeout, asked).await;
            let heard = heard.unwrap_or(Err(ScoutError::TimedOut));
            match heard {
                Ok(told) => cluster.heard(told, clock::now()),
                // Another node may know.
                Err(error) => {
                    tracing::debug!(database = cluster.name, source = %sources[at], %error, "patroni");
                    turn += 1;
                }
            }
            tokio::time::sleep(PACE_MIN).await;
            // Whoever doubts wants to know at once what else there is to know.
            let pause = cluster.soonest(clock::now()).saturating_sub(PACE_MIN);
            let _ = tokio::time::timeout(pause, cluster.doubted()).await;
        }
    }
}

/// Why Patroni has not told.
#[derive(Debug, thiserror::Error)]
enum ScoutError {
    #[error("it cannot be reached: {0}")]
    Connect(#[from] std::io::Error),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("it answered {0}")]
    Status(StatusCode),
    #[error("the answer cannot be read: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    #[error("the answer cannot be understood: {0}")]
    Unclear(#[from] PatroniError),
    #[error("it did not answer in time")]
    TimedOut,
}

/// Asks one node of Patroni's.
async fn ask(source: &Patroni) -> Result<PatroniCluster, ScoutError> {
    let stream = TcpStream::connect((source.host.as_str(), source.port)).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let exchange = async {
        let request = Request::get("/cluster")
            .header(header::HOST, source.authority())
            .header(header::CONNECTION, "close")
            .body(Empty::<Bytes>::new())
            .map_err(|error| ScoutError::Body(Box::new(error)))?;
        let response = sender.send_request(request).await?;
        if response.status() != StatusCode::OK {
            return Err(ScoutError::Status(response.status()));
        }
        let body = Limited::new(response.into_body(), MAX_BODY);
        let body = body.collect().await.map_err(ScoutError::Body)?;
        Ok(PatroniCluster::parse(&body.to_bytes())?)
    };
    // The connection is driven beside the exchange, and ends with it.
    let mut connection = std::pin::pin!(connection);
    let mut exchange = std::pin::pin!(exchange);
    tokio::select! {
        heard = &mut exchange => heard,
        ended = &mut connection => {
            ended?;
            exchange.await
        }
    }
}
