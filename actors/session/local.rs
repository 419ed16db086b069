//! What a client is answered without a server.

use pgherd_config::PoolMode;
use pgherd_wire::backend;
use pgherd_wire::frame;
use pgherd_wire::frontend::{Describe, Target};

use crate::session::relay::Relay;

/// Answers the Close of a named prepared statement between two transactions, and tells whether it
/// could: the name is known here alone, so that no server is needed.
///
/// Go's `database/sql` waits for the answer under a lock that all of its connections want. Were it
/// to come from a server, those of them that have all servers could not go on to give one back.
pub(super) fn close(relay: &mut Relay, total: usize) -> bool {
    if relay.mode == PoolMode::Session || relay.kept.is_some() || relay.lost_block {
        return false;
    }
    let Some(body) = relay.up.unjudged().get(frame::HEADER_LEN..total) else {
        return false;
    };
    match Describe::parse(body) {
        Ok(close) if close.kind == Target::Statement && !close.name.is_empty() => {
            if let Some(statements) = relay.statements.as_deref_mut() {
                statements.remove(close.name);
            }
        }
        Ok(_) | Err(_) => return false,
    }
    relay.up.hide(total);
    relay
        .down
        .made()
        .extend_from_slice(&backend::CLOSE_COMPLETE);
    true
}
