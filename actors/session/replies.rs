//! What a server's messages mean for the client that holds it.

use std::sync::Arc;

use pgherd_session::{
    Again, ClientStatements, Closed, Owed, Role, ServerStatements, Undo, Unnamed, Verdict,
    is_turned_away,
};
use pgherd_sql::{Pin, PinSet};
use pgherd_wire::backend::{self, TransactionStatus, tag};
use pgherd_wire::error::{ErrorReport, Severity};
use pgherd_wire::{frame, frontend, sqlstate};

use crate::judgement::Judgement;
use crate::server::Cancels;
use crate::session::attempt::Left;
use crate::session::limit::{Expired, Over};
use crate::session::mark::{self, Standing};
use crate::session::reasons::Undone;
use crate::session::resolve::Unresolved;
use crate::session::turn::{Check, Loss, Rollback, Turn};
use crate::session::{
    ahead, attempt, by_sql, follow, listen, meaning, names, reasons, shape, shards, unreplicated,
    watch,
};
use pgherd_config::PoolMode;

/// A message that must be looked into is kept in memory up to this size; larger ones are passed
/// on unread.
const LOOK_MAX: usize = 256 * 1024;

/// A row up to this size goes on as a whole, so that a client whose server is lost in the middle of it can
/// be told; a larger one goes on as it comes.
const ROW_HELD_MAX: usize = 8 * 1024;

/// A session keeps no more parameters than this; no Postgres reports so many.
const PARAMETERS_MAX: usize = 256;

/// What a client is told to do about a write whose answer is missing.
const UNKNOWN: &str = "Whether the write took effect is unknown; check before you repeat it.";

/// Judges everything that has been read from the server.
pub(super) fn judge(turn: &mut Turn<'_>) -> Result<(), Loss> {
    if let Some(again) = turn.again {
        return attempt::hear_out(turn, again);
    }
    if judge_at_once(turn) {
        return Ok(());
    }
    while turn.server.flow.resume() {
        // Also behind the last message: a look at what is not there yet is the end of each round.
        reply(turn);
        let header = match frame::header(turn.server.flow.unjudged()) {
            Ok(Some(header)) => header,
            Ok(None) => break,
            Err(error) => return Err(confused(turn, &error.to_string())),
        };
        let total = header.total();
        if turn.unreplicated.keeps() {
            if header.tag == tag::NOTICE_RESPONSE && total <= LOOK_MAX && is_partial(turn, header)?
            {
                break;
            }
            unreplicated::release(turn, total);
        }
        if turn.server.exchange.at_question()
            && matches!(header.tag, tag::DATA_ROW | tag::ERROR_RESPONSE)
            && total <= LOOK_MAX
        {
            if turn.server.flow.unjudged().len() < total {
                break;
            }
            if header.tag == tag::DATA_ROW {
                mark::learn(turn, total)?;
                continue;
            }
        }
        match header.tag {
            // Rows are most of the traffic, and nothing in them is of interest.
            tag::DATA_ROW | tag::COPY_DATA => {
                if total <= ROW_HELD_MAX && is_partial(turn, header)? {
                    break;
                }
                match turn.server.exchange.received(header.tag, |_| {}) {
                    Verdict::Forward if !turn.unreplicated.is_told() => {
                        turn.server.flow.pass_alike(header.tag, total);
                    }
                    verdict => act(turn, verdict, header.tag, total)?,
                }
                continue;
            }
            // These say nothing beyond their tag.
            tag::PARSE_COMPLETE | tag::BIND_COMPLETE | tag::CLOSE_COMPLETE => {
                if header.body > 0 {
                    return Err(confused(turn, "a message is longer than its kind can be"));
                }
                let verdict = turn.server.exchange.received(header.tag, |_| {});
                act(turn, verdict, header.tag, total)?;
                continue;
            }
            _ => {}
        }
        if total <= LOOK_MAX && is_partial(turn, header)? {
            break;
        }
        match header.tag {
            // Notifications come before it, and they may be on their way.
            tag::READY_FOR_QUERY if !listen::may_be_ready(turn, total)? => break,
            tag::READY_FOR_QUERY => ready(turn, total)?,
            tag::NOTIFICATION_RESPONSE if total <= LOOK_MAX => listen::pass_on(turn, total),
            tag::ERROR_RESPONSE => {
                error(turn, total)?;
                if let Some(again) = turn.again {
                    return attempt::hear_out(turn, again);
                }
            }
            tag::NOTICE_RESPONSE => notice(turn, total)?,
            other => {
                if total <= LOOK_MAX {
                    learn(turn, other, total);
                }
                let failed = other == tag::COMMAND_COMPLETE && is_failed_commit(turn, total);
                let ours = turn.server.exchange.in_setup();
                let early = other == tag::COMMAND_COMPLETE && !ours && turn.limits.has_cancelled();
                if other == tag::COMMAND_COMPLETE && !ours {
                    completes(turn, total);
                }
                if is_end(other) && turn.server.exchange.completes_one() {
                    turn.statements = turn.statements.saturating_add(1);
                }
                match turn.server.exchange.received(other, |_| {}) {
                    Verdict::Forward if failed => {
                        // The block is over.
                        turn.relay.commit_fails = false;
                        let verdict = match turn.server.exchange.fails_next() {
                            true => Verdict::Swallow,
                            false => Verdict::Replace(worded(&failed_commit())),
                        };
                        act(turn, verdict, other, total)?;
                    }
                    verdict => {
                        turn.listen.completed(other, &verdict);
                        // What is not for the client must not reach it later, either.
                        let kept = early
                            && matches!(verdict, Verdict::Forward)
                            && unreplicated::keep(turn, total);
                        let verdict = if kept { Verdict::Swallow } else { verdict };
                        act(turn, verdict, other, total)?;
                    }
                }
                if ours {
                    is_set_up(turn);
                }
            }
        }
    }
    Ok(())
}

/// Judges what has been read from the server where it is a whole answer that changes nothing, and nothing
/// is under way that any part of it would have to be looked at for.
#[inline]
fn judge_at_once(turn: &mut Turn<'_>) -> bool {
    let relay = &*turn.relay;
    let quiet = turn.check == Check::None
        && turn.rollback == Rollback::None
        && !turn.discarded
        && !turn.vow.is_wanted()
        && !turn.names.is_under_way()
        && !turn.limits.has_cancelled()
        && relay.mode != PoolMode::Statement
        && relay.block.is_none()
        && relay.listening.is_none()
        && !relay.commit_fails;
    let server: &mut crate::server::ServerConn = &mut *turn.server;
    if !quiet || server.flow.is_mid_message() {
        return false;
    }
    let answer = server.flow.unjudged();
    let total = answer.len();
    let Some(answered) = server.exchange.answered(answer) else {
        return false;
    };
    server.flow.pass(total);
    turn.queries += answered.replies;
    settle(turn);
    turn.settle();
    true
}

/// Whether the rest of the message is still to come, and can be waited for.
///
/// # Errors
/// Where nothing is owed, the server would be the next client's before the rest had come: so only what a
/// server may say at any time may be begun there.
#[inline]
fn is_partial(turn: &Turn<'_>, header: frame::Header) -> Result<bool, Loss> {
    if turn.server.flow.unjudged().len() >= header.total() {
        return Ok(false);
    }
    let at_any_time = matches!(
        header.tag,
        tag::NOTICE_RESPONSE
            | tag::NOTIFICATION_RESPONSE
            | tag::PARAMETER_STATUS
            | tag::ERROR_RESPONSE
            | tag::READY_FOR_QUERY
    );
    match at_any_time || turn.server.exchange.owes() {
        true => Ok(true),
        false => Err(confused(turn, "a message that nothing has asked for")),
    }
}

/// Gives the replies of ours whose turn has come, unless a message of the server is under way.
#[inline]
pub(super) fn reply(turn: &mut Turn<'_>) {
    // Looked at after each message, and mostly in vain.
    if turn.server.exchange.is_local() {
        give_replies(turn);
    }
}

#[cold]
fn give_replies(turn: &mut Turn<'_>) {
    while !turn.server.flow.is_mid_message()
        && let Some(reply) = turn.server.exchange.local()
    {
        if !reply.is_empty() {
            unreplicated::give(turn);
            turn.server.flow.insert(reply);
        }
    }
}

/// Whether a message ends the answer to a statement.
fn is_end(message: u8) -> bool {
    matches!(
        message,
        tag::COMMAND_COMPLETE | tag::PORTAL_SUSPENDED | tag::EMPTY_QUERY_RESPONSE
    )
}

/// Takes note of what a CommandComplete tells the client of its transaction.
fn completes(turn: &mut Turn<'_>, total: usize) {
    if turn.server.exchange.keeps_back() {
        mark::keep(turn, total);
    } else if turn.server.exchange.at_tail() {
        mark::tailed(turn, total);
    } else if turn.server.flow.unjudged().get(frame::HEADER_LEN..total) == Some(b"COMMIT\0") {
        mark::told(turn);
        shards::transaction_ends(turn.relay);
    } else if turn.relay.spread.is_some()
        && turn.server.flow.unjudged().get(frame::HEADER_LEN..total) == Some(b"ROLLBACK\0")
        && !turn.server.exchange.has_following()
    {
        shards::transaction_ends(turn.relay);
    }
}

/// Whether this is the answer to the COMMIT of a block that was lost: a failed block says ROLLBACK
/// there, which many drivers take for success.
fn is_failed_commit(turn: &Turn<'_>, total: usize) -> bool {
    turn.relay.commit_fails
        && !turn.relay.block_refused
        && turn.committing
        && turn.server.flow.unjudged().get(frame::HEADER_LEN..total) == Some(b"ROLLBACK\0")
}

/// What is said of the COMMIT of a block that was lost.
pub(super) fn failed_commit() -> ErrorReport {
    ErrorReport::error(
        sqlstate::SERIALIZATION_FAILURE,
        "the transaction was lost with the connection to its server",
    )
    .hint("Nothing of it was committed; run it again.")
}

fn worded(report: &ErrorReport) -> Box<[u8]> {
    let mut worded = bytes::BytesMut::new();
    report.encode_error(&mut worded);
    worded[..].into()
}

#[inline]
fn act(turn: &mut Turn<'_>, verdict: Verdict, tag: u8, total: usize) -> Result<(), Loss> {
    match verdict {
        Verdict::Forward | Verdict::Replace(_) if turn.unreplicated.silences(tag) => {
            turn.server.flow.hide(total);
        }
        Verdict::Forward => turn.server.flow.pass(total),
        Verdict::Swallow => turn.server.flow.hide(total),
        Verdict::Replace(report) => {
            turn.server.flow.hide(total);
            turn.server.flow.insert(&report);
        }
        Verdict::Unexpected => {
            return Err(confused(turn, &format!("unexpected message type {tag}")));
        }
    }
    Ok(())
}

fn ready(turn: &mut Turn<'_>, total: usize) -> Result<(), Loss> {
    // One that is too large to be waited for is not there as a whole.
    let Some(message) = turn.server.flow.unjudged().get(..total) else {
        return Err(confused(turn, "a ReadyForQuery of an impossible length"));
    };
    let status = match backend::ReadyForQuery::parse(&message[frame::HEADER_LEN..]) {
        Ok(ready) => ready.status,
        Err(error) => return Err(confused(turn, &error.to_string())),
    };
    meaning::told(turn, status);
    if turn.server.exchange.at_our_sync() {
        let verdict = turn.server.exchange.ready(status);
        if turn.discarded {
            settle(turn);
        }
        by_sql::laid(turn);
        return act(turn, verdict, tag::READY_FOR_QUERY, total);
    }
    let headless = turn.server.exchange.is_headless();
    if turn.server.exchange.in_question() && !headless || turn.server.exchange.at_head() {
        let verdict = turn.server.exchange.ready(status);
        return act(turn, verdict, tag::READY_FOR_QUERY, total);
    }
    let hidden = turn.server.exchange.in_setup();
    let behind_sync = turn.server.exchange.at_sync();
    let verdict = turn.server.exchange.ready(status);
    if hidden {
        is_set_up(turn);
    } else {
        turn.queries += 1;
        turn.rollback = Rollback::None;
        by_sql::settle(turn);
        settle(turn);
        if status == TransactionStatus::Idle && turn.relay.block.is_some() {
            follow::idle(turn, behind_sync);
        }
        if status == TransactionStatus::Idle {
            follow::settled(turn);
        }
        let more = turn.relay.spread.is_some() && turn.server.exchange.owes_client();
        shards::stands(turn.relay, status, more);
        // The COMMIT may stand behind what was answered now.
        turn.answered();
        turn.relay.commit_fails &= status != TransactionStatus::Idle;
        if let Some(kept) = mark::kept(turn)
            && !turn.unreplicated.is_told()
        {
            turn.server.flow.insert(&kept);
        }
        if status == TransactionStatus::Idle {
            mark::over(turn);
        }
        // In the middle of data that nobody waits for any more there is no place for it.
        if !turn.server.exchange.owes() && !turn.relay.up.is_passing() {
            by_sql::clear_away(turn);
        }
    }
    // The client must not see itself in a transaction that it is sent away for.
    if status != TransactionStatus::Idle && turn.relay.mode == PoolMode::Statement {
        return Err(Loss::Fatal(Box::new(ErrorReport::fatal(
            sqlstate::FEATURE_NOT_SUPPORTED,
            "transaction blocks are not allowed in statement pooling mode",
        ))));
    }
    act(turn, verdict, tag::READY_FOR_QUERY, total)
}

/// Something of ours was answered that goes before what the client has sent. The client's cancel may find the server
/// once all of it is: what it cancels is to be the client's own.
fn is_set_up(turn: &Turn<'_>) {
    if !turn.server.exchange.in_setup() {
        turn.relay.control.runs_on(&turn.server.about);
    }
}

fn notice(turn: &mut Turn<'_>, total: usize) -> Result<(), Loss> {
    let renamed = names::renamed(turn, total);
    let resolved = mark::is_resolved_by_us(turn, total);
    let unreplicated = turn.limits.has_cancelled() && unreplicated::is_warning(turn, total);
    let verdict = match turn.server.exchange.received(tag::NOTICE_RESPONSE, |_| {}) {
        Verdict::Forward if resolved => Verdict::Swallow,
        Verdict::Forward if unreplicated => {
            turn.server.flow.hide(total);
            let told = unreplicated::tell(turn);
            turn.server.flow.insert(&told);
            return Ok(());
        }
        verdict => verdict,
    };
    let verdict = match (verdict, renamed) {
        (Verdict::Forward, Some(renamed)) => Verdict::Replace(renamed),
        (verdict, _) => verdict,
    };
    act(turn, verdict, tag::NOTICE_RESPONSE, total)
}

fn error(turn: &mut Turn<'_>, total: usize) -> Result<(), Loss> {
    let here = turn.server.flow.unjudged();
    let body = &here[frame::HEADER_LEN..total.min(here.len())];
    let peek = ErrorReport::peek(body);
    if peek.severity_v == b"FATAL" || peek.severity_v == b"PANIC" {
        return Err(fatal(turn, total));
    }
    if turn.server.exchange.in_question() {
        mark::failed(turn, total);
        return Ok(());
    }
    if turn.server.exchange.in_setup() {
        let report = ErrorReport::parse(body);
        return Err(ahead::failed(turn, report));
    }
    let report = ErrorReport::parse(body);
    if by_sql::are_laid(turn) {
        by_sql::not_laid(turn, total, &report);
        return Ok(());
    }
    // Also where it is sent again, what it calls may have been called here.
    follow::failed(turn);
    // What was kept back of a simple query is not said any more.
    mark::kept(turn);
    match attempt::after_error(turn, &report) {
        None => {}
        Some(Again::Statement) => return prepare_anew(turn, total),
        Some(again) => return Err(Loss::Again(again)),
    }
    let placed = match turn.server.exchange.has_following() && total <= LOOK_MAX {
        true => follow::placed(turn, &turn.server.flow.unjudged()[frame::HEADER_LEN..total]),
        false => None,
    };
    reasons::failed(turn, &report);
    doubt(turn);
    // Names are looked up before the error takes them back.
    let renamed = names::renamed(turn, total);
    by_sql::settle(turn);
    heal(turn, total);
    if let Some(block) = &mut turn.relay.block {
        block.fail();
    }
    turn.listen.excuse();
    watch::failed(turn);
    // Whatever was skipped, the unnamed statement is prepared anew before its next use.
    turn.unnamed_here = false;
    let again = turn.server.exchange.replaces_unnamed_later();
    let blamed = blame(turn, total, placed.as_deref());
    let server: &mut crate::server::ServerConn = &mut *turn.server;
    let statements = &mut server.statements;
    let relay = &mut *turn.relay;
    let (pins, mut client) = (&mut relay.pins, relay.statements.as_deref_mut());
    let verdict = server
        .exchange
        .received(tag::ERROR_RESPONSE, |undo| match undo {
            Undo::Bound(skipped) => *pins = pins.without(skipped),
            // Something behind a Sync of the same pipeline has made another since, or ended it.
            Undo::Unnamed | Undo::Kept(_) if again => {}
            undo => take_back(statements, client.as_deref_mut(), undo),
        });
    turn.check = match turn.check {
        // What was asked behind the next Sync is answered all the same.
        Check::UnderWay if server.exchange.surveys() => Check::UnderWay,
        Check::Quiet | Check::Goodbye => turn.check,
        _ => Check::None,
    };
    let verdict = match (verdict, renamed) {
        (Verdict::Forward, _) if blamed => Verdict::Swallow,
        (Verdict::Forward, Some(renamed)) => Verdict::Replace(renamed),
        (Verdict::Forward, None) => placed.map_or(Verdict::Forward, Verdict::Replace),
        (verdict, _) => verdict,
    };
    act(turn, verdict, tag::ERROR_RESPONSE, total)
}

/// Takes back what a message was to do that the server has refused or skipped.
pub(super) fn take_back(
    statements: &mut ServerStatements,
    client: Option<&mut ClientStatements<Judgement>>,
    undo: Undo<Judgement>,
) {
    match undo {
        // Who sends all of it again is as bound as before anyway.
        Undo::Nothing | Undo::Repeated | Undo::Bound(_) => {}
        Undo::Parsed {
            on_server,
            by_client,
        } => {
            if let Some(placed) = on_server {
                statements.remove(placed);
            }
            if let (Some(name), Some(client)) = (by_client, client) {
                client.remove(&name);
            }
        }
        Undo::Unnamed => {
            if let Some(client) = client {
                client.unnamed = Unnamed::None;
            }
        }
        Undo::Kept(unnamed) => {
            if let Some(client) = client {
                client.unnamed = *unnamed;
            }
        }
        Undo::Gone(gone) => statements.restore(*gone),
        Undo::Closed(closed) => {
            let Closed { name, held, gone } = *closed;
            if let Some(gone) = gone {
                statements.restore(gone);
            }
            if let Some(client) = client {
                client.insert(&name, held);
            }
        }
    }
}

/// A shared statement is not on the server, or not as it would be read now: nothing on it is believed
/// any more, and the request is sent again once the server has answered all of it.
fn prepare_anew(turn: &mut Turn<'_>, total: usize) -> Result<(), Loss> {
    let server: &mut crate::server::ServerConn = &mut *turn.server;
    let statements = &mut server.statements;
    statements.doubt_all();
    let mut client = turn.relay.statements.as_deref_mut();
    server.exchange.received(tag::ERROR_RESPONSE, |undo| {
        take_back(statements, client.as_deref_mut(), undo);
    });
    server.flow.hide(total);
    // What came before it is said again.
    server.flow.discard();
    if server.exchange.skipping() {
        turn.relay.up.insert(&frontend::SYNC);
        server.exchange.sent(Owed::OurSync);
    }
    turn.again = Some(Again::Statement);
    Ok(())
}

/// Whether it is a statement that a simple query runs which could not be prepared: the query's own error
/// is this one then.
fn blame(turn: &mut Turn<'_>, total: usize, placed: Option<&[u8]>) -> bool {
    let server: &mut crate::server::ServerConn = &mut *turn.server;
    match server.flow.unjudged().get(..total) {
        Some(message) => server.exchange.blame(placed.unwrap_or(message)),
        None => false,
    }
}

/// A statement that the server says it does not have, or has for another table than there is by
/// now, is prepared anew when it is used next.
fn heal(turn: &mut Turn<'_>, total: usize) {
    let server: &mut crate::server::ServerConn = &mut *turn.server;
    let Some(body) = server.flow.unjudged().get(frame::HEADER_LEN..total) else {
        return;
    };
    let report = ErrorReport::parse(body);
    let Some(placed) = server.exchange.uses() else {
        if report.code == sqlstate::INVALID_SQL_STATEMENT_NAME {
            // One that a text has named.
            server.statements.doubt_named(&report.message);
        }
        return;
    };
    if report.code == sqlstate::INVALID_SQL_STATEMENT_NAME {
        server.statements.remove(placed);
    } else if names::is_reshaped(&report) {
        server.statements.doubt(placed);
    }
}

/// Queries have been answered up to here: what they ended for certain is over.
fn settle(turn: &mut Turn<'_>) {
    let mut reset = std::mem::take(&mut turn.discarded);
    turn.undone = Undone::default();
    turn.statements = 0;
    if let Some(judgement) = turn.alone.take() {
        turn.relay.pins = turn
            .relay
            .pins
            .without(judgement.unpins)
            .union(judgement.pins);
        reset |= judgement.resets();
    }
    let set = turn.relay.pins.contains(Pin::Set) || turn.relay.pins.contains(Pin::SetConfig);
    if reset && !set {
        return_to_startup(turn);
    }
}

fn return_to_startup(turn: &mut Turn<'_>) {
    // The server went back to the values of its own start, but the client's are those of its
    // start-up packet: it is told so now, and its next statement runs under them.
    turn.server.is_reset();
    let startup = Arc::clone(&turn.relay.startup);
    let welcome = turn.relay.pool.welcome.load_full();
    for (name, _) in welcome.iter().flat_map(|welcome| &welcome.parameters) {
        if let Some(value) = startup.get(name).filter(|_| is_settable(name)) {
            // The server's own report of the value fitted into a message.
            let _ = backend::parameter_status(
                turn.server.flow.made(),
                name.as_bytes(),
                value.as_bytes(),
            );
        }
    }
    turn.relay.set_parameters(startup);
}

/// What a query that stood alone would have ended is no longer certain.
pub(super) fn doubt(turn: &mut Turn<'_>) {
    if turn
        .alone
        .take()
        .is_some_and(|judgement| judgement.resets())
    {
        reasons::bind(turn, PinSet::of(&[Pin::Set]));
    }
}

/// Takes note of what changes the state of the server and of the client at once.
fn learn(turn: &mut Turn<'_>, message: u8, total: usize) {
    let followed = turn.relay.block.is_some() || turn.server.exchange.has_following();
    if followed
        && matches!(message, tag::COMMAND_COMPLETE | tag::PORTAL_SUSPENDED)
        && !turn.server.exchange.in_setup()
    {
        let answer: Box<[u8]> = turn.server.flow.unjudged()[frame::HEADER_LEN..total].into();
        follow::answered(turn, &answer);
    }
    if message == tag::COMMAND_COMPLETE && turn.names.change() {
        let said: Box<[u8]> = turn.server.flow.unjudged()[frame::HEADER_LEN..total].into();
        by_sql::completed(turn, &said);
    }
    let server: &mut crate::server::ServerConn = &mut *turn.server;
    let body = &server.flow.unjudged()[frame::HEADER_LEN..total];
    match message {
        tag::PARAMETER_DESCRIPTION | tag::ROW_DESCRIPTION | tag::NO_DATA => {
            shape::learn(turn, message, total);
        }
        tag::PARAMETER_STATUS => {
            let Ok(status) = backend::ParameterStatus::parse(body) else {
                return;
            };
            if let Some(role) = Role::told(status.name, status.value) {
                server.role = role;
                turn.relay.pool.retries.saw(role);
            }
            if server.exchange.in_setup() {
                return;
            }
            let (Ok(name), Ok(value)) = (
                std::str::from_utf8(status.name),
                std::str::from_utf8(status.value),
            ) else {
                return;
            };
            let few = turn.relay.parameters.iter().count() < PARAMETERS_MAX;
            if is_settable(name) && (few || turn.relay.parameters.get(name).is_some()) {
                let mut parameters = (*turn.relay.parameters).clone();
                parameters.set(name, value);
                let parameters = turn.relay.pool.shared.share(parameters);
                turn.relay.set_parameters(parameters);
                turn.relay.pool.proven.learn(name, value, Some(value));
                server.is_set_to(&turn.relay.parameters);
            }
        }
        tag::COMMAND_COMPLETE if body == b"ROLLBACK\0" => {
            turn.listen.excuse();
            if turn.rollback == Rollback::Asked {
                turn.rollback = Rollback::Told;
            }
        }
        tag::COMMAND_COMPLETE if body.first() == Some(&b'D') => match body {
            b"DISCARD ALL\0" => {
                server.statements.clear();
                server.is_reset();
                server.discards_plans();
                turn.relay.statements = None;
                let startup = Arc::clone(&turn.relay.startup);
                turn.relay.set_parameters(startup);
                turn.relay.block = None;
                turn.relay.pins = turn.relay.pins.without(PinSet::DISCARD_ALL);
                listen::unlisten_all(turn.relay);
                // What the server reports of it comes later, before its ReadyForQuery. Nothing was sent behind
                // it, and nothing is before that: what it sets would be taken back with the rest.
                turn.discarded = true;
                if server.exchange.unsynced() && turn.check == Check::Quiet {
                    turn.relay.up.insert(&frontend::SYNC);
                    server.exchange.sent(Owed::OurSync);
                }
            }
            b"DEALLOCATE ALL\0" => {
                server.statements.clear();
                turn.relay.statements = None;
            }
            _ => {}
        },
        _ => {}
    }
}

/// Whether a reported parameter can be brought to another server by setting it.
pub(crate) fn is_settable(name: &str) -> bool {
    const FIXED: [&str; 7] = [
        "server_version",
        "server_encoding",
        "is_superuser",
        "session_authorization",
        "integer_datetimes",
        "in_hot_standby",
        "scram_iterations",
    ];
    !FIXED.contains(&name)
}

/// The server's connection broke: words the loss as the client must understand it, unless the client
/// need not know.
pub(super) fn server_gone(turn: &Turn<'_>, why: &str) -> Loss {
    if let Some(again) = turn.again {
        // It was to be sent again already, once all of the answer had come.
        return Loss::Again(again);
    }
    match attempt::after_break(turn) {
        Some(again) => Loss::Again(again),
        None => loss(turn, why, None),
    }
}

/// A limit has run out: what of it may have been done all the same is told as when the server is lost.
pub(super) fn timed_out(turn: &Turn<'_>, over: Over) -> Loss {
    let doubtful = is_awaited(turn) && may_have_committed(turn);
    match over {
        // A commit is left alone: to cancel it could only hide what becomes of it.
        Over::Expired(Expired::Transaction) if turn.committing && doubtful => {
            if turn.attempt.left == Left::Passed && !turn.vow.is_sent() {
                // There is more to it, which nobody waits for any more.
                let guard = Cancels::begin(&turn.server.about);
                tokio::spawn(unreplicated::cancel_another(guard));
            }
            let why = "the transaction timeout of the pool has run out";
            loss(turn, why, None)
        }
        Over::Mute if doubtful => loss(turn, "the server did not answer in time", None),
        Over::Mute => Loss::Server(Box::new(ErrorReport::error(
            sqlstate::QUERY_CANCELED,
            "canceling statement due to the query timeout of the pool",
        ))),
        Over::Expired(what) => {
            let report = what.report();
            Loss::Fatal(Box::new(match doubtful {
                true => in_doubt(report),
                false => report,
            }))
        }
    }
}

/// The client is sent away in the middle of something: what of it may have been done all the same is told.
pub(super) fn sent_away(turn: &Turn<'_>) -> Loss {
    let doubtful =
        is_awaited(turn) && may_have_committed(turn) && mark::standing(turn) != Standing::Before;
    match doubtful.then(|| turn.relay.control.farewell()).flatten() {
        Some(farewell) => Loss::Fatal(Box::new(in_doubt(*farewell))),
        None => Loss::Client,
    }
}

/// The session ends in the middle of something: says so of what may have been done all the same.
pub(super) fn hint(turn: &Turn<'_>, report: &mut ErrorReport) {
    if is_awaited(turn) && may_have_committed(turn) {
        report.hint = Some(UNKNOWN.to_owned());
    }
}

/// The farewell to a client whose write may have taken effect.
pub(super) fn in_doubt(mut farewell: ErrorReport) -> ErrorReport {
    farewell.code = sqlstate::TRANSACTION_RESOLUTION_UNKNOWN;
    farewell.hint = Some(UNKNOWN.to_owned());
    farewell
}

pub(super) fn confused(turn: &Turn<'_>, why: &str) -> Loss {
    loss(turn, &format!("the server broke the protocol: {why}"), None)
}

fn fatal(turn: &Turn<'_>, total: usize) -> Loss {
    let here = turn.server.flow.unjudged();
    let report = ErrorReport::parse(&here[frame::HEADER_LEN..total.min(here.len())]);
    if let Some(again) = attempt::after_error(turn, &report) {
        return Loss::Again(again);
    }
    let why = report.message.clone();
    loss(turn, &why, Some(report))
}

fn loss(turn: &Turn<'_>, why: &str, said: Option<ErrorReport>) -> Loss {
    let host = &turn.server.about.upstream.name;
    let turned = said
        .as_ref()
        .is_some_and(|report| is_turned_away(report.code));
    let doubtful = is_awaited(turn) && !turned && may_have_committed(turn);
    let standing = match doubtful {
        true => mark::standing(turn),
        false => Standing::Unclear,
    };
    let report = if doubtful && standing != Standing::Before {
        ErrorReport::error(
            sqlstate::TRANSACTION_RESOLUTION_UNKNOWN,
            format!("connection to server {host} was lost while a write was under way"),
        )
        .hint(UNKNOWN)
    } else if doubtful || turn.beginning || turn.server.exchange.status() != TransactionStatus::Idle
    {
        ErrorReport::error(
            sqlstate::SERIALIZATION_FAILURE,
            format!("the transaction was lost with the connection to server {host}"),
        )
        .hint("Nothing of it was committed; run it again.")
    } else {
        // A read that was cut off has done nothing.
        let said = said.as_ref();
        let said = said.filter(|_| turned || !turn.server.exchange.owes());
        let code = said.map_or(sqlstate::CONNECTION_FAILURE, |report| report.code);
        ErrorReport::error(code, format!("connection to server {host} was lost"))
    };
    debug_assert!(report.severity != Severity::Fatal);
    let report = report.detail(why.to_owned());
    if let Standing::Sent(mark) = standing
        && let Some(success) = mark::success(turn)
    {
        return Loss::Unresolved(Box::new(Unresolved {
            mark,
            parameters: follow::committed(turn),
            report,
            success,
        }));
    }
    Loss::Server(Box::new(report))
}

/// Whether the client waits for the end of something. What a Flush has had answered is over with its Sync only; but a
/// COMMIT in it is done, and so is what a procedure has committed.
fn is_awaited(turn: &Turn<'_>) -> bool {
    let (attempt, exchange) = (&turn.attempt, &turn.server.exchange);
    let commits = turn.committing || attempt.left == Left::Passed || !attempt.sent.known;
    exchange.owes_client() || exchange.unsynced() && commits
}

/// Whether what is under way may have taken effect although its answer never came.
pub(super) fn may_have_committed(turn: &Turn<'_>) -> bool {
    let in_block = turn.server.exchange.status() == TransactionStatus::InTransaction;
    let left = turn.attempt.left == Left::Passed;
    // A block that a standby has begun writes nothing, not even if that is promoted meanwhile.
    if turn.server.role == Role::Recovering && in_block && !left {
        return false;
    }
    turn.committing || left || attempt::is_bare(turn)
}
