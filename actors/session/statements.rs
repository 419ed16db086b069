//! Prepared statements as the protocol names them: what a client names is found or put on its server.
//!
//! A client's own Parse always goes to the server, which reads the text as things are now: it is the
//! server that knows what a name means today, and whether it still exists. Clients with the same
//! text share what a server has of it, so that server memory stays bounded, and here is what is left
//! of that: when one of them prepares the text anew, or one is moved to a server that lacks it, the
//! text is read again, and where that gives other columns or parameters than a client was told it
//! gets 0A000, as Postgres would tell it. Only another meaning in the same shape (a function that
//! fits better by now) is not noticed. A text that names a moment (`'now'`) is never read again: it
//! binds the client to the server that has read it.

use std::borrow::Cow;
use std::sync::Arc;

use pgherd_config::PoolMode;
use pgherd_session::{ClientStatements, ServerStatements, Unnamed};
use pgherd_session::{
    Closed, Described, Edit, Held, Owed, Parameters, Placed, Reach, ServerName, Shape, Source,
    Statement, Undo, kept,
};
use pgherd_sql::{Pin, PinSet, Runs};
use pgherd_wire::error::{ErrorReport, Field};
use pgherd_wire::frontend::{self, BindHead, Target, tag};
use pgherd_wire::sqlstate;
use pgherd_wire::{backend, frame};

use crate::judgement::{self, Judgement};
use crate::session::relay::Relay;
use crate::session::requests::{
    KEPT_MAX, NAMES_MAX, forget_unnamed, is_held, note, refuse, replace_unnamed, spread, violation,
    waits_for_lexing, waits_for_unnamed,
};
use crate::session::sequence::Way;
use crate::session::turn::{Check, Loss, Turn};
use crate::session::{
    attempt, behind, by_sql, endings, follow, listen, mark, meaning, reads, reasons, replies,
    sequence, shards, visit, watch,
};
use crate::shards::Tier;

/// What queries of ours in a client's pipeline are prepared as; no client's statement has this name on a
/// server.
const HIDDEN: &[u8] = b"pgherd_set";

/// The first OID that a server gives to what its users make (`FirstNormalObjectId`).
const FIRST_OWN_TYPE: u32 = 16_384;
/// So much of a name is said in an error.
const SAID_MAX: usize = 1024;
/// The length of a format code in a Bind.
const FORMAT_LEN: usize = 2;

/// Takes a Parse; false when more of it must be here first.
pub(super) fn parse(turn: &mut Turn<'_>, total: usize, whole: bool) -> Result<bool, Loss> {
    if !is_held(turn.relay, total) {
        let text = "the statement is too large to be prepared (max_held_message)";
        refuse(
            turn,
            ErrorReport::error(sqlstate::PROGRAM_LIMIT_EXCEEDED, text),
        );
        turn.relay.up.hide(total);
        return Ok(true);
    }
    if !whole {
        return Ok(false);
    }
    if shards::must_wait(turn) {
        turn.check = Check::Quiet;
        return Ok(false);
    }
    let session_mode = turn.relay.mode == PoolMode::Session;
    if !session_mode && waits_for_lexing(turn, total) {
        turn.check = Check::Quiet;
        return Ok(false);
    }
    let is_unnamed = turn.relay.up.unjudged().get(frame::HEADER_LEN) == Some(&0);
    if !session_mode && is_unnamed && (waits_for_unnamed(turn) || meaning::hangs_on_answers(turn)) {
        turn.check = Check::Quiet;
        return Ok(false);
    }
    let body = &turn.relay.up.unjudged()[frame::HEADER_LEN..total];
    let parse = frontend::Parse::parse(body).map_err(|error| violation(error.to_string()))?;
    let tail = &body[parse.name.len() + 1..];
    if shards::prepares_by_sql(turn, parse.query) {
        return spread(turn);
    }
    if !shards::glance::is_known(turn, tail)
        && let Some(report) = shards::to_parse(turn, tail)
    {
        if parse.name.is_empty() {
            // Postgres forgets the one before it, too.
            turn.unnamed_here = false;
            forget_unnamed(turn);
        }
        refuse(turn, report);
        turn.relay.up.hide(total);
        return Ok(true);
    }
    if turn.relay.reading
        && let Some(report) =
            reads::objection(turn.relay, parse.query, &turn.relay.judge(parse.query))
    {
        refuse(turn, report);
        turn.relay.up.hide(total);
        return Ok(true);
    }
    turn.server.touched = true;
    if session_mode {
        let text: Box<[u8]> = parse.query.into();
        reasons::prepared(turn, &text);
        endings::parsed(turn, total)?;
        turn.server.exchange.sent(Owed::Parse {
            hidden: false,
            undo: Undo::Nothing,
        });
        turn.relay.up.pass(total);
    } else if parse.name.is_empty() {
        let otherwise = meaning::read_otherwise(turn);
        let read_under = otherwise.as_ref().unwrap_or(&turn.relay.parameters);
        let repeated = is_the_same(turn.relay, tail, read_under);
        if !repeated {
            let judgement = judge(turn.relay, &parse);
            let unnamed = Unnamed::Parsed {
                judgement,
                tail: tail.into(),
                read_under: Arc::clone(read_under),
            };
            replace_unnamed(turn, unnamed);
        }
        if let Some(judgement) = turn.relay.statements.as_deref().and_then(judgement_of) {
            sequence::clear_way(turn, &judgement, Way::Extended);
        }
        turn.unnamed_here = true;
        turn.server.exchange.sent(Owed::Parse {
            hidden: false,
            undo: match repeated {
                true => Undo::Repeated,
                false => Undo::Unnamed,
            },
        });
        turn.relay.up.pass(total);
    } else {
        return parse_named(turn, total);
    }
    Ok(true)
}

/// Whether the client's last unnamed statement was this one, and would be read and judged as it was then.
/// Drivers that prepare nothing by name send the same few texts again and again.
fn is_the_same(relay: &Relay, tail: &[u8], read_under: &Arc<Parameters>) -> bool {
    match relay.statements.as_deref().map(|all| &all.unnamed) {
        Some(Unnamed::Parsed {
            tail: last,
            judgement,
            read_under: then,
        }) => {
            last[..] == *tail
                && judgement.as_read == Some(relay.lexing)
                && Arc::ptr_eq(then, read_under)
        }
        _ => false,
    }
}

/// What a statement means for its session, and what it is bound to: to read a value of a type of the users' own
/// (a domain, above all) may run their code, whatever the text does.
fn judge(relay: &Relay, parse: &frontend::Parse<'_>) -> Judgement {
    let mut judgement = relay.judge(parse.query);
    if parse.type_oids().any(|oid| oid >= FIRST_OWN_TYPE) {
        judgement.runs = judgement.runs.max(Runs::Reads);
    }
    judgement
}

fn judgement_of(statements: &ClientStatements<Judgement>) -> Option<Judgement> {
    match statements.unnamed {
        Unnamed::Parsed { judgement, .. } => Some(judgement),
        Unnamed::None => None,
    }
}

fn parse_named(turn: &mut Turn<'_>, total: usize) -> Result<bool, Loss> {
    let body = &turn.relay.up.unjudged()[frame::HEADER_LEN..total];
    let parse = frontend::Parse::parse(body).map_err(|error| violation(error.to_string()))?;
    let tail = &body[parse.name.len() + 1..];
    let name = kept(parse.name);
    // Whether the name is free by then hangs on what was sent in front of a Sync.
    let is_unsettled = turn.server.exchange.settles_later(|other| *other == *name);
    if is_unsettled || meaning::hangs_on_answers(turn) {
        turn.check = Check::Quiet;
        return Ok(false);
    }
    let known = turn.relay.statements.as_deref();
    if known.is_some_and(|client| client.get(parse.name).is_some()) {
        let (report, tail) = (taken(parse.name), Box::<[u8]>::from(tail));
        turn.relay.up.hide(total);
        try_out(turn, &tail);
        refuse(turn, report);
        return Ok(true);
    }
    let settings = turn.relay.parameters.reading();
    if let Some(report) = too_many(turn, (0, 0), name.len() + tail.len() + settings.len()) {
        refuse(turn, report);
        turn.relay.up.hide(total);
        return Ok(true);
    }
    let name: Box<[u8]> = name.into();
    let judgement = || judge(turn.relay, &parse);
    let registry = &turn.relay.pool.registry;
    let own = |reach| {
        let parameters = meaning::as_read(turn);
        registry.own(&parameters, Source::Parse, tail, reach, judgement())
    };
    let shared = |here: &Arc<Parameters>| registry.intern(here, Source::Parse, tail, judgement);
    let statement = match judgement::reach(parse.query, turn.relay.lexing) {
        Reach::Shared if !judgement::is_analysed(parse.query, turn.relay.lexing) => {
            shared(&turn.relay.parameters)
        }
        // Where it is not known how it is read, nobody else may have it.
        Reach::Shared => match meaning::here(turn) {
            Some(here) => shared(&here),
            None => own(Reach::Own),
        },
        reach @ (Reach::Own | Reach::Bound) => own(reach),
    };
    if statement.reach == Reach::Bound {
        replies::doubt(turn);
        reasons::bind(turn, PinSet::of(&[Pin::Moment]));
    }
    let held = Held {
        statement: Arc::clone(&statement),
        shape: None,
    };
    turn.relay
        .statements
        .get_or_insert_default()
        .insert(&name, held);
    attempt::prepared(turn, &name);
    turn.relay.up.hide(total);
    turn.relay.pool.stats.client_parse();
    sequence::clear_way(turn, &statement.judgement, Way::Extended);
    put(turn, &statement, Some(name));
    Ok(true)
}

/// Has the server say what is wrong with a statement, which it says before it looks for the name.
fn try_out(turn: &mut Turn<'_>, tail: &[u8]) {
    close_hidden(turn, Target::Statement, HIDDEN, Undo::Nothing);
    write_parse(turn.relay.up.made(), HIDDEN, tail);
    turn.server.exchange.sent(Owed::Remarks);
    // It is of this client, and others have the server after it.
    turn.names.discard(HIDDEN);
}

/// Keeps a statement that is on no server yet, by the client's name; `tail` is its Parse message behind the name.
pub(super) fn remember(
    relay: &mut Relay,
    parse: &frontend::Parse<'_>,
    tail: &[u8],
) -> Result<(), ErrorReport> {
    let judgement = relay.judge(parse.query);
    if parse.name.is_empty() {
        let unnamed = Unnamed::Parsed {
            tail: tail.into(),
            judgement,
            read_under: Arc::clone(&relay.parameters),
        };
        relay.statements.get_or_insert_default().unnamed = unnamed;
        return Ok(());
    }
    let known = relay.statements.as_deref();
    if known.is_some_and(|client| client.get(parse.name).is_some()) {
        return Err(taken(parse.name));
    }
    let settings = relay.parameters.reading();
    let bytes = parse.name.len() + tail.len() + settings.len();
    if let Some(report) = too_many_of(relay, (0, 0), bytes) {
        return Err(report);
    }
    let registry = &relay.pool.registry;
    let statement = registry.intern(&relay.parameters, Source::Parse, tail, || judgement);
    relay.pool.stats.client_parse();
    let held = Held {
        statement,
        shape: None,
    };
    relay
        .statements
        .get_or_insert_default()
        .insert(parse.name, held);
    Ok(())
}

/// Takes a Bind; false when more of it must be here first.
pub(super) fn bind(turn: &mut Turn<'_>, total: usize, whole: bool) -> Result<bool, Loss> {
    if turn.server.exchange.closes() && hangs_on_close(turn, total) {
        turn.check = Check::Quiet;
        return Ok(false);
    }
    match listen::bind(turn, total)? {
        listen::Way::Usual => {}
        listen::Way::Taken => return Ok(true),
        listen::Way::Later => return Ok(false),
    }
    let is_here = whole && shards::glance::is_here(turn, total);
    let here = turn.relay.up.unjudged();
    let body = &here[frame::HEADER_LEN..total.min(here.len())];
    let head = match BindHead::parse(body).map_err(|error| violation(error.to_string()))? {
        Some(head) => head,
        None if whole => return Err(violation("invalid Bind message".into())),
        None if body.len() > NAMES_MAX => return Err(violation("name too long".into())),
        None => return Ok(false),
    };
    if turn.relay.mode == PoolMode::Session {
        let (portal, statement): (Box<[u8]>, _) = (head.portal.into(), head.statement);
        turn.does = endings::of(turn.relay, statement);
        endings::bound(turn);
        watch::bound(turn, &portal);
        turn.server.exchange.sent(Owed::Bind { of: None });
        turn.relay.up.pass(total);
        return Ok(true);
    }
    if turn.relay.spread.is_some() && !is_here {
        if shards::must_wait(turn) {
            turn.check = Check::Quiet;
            return Ok(false);
        }
        let held = is_held(turn.relay, total);
        if whole && held && shards::runs_elsewhere_bound(turn, body) {
            return spread(turn);
        }
        if whole && held {
            match shards::pipeline::begins(turn, body) {
                shards::pipeline::Bound::Here => {}
                shards::pipeline::Bound::Later => return Ok(false),
                shards::pipeline::Bound::Elsewhere => {
                    // What was prepared is known here, and the server can be left behind a Sync of ours.
                    turn.relay.up.insert(&frontend::SYNC);
                    turn.server.exchange.sent(Owed::OurSync);
                    turn.check = Check::Quiet;
                    return Ok(false);
                }
            }
        }
        let objection = match (whole, held) {
            (true, true) => shards::to_bind(turn, body),
            (false, true) => return Ok(false),
            (_, false) => Some(shards::unread()),
        };
        if let Some(report) = objection {
            refuse(turn, report);
            turn.relay.up.hide(total);
            return Ok(true);
        }
        let name: Box<[u8]> = head.statement.into();
        shards::note_bound(turn.relay, &name);
    }
    let here = turn.relay.up.unjudged();
    let body = &here[frame::HEADER_LEN..total.min(here.len())];
    let head = BindHead::parse(body).map_err(|error| violation(error.to_string()))?;
    let Some(head) = head else {
        return Ok(false);
    };
    if let Some(report) = reads::objection_to(turn.relay, head.statement) {
        refuse(turn, report);
        turn.relay.up.hide(total);
        return Ok(true);
    }
    let portal: Box<[u8]> = head.portal.into();
    let name: Box<[u8]> = head.statement.into();
    if turn.vow.is_wanted()
        && let Some(judgement) = judged(turn.relay, &name)
    {
        if mark::keeps_back(turn, &judgement, false) {
            return Ok(false);
        }
        mark::bound(turn, &judgement);
    }
    let head = BindHead::parse(&turn.relay.up.unjudged()[frame::HEADER_LEN..])
        .map_err(|error| violation(error.to_string()))?
        .ok_or_else(|| violation("invalid Bind message".into()))?;
    let head_len = frame::HEADER_LEN + head.len;
    if !turn.portals.is_empty() {
        follow::rebinds(turn, &portal);
    }
    if name.is_empty() {
        match bring_unnamed(turn, For::Bind) {
            Nameless::There => {
                watch::bound(turn, &portal);
                follow_unnamed(turn, &portal, total, whole);
                turn.server.exchange.sent(Owed::Bind { of: None });
                turn.relay.up.pass(total);
                shards::count(turn.relay, Tier::OneShard);
            }
            Nameless::Refused => turn.relay.up.hide(total),
            Nameless::Later => return Ok(false),
        }
        return Ok(true);
    }
    let told = Told::With {
        portal: &portal,
        total,
    };
    let placed = match bring_named(turn, &name, told) {
        Brought::There(placed) => placed,
        Brought::Unknown => {
            behind::unseen(turn.server);
            mark::unseen(turn);
            attempt::unread(turn);
            turn.server.exchange.sent(Owed::Bind { of: None });
            turn.relay.up.pass(total);
            return Ok(true);
        }
        Brought::Refused => {
            turn.relay.up.hide(total);
            return Ok(true);
        }
        Brought::Later => return Ok(false),
    };
    watch::bound(turn, &portal);
    if turn.follows {
        follow_named(turn, (&portal, &name), total, whole);
    }
    let own = placed.name.text();
    let length = total - 1 - name.len() + own.as_bytes().len();
    let Ok(length) = u32::try_from(length) else {
        return Err(violation("invalid message length".into()));
    };
    let out = turn.relay.up.made();
    out.extend_from_slice(&[tag::BIND]);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&portal);
    out.extend_from_slice(&[0]);
    out.extend_from_slice(own.as_bytes());
    out.extend_from_slice(&[0]);
    turn.relay.up.hide(head_len);
    turn.relay.up.pass(total - head_len);
    let known = turn.relay.statements.as_deref();
    let held = known.and_then(|known| known.get(&name));
    let here = turn.server.statements.shape(placed.id);
    // What names in it stand for is not compared.
    let is_news = held.is_some_and(|held| {
        !held.statement.judgement.names && (held.shape.is_none() || here.is_none())
    });
    if let Some(edit) = held.and_then(|held| held.statement.edit(own.as_bytes())) {
        // Should it no longer fit its tables, the server says where.
        follow::renamed(turn, &[edit]);
    }
    turn.bound = is_news.then_some((portal, Described { name, placed }));
    turn.server.exchange.sent(Owed::Bind { of: Some(placed) });
    turn.relay.pool.stats.bind();
    shards::count(turn.relay, Tier::OneShard);
    Ok(true)
}

/// Whether what the Bind in front means by a name hangs on whether a Close is skipped.
fn hangs_on_close(turn: &mut Turn<'_>, total: usize) -> bool {
    let here = turn.relay.up.unjudged();
    let body = here.get(frame::HEADER_LEN..total.min(here.len()));
    match BindHead::parse(body.unwrap_or_default()) {
        Ok(Some(head)) => turn.server.exchange.may_reopen(kept(head.statement)),
        // What is wrong with it is said below.
        Ok(None) | Err(_) => false,
    }
}

/// The body of the message in front, if it is here as a whole.
fn whole_body(turn: &Turn<'_>, total: usize, whole: bool) -> Option<Box<[u8]>> {
    whole.then(|| turn.relay.up.unjudged()[frame::HEADER_LEN..total].into())
}

/// Takes note of what the portal of the client's unnamed statement will do to its settings.
fn follow_unnamed(turn: &mut Turn<'_>, portal: &[u8], total: usize, whole: bool) {
    let unnamed = turn.relay.statements.as_deref().map(|known| &known.unnamed);
    if let Some(Unnamed::Parsed {
        judgement, tail, ..
    }) = unnamed
        && judgement.follows
    {
        // A long one is not read, and need not be copied for that.
        let tail = tail.get(..=behind::BOUND_MAX).unwrap_or(tail);
        let (tail, how) = (Box::<[u8]>::from(tail), judgement.lexing);
        let body = whole_body(turn, total, whole);
        follow::bind(turn, portal, (&tail, how), body.as_deref());
    }
}

/// The same of a named one.
fn follow_named(turn: &mut Turn<'_>, (portal, name): (&[u8], &[u8]), total: usize, whole: bool) {
    let known = turn.relay.statements.as_deref();
    if let Some(held) = known.and_then(|known| known.get(name))
        && held.statement.judgement.follows
    {
        let statement = Arc::clone(&held.statement);
        let body = whole_body(turn, total, whole);
        let how = statement.judgement.lexing;
        follow::bind(turn, portal, (statement.query(), how), body.as_deref());
    }
}

/// What is known of a statement of the client.
fn judged(relay: &Relay, name: &[u8]) -> Option<Judgement> {
    let statements = relay.statements.as_deref()?;
    match &statements.unnamed {
        Unnamed::Parsed { judgement, .. } if name.is_empty() => Some(*judgement),
        _ => Some(statements.get(name)?.statement.judgement),
    }
}

/// Executes a portal while one of the client's does something to settings; false when more of the
/// message must be here first.
pub(super) fn execute(turn: &mut Turn<'_>, total: usize, whole: bool) -> Result<bool, Loss> {
    if total > NAMES_MAX {
        return Err(violation("name too long".into()));
    }
    if !whole {
        return Ok(false);
    }
    let body: Box<[u8]> = turn.relay.up.unjudged()[frame::HEADER_LEN..total].into();
    let behind = follow::execute(turn, &body);
    turn.server.exchange.sent(Owed::Execute);
    turn.relay.up.pass(total);
    if let Some(sql) = behind {
        follow::put_in(turn, &sql);
    }
    Ok(true)
}

/// Takes a Describe; false when more of it must be here first.
pub(super) fn describe(turn: &mut Turn<'_>, total: usize, whole: bool) -> Result<bool, Loss> {
    let Some(name) = statement_target(turn, total, whole)? else {
        return Ok(false);
    };
    if let Named::Statement(name) = &name
        && shards::describes_by_sql(turn, name)
    {
        return spread(turn);
    }
    let undescribed = || Owed::DescribeStatement {
        hidden: false,
        of: None,
    };
    match name {
        Named::Portal => {
            let of = bound_as(turn, total);
            turn.server.exchange.sent(Owed::DescribePortal { of });
            turn.relay.up.pass(total);
        }
        Named::Raw => {
            turn.server.exchange.sent(undescribed());
            turn.relay.up.pass(total);
        }
        Named::Statement(name) if name.is_empty() => match bring_unnamed(turn, For::Describe) {
            Nameless::There => {
                turn.server.exchange.sent(undescribed());
                turn.relay.up.pass(total);
            }
            Nameless::Refused => turn.relay.up.hide(total),
            Nameless::Later => return Ok(false),
        },
        Named::Statement(name) => match bring_named(turn, &name, Told::Now) {
            Brought::There(placed) => {
                turn.relay.up.hide(total);
                describe_on_server(turn, false, Described { name, placed });
            }
            Brought::Unknown => {
                turn.server.exchange.sent(undescribed());
                turn.relay.up.pass(total);
            }
            Brought::Refused => turn.relay.up.hide(total),
            Brought::Later => return Ok(false),
        },
    }
    Ok(true)
}

/// Whose description a Describe of a portal asks for, if it is not known yet what that gives.
fn bound_as(turn: &mut Turn<'_>, total: usize) -> Option<Box<Described>> {
    let (portal, statement) = turn.bound.take()?;
    let body = &turn.relay.up.unjudged()[frame::HEADER_LEN..total];
    let what = frontend::Describe::parse(body).ok()?;
    (*what.name == *portal).then(|| Box::new(statement))
}

/// Takes a Close; false when more of it must be here first.
pub(super) fn close(turn: &mut Turn<'_>, total: usize, whole: bool) -> Result<bool, Loss> {
    let Some(name) = statement_target(turn, total, whole)? else {
        return Ok(false);
    };
    match name {
        // The server may skip it, and what is kept for that has a bound.
        Named::Statement(name)
            if !name.is_empty() && turn.server.exchange.kept_bytes() > KEPT_MAX =>
        {
            turn.check = Check::Quiet;
            return Ok(false);
        }
        // What it closes hangs on whether another Close is skipped.
        Named::Statement(name) if !name.is_empty() && turn.server.exchange.may_reopen(&name) => {
            turn.check = Check::Quiet;
            return Ok(false);
        }
        Named::Statement(name) if !name.is_empty() => close_named(turn, total, name),
        Named::Statement(_) if turn.server.exchange.settles_unnamed_later() => {
            turn.check = Check::Quiet;
            return Ok(false);
        }
        Named::Statement(_) => {
            turn.unnamed_here = false;
            forget_unnamed(turn);
            pass_close(turn, total);
        }
        Named::Portal | Named::Raw => pass_close(turn, total),
    }
    Ok(true)
}

fn pass_close(turn: &mut Turn<'_>, total: usize) {
    turn.server.exchange.sent(Owed::Close {
        hidden: false,
        undo: Undo::Nothing,
    });
    turn.relay.up.pass(total);
}

fn close_named(turn: &mut Turn<'_>, total: usize, name: Box<[u8]>) {
    let client = turn.relay.statements.as_deref_mut();
    let Some(held) = client.and_then(|client| client.remove(&name)) else {
        if ServerName::is_reserved(&name) {
            // What the server calls so is not this client's.
            turn.relay.up.hide(total);
            return turn.server.exchange.sent(Owed::Local {
                reply: &backend::CLOSE_COMPLETE,
                undo: Undo::Nothing,
            });
        }
        // Made by a function, if at all.
        return pass_close(turn, total);
    };
    attempt::closed(turn, &name, &held);
    turn.relay.up.hide(total);
    let gone = match held.statement.reach {
        Reach::Own | Reach::Bound => turn.server.statements.take(held.statement.id),
        Reach::Shared => None,
    };
    let closed = Undo::Closed(Box::new(Closed { name, held, gone }));
    match gone {
        Some(gone) => close_on_server(turn, gone.name(), false, closed),
        None => turn.server.exchange.sent(Owed::Local {
            reply: &backend::CLOSE_COMPLETE,
            undo: closed,
        }),
    }
}

/// What a Describe or Close names, as far as the proxy is concerned.
enum Named {
    /// The server's own affair.
    Portal,
    /// A statement of a session that has its server for itself.
    Raw,
    /// A statement by the client's name.
    Statement(Box<[u8]>),
}

fn statement_target(turn: &Turn<'_>, total: usize, whole: bool) -> Result<Option<Named>, Loss> {
    if total > NAMES_MAX {
        return Err(violation("name too long".into()));
    }
    if !whole {
        return Ok(None);
    }
    let body = &turn.relay.up.unjudged()[frame::HEADER_LEN..total];
    let described =
        frontend::Describe::parse(body).map_err(|error| violation(error.to_string()))?;
    let raw = turn.relay.mode == PoolMode::Session;
    Ok(Some(match described.kind {
        Target::Statement if !raw => Named::Statement(kept(described.name).into()),
        Target::Statement => Named::Raw,
        Target::Portal => Named::Portal,
    }))
}

/// Refuses a statement that the server at hand must not run, since it asks what the session listens to:
/// that of this tail, or the unnamed one.
fn refuses(turn: &mut Turn<'_>, tail: Option<&[u8]>) -> bool {
    let unnamed = match turn.relay.statements.as_deref().map(|all| &all.unnamed) {
        Some(Unnamed::Parsed { tail, .. }) => Some(&**tail),
        _ => None,
    };
    let report = tail
        .or(unnamed)
        .and_then(|tail| match listen::asks(turn.relay, tail) {
            true => Some(listen::unanswered()),
            false => None,
        });
    match report {
        Some(report) => {
            refuse(turn, report);
            true
        }
        None => false,
    }
}

/// What a statement is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum For {
    Bind,
    Describe,
}

impl For {
    /// What a statement does that is wanted for this: who only describes it is bound by nothing in it.
    fn of(self, judgement: Judgement) -> Judgement {
        match self {
            Self::Bind => judgement,
            Self::Describe => Judgement {
                pins: PinSet::EMPTY,
                ..judgement
            },
        }
    }
}

/// What becomes of the client's unnamed statement.
enum Nameless {
    /// The server has it, or will have it by then.
    There,
    /// The client will be told why not.
    Refused,
    /// The message is to be looked at again.
    Later,
}

/// Sees to it that the server has the client's unnamed statement.
fn bring_unnamed(turn: &mut Turn<'_>, what: For) -> Nameless {
    if turn.server.exchange.settles_unnamed_later() {
        turn.check = Check::Quiet;
        return Nameless::Later;
    }
    let known = |turn: &Turn<'_>| match turn.relay.statements.as_deref()?.unnamed {
        Unnamed::Parsed { judgement, .. } => Some(judgement),
        Unnamed::None => None,
    };
    if let Some(judgement) = known(turn) {
        let rewritten = match with_names(turn, &judgement, None, what) {
            by_sql::Brought::AsItIs | by_sql::Brought::Bare => None,
            by_sql::Brought::As(tail) => Some(tail),
            by_sql::Brought::Refused => return Nameless::Refused,
            by_sql::Brought::Later => return Nameless::Later,
        };
        note(turn, what.of(judgement));
        if refuses(turn, None) || !sequence::sent(turn, &judgement, Way::Extended) {
            return Nameless::Refused;
        }
        let unnamed = turn
            .relay
            .statements
            .as_deref()
            .map(|statements| &statements.unnamed);
        if let Some(Unnamed::Parsed { tail, .. }) = unnamed {
            behind::bound(turn.server, &judgement, tail, judgement.lexing);
            if !turn.portals.is_empty() {
                let tail = tail.clone();
                follow::fetches(turn, &judgement, &tail);
            }
        }
        if !turn.unnamed_here && judgement.lexing != turn.relay.lexing {
            // It is read anew, and may be another text by that.
            replies::doubt(turn);
            reasons::bind(turn, PinSet::of(&[Pin::Unknown]));
        }
        let unnamed = turn
            .relay
            .statements
            .as_deref()
            .map(|statements| &statements.unnamed);
        // A name in it may stand for something else by now.
        let here = turn.unnamed_here && !judgement.names;
        if let (
            false,
            Some(Unnamed::Parsed {
                tail, read_under, ..
            }),
        ) = (here, unnamed)
        {
            let there = visit::to(turn, tail, read_under);
            let tail = rewritten.as_deref().unwrap_or(tail);
            let (up, exchange) = (&mut turn.relay.up, &mut turn.server.exchange);
            visit::set_out(up, exchange, there.as_deref());
            write_parse(up.made(), b"", tail);
            exchange.sent(Owed::Parse {
                hidden: true,
                undo: Undo::Nothing,
            });
            visit::come_back(up, exchange, there.is_some());
            turn.unnamed_here = true;
        }
        return Nameless::There;
    }
    let routine = match what {
        For::Bind => "exec_bind_message",
        For::Describe => "exec_describe_statement_message",
    };
    let text = "unnamed prepared statement does not exist";
    let report = ErrorReport::error(sqlstate::INVALID_SQL_STATEMENT_NAME, text);
    refuse(turn, located(report, "postgres.c", routine));
    Nameless::Refused
}

/// Has the server get what a statement names that is itself of the protocol: that of this tail, or
/// the unnamed one.
fn with_names(
    turn: &mut Turn<'_>,
    judgement: &Judgement,
    tail: Option<&[u8]>,
    what: For,
) -> by_sql::Brought {
    if !judgement.names && !judgement.inspects {
        return by_sql::Brought::AsItIs;
    }
    let unnamed = match turn.relay.statements.as_deref().map(|all| &all.unnamed) {
        Some(Unnamed::Parsed { tail, .. }) => Some(tail.clone()),
        _ => None,
    };
    let tail = tail.or(unnamed.as_deref()).unwrap_or_default();
    by_sql::bring(turn, judgement, tail, what == For::Bind)
}

/// What becomes of a name.
enum Brought {
    /// The server has the statement, or will have it by then.
    There(Placed),
    /// The client has prepared no such statement by the protocol. The server is asked for the very
    /// name: it may know one by SQL, and otherwise refuses it in its own words.
    Unknown,
    /// The client will be told why not.
    Refused,
    /// The server is asked first what the statement gives, or what became of the client's Close of it; the message is to be
    /// looked at again.
    Later,
}

/// How the client is told what a statement gives that it uses.
#[derive(Clone, Copy)]
enum Told<'a> {
    /// It asks for just that.
    Now,
    /// It binds the statement by a message of `total` bytes, behind which it may ask what the portal gives.
    With { portal: &'a [u8], total: usize },
}

impl Told<'_> {
    /// What the statement is wanted for.
    fn is_for(self) -> For {
        match self {
            Self::Now => For::Describe,
            Self::With { .. } => For::Bind,
        }
    }

    /// Whether it is told anew before it gets a row, whatever it was told before. Who wants each column in a
    /// format of its own has gone by what it was told.
    fn is_told(self, turn: &Turn<'_>) -> bool {
        let Self::With { portal, total } = self else {
            return true;
        };
        let Some((bind, behind)) = turn.relay.up.unjudged().split_at_checked(total) else {
            return false;
        };
        let Ok(Some(header)) = frame::header(behind) else {
            return false;
        };
        let body = behind.get(frame::HEADER_LEN..header.total());
        let described = body.and_then(|body| frontend::Describe::parse(body).ok());
        header.tag == tag::DESCRIBE
            && described.is_some_and(|what| what.kind == Target::Portal && what.name == portal)
            && frontend::Bind::parse(&bind[frame::HEADER_LEN..])
                .is_ok_and(|bind| bind.results.len() <= FORMAT_LEN)
    }
}

/// Sees to it that the server has the statement that the client calls `name`, in the shape that
/// the client knows.
fn bring_named(turn: &mut Turn<'_>, name: &[u8], told: Told<'_>) -> Brought {
    if turn.server.exchange.may_reopen(kept(name)) {
        turn.check = Check::Quiet;
        return Brought::Later;
    }
    let known = turn.relay.statements.as_deref();
    let Some(held) = known.and_then(|statements| statements.get(name)).cloned() else {
        return unknown(turn, name);
    };
    let statement = &held.statement;
    let (judgement, tail) = (&statement.judgement, statement.query());
    let rewritten = match with_names(turn, judgement, Some(tail), told.is_for()) {
        by_sql::Brought::AsItIs => None,
        by_sql::Brought::Bare => {
            note(turn, told.is_for().of(statement.judgement));
            return Brought::Unknown;
        }
        by_sql::Brought::As(tail) => Some(tail),
        by_sql::Brought::Refused => return Brought::Refused,
        by_sql::Brought::Later => return Brought::Later,
    };
    note(turn, told.is_for().of(statement.judgement));
    if refuses(turn, Some(tail)) || !sequence::sent(turn, judgement, Way::Extended) {
        return Brought::Refused;
    }
    follow::fetches(turn, judgement, tail);
    let brought = match judgement.names {
        // A name in it may stand for something else by now. What it gives is not compared, as
        // Postgres does not.
        true => {
            let tail = rewritten.as_deref().unwrap_or(tail);
            Brought::There(put_as(turn, statement, tail, None))
        }
        false => bring_known(turn, name, &held, told),
    };
    if matches!(brought, Brought::There(_)) {
        // What it does once it runs has no say in how it is read itself.
        behind::bound(turn.server, judgement, tail, judgement.lexing);
    }
    brought
}

/// The same of one that is known, and that has no names in it which are known here alone.
fn bring_known(
    turn: &mut Turn<'_>,
    name: &[u8],
    held: &Held<Judgement>,
    told: Told<'_>,
) -> Brought {
    let statement = &held.statement;
    let checked = match turn.check {
        Check::Done(placed) => {
            turn.check = Check::None;
            Some(placed)
        }
        Check::None | Check::UnderWay | Check::Ahead | Check::Quiet | Check::Goodbye => None,
    };
    // What was put there and described a moment ago is not put there again.
    let there = match checked.filter(|placed| turn.server.statements.has(*placed)) {
        Some(placed) => Some(placed),
        None => touch(turn, statement, meaning::perhaps_unlike),
    };
    if let Some(placed) = there {
        let shape = turn.server.statements.shape(statement.id);
        let fits = |told: Shape| shape.is_some_and(|shape| told.fits(shape));
        if held.shape.is_none_or(fits) || told.is_told(turn) {
            note_use(turn, statement, placed);
            return Brought::There(placed);
        }
        if checked == Some(placed) {
            refuse(turn, reshaped());
            return Brought::Refused;
        }
    }
    turn.relay.pool.stats.server_parse_again();
    let placed = put(turn, statement, None);
    if held.shape.is_none() || told.is_told(turn) {
        return Brought::There(placed);
    }
    let described = Described {
        name: name.into(),
        placed,
    };
    describe_on_server(turn, true, described);
    turn.relay.up.insert(&frontend::FLUSH);
    turn.check = Check::UnderWay;
    Brought::Later
}

/// What the server has of a statement, if that can be used. Where it reads the text anew by that, it is used only under
/// the settings under which that was read first, as far as `unlike` tells.
pub(super) fn touch(
    turn: &mut Turn<'_>,
    statement: &Statement<Judgement>,
    unlike: meaning::Unlike,
) -> Option<Placed> {
    let there = turn.server.statements.touch_as(statement.id, || false);
    if there.is_some() || !turn.server.statements.is_unread(statement.id) {
        return there;
    }
    let alike = unlike(turn, &statement.read_under).is_empty();
    turn.server.statements.touch_as(statement.id, || alike)
}

/// Takes note that what the server has of a statement is bound now, or described.
pub(super) fn note_use(turn: &mut Turn<'_>, statement: &Statement<Judgement>, placed: Placed) {
    if !meaning::reads_alike(turn, statement) {
        turn.server.statements.lend(placed);
    }
}

fn unknown(turn: &mut Turn<'_>, name: &[u8]) -> Brought {
    if !ServerName::is_reserved(name) {
        return Brought::Unknown;
    }
    // The server may well have it, but as another client's.
    refuse(turn, missing(name));
    Brought::Refused
}

/// What Postgres says of a name that stands for nothing.
fn missing(name: &[u8]) -> ErrorReport {
    let text = format!("prepared statement \"{}\" does not exist", lossy(name));
    let report = ErrorReport::error(sqlstate::INVALID_SQL_STATEMENT_NAME, text);
    located(report, "prepare.c", "FetchPreparedStatement")
}

/// Puts a statement on the server, in place of what it has of it. `by_client` is the client's name,
/// if the client has asked for it just now and waits for the answer.
pub(super) fn put(
    turn: &mut Turn<'_>,
    statement: &Statement<Judgement>,
    by_client: Option<Box<[u8]>>,
) -> Placed {
    put_as(turn, statement, &statement.tail, by_client)
}

/// As [`put`], with this in place of the statement's own tail.
fn put_as(
    turn: &mut Turn<'_>,
    statement: &Statement<Judgement>,
    tail: &[u8],
    by_client: Option<Box<[u8]>>,
) -> Placed {
    let placed = place(turn, statement);
    let own = placed.name.text();
    turn.relay.pool.stats.server_parse();
    let hidden = by_client.is_none();
    let there = match hidden {
        true => visit::to(turn, statement.query(), &statement.read_under),
        false => None,
    };
    let undo = Undo::Parsed {
        on_server: Some(placed),
        by_client,
    };
    let (up, exchange) = (&mut turn.relay.up, &mut turn.server.exchange);
    visit::set_out(up, exchange, there.as_deref());
    match statement.source {
        Source::Parse => {
            write_parse(up.made(), own.as_bytes(), tail);
            exchange.sent(Owed::Parse { hidden, undo });
        }
        Source::Prepare { .. } => {
            let (sql, edit) = statement.renamed(own.as_bytes()).unwrap_or_default();
            run_edited(turn, &sql, edit, undo);
        }
    }
    let (up, exchange) = (&mut turn.relay.up, &mut turn.server.exchange);
    visit::come_back(up, exchange, there.is_some());
    placed
}

/// Has a name for a statement that is put on the server, in place of what that has of it.
pub(super) fn place(turn: &mut Turn<'_>, statement: &Statement<Judgement>) -> Placed {
    make_room(turn, statement);
    let fits = meaning::fits(turn, statement);
    let server: &mut ServerStatements = &mut turn.server.statements;
    let placed = match statement.source {
        Source::Parse => server.insert(statement.id, statement.tail.len()),
        Source::Prepare { .. } => server.insert_by_sql(statement.id, statement.tail.len()),
    };
    if !fits {
        server.lend(placed);
    }
    placed
}

/// Closes what the server has of a statement, and what must leave it for the statement.
fn make_room(turn: &mut Turn<'_>, statement: &Statement<Judgement>) {
    if let Some(old) = turn.server.statements.take(statement.id) {
        close_on_server(turn, old.name(), true, Undo::Gone(Box::new(old)));
    }
    while let Some(old) = turn.server.statements.make_room(statement.tail.len()) {
        turn.relay.pool.stats.evicted();
        close_on_server(turn, old.name(), true, Undo::Gone(Box::new(old)));
    }
}

/// Puts a statement on the server under the client's own name for it.
pub(super) fn put_bare(turn: &mut Turn<'_>, name: &[u8], statement: &Statement<Judgement>) {
    let there = visit::to(turn, statement.query(), &statement.read_under);
    let (up, exchange) = (&mut turn.relay.up, &mut turn.server.exchange);
    visit::set_out(up, exchange, there.as_deref());
    match statement.source {
        Source::Parse => {
            write_parse(up.made(), name, &statement.tail);
            exchange.sent(Owed::Parse {
                hidden: true,
                undo: Undo::Nothing,
            });
        }
        Source::Prepare { .. } => {
            let text = statement.tail.split(|byte| *byte == 0).next();
            let text = text.unwrap_or_default();
            run_edited(turn, text, Edit::default(), Undo::Nothing);
        }
    }
    let (up, exchange) = (&mut turn.relay.up, &mut turn.server.exchange);
    visit::come_back(up, exchange, there.is_some());
}

/// Closes all that the server has of anybody's statements, and of ours.
pub(super) fn close_all(turn: &mut Turn<'_>) {
    for old in turn.server.statements.take_all() {
        close_on_server(turn, old.name(), true, Undo::Gone(Box::new(old)));
    }
    for ours in [HIDDEN, visit::NAME, follow::ASIDE, listen::MARK, mark::NAME] {
        close_hidden(turn, Target::Statement, ours, Undo::Nothing);
    }
}

/// Puts a statement under a name of ours that does nothing, anew if it is there.
pub(super) fn stand_in(turn: &mut Turn<'_>, name: &[u8]) {
    close_hidden(turn, Target::Statement, name, Undo::Nothing);
    write_parse(turn.relay.up.made(), name, &[0; 3]);
    turn.server.exchange.sent(Owed::Parse {
        hidden: true,
        undo: Undo::Nothing,
    });
}

/// Has the server remark on a name of the client's, as it stands in a text, that does not come before it.
pub(super) fn remark(turn: &mut Turn<'_>, name: &[u8]) {
    close_hidden(turn, Target::Statement, HIDDEN, Undo::Nothing);
    // It is only read, and takes any name.
    let text = [b"LISTEN ", name].concat();
    let built = frontend::parse(turn.relay.up.made(), HIDDEN, &text, &[]);
    debug_assert!(built.is_ok(), "texts are bounded");
    turn.server.exchange.sent(Owed::Remarks);
    close_hidden(turn, Target::Statement, HIDDEN, Undo::Nothing);
}

/// Runs a text of the client's, changed in this place, inside of its pipeline, without a trace but for its effect; `undo`
/// is what to take back if that fails.
fn run_edited(turn: &mut Turn<'_>, sql: &[u8], edit: Edit, undo: Undo<Judgement>) {
    const NAME: &[u8] = HIDDEN;
    // One that an error has left behind is in the way.
    close_hidden(turn, Target::Statement, NAME, Undo::Nothing);
    let out = turn.relay.up.made();
    let built = frontend::parse(out, NAME, sql, &[])
        .and_then(|()| frontend::bind(out, NAME, NAME, &[], &[], &[]))
        .and_then(|()| frontend::execute(out, NAME, 0));
    debug_assert!(built.is_ok(), "texts are bounded");
    let exchange = &mut turn.server.exchange;
    exchange.sent(Owed::Parse {
        hidden: true,
        undo: Undo::Nothing,
    });
    exchange.sent(Owed::Ours(backend::tag::BIND_COMPLETE));
    if edit != Edit::default() {
        follow::renamed(turn, &[edit]);
    }
    let exchange = &mut turn.server.exchange;
    exchange.sent(Owed::Ours(backend::tag::COMMAND_COMPLETE));
    close_hidden(turn, Target::Portal, NAME, Undo::Nothing);
    close_hidden(turn, Target::Statement, NAME, undo);
}

pub(super) fn close_hidden(
    turn: &mut Turn<'_>,
    target: Target,
    name: &[u8],
    undo: Undo<Judgement>,
) {
    let built = frontend::close(turn.relay.up.made(), target, name);
    debug_assert!(built.is_ok(), "the name is short");
    turn.server
        .exchange
        .sent(Owed::Close { hidden: true, undo });
}

fn close_on_server(turn: &mut Turn<'_>, name: ServerName, hidden: bool, undo: Undo<Judgement>) {
    let name = name.text();
    let built = frontend::close(turn.relay.up.made(), Target::Statement, name.as_bytes());
    debug_assert!(built.is_ok(), "the name is short");
    turn.server.exchange.sent(Owed::Close { hidden, undo });
}

fn describe_on_server(turn: &mut Turn<'_>, hidden: bool, what: Described) {
    let own = what.placed.name.text();
    let built = frontend::describe(turn.relay.up.made(), Target::Statement, own.as_bytes());
    debug_assert!(built.is_ok(), "the name is short");
    turn.server.exchange.sent(Owed::DescribeStatement {
        hidden,
        of: Some(Box::new(what)),
    });
}

fn write_parse(out: &mut bytes::BytesMut, name: &[u8], tail: &[u8]) {
    let built = frame::build(out, tag::PARSE, |out| {
        out.extend_from_slice(name);
        out.extend_from_slice(&[0]);
        out.extend_from_slice(tail);
    });
    debug_assert!(built.is_ok(), "the text is bounded");
}

/// Why the client may not prepare one more statement of so many bytes, if it may not; `more` is how many it has
/// besides those that are known, and their bytes.
pub(super) fn too_many(turn: &Turn<'_>, more: (usize, usize), bytes: usize) -> Option<ErrorReport> {
    too_many_of(turn.relay, more, bytes)
}

fn too_many_of(relay: &Relay, more: (usize, usize), bytes: usize) -> Option<ErrorReport> {
    let settings = relay.pool.settings();
    let limits = &settings.limits;
    let known = relay.statements.as_deref();
    let (count, held) = known.map_or((0, 0), |client| (client.len(), client.bytes()));
    let (count, held) = (count + more.0, held + more.1);
    let text = if count >= limits.max_prepared_statements.get() {
        "too many prepared statements of one client (max_prepared_statements)"
    } else if held + bytes > limits.max_prepared_bytes.get() {
        "the prepared statements of one client are too large (max_prepared_bytes)"
    } else {
        return None;
    };
    Some(ErrorReport::error(sqlstate::PROGRAM_LIMIT_EXCEEDED, text))
}

/// What Postgres says of a name that is in use.
fn taken(name: &[u8]) -> ErrorReport {
    let text = format!("prepared statement \"{}\" already exists", lossy(name));
    let report = ErrorReport::error(sqlstate::DUPLICATE_PREPARED_STATEMENT, text);
    located(report, "prepare.c", "StorePreparedStatement")
}

/// What Postgres says when a statement would give other columns than its client was told.
pub(super) fn reshaped() -> ErrorReport {
    let text = "cached plan must not change result type";
    let report = ErrorReport::error(sqlstate::FEATURE_NOT_SUPPORTED, text);
    located(report, "plancache.c", "RevalidateCachedQuery")
}

/// Says where in Postgres an error of its kind is made: drivers tell some by the routine. The lines
/// are those of PostgreSQL 15.
fn located(mut report: ErrorReport, file: &str, routine: &str) -> ErrorReport {
    let line = match routine {
        "FetchPreparedStatement" => "455",
        "StorePreparedStatement" => "412",
        "RevalidateCachedQuery" => "722",
        "exec_bind_message" => "1608",
        _ => "2552",
    };
    let fields = [
        (Field::File, file),
        (Field::Line, line),
        (Field::Routine, routine),
    ];
    let fields = fields.map(|(field, text)| (field, text.to_owned()));
    report.others.extend(fields);
    report
}

/// A name for a message, which is kept until its turn comes.
fn lossy(name: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(name.get(..SAID_MAX).unwrap_or(name))
}
