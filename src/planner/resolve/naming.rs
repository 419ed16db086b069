//! What output columns are called that are given no name.

use pg_query::NodeEnum;
use pg_query::protobuf::{self, Node};

/// The name that Postgres gives an output column (`FigureColname`).
pub(crate) fn output_name(node: &NodeEnum) -> String {
    figure(node).1
}

/// The name, and how good it is: 0 for none, 1 for that of a type, 2 for a real one.
fn figure(node: &NodeEnum) -> (u8, String) {
    let of = |node: &Option<Box<Node>>| {
        let inner = node.as_deref().and_then(|node| node.node.as_ref());
        inner.map_or_else(|| (0, "?column?".to_owned()), figure)
    };
    let last = |nodes: &[Node]| {
        nodes.iter().rev().find_map(|node| match &node.node {
            Some(NodeEnum::String(text)) => Some((2, text.sval.clone())),
            _ => None,
        })
    };
    let none = || (0, "?column?".to_owned());
    let named = |name: &str| (2, name.to_owned());
    match node {
        NodeEnum::ColumnRef(column) => last(&column.fields).unwrap_or_else(none),
        NodeEnum::AIndirection(indirection) => {
            last(&indirection.indirection).unwrap_or_else(|| of(&indirection.arg))
        }
        NodeEnum::FuncCall(call) => last(&call.funcname).unwrap_or_else(none),
        NodeEnum::AExpr(expr) if expr.kind() == protobuf::AExprKind::AexprNullif => named("nullif"),
        NodeEnum::TypeCast(cast) => match of(&cast.arg) {
            (2, name) => (2, name),
            weak => {
                let kind = cast.type_name.as_ref().and_then(|kind| last(&kind.names));
                kind.map_or(weak, |(_, name)| (1, name))
            }
        },
        NodeEnum::CollateClause(collate) => of(&collate.arg),
        NodeEnum::GroupingFunc(_) => named("grouping"),
        NodeEnum::SubLink(sub) => match sub.sub_link_type() {
            protobuf::SubLinkType::ExistsSublink => named("exists"),
            protobuf::SubLinkType::ArraySublink => named("array"),
            protobuf::SubLinkType::ExprSublink => figure_sublink(sub),
            _ => none(),
        },
        NodeEnum::CaseExpr(case) => match of(&case.defresult) {
            (2, name) => (2, name),
            _ => (1, "case".to_owned()),
        },
        NodeEnum::AArrayExpr(_) => named("array"),
        NodeEnum::RowExpr(_) => named("row"),
        NodeEnum::CoalesceExpr(_) => named("coalesce"),
        NodeEnum::MinMaxExpr(minmax) => match minmax.op() {
            protobuf::MinMaxOp::IsGreatest => named("greatest"),
            _ => named("least"),
        },
        NodeEnum::SqlvalueFunction(function) => named(super::function::value_function(function).0),
        _ => none(),
    }
}

fn figure_sublink(sub: &protobuf::SubLink) -> (u8, String) {
    let inner = sub.subselect.as_deref().and_then(|node| node.node.as_ref());
    if let Some(NodeEnum::SelectStmt(select)) = inner {
        // Of a set operation it is the first part that names the columns.
        let mut select = &**select;
        while let Some(left) = &select.larg {
            select = left;
        }
        if let Some(NodeEnum::ResTarget(target)) = select
            .target_list
            .first()
            .and_then(|node| node.node.as_ref())
        {
            if !target.name.is_empty() {
                return (2, target.name.clone());
            }
            if let Some(value) = target.val.as_deref().and_then(|node| node.node.as_ref()) {
                return figure(value);
            }
        }
        if !select.values_lists.is_empty() {
            return (2, "column1".to_owned());
        }
    }
    (0, "?column?".to_owned())
}
