//! CHECK SHARDING: the rows of sharded databases are where they belong, or which are not.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use pgherd_wire::error::ErrorReport;
use pgherd_wire::sqlstate;

use crate::clock;
use crate::console::table::{Cell, Column, Row, int, text};
use crate::control::Control;
use crate::facts::Facts;
use crate::shards::check::{self, Finding};

/// The columns.
pub const COLUMNS: [Column; 8] = [
    text("database"),
    text("table"),
    text("placement"),
    text("shard"),
    int("rows"),
    int("misplaced"),
    text("state"),
    text("detail"),
];

/// Looks at one sharded database or all of them, for no longer than that; a notice says what it comes to.
///
/// # Errors
/// 3D000 for a database that is not sharded, 57014 where the client has called it off.
pub async fn check(
    database: Option<&str>,
    timeout: Duration,
    facts: &Arc<Facts>,
    control: &Control,
) -> Result<(Vec<Row>, Vec<ErrorReport>), ErrorReport> {
    let config = facts.config.load_full();
    let meant = config.sharded.values();
    let meant: Vec<_> = meant
        .filter(|sharded| database.is_none_or(|name| name == sharded.name))
        .cloned()
        .collect();
    if let (Some(name), true) = (database, meant.is_empty()) {
        let report = ErrorReport::error(
            sqlstate::INVALID_CATALOG_NAME,
            format!("no such sharded database: {name}"),
        );
        return Err(report.hint("SHOW DATABASES has those that there are."));
    }
    let user = control.identity().map(|who| who.user.clone());
    let user = user.unwrap_or_default();
    let until = clock::now() + timeout;
    control.begin_waiting();
    let (mut rows, mut notices) = (Vec::new(), Vec::new());
    for sharded in &meant {
        let look = check::check(facts, sharded, &user, until);
        let found = tokio::select! {
            biased;
            found = look => found,
            () = called_off(control) => return Err(ErrorReport::error(
                sqlstate::QUERY_CANCELED,
                "canceling statement due to user request",
            )),
        };
        notices.push(told(&sharded.name, &user, &found));
        rows.extend(found.into_iter().map(|it| row(&sharded.name, it)));
    }
    Ok((rows, notices))
}

/// Over when the client has called off what its session waits with.
async fn called_off(control: &Control) {
    poll_fn(|cx| {
        // The session is woken by the same for both; where it is sent away, others see to that.
        let _ = control.poll_ordered(cx);
        match control.is_called_off() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
}

fn told(database: &str, user: &str, found: &[Finding]) -> ErrorReport {
    let summary = check::summary(found);
    let text = format!("{database}: {summary}");
    if check::is_sound(found) {
        tracing::info!(
            database,
            user,
            summary,
            "the rows of a sharded database were checked"
        );
        return ErrorReport::notice(text);
    }
    tracing::warn!(
        database,
        user,
        summary,
        "the rows of a sharded database were checked, and are not all as they should be"
    );
    ErrorReport::warning(sqlstate::WARNING, text)
}

fn row(database: &str, found: Finding) -> Row {
    vec![
        database.to_owned().into(),
        found.table.into(),
        found.placement.into(),
        found.shard.into(),
        found.rows.into(),
        found.misplaced.into(),
        Cell::from(found.state.name()),
        found.detail.into(),
    ]
}
