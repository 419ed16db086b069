//! Statements that a client names in SQL: by `PREPARE`, `EXECUTE`, `DEALLOCATE`, and where `EXECUTE`
//! is a part of another statement.
//!
//! On Postgres they have their names together with those of the protocol. A server has them under
//! names of ours, which are put into the text in the place of the client's; what it lacks is made
//! there in front of the text. A name comes and goes when the server says that it does: it is the
//! server that reads what is prepared, and whose errors the client gets.
//!
//! Names that cannot be told (beyond ASCII, where not both sides are UTF-8) and those in a `DO` are left to the
//! server, and bind the client to it.

mod names;
mod plan;

use std::collections::HashSet;
use std::sync::Arc;

use pgherd_config::PoolMode;
use pgherd_session::{ClientStatements, Edit, Owed, ServerName, Statement};
use pgherd_sql::{Deed, LexOptions, Lexer, Mention, Mentions, Pin, PinSet, mentions};
use pgherd_wire::backend::{self, TransactionStatus};
use pgherd_wire::error::ErrorReport;
use pgherd_wire::{frame, frontend, sqlstate};

use crate::judgement::{Judgement, Listens};
use crate::session::by_sql::names::Laid;
use crate::session::by_sql::plan::Plan;
use crate::session::requests::{forget_unnamed, note, refuse, refuse_query};
use crate::session::sequence::{self, Way};
use crate::session::statements::{close_all, put_bare};
use crate::session::turn::{Check, Turn};
use crate::session::{attempt, behind, listen, reads, reasons};

pub(super) use names::{Names, are_laid, clear_away, completed, end, laid, not_laid, settle};

/// What has become of a simple query.
pub(super) enum Taken {
    /// It is no business of this place.
    No,
    /// It is to be looked at again when nothing is owed any more.
    Later,
    /// It is answered.
    Answered,
    /// It is to be passed on with this text in place of its own.
    Rewritten(Rewritten),
}

/// A text in which the names are those of the server.
pub(super) struct Rewritten {
    /// The text.
    pub(super) text: Vec<u8>,
    /// Where it differs from the client's.
    pub(super) edits: Vec<Edit>,
}

/// What has become of the text of a statement that is to be bound or described.
pub(super) enum Brought {
    /// It goes to the server as it is.
    AsItIs,
    /// It goes there as it is, and the client's own names are those of the server for a moment.
    Bare,
    /// It goes there as this, a Parse message behind its name.
    As(Vec<u8>),
    /// The client will be told why not.
    Refused,
    /// It is to be looked at again.
    Later,
}

/// Takes a simple query of `total` bytes, which is here as a whole. The judgement becomes that of
/// what is run.
pub(super) fn take(turn: &mut Turn<'_>, total: usize, judgement: &mut Judgement) -> Taken {
    let concerned = judgement.names || judgement.inspects;
    if !concerned {
        return Taken::No;
    }
    let body = &turn.relay.up.unjudged()[frame::HEADER_LEN..total];
    let text = body.strip_suffix(&[0]).unwrap_or(body).to_vec();
    if turn.relay.mode == PoolMode::Session {
        reasons::prepared(turn, &text);
        return Taken::No;
    }
    let Ok(named) = mentions(&text, turn.relay.lexing) else {
        return Taken::No;
    };
    if let Some(report) = turn.names.take_failure() {
        refuse_query(turn, total, &report);
        clear_away(turn);
        return Taken::Answered;
    }
    let exchange = &turn.server.exchange;
    if named.escaped {
        refuse_query(turn, total, &escaped());
        return Taken::Answered;
    }
    if named.crowded {
        refuse_query(turn, total, &beyond_counting());
        return Taken::Answered;
    }
    let cut = exchange.unsynced() || exchange.skipping();
    let failed = exchange.status() == TransactionStatus::Failed;
    let hangs = || {
        named.changes()
            || failed
            || judgement.inspects
            || turn.names.change()
            || is_unsettled(turn, &named)
    };
    if exchange.owes() && !cut && hangs() {
        // Where the transaction and the names stand by then is part of the answer.
        turn.check = Check::Quiet;
        return Taken::Later;
    }
    if failed && named.statements == 1 && !cut {
        // It is refused, whatever it names.
        return Taken::No;
    }
    if !cut && forgets_one(turn, &named) {
        return answered(turn, total);
    }
    let plan = match Plan::new(turn, &text, &named) {
        Ok(plan) => plan,
        Err(report) => {
            refuse_query(turn, total, &report);
            return Taken::Answered;
        }
    };
    if plan.left {
        judgement.pins.insert(Pin::Prepare);
    }
    let inspects = judgement.inspects || plan.inspects();
    if failed && !cut && plan.lacks(turn) && mends(&text, turn.relay.lexing) {
        // What is to be put there first is refused in the failed block, and the text would run without it.
        refuse_query(turn, total, &behind_a_failure());
        return Taken::Answered;
    }
    if !cut
        && inspects
        && let Some(report) = unshown(turn, plan.binds())
    {
        refuse_query(turn, total, &report);
        return Taken::Answered;
    }
    if cut && (plan.asks(turn) || inspects) {
        // Nothing can be put in front of it without ending what is under way.
        if named.changes() {
            judgement.pins.insert(Pin::Prepare);
        }
        return Taken::No;
    }
    if plan.is_empty() && !inspects {
        return Taken::No;
    }
    simple(
        turn,
        total,
        judgement,
        &Script {
            text: &text,
            named,
            plan,
        },
    )
}

/// A text with what its names mean.
struct Script<'a> {
    text: &'a [u8],
    named: Mentions<'a>,
    plan: Plan,
}

fn simple(
    turn: &mut Turn<'_>,
    total: usize,
    judgement: &mut Judgement,
    script: &Script<'_>,
) -> Taken {
    let (named, plan) = (&script.named, &script.plan);
    let only = named.only().map(|mention| mention.deed);
    let mut given = None;
    if only == Some(Deed::Execute)
        && let [used] = &*plan.uses
    {
        *judgement = run(used);
        given = Given::to(turn, script);
        if let Some(given) = &given {
            given.add_to(judgement);
        }
    }
    if turn.server.exchange.goes_ahead() {
        // A Sync of ours may stand before it.
        turn.check = Check::Ahead;
        return Taken::Later;
    }
    let mut uses = plan.uses.iter();
    if let Some(report) = uses.find_map(|used| unanswerable(turn, used)) {
        refuse_query(turn, total, &report);
        return Taken::Answered;
    }
    let waits = |judgement: &Judgement| sequence::must_wait(turn, judgement);
    let given_waits = given.as_ref().is_some_and(|given| waits(&given.judgement));
    let mut uses = plan.uses.iter();
    if waits(judgement) || given_waits || uses.any(|used| waits(&used.judgement)) {
        turn.check = Check::Quiet;
        return Taken::Later;
    }
    let ours = [&*judgement].into_iter();
    let ours = ours.chain(given.as_ref().map(|given| &given.judgement));
    let mut all = ours.chain(plan.uses.iter().map(|used| &used.judgement));
    if let Some(report) = all.find_map(|judgement| sequence::objection(turn, judgement)) {
        turn.check = Check::None;
        refuse_query(turn, total, &report);
        return Taken::Answered;
    }
    turn.check = Check::None;
    let inspects = judgement.inspects || plan.inspects();
    if inspects {
        match std::mem::take(&mut turn.names.laid) {
            Laid::Open => {}
            // Should one of its statements fail, the text must not run, and whether it does it could not tell.
            Laid::No | Laid::Asked | Laid::Failed(_) => {
                lay_open(turn);
                turn.relay.up.insert(&frontend::SYNC);
                turn.server.exchange.sent(Owed::OurSync);
                turn.names.laid = Laid::Asked;
                turn.check = Check::UnderWay;
                return Taken::Later;
            }
        }
    }
    for used in &plan.uses {
        sequence::sent(turn, &used.judgement, Way::Simple);
        if only != Some(Deed::Execute) {
            note(turn, run(used));
        }
    }
    if only != Some(Deed::Execute) {
        behind::sent(turn.server, judgement, script.text, turn.relay.lexing);
        sequence::sent(turn, judgement, Way::Simple);
    }
    if let Some(Given { text, judgement }) = &given {
        behind::sent_by_name(turn.server, judgement, text, turn.relay.lexing);
        sequence::sent(turn, judgement, Way::Simple);
    }
    let before = turn.server.exchange.unsynced();
    let rewritten = if inspects {
        plan.note_bare(turn);
        Some(Rewritten {
            text: script.text.to_vec(),
            edits: Vec::new(),
        })
    } else {
        plan.have_remarked(turn, script.text);
        let sets = judgement.follows || judgement.hides || !judgement.pins.is_empty();
        plan.carry_out(turn, script.text, sets)
    };
    plan.note_uses(turn);
    if !before && turn.server.exchange.unsynced() {
        // Should it fail, the server must not wait for a Sync that the client has no reason to send.
        turn.relay.up.insert(&frontend::SYNC);
        turn.server.exchange.sent(Owed::OurSync);
    }
    match rewritten {
        Some(rewritten) => Taken::Rewritten(rewritten),
        None => {
            refuse_query(turn, total, &crowded());
            clear_away(turn);
            Taken::Answered
        }
    }
}

/// What an EXECUTE gives its statement: expressions, which are worked out when it runs and may call
/// anything.
struct Given {
    /// They as a query of their own.
    text: Vec<u8>,
    /// What that does.
    judgement: Judgement,
}

impl Given {
    /// What stands behind the only name in the text, if anything does.
    fn to(turn: &Turn<'_>, script: &Script<'_>) -> Option<Self> {
        let behind = script.text.get(script.named.only()?.at.end..)?;
        if behind.iter().all(u8::is_ascii_whitespace) || behind == b";" {
            return None;
        }
        let text = [b"select ", behind].concat();
        let judgement = turn.relay.judge(&text);
        Some(Self { text, judgement })
    }

    /// Makes the judgement of a statement that of its run with this.
    fn add_to(&self, judgement: &mut Judgement) {
        let given = &self.judgement;
        judgement.pins = judgement.pins.union(given.pins);
        if given.follows {
            // As in what is run by its name.
            judgement.pins.insert(Pin::SetConfig);
        }
        judgement.runs = judgement.runs.max(given.runs);
        judgement.steady &= given.steady;
        judgement.only_reads &= given.only_reads;
        judgement.inspects |= given.inspects;
        judgement.relexes |= given.relexes;
    }
}

/// Whether a text begins with what gets a server out of a failed block, so that what stands behind it runs.
fn mends(text: &[u8], how: LexOptions) -> bool {
    const ENDS: [&[u8]; 4] = [b"rollback", b"abort", b"commit", b"end"];
    let mut lexer = Lexer::new(text, how);
    let mut token = || lexer.token().ok().flatten();
    let mut first = token();
    while first.is_some_and(|token| token.is(b';')) {
        first = token();
    }
    let Some(first) = first else {
        return false;
    };
    ENDS.iter().any(|word| first.is_word(word))
        || first.is_word(b"prepare") && token().is_some_and(|next| next.is_word(b"transaction"))
}

/// Why the server at hand must not be asked to run a statement, if it must not.
fn unanswerable(turn: &Turn<'_>, used: &Statement<Judgement>) -> Option<ErrorReport> {
    match listen::asks(turn.relay, &used.tail) {
        true => Some(listen::unanswered()),
        false => reads::objection(turn.relay, used.query(), &used.judgement),
    }
}

/// What running a statement by its name does.
fn run(used: &Statement<Judgement>) -> Judgement {
    let mut judgement = used.judgement;
    if judgement.follows {
        // What it does to settings is only followed where it is bound by the protocol.
        judgement.follows = false;
        judgement.pins.insert(Pin::SetConfig);
    }
    if judgement.listens != Listens::Nothing {
        // The server itself listens then.
        judgement.listens = Listens::Nothing;
        judgement.pins.insert(Pin::Listen);
    }
    judgement
}

/// Brings the server what the text of a statement of the protocol names. It is bound, or only
/// described. `tail` is the statement's Parse message behind the name.
pub(super) fn bring(
    turn: &mut Turn<'_>,
    judgement: &Judgement,
    tail: &[u8],
    binds: bool,
) -> Brought {
    let end = tail.iter().position(|byte| *byte == 0);
    let (text, types) = tail.split_at(end.unwrap_or(tail.len()));
    let Ok(named) = mentions(text, turn.relay.lexing) else {
        return Brought::AsItIs;
    };
    if named.escaped {
        refuse(turn, escaped());
        return Brought::Refused;
    }
    turn.attempt.names();
    let changes = named.changes();
    let exchange = &turn.server.exchange;
    if changes && !binds || exchange.status() == TransactionStatus::Failed {
        return Brought::AsItIs;
    }
    let listed = judgement.inspects && binds;
    let hangs = (changes || listed) && (exchange.replies_owed() > 0 || turn.names.change());
    if exchange.owes() && (hangs || is_unsettled(turn, &named)) {
        turn.check = Check::Quiet;
        return Brought::Later;
    }
    if changes && turn.names.change() {
        // Which of its portals comes first is not followed.
        reasons::bind(turn, PinSet::of(&[Pin::Prepare]));
        return Brought::AsItIs;
    }
    let plan = match Plan::new(turn, text, &named) {
        Ok(plan) => plan,
        Err(report) => {
            refuse(turn, *report);
            return Brought::Refused;
        }
    };
    if plan.left {
        reasons::bind(turn, PinSet::of(&[Pin::Prepare]));
    }
    let inspects = binds && (judgement.inspects || plan.inspects());
    if plan.is_empty() && !inspects {
        return Brought::AsItIs;
    }
    if inspects && let Some(report) = unshown(turn, plan.binds()) {
        refuse(turn, report);
        return Brought::Refused;
    }
    for used in &plan.uses {
        if let Some(report) = unanswerable(turn, used) {
            refuse(turn, report);
            return Brought::Refused;
        }
        note(turn, run(used));
        if !sequence::sent(turn, &used.judgement, Way::Extended) {
            return Brought::Refused;
        }
    }
    if inspects {
        lay_open(turn);
        plan.note_uses(turn);
        return Brought::Bare;
    }
    let rewritten = plan.carry_out(turn, text, false);
    plan.note_uses(turn);
    match rewritten {
        Some(mut rewritten) => {
            turn.names.edits = rewritten.edits;
            rewritten.text.extend_from_slice(types);
            Brought::As(rewritten.text)
        }
        None => {
            refuse(turn, crowded());
            Brought::Refused
        }
    }
}

/// Whether what some name means hangs on what is under way, or has to be told of it.
fn is_unsettled(turn: &Turn<'_>, named: &Mentions<'_>) -> bool {
    let names = named.found.iter();
    let names: HashSet<&[u8]> = names
        .filter_map(|mention| mention.name.as_deref())
        .collect();
    let exchange = &turn.server.exchange;
    names.iter().any(|name| ServerName::is_reserved(name))
        || exchange.settles_later(|name| names.contains(name))
}

/// Forgets a statement for this client, if the text does nothing else; others may be using what
/// servers have of it.
fn forgets_one(turn: &mut Turn<'_>, named: &Mentions<'_>) -> bool {
    let Some(Mention {
        deed: Deed::Deallocate,
        name: Some(name),
        // The server remarks on another.
        cut: false,
        ..
    }) = named.only()
    else {
        return false;
    };
    let client = turn.relay.statements.as_deref_mut();
    client.is_some_and(|client| client.remove(name).is_some())
}

/// Answers a DEALLOCATE that the server does not see; nothing else is owed before it.
fn answered(turn: &mut Turn<'_>, total: usize) -> Taken {
    turn.check = Check::None;
    turn.unnamed_here = false;
    forget_unnamed(turn);
    // The name is gone, and is not taken back.
    attempt::end(turn);
    let built = backend::command_complete(turn.server.flow.made(), b"DEALLOCATE");
    debug_assert!(built.is_ok(), "a tag is short");
    let status = turn.server.exchange.status();
    backend::ready_for_query(turn.server.flow.made(), status);
    turn.relay.up.hide(total);
    turn.queries += 1;
    Taken::Answered
}

/// Sees to it that the server has the client's statements under the client's own names, and no others:
/// so it can tell which there are.
fn lay_open(turn: &mut Turn<'_>) {
    close_all(turn);
    // Should anything of that be left behind, a look at the session finds it.
    behind::unseen(turn.server);
    let known = turn.relay.statements.as_deref();
    let all: Vec<_> = known
        .into_iter()
        .flat_map(ClientStatements::iter)
        .map(|(name, held)| (Box::from(name), Arc::clone(&held.statement)))
        .collect();
    for (name, statement) in all {
        put_bare(turn, &name, &statement);
        turn.names.rubbish.push(name);
    }
}

/// Why the server cannot tell which statements the client has, if it cannot: one that cannot be read again has to
/// stay where it is. `binds` if there is to be one.
fn unshown(turn: &Turn<'_>, binds: bool) -> Option<ErrorReport> {
    let client = turn.relay.statements.as_deref();
    let bound = binds || client.is_some_and(ClientStatements::is_bound);
    bound.then(|| {
        ErrorReport::error(
            sqlstate::FEATURE_NOT_SUPPORTED,
            "pg_prepared_statements is not supported while there is a prepared statement that names a moment",
        )
    })
}

fn escaped() -> ErrorReport {
    ErrorReport::error(
        sqlstate::FEATURE_NOT_SUPPORTED,
        "names of prepared statements in U&\"…\" are not supported beyond ASCII in this encoding",
    )
    .hint("Use UTF8 for the database and as client_encoding, or session mode.")
}

fn behind_a_failure() -> ErrorReport {
    ErrorReport::error(
        sqlstate::FEATURE_NOT_SUPPORTED,
        "names of prepared statements in one text with the end of a failed transaction are not supported where the server \
         has yet to get the statements",
    )
    .hint("Send the ROLLBACK by itself.")
}

fn beyond_counting() -> ErrorReport {
    ErrorReport::error(
        sqlstate::PROGRAM_LIMIT_EXCEEDED,
        "one text names prepared statements more often than is followed",
    )
    .hint("Send it in parts.")
}

fn crowded() -> ErrorReport {
    ErrorReport::error(
        sqlstate::PROGRAM_LIMIT_EXCEEDED,
        "one text names more prepared statements than a server may hold (pool.max_prepared_statements)",
    )
}
