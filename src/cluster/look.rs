//! What one look at a server showed.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::lsn::Lsn;

/// What a server says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Standing {
    /// `pg_is_in_recovery()` is false.
    Primary,
    /// `pg_is_in_recovery()` is true.
    Replica,
}

/// Where a server keeps its data.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Storage {
    /// On its own. Whoever is promoted begins a new timeline, and what it replaced can go on by itself.
    #[default]
    Own,
    /// All servers of the cluster have one volume, which takes the writes of one of them only (Aurora). The timeline
    /// never rises: who becomes a primary while another one is there has replaced that one.
    Shared,
}

/// A full answer of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// Of `pg_control_system()`. All servers of a cluster share it, and no other cluster has it. Aurora does not say it;
    /// [`crate::aurora::Instances`] has a number in its place.
    pub system: u64,
    /// The timeline it is on *now*. On a primary that of the file it writes (the first eight digits of
    /// `pg_walfile_name(pg_current_wal_insert_lsn())`): `pg_control_checkpoint()` tells the old one until the first
    /// checkpoint after a promotion. On a replica the highest one of `pg_stat_wal_receiver.received_tli`,
    /// `pg_control_recovery().min_recovery_end_timeline` and that of the last checkpoint.
    pub timeline: u32,
    /// What it says it is.
    pub standing: Standing,
    /// Where it keeps its data.
    pub storage: Storage,
    /// Up to where it has written, on a primary; up to where it has replayed, on a replica.
    pub lsn: Lsn,
    /// By how much `lsn` may be older than the question was, at most.
    pub lsn_age: Duration,
    /// Up to where a replica has received.
    pub received: Option<Lsn>,
    /// How long ago the last transaction that it has replayed was committed. Says nothing while nobody writes.
    pub replay_age: Option<Duration>,
    /// Transactions are read-only although it is not in recovery (`default_transaction_read_only`).
    pub read_only: bool,
    /// How long the answer took.
    pub latency: Duration,
    /// Which server it is; `None` if it did not say, and then it is taken for none that another name leads to.
    pub server: Option<ServerId>,
}

/// What tells one running server of a cluster from all others, and tells that two names lead to the same: what a plain
/// user may ask for. The clone of a machine that was copied while it ran has its original's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerId {
    /// `pg_postmaster_start_time()`, in microseconds since 1970.
    pub started: i64,
    /// `inet_server_port()`; `None` over a unix socket.
    pub port: Option<u16>,
}

impl ServerId {
    /// Whether this is the same server, reached by whatever name.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        let ports = self.port.zip(other.port);
        self.started == other.started && ports.is_none_or(|(mine, theirs)| mine == theirs)
    }
}

/// What was learned instead of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Nobody listens there: the machine says so.
    Unreachable,
    /// There is no way to it, its name is unknown, or the connection was reset. It may be there all the same.
    Lost,
    /// No answer in time: frozen, cut off, or overloaded.
    TimedOut,
    /// 57P03: it starts, recovers or shuts down, and serves nobody.
    Starting,
    /// 57P01, 57P02: it, or only the backend that was asked, is being stopped.
    Stopping,
    /// 53300: no connection is free. It is alive, and not ill.
    Full,
    /// It is alive, but does not let us log in.
    Refused,
    /// It answered something else; the text says what.
    Broken(Arc<str>),
}

impl Fault {
    /// The server as a whole is alive: it answered, if only to send us away. That says nothing of its role, so what
    /// was known of that stays.
    #[must_use]
    pub const fn is_sign_of_life(&self) -> bool {
        matches!(self, Self::Full | Self::Refused)
    }

    /// No server works there, as opposed to one that is silent or incomprehensible.
    pub(crate) const fn is_hard(&self) -> bool {
        matches!(
            self,
            Self::Unreachable | Self::Lost | Self::Starting | Self::Stopping
        )
    }

    /// How little is to be hoped from a host with this fault; lower is better.
    pub(crate) const fn rank(&self) -> u8 {
        match self {
            Self::Full => 0,
            Self::Refused => 1,
            Self::TimedOut => 2,
            Self::Broken(_) => 3,
            Self::Stopping => 4,
            Self::Starting => 5,
            Self::Unreachable | Self::Lost => 6,
        }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Primary => "primary",
            Self::Replica => "replica",
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreachable | Self::Lost => "cannot be reached",
            Self::TimedOut => "does not answer in time",
            Self::Starting => "is starting up or shutting down",
            Self::Stopping => "is being stopped",
            Self::Full => "has no connection free",
            Self::Refused => "refuses the login",
            Self::Broken(text) => return write!(f, "answers wrongly: {text}"),
        })
    }
}
