//! PAUSE and RESUME.

use std::sync::Arc;

use pgherd_wire::error::ErrorReport;

use crate::console::verb::Scope;
use crate::facts::Facts;

/// Pauses pools, waits until their servers are back: after the transaction under way, or in session mode
/// when the client leaves, and closes them, so that the server can be stopped. That for notifications is closed within
/// moments. Those by which hosts are watched, and transactions over shards recovered, stay. A pause that is no longer
/// waited for stays.
///
/// # Errors
/// No such database.
pub async fn pause(scope: &Scope, facts: &Arc<Facts>) -> Result<(), ErrorReport> {
    scope.pools(facts)?;
    scope.pause(true, facts);
    // Looked at behind the doors: a pool that comes later finds them closed.
    let pools = scope.pools(facts)?;
    pools.iter().for_each(|pool| pool.core.pause());
    for pool in &pools {
        // A RESUME from elsewhere ends the pause; then there is nothing left to wait for.
        while pool.core.is_paused() && !pool.core.quiesced() {
            tokio::select! {
                () = pool.core.quiet() => {}
                () = tokio::time::sleep(super::reconnect::GLANCE) => {}
            }
        }
        if pool.core.is_paused() {
            drop(pool.core.retire_all());
        }
    }
    Ok(())
}

/// Ends the pause of pools, also of those that KILL has left, and the wait for a switchover.
///
/// # Errors
/// No such database.
pub fn resume(scope: &Scope, facts: &Facts) -> Result<(), ErrorReport> {
    scope.pools(facts)?;
    scope.pause(false, facts);
    super::switchover::call_off(scope, facts);
    scope
        .pools(facts)?
        .iter()
        .for_each(|pool| pool.core.resume());
    Ok(())
}
