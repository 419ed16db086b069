//! Waiting for what is known of the shards.

use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

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
    // It goes on without this client: others wait for it as well.
    let asks = Arc::clone(group);
    let mut asks = pin!(tokio::spawn(async move { asks.known().await }));
    let timeouts = relay.pool.settings().timeouts.clone();
    let limits = timeouts.checkout.zip(timeouts.hold);
    let limit = limits.map(|(checkout, hold)| checkout.max(hold));
    loop {
        let left = limit.map(|limit| limit.saturating_sub(clock::since(asked)));
        tokio::select! {
            biased;
            known = &mut asks => {
                let lost = |_| ErrorReport::error(
                    sqlstate::INTERNAL_ERROR,
                    "the schemas of the shards cannot be read",
                );
                return known.map_err(lost).and_then(|known| known).map_err(refused);
            }
            paused = checkout::pause(relay, left.unwrap_or(LONG)) => paused?,
        }
        if left.is_some() {
            let text = "the schemas of the shards could not be read in time";
            return Err(refused(ErrorReport::error(
                sqlstate::CANNOT_CONNECT_NOW,
                text,
            )));
        }
    }
}

/// How long is waited at once where there is no limit.
const LONG: std::time::Duration = std::time::Duration::from_secs(3600);
