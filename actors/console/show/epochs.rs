//! SHOW EPOCHS: who was written to, and since when.

use std::time::UNIX_EPOCH;

use crate::console::clock::stamp;
use crate::console::table::{Cell, Column, Row, int, text};
use crate::facts::Facts;

/// The columns. `writer` is null while there was nobody to write to, and `reason` says why.
pub const COLUMNS: [Column; 6] = [
    text("database"),
    text("since"),
    int("since_unix_ms"),
    text("epoch"),
    text("writer"),
    text("reason"),
];

/// A row for each change that is remembered, each database's latest last.
pub fn rows(facts: &Facts) -> Vec<Row> {
    let clusters = facts.topology.all();
    let entries = clusters.iter().flat_map(|cluster| {
        let entries = cluster.history().into_iter();
        entries.map(move |entry| {
            vec![
                cluster.name.clone().into(),
                stamp(entry.at).into(),
                entry
                    .at
                    .duration_since(UNIX_EPOCH)
                    .map_or(0, |at| at.as_millis())
                    .into(),
                entry.epoch.into(),
                entry.writer.map_or(Cell::Null, Cell::from),
                entry.why.map_or(Cell::Null, Cell::from),
            ]
        })
    });
    entries.collect()
}
