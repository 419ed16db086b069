//! Has the proxies of a sharded database hear of each other's changes of its schemas.
//!
//! Who has changed one, or has let somebody do so, notifies on that shard, and all listen on each shard over the
//! connections by which what was left prepared is looked for. A notification is read with the answer to the next question
//! there. What is lost of them costs time and nothing else: schemas are read again from time to time in any case.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgherd_wire::backend::Notification;

use crate::clock;
use crate::hidden::Hidden;
use crate::server::ServerConn;
use crate::session::setup::{self, Answer};
use crate::transactions::decisions;

/// The channel. The name is the only word: who hears it reads the schema.
const CHANNEL: &[u8] = b"pgherd_schema";
const LISTEN: &[u8] = b"LISTEN pgherd_schema";
const NOTIFY: &[u8] = b"NOTIFY pgherd_schema";

/// What could not be told is told again after this time: a server may take long to refuse, and others wait meanwhile.
const AGAIN: Duration = Duration::from_secs(30);

/// Which changes the other proxies were told of, by the section of the shard.
#[derive(Default)]
pub(super) struct Told(BTreeMap<String, Word>);

/// What was told on one shard.
struct Word {
    hidden: Arc<Hidden>,
    changes: u64,
    failed: Option<Instant>,
}

impl Told {
    /// Tells the others, if there is anything new.
    pub(super) async fn tell(&mut self, section: &str, server: &mut ServerConn) {
        let hidden = &server.about.upstream.hidden.0;
        let new = || Word {
            hidden: Arc::clone(hidden),
            changes: 0,
            failed: None,
        };
        let word = self.0.entry(section.to_owned()).or_insert_with(new);
        // With other servers it is another database.
        if !Arc::ptr_eq(&word.hidden, hidden) {
            *word = new();
        }
        let changes = hidden.own_changes();
        let rests = word.failed.is_some_and(|at| clock::since(at) < AGAIN);
        if word.changes == changes || rests {
            return;
        }
        let answer = decisions::run_in_time(server, NOTIFY).await;
        match answer.is_ok_and(|answer| answer.error.is_none()) {
            true => (word.changes, word.failed) = (changes, None),
            false => word.failed = Some(clock::now()),
        }
    }
}

/// Has a new connection hear of changes. `before` is the one in whose place it comes, if that has heard all until now:
/// without one, something may have been missed, if it is not the first.
pub(super) async fn listen(server: &mut ServerConn, before: Option<Box<ServerConn>>, again: bool) {
    let answer = setup::run(server, LISTEN).await;
    if !answer.is_ok_and(|answer| answer.error.is_none()) {
        return;
    }
    let hidden = Arc::clone(&server.about.upstream.hidden.0);
    let rest = match before {
        // What has come until the new one listens comes with the answer.
        Some(mut before) => setup::run_into(&mut before, b"SELECT", Answer::default())
            .await
            .is_ok(),
        None => false,
    };
    if again && !rest {
        hidden.has_heard();
    }
}

/// A server has notified, where nobody listens but we.
pub(crate) fn heard(server: &ServerConn, body: &[u8]) {
    let Ok(told) = Notification::parse(body) else {
        return;
    };
    if told.channel == CHANNEL && told.pid != server.about.backend {
        server.about.upstream.hidden.0.has_heard();
    }
}

#[cfg(test)]
mod tests {
    use super::{CHANNEL, LISTEN, NOTIFY};

    #[test]
    fn what_is_told_is_listened_to() {
        assert!(LISTEN.ends_with(CHANNEL) && NOTIFY.ends_with(CHANNEL));
    }
}
