//! SHOW TRANSACTIONS: transactions over several shards that are being committed, and parts of others that were found
//! prepared.

use std::time::SystemTime;

use crate::console::table::{Cell, Column, Row, int, text};
use crate::transactions::Transactions;

/// The columns. Who is being committed here has a user; of what was found, `shards` is where, and `error` why it could
/// not be ended, if that was tried.
pub const COLUMNS: [Column; 7] = [
    text("database"),
    text("user"),
    text("transaction"),
    text("state"),
    int("age"),
    text("shards"),
    text("error"),
];

/// A row for each.
pub fn rows(transactions: &Transactions) -> Vec<Row> {
    let now = SystemTime::now();
    let live = transactions.live().into_iter().map(|record| {
        let age = now.duration_since(record.since).unwrap_or_default();
        vec![
            record.database.clone().into(),
            record.user.clone().into(),
            record.id.clone().into(),
            record.stage().name().into(),
            age.as_secs().into(),
            record.shards.join(",").into(),
            Cell::Null,
        ]
    });
    let doubts = transactions.doubts().into_iter().map(|doubt| {
        vec![
            doubt.database.into(),
            Cell::Null,
            doubt.name.into(),
            "prepared".into(),
            doubt.age.into(),
            doubt.shard.into(),
            doubt.why.map_or(Cell::Null, Cell::from),
        ]
    });
    live.chain(doubts).collect()
}
