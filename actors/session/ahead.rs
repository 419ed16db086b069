//! Statements of ours that go ahead of all that the client sends, in the same write.
//!
//! They bring the server to the client's settings, or open its block. Whatever has one of them fail (a timeout that the
//! server is still set to, somebody's cancel request, a role that was dropped), nothing of the client's may run without
//! it. So they are sent by Parse, Bind and Execute and without a Sync: if one fails, the server passes over all that was
//! sent up to the next Sync, simple queries as well. That Sync is the last that is sent before the answer is here.
//! Source: <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-EXT-QUERY>.

use pgherd_session::{Exchange, Flow, Owed};
use pgherd_wire::error::ErrorReport;
use pgherd_wire::frame::TooLong;
use pgherd_wire::frontend;

use crate::judgement::Judgement;
use crate::session::attempt;
use crate::session::turn::{Loss, Turn};

/// Makes a server forget the plans that it has made, of functions and of statements: it reads each anew.
pub(super) const DISCARD: &str = "DISCARD PLANS";

/// Has statements run in a transaction of their own, and the server report its settings.
///
/// The COMMIT is one of what goes ahead, too: nothing of the client's runs without it. It is not left to the query that
/// has the server report, as that ends no transaction that a pipeline has begun (since Postgres 18). A standby knows no
/// serializable transactions, and a deferrable one waits for others.
pub(super) fn alone<'s>(
    up: &mut Flow,
    exchange: &mut Exchange<Judgement>,
    statements: impl IntoIterator<Item = &'s [u8]>,
) -> Result<(), TooLong> {
    write(up, exchange, b"BEGIN ISOLATION LEVEL READ COMMITTED", false)?;
    for sql in statements {
        write(up, exchange, sql, false)?;
    }
    write(up, exchange, b"COMMIT", false)?;
    frontend::query(up.made(), b"")?;
    exchange.sent(Owed::Setup);
    Ok(())
}

/// Opens a block by this text.
pub(super) fn open(
    up: &mut Flow,
    exchange: &mut Exchange<Judgement>,
    sql: &[u8],
) -> Result<(), TooLong> {
    write(up, exchange, sql, true)?;
    // That the block is there is told at once: what comes in it may take its time, and may be cancelled.
    up.insert(&frontend::FLUSH);
    Ok(())
}

fn write(
    up: &mut Flow,
    exchange: &mut Exchange<Judgement>,
    sql: &[u8],
    opens: bool,
) -> Result<(), TooLong> {
    let out = up.made();
    frontend::parse(out, b"", sql, &[])?;
    frontend::bind(out, b"", b"", &[], &[], &[])?;
    frontend::execute(out, b"", 0)?;
    exchange.sent(Owed::Ahead { opens });
    Ok(())
}

/// The server has refused what is of ours, and goes before what the client has sent.
pub(super) fn failed(turn: &mut Turn<'_>, report: ErrorReport) -> Loss {
    if !turn.server.exchange.is_ahead() {
        return Loss::Fatal(Box::new(report.into_fatal()));
    }
    if let Some(again) = attempt::after_ahead(turn, &report) {
        return Loss::Again(again);
    }
    turn.relay.wary = true;
    Loss::Refused(Box::new(report))
}
