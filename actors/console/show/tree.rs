//! SHOW TREE: the supervision tree.

use std::time::{Duration, SystemTime};

use pgherd_supervise::{SupervisorMessage, TreeNode};
use pgherd_wire::error::ErrorReport;
use pgherd_wire::sqlstate;

use crate::console::clock::stamp;
use crate::console::table::{Column, Row, int, text};
use crate::facts::Facts;

/// How long the tree may take to list itself.
const PATIENCE: Duration = Duration::from_secs(2);

/// The columns; the names are indented by two spaces a level.
pub const COLUMNS: [Column; 7] = [
    text("name"),
    text("kind"),
    text("state"),
    int("children"),
    int("restarts"),
    text("last_failure"),
    text("since"),
];

/// A row for each node, parents before their children.
///
/// # Errors
/// 57P03 when the root does not answer.
pub async fn rows(facts: &Facts) -> Result<Vec<Row>, ErrorReport> {
    let root = facts
        .root
        .call(SupervisorMessage::Tree, PATIENCE)
        .await
        .map_err(|error| {
            ErrorReport::error(
                sqlstate::CANNOT_CONNECT_NOW,
                "the supervision tree does not answer",
            )
            .detail(error.to_string())
        })?;
    let mut rows = Vec::new();
    list(&root, 0, &mut rows);
    Ok(rows)
}

/// Lists a node and what is below it. The depth is that of the tree, which the code sets.
pub fn list(node: &TreeNode, depth: usize, rows: &mut Vec<Row>) {
    let since = SystemTime::now().checked_sub(node.since.elapsed());
    rows.push(vec![
        format!("{:indent$}{}", "", node.name, indent = depth * 2).into(),
        node.kind.to_string().into(),
        node.state.to_string().into(),
        node.population.unwrap_or(node.children.len()).into(),
        node.restarts.into(),
        node.last_failure.clone().into(),
        since.map(stamp).into(),
    ]);
    for child in &node.children {
        list(child, depth + 1, rows);
    }
}
