//! The names by which clients know their statements, in place of those that servers know.

use std::ops::Range;

use pgherd_session::ServerName;
use pgherd_wire::error::{ErrorReport, Field};
use pgherd_wire::{frame, sqlstate};

use crate::session::turn::Turn;

/// What Postgres says before the name of a statement: in an error, and in the log of a statement.
const BEFORE: [&str; 5] = ["\"", "execute ", "execute fetch from ", "bind ", "parse "];

/// The error or notice that comes next with the client's own name for a statement, if it names one
/// by the server's.
pub(super) fn renamed(turn: &Turn<'_>, total: usize) -> Option<Box<[u8]>> {
    let message = turn.server.flow.unjudged().get(..total)?;
    let body = &message[frame::HEADER_LEN..];
    let start = text(body)?;
    let end = start + body[start..].iter().position(|byte| *byte == 0)?;
    // Without such a name, which is nearly always, the text is not even read as text.
    let said = std::str::from_utf8(&body[start..end]).ok()?;
    let (at, own) = turn.names.find(said).or_else(|| known(turn, said))?;
    let mut renamed = bytes::BytesMut::new();
    let built = frame::build(&mut renamed, message[0], |out| {
        out.extend_from_slice(&body[..start + at.start]);
        out.extend_from_slice(own);
        out.extend_from_slice(&body[start + at.end..]);
    });
    built.ok().map(|()| renamed[..].into())
}

/// Where a text names a statement by the server's name, and the client's own.
fn known<'a>(turn: &'a Turn<'_>, said: &str) -> Option<(Range<usize>, &'a [u8])> {
    let at = ServerName::find(said)?;
    let stands = |before: &&str| said[..at.start].ends_with(before);
    if !BEFORE.iter().any(stands) {
        return None;
    }
    let name = ServerName::read(&said[at.clone()])?;
    let id = turn.server.statements.find(name)?;
    let own = turn.relay.statements.as_deref()?.name_of(id)?;
    Some((at, own))
}

/// Where the text of a report begins in its body.
fn text(body: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match *body.get(at)? {
            0 => return None,
            b'M' => return Some(at + 1),
            _ => at += 1 + body[at + 1..].iter().position(|byte| *byte == 0)? + 1,
        }
    }
}

/// Whether the server refuses a statement because its table has changed. The text may be in any
/// language, so the place in the code tells.
pub(super) fn is_reshaped(report: &ErrorReport) -> bool {
    report.code == sqlstate::FEATURE_NOT_SUPPORTED
        && report.other(Field::Routine) == Some("RevalidateCachedQuery")
}
