//! Settings of the users' own that every connection of a pool has from its start, since its database, its role or
//! the server's configuration says so: whoever finds one there finds what a new connection has, too.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::RwLock;

/// For how long an answer of the server's is believed.
const BELIEVED: Duration = Duration::from_secs(30);

/// How many are remembered before the memory starts anew.
const NAMES_MAX: usize = 1024;

/// What was found out about them.
#[derive(Debug, Default)]
pub struct Natives(RwLock<HashMap<Box<str>, Instant>>);

impl Natives {
    /// Whether a connection has this one from its start, as far as is known.
    pub fn has(&self, name: &str, now: Instant) -> bool {
        let known = self.0.read();
        let learnt = known.get(name);
        learnt.is_some_and(|at| now.saturating_duration_since(*at) < BELIEVED)
    }

    /// The server has said so.
    pub fn learn(&self, name: &str, now: Instant) {
        let mut known = self.0.write();
        if known.len() >= NAMES_MAX {
            known.clear();
        }
        known.insert(name.into(), now);
    }
}
