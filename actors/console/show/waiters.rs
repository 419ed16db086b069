//! SHOW WAITERS: the queues of the pools.

use crate::console::figures::Figures;
use crate::console::table::{Column, Row, int, text};

/// The columns: how many wait now, how many may, for how long the first has waited, and how often
/// and how long anybody had to wait since the pool was made. Times in microseconds.
pub const COLUMNS: [Column; 8] = [
    text("database"),
    text("user"),
    int("waiting"),
    int("max_waiters"),
    int("oldest_wait_us"),
    int("waits"),
    int("wait_time_us"),
    int("paused"),
];

/// A row for each pool in which somebody has ever waited.
pub fn rows(pools: &[Figures]) -> Vec<Row> {
    let queued = pools.iter().filter(|pool| pool.servers.waits > 0);
    let rows = queued.map(|pool| {
        let servers = &pool.servers;
        vec![
            (&pool.key.database).into(),
            (&pool.key.user).into(),
            servers.waiting.into(),
            servers.limits.max_waiters.into(),
            servers
                .oldest_wait
                .map_or(0, |wait| wait.as_micros())
                .into(),
            servers.waits.into(),
            pool.totals.wait_time.as_micros().into(),
            servers.paused.into(),
        ]
    });
    rows.collect()
}
