//! What only tests can do to the actors of a proxy. Nothing of it exists without the feature `chaos`.

use std::sync::Arc;
use std::time::Duration;

use pgherd_supervise::reach::{self, Living, order};
use ractor::ActorCell;

use crate::config::ConfigMessage;
use crate::facts::Facts;
use crate::pool::PoolMessage;
use crate::router::RouterMessage;
use crate::totals::TotalsMessage;

/// Names an actor by its path from the root, like `root/router`, which the executable then has panic again and again
/// once it serves.
pub const CRASH: &str = "CHAOS_CRASH";

/// How long to wait between two crashes.
const PAUSE: Duration = Duration::from_millis(10);

/// All actors of a proxy that live at this moment.
pub async fn living(facts: &Facts) -> Vec<Living> {
    match facts.root.get() {
        Some(root) => reach::living("root".to_owned(), root.get_cell()).await,
        None => Vec::new(),
    }
}

/// Has an actor panic in the handler of a message. False if it hears no such message, or is gone.
#[must_use]
pub fn crash(cell: &ActorCell) -> bool {
    reach::crash(cell)
        || order(cell, PoolMessage::Crash)
        || order(cell, RouterMessage::Crash)
        || order(cell, ConfigMessage::Crash)
        || order(cell, TotalsMessage::Crash)
}

/// Obeys [`CRASH`], if it is set.
pub(crate) fn obey(facts: &Arc<Facts>) {
    let Ok(path) = std::env::var(CRASH) else {
        return;
    };
    let facts = Arc::clone(facts);
    tokio::spawn(async move {
        loop {
            for actor in living(&facts).await {
                if actor.path == path {
                    // One that has just died of the last time is started again, or the process ends.
                    let _ = crash(&actor.cell);
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    });
}
