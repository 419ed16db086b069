//! SHOW LISTENERS: who listens, and the server connections by which they hear.

use crate::console::table::{Column, Row, int, text};
use crate::facts::Facts;

/// The columns. `server` is the connection that listens for all clients of the database, which counts towards all
/// limits of one of the pools but its size; `channels` and `reconnects` are the database's, too. `overflows` are
/// clients that were too slow.
pub const COLUMNS: [Column; 9] = [
    text("database"),
    text("user"),
    text("server"),
    text("state"),
    int("clients"),
    int("channels"),
    int("notifications"),
    int("overflows"),
    int("reconnects"),
];

/// A row for each pool in which somebody listens, or has.
pub fn rows(facts: &Facts) -> Vec<Row> {
    let routes = facts.routes.load();
    let mut pools: Vec<_> = routes.values().collect();
    pools.sort_by(|one, other| one.key.cmp(&other.key));
    let rows = pools.into_iter().filter_map(|pool| {
        let census = pool.audience.census(&pool.circle);
        if !census.is_of_interest() {
            return None;
        }
        let server = census.about.as_ref().map(|about| format!("s{}", about.id));
        Some(vec![
            (&pool.key.database).into(),
            (&pool.key.user).into(),
            server.unwrap_or_default().into(),
            if census.up { "listening" } else { "down" }.into(),
            census.listeners.into(),
            census.channels.into(),
            census.delivered.into(),
            census.overflows.into(),
            census.reconnects.into(),
        ])
    });
    rows.collect()
}
