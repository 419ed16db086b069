//! SHOW PINS: the clients that keep a server between transactions.

use crate::console::table::{Column, Row, int, text};
use crate::control::Standing;
use crate::facts::Facts;
use crate::pool::PoolKey;

/// The columns. Why a client is pinned is known to its session alone; `pool_mode` tells session
/// mode, in which every client is, from a pin. `pinned_count` is how often it happened in the
/// client's pool.
pub const COLUMNS: [Column; 6] = [
    text("database"),
    text("user"),
    text("client"),
    text("server"),
    text("pool_mode"),
    int("pinned_count"),
];

/// A row for each client that is idle and holds a server.
pub fn rows(facts: &Facts) -> Vec<Row> {
    let routes = facts.routes.load();
    let mut sessions = facts.sessions.all();
    sessions.sort_by_key(|control| control.id);
    let rows = sessions.iter().filter_map(|control| {
        if control.standing() != Standing::Idle {
            return None;
        }
        let (server, who) = (control.running()?, control.identity()?);
        let key = PoolKey {
            database: who.database.clone(),
            user: who.user.clone(),
        };
        let pool = routes.get(&key)?;
        Some(vec![
            key.database.into(),
            key.user.into(),
            format!("c{}", control.id).into(),
            format!("s{}", server.id).into(),
            pool.settings().pool.mode.word().into(),
            pool.stats.totals().pinned_count.into(),
        ])
    });
    rows.collect()
}
