//! What a client's messages mean for the server that it holds.

use pgherd_session::{CopyFlow, Owed, ServerStatements, Undo, Unnamed};
use pgherd_sql::{Block, Pin, PinSet, block};
use pgherd_wire::error::ErrorReport;
use pgherd_wire::frontend::{self, BindHead, tag};
use pgherd_wire::{frame, sqlstate};

use crate::judgement::{Judgement, Listens};
use crate::session::attempt::Left;
use crate::session::relay::Relay;
use crate::session::sequence::Way;
use crate::session::turn::{Check, Loss, Rollback, Turn};
use crate::session::watch::Does;
use crate::session::{
    attempt, behind, by_sql, follow, listen, mark, meaning, reads, reasons, replies, sequence,
    shards, statements, watch,
};
use crate::shards::Tier;

/// What is not larger is always held; the configuration allows no lower `max_held_message`.
const HELD_MIN: usize = 8192;
/// More bytes of statements are not kept for the case that an error has the server skip what ends them, but for the
/// last of them.
pub(super) const KEPT_MAX: usize = 64 * 1024;
/// Portal and statement names together may have up to this size.
pub(super) const NAMES_MAX: usize = 16 * 1024;

/// Whether enough of the message in front is here for [`take`] to go on with it.
///
/// A session takes no server before it is: there would be nothing to send.
pub(super) fn is_judgeable(relay: &Relay, header: frame::Header) -> bool {
    let here = relay.up.unjudged();
    let total = header.total();
    here.len() >= total
        || match header.tag {
            tag::QUERY | tag::PARSE => !is_held(relay, total),
            tag::DESCRIBE | tag::CLOSE => total > NAMES_MAX,
            tag::BIND => {
                let body = &here[frame::HEADER_LEN..];
                body.len() > NAMES_MAX || !matches!(BindHead::parse(body), Ok(None))
            }
            _ => true,
        }
}

/// Postgres hangs up on a client whose length word says more than this where little is to be said
/// (`PQ_SMALL_MESSAGE_LIMIT`).
const SMALL_MAX: u32 = 10_000;

/// What is wrong with the length of a message. Some of these a server may get without owing an answer to them: where one
/// would make the server complain, or hang up, another client might be there by then.
#[inline]
pub(super) fn misshapen(header: frame::Header) -> Option<&'static str> {
    match header.tag {
        tag::SYNC | tag::FLUSH if header.body > 0 => Some("invalid message format"),
        tag::COPY_DONE
        | tag::COPY_FAIL
        | tag::EXECUTE
        | tag::DESCRIBE
        | tag::CLOSE
        | tag::TERMINATE
            if header.body > SMALL_MAX - 4 =>
        {
            Some("invalid message length")
        }
        _ => None,
    }
}

/// Whether a goodbye is the end of what the client has sent and what waits here: it left on purpose then.
pub(super) fn ends_in_goodbye(relay: &mut Relay) -> bool {
    if !relay.up.resume() {
        return false;
    }
    let mut waiting = relay.up.unjudged();
    while let Ok(Some(header)) = frame::header(waiting) {
        if header.tag == tag::TERMINATE {
            return true;
        }
        waiting = waiting.get(header.total()..).unwrap_or_default();
    }
    false
}

/// Judges everything that the client has sent and passes it on to the server.
pub(super) fn take(turn: &mut Turn<'_>) -> Result<(), Loss> {
    take_all(turn)?;
    turn.listen.has_looked();
    // What is owed must come before more is sent, and a server keeps it back until it is asked.
    let between = !turn.relay.up.is_mid_message();
    let waits = turn.check != Check::UnderWay && turn.holds_client_up();
    if between && waits && turn.server.exchange.unsynced() {
        turn.relay.up.insert(&frontend::FLUSH);
    }
    Ok(())
}

fn take_all(turn: &mut Turn<'_>) -> Result<(), Loss> {
    turn.go_on();
    turn.crammed = false;
    while turn.relay.up.resume() && !turn.holds_client_up() {
        if turn.is_server_behind() {
            turn.crammed = true;
            break;
        }
        let header = match frame::header(turn.relay.up.unjudged()) {
            Ok(Some(header)) => header,
            Ok(None) => break,
            Err(error) => return Err(violation(error.to_string())),
        };
        if let Some(why) = misshapen(header) {
            return Err(violation(why.to_owned()));
        }
        turn.listen.looks();
        let total = header.total();
        let whole = turn.relay.up.unjudged().len() >= total;
        match header.tag {
            // Where nothing is owed no COPY goes on, and Postgres ignores them outside of one. So a client that is slow
            // to send them need not keep its server for that.
            tag::COPY_DATA | tag::COPY_DONE | tag::COPY_FAIL if !turn.server.exchange.owes() => {
                turn.relay.up.hide(total);
                continue;
            }
            // Nothing in them is of interest, and some clients send one for each row.
            tag::COPY_DATA => {
                attempt::end(turn);
                turn.relay.up.pass_alike(header.tag, total);
                continue;
            }
            tag::COPY_DONE | tag::COPY_FAIL => {
                attempt::end(turn);
                turn.server.exchange.sent(Owed::CopyEnd);
                turn.relay.up.pass(total);
                continue;
            }
            // Postgres answers what stands before it, too.
            tag::TERMINATE => {
                turn.check = Check::Goodbye;
                if !turn.holds_client_up() {
                    return Err(Loss::Left);
                }
                continue;
            }
            tag::SYNC if turn.server.exchange.is_flooded() => {
                return Err(violation("too many Sync messages within a COPY".into()));
            }
            tag::SYNC if mark::sync(turn, total) => {
                turn.attempt.begun = false;
                meaning::request_ends(turn);
                continue;
            }
            tag::SYNC => {
                turn.attempt.begun = false;
                meaning::request_ends(turn);
                turn.server.exchange.sent(Owed::Sync);
                turn.attempt.ends();
                turn.relay.up.pass(total);
                // Behind a read there may be something else, which is for another server. And a COPY that waits for its
                // data takes nothing else: what is to be cleared away is so behind the answer.
                let clears = std::mem::take(&mut turn.clears);
                if clears || turn.relay.is_choosy() || turn.names.leave() {
                    turn.check = Check::Quiet;
                }
                continue;
            }
            // The server would discard it as well.
            _ if turn.server.exchange.skipping() => {
                turn.relay.up.hide(total);
                continue;
            }
            _ => {}
        }
        let taken = match header.tag {
            tag::QUERY => query(turn, total, whole)?,
            tag::PARSE => statements::parse(turn, total, whole)?,
            tag::BIND => statements::bind(turn, total, whole)?,
            tag::DESCRIBE => statements::describe(turn, total, whole)?,
            tag::CLOSE => statements::close(turn, total, whole)?,
            tag::EXECUTE => {
                let taken = execute(turn, total, whole)?;
                if taken && (turn.names.change() || std::mem::take(&mut turn.clears)) {
                    // What comes behind it may use the name, or finds what was set and prepared gone.
                    turn.check = Check::Quiet;
                }
                taken
            }
            tag::FLUSH => {
                turn.relay.up.pass(total);
                true
            }
            tag::FUNCTION_CALL if turn.relay.spread.is_some() => {
                refuse_query(turn, total, &shards::no_function_call());
                true
            }
            tag::FUNCTION_CALL => {
                let body = turn.relay.up.unjudged().get(frame::HEADER_LEN..);
                behind::called(turn.server, body.unwrap_or_default());
                mark::unseen(turn);
                attempt::unread(turn);
                turn.attempt.ends();
                turn.runs();
                turn.server.exchange.sent(Owed::FunctionCall);
                turn.relay.up.pass(total);
                true
            }
            other => return Err(violation(format!("invalid frontend message type {other}"))),
        };
        // The server waits for data, and says nothing that this could wait for: Postgres ends it, too.
        if !taken && whole && turn.server.exchange.copy() == CopyFlow::In {
            return Err(violation("unexpected message type during COPY".into()));
        }
        if !taken {
            break;
        }
        if header.tag == tag::QUERY {
            meaning::request_ends(turn);
        }
        replies::reply(turn);
    }
    Ok(())
}

/// Has the block go on over several shards once nothing is under way any more.
pub(super) fn spread(turn: &mut Turn<'_>) -> Result<bool, Loss> {
    if !turn.server.exchange.owes() && turn.relay.up.backlog() == 0 {
        return Err(Loss::Spreads);
    }
    turn.check = Check::Quiet;
    Ok(false)
}

fn execute(turn: &mut Turn<'_>, total: usize, whole: bool) -> Result<bool, Loss> {
    let edits = turn.names.take_edits();
    follow::renamed(turn, &edits);
    mark::executes(turn);
    turn.runs();
    watch::executes(turn);
    Ok(match listen::execute(turn, total, whole)? {
        listen::Way::Later => false,
        listen::Way::Taken => true,
        listen::Way::Usual if !turn.portals.is_empty() => statements::execute(turn, total, whole)?,
        listen::Way::Usual => {
            turn.server.exchange.sent(Owed::Execute);
            turn.relay.up.pass(total);
            if turn.committing && turn.relay.commit_fails && !turn.relay.block_refused {
                // Nothing behind a COMMIT that fails is run.
                refuse(turn, replies::failed_commit());
            }
            true
        }
    })
}

fn query(turn: &mut Turn<'_>, total: usize, whole: bool) -> Result<bool, Loss> {
    if waits_for_unnamed(turn) {
        turn.check = Check::Quiet;
        return Ok(false);
    }
    let mut instead = None;
    let mut clears = false;
    let mut several = false;
    let mut way = mark::Way::Whole;
    if !is_held(turn.relay, total) {
        if turn.relay.spread.is_some() {
            refuse_query(turn, total, &shards::unread());
            return Ok(true);
        }
        replies::doubt(turn);
        mark::unread(turn);
        attempt::unread(turn);
        turn.attempt.left = Left::Passed;
        reasons::unread(turn);
        turn.runs();
        turn.commits(None);
        turn.begins();
        turn.leaves();
    } else if whole {
        if waits_for_lexing(turn, total) {
            turn.check = Check::Quiet;
            return Ok(false);
        }
        let is_here = shards::glance::is_here(turn, total);
        let body = &turn.relay.up.unjudged()[frame::HEADER_LEN..total];
        let query = frontend::Query::parse(body).map_err(|error| violation(error.to_string()))?;
        let mut judgement = turn.relay.judge(query.text);
        let is_here = is_here && shards::glance::is_plain(&judgement);
        clears = judgement.clears();
        several = !judgement.single;
        if listen::asks(turn.relay, query.text) {
            listen::refuse_question(turn, total);
            return Ok(true);
        }
        if shards::must_wait(turn) {
            turn.check = Check::Quiet;
            return Ok(false);
        }
        if !is_here && shards::runs_elsewhere(turn, query.text) {
            return spread(turn);
        }
        if !is_here && let Some(report) = shards::objection(turn, query.text) {
            refuse_query(turn, total, &report);
            return Ok(true);
        }
        if !is_here && let Some(spread) = turn.relay.spread.as_deref_mut() {
            shards::note_notice(spread, query.text, &judgement, turn.relay.lexing);
        }
        if let Some(report) = reads::objection(turn.relay, query.text, &judgement) {
            refuse_query(turn, total, &report);
            return Ok(true);
        }
        let named = match by_sql::take(turn, total, &mut judgement) {
            by_sql::Taken::No => None,
            by_sql::Taken::Later => return Ok(false),
            by_sql::Taken::Answered => return Ok(true),
            by_sql::Taken::Rewritten(rewritten) => Some(rewritten),
        };
        // Of what is run by its name, all this was told already.
        let by_name = named.is_some();
        if !by_name && sequence::must_wait(turn, &judgement) {
            turn.check = Check::Quiet;
            return Ok(false);
        }
        if !by_name && let Some(report) = sequence::objection(turn, &judgement) {
            refuse_query(turn, total, &report);
            return Ok(true);
        }
        if mark::keeps_back(turn, &judgement, true) {
            return Ok(false);
        }
        let mut marked = None;
        if judgement.listens != Listens::Nothing {
            mark::unread(turn);
            attempt::note(turn, &judgement);
            match listen::query(turn, total, &mut judgement) {
                listen::Taken::No => {}
                listen::Taken::Wholly => return Ok(true),
                listen::Taken::Later => return Ok(false),
                listen::Taken::Marked(with_marks) => marked = Some(with_marks),
            }
        }
        if !turn.portals.is_empty() {
            let text = turn.relay.up.unjudged()[frame::HEADER_LEN..total].to_vec();
            follow::fetches(turn, &judgement, &text);
        }
        turn.runs();
        let body = &turn.relay.up.unjudged()[frame::HEADER_LEN..total];
        let query = frontend::Query::parse(body).map_err(|error| violation(error.to_string()))?;
        turn.rollback = match judgement.leaves && !turn.server.exchange.owes_client() {
            true if block(query.text, turn.relay.lexing) == Some(Block::Rollback) => {
                Rollback::Asked
            }
            _ => Rollback::None,
        };
        if !by_name {
            behind::sent(turn.server, &judgement, query.text, turn.relay.lexing);
        }
        let vowed = turn.vow.is_wanted() && !by_name;
        let undone = reasons::Undone::of(turn, &judgement);
        let alone = judgement.plain && turn.server.exchange.is_unasked() && !turn.beginning;
        let text: Box<[u8]> = match vowed || judgement.follows && !by_name {
            true => query.text.into(),
            false => Box::default(),
        };
        if vowed {
            way = mark::way(turn, &text, &judgement);
        } else if by_name {
            mark::by_name(turn, &judgement);
        }
        // A question of ours that goes before comes before what is written down of the text, too.
        if !by_name {
            sequence::sent(turn, &judgement, Way::Simple);
        }
        instead = match (named, marked) {
            (_, Some(marked)) => {
                let longer = follow::query(turn, &marked.text, &marked.edits, &marked.answers);
                longer.or(Some(marked.text))
            }
            (None, None) if judgement.follows => follow::query(turn, &text, &[], &[]),
            (None, None) => None,
            (Some(named), None) if judgement.follows => {
                let longer = follow::query(turn, &named.text, &named.edits, &[]);
                longer.or(Some(named.text))
            }
            (Some(named), None) => {
                follow::renamed(turn, &named.edits);
                Some(named.text)
            }
        };
        if alone {
            mark::noted(turn, &judgement);
            attempt::note(turn, &judgement);
            turn.relexes |= judgement.relexes;
            reasons::add(turn, &judgement);
            turn.alone = Some(judgement);
        } else {
            note(turn, judgement);
        }
        turn.undone = undone;
    } else {
        return Ok(false);
    }
    // A simple query ends the unnamed statement on the server.
    turn.unnamed_here = false;
    forget_unnamed(turn);
    turn.server.touched = true;
    shards::count(turn.relay, Tier::OneShard);
    if mark::send(turn, way, total) {
        return Ok(true);
    }
    turn.server.exchange.sent(Owed::Query);
    turn.attempt.ends();
    if clears || turn.relay.is_choosy() || turn.names.change() {
        // What comes behind it is prepared, set and bound anew.
        turn.check = Check::Quiet;
    }
    match instead {
        None => turn.relay.up.pass(total),
        Some(text) => {
            let built = frontend::query(turn.relay.up.made(), &text);
            debug_assert!(built.is_ok(), "what is put in is bounded");
            turn.relay.up.hide(total);
        }
    }
    if several && turn.names.leave() {
        // There may be a COPY among them, and a server that waits for its data takes nothing else: it is done behind the answer.
        turn.check = Check::Quiet;
    } else {
        by_sql::clear_away(turn);
    }
    mark::behind(turn);
    Ok(true)
}

/// Whether what the message in front says hangs on something that was sent before it and is not answered yet:
/// how strings end, and which bytes are letters. What is known of that is what the server has reported, which it
/// does in front of each ReadyForQuery. Where that comes too late, the session keeps its server.
pub(super) fn waits_for_lexing(turn: &mut Turn<'_>, total: usize) -> bool {
    let exchange = &turn.server.exchange;
    if !exchange.owes_client() && !exchange.unsynced() {
        return false;
    }
    let here = turn.relay.up.unjudged();
    let body = here.get(frame::HEADER_LEN..total).unwrap_or_default();
    let is_plain = body.is_ascii() && !body.contains(&b'\\');
    let how = turn.relay.pool.settings().pool.function_check;
    if is_plain || !turn.relexes && !behind::has_run_unseen(turn.server, how) {
        return false;
    }
    if exchange.unsynced() {
        replies::doubt(turn);
        reasons::bind(turn, PinSet::of(&[Pin::Unknown]));
        return false;
    }
    true
}

/// Whether what ends the unnamed statement, or makes another, must wait for answers to what was sent before.
///
/// An error in front may have the server skip it. What was there is put back then, which can be told only if it does
/// not hang on another error itself, and is kept until then, which takes memory.
pub(super) fn waits_for_unnamed(turn: &mut Turn<'_>) -> bool {
    let exchange = &mut turn.server.exchange;
    exchange.unsynced() && (exchange.settles_unnamed_later() || exchange.kept_bytes() > KEPT_MAX)
}

/// The client has no unnamed statement any more.
pub(super) fn forget_unnamed(turn: &mut Turn<'_>) {
    replace_unnamed(turn, Unnamed::None);
}

/// The client's unnamed statement is another one, or none, unless an error in front has the server skip what makes it so.
pub(super) fn replace_unnamed(turn: &mut Turn<'_>, unnamed: Unnamed<Judgement>) {
    if turn.relay.statements.is_none() && matches!(unnamed, Unnamed::None) {
        return;
    }
    let statements = turn.relay.statements.get_or_insert_default();
    let before = std::mem::replace(&mut statements.unnamed, unnamed);
    if turn.server.exchange.unsynced() && matches!(before, Unnamed::Parsed { .. }) {
        let undo = Undo::Kept(Box::new(before.clone()));
        turn.server.exchange.sent(Owed::Local { reply: b"", undo });
    }
    turn.attempt.replaced(before);
}

/// Takes note of what a text does to the session.
pub(super) fn note(turn: &mut Turn<'_>, judgement: Judgement) {
    mark::noted(turn, &judgement);
    attempt::note(turn, &judgement);
    replies::doubt(turn);
    reasons::add_behind(turn, &judgement);
    if judgement.resets() {
        // Whether and when it will have taken effect is not followed.
        reasons::bind(turn, PinSet::of(&[Pin::Set]));
    }
    turn.follows = judgement.follows;
    turn.relexes |= judgement.relexes;
    turn.clears |= judgement.clears();
    if judgement.commits {
        turn.commits(judgement.commits_behind);
    }
    turn.does = Does::from(&judgement);
    turn.transacts(&judgement);
}

/// Makes the server fail at this point of the pipeline, and words the failure for it: so the
/// transaction ends and the rest of the pipeline is skipped exactly as on one Postgres.
pub(super) fn refuse(turn: &mut Turn<'_>, report: ErrorReport) {
    turn.relay.record(&report);
    let nowhere = ServerStatements::nowhere().text();
    let built = frontend::bind(turn.relay.up.made(), b"", nowhere.as_bytes(), &[], &[], &[]);
    debug_assert!(built.is_ok(), "the message is short");
    let mut worded = bytes::BytesMut::new();
    report.encode_error(&mut worded);
    turn.server.exchange.sent(Owed::Fail(worded[..].into()));
}

/// Sends what is sure to fail in the place of a simple query, and words the failure for the server: so
/// a transaction block fails as on one Postgres.
pub(super) fn refuse_query(turn: &mut Turn<'_>, total: usize, report: &ErrorReport) {
    turn.relay.record(report);
    replace_query(turn, total, b"pgherd refuses this");
    let mut worded = bytes::BytesMut::new();
    report.encode_error(&mut worded);
    turn.server
        .exchange
        .sent(Owed::QueryFail(worded[..].into()));
    turn.attempt.ends();
    if turn.relay.is_choosy() {
        // As behind any other.
        turn.check = Check::Quiet;
    }
}

/// Sends another text in the place of a simple query.
pub(super) fn replace_query(turn: &mut Turn<'_>, total: usize, text: &[u8]) {
    // As any simple query does.
    turn.unnamed_here = false;
    forget_unnamed(turn);
    turn.rollback = Rollback::None;
    turn.server.touched = true;
    turn.relay.up.hide(total);
    let built = frontend::query(turn.relay.up.made(), text);
    debug_assert!(built.is_ok(), "the text is short");
}

/// Whether a message of this size is read whole and judged; a larger query pins the session unread.
pub(super) fn is_held(relay: &Relay, total: usize) -> bool {
    total <= HELD_MIN || total <= relay.pool.settings().limits.max_held_message.get()
}

pub(super) fn violation(message: String) -> Loss {
    Loss::Fatal(Box::new(ErrorReport::fatal(
        sqlstate::PROTOCOL_VIOLATION,
        message,
    )))
}
