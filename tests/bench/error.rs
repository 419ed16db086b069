use std::io;
use std::path::PathBuf;

/// Why the benchmark, or one cell of it, could not be run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// There is no pgherd to measure.
    #[error(
        "there is no {0}: build it with `cargo build --release`, \
         name another with --pgherd PATH, or leave it out with --without-pgherd"
    )]
    NoPgherd(PathBuf),
    /// A server could not be set up.
    #[error(transparent)]
    Sandbox(#[from] pgherd_sandbox::Error),
    /// A file or a socket failed.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was tried, as words that follow "cannot".
        what: &'static str,
        /// The operating system's answer.
        source: io::Error,
    },
    /// A server answered with an error.
    #[error("the server says: {0}")]
    Refused(String),
    /// A program's output is not as expected.
    #[error("{what} is not understood: {text}")]
    Unexpected {
        /// What was read.
        what: &'static str,
        /// What it was.
        text: String,
    },
    /// The JSON file could not be made.
    #[error("cannot write JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl Error {
    /// Wraps an error of the operating system; `what` follows "cannot".
    pub(crate) fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }
}
