//! SELECT, VALUES and what joins them, level by level.

use std::collections::HashMap;
use std::rc::Rc;

use pg_query::NodeEnum;
use pg_query::protobuf::{
    self, CommonTableExpr, Node, SelectStmt, SetOperation, SortByDir, SortByNulls, WithClause,
    a_const::Val,
};

use super::from::conjuncts;
use super::{Cte, Resolver, boxed, inner, strings, unknown_node};
use crate::refusal::{Refusal, Result};
use crate::tree::{Body, Distinct, Expr, Kind, Output, Query, Select, SetKind, Sort};

/// What is found in the expressions of a level.
#[derive(Debug, Default)]
pub(super) struct Level {
    pub(super) aggregates: bool,
    pub(super) loose: bool,
    pub(super) windows: Vec<Vec<Expr>>,
    pub(super) extra: Vec<Expr>,
    /// The PARTITION BY of the windows that have names.
    pub(super) named: HashMap<String, Vec<Expr>>,
    /// Whether an aggregate may stand here, and is one of this level.
    pub(super) depth: usize,
}

impl<'a> Resolver<'a> {
    /// A SELECT with all that belongs to it.
    pub(crate) fn query(&mut self, select: &'a SelectStmt) -> Result<Query> {
        if select.into_clause.is_some() {
            return Err(Refusal::new(
                "SELECT INTO",
                "tables are not made from queries over shards",
            ));
        }
        let ctes = self.ctes.len();
        if let Some(with) = &select.with_clause {
            self.with_clause(with)?;
        }
        let level = std::mem::take(&mut self.level);
        self.level.depth = self.stack.len();
        let done = self.query_body(select);
        self.level = level;
        self.ctes.truncate(ctes);
        done
    }

    pub(crate) fn with_clause(&mut self, with: &'a WithClause) -> Result<()> {
        let mut all: Vec<&'a CommonTableExpr> = Vec::new();
        for node in &with.ctes {
            match inner(node)? {
                NodeEnum::CommonTableExpr(cte) => all.push(cte),
                other => return Err(unknown_node("WITH", other)),
            }
        }
        for (at, cte) in all.iter().enumerate() {
            if cte.search_clause.is_some() || cte.cycle_clause.is_some() {
                return Err(Refusal::new(
                    "WITH",
                    "SEARCH and CYCLE are not supported over shards",
                ));
            }
            let body = cte.ctequery.as_deref();
            let body = body.ok_or_else(|| Refusal::new("WITH", "a query is missing"))?;
            if !matches!(body.node, Some(NodeEnum::SelectStmt(_))) {
                return Err(Refusal::new(
                    "WITH",
                    "what writes there is not supported over shards",
                ));
            }
            let later = all[at + 1..]
                .iter()
                .any(|later| with.recursive && mentions(body, &later.ctename));
            if later {
                return Err(Refusal::new(
                    "WITH RECURSIVE",
                    "a query names one that stands behind it",
                ));
            }
            let aliases = strings(&cte.aliascolnames)?;
            let made = Cte {
                name: cte.ctename.clone(),
                aliases: aliases.into_iter().map(str::to_owned).collect(),
                body,
                recursive: with.recursive,
                visible: self.ctes.clone(),
                levels: self.stack.len(),
                work: std::cell::RefCell::new(None),
                used: std::cell::Cell::new(false),
            };
            self.ctes.push(Rc::new(made));
        }
        Ok(())
    }

    fn query_body(&mut self, select: &'a SelectStmt) -> Result<Query> {
        match select.op() {
            SetOperation::SetopNone | SetOperation::Undefined => {}
            _ => return self.set_operation(select),
        }
        if select.values_lists.is_empty() {
            return self.select(select);
        }
        let mut exprs = Vec::new();
        let mut width = 0;
        for list in &select.values_lists {
            let NodeEnum::List(list) = inner(list)? else {
                return Err(Refusal::new("VALUES", "it is no list"));
            };
            width = list.items.len();
            for item in &list.items {
                exprs.push(self.expr(inner(item)?)?);
            }
        }
        let columns = (1..=width).map(|n| Output {
            name: format!("column{n}"),
            kind: Kind::UNKNOWN,
        });
        let columns: Vec<Output> = columns.collect();
        let sort = self.output_sort(&select.sort_clause, &columns)?;
        Ok(Query {
            body: Body::Values(exprs),
            sort,
            limits: self.limits(select)?,
            locks: !select.locking_clause.is_empty(),
            columns,
        })
    }

    fn limits(&mut self, select: &'a SelectStmt) -> Result<Vec<Expr>> {
        let both = [&select.limit_count, &select.limit_offset];
        both.into_iter()
            .flatten()
            .map(|node| self.expr(inner(node)?))
            .collect()
    }

    fn set_operation(&mut self, select: &'a SelectStmt) -> Result<Query> {
        let missing = || Refusal::new("UNION", "a side is missing");
        let left = self.query(select.larg.as_deref().ok_or_else(missing)?)?;
        let right = self.query(select.rarg.as_deref().ok_or_else(missing)?)?;
        if left.columns.len() != right.columns.len() {
            return Err(Refusal::new("UNION", "the sides have not as many columns").with("42601"));
        }
        let columns: Vec<Output> = left
            .columns
            .iter()
            .zip(&right.columns)
            .map(|(left, right)| {
                let (one, two) = (left.kind, right.kind);
                Output {
                    name: left.name.clone(),
                    kind: common(one, two),
                }
            })
            .collect();
        let kind = match select.op() {
            SetOperation::SetopUnion => SetKind::Union,
            SetOperation::SetopIntersect => SetKind::Intersect,
            _ => SetKind::Except,
        };
        let sort = self.output_sort(&select.sort_clause, &columns)?;
        Ok(Query {
            body: Body::Set {
                kind,
                all: select.all,
                left: Box::new(left),
                right: Box::new(right),
            },
            sort,
            limits: self.limits(select)?,
            locks: !select.locking_clause.is_empty(),
            columns,
        })
    }

    fn select(&mut self, select: &'a SelectStmt) -> Result<Query> {
        let (from, space) = self.sources(&select.from_clause)?;
        let top = self.stack.is_empty();
        let depth = self.stack.len();
        self.level.depth = depth;
        self.stack.push(space);
        let done = self.select_parts(select, from);
        let space = self.stack.pop();
        if top {
            self.top = space;
        }
        done
    }

    fn select_parts(
        &mut self,
        select: &'a SelectStmt,
        from: Vec<crate::tree::From>,
    ) -> Result<Query> {
        for window in &select.window_clause {
            if let NodeEnum::WindowDef(window) = inner(window)? {
                let partition = self.partition(window)?;
                self.level.named.insert(window.name.clone(), partition);
            }
        }
        let mut filter = Vec::new();
        if let Some(condition) = &select.where_clause {
            conjuncts(self.expr(inner(condition)?)?, &mut filter);
        }
        let (targets, columns) = self.targets(&select.target_list)?;
        let (group, grouping_sets) = self.group(&select.group_clause, &targets, &columns)?;
        let having = match &select.having_clause {
            Some(having) => Some(self.expr(inner(having)?)?),
            None => None,
        };
        let sort = self.sort(&select.sort_clause, &targets, &columns)?;
        let distinct = self.distinct(&select.distinct_clause, &targets, &columns)?;
        let limits = self.limits(select)?;
        let level = &mut self.level;
        let aggregates = level.aggregates || !select.group_clause.is_empty() || having.is_some();
        let body = Select {
            from,
            filter,
            targets,
            loose: level.loose || matches!(distinct, Distinct::On(_)) || !level.windows.is_empty(),
            distinct,
            group,
            grouping_sets: grouping_sets || select.group_distinct,
            having,
            aggregates,
            windows: std::mem::take(&mut level.windows),
            extra: std::mem::take(&mut level.extra),
        };
        Ok(Query {
            body: Body::Select(Box::new(body)),
            sort,
            limits,
            locks: !select.locking_clause.is_empty(),
            columns,
        })
    }

    /// A list of targets, with stars written out.
    pub(crate) fn targets(&mut self, list: &'a [Node]) -> Result<(Vec<Expr>, Vec<Output>)> {
        let mut exprs = Vec::new();
        let mut columns = Vec::new();
        for node in list {
            let NodeEnum::ResTarget(target) = inner(node)? else {
                return Err(Refusal::new("SELECT", "a target of an unknown form"));
            };
            let value = boxed(&target.val)?;
            if let Some(stars) = self.stars(value)? {
                for star in stars {
                    let kind = self.kind_of(&star.expr);
                    columns.push(Output {
                        name: star.name,
                        kind,
                    });
                    exprs.push(star.expr);
                }
                continue;
            }
            let expr = self.expr(value)?;
            let kind = self.kind_of(&expr);
            let name = match target.name.is_empty() {
                true => output_name(value),
                false => target.name.clone(),
            };
            columns.push(Output { name, kind });
            exprs.push(expr);
        }
        Ok((exprs, columns))
    }

    /// The columns of `*` or `t.*`.
    pub(crate) fn stars(&mut self, value: &NodeEnum) -> Result<Option<Vec<super::Star>>> {
        let NodeEnum::ColumnRef(column) = value else {
            return Ok(None);
        };
        let Some((last, before)) = column.fields.split_last() else {
            return Ok(None);
        };
        if !matches!(last.node, Some(NodeEnum::AStar(_))) {
            return Ok(None);
        }
        let stars = match strings(before)?.as_slice() {
            [] => self
                .stack
                .last()
                .map(|space| space.columns.clone())
                .unwrap_or_default(),
            [alias] => self.star_of(None, alias)?,
            [schema, alias] => self.star_of(Some(schema), alias)?,
            _ => return Err(Refusal::new("*", "its name has too many parts")),
        };
        Ok(Some(stars))
    }

    fn group(
        &mut self,
        clause: &'a [Node],
        targets: &[Expr],
        columns: &[Output],
    ) -> Result<(Vec<Expr>, bool)> {
        let mut group = Vec::new();
        let mut sets = false;
        for node in clause {
            match inner(node)? {
                NodeEnum::GroupingSet(set) => {
                    sets = true;
                    let (inside, _) = self.group(&set.content, targets, columns)?;
                    group.extend(inside);
                }
                NodeEnum::RowExpr(row)
                    if row.row_format() == protobuf::CoercionForm::CoerceImplicitCast =>
                {
                    let (inside, nested) = self.group(&row.args, targets, columns)?;
                    group.extend(inside);
                    sets |= nested;
                }
                node => group.push(self.group_item(node, targets, columns)?),
            }
        }
        Ok((group, sets))
    }

    fn group_item(
        &mut self,
        node: &'a NodeEnum,
        targets: &[Expr],
        columns: &[Output],
    ) -> Result<Expr> {
        if let Some(at) = position(node, columns.len())? {
            return Ok(targets[at].clone());
        }
        if let Some(name) = bare_name(node)
            && self
                .stack
                .last()
                .map(|space| space.bare(name))
                .transpose()?
                .flatten()
                .is_none()
            && let Some(at) = by_name(name, columns)?
        {
            return Ok(targets[at].clone());
        }
        self.expr(node)
    }

    fn distinct(
        &mut self,
        clause: &'a [Node],
        targets: &[Expr],
        columns: &[Output],
    ) -> Result<Distinct> {
        match clause {
            [] => Ok(Distinct::No),
            [Node { node: None }] => Ok(Distinct::All),
            items => {
                let mut on = Vec::new();
                for item in items {
                    on.push(self.sort_item(inner(item)?, targets, columns)?.0);
                }
                Ok(Distinct::On(on))
            }
        }
    }

    /// What an item of ORDER BY or DISTINCT ON is, and which output column it is.
    fn sort_item(
        &mut self,
        node: &'a NodeEnum,
        targets: &[Expr],
        columns: &[Output],
    ) -> Result<(Expr, Option<usize>)> {
        if let Some(at) = position(node, columns.len())? {
            return Ok((targets[at].clone(), Some(at)));
        }
        if let Some(name) = bare_name(node)
            && let Some(at) = by_name(name, columns)?
        {
            return Ok((targets[at].clone(), Some(at)));
        }
        let expr = self.expr(node)?;
        let same = |target: &Expr| matches!((target, &expr), (Expr::Col(one), Expr::Col(two)) if one == two);
        let output = targets.iter().position(same);
        Ok((expr, output))
    }

    fn sort(
        &mut self,
        clause: &'a [Node],
        targets: &[Expr],
        columns: &[Output],
    ) -> Result<Vec<Sort>> {
        let mut sorts = Vec::new();
        for node in clause {
            let NodeEnum::SortBy(sort) = inner(node)? else {
                return Err(Refusal::new("ORDER BY", "of an unknown form"));
            };
            let (expr, output) = self.sort_item(boxed(&sort.node)?, targets, columns)?;
            sorts.push(sorted(sort, expr, output));
        }
        Ok(sorts)
    }

    /// ORDER BY where only output columns may be named.
    fn output_sort(&mut self, clause: &'a [Node], columns: &[Output]) -> Result<Vec<Sort>> {
        let mut sorts = Vec::new();
        for node in clause {
            let NodeEnum::SortBy(sort) = inner(node)? else {
                return Err(Refusal::new("ORDER BY", "of an unknown form"));
            };
            let item = boxed(&sort.node)?;
            let mut output = position(item, columns.len())?;
            if let Some(name) = bare_name(item) {
                output = by_name(name, columns)?;
            }
            let Some(at) = output else {
                return Err(Refusal::new(
                    "ORDER BY",
                    "only output columns may stand there",
                ));
            };
            let expr = Expr::Of(Vec::new(), columns[at].kind);
            sorts.push(sorted(sort, expr, output));
        }
        Ok(sorts)
    }
}

/// The type of a column that comes from two sides; whole numbers stay what they are in a wider type.
fn common(one: Kind, two: Kind) -> Kind {
    let not_null = one.not_null && two.not_null;
    let width = |kind: Kind| [21, 23, 20].iter().position(|oid| *oid == kind.oid);
    if one.oid == two.oid && one.collation == two.collation {
        return Kind { not_null, ..one };
    }
    match (width(one), width(two)) {
        (Some(left), Some(right)) => {
            let wider = if left > right { one } else { two };
            Kind { not_null, ..wider }
        }
        _ => Kind::UNKNOWN,
    }
}

fn sorted(sort: &protobuf::SortBy, expr: Expr, output: Option<usize>) -> Sort {
    let descending = sort.sortby_dir() == SortByDir::SortbyDesc;
    Sort {
        expr,
        output,
        descending,
        nulls_first: match sort.sortby_nulls() {
            SortByNulls::SortbyNullsFirst => true,
            SortByNulls::SortbyNullsLast => false,
            _ => descending,
        },
        using: sort.sortby_dir() == SortByDir::SortbyUsing,
    }
}

/// The output column that a number stands for.
pub(crate) fn position(node: &NodeEnum, columns: usize) -> Result<Option<usize>> {
    let NodeEnum::AConst(constant) = node else {
        return Ok(None);
    };
    match &constant.val {
        Some(Val::Ival(number)) => {
            let at = usize::try_from(number.ival)
                .ok()
                .and_then(|at| at.checked_sub(1));
            match at {
                Some(at) if at < columns => Ok(Some(at)),
                _ => Err(
                    Refusal::new("ORDER BY", "there is no output column of this number")
                        .with("42P10"),
                ),
            }
        }
        _ => Ok(None),
    }
}

pub(crate) fn bare_name(node: &NodeEnum) -> Option<&str> {
    let NodeEnum::ColumnRef(column) = node else {
        return None;
    };
    match column.fields.as_slice() {
        [
            Node {
                node: Some(NodeEnum::String(name)),
            },
        ] => Some(&name.sval),
        _ => None,
    }
}

pub(crate) fn by_name(name: &str, columns: &[Output]) -> Result<Option<usize>> {
    let mut found = (0..columns.len()).filter(|at| columns[*at].name == name);
    match (found.next(), found.next()) {
        (at, None) => Ok(at),
        _ => Err(Refusal::new(name, "more than one output column has this name").with("42702")),
    }
}

/// Whether the name is said anywhere in a query; the shown tree has all names in quotes.
fn mentions(body: &Node, name: &str) -> bool {
    format!("{body:?}").contains(&format!("relname: {name:?}"))
}

/// The name that Postgres gives an output column (`FigureColname`).
pub(crate) fn output_name(node: &NodeEnum) -> String {
    figure(node).1
}

/// The name, and how good it is: 0 for none, 1 for that of a type, 2 for a real one.
fn figure(node: &NodeEnum) -> (u8, String) {
    let of = |node: &Option<Box<Node>>| {
        let inner = node.as_deref().and_then(|node| node.node.as_ref());
        inner.map_or((0, "?column?".to_owned()), figure)
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
