//! A commit whose wait for a standby is ended by a query timeout of ours.
//!
//! A backend that is cancelled while it waits has committed already: it says so by a warning, and then that all went
//! well. A client that has cancelled its query itself is told just that. But who runs into a limit of ours has not asked
//! for less than was configured: were the server lost now, an acknowledged write would be. So it is told of doubt
//! in place of success.

use pgherd_wire::backend::{TransactionStatus, tag};
use pgherd_wire::error::ErrorReport;
use pgherd_wire::{frame, sqlstate};

use crate::server::{CancelGuard, Life, ServerAbout};
use crate::session::setup;
use crate::session::turn::Turn;
use crate::upstream;

/// Where in the server's source the warning is, in whatever language it is worded.
const ROUTINE: &[u8] = b"RSyncRepWaitForLSN";

/// Whether what a connection runs is a commit that waits for a standby, as its server says over another connection,
/// wherever the name of its host leads by then. Not where that cannot be asked: a limit must hold there, too, and whoever's
/// wait is ended is told so.
pub(super) async fn waits(about: &ServerAbout) -> bool {
    let upstream = &about.upstream;
    let sql = format!(
        "SELECT 1 FROM pg_catalog.pg_stat_activity AS a \
         WHERE a.pid OPERATOR(pg_catalog.=) {} \
         AND a.wait_event OPERATOR(pg_catalog.=) 'SyncRep'::pg_catalog.text",
        about.backend
    );
    let asked = async {
        let _permit = upstream.gate.0.enter().await;
        let opened = upstream::open_at(upstream, about.peer, 0, Life::new().0);
        let (mut server, _) = opened.await.ok()?;
        let answer = setup::run(&mut server, sql.as_bytes()).await.ok()?;
        Some(!answer.rows.is_empty())
    };
    let asked = tokio::time::timeout(upstream.cancel_patience, asked).await;
    matches!(asked, Ok(Some(true)))
}

/// Cancels what a connection runs, unless that is a commit that waits for a standby, which others would see by that; true
/// if it goes on.
pub(super) async fn cancel_another(guard: CancelGuard) -> bool {
    if waits(guard.about()).await {
        guard.landed();
        return true;
    }
    upstream::cancel(guard).await;
    false
}

/// What the client is told in place of what its server says.
#[derive(Debug, Default)]
pub(super) struct Unreplicated {
    /// What a statement of the extended protocol says of its end comes before its commit, which has to come first.
    completed: Option<Box<[u8]>>,
    /// The client was told of its doubt, and gets nothing else before its ReadyForQuery.
    told: bool,
}

impl Unreplicated {
    /// Whether the end of a statement is kept back.
    #[inline]
    pub(super) fn keeps(&self) -> bool {
        self.completed.is_some()
    }

    /// Whether the client has its answer, so that a message of this kind is not for it.
    #[inline]
    pub(super) fn silences(&mut self, message: u8) -> bool {
        if !self.told {
            return false;
        }
        match message {
            tag::READY_FOR_QUERY => self.told = false,
            tag::PARAMETER_STATUS | tag::NOTIFICATION_RESPONSE => {}
            _ => return true,
        }
        false
    }

    /// Whether the client was told of its doubt.
    pub(super) fn is_told(&self) -> bool {
        self.told
    }
}

/// Keeps the CommandComplete in front back, of `total` bytes, if its commit may still wait and be cancelled by us; true
/// if it is.
pub(super) fn keep(turn: &mut Turn<'_>, total: usize) -> bool {
    let exchange = &turn.server.exchange;
    // Without a Sync the client may wait for just this.
    let told = turn.unreplicated.told;
    if told || exchange.status() != TransactionStatus::Idle || exchange.unsynced() {
        return false;
    }
    turn.unreplicated.completed = turn.server.flow.unjudged().get(..total).map(Into::into);
    true
}

/// Gives what was kept back before the message in front, unless that is the warning.
pub(super) fn release(turn: &mut Turn<'_>, total: usize) {
    if !is_warning(turn, total) {
        give(turn);
    }
}

/// Gives what was kept back.
pub(super) fn give(turn: &mut Turn<'_>) {
    if let Some(completed) = turn.unreplicated.completed.take() {
        turn.server.flow.insert(&completed);
    }
}

/// Whether the message in front, of `total` bytes, is the warning.
pub(super) fn is_warning(turn: &Turn<'_>, total: usize) -> bool {
    let here = turn.server.flow.unjudged();
    let Some((header, body)) = here
        .get(..total)
        .and_then(|it| it.split_at_checked(frame::HEADER_LEN))
    else {
        return false;
    };
    header.first() == Some(&tag::NOTICE_RESPONSE)
        && body.split(|byte| *byte == 0).any(|field| field == ROUTINE)
}

/// What the client is told in place of the warning.
pub(super) fn tell(turn: &mut Turn<'_>) -> Box<[u8]> {
    turn.unreplicated.completed = None;
    turn.unreplicated.told = true;
    let host = &turn.server.about.upstream.name;
    let report = ErrorReport::error(
        sqlstate::TRANSACTION_RESOLUTION_UNKNOWN,
        "the query timeout of the pool has ended the wait for a standby",
    )
    .detail(format!(
        "The transaction is committed on server {host}, but might not have been replicated."
    ))
    .hint("It is lost if that server is; check before you repeat it.");
    turn.relay.record(&report);
    let mut worded = bytes::BytesMut::new();
    report.encode_error(&mut worded);
    worded[..].into()
}
