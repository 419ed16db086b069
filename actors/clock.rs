//! The time by which actors judge.

use std::time::{Duration, Instant};

/// This moment, by the clock of the runtime: a test, or a simulation, may turn it.
#[inline]
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// How long ago a moment was.
pub(crate) fn since(moment: Instant) -> Duration {
    now().saturating_duration_since(moment)
}
