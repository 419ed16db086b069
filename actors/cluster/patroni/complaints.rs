//! What the log is told of sources that do not tell.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgherd_config::Patroni;

use super::ask::AskError;
use super::tls::SourceTls;
use crate::clock;

/// A source is complained of at most that often; it may be asked five times a second.
const AGAIN: Duration = Duration::from_secs(30);

/// When was complained of which source, since the last reload.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    last: HashMap<Patroni, Instant>,
    /// Stands for that reload.
    since: Option<Arc<SourceTls>>,
}

impl Complaints {
    /// Begins anew behind a reload: whoever has changed something wants to know what came of it.
    pub(super) fn renew(&mut self, tls: &Arc<SourceTls>) {
        let same = self.since.as_ref().is_some_and(|it| Arc::ptr_eq(it, tls));
        if !same {
            self.since = Some(Arc::clone(tls));
            self.last.clear();
        }
    }

    /// A source of a database has not told.
    pub(super) fn hear(&mut self, database: &str, source: &Patroni, error: &AskError) {
        if self.is_due(source, clock::now()) {
            tracing::warn!(database, %source, %error, "patroni does not tell");
        } else {
            tracing::debug!(database, %source, %error, "patroni does not tell");
        }
    }

    fn is_due(&mut self, source: &Patroni, now: Instant) -> bool {
        let last = self.last.get(source);
        let due = last.is_none_or(|last| now.saturating_duration_since(*last) >= AGAIN);
        if due {
            self.last.insert(source.clone(), now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use pgherd_config::{Patroni, Scheme};

    use super::{AGAIN, Complaints};

    #[test]
    fn each_source_is_complained_of_now_and_then() {
        let source = |port| Patroni {
            scheme: Scheme::Https,
            host: "db1".to_owned(),
            port,
        };
        let (one, other) = (source(1), source(2));
        let (now, tls) = (Instant::now(), Arc::default());
        let mut complaints = Complaints::default();
        complaints.renew(&tls);
        assert!(complaints.is_due(&one, now));
        complaints.renew(&tls);
        assert!(!complaints.is_due(&one, now + AGAIN / 2));
        assert!(complaints.is_due(&other, now + AGAIN / 2));
        assert!(complaints.is_due(&one, now + AGAIN));
        assert!(!complaints.is_due(&one, now + AGAIN));
        complaints.renew(&Arc::default());
        assert!(complaints.is_due(&one, now + AGAIN));
    }
}
