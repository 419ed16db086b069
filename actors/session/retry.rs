//! A request that its server did not serve is sent again, and its client does not notice.

use std::time::{Duration, Instant};

use pgherd_session::Again;
use pgherd_wire::backend::TransactionStatus;
use pgherd_wire::error::ErrorReport;
use pgherd_wire::sqlstate;

use crate::clock;
use crate::pool::ServerLease;
use crate::server::ServerConn;
use crate::session::attempt::Tries;
use crate::session::checkout::{self, Denied, Instead};
use crate::session::relay::{BOUND, Relay};
use crate::session::setup::{self, Answer, Listener};
use crate::session::{listen, reads};

/// How long to wait before a server that takes nothing is asked a second time, doubled with each try.
const PAUSE: Duration = Duration::from_millis(20);
/// And no longer than this.
const PAUSE_MAX: Duration = Duration::from_secs(1);

impl Relay {
    /// A server for one more try of what [`Turn`](crate::session::turn::Turn) has rewound, and when it was
    /// there. `lease` is the server that failed.
    pub(super) async fn again(
        &mut self,
        again: Again,
        lease: ServerLease,
        tries: &mut Tries,
        asked: Instant,
    ) -> Result<(ServerLease, Instant), Denied> {
        let pause = pause(again, tries.count(again));
        tries.add(again);
        self.pool.retries.count(again);
        tracing::debug!(
            client = self.control.id,
            server = lease.about.id,
            host = lease.about.upstream.name,
            reason = again.name(),
            "a request is sent again"
        );
        match again {
            Again::Statement => {
                if let Some(lease) = self.stay(lease).await? {
                    return Ok((lease, clock::now()));
                }
            }
            // That a replica does not write is no evidence against it.
            Again::Recovering if self.reading => self.leave(lease),
            Again::Unsent | Again::Read | Again::Recovering | Again::Turned => self.give_up(lease),
        }
        if !pause.is_zero() {
            checkout::pause(self, pause).await?;
        }
        self.control.wait(clock::now());
        // Where there is no primary at the moment, what only reads may find another replica; what one has refused to
        // write, none will.
        let reads = self.reading && again != Again::Recovering;
        let reader = match reads && self.pool.core.held().is_some() {
            true => reads::source(self),
            false => None,
        };
        self.reads_from(reader.as_ref());
        let instead = match reads {
            true => Instead::Replica,
            false => Instead::Nothing,
        };
        checkout::checkout(self, reader, None, asked, instead).await
    }

    /// Goes on with the same server if it is ready for that, else lets it go.
    async fn stay(&self, mut lease: ServerLease) -> Result<Option<ServerLease>, Denied> {
        // A cancel must not hit a BEGIN of ours, behind which the statement would run alone.
        let quiet = self.opened.is_none() || self.control.runs_nowhere();
        if quiet {
            let idle = is_idle(&mut lease, self.listener());
            if checkout::unless_ended(&self.control, idle).await? {
                return Ok(Some(lease));
            }
        }
        let bound = self.pool.pins(self.pins, self.mode);
        self.give_up(lease);
        if bound {
            let text = "the connection to the session's server was lost";
            let report = ErrorReport::fatal(sqlstate::CONNECTION_FAILURE, text).hint(BOUND);
            return Err(Denied::Fatal(Box::new(report)));
        }
        Ok(None)
    }

    /// Parts with a server that has failed, which all are told.
    fn give_up(&self, lease: ServerLease) {
        let cluster = self.pool.cluster.load();
        cluster.suspect(&lease.about.upstream.name, clock::now());
        drop(cluster);
        self.leave(lease);
    }

    /// Parts with a server that is of no use any more. Dropped as it is, it is closed, and makes room for
    /// another.
    fn leave(&self, lease: ServerLease) {
        self.control.runs_nowhere();
        listen::settle(self);
        drop(lease);
    }
}

/// How long to wait before try number `count`. What needs only another connection is tried at once, but where one
/// connection after the other is lost, all who wait must not keep logging in: only time limits how often they may.
pub(super) fn pause(again: Again, count: u32) -> Duration {
    let grown = |count: u32| {
        let pause = PAUSE.saturating_mul(2_u32.saturating_pow(count));
        pause.min(PAUSE_MAX)
    };
    match again {
        Again::Statement | Again::Read => Duration::ZERO,
        Again::Unsent => count.checked_sub(1).map_or(Duration::ZERO, grown),
        Again::Recovering | Again::Turned => grown(count),
    }
}

/// Ends the transaction that an error has left behind; false if the server is in the middle of something.
async fn is_idle(server: &mut ServerConn, listener: Listener) -> bool {
    if server.exchange.owes() {
        return false;
    }
    if server.exchange.status() != TransactionStatus::Idle {
        let answer = Answer::default().heard_by(listener);
        let ended = setup::run_into(server, b"ROLLBACK", answer).await;
        if !ended.is_ok_and(|answer| answer.error.is_none()) {
            return false;
        }
    }
    server.exchange.is_over()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pgherd_session::Again;

    use super::{PAUSE, PAUSE_MAX, pause};

    #[test]
    fn pauses_grow_up_to_a_bound_where_the_server_itself_is_the_reason() {
        assert_eq!(pause(Again::Read, 3), Duration::ZERO);
        assert_eq!(pause(Again::Unsent, 0), Duration::ZERO);
        assert_eq!(pause(Again::Unsent, 1), PAUSE);
        assert_eq!(pause(Again::Unsent, 3), PAUSE * 4);
        assert_eq!(pause(Again::Unsent, u32::MAX), PAUSE_MAX);
        assert_eq!(pause(Again::Recovering, 0), PAUSE);
        assert_eq!(pause(Again::Recovering, 2), PAUSE * 4);
        assert_eq!(pause(Again::Turned, u32::MAX), PAUSE_MAX);
    }
}
