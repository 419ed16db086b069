//! The parts of expressions, and which of them are computed of whole groups and windows.

use std::collections::HashMap;

use pg_query::NodeEnum;
use pg_query::protobuf::{ColumnRef, FuncCall, Node, String as Name};

use super::combine::PARTIALS;
use super::deparse;
use super::risk::{Risk, is_conditional};
use crate::refusal::{Refusal, Result};
use crate::resolve::{Resolver, unknown_node};
use crate::tree::Expr;

/// What an expression is made of; queries in it are not looked into.
pub(super) fn parts(node: &mut NodeEnum) -> Result<Vec<&mut Node>> {
    let mut found: Vec<&mut Node> = Vec::new();
    match node {
        NodeEnum::ColumnRef(_)
        | NodeEnum::ParamRef(_)
        | NodeEnum::AConst(_)
        | NodeEnum::SubLink(_)
        | NodeEnum::SqlvalueFunction(_)
        | NodeEnum::String(_) => {}
        NodeEnum::TypeCast(cast) => found.extend(cast.arg.as_deref_mut()),
        NodeEnum::AExpr(expr) => {
            found.extend(expr.lexpr.as_deref_mut());
            found.extend(expr.rexpr.as_deref_mut());
        }
        NodeEnum::List(list) => found.extend(&mut list.items),
        NodeEnum::BoolExpr(expr) => found.extend(&mut expr.args),
        NodeEnum::NullTest(test) => found.extend(test.arg.as_deref_mut()),
        NodeEnum::BooleanTest(test) => found.extend(test.arg.as_deref_mut()),
        NodeEnum::CaseExpr(case) => {
            found.extend(case.arg.as_deref_mut());
            found.extend(&mut case.args);
            found.extend(case.defresult.as_deref_mut());
        }
        NodeEnum::CaseWhen(when) => {
            found.extend(when.expr.as_deref_mut());
            found.extend(when.result.as_deref_mut());
        }
        NodeEnum::CoalesceExpr(coalesce) => found.extend(&mut coalesce.args),
        NodeEnum::MinMaxExpr(minmax) => found.extend(&mut minmax.args),
        NodeEnum::RowExpr(row) => found.extend(&mut row.args),
        NodeEnum::AArrayExpr(array) => found.extend(&mut array.elements),
        NodeEnum::AIndirection(indirection) => {
            found.extend(indirection.arg.as_deref_mut());
            found.extend(&mut indirection.indirection);
        }
        NodeEnum::AIndices(indices) => {
            found.extend(indices.lidx.as_deref_mut());
            found.extend(indices.uidx.as_deref_mut());
        }
        NodeEnum::CollateClause(collate) => found.extend(collate.arg.as_deref_mut()),
        NodeEnum::NamedArgExpr(arg) => found.extend(arg.arg.as_deref_mut()),
        NodeEnum::SortBy(sort) => found.extend(sort.node.as_deref_mut()),
        NodeEnum::GroupingFunc(function) => found.extend(&mut function.args),
        NodeEnum::GroupingSet(set) => found.extend(&mut set.content),
        NodeEnum::WindowDef(window) => {
            found.extend(&mut window.partition_clause);
            found.extend(&mut window.order_clause);
            // How far a frame reaches depends on no row.
        }
        NodeEnum::FuncCall(call) => {
            found.extend(&mut call.args);
            found.extend(&mut call.agg_order);
            found.extend(call.agg_filter.as_deref_mut());
            if let Some(window) = &mut call.over {
                found.extend(&mut window.partition_clause);
                found.extend(&mut window.order_clause);
            }
        }
        other => return Err(unknown_node("expression", other)),
    }
    Ok(found)
}

/// Whether something is true of a part of an expression.
pub(super) fn any(node: &NodeEnum, is: &dyn Fn(&NodeEnum) -> bool) -> Result<bool> {
    if is(node) {
        return Ok(true);
    }
    let mut copy = node.clone();
    for part in parts(&mut copy)? {
        if let Some(node) = &part.node
            && any(node, is)?
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Expressions that are computed on the shards, and their columns in what the shards give.
pub(super) struct Units<'a, 'r> {
    pub(super) resolver: &'a Resolver<'r>,
    pub(super) places: HashMap<i32, Expr>,
    keys: HashMap<String, usize>,
    pub(super) nodes: Vec<Node>,
}

impl<'a, 'r> Units<'a, 'r> {
    pub(super) fn new(resolver: &'a Resolver<'r>) -> Self {
        Self {
            places: resolver.places.clone(),
            resolver,
            keys: HashMap::new(),
            nodes: Vec::new(),
        }
    }

    /// A text that is the same for expressions that are: columns by what they are, not by what they are called.
    fn key(&self, node: &Node) -> Result<String> {
        let mut copy = node.clone();
        self.canonical(&mut copy)?;
        deparse::expression(&copy)
    }

    fn canonical(&self, node: &mut Node) -> Result<()> {
        let Some(inner) = &mut node.node else {
            return Ok(());
        };
        if let NodeEnum::ColumnRef(column) = inner {
            if let Some(Expr::Col(col)) = self.places.get(&column.location) {
                column.fields = vec![
                    name(&format!("r{}", col.rel.0)),
                    name(&format!("c{}", col.at)),
                ];
            }
            return Ok(());
        }
        for part in parts(inner)? {
            self.canonical(part)?;
        }
        Ok(())
    }

    /// The column of an expression, if it is known.
    pub(super) fn known(&self, node: &Node) -> Result<Option<usize>> {
        Ok(self.keys.get(&self.key(node)?).copied())
    }

    /// The column of an expression, which is made if there is none.
    pub(super) fn column(&mut self, node: &Node) -> Result<usize> {
        let key = self.key(node)?;
        if let Some(at) = self.keys.get(&key) {
            return Ok(*at);
        }
        if matches!(&node.node, Some(NodeEnum::RowExpr(_))) || self.is_record(node) {
            // A table cannot have a column of rows without a type.
            return Err(Refusal::new(
                "ROW",
                "it is not supported where rows or groups are merged",
            ));
        }
        let value = as_target(self.resolver, node)?;
        self.keys.insert(key, self.nodes.len());
        self.nodes.push(value);
        Ok(self.nodes.len() - 1)
    }

    /// Whether it is the row of a query, which has no type of a name.
    fn is_record(&self, node: &Node) -> bool {
        match &node.node {
            Some(NodeEnum::ColumnRef(column)) => self.resolver.records.contains(&column.location),
            _ => false,
        }
    }

    /// Whether aggregates or windows are in it.
    pub(super) fn is_upper(&self, node: &NodeEnum) -> Result<bool> {
        any(node, &|node| match node {
            NodeEnum::FuncCall(call) => self.resolver.is_upper(call),
            NodeEnum::GroupingFunc(_) => true,
            _ => false,
        })
    }

    /// Whether a function is in it that may give several rows.
    pub(super) fn expands(&self, node: &Node) -> Result<bool> {
        let of_sets = |node: &NodeEnum| match node {
            NodeEnum::FuncCall(call) => {
                let known = self.resolver.calls.get(&call.location);
                known.is_none_or(|known| known.set)
            }
            _ => false,
        };
        node.node
            .as_ref()
            .map_or(Ok(false), |node| any(node, &of_sets))
    }

    /// Replaces what is computed of single rows, and of each of them.
    pub(super) fn rows(&mut self, node: &mut Node) -> Result<()> {
        self.rows_if(node, true)
    }

    /// The same where it may be computed of some rows only: what may fail is then not computed before, but of its columns
    /// where it stands.
    fn rows_if(&mut self, node: &mut Node, of_each: bool) -> Result<()> {
        let Some(inner) = &mut node.node else {
            return Ok(());
        };
        let is_upper = self.is_upper(inner)?;
        if !of_rows(inner)? && !is_upper {
            return Ok(());
        }
        let is_expression = !matches!(
            inner,
            NodeEnum::List(_)
                | NodeEnum::SortBy(_)
                | NodeEnum::GroupingSet(_)
                | NodeEnum::WindowDef(_)
                | NodeEnum::NamedArgExpr(_)
        );
        if !is_upper && is_expression {
            if of_each || !self.may_fail(inner) {
                let at = self.column(node)?;
                *node = reference(at);
                return Ok(());
            }
            if matches!(inner, NodeEnum::ColumnRef(_) | NodeEnum::SubLink(_)) {
                return Err(conditional());
            }
        }
        if let NodeEnum::FuncCall(call) = inner
            && self.resolver.is_upper(call)
        {
            return self.rows_of_call(call);
        }
        let of_each = of_each && !is_conditional(inner);
        has_no_star(inner)?;
        for part in parts(inner)? {
            self.rows_if(part, of_each)?;
        }
        Ok(())
    }

    /// Replaces what an aggregate or window is computed from. With a FILTER, its arguments are computed only of the rows
    /// that it lets through.
    pub(super) fn rows_of_call(&mut self, call: &mut FuncCall) -> Result<()> {
        let of_each = call.agg_filter.is_none();
        for part in call.args.iter_mut().chain(&mut call.agg_order) {
            if self.expands(part)? {
                // Postgres refuses that, which a column in its place would hide.
                return Err(several_rows());
            }
            self.rows_if(part, of_each)?;
        }
        let window = call.over.iter_mut().flat_map(|window| {
            let lists = [&mut window.partition_clause, &mut window.order_clause];
            lists.into_iter().flatten()
        });
        for part in call.agg_filter.as_deref_mut().into_iter().chain(window) {
            self.rows_if(part, true)?;
        }
        Ok(())
    }

    fn may_fail(&self, node: &NodeEnum) -> bool {
        Risk::of_level(self.resolver, &self.places).expression(node)
    }
}

/// What is said of functions that give several rows where aggregates and windows are computed.
pub(super) fn several_rows() -> Refusal {
    Refusal::new(
        "expression",
        "a function that gives several rows is not supported there where rows are merged",
    )
}

fn conditional() -> Refusal {
    let reason = "it may fail, and would be computed of rows that it is not meant for";
    Refusal::new("expression", reason)
}

/// Whether it depends on a row: a column or a query is in it.
pub(super) fn of_rows(node: &NodeEnum) -> Result<bool> {
    any(node, &|node| {
        matches!(node, NodeEnum::ColumnRef(_) | NodeEnum::SubLink(_))
    })
}

pub(super) fn name(text: &str) -> Node {
    Node {
        node: Some(NodeEnum::String(Name {
            sval: text.to_owned(),
        })),
    }
}

/// The name of a column of what the shards give. Alone, ORDER BY would take it for an output column that the client
/// calls so.
pub(super) fn reference(at: usize) -> Node {
    Node {
        node: Some(NodeEnum::ColumnRef(ColumnRef {
            fields: vec![name(PARTIALS), name(&format!("c{at}"))],
            location: 0,
        })),
    }
}

/// What stands before the star of `t.*`, and where that is.
fn starred(node: &Node) -> Option<(&[Node], i32)> {
    let Some(NodeEnum::ColumnRef(column)) = &node.node else {
        return None;
    };
    let (last, before) = column.fields.split_last()?;
    let is_star = matches!(last.node, Some(NodeEnum::AStar(_)));
    is_star.then_some((before, column.location))
}

/// Refuses `ROW (t.*)`, which has all columns: a row that has been computed already would be one of its.
pub(super) fn has_no_star(node: &NodeEnum) -> Result<()> {
    match node {
        NodeEnum::RowExpr(row) if row.args.iter().any(|arg| starred(arg).is_some()) => {
            Err(Refusal::new(
                "ROW",
                "a star in it is not supported where rows or groups are merged",
            ))
        }
        _ => Ok(()),
    }
}

/// An expression as it is written where it is a target: `t.*`, which is a row elsewhere, would be all columns of it there.
pub(super) fn as_target(resolver: &Resolver<'_>, node: &Node) -> Result<Node> {
    let Some((before, location)) = starred(node) else {
        return Ok(node.clone());
    };
    let space = resolver.top.as_ref();
    match crate::resolve::strings(before)?.as_slice() {
        [alias] if space.is_some_and(|space| space.is_row(alias)) => {
            let fields = before.to_vec();
            let column = ColumnRef { fields, location };
            Ok(Node {
                node: Some(NodeEnum::ColumnRef(column)),
            })
        }
        _ => Err(Refusal::new(
            "*",
            "a whole row is not supported here over shards",
        )),
    }
}

pub(super) fn not_grouped() -> Refusal {
    Refusal::new(
        "GROUP BY",
        "a column or subquery outside of it is not supported where groups are merged",
    )
    .hint("Name the column in GROUP BY, or in an aggregate.")
}
