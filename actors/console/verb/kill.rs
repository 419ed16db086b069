//! KILL and KILL_CLIENT.

use pgherd_wire::error::ErrorReport;
use pgherd_wire::sqlstate;

use crate::console::verb::Scope;
use crate::control::Order;
use crate::facts::Facts;

/// Sends the clients of databases away at once, closes their servers, and leaves the pools paused
/// until RESUME. Clients of the console stay. Of a sharded database, those of its shards by their own names go as well;
/// of a shard alone, clients of the sharded database stay, and what they have under way there comes to its end.
///
/// # Errors
/// No such database.
pub fn kill(scope: &Scope, facts: &Facts) -> Result<(), ErrorReport> {
    scope.pools(facts)?;
    scope.pause(true, facts);
    let pools = scope.pools(facts)?;
    pools.iter().for_each(|pool| pool.core.pause());
    let config = facts.config.load();
    let served = scope.served(&config);
    let is_meant = |name: &String| {
        scope.covers(name) || served.as_ref().is_some_and(|names| names.contains(name))
    };
    for control in facts.sessions.all() {
        let Some(who) = control.identity() else {
            continue;
        };
        if is_meant(&who.database) && !config.is_console(&who.database) {
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
