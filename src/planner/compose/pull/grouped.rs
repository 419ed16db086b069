//! By which columns a level groups, and which it shows of each group: what depends on a primary key alone needs it.

use pg_query::NodeEnum;
use pg_query::protobuf::{Node, SelectStmt};

use super::{said, walk};
use crate::catalog::Relation;

/// A column as it is named: with or without its table.
type Named = (Option<String>, String);

/// What is grouped, and by what.
#[derive(Default)]
pub(super) struct Grouped {
    /// The names of the columns that rows may be grouped by, also by the number or name of a target.
    names: Vec<String>,
    /// The columns that rows are certain to be grouped by.
    by: Vec<Named>,
    /// The columns that are named behind it; nothing if they cannot be told.
    shown: Option<Vec<Named>>,
}

impl Grouped {
    pub(super) fn of(select: &SelectStmt) -> Self {
        if select.group_clause.is_empty() {
            return Self::default();
        }
        let value = |node: &Node| match &node.node {
            Some(NodeEnum::ResTarget(target)) => target.val.as_deref().and_then(named),
            _ => None,
        };
        let mut names: Vec<String> = select
            .target_list
            .iter()
            .filter_map(value)
            .map(last)
            .collect();
        let by = select.group_clause.iter().filter_map(named).collect();
        let mut items = select.group_clause.clone();
        while let Some(item) = items.pop() {
            match item.node {
                Some(NodeEnum::GroupingSet(set)) => items.extend(set.content),
                Some(NodeEnum::RowExpr(row)) => items.extend(row.args),
                _ => names.extend(named(&item).map(last)),
            }
        }
        Self {
            names,
            by,
            shown: shown(select),
        }
    }

    /// Whether rows may be grouped by the primary key of a table of this name, and columns of it are shown by which
    /// they are not grouped.
    pub(super) fn by_primary(&self, alias: &str, described: &Relation) -> bool {
        let mut uniques = described.uniques.iter();
        let grouped = uniques.any(|unique| {
            unique.primary && unique.columns.iter().all(|name| self.names.contains(name))
        });
        // Of whichever table it is, as a join may have a name, too.
        let is_its = |(_, name): &&Named| described.column(name).is_some();
        let is_by = |(_, name): &Named| {
            let mut by = self.by.iter();
            by.any(|(table, known)| {
                known == name && table.as_ref().is_none_or(|table| table == alias)
            })
        };
        let all = |shown: &Vec<Named>| shown.iter().filter(is_its).all(is_by);
        grouped && !self.shown.as_ref().is_some_and(all)
    }
}

fn last((_, name): Named) -> String {
    name
}

/// The columns that are named where groups are shown, sorted or told apart.
fn shown(select: &SelectStmt) -> Option<Vec<Named>> {
    let mut found = Some(Vec::new());
    let lists = [
        &select.target_list,
        &select.sort_clause,
        &select.distinct_clause,
        &select.window_clause,
    ];
    let nodes = lists.into_iter().flatten();
    for node in nodes.chain(select.having_clause.as_deref()) {
        let walked = walk::expression(&mut node.clone(), &mut |part| {
            let plain = match part {
                NodeEnum::ColumnRef(_) => named(&Node {
                    node: Some(part.clone()),
                }),
                // It may name any of them.
                NodeEnum::SubLink(_) => None,
                _ => return Ok(()),
            };
            found = match (plain, found.take()) {
                (Some(plain), Some(mut found)) => {
                    found.push(plain);
                    Some(found)
                }
                _ => None,
            };
            Ok(())
        });
        walked.ok()?;
    }
    found
}

/// A column by its name, or by those of its table and its own.
fn named(node: &Node) -> Option<Named> {
    let Some(NodeEnum::ColumnRef(column)) = &node.node else {
        // A number, or what may be one of several columns.
        return None;
    };
    match said::names(column).as_slice() {
        [Some(name)] => Some((None, (*name).to_owned())),
        [.., Some(table), Some(name)] => Some((Some((*table).to_owned()), (*name).to_owned())),
        _ => None,
    }
}
