//! RECONNECT and WAIT_CLOSE.

use std::sync::Arc;
use std::time::Duration;

use pgherd_wire::error::ErrorReport;

use crate::console::verb::Scope;
use crate::facts::Facts;
use crate::pool::Pool;

/// How often somebody who waits looks again at what wakes nobody.
pub const GLANCE: Duration = Duration::from_millis(50);

/// Closes idle server connections, and those on loan when they come back; others are opened in
/// their stead as clients ask.
///
/// # Errors
/// No such database.
pub fn reconnect(scope: &Scope, facts: &Facts) -> Result<(), ErrorReport> {
    scope
        .pools(facts)?
        .iter()
        .for_each(|pool| drop(pool.core.retire_all()));
    Ok(())
}

/// Waits until no server connection is left that was to be replaced.
///
/// # Errors
/// No such database.
pub async fn wait_close(scope: &Scope, facts: &Arc<Facts>) -> Result<(), ErrorReport> {
    for pool in scope.pools(facts)? {
        // The pool tells nobody of a connection that ends, so that ordinary traffic costs nothing.
        while has_retiring(&pool) {
            tokio::time::sleep(GLANCE).await;
        }
    }
    Ok(())
}

fn has_retiring(pool: &Pool) -> bool {
    let mut found = false;
    pool.core.each(|seen| found |= seen.meta.retire);
    found
}
