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
use std::time::{Duration, Instant};

use pgherd_cluster::{Fault, HostName, Look, Storage};
use pgherd_config::Host;
use pgherd_planted::{self as planted, Bug};
use pgherd_supervise::{End, Work};
use pgherd_wire::error::ErrorReport;

use crate::clock;
use crate::cluster::aurora::Sight;
use crate::cluster::login::Attempts;
use crate::cluster::{Cluster, aurora, login, look};
use crate::facts::Facts;
use crate::server::{Life, ServerConn};
use crate::session::setup;
use crate::upstream::{self, OpenError, Upstream};

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
            attempts: Attempts::default(),
        };
        loop {
            let begun = clock::now();
            match watch.look().await {
                Looked::Seen => watch.rest(begun).await,
                Looked::Unasked => watch.wait().await,
                Looked::Dismissed => return End::Stop,
            }
        }
    }
}

struct Watch {
    arguments: MonitorArguments,
    link: Option<Link>,
    attempts: Attempts,
}

/// A connection, since when it is open, and what is to be asked over it.
struct Link {
    server: Box<ServerConn>,
    since: Instant,
    storage: Storage,
}

/// What a host has said.
enum Said {
    /// A Postgres.
    Look(Look),
    /// An instance of Aurora's.
    Instance(Sight),
}

/// A connection is made anew after so long: the name may lead elsewhere by then.
const LINK_MAX: Duration = Duration::from_secs(30);

/// What has come of a look.
enum Looked {
    /// The cluster was told of it.
    Seen,
    /// There is nobody as whom the host can be asked at the moment.
    Unasked,
    /// The host is none of the cluster's any more.
    Dismissed,
}

impl Watch {
    /// Looks once and tells.
    async fn look(&mut self) -> Looked {
        let cluster = Arc::clone(&self.arguments.cluster);
        let members = cluster.members();
        let host = members.get(&self.arguments.host);
        let Some(host) = host.filter(|_| cluster.is_watched()) else {
            return Looked::Dismissed;
        };
        let asked = clock::now();
        let patience = self.arguments.facts.config.load().failover.probe_timeout;
        let looked = tokio::time::timeout(patience, self.ask_as_may_be(host)).await;
        let said = match looked {
            Ok(Some(outcome)) => outcome,
            Ok(None) => {
                cluster.age(clock::now());
                return Looked::Unasked;
            }
            // What was asked may be answered yet, and would be taken for the next answer.
            Err(_elapsed) => {
                self.link = None;
                if planted::is(Bug::TrustSilence) {
                    return Looked::Seen;
                }
                Err(Fault::TimedOut)
            }
        };
        let (name, now) = (&self.arguments.host, clock::now());
        let outcome = said.map(|said| match said {
            Said::Look(look) => look,
            Said::Instance(sight) => cluster.testified(name, sight, now),
        });
        cluster.saw(name, outcome, asked, now);
        Looked::Seen
    }

    /// What the host says, over the connection that there is or a new one; `None` if there is nobody to
    /// ask it.
    async fn ask_as_may_be(&mut self, host: &Host) -> Option<Result<Said, Fault>> {
        let doubted = self.arguments.cluster.take_suspect(&self.arguments.host);
        self.link
            .take_if(|link| doubted || clock::since(link.since) >= LINK_MAX);
        if let Some(mut link) = self.link.take() {
            match ask(&mut link.server, link.storage).await {
                Ok(said) => {
                    self.link = Some(link);
                    return Some(Ok(said));
                }
                // It may have been restarted; whether it lives shows on a new connection.
                Err(Fault::Unreachable | Fault::Stopping) => {}
                Err(fault) => return Some(Err(fault)),
            }
        }
        let (cluster, facts) = (&self.arguments.cluster, &self.arguments.facts);
        let candidates = login::candidates(cluster, host, facts);
        let known = candidates.iter().map(|it| (it.user.as_str(), &it.secret));
        let chosen = self.attempts.choose(known, clock::now())?;
        Some(self.ask_anew(&candidates[chosen]).await)
    }

    async fn ask_anew(&mut self, upstream: &Arc<Upstream>) -> Result<Said, Fault> {
        let (life, _ended) = Life::new();
        let id = self.arguments.facts.number();
        let opened = upstream::open(upstream, id, life).await;
        let (mut server, _welcome) = opened.map_err(|error| self.unopened(&error, upstream))?;
        self.attempts.succeeded(&upstream.user);
        let storage = timely(&mut server, async |server| aurora::storage(server).await).await?;
        let said = ask(&mut server, storage).await?;
        self.link = Some(Link {
            server,
            since: clock::now(),
            storage,
        });
        Ok(said)
    }

    fn unopened(&mut self, error: &OpenError, upstream: &Upstream) -> Fault {
        let fault = look::unopened(error);
        if fault == Fault::Refused {
            let now = clock::now();
            self.attempts.refused(&upstream.user, &upstream.secret, now);
        }
        fault
    }

    /// Waits until it is time for the next look, or the host hangs up.
    async fn rest(&mut self, begun: Instant) {
        let (cluster, host) = (&self.arguments.cluster, &self.arguments.host);
        loop {
            let mut doubted = pin!(cluster.doubted());
            // Registered before the pace is read, so that no doubt in between is missed.
            doubted.as_mut().enable();
            let now = clock::now();
            let due = (now + cluster.pace(host, now)).max(begun + PACE_MIN);
            let mut due = pin!(tokio::time::sleep_until(due.into()));
            let ends = poll_fn(|cx| {
                if let Some(link) = &mut self.link
                    && link.server.stream.poll_readable(cx).is_ready()
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

    /// Waits until there may be somebody as whom to ask.
    async fn wait(&self) {
        let probe = self.arguments.facts.config.load().failover.probe;
        let woken = self.arguments.cluster.doubted();
        let _ = tokio::time::timeout(probe, woken).await;
        // Who wakes all at each doubt must not make this one spin.
        tokio::time::sleep(PACE_MIN).await;
    }
}

/// No host is looked at more often than that.
const PACE_MIN: Duration = Duration::from_millis(10);

/// Asks over a connection that is open.
async fn ask(link: &mut ServerConn, storage: Storage) -> Result<Said, Fault> {
    let begun = clock::now();
    let answer = timely(link, async |link| match storage {
        Storage::Own => setup::run(link, look::QUESTION).await,
        Storage::Shared => aurora::ask(link).await,
    });
    let answer = answer.await?;
    if let Some(error) = answer.error {
        return Err(look::refused(&error));
    }
    let latency = clock::since(begun);
    match storage {
        Storage::Own => answer
            .rows
            .first()
            .and_then(|row| look::read(row, latency))
            .map(Said::Look)
            .ok_or_else(|| Fault::Broken("not what it was asked".into())),
        Storage::Shared => aurora::read(&answer.rows, latency)
            .map(Said::Instance)
            .map_err(|error| Fault::Broken(error.to_string().into())),
    }
}

/// What a question over an open connection gives, or what it says of the host that it gives nothing.
async fn timely<T>(
    link: &mut ServerConn,
    question: impl AsyncFnOnce(&mut ServerConn) -> Result<T, ErrorReport>,
) -> Result<T, Fault> {
    let begun = clock::now();
    let patience = link.about.upstream.patience;
    match question(link).await {
        Ok(answer) => Ok(answer),
        Err(_) if patience.is_some_and(|patience| clock::since(begun) >= patience) => {
            Err(Fault::TimedOut)
        }
        Err(_) => Err(Fault::Unreachable),
    }
}
