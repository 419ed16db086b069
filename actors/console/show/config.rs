//! SHOW CONFIG.

use crate::console::table::{Column, Row, text};
use crate::facts::Facts;

/// The columns of PgBouncer.
pub const COLUMNS: [Column; 4] = [
    text("key"),
    text("value"),
    text("default"),
    text("changeable"),
];

/// PgBouncer's names of the settings that its exporter looks for, and ours.
const ALIASES: [(&str, &str); 2] = [
    ("max_client_conn", "limits.max_clients"),
    ("max_user_connections", "limits.max_user_connections"),
];

/// A row for each setting, and once more for those that the exporter knows by another name.
pub fn rows(facts: &Facts) -> Vec<Row> {
    let lines = facts.config.load().show();
    let mut rows = Vec::with_capacity(lines.len() + ALIASES.len());
    for (alias, path) in ALIASES {
        if let Some(line) = lines.iter().find(|line| line.key == path) {
            rows.push(row(
                alias.to_owned(),
                number(&line.value),
                number(&line.default),
                line.changeable,
            ));
        }
    }
    rows.extend(
        lines
            .into_iter()
            .map(|it| row(it.key, it.value, it.default, it.changeable)),
    );
    rows
}

/// The exporter reads numbers, in which no limit is 0.
fn number(value: &str) -> String {
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    if digits {
        value.to_owned()
    } else {
        "0".to_owned()
    }
}

fn row(key: String, value: String, default: String, changeable: bool) -> Row {
    let changeable = if changeable { "yes" } else { "no" };
    vec![key.into(), value.into(), default.into(), changeable.into()]
}
