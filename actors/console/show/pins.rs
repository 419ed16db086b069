//! SHOW PINS: the clients that keep a server between transactions.

use crate::console::clock::stamp;
use crate::console::table::{Cell, Column, Row, int, text};
use crate::control::Standing;
use crate::facts::Facts;
use crate::pins;
use crate::pool::PoolKey;

/// The columns. `pool_mode` tells session mode, in which every client keeps its server, from a pin;
/// `reasons` says why a client is pinned, and `since` since when. `pinned_count` is after how many
/// transactions clients of the pool stayed pinned.
pub const COLUMNS: [Column; 8] = [
    text("database"),
    text("user"),
    text("client"),
    text("server"),
    text("pool_mode"),
    text("reasons"),
    text("since"),
    int("pinned_count"),
];

/// A row for each client that is bound to a server, or is idle and holds one.
pub fn rows(facts: &Facts) -> Vec<Row> {
    let routes = facts.routes.load();
    let mut sessions = facts.sessions.all();
    sessions.sort_by_key(|control| control.id);
    let rows = sessions.iter().filter_map(|control| {
        let bound = control.bound.get();
        if bound.is_none() && control.standing() != Standing::Idle {
            return None;
        }
        let (server, who) = (control.running()?, control.identity()?);
        let key = PoolKey::new(who.database.clone(), who.user.clone());
        let pool = routes.get(&key)?;
        let (reasons, since) = match bound {
            Some((reasons, since)) => (pins::names(reasons).into(), stamp(since).into()),
            None => (Cell::Null, Cell::Null),
        };
        Some(vec![
            key.database.into(),
            key.user.into(),
            format!("c{}", control.id).into(),
            format!("s{}", server.id).into(),
            pool.settings().pool.mode.word().into(),
            reasons,
            since,
            pool.stats.totals().pinned_count.into(),
        ])
    });
    rows.collect()
}
