//! What goes to the server in the place of a LISTEN or an UNLISTEN.

use pgherd_session::{Edits, Owed, Undo};
use pgherd_sql::Listened;
use pgherd_sql::parse::Channel;
use pgherd_wire::frame;
use pgherd_wire::frontend::{self, BindHead, Target, tag};

use crate::herald::table::Asked;
use crate::judgement::Listens;
use crate::session::listen::{MARK as NAME, Marked};
use crate::session::requests;
use crate::session::turn::{Loss, Turn};

const LISTEN: &[u8] = b"C\0\0\0\x0bLISTEN\0";
const UNLISTEN: &[u8] = b"C\0\0\0\x0dUNLISTEN\0";

/// What the client is told when its statement is done.
fn reply(listens: Listens) -> &'static [u8] {
    match listens {
        Listens::Listen => LISTEN,
        Listens::Unlisten | Listens::Nothing | Listens::Opaque => UNLISTEN,
    }
}

/// The mark as a statement.
fn mark(turn: &Turn<'_>, asked: Asked) -> Vec<u8> {
    let channel = String::from_utf8_lossy(turn.relay.pool.audience.marks()).into_owned();
    format!("NOTIFY {channel}, '{:x}'", asked.token).into_bytes()
}

/// A text with marks in the place of what listens in it.
pub(super) fn marked(
    turn: &Turn<'_>,
    text: &[u8],
    statements: usize,
    found: &[Listened],
    asked: &[Asked],
) -> Marked {
    let mut out = Vec::with_capacity(text.len() + 64 * found.len());
    let mut edits = Edits::of(text);
    let mut answers = vec![None; statements];
    let mut copied = 0;
    for (one, asked) in found.iter().zip(asked) {
        let mark = mark(turn, *asked);
        edits.push(one.at.clone(), mark.len());
        out.extend_from_slice(&text[copied..one.at.start]);
        out.extend_from_slice(&mark);
        copied = one.at.end;
        if let Some(answer) = answers.get_mut(one.number) {
            *answer = Some(match one.channel {
                Channel::Listen(_) => LISTEN,
                Channel::Unlisten(_) | Channel::UnlistenAll => UNLISTEN,
            });
        }
    }
    out.extend_from_slice(&text[copied..]);
    Marked {
        text: out,
        edits: edits.into_vec(),
        answers,
    }
}

/// Sends a mark in the place of a simple query.
pub(super) fn query(turn: &mut Turn<'_>, total: usize, asked: Asked, listens: Listens) {
    let text = mark(turn, asked);
    requests::replace_query(turn, total, &text);
    turn.server.exchange.sent(Owed::QuerySaying(reply(listens)));
    turn.attempt.ends();
}

/// Sends a mark, and a Bind of it in the place of the client's.
pub(super) fn bind(
    turn: &mut Turn<'_>,
    total: usize,
    asked: Asked,
    listens: Listens,
) -> Result<(), Loss> {
    let body = &turn.relay.up.unjudged()[frame::HEADER_LEN..total];
    let head = BindHead::parse(body).map_err(|error| requests::violation(error.to_string()))?;
    let Some(head) = head else {
        return Err(requests::violation("invalid Bind message".into()));
    };
    let portal: Box<[u8]> = head.portal.into();
    let rest: Box<[u8]> = body[head.len..].into();
    let text = mark(turn, asked);
    turn.relay.up.hide(total);
    let out = turn.relay.up.made();
    let built = [
        frontend::close(out, Target::Statement, NAME),
        frontend::parse(out, NAME, &text, &[]),
        frame::build(out, tag::BIND, |out| {
            out.extend_from_slice(&portal);
            out.extend_from_slice(&[0]);
            out.extend_from_slice(NAME);
            out.extend_from_slice(&[0]);
            out.extend_from_slice(&rest);
        }),
    ];
    debug_assert!(built.iter().all(Result::is_ok), "they are short");
    let exchange = &mut turn.server.exchange;
    exchange.sent(Owed::Close {
        hidden: true,
        undo: Undo::Nothing,
    });
    exchange.sent(Owed::Parse {
        hidden: true,
        undo: Undo::Nothing,
    });
    exchange.sent(Owed::Bind { of: None });
    turn.server.touched = true;
    turn.listen.portals.push((portal, reply(listens)));
    Ok(())
}
