//! What became of a transaction whose COMMIT was sent and not answered: the present primary is asked.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use pgherd_cluster::outcome::{
    Chapter, History, Mark, Origin, Outcome, Reign, Server, Status, Witness, judge,
};
use pgherd_cluster::{Lsn, Storage};
use pgherd_planted::{self as planted, Bug};
use pgherd_session::Parameters;
use pgherd_wire::backend::{self, TransactionStatus};
use pgherd_wire::error::ErrorReport;
use pgherd_wire::sqlstate;

use crate::clock;
use crate::cluster::{Cluster, aurora};
use crate::control::Order;
use crate::outcomes::Resolved;
use crate::pool::{Pool, ServerLease};
use crate::router;
use crate::server::ServerConn;
use crate::session::follow;
use crate::session::relay::Relay;
use crate::session::setup::{self, Answer};
use crate::session::{Bye, checkout, replies};

/// Who says what about itself: its system, its timeline, where its recovery ended, the timeline of its last checkpoint, how
/// many of the functions that marks take the user may call, when its postmaster was started, and whether the user
/// may read files. The second and third are NULL in recovery. The functions are looked up under all that they take in
/// any version.
const WITNESS: &[u8] = b"\
SELECT (SELECT c.system_identifier FROM pg_catalog.pg_control_system() c), \
CASE WHEN NOT r.r THEN \
pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, 8) END, \
CASE WHEN NOT r.r THEN pg_catalog.pg_last_wal_replay_lsn() END, \
(SELECT c.timeline_id FROM pg_catalog.pg_control_checkpoint() c), \
(SELECT pg_catalog.count(*) FROM (VALUES \
('pg_catalog.pg_logical_emit_message(pg_catalog.bool,pg_catalog.text,pg_catalog.text)'), \
('pg_catalog.pg_logical_emit_message(pg_catalog.bool,pg_catalog.text,pg_catalog.text,pg_catalog.bool)'), \
('pg_catalog.pg_current_xact_id_if_assigned()'), \
('pg_catalog.pg_xact_status(pg_catalog.xid8)'), \
('pg_catalog.pg_walfile_name(pg_catalog.pg_lsn)'), \
('pg_catalog.pg_last_wal_replay_lsn()')) f(f) \
WHERE pg_catalog.has_function_privilege(pg_catalog.to_regprocedure(f.f), 'execute')), \
(pg_catalog.date_part('epoch', pg_catalog.pg_postmaster_start_time()) * 1000000)::pg_catalog.int8, \
pg_catalog.has_function_privilege(\
pg_catalog.to_regprocedure('pg_catalog.pg_read_file(pg_catalog.text)'), 'execute') \
FROM (SELECT pg_catalog.pg_is_in_recovery() AS r) r";

/// How many functions marks take.
const FUNCTIONS: i64 = 5;

/// What a commit of now would wait for: whoever was told that it is committed finds it where that is.
const CONFIRM: &[u8] = b"BEGIN; SET LOCAL synchronous_commit = on; \
SELECT pg_catalog.pg_logical_emit_message(true, 'pgherd', ''); COMMIT";

/// Between two questions to a server that cannot say yet.
const PAUSE: Duration = Duration::from_millis(50);

/// For how long is asked where nothing else limits it.
const PATIENCE: Duration = Duration::from_secs(30);

/// A transaction whose COMMIT was sent and not answered.
#[derive(Debug)]
pub(super) struct Unresolved {
    /// Which it is.
    pub(super) mark: Mark,
    /// What its client has set if it is committed.
    pub(super) parameters: Arc<Parameters>,
    /// What its client is told if nobody knows.
    pub(super) report: ErrorReport,
    /// What its client is told if it is committed.
    pub(super) success: Vec<u8>,
}

impl Relay {
    /// Finds out what became of a client's transaction, and tells it. `lease` is the server that was lost.
    pub(super) async fn unresolved(
        &mut self,
        unresolved: Unresolved,
        lease: ServerLease,
    ) -> Option<Bye> {
        let Unresolved {
            mark,
            parameters,
            report,
            success,
        } = unresolved;
        let host = lease.about.upstream.name.clone();
        if let Some(bye) = self.lose(&report, lease) {
            self.pool.outcomes.count(Resolved::Unknown);
            return Some(bye);
        }
        let began = clock::now();
        let found = match find_out(self, &mark).await {
            Found::Out(_) if planted::is(Bug::SkipResolution) => Found::Out(Outcome::Unknown),
            Found::Out(_) if planted::is(Bug::TrustCommit) => Found::Out(Outcome::Committed),
            found => found,
        };
        let resolved = match found {
            Found::Out(outcome) => Resolved::from(outcome),
            Found::Gone | Found::SentAway | Found::CalledOff => Resolved::Unknown,
        };
        self.pool.outcomes.count(resolved);
        tracing::info!(
            client = self.control.id,
            database = self.pool.key.database,
            host,
            xid = mark.xid,
            timeline = mark.timeline,
            lsn = %mark.end,
            outcome = resolved.name(),
            took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            "a commit whose answer was lost is resolved"
        );
        match found {
            Found::Gone => return Some(Bye::Gone),
            Found::SentAway => {
                let farewell = self.control.farewell().unwrap_or_else(|| Box::new(report));
                return Some(Bye::Sent(Box::new(replies::in_doubt(*farewell))));
            }
            Found::Out(_) | Found::CalledOff => {}
        }
        if resolved != Resolved::Lost {
            // It may have been committed long after the connection was lost.
            self.wrote = self.pool.age(clock::now());
        }
        match resolved {
            Resolved::Committed => {
                // What it has set holds, as behind any COMMIT.
                let before = std::mem::replace(&mut self.parameters, Arc::clone(&parameters));
                self.set_parameters(parameters);
                follow::tell_back(self, &before);
                self.down.insert(&success);
            }
            Resolved::Lost => self.answer(&lost(&host, &mark)),
            Resolved::Unknown => self.answer(&report),
        }
        None
    }

    /// Answers the one request that the client waits for.
    fn answer(&mut self, report: &ErrorReport) {
        self.record(report);
        let out = self.down.made();
        report.encode_error(out);
        backend::ready_for_query(out, TransactionStatus::Idle);
    }
}

fn lost(host: &str, mark: &Mark) -> ErrorReport {
    ErrorReport::error(
        sqlstate::SERIALIZATION_FAILURE,
        format!("the transaction was not committed: the connection to server {host} was lost"),
    )
    .detail(format!(
        "Transaction {} of timeline {} is not in the history of the present primary.",
        mark.xid, mark.timeline
    ))
    .hint("Nothing of it was committed; run it again.")
}

/// How a wait for an outcome ends.
#[derive(Debug, Clone, Copy)]
enum Found {
    /// With this one.
    Out(Outcome),
    /// The client has left.
    Gone,
    /// The session is to end now.
    SentAway,
    /// The client has cancelled its COMMIT.
    CalledOff,
}

/// Asks until there is an answer, or for as long as work waits for a primary, unless the client wishes to wait no longer,
/// or must not.
async fn find_out(relay: &mut Relay, mark: &Mark) -> Found {
    let control = Arc::clone(&relay.control);
    control.wait(clock::now());
    let pool = Arc::clone(&relay.pool);
    let limit = pool.settings().timeouts.hold.unwrap_or(PATIENCE);
    let mut asked = pin!(tokio::time::timeout(limit, keep_asking(&pool, mark)));
    control.begin_waiting();
    poll_fn(|cx| {
        if let Poll::Ready(outcome) = asked.as_mut().poll(cx) {
            return Poll::Ready(Found::Out(outcome.unwrap_or(Outcome::Unknown)));
        }
        // Who is to leave when its transaction is over may hear first what became of it.
        if control.poll_ordered(cx).is_ready() && control.ordered() == Order::Terminate {
            return Poll::Ready(Found::SentAway);
        }
        if control.is_called_off() {
            return Poll::Ready(Found::CalledOff);
        }
        checkout::poll_presence(relay, cx).map(|()| Found::Gone)
    })
    .await
}

async fn keep_asking(pool: &Arc<Pool>, mark: &Mark) -> Outcome {
    loop {
        match ask(pool, mark).await {
            Ok(Outcome::Open) => {}
            Ok(outcome) => return outcome,
            Err(error) => {
                tracing::debug!(database = pool.key.database, %error, "a primary cannot be asked");
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Asks the present primary, once there is one.
async fn ask(pool: &Arc<Pool>, mark: &Mark) -> Result<Outcome, ErrorReport> {
    let mut lease = router::lease(pool).await?;
    // Whoever had the server before may have left a role or a timeout.
    setup::apply(pool, &mut lease, &Arc::default()).await?;
    let outcome = inquire(&pool.cluster.load_full(), &mut lease, mark).await;
    if outcome.is_ok() && lease.exchange.is_over() {
        lease.mark_clean();
    }
    outcome
}

async fn inquire(
    cluster: &Cluster,
    server: &mut ServerConn,
    mark: &Mark,
) -> Result<Outcome, ErrorReport> {
    let seen = look(cluster, server).await?;
    let Some(its) = seen.as_primary() else {
        return Err(ErrorReport::error(
            sqlstate::CANNOT_CONNECT_NOW,
            "the server is in recovery",
        ));
    };
    let witness = Witness {
        system: its.system,
        timeline: its.timeline,
        born: its.born,
        replayed: its.replayed,
        checkpoint: its.checkpoint,
        chapter: remembered(cluster, server, &seen, mark.timeline).await?,
        status: status(server, mark.xid).await?,
    };
    let outcome = judge(mark, &witness);
    tracing::debug!(?mark, ?witness, ?outcome, "a primary was asked");
    if outcome == Outcome::Committed {
        confirm(server).await?;
    }
    Ok(outcome)
}

/// Waits for a commit of now to be acknowledged, which may take as long as a standby does.
async fn confirm(server: &mut ServerConn) -> Result<(), ErrorReport> {
    let answer = sound(setup::run_patiently(server, CONFIRM).await?)?;
    if answer.is_unreplicated() {
        // Somebody has ended the wait, which then says nothing of the client's commit.
        let text = "no standby has confirmed a commit";
        return Err(ErrorReport::error(sqlstate::CANNOT_CONNECT_NOW, text));
    }
    Ok(())
}

/// What a server says of itself.
struct Seen {
    system: u64,
    timeline: Option<u32>,
    replayed: Option<Lsn>,
    checkpoint: u32,
    is_able: bool,
    born: u64,
    reads_files: bool,
    was_standby: bool,
}

impl Seen {
    /// The same, if it is not in recovery.
    fn as_primary(&self) -> Option<Server> {
        Some(Server {
            system: self.system,
            born: self.born,
            timeline: self.timeline?,
            replayed: self.replayed,
            checkpoint: self.checkpoint,
            was_standby: self.was_standby,
        })
    }
}

async fn look(cluster: &Cluster, server: &mut ServerConn) -> Result<Seen, ErrorReport> {
    let answer = sound(setup::run(server, WITNESS).await?)?;
    let unreadable = || ErrorReport::error(sqlstate::PROTOCOL_VIOLATION, "the answer is no row");
    let row = answer.rows.first().ok_or_else(unreadable)?;
    let mut seen = seen(row).ok_or_else(unreadable)?;
    seen.was_standby = server
        .marks
        .is_some_and(|origin| origin.reign == Reign::Coming);
    if let Some(its) = seen.as_primary() {
        cluster.promotions.lock().note(&its);
    }
    Ok(seen)
}

fn seen(row: &[Option<Vec<u8>>]) -> Option<Seen> {
    let text = |at: usize| std::str::from_utf8(row.get(at)?.as_deref()?).ok();
    Some(Seen {
        system: text(0)?.parse().ok()?,
        timeline: text(1).and_then(|digits| u32::from_str_radix(digits, 16).ok()),
        replayed: text(2).and_then(|lsn| lsn.parse().ok()),
        checkpoint: text(3)?.parse().ok()?,
        is_able: text(4)?.parse::<i64>().ok()? >= FUNCTIONS,
        born: text(5)?.parse().ok()?,
        reads_files: text(6) == Some("t"),
        was_standby: false,
    })
}

/// What the history of a server that is not in recovery has of the timeline with this number: from what it says of itself and
/// what is remembered, or from its history file, if its user may read that.
async fn remembered(
    cluster: &Cluster,
    server: &mut ServerConn,
    seen: &Seen,
    number: u32,
) -> Result<Chapter, ErrorReport> {
    // The first timeline has no history.
    let Some(its) = seen.as_primary().filter(|its| its.timeline > 1) else {
        return Ok(Chapter::Unread);
    };
    let known = cluster.promotions.lock().chapter(&its, number);
    match known {
        Some(chapter) => return Ok(chapter),
        None if seen.reads_files => {}
        None => return Ok(Chapter::Unread),
    }
    let Some(history) = history(server, its.timeline).await? else {
        return Ok(Chapter::Unread);
    };
    let chapter = history.chapter(its.timeline, number);
    cluster.promotions.lock().read(&its, Some(history));
    Ok(chapter)
}

/// Reads the history file of a server's timeline; `None` if that is refused.
///
/// # Errors
/// If the connection is of no use.
pub(crate) async fn history(
    server: &mut ServerConn,
    timeline: u32,
) -> Result<Option<History>, ErrorReport> {
    let sql = format!("SELECT pg_catalog.pg_read_file('pg_wal/{timeline:08X}.history')");
    let answer = setup::run(server, sql.as_bytes()).await?;
    let text = answer
        .first()
        .and_then(|text| std::str::from_utf8(text).ok());
    Ok(text.and_then(History::parse))
}

async fn status(server: &mut ServerConn, xid: u64) -> Result<Status, ErrorReport> {
    let sql = format!("SELECT pg_catalog.pg_xact_status('{xid}'::pg_catalog.xid8)");
    let answer = setup::run(server, sql.as_bytes()).await?;
    match answer.error {
        // That it is in the future; nothing else can be wrong with it.
        Some(error) if error.code == sqlstate::INVALID_PARAMETER_VALUE => {
            return Ok(Status::Future);
        }
        Some(error) => return Err(error),
        None => {}
    }
    match answer.rows.first().and_then(|row| row.first()) {
        Some(Some(word)) => match &word[..] {
            b"committed" => Ok(Status::Committed),
            b"aborted" => Ok(Status::Aborted),
            _ => Ok(Status::InProgress),
        },
        _ => Ok(Status::Forgotten),
    }
}

fn sound(mut answer: Answer) -> Result<Answer, ErrorReport> {
    match answer.error.take() {
        Some(error) => Err(error),
        None => Ok(answer),
    }
}

/// Finds out whether transactions on a new connection can be marked.
///
/// # Errors
/// If the connection is of no use.
pub(crate) async fn acquaint(pool: &Pool, server: &mut ServerConn) -> Result<(), ErrorReport> {
    // Where no timeline rises with a failover, nothing tells whose the transaction ids are.
    if aurora::storage(server).await? == Storage::Shared {
        tracing::warn!(
            database = pool.key.database,
            host = server.about.upstream.name,
            "commits are not resolved: it is a server of Aurora's, which cannot tell what became of them"
        );
        return Ok(());
    }
    let cluster = pool.cluster.load_full();
    match look(&cluster, server).await {
        Ok(seen) if seen.is_able => {
            let reign = match seen.timeline {
                Some(timeline) => {
                    let own = remembered(&cluster, server, &seen, timeline).await?;
                    let begins = match own {
                        Chapter::Read { begins, .. } => begins,
                        Chapter::Unread | Chapter::Absent => None,
                    };
                    Reign::Seen(timeline, begins)
                }
                None => Reign::Coming,
            };
            server.marks = Some(Origin {
                system: seen.system,
                born: seen.born,
                reign,
            });
        }
        Ok(_) => tracing::warn!(
            database = pool.key.database,
            user = pool.key.user,
            host = server.about.upstream.name,
            "commits are not resolved: the server is older than 13, or the user may not call what that takes"
        ),
        Err(error) if !server.exchange.is_over() => return Err(error),
        Err(error) => tracing::warn!(
            database = pool.key.database,
            user = pool.key.user,
            host = server.about.upstream.name,
            %error,
            "commits are not resolved"
        ),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use pgherd_cluster::Lsn;

    use super::seen;

    #[test]
    fn what_a_server_says_of_itself_is_read() {
        let row = |values: [&str; 7]| {
            let value = |text: &str| (!text.is_empty()).then(|| text.as_bytes().to_vec());
            values.map(value).to_vec()
        };
        let primary = seen(&row([
            "7",
            "0000001F",
            "0/10",
            "30",
            "5",
            "1796000000000001",
            "t",
        ]))
        .expect("a row");
        assert_eq!((primary.system, primary.timeline), (7, Some(31)));
        assert_eq!(
            (primary.replayed, primary.checkpoint),
            (Some(Lsn::new(16)), 30)
        );
        assert!(primary.is_able && primary.reads_files);
        assert_eq!(primary.born, 1_796_000_000_000_001);
        let standby = seen(&row(["7", "", "", "30", "4", "1", "f"])).expect("a row");
        assert_eq!(
            (standby.timeline, standby.replayed, standby.is_able),
            (None, None, false)
        );
        assert!(seen(&row([""; 7])).is_none());
    }
}
