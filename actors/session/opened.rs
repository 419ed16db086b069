//! A block that the client has opened and that no server knows of yet.
//!
//! A BEGIN that stands alone is answered here and goes to a server in front of the first statement
//! behind it, so that a client that thinks in between holds no server, and one that goes back on it
//! never needed one. The block's `now()` is the time of its first statement, as if the BEGIN had
//! been on its way until then.

use std::time::Instant;

use pgherd_config::{PoolMode, PoolSettings};
use pgherd_session::Unnamed;
use pgherd_sql::{Block, block};
use pgherd_wire::backend::TransactionStatus;
use pgherd_wire::frontend::{self, BindHead, tag};
use pgherd_wire::{backend, frame};

use crate::clock;
use crate::session::limit::Expired;
use crate::session::relay::Relay;
use crate::session::sequence::{self, Way};
use crate::session::turn::Turn;
use crate::session::{ahead, mark, requests};

/// A longer text is not looked at; no BEGIN of an application is.
const TEXT_MAX: usize = 256;

/// The block.
#[derive(Debug)]
pub struct Opened {
    /// The client's Query message.
    message: Box<[u8]>,
    /// When it came.
    at: Instant,
}

impl Opened {
    /// Whether it says that nothing is to be written in it.
    pub fn is_read_only(&self) -> bool {
        let words = self.message.split(|byte| !byte.is_ascii_alphabetic());
        let words = words.filter(|word| !word.is_empty());
        let pairs = words.clone().zip(words.skip(1));
        let is = |(first, second): (&[u8], &[u8])| {
            first.eq_ignore_ascii_case(b"read") && second.eq_ignore_ascii_case(b"only")
        };
        pairs.into_iter().any(is)
    }

    /// What the client has sent, without the zero byte.
    pub fn text(&self) -> &[u8] {
        let body = self.message.get(frame::HEADER_LEN..).unwrap_or_default();
        body.strip_suffix(b"\0").unwrap_or(body)
    }

    /// Whether it asks for the isolation that a standby does not know.
    pub fn is_serializable(&self) -> bool {
        let mut words = self.message.split(|byte| !byte.is_ascii_alphabetic());
        words.any(|word| word.eq_ignore_ascii_case(b"serializable"))
    }

    /// When it came: the limits on a transaction are counted from here.
    pub fn at(&self) -> Instant {
        self.at
    }

    /// What of it runs out first while the client says nothing from `now` on, and when.
    pub fn limit(&self, settings: &PoolSettings, now: Instant) -> Option<(Instant, Expired)> {
        let timeouts = &settings.timeouts;
        let whole = timeouts.transaction.map(|limit| self.at + limit);
        let idle = timeouts.idle_in_transaction.map(|limit| now + limit);
        let whole = whole.map(|at| (at, Expired::Transaction));
        let idle = idle.map(|at| (at, Expired::IdleInTransaction));
        whole.into_iter().chain(idle).min_by_key(|(at, _)| *at)
    }
}

/// Answers the query in front, of `total` bytes with its header, if it needs no server: one that
/// opens a block, or that ends a block which no server knows of.
pub(super) fn answer(relay: &mut Relay, total: usize) -> bool {
    if total > TEXT_MAX || relay.kept.is_some() {
        return false;
    }
    let Some(message) = relay.up.unjudged().get(..total) else {
        return false;
    };
    let body = &message[frame::HEADER_LEN..];
    let inside = relay.opened.is_some() || relay.lost_block;
    if !may_be_block(body, inside) {
        return false;
    }
    let Ok(query) = frontend::Query::parse(body) else {
        return false;
    };
    let block = block(query.text, relay.lexing);
    if relay.untold.is_some() && block != Some(Block::Rollback) {
        return false;
    }
    let (tag, status) = match block {
        Some(Block::Begin) if may_open(relay) => (&b"BEGIN"[..], TransactionStatus::InTransaction),
        Some(Block::Start) if may_open(relay) => {
            (&b"START TRANSACTION"[..], TransactionStatus::InTransaction)
        }
        Some(Block::Commit) if relay.opened.is_some() => (&b"COMMIT"[..], TransactionStatus::Idle),
        // What was lost has nothing left to roll back, and who asks for that needs not be told.
        Some(Block::Rollback) if inside => (&b"ROLLBACK"[..], TransactionStatus::Idle),
        _ => return false,
    };
    relay.opened = (status == TransactionStatus::InTransaction).then(|| {
        Box::new(Opened {
            message: message.into(),
            at: clock::now(),
        })
    });
    relay.lost_block = false;
    relay.commit_fails = false;
    relay.untold = None;
    // A simple query ends the unnamed statement.
    if let Some(statements) = relay.statements.as_deref_mut() {
        statements.unnamed = Unnamed::None;
    }
    relay.up.hide(total);
    let out = relay.down.made();
    let built = backend::command_complete(out, tag);
    debug_assert!(built.is_ok(), "the tag is short");
    backend::ready_for_query(out, status);
    true
}

/// Whether the message in front ends a transaction block, whatever becomes of it: on Postgres no block is
/// left behind a COMMIT that fails.
pub(super) fn is_end(relay: &Relay) -> bool {
    let Ok(Some(header)) = frame::header(relay.up.unjudged()) else {
        return false;
    };
    let Some(message) = relay.up.unjudged().get(..header.total()) else {
        return false;
    };
    let body = &message[frame::HEADER_LEN..];
    let ends = |text: &[u8]| {
        matches!(
            block(text, relay.lexing),
            Some(Block::Commit | Block::Rollback)
        )
    };
    match header.tag {
        tag::QUERY => frontend::Query::parse(body).is_ok_and(|query| ends(query.text)),
        tag::PARSE => frontend::Parse::parse(body).is_ok_and(|parse| ends(parse.query)),
        tag::BIND => {
            let Ok(Some(bind)) = BindHead::parse(body) else {
                return false;
            };
            let statements = relay.statements.as_deref();
            match statements.map(|all| (all, &all.unnamed)) {
                Some((_, Unnamed::Parsed { judgement, .. })) if bind.statement.is_empty() => {
                    judgement.leaves
                }
                Some((all, _)) => all
                    .get(bind.statement)
                    .is_some_and(|held| held.statement.judgement.leaves),
                None => false,
            }
        }
        _ => false,
    }
}

/// Whether a text may be one of [`Block`], by its first letters: this is asked for every query.
fn may_be_block(text: &[u8], inside: bool) -> bool {
    match text {
        [b'b' | b'B', ..] | [b's' | b'S', b't' | b'T', ..] => !inside,
        [b'c' | b'C' | b'e' | b'E' | b'r' | b'R' | b'a' | b'A', ..] => inside,
        _ => false,
    }
}

/// Whether a block may be opened without a server.
fn may_open(relay: &Relay) -> bool {
    relay.mode == PoolMode::Transaction
        && relay.opened.is_none()
        && !relay.lost_block
        && relay.pool.settings().pool.defer_begin
}

/// Puts the BEGIN that was answered before into the pipeline, unseen by the client.
///
/// It cannot fail where what comes behind it would not fail as well: [`block`] takes only such, and what is sent behind
/// one that was cancelled does not run.
pub(super) fn open(turn: &mut Turn<'_>) {
    let Some(opened) = turn.relay.opened.take() else {
        return;
    };
    let judgement = turn.relay.judge(opened.text());
    requests::note(turn, judgement);
    sequence::clear_way(turn, &judgement, Way::Simple);
    turn.server.touched = true;
    mark::opened(turn);
    let (up, exchange) = (&mut turn.relay.up, &mut turn.server.exchange);
    let built = ahead::open(up, exchange, opened.text());
    debug_assert!(built.is_ok(), "the text is short");
    turn.attempt.opens(opened);
}
