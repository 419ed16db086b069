//! Looks at one host, again and again.
//!
//! Owns: a connection of its own, outside all pools and limits.
//! Hears: that its task has ended. When to look is known by the [`Cluster`].
//! Tells: the cluster what it saw, by a call; no message.
//! If it dies: what was seen stays, and grows old; the next one connects anew.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use pgherd_cluster::{Fault, HostName, Look};
use pgherd_supervise::{End, Work};

use crate::cluster::{Cluster, login, look};
use crate::facts::Facts;
use crate::server::{Life, ServerConn};
use crate::session::setup;
use crate::upstream::{self, Upstream};

/// The actor, once it is [`Tasked`](pgherd_supervise::Tasked).
#[derive(Debug)]
pub struct Monitor;

/// What it is born with.
#[derive(Debug, Clone)]
pub struct MonitorArguments {
    /// Where it tells what it saw.
    pub cluster: Arc<Cluster>,
    /// The host that it looks at.
    pub host: HostName,
    /// The facts, for logins and numbers.
    pub facts: Arc<Facts>,
}

impl Work for Monitor {
    type Arguments = MonitorArguments;

    async fn run(arguments: MonitorArguments) -> End {
        let mut watch = Watch {
            arguments,
            link: None,
            refused: 0,
        };
        while watch.look().await {
            watch.rest().await;
        }
        End::Stop
    }
}

struct Watch {
    arguments: MonitorArguments,
    link: Option<Box<ServerConn>>,
    /// How many candidates in a row the host has refused.
    refused: usize,
}

impl Watch {
    /// Looks once and tells; false if the host is not one of the cluster any more.
    async fn look(&mut self) -> bool {
        let cluster = Arc::clone(&self.arguments.cluster);
        let outcome = match self.seen_over_link().await {
            Some(outcome) => outcome,
            None => {
                let members = cluster.members();
                let Some(host) = members.get(&self.arguments.host) else {
                    return false;
                };
                let candidates = login::candidates(&cluster, host, &self.arguments.facts);
                let Some(at) = self.refused.checked_rem(candidates.len()) else {
                    // Nobody is known yet as whom to ask: nothing was seen.
                    return true;
                };
                self.seen_anew(&candidates[at]).await
            }
        };
        match &outcome {
            Err(Fault::Refused) => self.refused += 1,
            _ => self.refused = 0,
        }
        cluster.saw(&self.arguments.host, outcome, Instant::now());
        true
    }

    /// What the host says over the connection that there is; `None` if it is of no use any more.
    async fn seen_over_link(&mut self) -> Option<Result<Look, Fault>> {
        let mut link = self.link.take()?;
        match ask(&mut link).await {
            Ok(look) => {
                self.link = Some(link);
                Some(Ok(look))
            }
            // It may have been restarted; whether it lives shows on a new connection.
            Err(Fault::Unreachable) => None,
            Err(fault) => Some(Err(fault)),
        }
    }

    async fn seen_anew(&mut self, upstream: &Arc<Upstream>) -> Result<Look, Fault> {
        let (life, _ended) = Life::new();
        let id = self.arguments.facts.number();
        let (mut link, _welcome) = upstream::open(upstream, id, life)
            .await
            .map_err(|error| look::unopened(&error))?;
        let look = ask(&mut link).await?;
        self.link = Some(link);
        Ok(look)
    }

    /// Waits until it is time for the next look, or the host hangs up.
    async fn rest(&mut self) {
        let (cluster, host) = (&self.arguments.cluster, &self.arguments.host);
        let begun = Instant::now();
        loop {
            let mut doubted = pin!(cluster.doubted());
            // Registered before the pace is read, so that no doubt in between is missed.
            doubted.as_mut().enable();
            let due = begun + cluster.pace(host, Instant::now());
            let mut due = pin!(tokio::time::sleep_until(due.into()));
            let ends = poll_fn(|cx| {
                if let Some(link) = &mut self.link
                    && link.stream.poll_readable(cx).is_ready()
                {
                    return Poll::Ready(true);
                }
                if due.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(true);
                }
                doubted.as_mut().poll(cx).map(|()| false)
            });
            if ends.await {
                return;
            }
        }
    }
}

/// Asks over a connection that is open.
async fn ask(link: &mut ServerConn) -> Result<Look, Fault> {
    let begun = Instant::now();
    let patience = link.about.upstream.patience;
    let answer = match setup::run(link, look::QUESTION).await {
        Ok(answer) => answer,
        Err(_) if patience.is_some_and(|patience| begun.elapsed() >= patience) => {
            return Err(Fault::TimedOut);
        }
        Err(_) => return Err(Fault::Unreachable),
    };
    if let Some(error) = answer.error {
        return Err(look::refused(&error));
    }
    answer
        .rows
        .first()
        .and_then(|row| look::read(row, begun.elapsed()))
        .ok_or_else(|| Fault::Broken("not what it was asked".into()))
}
