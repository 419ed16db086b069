//! Which names a query says, and where: what of a table is not named need not be brought.

use std::collections::{BTreeMap, BTreeSet};

use pg_query::NodeEnum;
use pg_query::protobuf::{ColumnRef, FuncCall, Node, SelectStmt};

use super::walk;
use crate::refusal::Result;

/// Functions to which it makes no difference of which named type a row is.
const OF_ANY_ROW: [&str; 10] = [
    "count",
    "row_to_json",
    "to_json",
    "to_jsonb",
    "json_agg",
    "jsonb_agg",
    "json_build_object",
    "jsonb_build_object",
    "json_build_array",
    "jsonb_build_array",
];

#[derive(Debug, Default)]
pub(super) struct Said {
    /// The whole tree as a text, in which each name stands in quotes.
    shown: String,
    /// Names that stand alone, and so may mean the whole row of a table.
    bare: BTreeSet<String>,
    /// Names of tables of which a row's type may matter.
    typed: BTreeSet<String>,
    /// `t.*`
    starred: BTreeSet<String>,
    /// How many things in FROM have a name.
    pub(super) aliases: BTreeMap<String, usize>,
    /// There is a NATURAL JOIN.
    pub(super) natural: bool,
    /// The columns of USING.
    pub(super) using: BTreeSet<String>,
    /// Rows are locked.
    pub(super) locks: bool,
}

impl Said {
    /// Takes in all names of a query.
    pub(super) fn of(&mut self, select: &SelectStmt) -> Result<()> {
        self.shown.push_str(&format!("{select:?}"));
        self.locks |= self.shown.contains("LockingClause");
        let mut copy = select.clone();
        walk::query(&mut copy, &mut |node| {
            self.node(node);
            Ok(())
        })
    }

    /// Whether a name is said anywhere.
    pub(super) fn names(&self, name: &str) -> bool {
        self.shown.contains(&format!("sval: {name:?}"))
    }

    /// Whether all columns of what has this name in FROM are asked for.
    pub(super) fn whole(&self, alias: &str) -> bool {
        self.natural || self.bare.contains(alias) || self.starred.contains(alias)
    }

    /// Whether it may matter of which type the rows of this name are.
    pub(super) fn row_type(&self, alias: &str) -> bool {
        self.typed.contains(alias)
    }

    fn node(&mut self, node: &NodeEnum) {
        match node {
            NodeEnum::ColumnRef(column) => {
                if let [Some(name)] = names(column).as_slice() {
                    self.bare.insert((*name).to_owned());
                }
                if let [.., Some(alias), None] = names(column).as_slice() {
                    self.starred.insert((*alias).to_owned());
                }
            }
            NodeEnum::JoinExpr(join) => {
                self.natural |= join.is_natural;
                for name in &join.using_clause {
                    if let Some(NodeEnum::String(name)) = &name.node {
                        self.using.insert(name.sval.clone());
                    }
                }
            }
            _ => {}
        }
        if let Some(alias) = alias(node) {
            *self.aliases.entry(alias.to_owned()).or_default() += 1;
        }
        self.rows(node);
    }

    /// Notes rows that stand where their type may matter. What a node is made of is visited before it, so that
    /// it is enough to look at what each node does with its own parts.
    fn rows(&mut self, node: &NodeEnum) {
        let harmless = match node {
            NodeEnum::FuncCall(call) => of_any_row(call),
            NodeEnum::NullTest(_) | NodeEnum::AIndirection(_) | NodeEnum::ColumnRef(_) => true,
            NodeEnum::TypeCast(cast) => {
                let name = cast.type_name.as_ref().and_then(|name| name.names.last());
                matches!(name.and_then(|name| name.node.as_ref()), Some(NodeEnum::String(name)) if name.sval == "text")
            }
            // `t.*` there is a list of columns; a bare name is a row that the client is given.
            NodeEnum::ResTarget(target) => {
                let value = target.val.as_deref().and_then(|node| node.node.as_ref());
                matches!(value, Some(NodeEnum::ColumnRef(column)) if names(column).contains(&None))
            }
            _ => false,
        };
        if harmless {
            return;
        }
        let mut copy = node.clone();
        let parts = match &mut copy {
            NodeEnum::ResTarget(target) => target.val.as_deref_mut().into_iter().collect(),
            NodeEnum::SubLink(sub) => sub.testexpr.as_deref_mut().into_iter().collect(),
            NodeEnum::RangeVar(_)
            | NodeEnum::RangeSubselect(_)
            | NodeEnum::RangeFunction(_)
            | NodeEnum::JoinExpr(_) => Vec::new(),
            other => crate::compose::upper::parts(other).unwrap_or_default(),
        };
        for part in parts {
            if let Some(NodeEnum::ColumnRef(column)) = &part.node {
                match names(column).as_slice() {
                    [Some(name)] | [.., Some(name), None] => {
                        self.typed.insert((*name).to_owned());
                    }
                    _ => {}
                }
            }
        }
    }
}

fn of_any_row(call: &FuncCall) -> bool {
    let name = call.funcname.last().and_then(|node| node.node.as_ref());
    let known =
        matches!(name, Some(NodeEnum::String(name)) if OF_ANY_ROW.contains(&name.sval.as_str()));
    known && !call.agg_distinct && call.agg_order.is_empty()
}

/// The parts of a column's name; None for a star.
pub(super) fn names(column: &ColumnRef) -> Vec<Option<&str>> {
    let fields = column.fields.iter();
    fields
        .map(|field| match &field.node {
            Some(NodeEnum::String(name)) => Some(name.sval.as_str()),
            _ => None,
        })
        .collect()
}

/// The name that something in FROM has.
pub(super) fn alias(node: &NodeEnum) -> Option<&str> {
    let (alias, name) = match node {
        NodeEnum::RangeVar(range) => (&range.alias, Some(range.relname.as_str())),
        NodeEnum::RangeSubselect(sub) => (&sub.alias, None),
        NodeEnum::RangeFunction(function) => (&function.alias, None),
        NodeEnum::JoinExpr(join) => (&join.alias, None),
        _ => return None,
    };
    match alias {
        Some(alias) => Some(&alias.aliasname),
        None => name,
    }
}

/// Whether all columns of FROM are among the targets of a level.
pub(super) fn has_star(select: &SelectStmt) -> bool {
    let is_star = |node: &Node| match &node.node {
        Some(NodeEnum::ResTarget(target)) => {
            let value = target.val.as_deref().and_then(|node| node.node.as_ref());
            matches!(value, Some(NodeEnum::ColumnRef(column)) if names(column) == [None])
        }
        _ => false,
    };
    select.target_list.iter().any(is_star)
}

/// Whether a level does no more than to give all columns of rows.
pub(super) fn is_only_star(select: &SelectStmt) -> bool {
    select.target_list.len() == 1
        && has_star(select)
        && select.distinct_clause.is_empty()
        && select.group_clause.is_empty()
        && select.having_clause.is_none()
        && select.sort_clause.is_empty()
}

/// Whether a level picks columns and constants of rows, one for each, and does no more.
pub(super) fn is_plain(select: &SelectStmt) -> bool {
    let picks = |node: &Node| match &node.node {
        Some(NodeEnum::ResTarget(target)) => matches!(
            target.val.as_deref().and_then(|value| value.node.as_ref()),
            Some(NodeEnum::ColumnRef(_) | NodeEnum::AConst(_))
        ),
        _ => false,
    };
    let lists = [
        &select.distinct_clause,
        &select.group_clause,
        &select.window_clause,
        &select.sort_clause,
        &select.values_lists,
        &select.locking_clause,
    ];
    let none = [
        &select.having_clause,
        &select.limit_count,
        &select.limit_offset,
    ];
    select.target_list.iter().all(picks)
        && lists.iter().all(|list| list.is_empty())
        && none.iter().all(|node| node.is_none())
        && select.with_clause.is_none()
        && select.larg.is_none()
}
