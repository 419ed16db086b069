use std::time::Duration;

use crate::fault::Problem;
use crate::reader::Reader;
use crate::section::Check;

section! {
    /// What is written to standard error.
    pub struct Log {
        /// For people or for machines.
        [Restart] format: LogFormat,
        /// The least level written, or `tracing` directives such as `info,pgherd_pool=debug`.
        [Restart] level: String,
        /// Whether each login is written.
        [Now] connections: bool,
        /// Whether each end of a client connection is written.
        [Now] disconnections: bool,
        /// Whether each error that pgherd gives a client is written.
        [Now] errors: bool,
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

words! { LogFormat { Text = "text", Json = "json", } }

impl Check for Log {
    fn check(&self, reader: &mut Reader<'_>) {
        for directive in self.level.split(',') {
            let level = directive.rsplit('=').next().unwrap_or_default().trim();
            if !LEVELS.contains(&level.to_ascii_lowercase().as_str()) {
                let problem = Problem::Value(format!("{directive:?}"));
                reader.fault(
                    "level",
                    problem,
                    format!("{}; target=level", LEVELS.join(", ")),
                );
            }
        }
    }
}

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
