//! What only tests can do to the actors of a proxy. Nothing of it exists without the feature `chaos`.

use std::ffi::OsString;
use std::fs;
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

/// Names a file for orders: once it is there, the actors with the path that it holds panic, once, and it is removed.
pub const ORDERS: &str = "CHAOS_ORDERS";

/// How long to wait between two crashes, and between two looks for an order.
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

/// Has an actor stand still, as if it waited for what never comes. False if it is not of those that can, or is gone.
#[must_use]
pub fn stick(cell: &ActorCell) -> bool {
    reach::stick(cell) || order(cell, TotalsMessage::Stick)
}

/// Obeys [`CRASH`] and [`ORDERS`], if they are set.
pub(crate) fn obey(facts: &Arc<Facts>) {
    if let Ok(path) = std::env::var(CRASH) {
        tokio::spawn(again_and_again(Arc::clone(facts), path));
    }
    if let Some(file) = std::env::var_os(ORDERS) {
        tokio::spawn(on_order(Arc::clone(facts), file));
    }
}

async fn again_and_again(facts: Arc<Facts>, path: String) {
    loop {
        // One that has just died of the last time is started again, or the process ends.
        let _ = crash_all(&facts, &path).await;
        tokio::time::sleep(PAUSE).await;
    }
}

async fn on_order(facts: Arc<Facts>, file: OsString) {
    loop {
        if let Ok(path) = fs::read_to_string(&file)
            && crash_all(&facts, &path).await
        {
            // By this who has ordered it sees that it is done.
            let _ = fs::remove_file(&file);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Has all actors with a path panic; false if there is none.
async fn crash_all(facts: &Facts, path: &str) -> bool {
    let mut any = false;
    for actor in living(facts).await {
        if actor.path == path {
            any |= crash(&actor.cell);
        }
    }
    any
}
