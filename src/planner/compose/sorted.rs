//! ORDER BY that only Postgres can do, as texts of a language.

use pg_query::NodeEnum;
use pg_query::protobuf::{Node, SelectStmt};

use super::combine::{PARTIALS, keeps_names};
use super::upper::{as_target, reference};
use super::{deparse, merge};
use crate::plan::Merge;
use crate::refusal::{Refusal, Result};
use crate::resolve::Resolver;
use crate::tree::Query;

/// Rows that need no more than to be sorted by Postgres, and to be cut off.
pub(super) fn sorted(resolver: &Resolver<'_>, select: &SelectStmt, query: &Query) -> Result<Merge> {
    let mut sent = select.clone();
    let mut combine = deparse::select(&format!("SELECT FROM {PARTIALS}"))?;
    for (at, column) in query.columns.iter().enumerate() {
        combine
            .target_list
            .push(deparse::target(reference(at), &column.name));
    }
    let mut width = query.columns.len();
    if gives_rows(select) {
        return Err(Refusal::new(
            "ROW",
            "it is not supported where rows are merged",
        ));
    }
    if width == 0 {
        return Err(Refusal::new(
            "SELECT",
            "rows without columns are not merged",
        ));
    }
    for (node, sort) in select.sort_clause.iter().zip(&query.sort) {
        let Some(NodeEnum::SortBy(by)) = &node.node else {
            continue;
        };
        let column = match sort.output {
            Some(output) => output,
            None if matches!(
                by.node.as_ref().and_then(|node| node.node.as_ref()),
                Some(NodeEnum::RowExpr(_))
            ) =>
            {
                return Err(Refusal::new(
                    "ROW",
                    "it is not supported where rows are merged",
                ));
            }
            None if merge::may_add(query) => {
                let value = by.node.as_deref().cloned().unwrap_or_default();
                let value = as_target(resolver, &value)?;
                sent.target_list
                    .push(deparse::target(value, &format!("pgherd_sort_{width}")));
                width += 1;
                width - 1
            }
            None => {
                let reason = "it must be an output column where DISTINCT or UNION is";
                return Err(Refusal::new("ORDER BY", reason));
            }
        };
        let mut by = by.clone();
        by.node = Some(Box::new(reference(column)));
        combine.sort_clause.push(Node {
            node: Some(NodeEnum::SortBy(by)),
        });
    }
    combine.limit_count = select.limit_count.clone();
    combine.limit_offset = select.limit_offset.clone();
    combine.limit_option = select.limit_option;
    keeps_names(select, &combine)?;
    match merge::counts(select) {
        Some((limit, offset)) => merge::limit(&mut sent, &limit, &offset)?,
        None => {
            sent.limit_count = None;
            sent.limit_offset = None;
            sent.limit_option = pg_query::protobuf::LimitOption::Default as i32;
        }
    }
    // DISTINCT ON keeps the first row of each kind.
    let keeps_first = sent.distinct_clause.iter().any(|on| on.node.is_some());
    if sent.limit_count.is_none() && !keeps_first {
        sent.sort_clause.clear();
    }
    let inner = deparse::text_of(NodeEnum::SelectStmt(Box::new(sent)))?;
    let columns: Vec<String> = (0..width).map(|at| format!("c{at}")).collect();
    Ok(Merge::Combined {
        partial: format!(
            "SELECT * FROM ({inner}) AS pgherd_rows ({})",
            columns.join(", ")
        ),
        combine: deparse::text_of(NodeEnum::SelectStmt(Box::new(combine)))?,
    })
}

/// Whether a target is a row without a type, of which no table has a column.
pub(super) fn gives_rows(select: &SelectStmt) -> bool {
    let row = |node: &Node| match &node.node {
        Some(NodeEnum::ResTarget(target)) => matches!(
            target.val.as_deref().and_then(|value| value.node.as_ref()),
            Some(NodeEnum::RowExpr(_))
        ),
        _ => false,
    };
    let mut arms = [&select.larg, &select.rarg].into_iter().flatten();
    select.target_list.iter().any(row) || arms.any(|arm| gives_rows(arm))
}
