//! What a session remembers of sequences (`lastval`, `currval`) is its client's own.
//!
//! A server remembers it for whoever used a sequence there. So before a client asks on a server that
//! another has used, the server is made to forget, and Postgres itself says that nothing is defined. So is one that the
//! client itself has used before it used another elsewhere: what is there is not what it has used last.
//! A pool whose clients ask learns it from the first who asks elsewhere than where it used the sequence:
//! from then on, its clients keep the server for a while after each use.

use std::sync::atomic::Ordering;
use std::time::Duration;

use pgherd_config::PoolMode;
use pgherd_session::{Owed, Sequences};
use pgherd_sql::{Pin, PinSet, Runs};
use pgherd_wire::backend::TransactionStatus;
use pgherd_wire::error::ErrorReport;
use pgherd_wire::frame::TooLong;
use pgherd_wire::{frontend, sqlstate};

use crate::judgement::Judgement;
use crate::server::ServerConn;
use crate::session::relay::Relay;
use crate::session::turn::Turn;
use crate::session::{ahead, requests};

/// For so long a client that has used a sequence keeps its server, should it ask next.
pub(super) const KEPT: Duration = Duration::from_secs(1);

/// What keeps a server for nothing but a question that may come.
const ALONE: PinSet = PinSet::of(&[Pin::Sequence]);

/// How a text comes to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// By a simple query, before which another may go, unless it ends a pipeline.
    Simple,
    /// By a pipeline, which no other query may cut.
    Extended,
}

/// Takes note of a text that is about to be sent; false if it was refused, since it asks for what the
/// server remembers of others.
pub(super) fn sent(turn: &mut Turn<'_>, judgement: &Judgement, way: Way) -> bool {
    let uses = judgement.sequence.uses();
    if !uses && !judgement.sequence.asks() {
        turn.relay.pins.remove(Pin::Sequence);
        if judgement.runs < Runs::Writes && !judgement.begins {
            if judgement.forgets {
                used_here(turn.relay, turn.server);
            }
            return true;
        }
    }
    if turn.relay.mode == PoolMode::Session {
        return true;
    }
    let client = turn.relay.control.id;
    clear_way(turn, judgement, way);
    if way == Way::Extended
        && judgement.sequence.asks()
        && memory(turn.relay, turn.server).is_mixed_for(client)
    {
        requests::refuse(turn, elsewhere());
        return false;
    }
    leave(turn.relay, turn.server, judgement);
    turn.server.used_sequence |= uses || judgement.runs == Runs::Unknown;
    true
}

/// What is said to who asks for what the server may remember of others.
fn elsewhere() -> ErrorReport {
    let text = "what this session remembers of sequences is not on the server that it runs on";
    let report = ErrorReport::error(sqlstate::OBJECT_NOT_IN_PREREQUISITE_STATE, text);
    report.hint("Ask by RETURNING, or within the transaction that uses the sequence.")
}

/// Why a simple query is refused, if it asks behind a pipeline that it is to end: what the server remembers of others
/// cannot be forgotten before it.
pub(super) fn objection(turn: &Turn<'_>, judgement: &Judgement) -> Option<ErrorReport> {
    let exchange = &turn.server.exchange;
    let asks = judgement.sequence.asks() && turn.relay.mode != PoolMode::Session;
    let client = turn.relay.control.id;
    let refuses = asks
        && (exchange.unsynced() || exchange.skipping())
        && memory(turn.relay, turn.server).is_mixed_for(client);
    refuses.then(elsewhere)
}

/// Takes note of whose values a server remembers behind a text of this client.
pub(super) fn leave(relay: &Relay, server: &mut ServerConn, judgement: &Judgement) {
    if judgement.runs >= Runs::Writes || judgement.sequence.uses() {
        server.sequences = memory(relay, server).used_by(relay.control.id);
        used_here(relay, server);
    }
}

/// Whether a simple query has to wait until all that is owed has come: what goes before it must know
/// whether the transaction has failed by then.
pub(super) fn must_wait(turn: &Turn<'_>, judgement: &Judgement) -> bool {
    turn.server.exchange.replies_owed() > 0 && must_forget(turn, judgement)
}

/// Makes a server forget what others have used, if the text asks, where a message of ours can go.
///
/// It forgets before each block as well, so that whatever is asked within a block was used in it.
pub(super) fn clear_way(turn: &mut Turn<'_>, judgement: &Judgement, way: Way) {
    let client = turn.relay.control.id;
    let asks = judgement.sequence.asks() && turn.relay.mode != PoolMode::Session;
    if asks && memory(turn.relay, turn.server) != Sequences::Of(client) {
        let learned = &turn.relay.pool.asks_sequences;
        learned.store(true, Ordering::Relaxed);
    }
    if !must_forget(turn, judgement) {
        return;
    }
    let exchange = &turn.server.exchange;
    // A query of ours would commit what a pipeline has done so far.
    let is_cut = exchange.unsynced() || exchange.skipping();
    let between = exchange.replies_owed() == 0 || way == Way::Simple;
    let free = between && !is_cut && exchange.status() != TransactionStatus::Failed;
    if free && forget(turn).is_ok() {
        turn.server.sequences = Sequences::Nobody;
    }
}

fn forget(turn: &mut Turn<'_>) -> Result<(), TooLong> {
    const FORGET: &[u8] = b"DISCARD SEQUENCES";
    // Neither way leaves the client's unnamed statement there.
    turn.unnamed_here = false;
    let (up, exchange) = (&mut turn.relay.up, &mut turn.server.exchange);
    if exchange.is_unasked() {
        return ahead::alone(up, exchange, [FORGET]);
    }
    // In a block that fails with it, or behind what cannot be cut.
    frontend::query(up.made(), FORGET)?;
    exchange.sent(Owed::Setup);
    Ok(())
}

/// What other servers remember of the client is out of date from now on.
fn used_here(relay: &Relay, server: &ServerConn) {
    let last = &relay.control.sequences_on;
    last.store(server.about.id, Ordering::Relaxed);
}

/// Whose use of sequences a server remembers, seen by this client.
fn memory(relay: &Relay, server: &ServerConn) -> Sequences {
    let known = server.sequences;
    let last = relay.control.sequences_on.load(Ordering::Relaxed);
    match last == server.about.id {
        true => known,
        false => known.left_by(relay.control.id),
    }
}

/// Whether the server remembers something that a text might be told and must not.
fn must_forget(turn: &Turn<'_>, judgement: &Judgement) -> bool {
    let (client, server) = (turn.relay.control.id, &turn.server);
    let memory = memory(turn.relay, turn.server);
    if turn.relay.mode == PoolMode::Session || !memory.is_mixed_for(client) {
        return false;
    }
    let learned = || turn.relay.pool.asks_sequences.load(Ordering::Relaxed);
    // A function may ask, too. Where nobody does, nobody minds who was the last to use one.
    let foreign = memory.is_foreign_to(client);
    let hidden = judgement.runs >= server.about.upstream.hidden.0.threshold();
    let uses = judgement.runs >= Runs::Writes || judgement.sequence.uses();
    judgement.sequence.asks() || judgement.begins || uses && learned() || foreign && hidden
}

impl Relay {
    /// Whether the transaction that is over has used a sequence for which the client may ask next.
    pub(super) fn keep_for_sequence(&mut self, used: bool) {
        if used
            && self.mode != PoolMode::Session
            && self.pool.asks_sequences.load(Ordering::Relaxed)
        {
            self.pins.insert(Pin::Sequence);
        }
    }

    /// Whether the server is kept for nothing else than a question that may come.
    pub(super) fn waits_for_question(&self) -> bool {
        self.pins == ALONE && self.kept.is_some()
    }
}
