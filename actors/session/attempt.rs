//! The first request of a turn, and what it takes to send it once more as if for the first time.
//!
//! An attempt lasts until something of the answer goes to the client, or until too much was sent to be
//! kept. Up to then the client's bytes stay in its flow, and what they have changed can be taken back.

use std::sync::Arc;
use std::time::Instant;

use pgherd_config::PoolMode;
use pgherd_planted::{self as planted, Bug};
use pgherd_session::{Again, ClientStatements, Failure, Held, Role, Sent, Unnamed, Verdict, again};
use pgherd_sql::{Pin, PinSet, Runs};
use pgherd_wire::backend::{TransactionStatus, tag};
use pgherd_wire::error::{ErrorReport, Severity};
use pgherd_wire::{frame, sqlstate};

use crate::clock;
use crate::judgement::Judgement;
use crate::pool::Pool;
use crate::session::opened::Opened;
use crate::session::turn::{Loss, Turn};
use crate::session::{listen, meaning, names, replies};

/// No notification of a Postgres is larger: a name and 8000 bytes.
const NOTIFICATION_MAX: usize = 16 * 1024;

/// How often a turn has begun anew, and until when it may.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tries {
    /// No further try begins behind this.
    pub(super) deadline: Option<Instant>,
    /// How often it was for each of [`Again::ALL`].
    counts: [u32; Again::ALL.len()],
}

impl Tries {
    /// None so far.
    pub(super) fn until(deadline: Option<Instant>) -> Self {
        Self {
            deadline,
            counts: [0; Again::ALL.len()],
        }
    }

    /// Those from here on may begin until then.
    pub(super) fn extend(&mut self, deadline: Option<Instant>) {
        self.deadline = deadline;
    }

    /// Whether there may be one more for this reason.
    fn allow(&self, again: Again, now: Instant) -> bool {
        let in_time = again.was_run() || self.deadline.is_none_or(|deadline| now < deadline);
        in_time && self.count(again) < again.limit()
    }

    /// How many there were for this reason.
    pub(super) fn count(&self, again: Again) -> u32 {
        self.counts[again as usize]
    }

    /// Counts one more.
    pub(super) fn add(&mut self, again: Again) {
        let count = &mut self.counts[again as usize];
        *count = count.saturating_add(1);
    }
}

/// What a request has done to the names that its client knows.
#[derive(Debug)]
enum Renamed {
    Prepared(Box<[u8]>),
    Closed(Box<[u8]>, Held<Judgement>),
}

/// Whether anything may run behind the end of the transaction under way, which then is not lost with that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// Nothing does: it is not to end, as far as is known.
    No,
    /// Its end was sent, and nothing behind it.
    Asked,
    /// Something was sent behind its end, or in one text with it.
    Passed,
}

/// What was sent without being sure to run in a block, and is not answered yet: it may be committed by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Bare {
    /// Nothing was.
    Nothing,
    /// As far as their texts tell, it only reads.
    Reads,
    /// It may write.
    Writes,
}

/// An attempt, or what is left of one that is over.
#[derive(Debug)]
pub(super) struct Attempt {
    /// What was sent in this turn; told on also when the attempt is over.
    pub(super) sent: Sent,
    /// Whether anything may run behind the end of the transaction under way.
    pub(super) left: Left,
    /// What of it may be committed by itself.
    pub(super) bare: Bare,
    /// What is sent now runs behind a BEGIN up to the next Sync, or not at all.
    pub(super) begun: bool,
    /// The same behind a BEGIN that the client was told of before, and which cannot fail by itself.
    ahead: bool,
    /// The server was written to.
    pub(super) written: bool,
    live: bool,
    /// Another server is as good as this one.
    movable: bool,
    /// Something in it goes by a name that stands in SQL.
    named: bool,
    /// Requests that have ended.
    requests: u32,
    tries: Tries,
    pins: PinSet,
    opened: Option<Box<Opened>>,
    unnamed: Option<Unnamed<Judgement>>,
    renamed: Vec<Renamed>,
}

impl Attempt {
    /// One that has not begun.
    pub(super) fn new(tries: Tries) -> Self {
        Self {
            sent: Sent::default(),
            left: Left::No,
            bare: Bare::Nothing,
            begun: false,
            ahead: false,
            written: false,
            live: false,
            movable: false,
            named: false,
            requests: 0,
            tries,
            pins: PinSet::EMPTY,
            opened: None,
            unnamed: None,
            renamed: Vec::new(),
        }
    }

    /// Takes note of a statement that is sent; `inside` is whether it runs in a block, or not at all.
    fn note(&mut self, judgement: &Judgement, inside: bool) {
        // A text that only begins a block is a part of it as a whole.
        if !inside && (judgement.leaves || !judgement.begins) {
            let bare = match judgement.only_reads {
                true => Bare::Reads,
                false => Bare::Writes,
            };
            self.bare = self.bare.max(bare);
        }
        let begins = judgement.begins && !judgement.commits && judgement.runs == Runs::Nothing;
        let only_leaves = judgement.leaves && judgement.single;
        self.left = match self.left {
            Left::No if only_leaves => Left::Asked,
            Left::No if !judgement.leaves => Left::No,
            Left::Asked if only_leaves => Left::Asked,
            Left::No | Left::Asked | Left::Passed => Left::Passed,
        };
        let steady = judgement.steady || begins;
        self.sent.steady &= steady;
        // What is defined is refused by a node in recovery before anything of it runs.
        self.sent.known &= judgement.runs < Runs::Unknown || judgement.alters;
        if self.requests > 0 {
            self.sent.more = true;
            self.sent.steady_behind &= steady;
        }
    }

    /// Takes note of a statement that names others. Postgres tells each time that one of those does not fit
    /// its tables, until its client prepares it anew: so do we. Nor may what stands on the server for a
    /// moment stay there, which goes with the Sync.
    pub(super) fn names(&mut self) {
        self.named = true;
    }

    /// A request ends here.
    #[inline]
    pub(super) fn ends(&mut self) {
        self.requests = self.requests.saturating_add(1);
    }

    /// Takes note of something that is sent unread; `inside` as in [`Attempt::note`].
    fn unread(&mut self, inside: bool) {
        if self.left == Left::Asked {
            self.left = Left::Passed;
        }
        if !inside {
            self.bare = Bare::Writes;
        }
        self.sent.steady = false;
        self.sent.known = false;
        self.sent.steady_behind = false;
        self.sent.more |= self.requests > 0;
    }

    /// Takes note that the end of a transaction is sent.
    pub(super) fn leaves(&mut self) {
        if self.left == Left::No {
            self.left = Left::Asked;
        }
    }

    /// All that was sent is answered: what stands open now, the server has said.
    #[inline]
    pub(super) fn settle(&mut self) {
        self.left = Left::No;
        self.bare = Bare::Nothing;
        self.begun = false;
        self.ahead = false;
    }

    /// No end of a transaction is under way any more; `inside` is whether the server has told of a block, in which runs
    /// all that was sent.
    #[inline]
    pub(super) fn ended(&mut self, inside: bool) {
        self.left = Left::No;
        if inside {
            self.bare = Bare::Nothing;
        } else {
            // The block behind that BEGIN has ended, too.
            self.ahead = false;
        }
    }

    /// Takes note of the unnamed statement that another has replaced.
    pub(super) fn replaced(&mut self, unnamed: Unnamed<Judgement>) {
        if self.live {
            self.unnamed.get_or_insert(unnamed);
        }
    }

    /// Keeps the block that the request opens in passing.
    pub(super) fn opens(&mut self, opened: Box<Opened>) {
        self.ahead = true;
        if self.live {
            self.sent.read_only |= opened.is_read_only();
            self.opened = Some(opened);
        }
    }
}

/// Begins an attempt where nothing stands in its way.
pub(super) fn begin(turn: &mut Turn<'_>) {
    let relay = &mut *turn.relay;
    let attempt = &mut turn.attempt;
    if relay.mode == PoolMode::Session {
        // What its statements are is the server's own affair.
        return attempt.unread(true);
    }
    if !turn.server.exchange.is_unasked() || relay.commit_fails || relay.block.is_some() {
        return;
    }
    attempt.live = true;
    attempt.pins = relay.pins;
    attempt.movable = relay.pins.is_empty();
    relay.up.keep();
}

/// Ends the attempt: from here on nothing is sent again.
#[inline]
pub(super) fn end(turn: &mut Turn<'_>) {
    if turn.attempt.live {
        turn.attempt.live = false;
        turn.attempt.renamed.clear();
        turn.relay.up.release();
    }
}

/// Takes note of a name that the client's request has taken.
pub(super) fn prepared(turn: &mut Turn<'_>, name: &[u8]) {
    renames(turn, || Renamed::Prepared(name.into()));
}

/// Takes note of a name that the client's request has given up.
pub(super) fn closed(turn: &mut Turn<'_>, name: &[u8], held: &Held<Judgement>) {
    renames(turn, || Renamed::Closed(name.into(), held.clone()));
}

/// What is not sent again need not be taken back, which takes the memory of statements that are closed.
fn renames(turn: &mut Turn<'_>, renamed: impl FnOnce() -> Renamed) {
    if !turn.relay.up.can_rewind() {
        end(turn);
    }
    if turn.attempt.live {
        turn.attempt.renamed.push(renamed());
    }
}

/// Takes note of a statement that is sent.
pub(super) fn note(turn: &mut Turn<'_>, judgement: &Judgement) {
    let inside = is_inside(turn);
    turn.attempt.note(judgement, inside);
    if judgement.leaves {
        meaning::leaves(turn);
    }
}

/// Takes note of something that is sent unread.
pub(super) fn unread(turn: &mut Turn<'_>) {
    let inside = is_inside(turn);
    turn.attempt.unread(inside);
}

/// Whether what is sent now runs in a block, or not at all. A BEGIN that is not answered may have failed, and what stands
/// behind its request then runs alone, as it does behind the end of a block.
pub(super) fn is_inside(turn: &Turn<'_>) -> bool {
    let attempt = &turn.attempt;
    let told = turn.server.exchange.status() != TransactionStatus::Idle;
    attempt.begun || attempt.left == Left::No && (attempt.ahead || told)
}

/// Whether anything that is not answered may be committed although nothing has ended a block.
pub(super) fn is_bare(turn: &Turn<'_>) -> bool {
    let steady = match turn.attempt.bare {
        Bare::Nothing => true,
        Bare::Reads => turn.server.about.upstream.hidden.0.is_steady(),
        Bare::Writes => false,
    };
    // In a block that the server has told of, all runs that was sent.
    !steady && turn.server.exchange.status() == TransactionStatus::Idle
}

/// Whether all that was sent in this turn only reads, so that nothing can have been written.
pub(super) fn is_steady(turn: &Turn<'_>) -> bool {
    turn.attempt.sent.steady && turn.server.about.upstream.hidden.0.is_steady()
}

/// Whether the request is to be sent again after the connection has broken.
pub(super) fn after_break(turn: &Turn<'_>) -> Option<Again> {
    decide(
        turn,
        &match turn.attempt.written {
            true => Failure::Cut,
            false => Failure::Unsent,
        },
    )
}

/// Whether the request is to be sent again after the server has said this.
pub(super) fn after_error(turn: &Turn<'_>, report: &ErrorReport) -> Option<Again> {
    if !turn.attempt.live {
        return None;
    }
    let is_standby = turn.server.role == Role::Recovering;
    if turn.relay.reading && is_of_standby(report) && (is_steady(turn) || is_standby) {
        // The primary may answer what a standby has to refuse.
        let again = decide(turn, &Failure::Standby);
        if again.is_some() {
            return again;
        }
    }
    let lost = report.code == sqlstate::INVALID_SQL_STATEMENT_NAME;
    let failure = Failure::Refused {
        code: report.code,
        severity: report.severity,
        role: turn.server.role,
        shared: turn.server.exchange.uses().is_some()
            && !turn.attempt.named
            && (lost || names::is_reshaped(report)),
    };
    decide(turn, &failure)
}

/// Whether the request is to be sent again although the server did not get as far as that, since it has said this: what
/// it was cancelled for was another's timeout, or an operator's doing.
pub(super) fn after_ahead(turn: &Turn<'_>, report: &ErrorReport) -> Option<Again> {
    let cancelled = report.code == sqlstate::QUERY_CANCELED && !turn.limits.has_cancelled();
    cancelled.then(|| decide(turn, &Failure::Unsent)).flatten()
}

/// Whether a standby may have said this where a primary would not: it has no unlogged tables and no
/// serializable transactions, may not know the latest definitions, and cancels what stands in the way of its
/// recovery.
pub(super) fn is_of_standby(report: &ErrorReport) -> bool {
    matches!(
        report.code,
        sqlstate::FEATURE_NOT_SUPPORTED
            | sqlstate::SERIALIZATION_FAILURE
            | sqlstate::OBJECT_NOT_IN_PREREQUISITE_STATE
            | sqlstate::READ_ONLY_SQL_TRANSACTION
            | sqlstate::UNDEFINED_TABLE
    )
}

fn decide(turn: &Turn<'_>, failure: &Failure) -> Option<Again> {
    let attempt = &turn.attempt;
    if !attempt.live || !turn.relay.up.can_rewind() {
        return None;
    }
    let steady = turn.server.about.upstream.hidden.0.is_steady();
    let sent = Sent {
        steady: attempt.sent.steady && steady || planted::is(Bug::RetryWrite),
        steady_behind: attempt.sent.steady_behind && steady,
        known: attempt.sent.known || turn.server.ran < Runs::Unknown,
        read_only: attempt.sent.read_only || wants_read_only(turn),
        more: attempt.sent.more,
    };
    let again = again(&sent, failure)?;
    let possible = match again {
        // All that was sent has to be answered first, and what names a moment is never read again.
        Again::Statement => {
            !turn.relay.up.is_mid_message() && !turn.relay.pins.contains(Pin::Moment)
        }
        Again::Recovering => attempt.movable && expects_writes(&turn.relay.pool),
        Again::Unsent | Again::Read | Again::Turned => attempt.movable,
    };
    let allowed = possible && attempt.tries.allow(again, clock::now());
    (allowed && is_prelude(&turn.server.flow.waiting())).then_some(again)
}

/// Whether there is going to be a server that writes: where there is but one that was never seen to do so,
/// it will not.
fn expects_writes(pool: &Pool) -> bool {
    pool.retries.has_seen_writes() || pool.cluster.load().is_led()
}

/// Whether the client wants its transactions to be READ ONLY unless it says otherwise.
fn wants_read_only(turn: &Turn<'_>) -> bool {
    let wanted = turn.relay.parameters.get("default_transaction_read_only");
    wanted.is_some_and(|value| !matches!(value, "off" | "false" | "no" | "0"))
}

/// Whether these messages come before anything is done, so that they may be forgotten. `waiting` is
/// what the client would be sent next.
fn is_prelude(mut waiting: &[u8]) -> bool {
    while !waiting.is_empty() {
        let Ok(Some(header)) = frame::header(waiting) else {
            return false;
        };
        let Some((message, rest)) = waiting.split_at_checked(header.total()) else {
            return false;
        };
        let body = &message[frame::HEADER_LEN..];
        let prelude = match header.tag {
            tag::PARSE_COMPLETE
            | tag::BIND_COMPLETE
            | tag::CLOSE_COMPLETE
            | tag::PARAMETER_DESCRIPTION
            | tag::ROW_DESCRIPTION
            | tag::NO_DATA => true,
            tag::COMMAND_COMPLETE => matches!(body, b"BEGIN\0" | b"START TRANSACTION\0"),
            // How a server says that it goes down at once.
            tag::NOTICE_RESPONSE => {
                let report = ErrorReport::parse(body);
                report.severity == Severity::Warning
                    && matches!(
                        report.code,
                        sqlstate::ADMIN_SHUTDOWN | sqlstate::CRASH_SHUTDOWN
                    )
            }
            _ => false,
        };
        if !prelude {
            return false;
        }
        waiting = rest;
    }
    true
}

/// Hears out a server whose answers are not wanted any more; what it says goes nowhere.
///
/// # Errors
/// [`Loss::Again`] once all has come, or cannot come any more.
pub(super) fn hear_out(turn: &mut Turn<'_>, again: Again) -> Result<(), Loss> {
    let server: &mut crate::server::ServerConn = &mut *turn.server;
    while server.flow.resume() {
        let header = match frame::header(server.flow.unjudged()) {
            Ok(Some(header)) => header,
            Ok(None) => break,
            Err(_) => return Err(Loss::Again(again)),
        };
        let total = header.total();
        match header.tag {
            tag::READY_FOR_QUERY => {
                let Some(message) = server.flow.unjudged().get(..total) else {
                    break;
                };
                let status = match message.get(frame::HEADER_LEN) {
                    Some(b'I') => TransactionStatus::Idle,
                    Some(b'T') => TransactionStatus::InTransaction,
                    _ => TransactionStatus::Failed,
                };
                server.exchange.ready(status);
            }
            // What the server is set to is not known any more.
            tag::PARAMETER_STATUS => return Err(Loss::Again(again)),
            // It is no answer, and comes but once.
            tag::NOTIFICATION_RESPONSE if total <= NOTIFICATION_MAX => {
                let Some(message) = server.flow.unjudged().get(..total) else {
                    break;
                };
                let (pool, own) = (&turn.relay.pool, turn.relay.control.id);
                let body = &message[frame::HEADER_LEN..];
                let told = listen::renumbered(pool, own, server.about.backend, body);
                turn.relay.down.insert(&told.unwrap_or_default());
            }
            tag::ERROR_RESPONSE => {
                let mut client = turn.relay.statements.as_deref_mut();
                let statements = &mut server.statements;
                server.exchange.received(tag::ERROR_RESPONSE, |undo| {
                    replies::take_back(statements, client.as_deref_mut(), undo);
                });
            }
            other => {
                if server.exchange.received(other, |_| {}) == Verdict::Unexpected {
                    return Err(Loss::Again(again));
                }
            }
        }
        server.flow.hide(total);
        while server.exchange.local().is_some() {}
        if !server.exchange.owes() {
            return Err(Loss::Again(again));
        }
    }
    Ok(())
}

/// Takes back what the request has changed: the session is where it was before.
pub(super) fn rewind(turn: &mut Turn<'_>) {
    let relay = &mut *turn.relay;
    let attempt = &mut turn.attempt;
    attempt.live = false;
    let rewound = relay.up.rewind();
    debug_assert!(rewound, "it was looked at before");
    relay.up.release();
    relay.pins = attempt.pins;
    relay.opened = attempt.opened.take();
    relay.block = None;
    relay.set_parameters(Arc::clone(&relay.settled));
    let Some(statements) = relay.statements.as_deref_mut() else {
        return;
    };
    restore(statements, &mut attempt.renamed);
    if let Some(unnamed) = attempt.unnamed.take() {
        statements.unnamed = unnamed;
    }
}

fn restore(statements: &mut ClientStatements<Judgement>, renamed: &mut Vec<Renamed>) {
    // The latest first: a name may have been closed and taken again.
    for renamed in renamed.drain(..).rev() {
        match renamed {
            Renamed::Prepared(name) => drop(statements.remove(&name)),
            Renamed::Closed(name, held) => statements.insert(&name, held),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use pgherd_session::Again;
    use pgherd_wire::backend;
    use pgherd_wire::error::ErrorReport;
    use pgherd_wire::sqlstate;

    use super::{Tries, is_prelude};

    #[test]
    fn tries_are_limited_by_number_and_time() {
        let now = Instant::now();
        let mut tries = Tries::until(Some(now + Duration::from_secs(1)));
        for again in Again::ALL {
            assert!(tries.allow(again, now));
            // What has run may have run for long.
            assert_eq!(
                tries.allow(again, now + Duration::from_secs(1)),
                again.was_run()
            );
            tries.add(again);
        }
        assert!(!tries.allow(Again::Statement, now) && !tries.allow(Again::Read, now));
        assert!(tries.allow(Again::Recovering, now) && tries.allow(Again::Unsent, now));
    }

    #[test]
    fn only_what_comes_before_anything_is_done_may_be_forgotten() {
        let mut prelude = bytes::BytesMut::new();
        prelude.extend_from_slice(&backend::PARSE_COMPLETE);
        prelude.extend_from_slice(&backend::BIND_COMPLETE);
        backend::command_complete(&mut prelude, b"BEGIN").expect("a short tag");
        ErrorReport::warning(sqlstate::ADMIN_SHUTDOWN, "going down").encode_notice(&mut prelude);
        assert!(is_prelude(b"") && is_prelude(&prelude));
        assert!(!is_prelude(&prelude[..prelude.len() - 1]), "it is cut off");
        let mut done = prelude.clone();
        backend::command_complete(&mut done, b"SET").expect("a short tag");
        assert!(!is_prelude(&done));
        let mut row = prelude.clone();
        backend::data_row(&mut row, &[]).expect("a short row");
        assert!(!is_prelude(&row));
        let mut told = prelude;
        ErrorReport::notice("raised").encode_notice(&mut told);
        assert!(!is_prelude(&told));
    }
}
