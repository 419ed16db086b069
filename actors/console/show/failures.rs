//! SHOW FAILURES: logins that failed, and sessions that their clients did not end.

use crate::console::table::{Column, Row, int, text};
use crate::failures::FailureCounts;

/// The columns. PgBouncer has no such table.
pub const COLUMNS: [Column; 3] = [text("what"), text("reason"), int("count")];

/// A row for each reason that there may be.
pub fn rows(counts: &FailureCounts) -> Vec<Row> {
    let logins = counts
        .logins()
        .map(|(reason, count)| ("login", reason, count));
    let sessions = counts
        .sessions()
        .map(|(reason, count)| ("session", reason, count));
    logins
        .chain(sessions)
        .map(|(what, reason, count)| vec![what.into(), reason.into(), count.into()])
        .collect()
}
