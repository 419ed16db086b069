//! A shard that is asked by the check, over a connection of the check's own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pgherd_wire::error::ErrorReport;
use pgherd_wire::sqlstate;

use super::keys::{Counted, Question};
use crate::clock;
use crate::cluster::login;
use crate::facts::Facts;
use crate::server::{Cancels, ServerAbout, ServerConn};
use crate::session::setup::{self, Answer};
use crate::shards::known;
use crate::shards::lookup::{Given, Lookup};
use crate::shards::sequences::Sequences;
use crate::upstream::{self, Upstream};

/// What a connection is set to: what is written is the same everywhere, and whoever may see some of the rows only is told so.
const SETTINGS: &str = "SET search_path = pg_catalog; SET row_security = off; SET DateStyle = ISO; \
SET IntervalStyle = postgres; SET TimeZone = 'UTC'; SET extra_float_digits = 1; SET bytea_output = hex; \
SET application_name = 'pgherd check'; \
SELECT pg_catalog.set_config('client_encoding', pg_catalog.current_setting('server_encoding'), false)";

/// Why something could not be looked at.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum Trouble {
    /// Somebody else may be allowed to see it.
    #[error("{0}")]
    Denied(String),
    /// It would be the same for anybody.
    #[error("{0}")]
    Failed(String),
    /// There was no time for it.
    #[error("the time was up")]
    Late,
}

impl From<ErrorReport> for Trouble {
    fn from(report: ErrorReport) -> Self {
        match report.code == sqlstate::INSUFFICIENT_PRIVILEGE {
            true => Self::Denied(report.message),
            false => Self::Failed(match report.detail {
                Some(detail) => format!("{}: {detail}", report.message),
                None => report.message,
            }),
        }
    }
}

/// A shard, and who may be let in there.
pub(super) struct Link {
    pub(super) shard: String,
    until: Instant,
    candidates: Vec<Arc<Upstream>>,
    /// Whose turn it is.
    at: usize,
    server: Option<Box<ServerConn>>,
    facts: Arc<Facts>,
}

/// A query under way; it is cancelled on its server if nobody waits for it any more.
struct Running(Option<Arc<ServerAbout>>);

impl Drop for Running {
    fn drop(&mut self) {
        let about = self.0.take();
        if let (Some(about), Ok(runtime)) = (about, tokio::runtime::Handle::try_current()) {
            runtime.spawn(upstream::cancel(Cancels::begin(&about)));
        }
    }
}

impl Link {
    pub(super) fn new(facts: &Arc<Facts>, shard: &str, user: &str, until: Instant) -> Self {
        let cluster = facts.topology.of(shard);
        let host = cluster.as_ref().and_then(|cluster| cluster.lead().host);
        let mut candidates = match (cluster, host) {
            (Some(cluster), Some(host)) => login::candidates(&cluster, &host, facts),
            _ => Vec::new(),
        };
        // The same order on every shard, as what users have by default is compared. Who looks at servers may often do
        // nothing else.
        let config = facts.config.load();
        let own = config.databases.get(shard).and_then(|it| it.user.clone());
        candidates.sort_by_cached_key(|it| {
            let is = |known: &Option<String>| known.as_deref() == Some(&it.user);
            let rank = match () {
                () if it.user == user => 0,
                () if is(&config.failover.user) => 4,
                () if is(&own) => 1,
                () if config.users.contains_key(&it.user) => 2,
                () => 3,
            };
            (rank, it.user.clone())
        });
        // What its sessions would have by default is looked at, too.
        let plain = candidates.iter().map(|it| {
            let mut plain = (**it).clone();
            plain.parameters.clear();
            Arc::new(plain)
        });
        Self {
            shard: shard.to_owned(),
            until,
            candidates: plain.collect(),
            at: 0,
            server: None,
            facts: Arc::clone(facts),
        }
    }

    /// What the schema of the shard is, as far as it is compared.
    pub(super) async fn schema(&mut self) -> Result<(known::Facts, Sequences), Trouble> {
        self.open().await?;
        let left = self.left()?;
        let server = self.server.as_mut().ok_or(Trouble::Late)?;
        let read = tokio::time::timeout(left, known::read(server)).await;
        let read = read.map_err(|_| Trouble::Late)?;
        Ok(read?)
    }

    /// Asks as one after the other of those who may be let in, up to who may see what is asked for.
    pub(super) async fn each(&mut self, question: &Question<'_>) -> Result<Counted, Trouble> {
        let mut denied = None;
        for _ in 0..self.candidates.len().max(1) {
            if let Err(trouble) = self.ready().await {
                return Err(denied.unwrap_or(trouble));
            }
            match question.ask(self).await {
                Err(Trouble::Denied(why)) => {
                    denied.get_or_insert(Trouble::Denied(why));
                    self.server = None;
                    self.at += 1;
                }
                other => return other,
            }
        }
        Err(denied.unwrap_or_else(|| self.away()))
    }

    /// Asks what a lookup gives, in the same way.
    pub(super) async fn look_up(&mut self, lookup: &Lookup) -> Result<Given, Trouble> {
        let mut denied = None;
        for _ in 0..self.candidates.len().max(1) {
            if let Err(trouble) = self.ready().await {
                return Err(denied.unwrap_or(trouble));
            }
            let left = self.left()?;
            let server = self.server.as_mut().ok_or(Trouble::Late)?;
            let Ok(given) = tokio::time::timeout(left, lookup.ask(server)).await else {
                self.server = None;
                return Err(Trouble::Late);
            };
            match given.map_err(Trouble::from) {
                Err(Trouble::Denied(why)) => {
                    denied.get_or_insert(Trouble::Denied(why));
                    self.server = None;
                    self.at += 1;
                }
                other => return other,
            }
        }
        Err(denied.unwrap_or_else(|| self.away()))
    }

    /// Sees to it that there is a connection, with no transaction open.
    pub(super) async fn ready(&mut self) -> Result<(), Trouble> {
        let usable = |server: &ServerConn| server.exchange.is_over();
        if !self.server.as_deref().is_some_and(usable) {
            self.open().await?;
        }
        let left = self.left()?.as_millis().max(1);
        let settings = format!(
            "ROLLBACK; {SETTINGS}; SET statement_timeout = {left}; SET lock_timeout = {left}; \
             SET idle_in_transaction_session_timeout = {left}"
        );
        self.run(&settings, 1).await.map(drop)
    }

    /// Connects as the first who is let in.
    async fn open(&mut self) -> Result<(), Trouble> {
        self.server = None;
        let mut why = None;
        for _ in 0..self.candidates.len() {
            let upstream = Arc::clone(&self.candidates[self.at % self.candidates.len()]);
            let opened = self.facts.transactions.open(&upstream);
            match tokio::time::timeout(self.left()?, opened).await {
                Ok(Ok(server)) => {
                    self.server = Some(server);
                    return Ok(());
                }
                Ok(Err(error)) => why = why.or_else(|| Some(error.report().message)),
                Err(_) => return Err(Trouble::Late),
            }
            self.at += 1;
        }
        Err(why.map_or_else(|| self.away(), Trouble::Failed))
    }

    fn away(&self) -> Trouble {
        let why = "it has no primary at the moment, or nobody is configured who may log in there";
        Trouble::Failed(why.to_owned())
    }

    /// How much time there is.
    fn left(&self) -> Result<Duration, Trouble> {
        let left = self.until.saturating_duration_since(clock::now());
        match left.is_zero() {
            true => Err(Trouble::Late),
            false => Ok(left),
        }
    }

    /// Runs a simple query, of whose rows so many are kept. Where it fails, its transaction is left as it is.
    pub(super) async fn run(&mut self, sql: &str, rows: usize) -> Result<Answer, Trouble> {
        let left = self.left()?;
        let Some(server) = &mut self.server else {
            return Err(self.away());
        };
        let mut running = Running(Some(Arc::clone(&server.about)));
        let answer = setup::run_patiently_into(server, sql.as_bytes(), Answer::of_rows(rows));
        let Ok(answer) = tokio::time::timeout(left, answer).await else {
            self.server = None;
            return Err(Trouble::Late);
        };
        running.0 = None;
        let answer = answer.inspect_err(|_| self.server = None)?;
        match answer.error {
            // The server has been told when it is too late.
            Some(error) if error.code == sqlstate::QUERY_CANCELED && self.left().is_err() => {
                Err(Trouble::Late)
            }
            Some(error) => Err(error.into()),
            None => Ok(answer),
        }
    }
}
