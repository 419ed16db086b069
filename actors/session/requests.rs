//! What a client's messages mean for the server that it holds.

use std::sync::Arc;

use pgherd_session::{Owed, Statement, Undo, Unnamed};
use pgherd_sql::Pin;
use pgherd_wire::backend::TransactionStatus;
use pgherd_wire::error::ErrorReport;
use pgherd_wire::frontend::{self, BindHead, Target, tag};
use pgherd_wire::{backend, frame, sqlstate};

use crate::judgement::{self, Judgement};
use crate::session::relay::Relay;
use crate::session::replies;
use crate::session::turn::{Loss, Turn};
use pgherd_config::PoolMode;

/// What is not larger is always held; the configuration allows no lower `max_held_message`.
const HELD_MIN: usize = 8192;
/// Portal and statement names together may have up to this size.
const NAMES_MAX: usize = 16 * 1024;
/// The name of a statement that no server ever has.
const NOWHERE: &[u8] = b"pgherd_0";

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

/// Judges everything that the client has sent and passes it on to the server.
pub(super) fn take(turn: &mut Turn<'_>) -> Result<(), Loss> {
    while turn.relay.up.resume() && !turn.server.exchange.is_crowded() {
        let header = match frame::header(turn.relay.up.unjudged()) {
            Ok(Some(header)) => header,
            Ok(None) => break,
            Err(error) => return Err(violation(error.to_string())),
        };
        let total = header.total();
        let whole = turn.relay.up.unjudged().len() >= total;
        match header.tag {
            tag::COPY_DATA => {
                turn.relay.up.pass(total);
                continue;
            }
            tag::COPY_DONE | tag::COPY_FAIL => {
                turn.server.exchange.sent(Owed::CopyEnd);
                turn.relay.up.pass(total);
                continue;
            }
            tag::TERMINATE => return Err(Loss::Left),
            tag::SYNC => {
                turn.server.exchange.sent(Owed::Sync);
                turn.relay.up.pass(total);
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
            tag::PARSE => parse(turn, total, whole)?,
            tag::BIND => bind(turn, total, whole)?,
            tag::DESCRIBE => describe(turn, total, whole)?,
            tag::CLOSE => close(turn, total, whole)?,
            tag::EXECUTE => {
                turn.server.exchange.sent(Owed::Execute);
                turn.relay.up.pass(total);
                true
            }
            tag::FLUSH => {
                turn.relay.up.pass(total);
                true
            }
            tag::FUNCTION_CALL => {
                turn.server.exchange.sent(Owed::FunctionCall);
                turn.relay.up.pass(total);
                true
            }
            other => return Err(violation(format!("invalid frontend message type {other}"))),
        };
        if !taken {
            break;
        }
        replies::reply(turn);
    }
    Ok(())
}

fn query(turn: &mut Turn<'_>, total: usize, whole: bool) -> Result<bool, Loss> {
    if !is_held(turn.relay, total) {
        turn.relay.pins.insert(Pin::Unknown);
        turn.committing = true;
        turn.beginning = true;
    } else if whole {
        let body = &turn.relay.up.unjudged()[frame::HEADER_LEN..total];
        let query = frontend::Query::parse(body).map_err(|error| violation(error.to_string()))?;
        let judgement = turn.relay.judge(query.text);
        if judgement.plain && turn.server.exchange.is_over() {
            turn.relay.pins = turn.relay.pins.union(judgement.pins);
            turn.alone = Some(judgement);
        } else {
            note(turn, judgement);
        }
    } else {
        return Ok(false);
    }
    // A simple query ends the unnamed statement on the server.
    turn.unnamed_here = false;
    if let Some(statements) = turn.relay.statements.as_deref_mut() {
        statements.unnamed = Unnamed::None;
    }
    turn.server.touched = true;
    turn.server.exchange.sent(Owed::Query);
    turn.relay.up.pass(total);
    Ok(true)
}

/// Takes note of what a text does to the session.
fn note(turn: &mut Turn<'_>, judgement: Judgement) {
    replies::doubt(turn);
    turn.relay.pins = turn.relay.pins.union(judgement.pins);
    if judgement.resets() {
        // Whether and when it will have taken effect is not followed.
        turn.relay.pins.insert(Pin::Set);
    }
    turn.committing |= judgement.commits;
    turn.beginning |= judgement.begins;
}

fn parse(turn: &mut Turn<'_>, total: usize, whole: bool) -> Result<bool, Loss> {
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
    let session_mode = turn.relay.mode == PoolMode::Session;
    let body = &turn.relay.up.unjudged()[frame::HEADER_LEN..total];
    let parse = frontend::Parse::parse(body).map_err(|error| violation(error.to_string()))?;
    let tail = &body[parse.name.len() + 1..];
    turn.server.touched = true;
    if session_mode {
        turn.server.exchange.sent(Owed::Parse {
            hidden: false,
            undo: Undo::Nothing,
        });
        turn.relay.up.pass(total);
        return Ok(true);
    }
    if parse.name.is_empty() {
        let unnamed = Unnamed::Parsed {
            judgement: turn.relay.judge(parse.query),
            tail: tail.into(),
        };
        turn.relay.statements.get_or_insert_default().unnamed = unnamed;
        turn.unnamed_here = true;
        turn.server.exchange.sent(Owed::Parse {
            hidden: false,
            undo: Undo::Unnamed,
        });
        turn.relay.up.pass(total);
        return Ok(true);
    }
    let known = turn.relay.statements.as_deref();
    if known.is_some_and(|client| client.get(parse.name).is_some()) {
        let text = format!(
            "prepared statement \"{}\" already exists",
            lossy(parse.name)
        );
        refuse(
            turn,
            ErrorReport::error(sqlstate::DUPLICATE_PREPARED_STATEMENT, text),
        );
        turn.relay.up.hide(total);
        return Ok(true);
    }
    let settings = turn.relay.parameters.reading();
    if let Some(report) = too_many(turn, parse.name.len() + tail.len() + settings.len()) {
        refuse(turn, report);
        turn.relay.up.hide(total);
        return Ok(true);
    }
    let name: Box<[u8]> = parse.name.into();
    let judgement = || turn.relay.judge(parse.query);
    let registry = &turn.relay.pool.registry;
    let statement = if judgement::is_shareable(parse.query, turn.relay.lexing) {
        registry.intern(&settings, tail, judgement)
    } else {
        registry.own(tail, judgement())
    };
    turn.relay
        .statements
        .get_or_insert_default()
        .insert(&name, Arc::clone(&statement));
    turn.relay.up.hide(total);
    turn.relay.pool.stats.client_parse();
    let present = turn.server.statements.touch(statement.id);
    if present && turn.server.exchange.status() != TransactionStatus::Failed {
        turn.server.exchange.sent(Owed::Local {
            reply: &backend::PARSE_COMPLETE,
            undo: Undo::Parsed {
                on_server: None,
                by_client: Some(name),
            },
        });
    } else {
        if present {
            // In a failed transaction the server itself must say what is allowed.
            close_on_server(turn, &statement.name, Undo::Nothing);
        }
        prepare_on_server(turn, &statement, Some(name));
    }
    Ok(true)
}

fn bind(turn: &mut Turn<'_>, total: usize, whole: bool) -> Result<bool, Loss> {
    let here = turn.relay.up.unjudged();
    let body = &here[frame::HEADER_LEN..total.min(here.len())];
    let head = match BindHead::parse(body).map_err(|error| violation(error.to_string()))? {
        Some(head) => head,
        None if whole => return Err(violation("invalid Bind message".into())),
        None if body.len() > NAMES_MAX => return Err(violation("name too long".into())),
        None => return Ok(false),
    };
    if turn.relay.mode == PoolMode::Session {
        turn.server.exchange.sent(Owed::Bind);
        turn.relay.up.pass(total);
        return Ok(true);
    }
    if head.statement.is_empty() {
        if bring_unnamed(turn) {
            turn.server.exchange.sent(Owed::Bind);
            turn.relay.up.pass(total);
        } else {
            turn.relay.up.hide(total);
        }
        return Ok(true);
    }
    let portal: Box<[u8]> = head.portal.into();
    let name: Box<[u8]> = head.statement.into();
    let head_len = frame::HEADER_LEN + head.len;
    let Some(statement) = bring_named(turn, &name) else {
        turn.relay.up.hide(total);
        return Ok(true);
    };
    let length = total - 1 - name.len() + statement.name.len();
    let Ok(length) = u32::try_from(length) else {
        return Err(violation("invalid message length".into()));
    };
    let out = turn.relay.up.made();
    out.extend_from_slice(&[tag::BIND]);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&portal);
    out.extend_from_slice(&[0]);
    out.extend_from_slice(&statement.name);
    out.extend_from_slice(&[0]);
    turn.relay.up.hide(head_len);
    turn.relay.up.pass(total - head_len);
    turn.server.exchange.sent(Owed::Bind);
    turn.relay.pool.stats.bind();
    Ok(true)
}

fn describe(turn: &mut Turn<'_>, total: usize, whole: bool) -> Result<bool, Loss> {
    let Some(name) = statement_target(turn, total, whole)? else {
        return Ok(false);
    };
    match name {
        Named::Portal => {
            turn.server.exchange.sent(Owed::DescribePortal);
            turn.relay.up.pass(total);
        }
        Named::Statement(name) if name.is_empty() => {
            if bring_unnamed(turn) {
                turn.server.exchange.sent(Owed::DescribeStatement);
                turn.relay.up.pass(total);
            } else {
                turn.relay.up.hide(total);
            }
        }
        Named::Statement(name) => {
            turn.relay.up.hide(total);
            if let Some(statement) = bring_named(turn, &name) {
                let built =
                    frontend::describe(turn.relay.up.made(), Target::Statement, &statement.name);
                debug_assert!(built.is_ok(), "the name is short");
                turn.server.exchange.sent(Owed::DescribeStatement);
            }
        }
    }
    Ok(true)
}

fn close(turn: &mut Turn<'_>, total: usize, whole: bool) -> Result<bool, Loss> {
    let Some(name) = statement_target(turn, total, whole)? else {
        return Ok(false);
    };
    match name {
        Named::Statement(name) if !name.is_empty() => {
            let client = turn.relay.statements.as_deref_mut();
            let undo = client.map_or(Undo::Nothing, |client| {
                let known = client.get(&name).cloned();
                client.remove(&name);
                known.map_or(Undo::Nothing, |statement| Undo::Closed { name, statement })
            });
            turn.server.exchange.sent(Owed::Local {
                reply: &backend::CLOSE_COMPLETE,
                undo,
            });
            turn.relay.up.hide(total);
        }
        Named::Statement(_) => {
            turn.unnamed_here = false;
            if let Some(client) = turn.relay.statements.as_deref_mut() {
                client.unnamed = Unnamed::None;
            }
            turn.server.exchange.sent(Owed::Close {
                hidden: false,
                undo: Undo::Nothing,
            });
            turn.relay.up.pass(total);
        }
        Named::Portal => {
            turn.server.exchange.sent(Owed::Close {
                hidden: false,
                undo: Undo::Nothing,
            });
            turn.relay.up.pass(total);
        }
    }
    Ok(true)
}

/// What a Describe or Close names, as far as the proxy is concerned.
enum Named {
    /// The server's own affair.
    Portal,
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
        Target::Statement if !raw => Named::Statement(described.name.into()),
        Target::Statement | Target::Portal => Named::Portal,
    }))
}

/// Sees to it that the server has the client's unnamed statement; false when there is none, and
/// the client will be told.
fn bring_unnamed(turn: &mut Turn<'_>) -> bool {
    let known = |turn: &Turn<'_>| match turn.relay.statements.as_deref()?.unnamed {
        Unnamed::Parsed { judgement, .. } => Some(judgement),
        _ => None,
    };
    if let Some(judgement) = known(turn) {
        note(turn, judgement);
        let unnamed = turn
            .relay
            .statements
            .as_deref()
            .map(|statements| &statements.unnamed);
        if let (false, Some(Unnamed::Parsed { tail, .. })) = (turn.unnamed_here, unnamed) {
            let out = turn.relay.up.made();
            // The tail was cut from a Parse that fitted, so this one fits too.
            let built = frame::build(out, tag::PARSE, |out| {
                out.extend_from_slice(&[0]);
                out.extend_from_slice(tail);
            });
            debug_assert!(built.is_ok(), "it is as long as the client's");
            turn.server.exchange.sent(Owed::Parse {
                hidden: true,
                undo: Undo::Nothing,
            });
            turn.unnamed_here = true;
        }
        return true;
    }
    let text = "unnamed prepared statement does not exist";
    refuse(
        turn,
        ErrorReport::error(sqlstate::INVALID_SQL_STATEMENT_NAME, text),
    );
    false
}

/// Sees to it that the server has the statement that the client calls `name`; `None` when there
/// is none, and the client will be told.
fn bring_named(turn: &mut Turn<'_>, name: &[u8]) -> Option<Arc<Statement<Judgement>>> {
    let known = turn
        .relay
        .statements
        .as_deref()
        .and_then(|statements| statements.get(name));
    let Some(statement) = known.cloned() else {
        let text = format!("prepared statement \"{}\" does not exist", lossy(name));
        refuse(
            turn,
            ErrorReport::error(sqlstate::INVALID_SQL_STATEMENT_NAME, text),
        );
        return None;
    };
    note(turn, statement.judgement);
    if !turn.server.statements.touch(statement.id) {
        turn.relay.pool.stats.server_parse();
        prepare_hidden(turn, &statement);
    }
    Some(statement)
}

fn prepare_hidden(turn: &mut Turn<'_>, statement: &Statement<Judgement>) {
    make_room(turn, statement);
    write_parse(turn, statement);
    let undo = Undo::Parsed {
        on_server: Some(statement.id),
        by_client: None,
    };
    turn.server
        .exchange
        .sent(Owed::Parse { hidden: true, undo });
}

fn prepare_on_server(
    turn: &mut Turn<'_>,
    statement: &Statement<Judgement>,
    by_client: Option<Box<[u8]>>,
) {
    make_room(turn, statement);
    write_parse(turn, statement);
    turn.relay.pool.stats.server_parse();
    let undo = Undo::Parsed {
        on_server: Some(statement.id),
        by_client,
    };
    turn.server.exchange.sent(Owed::Parse {
        hidden: false,
        undo,
    });
}

fn make_room(turn: &mut Turn<'_>, statement: &Statement<Judgement>) {
    if let Some(evicted) = turn.server.statements.insert(statement.id, &statement.name) {
        let name = evicted.name.clone();
        close_on_server(turn, &name, Undo::Evicted(evicted));
    }
}

fn close_on_server(turn: &mut Turn<'_>, name: &[u8], undo: Undo<Judgement>) {
    let built = frontend::close(turn.relay.up.made(), Target::Statement, name);
    debug_assert!(built.is_ok(), "the name is short");
    turn.server
        .exchange
        .sent(Owed::Close { hidden: true, undo });
}

fn write_parse(turn: &mut Turn<'_>, statement: &Statement<Judgement>) {
    let built = frame::build(turn.relay.up.made(), tag::PARSE, |out| {
        out.extend_from_slice(&statement.name);
        out.extend_from_slice(&[0]);
        out.extend_from_slice(&statement.tail);
    });
    debug_assert!(built.is_ok(), "the text is bounded");
}

/// Makes the server fail at this point of the pipeline, and words the failure for it: so the
/// transaction ends and the rest of the pipeline is skipped exactly as on one Postgres.
fn refuse(turn: &mut Turn<'_>, report: ErrorReport) {
    turn.relay.record(&report);
    let built = frontend::bind(turn.relay.up.made(), b"", NOWHERE, &[], &[], &[]);
    debug_assert!(built.is_ok(), "the message is short");
    let mut worded = bytes::BytesMut::new();
    report.encode_error(&mut worded);
    turn.server.exchange.sent(Owed::Fail(worded[..].into()));
}

/// Whether a message of this size is read whole and judged; a larger query pins the session unread.
fn is_held(relay: &Relay, total: usize) -> bool {
    total <= HELD_MIN || total <= relay.pool.settings().limits.max_held_message.get()
}

/// Why the client may not prepare one more statement of so many bytes, if it may not.
fn too_many(turn: &Turn<'_>, bytes: usize) -> Option<ErrorReport> {
    let settings = turn.relay.pool.settings();
    let limits = &settings.limits;
    let known = turn.relay.statements.as_deref();
    let (count, held) = known.map_or((0, 0), |client| (client.len(), client.bytes()));
    let text = if count >= limits.max_prepared_statements.get() {
        "too many prepared statements of one client (max_prepared_statements)"
    } else if held + bytes > limits.max_prepared_bytes.get() {
        "the prepared statements of one client are too large (max_prepared_bytes)"
    } else {
        return None;
    };
    Some(ErrorReport::error(sqlstate::PROGRAM_LIMIT_EXCEEDED, text))
}

fn violation(message: String) -> Loss {
    Loss::Fatal(Box::new(ErrorReport::fatal(
        sqlstate::PROTOCOL_VIOLATION,
        message,
    )))
}

fn lossy(name: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(name)
}
