//! Ends what a coordinator has left prepared, whichever proxy's it was.
//!
//! Owns: one connection to each shard's primary.
//! Hears: that its task has ended.
//! Tells: [`Transactions`], by a call, what it has found.
//! If it dies: parts stay prepared, with their locks, until the next one looks.
//!
//! It looks at each shard for parts that were prepared some time ago, and asks their deciders. Where there is no
//! row yet it stores one that says no, with which nobody can decide otherwise any more. So however early it comes, it
//! undoes at worst what could have been committed; not to do so, it waits until the decider's transaction is over, or for long. It
//! also clears rows away of which nobody can have need, and has the proxies hear of each other's changes of the schemas.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgherd_config::{Config, Sharded};
use pgherd_planted::{self as planted, Bug};
use pgherd_session::literal;
use pgherd_supervise::{End, Heartbeat, Work};
use pgherd_wire::error::ErrorReport;
use pgherd_wire::sqlstate;

use crate::clock;
use crate::cluster::login::{self, Attempts};
use crate::facts::Facts;
use crate::server::ServerConn;
use crate::session::setup::{self, Answer};
use crate::transactions::decisions::{self, PREFIX};
use crate::transactions::schemas::{self, Told};
use crate::transactions::{Count, Doubt, Transactions};
use crate::upstream::Upstream;

/// The actor, once it is [`Tasked`](pgherd_supervise::Tasked).
#[derive(Debug)]
pub struct Recovery;

/// What it is born with.
#[derive(Debug, Clone)]
pub struct RecoveryArguments {
    /// The facts.
    pub facts: Arc<Facts>,
    /// Its sign of life, at each thing that it does.
    pub heartbeat: Heartbeat,
}

/// How often it looks.
const PACE: Duration = Duration::from_secs(1);
/// How often it looks for rows that nobody needs.
const CLEAR: Duration = Duration::from_secs(2);
/// What was prepared more lately may still have a coordinator somewhere, whose decider is not known to be over. In seconds.
const AGE: u64 = 8;
/// The same where that is known: its coordinator may be ending it at this moment.
const AGE_DECIDED: u64 = 1;
/// For how long a connection is kept: its host may have been replaced.
const LINK_MAX: Duration = Duration::from_secs(30);
/// More parts are not read at once.
const PARTS_MAX: usize = 1000;

const FIND: &str = "SELECT gid, owner::text, \
pg_catalog.floor(extract(epoch FROM pg_catalog.clock_timestamp() - prepared))::bigint::text \
FROM pg_catalog.pg_prepared_xacts WHERE database = pg_catalog.current_database() \
AND pg_catalog.starts_with(gid, 'pgherd:') ORDER BY prepared";

impl Work for Recovery {
    type Arguments = RecoveryArguments;

    async fn run(arguments: RecoveryArguments) -> End {
        let RecoveryArguments { facts, heartbeat } = arguments;
        let mut watch = Watch::default();
        let mut cleared = None;
        loop {
            heartbeat.touch();
            let config = facts.config.load_full();
            // Those whose coordinator was ours need not wait: nobody decides about them any more.
            let orphans = std::mem::take(&mut *facts.transactions.orphans.lock());
            let clears = cleared.is_none_or(|last| clock::since(last) >= CLEAR);
            if clears {
                cleared = Some(clock::now());
            }
            let mut crowded = false;
            let mut doubts = Vec::new();
            for sharded in config.sharded.values() {
                let round = Round {
                    facts: &facts,
                    heartbeat: &heartbeat,
                    config: &config,
                    sharded,
                    orphans: &orphans,
                    clears,
                };
                let (left, more) = watch.look(&round).await;
                doubts.extend(left);
                crowded |= more;
            }
            if crowded {
                // There are more to be cleared away.
                cleared = None;
            }
            let names: BTreeSet<&str> = doubts.iter().map(|doubt| doubt.name.as_str()).collect();
            let still = |id: &String| names.iter().any(|name| name.contains(id.as_str()));
            let again: Vec<String> = orphans.into_iter().filter(still).collect();
            facts.transactions.orphans.lock().extend(again);
            facts.transactions.found(doubts);
            let woken = facts.transactions.woken.notified();
            let _ = tokio::time::timeout(PACE, woken).await;
        }
    }
}

struct Round<'a> {
    facts: &'a Arc<Facts>,
    heartbeat: &'a Heartbeat,
    config: &'a Config,
    sharded: &'a Sharded,
    orphans: &'a [String],
    /// Rows that nobody needs are cleared away.
    clears: bool,
}

/// A connection to the primary of a section.
struct Link {
    server: Box<ServerConn>,
    user: String,
    host: String,
    since: Instant,
}

/// A part that was found prepared.
struct Found {
    name: String,
    owner: String,
    age: u64,
}

#[derive(Default)]
struct Watch {
    links: BTreeMap<String, Link>,
    /// Sections whose servers have left a question without an answer in this round, and what was said of that: nobody else waits
    /// as long for them.
    mute: BTreeMap<String, String>,
    attempts: BTreeMap<String, Attempts>,
    told: Told,
    /// The sections to which there was a connection before.
    listened: BTreeSet<String>,
}

impl Watch {
    /// Ends what there is on the shards of one database; answers what is left, and whether more rows are to be cleared away
    /// than were.
    async fn look(&mut self, round: &Round<'_>) -> (Vec<Doubt>, bool) {
        let shards = &round.sharded.shards;
        self.mute.clear();
        // Read before the parts are: all parts of a transaction were prepared before it had a row.
        let mut rows = BTreeMap::new();
        for shard in shards.iter().filter(|_| round.clears) {
            if let Some(server) = self.link(round, shard, None).await {
                rows.insert(shard, old_rows(server, &round.sharded.name).await);
            }
        }
        let mut all = true;
        let mut doubts = Vec::new();
        // Also of those that are being committed: their rows are needed yet.
        let mut names: Vec<String> = Vec::new();
        for shard in shards {
            let found = match self.link(round, shard, None).await {
                Some(server) => find(server).await,
                None => None,
            };
            if found.is_some()
                && let Some(link) = self.links.get_mut(shard)
            {
                let told = self.told.tell(shard, &mut link.server);
                round.heartbeat.through(told).await;
            }
            let Some(mut found) = found else {
                self.links.remove(shard);
                all = false;
                continue;
            };
            all &= found.len() < PARTS_MAX;
            names.extend(found.iter().map(|part| part.name.clone()));
            // Whoever could not be ended must not be in the way of the others each time.
            let first = rand::random_range(0..=found.len());
            found.rotate_left(first);
            for part in found {
                if let Some(doubt) = self.end(round, shard, part).await {
                    doubts.push(doubt);
                }
            }
        }
        let mut crowded = false;
        if all {
            for (shard, rows) in rows {
                crowded |= rows.len() >= decisions::ROWS_MAX;
                let is_over = |key: &&String| {
                    let id = decisions::id_of(key);
                    !names.iter().any(|name| name.contains(id))
                };
                let over: Vec<&String> = rows.iter().filter(is_over).collect();
                if let (false, Some(server)) =
                    (over.is_empty(), self.link(round, shard, None).await)
                {
                    clear(server, &over).await;
                }
            }
        }
        (doubts, crowded)
    }

    /// Ends a part, if it is time; answers it if it is still there.
    async fn end(&mut self, round: &Round<'_>, shard: &str, found: Found) -> Option<Doubt> {
        round.heartbeat.touch();
        let transactions = Arc::clone(&round.facts.transactions);
        let database = &round.sharded.name;
        let part = decisions::Part::read(&found.name, database, &round.sharded.shards)?;
        let orphan = round.orphans.iter().any(|id| id == part.id);
        if transactions.is_live(part.id) {
            return None;
        }
        let mut why = None;
        let is_due = found.age >= AGE
            || orphan
            || found.age >= AGE_DECIDED && self.is_decided(round, &part).await;
        let mute = [part.decider, shard]
            .into_iter()
            .find_map(|section| self.mute.get(section));
        if let Some(told) = mute.filter(|_| is_due) {
            why = Some(told.clone());
        } else if is_due {
            match self.try_to_end(round, shard, &found, &part).await {
                Ok(committed) => {
                    transactions.count(match committed {
                        true => Count::RecoveredCommit,
                        false => Count::RecoveredRollback,
                    });
                    let (name, age) = (&found.name, found.age);
                    tracing::warn!(
                        shard,
                        name,
                        age,
                        committed,
                        "a part of a transaction was left prepared, and is ended"
                    );
                    return None;
                }
                // Its coordinator, or another proxy.
                Err(report) if decisions::is_busy(&report) => {
                    why = Some("somebody else is ending it".to_owned());
                }
                Err(report) => {
                    let (name, age, error) = (&found.name, found.age, &report.message);
                    tracing::warn!(
                        shard,
                        name,
                        age,
                        error,
                        "a part of a transaction cannot be ended"
                    );
                    why = Some(report.message);
                }
            }
        }
        Some(Doubt {
            database: database.clone(),
            shard: shard.to_owned(),
            name: found.name,
            age: found.age,
            why,
        })
    }

    /// Whether it is certain that nothing is decided about a part any more, but by us.
    async fn is_decided(&mut self, round: &Round<'_>, part: &decisions::Part<'_>) -> bool {
        match self.link(round, part.decider, None).await {
            Some(decider) => decisions::is_over(decider, part.id).await,
            None => false,
        }
    }

    async fn try_to_end(
        &mut self,
        round: &Round<'_>,
        shard: &str,
        found: &Found,
        part: &decisions::Part<'_>,
    ) -> Result<bool, ErrorReport> {
        let decider = self.link(round, part.decider, None).await;
        let decider = decider.ok_or_else(|| away(part.decider))?;
        let settled = decisions::settle(decider, part.id, &round.sharded.name).await;
        let committed = settled.inspect_err(|report| self.is_mute(part.decider, report))?
            && !planted::is(Bug::SkipDecision);
        // Only who has prepared it may end it, and superusers.
        let server = self.link(round, shard, Some(&found.owner)).await;
        let server = server.ok_or_else(|| away(shard))?;
        let verb = if committed { "COMMIT" } else { "ROLLBACK" };
        let sql = format!("{verb} PREPARED {}", literal(&found.name));
        let answer = decisions::run_in_time(server, sql.as_bytes()).await;
        let answer = answer.inspect_err(|report| self.is_mute(shard, report))?;
        match answer.error {
            // Somebody else was quicker.
            Some(error) if error.code != sqlstate::UNDEFINED_OBJECT => Err(error),
            _ => Ok(committed),
        }
    }

    /// A section has not answered, or not as it should.
    fn is_mute(&mut self, section: &str, report: &ErrorReport) {
        self.links.remove(section);
        self.mute.insert(section.to_owned(), report.message.clone());
    }

    /// The connection to the primary of a section, as this user if there is a choice.
    async fn link(
        &mut self,
        round: &Round<'_>,
        section: &str,
        user: Option<&str>,
    ) -> Option<&mut Box<ServerConn>> {
        round.heartbeat.touch();
        let cluster = round.facts.topology.of(section)?;
        let host = cluster.lead().host?;
        let name = host.to_string();
        let is_good = self.links.get(section).is_some_and(|link| {
            link.host == name
                && clock::since(link.since) < LINK_MAX
                && link.server.exchange.is_over()
                && user.is_none_or(|user| link.user == user)
        });
        if !is_good {
            let before = self.links.remove(section);
            let before = before.filter(|link| link.host == name && link.server.exchange.is_over());
            let mut candidates = login::candidates(&cluster, &host, round.facts);
            if let Some(user) = user
                && let Some(at) = candidates.iter().position(|it| it.user == user)
            {
                candidates.swap(0, at);
            }
            let attempts = self.attempts.entry(section.to_owned()).or_default();
            let link = open(&round.facts.transactions, attempts, &candidates, user, name);
            // It has a deadline of its own, which may be long.
            let mut link = round.heartbeat.through(link).await?;
            let before = before.map(|link| link.server);
            let again = !self.listened.insert(section.to_owned());
            schemas::listen(&mut link.server, before, again).await;
            self.links.insert(section.to_owned(), link);
        }
        debug_assert!(
            round.config.databases.contains_key(section),
            "it is a shard"
        );
        self.links.get_mut(section).map(|link| &mut link.server)
    }
}

async fn open(
    transactions: &Transactions,
    attempts: &mut Attempts,
    candidates: &[Arc<Upstream>],
    user: Option<&str>,
    host: String,
) -> Option<Link> {
    let first = user.and_then(|user| candidates.iter().find(|it| it.user == user));
    let chosen = match first {
        Some(upstream) => upstream,
        None => {
            let known = candidates.iter().map(|it| (it.user.as_str(), &it.secret));
            &candidates[attempts.choose(known, clock::now())?]
        }
    };
    match transactions.open(chosen).await {
        Ok(server) => {
            attempts.succeeded(&chosen.user);
            Some(Link {
                server,
                user: chosen.user.clone(),
                host,
                since: clock::now(),
            })
        }
        Err(error) => {
            if error.is_of_login() {
                attempts.refused(&chosen.user, &chosen.secret, clock::now());
            }
            None
        }
    }
}

fn away(section: &str) -> ErrorReport {
    let text = format!("the primary of \"{section}\" cannot be reached");
    ErrorReport::error(sqlstate::CONNECTION_FAILURE, text)
}

async fn find(server: &mut ServerConn) -> Option<Vec<Found>> {
    let answer = setup::run_into(server, FIND.as_bytes(), Answer::of_rows(PARTS_MAX)).await;
    let answer = answer.ok().filter(|answer| answer.error.is_none())?;
    debug_assert!(FIND.contains(PREFIX), "these are ours");
    let found = answer.rows.iter().filter_map(|row| {
        let text = |at: usize| String::from_utf8(row.get(at)?.clone()?).ok();
        Some(Found {
            name: text(0)?,
            owner: text(1)?,
            age: text(2)?.parse().unwrap_or_default(),
        })
    });
    Some(found.collect())
}

/// The transactions whose rows are old. Nobody has any where there is no table.
async fn old_rows(server: &mut ServerConn, database: &str) -> Vec<String> {
    const THERE: &[u8] = b"SELECT pg_catalog.to_regclass('pgherd.decisions') IS NOT NULL";
    let there = setup::run(server, THERE).await;
    if !there.is_ok_and(|answer| answer.first() == Some(b"t")) {
        return Vec::new();
    }
    let old = decisions::old(database);
    let answer = Answer::of_rows(decisions::ROWS_MAX);
    let rows = setup::run_into(server, old.as_bytes(), answer).await;
    let rows = rows.map(|answer| answer.rows).unwrap_or_default();
    let texts = rows.into_iter().filter_map(|mut row| row.pop().flatten());
    texts
        .filter_map(|text| String::from_utf8(text).ok())
        .collect()
}

async fn clear(server: &mut ServerConn, over: &[&String]) {
    let ids: Vec<String> = over.iter().map(|id| literal(id)).collect();
    let sql = format!(
        "DELETE FROM pgherd.decisions WHERE transaction IN ({})",
        ids.join(", ")
    );
    if let Err(error) = setup::run(server, sql.as_bytes()).await {
        tracing::debug!(%error, "old rows of transactions stay for now");
    }
}
