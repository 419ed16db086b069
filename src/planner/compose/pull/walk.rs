//! All parts of a query, each once.

use pg_query::NodeEnum;
use pg_query::protobuf::{JoinExpr, Node, SelectStmt};

use crate::compose::upper::parts;
use crate::refusal::{Refusal, Result};
use crate::resolve::unknown_node;

pub(super) type Visit<'v> = dyn FnMut(&mut NodeEnum) -> Result<()> + 'v;

/// The expressions of a level, outside of FROM.
pub(super) fn expressions(select: &mut SelectStmt) -> Vec<&mut Node> {
    let mut found: Vec<&mut Node> = Vec::new();
    let lists = [
        &mut select.target_list,
        &mut select.group_clause,
        &mut select.window_clause,
        &mut select.sort_clause,
        &mut select.distinct_clause,
        &mut select.values_lists,
    ];
    found.extend(lists.into_iter().flatten());
    let single = [
        &mut select.where_clause,
        &mut select.having_clause,
        &mut select.limit_count,
        &mut select.limit_offset,
    ];
    found.extend(single.into_iter().filter_map(|node| node.as_deref_mut()));
    found
}

/// Visits all that an expression is made of, the innermost first, but nothing within its queries.
pub(super) fn expression(node: &mut Node, visit: &mut Visit<'_>) -> Result<()> {
    let Some(inner) = &mut node.node else {
        return Ok(());
    };
    match &mut *inner {
        NodeEnum::SubLink(sub) => {
            if let Some(test) = &mut sub.testexpr {
                expression(test, visit)?;
            }
        }
        NodeEnum::ResTarget(target) => {
            if let Some(value) = &mut target.val {
                expression(value, visit)?;
            }
        }
        other => {
            for part in parts(other)? {
                expression(part, visit)?;
            }
        }
    }
    let window = match &mut *inner {
        NodeEnum::FuncCall(call) => call.over.as_deref_mut(),
        NodeEnum::WindowDef(window) => Some(&mut **window),
        _ => None,
    };
    if let Some(window) = window {
        let frame = [&mut window.start_offset, &mut window.end_offset];
        for offset in frame.into_iter().flatten() {
            expression(offset, visit)?;
        }
    }
    visit(inner)
}

/// Visits all of a query: what is in FROM, what expressions are made of, and all queries in it.
pub(super) fn query(select: &mut SelectStmt, visit: &mut Visit<'_>) -> Result<()> {
    if let Some(with) = &mut select.with_clause {
        for node in &mut with.ctes {
            match &mut node.node {
                Some(NodeEnum::CommonTableExpr(cte)) => {
                    query(of_node(cte.ctequery.as_deref_mut())?, visit)?;
                }
                _ => return Err(Refusal::new("WITH", "of an unknown form")),
            }
        }
    }
    for arm in [&mut select.larg, &mut select.rarg].into_iter().flatten() {
        query(arm, visit)?;
    }
    for item in &mut select.from_clause {
        source(item, visit)?;
    }
    for node in expressions(select) {
        within(node, visit)?;
    }
    Ok(())
}

/// An expression with its queries.
fn within(node: &mut Node, visit: &mut Visit<'_>) -> Result<()> {
    expression(node, &mut |part| {
        if let NodeEnum::SubLink(sub) = part {
            query(of_node(sub.subselect.as_deref_mut())?, visit)?;
        }
        visit(part)
    })
}

fn source(node: &mut Node, visit: &mut Visit<'_>) -> Result<()> {
    match &mut node.node {
        Some(NodeEnum::RangeVar(_)) => {}
        Some(NodeEnum::RangeSubselect(sub)) => {
            query(of_node(sub.subquery.as_deref_mut())?, visit)?;
        }
        Some(NodeEnum::RangeFunction(function)) => {
            for call in calls(&mut function.functions)? {
                within(call, visit)?;
            }
        }
        Some(NodeEnum::JoinExpr(join)) => {
            let JoinExpr {
                larg, rarg, quals, ..
            } = &mut **join;
            for side in [larg, rarg].into_iter().flatten() {
                source(side, visit)?;
            }
            if let Some(quals) = quals {
                within(quals, visit)?;
            }
        }
        Some(other) => return Err(unknown_node("FROM", other)),
        None => return Err(Refusal::new("FROM", "it has a part that is empty")),
    }
    match &mut node.node {
        Some(inner) => visit(inner),
        None => Ok(()),
    }
}

/// The calls of a function in FROM, without the definitions of their columns.
pub(super) fn calls(functions: &mut [Node]) -> Result<Vec<&mut Node>> {
    let mut found = Vec::new();
    for function in functions {
        match &mut function.node {
            Some(NodeEnum::List(list)) => found.extend(list.items.first_mut()),
            _ => return Err(Refusal::new("FROM", "a function of an unknown form")),
        }
    }
    Ok(found)
}

/// The query that a node is.
pub(super) fn of_node(node: Option<&mut Node>) -> Result<&mut SelectStmt> {
    match node.and_then(|node| node.node.as_mut()) {
        Some(NodeEnum::SelectStmt(select)) => Ok(select),
        _ => Err(Refusal::new("subquery", "it is no SELECT")),
    }
}
