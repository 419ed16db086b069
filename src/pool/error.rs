//! Why a lease or a new connection was not granted.

use std::error::Error;
use std::sync::Arc;

/// An error of the caller's own making that is told to every waiter, such as a login the server refused.
pub type Failure = Arc<dyn Error + Send + Sync>;

/// Why no lease was given.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LeaseError {
    /// As many already wait as the pool allows.
    #[error("the queue of the pool is full ({limit} waiting)")]
    QueueFull {
        /// The limit that was reached, `max_waiters`.
        limit: usize,
    },
    /// The pool was closed and will not open again.
    #[error("the pool is closed: {0}")]
    Closed(Arc<str>),
    /// The manager told all waiters that no connection will come.
    #[error("no connection could be had: {0}")]
    Failed(#[source] Failure),
}

/// Why no further connection may be opened now, by the limit that forbids it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The pool was closed.
    #[error("the pool is closed: {0}")]
    Closed(Arc<str>),
    /// The pool holds as many connections as it may; the reserve counts only when it is open.
    #[error("the pool is at its size ({limit})")]
    Size {
        /// Connections allowed at this moment.
        limit: usize,
    },
    /// Enough connections are being opened already.
    #[error("{limit} connections are being opened already")]
    Opening {
        /// The limit that was reached, `max_opening`.
        limit: usize,
    },
    /// A quota shared with other pools is used up, and no sibling had a connection to spare.
    #[error("the quota of {name} is used up ({max})")]
    Quota {
        /// Name of the quota, as given to [`Quota::new`](crate::Quota::new).
        name: Arc<str>,
        /// Connections it allows.
        max: usize,
    },
}
