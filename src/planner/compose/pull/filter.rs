//! Conditions on the columns of one table that may be asked of its rows before they are brought.

use pg_query::NodeEnum;
use pg_query::protobuf::{AExprKind, BoolExprType, FuncCall, Node, a_const::Val};

use super::said::names;
use crate::catalog::Catalog;
use crate::compose::risk::is_pattern;
use crate::compose::upper::parts;

/// The operators of comparisons; a row that is compared raises no error.
const COMPARE: [&str; 11] = [
    "=", "<>", "!=", "<", ">", "<=", ">=", "~~", "!~~", "~~*", "!~~*",
];

/// Operators that may raise an error, and so may only be between constants.
const COMPUTE: [&str; 4] = ["+", "-", "*", "/"];

/// Types that literals may be cast to: their order and equality depend on settings only.
const TYPES: [&str; 15] = [
    "int2",
    "int4",
    "int8",
    "text",
    "varchar",
    "bpchar",
    "numeric",
    "float4",
    "float8",
    "bool",
    "date",
    "timestamp",
    "timestamptz",
    "interval",
    "uuid",
];

/// The parts of a condition that must all hold.
pub(super) fn conjuncts(node: &Option<Box<Node>>) -> Vec<Node> {
    fn add(node: &Node, found: &mut Vec<Node>) {
        match &node.node {
            Some(NodeEnum::BoolExpr(expr)) if expr.boolop() == BoolExprType::AndExpr => {
                expr.args.iter().for_each(|arg| add(arg, found));
            }
            _ => found.push(node.clone()),
        }
    }
    let mut found = Vec::new();
    if let Some(node) = node {
        add(node, &mut found);
    }
    found
}

/// A table or several, by their names in FROM and the names of their columns.
pub(super) struct Owner<'a> {
    pub(super) catalog: &'a Catalog,
    /// The alias, and its columns.
    pub(super) tables: Vec<(&'a str, Vec<&'a str>)>,
    /// Columns that do not mean what is theirs, as USING has merged them.
    pub(super) merged: &'a std::collections::BTreeSet<String>,
}

impl Owner<'_> {
    /// Whether a condition is about these tables alone, raises no error for any row, and is the same on every
    /// shard.
    pub(super) fn owns(&self, condition: &Node) -> bool {
        let moments = super::super::deparse::expression(condition).is_ok_and(|text| {
            pgherd_sql::names_moment(text.as_bytes(), pgherd_sql::LexOptions::default())
        });
        has_column(condition) && !moments && self.takes(condition)
    }

    pub(super) fn column(&self, node: &NodeEnum) -> bool {
        let NodeEnum::ColumnRef(column) = node else {
            return false;
        };
        match names(column).as_slice() {
            [Some(name)] => {
                let mut owners = self.tables.iter();
                !self.merged.contains(*name) && owners.any(|(_, columns)| columns.contains(name))
            }
            [Some(alias), Some(name)] => {
                let mut owners = self.tables.iter();
                owners.any(|(own, columns)| own == alias && columns.contains(name))
            }
            _ => false,
        }
    }

    fn takes(&self, node: &Node) -> bool {
        let Some(inner) = &node.node else {
            return false;
        };
        match inner {
            NodeEnum::ColumnRef(_) => self.column(inner),
            NodeEnum::AConst(_) | NodeEnum::ParamRef(_) => true,
            NodeEnum::TypeCast(cast) => {
                let name = cast.type_name.as_ref();
                let plain = name.is_some_and(|name| {
                    let last = name.names.last().and_then(|name| name.node.as_ref());
                    let known = matches!(last, Some(NodeEnum::String(last)) if TYPES.contains(&last.sval.as_str()));
                    known && name.array_bounds.is_empty()
                });
                let constant = !has_column(node);
                plain && constant && self.all(inner)
            }
            NodeEnum::AExpr(expr) => {
                let operator = expr.name.last().and_then(|name| name.node.as_ref());
                let Some(NodeEnum::String(operator)) = operator else {
                    return false;
                };
                let operator = operator.sval.as_str();
                let plain = expr.name.len() == 1 && self.catalog.operators(operator).is_empty();
                let known = match expr.kind() {
                    AExprKind::AexprOp => {
                        COMPARE.contains(&operator)
                            || COMPUTE.contains(&operator) && !has_column(node)
                    }
                    AExprKind::AexprIn
                    | AExprKind::AexprLike
                    | AExprKind::AexprIlike
                    | AExprKind::AexprDistinct
                    | AExprKind::AexprNotDistinct => true,
                    AExprKind::AexprBetween | AExprKind::AexprNotBetween => ["<", "<=", ">", ">="]
                        .iter()
                        .all(|name| self.catalog.operators(name).is_empty()),
                    _ => false,
                };
                // A pattern may end in the middle of an escape, which is an error for some texts.
                let sound = !operator.contains("~~") || is_pattern(&expr.rexpr);
                plain && known && sound && self.all(inner)
            }
            NodeEnum::FuncCall(call) => is_part_of_text(call) && self.all(inner),
            NodeEnum::List(_)
            | NodeEnum::BoolExpr(_)
            | NodeEnum::NullTest(_)
            | NodeEnum::BooleanTest(_) => self.all(inner),
            _ => false,
        }
    }

    fn all(&self, node: &NodeEnum) -> bool {
        let mut copy = node.clone();
        parts(&mut copy).is_ok_and(|parts| parts.iter().all(|part| self.takes(part)))
    }
}

/// `substring(… from 1 for 2)` in the words of SQL, of no negative length.
fn is_part_of_text(call: &FuncCall) -> bool {
    let names: Vec<&str> = call
        .funcname
        .iter()
        .filter_map(|name| match &name.node {
            Some(NodeEnum::String(name)) => Some(name.sval.as_str()),
            _ => None,
        })
        .collect();
    let number = |node: &Node| match &node.node {
        Some(NodeEnum::AConst(constant)) => {
            matches!(&constant.val, Some(Val::Ival(number)) if number.ival >= 0)
        }
        _ => false,
    };
    let plain = call.over.is_none() && call.agg_filter.is_none() && call.agg_order.is_empty();
    names == ["pg_catalog", "substring"]
        && plain
        && !call.agg_distinct
        && !call.func_variadic
        && matches!(call.args.as_slice(), [_, from, length] if number(from) && number(length))
}

fn has_column(node: &Node) -> bool {
    node.node
        .as_ref()
        .is_some_and(|inner| super::super::upper::of_rows(inner).unwrap_or(true))
}
