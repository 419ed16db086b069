//! Brings one transaction over several servers to its end, from its `COMMIT` on.
//!
//! Owns: the connections of the transaction, until it is over.
//! Hears: that its task has ended.
//! Tells: its session, once, what has become of it, and gives the connections back with that; [`recovery`]
//! that something was left prepared.
//! If it dies: its connections are closed, so that what is not prepared is rolled back, and what is prepared
//! is ended by [`recovery`] as the decider's row says; its session asks for that row, too.
//!
//! [`recovery`]: crate::transactions::recovery

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgherd_session::{Commit, CommitStep as Step, Heard, Outcome, literal};
use pgherd_supervise::{End, Tasked, Work};
use pgherd_wire::backend::TransactionStatus;
use pgherd_wire::error::ErrorReport;
use pgherd_wire::sqlstate;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::clock;
use crate::pool::{Pool, ServerLease};
use crate::server::{ServerAbout, ServerConn};
use crate::session::setup;
use crate::transactions::{Count, Record, Stage, Transactions, decisions};

/// One server's part of a transaction.
pub struct Part {
    /// The number of the shard.
    pub shard: u16,
    /// Its connection, in the transaction's block.
    pub lease: ServerLease,
    /// It notifies others, so that it is not to be lost although it may have written nothing.
    pub notifies: bool,
    /// What has become of it here.
    pub outcome: Option<Outcome>,
    /// The parameters that its server has reported at the end of the transaction.
    pub reported: BTreeMap<String, String>,
}

impl std::fmt::Debug for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Part")
            .field("shard", &self.shard)
            .finish_non_exhaustive()
    }
}

/// Later than this after the first was prepared, nothing is decided any more: a row that says no might have
/// been cleared away by then.
const DECIDE_MAX: Duration = Duration::from_secs(600);
/// For so long the client waits for servers to show what is committed.
const FINISH: Duration = Duration::from_secs(5);
/// Between two questions to a decider that cannot say yet.
const PAUSE: Duration = Duration::from_millis(100);
/// For how long is asked where nothing else limits it.
const PATIENCE: Duration = Duration::from_secs(30);

/// What has become of a transaction.
#[derive(Debug)]
pub struct Told {
    /// Whether it is committed.
    pub outcome: Outcome,
    /// What the client is told, if it is not committed, or what it is warned of if it is.
    pub report: Option<ErrorReport>,
    /// The connections that are still of use.
    pub parts: Vec<Part>,
}

/// The actor, once it is [`Tasked`].
#[derive(Debug)]
pub struct Coordinator;

/// What it is born with.
#[derive(Debug)]
pub struct CoordinatorArguments {
    transactions: Arc<Transactions>,
    record: Arc<Record>,
    parts: Vec<Part>,
    /// The pool of each part.
    pools: Vec<Arc<Pool>>,
    reply: oneshot::Sender<Told>,
}

impl Work for Coordinator {
    type Arguments = CoordinatorArguments;

    async fn run(arguments: CoordinatorArguments) -> End {
        let gone = Gone(
            Arc::clone(&arguments.transactions),
            Arc::clone(&arguments.record),
            true,
        );
        Coordination::new(arguments).run(gone).await;
        End::Stop
    }
}

/// Takes the record away when the coordinator ends, however it does.
struct Gone(Arc<Transactions>, Arc<Record>, bool);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.leave(&self.1, self.2);
    }
}

/// Commits a transaction; `pools` are those of its parts. The future may be dropped: the transaction comes to its
/// end all the same.
pub async fn commit(
    transactions: &Arc<Transactions>,
    database: &str,
    parts: Vec<Part>,
    pools: Vec<Arc<Pool>>,
) -> Told {
    let shards = pools.iter().map(|pool| pool.key.database.clone());
    let user = pools.first().map_or("", |pool| &pool.key.user);
    let record = transactions.enter(database, user, shards.collect());
    let (reply, told) = oneshot::channel();
    let arguments = CoordinatorArguments {
        transactions: Arc::clone(transactions),
        record: Arc::clone(&record),
        parts,
        pools: pools.clone(),
        reply,
    };
    let spawned = transactions
        .coordinators
        .spawn(Tasked(Coordinator), arguments)
        .await;
    if let Err(error) = spawned {
        tracing::warn!(%error, "a transaction has no coordinator");
        transactions.leave(&record, false);
    }
    match told.await {
        Ok(told) => told,
        // Whatever it held is closed.
        Err(_) => orphaned(transactions, &record, &pools).await,
    }
}

/// What has become of a transaction whose coordinator has died.
async fn orphaned(transactions: &Arc<Transactions>, record: &Record, pools: &[Arc<Pool>]) -> Told {
    let told = |outcome, report| Told {
        outcome,
        report,
        parts: Vec::new(),
    };
    let heard = match record.may_be_committed() {
        false => Heard::Refused,
        // Which of them decides nobody else knows; a row is stored by that one alone.
        true => Heard::Lost,
    };
    let decider = record.decider().and_then(|at| pools.get(at));
    let heard = match (heard, decider) {
        (Heard::Lost, Some(pool)) if record.stage() >= Stage::Deciding => {
            resolve(transactions, pool, record).await
        }
        (heard, _) => heard,
    };
    match heard {
        Heard::Done => {
            transactions.count(Count::CommittedInTwoPhases);
            // Recovery commits the other parts.
            told(Outcome::Committed, Some(unshown()))
        }
        Heard::Refused => {
            transactions.count(Count::Aborted);
            told(Outcome::Aborted, Some(undone("its coordinator has died")))
        }
        Heard::Lost => {
            transactions.count(Count::Unknown);
            told(Outcome::Unknown, Some(unknown("its coordinator has died")))
        }
    }
}

/// What comes of a step: its part, unless it had none, and why it was not done.
type Done = (Step, Option<Part>, Heard, Option<ErrorReport>);

struct Coordination {
    transactions: Arc<Transactions>,
    record: Arc<Record>,
    parts: Vec<Option<Part>>,
    pools: Vec<Arc<Pool>>,
    reply: Option<oneshot::Sender<Told>>,
    /// Why it failed first.
    why: Option<ErrorReport>,
    under_way: JoinSet<Done>,
    began: Instant,
}

impl Coordination {
    fn new(arguments: CoordinatorArguments) -> Self {
        Self {
            transactions: arguments.transactions,
            record: arguments.record,
            parts: arguments.parts.into_iter().map(Some).collect(),
            pools: arguments.pools,
            reply: Some(arguments.reply),
            why: None,
            under_way: JoinSet::new(),
            began: clock::now(),
        }
    }

    async fn run(mut self, mut gone: Gone) {
        let Some(writes) = self.ask().await else {
            // Where nothing was prepared, closing the connections is a rollback.
            self.transactions.count(Count::Aborted);
            gone.2 = false;
            let report = self.why.take();
            self.tell(Outcome::Aborted, report);
            return;
        };
        let (mut commit, steps) = Commit::new(&writes);
        if let Some(decider) = commit.decider() {
            self.record.decided_by(decider);
        }
        self.begin(&commit, steps);
        let mut late = None;
        while !commit.is_over() {
            if commit.outcome().is_some() && late.is_none() {
                // Of a plain commit there is no row that would say what became of it.
                if commit.is_of_two_phases() {
                    self.record.reached(Stage::Finishing);
                }
                late = Some(clock::now() + FINISH);
            }
            let next = match late.filter(|_| self.reply.is_some()) {
                Some(late) => {
                    tokio::time::timeout_at(late.into(), self.under_way.join_next()).await
                }
                None => Ok(self.under_way.join_next().await),
            };
            match next {
                Ok(Some(Ok((step, part, heard, why)))) => {
                    let steps = self.heard(&mut commit, step, part, heard, why);
                    self.begin(&commit, steps);
                }
                Ok(Some(Err(error))) => std::panic::resume_unwind(Box::new(error.to_string())),
                // It cannot be: something is under way as long as it is not over.
                Ok(None) => break,
                // Somebody is slow to show it.
                Err(_elapsed) => self.conclude(&commit),
            }
        }
        gone.2 = commit.is_left_behind();
        if self.reply.is_some() {
            self.conclude(&commit);
        } else {
            // Nobody waits for them any more.
            self.parts.clear();
        }
    }

    /// Who has written; none if somebody cannot be asked.
    async fn ask(&mut self) -> Option<Vec<bool>> {
        let question: Arc<str> = decisions::question(&self.record.id).into();
        let mut asked = JoinSet::new();
        for (at, part) in self.parts.iter_mut().enumerate() {
            let Some(mut part) = part.take() else {
                continue;
            };
            let question = Arc::clone(&question);
            asked.spawn(async move {
                let answer = setup::run_patiently(&mut part.lease, question.as_bytes()).await;
                (at, part, answer)
            });
        }
        let mut writes = vec![false; self.parts.len()];
        while let Some(Ok((at, part, answer))) = asked.join_next().await {
            let failed = match answer {
                Ok(answer) => match answer.first() {
                    Some(told) => {
                        writes[at] = told == b"t" || part.notifies;
                        None
                    }
                    None => Some(answer.error.unwrap_or_else(|| undone("it cannot be asked"))),
                },
                Err(report) => Some(lost(&report)),
            };
            let usable = failed.is_none();
            self.why = self.why.take().or(failed);
            self.parts[at] = usable.then_some(part);
        }
        if self.why.is_some() {
            self.parts.clear();
            return None;
        }
        Some(writes)
    }

    fn begin(&mut self, commit: &Commit, steps: Vec<Step>) {
        for step in steps {
            let leg = step.leg();
            let (Some(pool), part) = (self.pools.get(leg).cloned(), self.parts.get_mut(leg)) else {
                continue;
            };
            let part = part.and_then(Option::take);
            match step {
                Step::Decide(_) => self.record.reached(Stage::Deciding),
                Step::Commit(_) if commit.decider() == Some(leg) => {
                    self.record.reached(Stage::Committing);
                }
                _ => {}
            }
            let decider = commit.decider().and_then(|leg| self.pools.get(leg));
            let decider = decider.map_or_else(String::new, |pool| pool.key.database.clone());
            let name = decisions::part(&self.record.id, leg, &decider, &self.record.database);
            let in_time = clock::since(self.began) < DECIDE_MAX;
            let record = Arc::clone(&self.record);
            let transactions = Arc::clone(&self.transactions);
            self.under_way.spawn(async move {
                if let Step::Resolve(_) = step {
                    drop(part);
                    let heard = resolve(&transactions, &pool, &record).await;
                    return (step, None, heard, None);
                }
                let Some(mut part) = part else {
                    return (step, None, Heard::Lost, None);
                };
                let name = match name {
                    Ok(name) => name,
                    Err(report) => return (step, Some(part), Heard::Refused, Some(report)),
                };
                let (heard, why) = run(&mut part, step, &record, &name, in_time).await;
                if let (Step::Finish(_), Heard::Lost) = (step, heard) {
                    let about = Arc::clone(&part.lease.about);
                    drop(part);
                    let heard = finish_anew(&transactions, &pool, &name, &about).await;
                    return (step, None, heard, why);
                }
                (step, Some(part), heard, why)
            });
        }
    }

    fn heard(
        &mut self,
        commit: &mut Commit,
        step: Step,
        part: Option<Part>,
        heard: Heard,
        why: Option<ErrorReport>,
    ) -> Vec<Step> {
        if heard != Heard::Done {
            self.why = self.why.take().or(why);
        }
        let leg = step.leg();
        if let (Some(mut part), Some(place)) = (part, self.parts.get_mut(leg))
            && heard != Heard::Lost
        {
            part.outcome = match (step, heard) {
                (Step::Commit(_) | Step::Decide(_) | Step::Finish(_), Heard::Done) => {
                    Some(Outcome::Committed)
                }
                (Step::Undo(_), Heard::Done) => Some(Outcome::Aborted),
                // What its settings are now is not followed.
                _ => None,
            };
            *place = Some(part);
        }
        commit.heard(step, heard)
    }

    /// Tells the session what is known, and gives back what is free.
    fn conclude(&mut self, commit: &Commit) {
        let outcome = commit.outcome().unwrap_or(Outcome::Unknown);
        self.transactions.count(match outcome {
            Outcome::Committed if commit.is_of_two_phases() => Count::CommittedInTwoPhases,
            Outcome::Committed => Count::CommittedPlainly,
            Outcome::Aborted => Count::Aborted,
            Outcome::Unknown => Count::Unknown,
        });
        let why = self.why.take();
        let text = |report: &ErrorReport| report.message.clone();
        let report = match outcome {
            Outcome::Committed if commit.is_left_behind() || !commit.is_over() => Some(unshown()),
            Outcome::Committed => None,
            Outcome::Aborted => Some(why.unwrap_or_else(|| undone("a shard refused it"))),
            Outcome::Unknown => {
                let why = why.as_ref().map_or_else(String::new, text);
                Some(unknown(&why))
            }
        };
        self.tell(outcome, report);
    }

    fn tell(&mut self, outcome: Outcome, report: Option<ErrorReport>) {
        let parts = self.parts.iter_mut().filter_map(|part| {
            let over = part.as_ref().is_some_and(|part| part.outcome.is_some());
            part.take_if(|_| over)
        });
        let told = Told {
            outcome,
            report,
            parts: parts.collect(),
        };
        if let Some(reply) = self.reply.take() {
            // If the session is gone, so are its connections.
            let _ = reply.send(told);
        }
    }
}

/// What a client is told whose transaction is committed, while parts of it may still be prepared.
fn unshown() -> ErrorReport {
    let text = "the transaction is committed, and is not shown yet by every shard";
    ErrorReport::warning(sqlstate::WARNING, text)
}

/// Has a server do a step.
async fn run(
    part: &mut Part,
    step: Step,
    record: &Record,
    name: &str,
    in_time: bool,
) -> (Heard, Option<ErrorReport>) {
    let server: &mut ServerConn = &mut part.lease;
    let sql = match step {
        Step::Commit(_) => "COMMIT".to_owned(),
        Step::Prepare(_) => format!("PREPARE TRANSACTION {}", literal(name)),
        Step::Undo(_) => "ROLLBACK".to_owned(),
        Step::Finish(_) => finish(name),
        Step::Revoke(_) => format!("ROLLBACK PREPARED {}", literal(name)),
        Step::Decide(_) => {
            if !in_time {
                return (Heard::Refused, Some(undone("it took too long")));
            }
            match setup::run_patiently(
                server,
                decisions::commit(&record.id, &record.database).as_bytes(),
            )
            .await
            {
                Ok(answer) => match answer.error {
                    None => "COMMIT".to_owned(),
                    Some(error) => return (Heard::Refused, Some(revoked(error))),
                },
                Err(report) => return (Heard::Lost, Some(lost(&report))),
            }
        }
        Step::Resolve(_) => return (Heard::Lost, None),
    };
    let began = clock::now();
    loop {
        let answer = match setup::run_patiently(server, sql.as_bytes()).await {
            Ok(answer) => answer,
            Err(report) => return (Heard::Lost, Some(lost(&report))),
        };
        let unreplicated = answer.is_unreplicated();
        part.reported.extend(answer.reported);
        return match (step, answer.error, answer.warning) {
            // Who recovers is at it: it is over soon, one way or the other.
            (Step::Finish(_) | Step::Revoke(_), Some(error), _)
                if decisions::is_busy(&error) && clock::since(began) < FINISH =>
            {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            // It is stored, and somebody has ended its wait for a standby.
            (Step::Decide(_), None, Some(warning)) => (Heard::Lost, Some(undone(&warning.message))),
            // So is this, and a decision must not count on what may be lost with its server.
            (Step::Prepare(_), None, Some(warning)) if unreplicated => {
                (Heard::Lost, Some(undone(&warning.message)))
            }
            (_, error, _) => ended(server, step, error),
        };
    }
}

/// What commits a part that is prepared.
fn finish(name: &str) -> String {
    format!("COMMIT PREPARED {}", literal(name))
}

/// Commits a part whose connection, to the server that this is about, was lost over another one, for as long as a client
/// waits for it.
async fn finish_anew(
    transactions: &Transactions,
    pool: &Pool,
    name: &str,
    about: &ServerAbout,
) -> Heard {
    let (began, sql) = (clock::now(), finish(name));
    while clock::since(began) < FINISH {
        let upstream = pool.upstream.load_full();
        if pool.core.held().is_none()
            && let Ok(mut server) = transactions.open(&upstream).await
            && let Ok(answer) = decisions::run_in_time(&mut server, sql.as_bytes()).await
        {
            match answer.error {
                None => return Heard::Done,
                // The step was taken before the connection was lost, or who recovers was quicker.
                Some(error) if error.code == sqlstate::UNDEFINED_OBJECT => {
                    if upstream.name != about.upstream.name {
                        tracing::warn!(
                            name,
                            host = upstream.name,
                            before = about.upstream.name,
                            "a part of a committed transaction is not prepared on the server that has taken over: \
                             it was committed there, or is lost if no standby had it"
                        );
                    }
                    return Heard::Done;
                }
                Some(error) if decisions::is_busy(&error) => {}
                Some(_) => return Heard::Lost,
            }
        }
        pool.cluster.load().suspect(&upstream.name, clock::now());
        tokio::time::sleep(PAUSE).await;
    }
    Heard::Lost
}

/// What has become of a step that a server has answered.
fn ended(
    server: &ServerConn,
    step: Step,
    error: Option<ErrorReport>,
) -> (Heard, Option<ErrorReport>) {
    match error {
        // Who recovers was quicker, and did what the row says.
        Some(error)
            if matches!(step, Step::Finish(_) | Step::Revoke(_))
                && error.code == sqlstate::UNDEFINED_OBJECT =>
        {
            (Heard::Done, None)
        }
        Some(error) => (Heard::Refused, Some(error)),
        // Whatever it said: who is in a block still has not committed.
        None if server.exchange.status() != TransactionStatus::Idle => {
            (Heard::Refused, Some(undone("a shard did not end it")))
        }
        None => (Heard::Done, None),
    }
}

/// Asks the decider's server, whichever is it by now, for as long as work waits for a primary.
async fn resolve(transactions: &Transactions, pool: &Pool, record: &Record) -> Heard {
    let (id, database) = (record.id.as_str(), record.database.as_str());
    let began = clock::now();
    let limit = pool.settings().timeouts.hold.unwrap_or(PATIENCE);
    loop {
        // If it has decided, its row may be gone by then, and who asks would have it say no.
        let sent = record.deciding_since();
        if sent.is_none_or(|sent| clock::since(sent) >= decisions::KEPT / 2) {
            return Heard::Lost;
        }
        let upstream = pool.upstream.load_full();
        if pool.core.held().is_none()
            && let Ok(mut server) = transactions.open(&upstream).await
            && let Ok(committed) = decisions::settle(&mut server, id, database).await
        {
            tracing::info!(
                transaction = id,
                committed,
                "a transaction whose answer was lost is resolved"
            );
            return if committed {
                Heard::Done
            } else {
                Heard::Refused
            };
        }
        pool.cluster.load().suspect(&upstream.name, clock::now());
        if clock::since(began) >= limit {
            return Heard::Lost;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Who recovers has stored a row first.
fn revoked(error: ErrorReport) -> ErrorReport {
    match error.code.to_string().as_str() {
        "23505" => undone("it was given up before it was decided"),
        _ => error,
    }
}

/// Nothing of the transaction stays.
fn undone(why: &str) -> ErrorReport {
    let text = format!("the transaction was not committed: {why}");
    ErrorReport::error(sqlstate::SERIALIZATION_FAILURE, text)
        .hint("Nothing of it was committed; run it again.")
}

fn lost(report: &ErrorReport) -> ErrorReport {
    let undone = undone(&report.message);
    match &report.detail {
        Some(detail) => undone.detail(detail.clone()),
        None => undone,
    }
}

/// Nobody knows what has become of it.
pub fn unknown(why: &str) -> ErrorReport {
    let text = "it is not known whether the transaction was committed";
    ErrorReport::error(sqlstate::TRANSACTION_RESOLUTION_UNKNOWN, text).detail(why)
}
