//! The periods over which the console takes its averages, as PgBouncer does.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::facts::Routes;

/// How long one is, as PgBouncer's `stats_period` is where nothing else is said.
pub const LENGTH: Duration = Duration::from_secs(60);

/// When the present one began, and how long the last one took.
#[derive(Debug)]
pub struct Periods(Mutex<State>);

#[derive(Debug)]
struct State {
    began: Instant,
    last: Option<Duration>,
}

impl Periods {
    /// The first one begins.
    pub fn new(now: Instant) -> Self {
        Self(Mutex::new(State {
            began: now,
            last: None,
        }))
    }

    /// How long the last one took; `None` in the first.
    pub fn last(&self) -> Option<Duration> {
        self.0.lock().last
    }

    /// Begins another if the present one is over: each pool keeps what it has counted in it.
    pub fn turn(&self, pools: &Routes, now: Instant) {
        let mut state = self.0.lock();
        let took = now.saturating_duration_since(state.began);
        if took < LENGTH {
            return;
        }
        pools.values().for_each(|pool| pool.stats.turn());
        *state = State {
            began: now,
            last: Some(took),
        };
    }
}
