use std::io;
use std::time::Duration;

use crate::Missing;

/// Why a sandbox could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program is not installed.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// The operating system refused.
    #[error("cannot {what}")]
    Io {
        /// What was tried, as words that follow "cannot".
        what: String,
        /// Its answer.
        source: io::Error,
    },
    /// A program ended with a failure.
    #[error("{tool} failed: {message}")]
    Tool {
        /// The program.
        tool: String,
        /// What it wrote to its standard error.
        message: String,
    },
    /// A program took too long and was killed.
    #[error("{tool} was not done after {after:?}")]
    Slow {
        /// The program.
        tool: String,
        /// How long it was given.
        after: Duration,
    },
    /// A server ended while it should have been starting.
    #[error("{name} ended while starting; the end of its log:\n{log}")]
    Died {
        /// The server.
        name: &'static str,
        /// The last lines of its log.
        log: String,
    },
    /// A server did not begin to answer.
    #[error("{name} does not answer after {after:?}; the end of its log:\n{log}")]
    Silent {
        /// The server.
        name: &'static str,
        /// How long it was given.
        after: Duration,
        /// The last lines of its log.
        log: String,
    },
    /// A server did not end, and was killed.
    #[error("{name} did not stop within {after:?} and was killed")]
    Stuck {
        /// The server.
        name: &'static str,
        /// How long it was given.
        after: Duration,
    },
    /// The server is not running.
    #[error("{0} is not running")]
    Down(&'static str),
    /// A certificate could not be made.
    #[error("cannot make a certificate")]
    Certificate(#[from] rcgen::Error),
    /// A replica has not received or applied what its primary had.
    #[error("the replica is not caught up after {0:?}")]
    Behind(Duration),
}

impl Error {
    /// Wraps an error of the operating system; `what` follows "cannot".
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
