//! One question to one node of Patroni's.

use std::error::Error;
use std::io;
use std::iter::successors;
use std::time::Duration;

use futures_util::FutureExt as _;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use pgherd_cluster::patroni::{MAX_BODY, PatroniCluster, PatroniError};
use pgherd_config::{Patroni, Scheme};
use pgherd_net::{ConnectError, HttpsTls, SocketOptions, Stream, Target, connect, connect_https};
use tokio::time::{Instant, timeout_at};

/// Why Patroni has not told.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("there was no connection in time")]
    Unconnected,
    /// Under TLS also: our certificate is missing, or not believed.
    #[error("{}", in_full(.0))]
    Http(#[from] hyper::Error),
    #[error("it answered {0}")]
    Status(StatusCode),
    #[error("the answer cannot be read: {}", in_full(&**.0))]
    Body(Box<dyn Error + Send + Sync>),
    #[error("the answer cannot be understood: {0}")]
    Unclear(#[from] PatroniError),
    #[error("it did not answer in time")]
    TimedOut,
    /// A reload has just taken the last source of this database away that is asked by https.
    #[error("the configuration has just changed")]
    Unprepared,
}

/// Asks one node of Patroni's; all of it takes no longer than `patience`.
pub(super) async fn ask(
    source: &Patroni,
    tls: Option<&HttpsTls>,
    patience: Duration,
) -> Result<PatroniCluster, AskError> {
    let deadline = Instant::now() + patience;
    let reached = timeout_at(deadline, reach(source, tls)).await;
    let stream = reached.unwrap_or(Err(AskError::Unconnected))?;
    let told = timeout_at(deadline, exchange(source, stream)).await;
    told.unwrap_or(Err(AskError::TimedOut))
}

async fn reach(source: &Patroni, tls: Option<&HttpsTls>) -> Result<Stream, AskError> {
    let options = SocketOptions::default();
    let (host, port) = (source.host.as_str(), source.port);
    match source.scheme {
        Scheme::Http => {
            let target = Target::Tcp {
                host: host.to_owned(),
                port,
            };
            Ok(connect(&target, &options).await?)
        }
        Scheme::Https => {
            let tls = tls.ok_or(AskError::Unprepared)?;
            Ok(connect_https(host, port, &options, tls).await?)
        }
    }
}

async fn exchange(source: &Patroni, stream: Stream) -> Result<PatroniCluster, AskError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let exchange = async {
        let request = Request::get("/cluster")
            .header(header::HOST, source.authority())
            .header(header::CONNECTION, "close")
            .body(Empty::<Bytes>::new())
            .map_err(|error| AskError::Body(Box::new(error)))?;
        let response = sender.send_request(request).await?;
        if response.status() != StatusCode::OK {
            return Err(AskError::Status(response.status()));
        }
        let body = read(response.into_body()).await?;
        Ok(PatroniCluster::parse(&body)?)
    };
    // The connection is driven beside the exchange, and ends with it.
    let mut connection = std::pin::pin!(connection);
    let mut exchange = std::pin::pin!(exchange);
    tokio::select! {
        heard = &mut exchange => heard,
        ended = &mut connection => match ended {
            Ok(()) => exchange.await,
            // All of the answer may be there, or a better reason.
            Err(error) => {
                let heard = exchange.now_or_never();
                heard.unwrap_or_else(|| Err(error.into()))
            }
        }
    }
}

/// The whole body.
async fn read(body: Incoming) -> Result<Vec<u8>, AskError> {
    let mut body = Limited::new(body, MAX_BODY);
    let mut text = Vec::new();
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => {
                if let Some(data) = frame.data_ref() {
                    text.extend_from_slice(data);
                }
            }
            // The end of the connection is the end of the body, and some hang up without the farewell of TLS. A text
            // that somebody has cut off there cannot be understood.
            Err(error) if is_cut_off(&*error) => break,
            Err(error) => return Err(AskError::Body(error)),
        }
    }
    Ok(text)
}

fn is_cut_off(error: &(dyn Error + 'static)) -> bool {
    let broken = causes(error).find_map(|cause| cause.downcast_ref::<io::Error>());
    broken.is_some_and(|error| error.kind() == io::ErrorKind::UnexpectedEof)
}

/// An error with what is behind it: hyper does not say that by itself.
fn in_full(error: &(dyn Error + 'static)) -> String {
    let causes: Vec<String> = causes(error).map(ToString::to_string).collect();
    causes.join(": ")
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    successors(Some(error), |error| (*error).source())
}
