//! Which transaction it is that a client is about to commit, asked before the server can commit it.
//!
//! A transaction that may have written says its id and puts a mark into the log
//! ([`pgherd_cluster::outcome`]). In a block this is asked in the write of the statement that wrote, so that it is
//! known when the COMMIT comes. Where COMMIT, or the Sync of a transaction without a block, comes in the same
//! write, it is kept back until the answer is here: that takes one more round trip to the server, and nothing less
//! will do. Were it sent along, a server that is frozen or cut off with both would leave us without
//! an answer to ask by. So what was not sent is not committed, and what was sent has a mark.
//!
//! A simple query has no place for a question between its statements and its commit. One that is a whole block
//! is sent in two parts, and one that is a single statement about rows between a BEGIN and a COMMIT of ours, which
//! makes no difference to such a statement; what it says of its end is kept back until it is committed. Whatever is
//! neither is not resolved.

use pgherd_cluster::outcome::{Mark, Origin};
use pgherd_config::{CommitResolution, PoolMode};
use pgherd_session::{CopyFlow, Owed};
use pgherd_sql::{Runs, closed_block};
use pgherd_wire::backend::{self, TransactionStatus, tag};
use pgherd_wire::error::ErrorReport;
use pgherd_wire::frontend::{self, Target};
use pgherd_wire::{frame, sqlstate};

use crate::judgement::{Judgement, Listens};
use crate::outcomes::Resolved;
use crate::session::ahead;
use crate::session::attempt::Left;
use crate::session::replies::confused;
use crate::session::turn::{Check, Loss, Turn};

/// Asks for the mark of the transaction under way; of one that has no id yet, all is NULL but the last. What is refused in
/// recovery, where nothing has an id, stands behind the CASE.
const QUESTION: &[u8] = b"\
SELECT i.x, CASE WHEN i.x IS NOT NULL THEN pg_catalog.pg_logical_emit_message(true, 'pgherd', '') END, \
CASE WHEN i.x IS NOT NULL THEN \
pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, 8) END, \
pg_catalog.pg_last_wal_replay_lsn() \
FROM (SELECT pg_catalog.pg_current_xact_id_if_assigned() AS x) i";

/// The name of the question on a server.
pub(super) const NAME: &[u8] = b"pgherd_vow";

/// What is kept back until the question is answered.
#[derive(Debug)]
enum Rest {
    /// A Sync.
    Sync,
    /// A COMMIT: the whole message.
    Commit(Box<[u8]>),
    /// A COMMIT of ours.
    Tail,
}

/// What is known of the transaction under way.
#[derive(Debug, Default)]
pub(super) struct Vow {
    /// The server; `None` if nothing is asked there.
    origin: Option<Origin>,
    /// It may have written since it was last asked.
    writes: bool,
    /// It may have written at all, or have done something else that its end makes known.
    dirty: bool,
    /// The last statement has a snapshot, so that a question behind it takes none that the client would not have.
    rows: bool,
    /// Something was executed since the last Sync.
    runs: bool,
    /// The block was opened by us, or in the pipeline under way: so what comes behind runs in it or not at all.
    begun: bool,
    opened: bool,
    /// It may be committed without our knowing which it is.
    blind: bool,
    mark: Option<Mark>,
    rest: Option<Rest>,
    /// What commits it was sent.
    sent: bool,
    /// The client was told that it is committed, but not that the server is ready.
    told: bool,
    /// What a simple query in a block of ours says in the end.
    kept: Option<Box<[u8]>>,
}

/// How far a transaction had got whose server is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// That is not known.
    Unclear,
    /// Nothing that commits it was sent, or it has only read.
    Before,
    /// It may be committed, and this tells which it was.
    Sent(Mark),
}

/// How a simple query is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// As it came.
    Whole,
    /// In two parts, the second from here on.
    Split(usize),
    /// In a block of ours.
    Alone,
}

/// Begins a turn.
pub(super) fn begin(turn: &mut Turn<'_>) {
    let relay = &turn.relay;
    turn.vow.origin = turn.server.marks.filter(|_| {
        relay.mode != PoolMode::Session
            && !relay.reading
            && !relay.commit_fails
            && relay.pool.settings().commit_resolution == CommitResolution::On
    });
}

/// A BEGIN of the client's that cannot fail goes before what comes now.
pub(super) fn opened(turn: &mut Turn<'_>) {
    turn.vow.opened = true;
}

/// Whether what is sent now runs in a block, or not at all.
fn in_block(turn: &Turn<'_>) -> bool {
    let exchange = &turn.server.exchange;
    exchange.status() == TransactionStatus::InTransaction || turn.vow.begun || turn.vow.opened
}

/// Takes note of a statement that is sent.
pub(super) fn noted(turn: &mut Turn<'_>, judgement: &Judgement) {
    if turn.vow.origin.is_none() {
        return;
    }
    let inside = in_block(turn);
    let steady = turn.server.about.upstream.hidden.0.is_steady();
    let left = turn.attempt.left != Left::No;
    let vow = &mut turn.vow;
    let leaves = judgement.leaves && judgement.single && !judgement.begins;
    if leaves && (judgement.ends || !judgement.commits) {
        return;
    }
    if judgement.leaves || judgement.listens != Listens::Nothing || vow.sent || left {
        // What stands in one text with an end, or behind one that is not answered, belongs to another transaction.
        vow.blind = true;
    } else if judgement.steady {
        vow.rows = judgement.rows;
        vow.blind |= !inside && !steady;
    } else if judgement.begins {
        // What else stands in its text is asked about later.
        vow.writes |= judgement.runs != Runs::Nothing;
        vow.dirty |= vow.writes;
        vow.rows = false;
    } else if judgement.sets || judgement.follows && judgement.runs == Runs::Nothing {
        vow.rows = false;
    } else {
        vow.writes |= vow.mark.is_none();
        vow.dirty = true;
        vow.rows = judgement.rows;
        vow.blind |= !inside && !judgement.rows;
    }
}

/// A statement is bound of which nothing is known, or something is sent unread.
pub(super) fn unseen(turn: &mut Turn<'_>) {
    turn.vow.writes |= turn.vow.mark.is_none();
    turn.vow.dirty = true;
    turn.vow.rows = false;
    turn.vow.blind |= !in_block(turn) || turn.attempt.left != Left::No;
}

/// Nothing of what is sent can be told.
pub(super) fn unread(turn: &mut Turn<'_>) {
    turn.vow.blind = true;
}

/// The portal of a BEGIN is executed in a pipeline.
pub(super) fn begun(turn: &mut Turn<'_>) {
    turn.vow.begun = true;
}

/// A statement is bound in a pipeline.
pub(super) fn bound(turn: &mut Turn<'_>, judgement: &Judgement) {
    turn.vow.sent |= judgement.ends;
}

/// Something is executed.
#[inline]
pub(super) fn executes(turn: &mut Turn<'_>) {
    turn.vow.runs = true;
}

impl Vow {
    /// Whether anything is asked on this server.
    pub(super) fn is_wanted(&self) -> bool {
        self.origin.is_some()
    }

    /// Whether nothing but what commits the transaction is under way.
    pub(super) fn is_sent(&self) -> bool {
        self.sent
    }

    /// Whether what would commit the transaction waits for an answer.
    pub(super) fn keeps_back(&self) -> bool {
        self.rest.is_some()
    }
}

fn is_on(turn: &Turn<'_>) -> bool {
    turn.vow.origin.is_some() && !turn.vow.blind
}

/// Whether a COMMIT must wait until it is known which transaction it ends, which is asked if it was not yet.
/// False if it may be sent, and is.
pub(super) fn keeps_back(turn: &mut Turn<'_>, judgement: &Judgement, simple: bool) -> bool {
    if !is_on(turn) || !judgement.ends || turn.vow.sent || !in_block(turn) {
        return false;
    }
    let exchange = &turn.server.exchange;
    if exchange.skipping() || exchange.copy() != CopyFlow::None || simple && exchange.unsynced() {
        turn.vow.blind = true;
        return false;
    }
    if turn.vow.writes {
        match simple {
            true => ask(turn),
            false => ask_within(turn),
        }
    } else if !turn.server.exchange.asks() && turn.server.exchange.replies_owed() == 0 {
        turn.vow.sent = simple;
        return false;
    }
    turn.check = Check::Quiet;
    true
}

/// Takes a Sync if it has to wait until it is known which transaction it ends; `total` is its length.
pub(super) fn sync(turn: &mut Turn<'_>, total: usize) -> bool {
    let runs = std::mem::take(&mut turn.vow.runs);
    let inside = in_block(turn);
    turn.vow.begun = false;
    if ends(turn) {
        turn.vow.blind |= turn.vow.writes && runs && !inside;
        turn.check = Check::Quiet;
        return false;
    }
    let exchange = &turn.server.exchange;
    let asks = is_on(turn) && turn.vow.writes && runs && exchange.unsynced();
    if !asks || exchange.skipping() || exchange.copy() != CopyFlow::None {
        // It commits what has run, unless that was a block.
        let outside = !inside && exchange.status() == TransactionStatus::Idle;
        turn.vow.blind |= asks && !inside || outside && runs && turn.vow.dirty;
        return false;
    }
    if inside {
        if turn.vow.rows {
            ask_within(turn);
        }
        return false;
    }
    if turn.beginning {
        // Hangs on whether a BEGIN succeeds that is not answered yet.
        turn.vow.blind = true;
        return false;
    }
    ask_within(turn);
    turn.server.exchange.sent(Owed::Sync);
    turn.relay.up.insert(&frontend::FLUSH);
    turn.relay.up.hide(total);
    turn.attempt.ends();
    turn.vow.rest = Some(Rest::Sync);
    turn.check = Check::Quiet;
    true
}

/// How a simple query is to be sent.
pub(super) fn way(turn: &mut Turn<'_>, text: &[u8], judgement: &Judgement) -> Way {
    turn.vow.blind |= commits_pipeline(turn);
    if !is_on(turn) || judgement.steady {
        return Way::Whole;
    }
    if judgement.listens != Listens::Nothing {
        turn.vow.blind = true;
        return Way::Whole;
    }
    let exchange = &turn.server.exchange;
    let alone = exchange.is_unasked() && !turn.beginning;
    let plain = !judgement.follows && !judgement.names && !judgement.sets;
    if alone && plain && turn.relay.mode == PoolMode::Transaction {
        // A cancel must not hit a BEGIN of ours, behind which the statement would run alone.
        if judgement.rows {
            if turn.relay.control.runs_nowhere() {
                return Way::Alone;
            }
            turn.relay.control.runs_on(&turn.server.about);
        }
        if let Some(at) = closed_block(text, turn.relay.lexing) {
            return Way::Split(at);
        }
    }
    // What only sets something for its session writes nothing.
    turn.vow.blind |= commits_itself(turn, judgement) && !judgement.sets;
    Way::Whole
}

/// Takes note of a simple query that is sent with names of ours in the place of the client's, and so as a whole.
pub(super) fn by_name(turn: &mut Turn<'_>, judgement: &Judgement) {
    turn.vow.blind |= commits_pipeline(turn);
    turn.vow.blind |= commits_itself(turn, judgement) && !judgement.steady;
}

/// Whether a simple query commits what a pipeline has done before it that has no Sync. Since Postgres 18 it does not, but what
/// does then comes behind it.
fn commits_pipeline(turn: &Turn<'_>) -> bool {
    turn.server.exchange.unsynced() && turn.vow.dirty && !in_block(turn)
}

/// Whether a simple query that is sent as a whole commits what it does.
fn commits_itself(turn: &Turn<'_>, judgement: &Judgement) -> bool {
    let only_begins = judgement.begins && !judgement.commits && !judgement.leaves;
    !in_block(turn) && !only_begins
}

/// Sends a simple query in this way; false if it is to be sent as it came.
pub(super) fn send(turn: &mut Turn<'_>, way: Way, total: usize) -> bool {
    if way == Way::Whole {
        // It need not even be here as a whole.
        return false;
    }
    let text: Box<[u8]> = match turn.relay.up.unjudged().get(frame::HEADER_LEN..total) {
        Some([text @ .., 0]) => text.into(),
        _ => return false,
    };
    turn.relay.up.hide(total);
    match way {
        Way::Whole => return false,
        Way::Split(at) => split(turn, &text, at),
        Way::Alone => alone(turn, &text),
    }
    turn.attempt.ends();
    turn.check = Check::Quiet;
    true
}

fn split(turn: &mut Turn<'_>, text: &[u8], at: usize) {
    let (head, tail) = text.split_at(at);
    let mut commit = bytes::BytesMut::new();
    let built = frontend::query(turn.relay.up.made(), head)
        .and_then(|()| frontend::query(&mut commit, tail));
    debug_assert!(built.is_ok(), "each is shorter than the whole");
    turn.server.exchange.sent(Owed::Head);
    ask(turn);
    turn.server.exchange.sent(Owed::Query);
    turn.vow.blind = false;
    // What it notifies others of has no id before its commit.
    turn.vow.dirty = true;
    turn.vow.rest = Some(Rest::Commit(commit[..].into()));
}

fn alone(turn: &mut Turn<'_>, text: &[u8]) {
    let (up, exchange) = (&mut turn.relay.up, &mut turn.server.exchange);
    let built = ahead::open(up, exchange, b"BEGIN").and_then(|()| frontend::query(up.made(), text));
    debug_assert!(built.is_ok(), "the text was in a message as long");
    turn.server.exchange.sent(Owed::Body);
    ask(turn);
    // The statement is in the same request.
    turn.commits(Some(1));
    turn.leaves();
    turn.server.exchange.sent(Owed::Tail);
    turn.vow.rest = Some(Rest::Tail);
}

/// Whether the end of a transaction is under way. Behind it nothing is sent before its answer: what is lost must be one
/// transaction.
fn ends(turn: &Turn<'_>) -> bool {
    turn.vow.sent || turn.vow.is_wanted() && turn.attempt.left != Left::No
}

/// Behind a simple query that has just been sent: asks for the mark, if there is a place for that.
pub(super) fn behind(turn: &mut Turn<'_>) {
    if ends(turn) {
        turn.check = Check::Quiet;
    } else if is_on(turn) && turn.vow.writes && turn.vow.rows && in_block(turn) {
        ask(turn);
    }
}

/// Asks by a simple query.
fn ask(turn: &mut Turn<'_>) {
    let built = frontend::query(turn.relay.up.made(), QUESTION);
    debug_assert!(built.is_ok(), "the question is short");
    turn.server.exchange.sent(Owed::Question);
    turn.vow.writes = false;
}

/// Asks within a pipeline.
fn ask_within(turn: &mut Turn<'_>) {
    let out = turn.relay.up.made();
    // In a block, the portal of the last time may still be there.
    let built = frontend::close(out, Target::Portal, NAME)
        .and_then(|()| frontend::close(out, Target::Statement, NAME))
        .and_then(|()| frontend::parse(out, NAME, QUESTION, &[]))
        .and_then(|()| frontend::bind(out, NAME, NAME, &[], &[], &[]))
        .and_then(|()| frontend::execute(out, NAME, 0));
    debug_assert!(built.is_ok(), "the question is short");
    turn.server.exchange.sent(Owed::Asking);
    turn.vow.writes = false;
}

/// Takes the row in front that answers the question, of `total` bytes with its header.
pub(super) fn learn(turn: &mut Turn<'_>, total: usize) -> Result<(), Loss> {
    let read = || {
        let body = turn.server.flow.unjudged().get(frame::HEADER_LEN..total)?;
        let row = backend::DataRow::parse(body).ok()?;
        let values: Vec<_> = row.values().collect();
        Some(marked(turn.vow.origin?, &values))
    };
    match read() {
        Some(mark) => turn.vow.mark = mark.or(turn.vow.mark),
        None => return Err(confused(turn, "a row that cannot be read")),
    }
    turn.server.exchange.received(tag::DATA_ROW, |_| {});
    turn.server.flow.hide(total);
    Ok(())
}

/// The mark that a row tells of; `None` if the transaction has no id, and so has written nothing.
fn marked(origin: Origin, row: &[Option<&[u8]>]) -> Option<Mark> {
    let text = |at: usize| std::str::from_utf8((*row.get(at)?)?).ok();
    let timeline = u32::from_str_radix(text(2)?, 16).ok()?;
    let replayed = match text(3) {
        Some(lsn) => Some(lsn.parse().ok()?),
        None => None,
    };
    Some(Mark {
        system: origin.system,
        timeline,
        begins: origin.begins(timeline, replayed),
        born: origin.born,
        xid: text(0)?.parse().ok()?,
        end: text(1)?.parse().ok()?,
        replayed,
    })
}

/// The question in front has failed, or the block in which it stands had failed before.
pub(super) fn failed(turn: &mut Turn<'_>, total: usize) {
    let here = turn.server.flow.unjudged();
    let report = ErrorReport::parse(&here[frame::HEADER_LEN..total.min(here.len())]);
    if report.code != sqlstate::IN_FAILED_SQL_TRANSACTION {
        // It was a cancel request that came late. The client's block has failed by it, so its COMMIT must not look
        // like a success.
        turn.relay.commit_fails = true;
        turn.vow.blind = true;
    }
    turn.server.exchange.received(tag::ERROR_RESPONSE, |_| {});
    turn.server.flow.hide(total);
}

/// Keeps the CommandComplete in front back, of `total` bytes with its header.
pub(super) fn keep(turn: &mut Turn<'_>, total: usize) {
    turn.vow.kept = turn.server.flow.unjudged().get(..total).map(Into::into);
}

/// The COMMIT of ours in front has been answered, by a message of `total` bytes with its header.
pub(super) fn tailed(turn: &mut Turn<'_>, total: usize) {
    let said = turn.server.flow.unjudged().get(frame::HEADER_LEN..total);
    if said != Some(b"COMMIT\0") && turn.vow.kept.is_some() {
        // The statement has succeeded, and what failed then was the question.
        let mut worded = bytes::BytesMut::new();
        ErrorReport::error(
            sqlstate::QUERY_CANCELED,
            "canceling statement due to user request",
        )
        .encode_error(&mut worded);
        turn.vow.kept = Some(worded[..].into());
    }
}

/// What was kept back, for the client.
pub(super) fn kept(turn: &mut Turn<'_>) -> Option<Box<[u8]>> {
    turn.vow.kept.take()
}

/// The client was told that its transaction is committed.
pub(super) fn told(turn: &mut Turn<'_>) {
    turn.vow.told |= turn.vow.sent;
}

/// Sends what was kept back, once it is known which transaction it ends.
pub(super) fn go_on(turn: &mut Turn<'_>) {
    if turn.vow.rest.is_none() || turn.server.exchange.asks() {
        return;
    }
    match turn.vow.rest.take() {
        Some(Rest::Sync) => turn.relay.up.insert(&frontend::SYNC),
        // What stands before it has failed, and the client has its answer.
        Some(Rest::Commit(_)) if !turn.server.exchange.owes() => {
            if turn.server.exchange.status() == TransactionStatus::Idle {
                over(turn);
            }
            return;
        }
        Some(Rest::Commit(message)) => turn.relay.up.insert(&message),
        Some(Rest::Tail) => {
            let built = frontend::query(turn.relay.up.made(), b"COMMIT");
            debug_assert!(built.is_ok(), "the text is short");
        }
        None => return,
    }
    turn.vow.sent = true;
}

/// The client is gone: what was kept back is not sent any more, nor is it owed.
pub(super) fn give_up(turn: &mut Turn<'_>) {
    if turn.vow.rest.take().is_some() {
        turn.server.exchange.unsend();
    }
}

/// The client's transaction is over: the server says that it is idle.
pub(super) fn over(turn: &mut Turn<'_>) {
    if turn.vow.rest.is_some() || turn.server.exchange.asks() {
        // What has ended stood before the one that is asked about.
        return;
    }
    turn.vow = Vow {
        origin: turn.vow.origin,
        // What was sent behind it was taken for a part of it.
        blind: turn.server.exchange.owes_client(),
        ..Vow::default()
    };
}

/// How far the transaction was when its server was lost.
pub(super) fn standing(turn: &Turn<'_>) -> Standing {
    match (&turn.vow, turn.vow.mark) {
        _ if !is_on(turn) => Standing::Unclear,
        (vow, _) if !vow.sent => Standing::Before,
        // There is nothing in it that could be committed.
        (vow, None) if !vow.dirty && turn.server.about.upstream.hidden.0.is_steady() => {
            Standing::Before
        }
        (_, Some(mark)) => Standing::Sent(mark),
        (_, None) => Standing::Unclear,
    }
}

/// Its client is told that nobody knows what became of its transaction: says in the log why nobody is asked, where that
/// is usually done.
pub(super) fn unresolvable(turn: &Turn<'_>) {
    let pool = &turn.relay.pool;
    if pool.settings().commit_resolution == CommitResolution::Off {
        return;
    }
    pool.outcomes.count(Resolved::Unknown);
    tracing::warn!(
        client = turn.relay.control.id,
        database = pool.key.database,
        host = turn.server.about.upstream.name,
        why = why_unclear(turn),
        "a commit whose answer was lost cannot be resolved"
    );
}

fn why_unclear(turn: &Turn<'_>) -> &'static str {
    let vow = &turn.vow;
    match vow.mark {
        _ if turn.server.marks.is_none() => "nothing can be marked on its connection",
        _ if vow.origin.is_none() => "its session marks nothing here",
        _ if vow.blind => "it may be committed without having been asked for its mark",
        None => "it has no mark",
        Some(_) => "more than its end is not answered",
    }
}

/// What a server would answer whose COMMIT has succeeded, with all that the client was not told yet; `None` if it waits for more.
pub(super) fn success(turn: &Turn<'_>) -> Option<Vec<u8>> {
    if turn.server.exchange.replies_owed() != 1 {
        // What became of the COMMIT answers one request.
        return None;
    }
    let mut out = bytes::BytesMut::new();
    if let Some(kept) = &turn.vow.kept {
        out.extend_from_slice(kept);
    }
    let answered = turn.server.exchange.acknowledge(&mut out, turn.vow.told);
    answered.then(|| out.to_vec())
}

/// Whether a notice only says that the commit waits no longer for a standby since the server goes down: what became of the
/// commit, the client is told for certain.
pub(super) fn is_resolved_by_us(turn: &Turn<'_>, total: usize) -> bool {
    if !matches!(standing(turn), Standing::Sent(_)) {
        return false;
    }
    let body = turn.server.flow.unjudged().get(frame::HEADER_LEN..total);
    body.is_some_and(|body| {
        let report = ErrorReport::parse(body);
        matches!(
            report.code,
            sqlstate::ADMIN_SHUTDOWN | sqlstate::CRASH_SHUTDOWN
        )
    })
}
