//! KILL and KILL_CLIENT.

use pgherd_wire::error::ErrorReport;
use pgherd_wire::sqlstate;

use crate::console::verb::Scope;
use crate::control::Order;
use crate::facts::Facts;

/// Sends the clients of databases away at once, closes their servers, and leaves the pools paused
/// until RESUME. Clients of the console stay.
///
/// # Errors
/// No such database.
pub fn kill(scope: &Scope, facts: &Facts) -> Result<(), ErrorReport> {
    scope.pools(facts)?;
    scope.pause(true, facts);
    let pools = scope.pools(facts)?;
    pools.iter().for_each(|pool| pool.core.pause());
    let config = facts.config.load();
    for control in facts.sessions.all() {
        let Some(who) = control.identity() else {
            continue;
        };
        if scope.covers(&who.database) && !config.is_console(&who.database) {
            control.order(Order::Terminate, killed());
        }
    }
    // What killed clients held is closed as it comes back, whatever state it is in.
    pools.iter().for_each(|pool| drop(pool.core.retire_all()));
    Ok(())
}

/// Sends one client away at once.
///
/// # Errors
/// 42704 when nobody has this number.
pub fn client(id: i32, facts: &Facts) -> Result<(), ErrorReport> {
    let Some(control) = facts.sessions.get(id) else {
        return Err(ErrorReport::error(
            sqlstate::UNDEFINED_OBJECT,
            format!("there is no client {id}"),
        ));
    };
    control.order(Order::Terminate, killed());
    Ok(())
}

fn killed() -> ErrorReport {
    ErrorReport::fatal(
        sqlstate::ADMIN_SHUTDOWN,
        "terminating connection due to administrator command",
    )
}
