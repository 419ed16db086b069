use std::time::Duration;

section! {
    /// What is written to standard error.
    pub struct Log {
        /// For people or for machines.
        [Restart] format: LogFormat,
        /// The least level written, or `tracing` directives such as `info,pgherd_pool=debug`.
        [Now] level: String,
        /// Whether each login is written.
        [Now] connections: bool,
        /// Whether each end of a client connection is written.
        [Now] disconnections: bool,
        /// Whether each error that pgherd gives a client is written.
        [Now] errors: bool,
        /// How much of statement texts is written.
        [Now] sql: LogSql,
        /// How often totals are written; `None` is never.
        [Now] stats_every: Option<Duration>,
    }
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One line of text an event.
    Text,
    /// One JSON object an event.
    Json,
}

/// How much of statement texts reaches the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogSql {
    /// The shape of the statement, its constants replaced.
    Redacted,
    /// The text as the client sent it.
    Full,
    /// Nothing.
    Never,
}
