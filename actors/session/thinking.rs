//! How long a client took to go on with its transaction, which is the time of none of its queries.

use std::time::{Duration, Instant};

use crate::clock;

/// What it took in one transaction.
#[derive(Debug, Default)]
pub(crate) struct Thinking {
    /// It is to say what comes next since then.
    since: Option<Instant>,
    took: Duration,
}

impl Thinking {
    /// It is to say what comes next, or not.
    #[inline]
    pub(crate) fn note(&mut self, thinks: bool) {
        match (thinks, self.since) {
            (true, None) => self.since = Some(clock::now()),
            (false, Some(since)) => {
                self.took += clock::since(since);
                self.since = None;
            }
            (true, Some(_)) | (false, None) => {}
        }
    }

    /// All of it, at the end of the transaction.
    pub(crate) fn end(&mut self) -> Duration {
        self.note(false);
        std::mem::take(&mut self.took)
    }
}
