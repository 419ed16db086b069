//! Waiting for what is known of the shards.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use pgherd_planner::Wanted;
use pgherd_wire::error::ErrorReport;
use pgherd_wire::sqlstate;

use crate::clock;
use crate::session::checkout::{self, Denied};
use crate::session::relay::Relay;
use crate::shards::{Group, Known};

/// What is known of the shards. Where they have to be asked first, the client may leave, cancel or be sent
/// away meanwhile, and waits no longer than it would for a server.
pub(super) async fn known(
    relay: &mut Relay,
    group: &Arc<Group>,
    asked: Instant,
) -> Result<Arc<Known>, Denied> {
    let refused = |report| Denied::Refused(Box::new(report));
    if group.is_usable() {
        return group.known().await.map_err(refused);
    }
    let asks = Arc::clone(group);
    let what = "the schemas of the shards";
    awaited(relay, asked, what, async move { asks.known().await }).await
}

/// Has keys looked up of which nothing is known, for which a client waits in the same way.
pub(super) async fn looked_up(
    relay: &mut Relay,
    group: &Arc<Group>,
    keys: Wanted,
) -> Result<(), Denied> {
    let asks = Arc::clone(group);
    let what = "the shards of keys";
    let asks = async move { asks.look_up(keys).await };
    awaited(relay, clock::now(), what, asks).await
}

async fn awaited<T: Send + 'static>(
    relay: &mut Relay,
    asked: Instant,
    what: &str,
    asks: impl Future<Output = Result<T, ErrorReport>> + Send + 'static,
) -> Result<T, Denied> {
    let refused = |report| Denied::Refused(Box::new(report));
    // It goes on without this client: others wait for it as well.
    let mut asks = pin!(tokio::spawn(asks));
    let timeouts = relay.pool.settings().timeouts.clone();
    let limits = timeouts.checkout.zip(timeouts.hold);
    let limit = limits.map(|(checkout, hold)| checkout.max(hold));
    loop {
        let left = limit.map(|limit| limit.saturating_sub(clock::since(asked)));
        tokio::select! {
            biased;
            found = &mut asks => {
                let lost = |_| {
                    let text = format!("{what} cannot be read");
                    ErrorReport::error(sqlstate::INTERNAL_ERROR, text)
                };
                return found.map_err(lost).and_then(|found| found).map_err(refused);
            }
            paused = checkout::pause(relay, left.unwrap_or(LONG)) => paused?,
        }
        if left.is_some() {
            let text = format!("{what} could not be read in time");
            return Err(refused(ErrorReport::error(
                sqlstate::CANNOT_CONNECT_NOW,
                text,
            )));
        }
    }
}

/// How long is waited at once where there is no limit.
const LONG: std::time::Duration = std::time::Duration::from_secs(3600);
