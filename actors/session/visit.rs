//! How a text is put on a server under other settings than its client has by now: those under which it was read first.
//!
//! The server goes there for as long as one Parse takes, in the client's own pipeline, and by its own account back to
//! where it was: what the transaction has set for itself need not be known.

use std::sync::Arc;

use pgherd_session::{Exchange, Flow, Owed, Parameters, Undo};
use pgherd_wire::backend;
use pgherd_wire::frontend::{self, Target};

use crate::judgement::{self, Judgement};
use crate::session::meaning;
use crate::session::turn::Turn;

/// The name of the query, and of its portal, of which the first row is the way there, and the second the way back.
pub(super) const NAME: &[u8] = b"pgherd_visit";

/// How to get for a moment to the settings under which a text was read `then`, if those under which its constants are
/// read may be others by now. It begins with the text, and a zero byte may stand behind that.
pub(super) fn to(turn: &Turn<'_>, text: &[u8], then: &Arc<Parameters>) -> Option<String> {
    let names = meaning::perhaps_unlike(turn, then);
    let text = text.split(|byte| *byte == 0).next()?;
    if names.is_empty() || !judgement::is_analysed(text, turn.relay.lexing) {
        return None;
    }
    then.visit(names)
}

/// Goes to other settings within the client's pipeline, if there is a query for that: by its first row.
pub(super) fn set_out(up: &mut Flow, exchange: &mut Exchange<Judgement>, there: Option<&str>) {
    let Some(sql) = there else {
        return;
    };
    // What an error has left behind is in the way.
    close(up, exchange);
    let out = up.made();
    let built = frontend::parse(out, NAME, sql.as_bytes(), &[])
        .and_then(|()| frontend::bind(out, NAME, NAME, &[], &[], &[]))
        .and_then(|()| frontend::execute(out, NAME, 1));
    debug_assert!(built.is_ok(), "settings are bounded");
    exchange.sent(Owed::Parse {
        hidden: true,
        undo: Undo::Nothing,
    });
    exchange.sent(Owed::Ours(backend::tag::BIND_COMPLETE));
    exchange.sent(Owed::Ours(backend::tag::PORTAL_SUSPENDED));
}

/// Goes back to what was set before, by the second row.
pub(super) fn come_back(up: &mut Flow, exchange: &mut Exchange<Judgement>, was_away: bool) {
    if !was_away {
        return;
    }
    let built = frontend::execute(up.made(), NAME, 0);
    debug_assert!(built.is_ok(), "the name is short");
    exchange.sent(Owed::Ours(backend::tag::COMMAND_COMPLETE));
    close(up, exchange);
}

fn close(up: &mut Flow, exchange: &mut Exchange<Judgement>) {
    for target in [Target::Portal, Target::Statement] {
        let built = frontend::close(up.made(), target, NAME);
        debug_assert!(built.is_ok(), "the name is short");
        exchange.sent(Owed::Close {
            hidden: true,
            undo: Undo::Nothing,
        });
    }
}
