//! SELECT, VALUES and what joins them, level by level.

use std::collections::HashMap;

use pg_query::NodeEnum;
use pg_query::protobuf::{LockWaitPolicy, Node, SelectStmt, SetOperation};

use super::from::conjuncts;
use super::{Resolver, boxed, inner, strings};
use crate::refusal::{Refusal, Result};
use crate::tree::{Body, Distinct, Expr, Kind, Output, Place, Query, Select, SetKind, Source};

/// What is found in the expressions of a level.
#[derive(Debug, Default)]
pub(super) struct Level {
    pub(super) aggregates: bool,
    pub(super) loose: bool,
    /// There is the least or greatest of numbers, of which equal ones may be written otherwise.
    pub(super) picks: bool,
    pub(super) windows: Vec<Vec<Expr>>,
    pub(super) extra: Vec<Expr>,
    /// How many parts each target has.
    pub(super) costs: Vec<usize>,
    /// The PARTITION BY of the windows that have names.
    pub(super) named: HashMap<String, Vec<Expr>>,
    /// Whether an aggregate may stand here, and is one of this level.
    pub(super) depth: usize,
}

impl<'a> Resolver<'a> {
    /// A SELECT with all that belongs to it.
    pub(crate) fn query(&mut self, select: &'a SelectStmt) -> Result<Query> {
        self.enter()?;
        self.queries += 1;
        let done = self.query_with(select);
        self.queries -= 1;
        self.leave();
        done
    }

    fn query_with(&mut self, select: &'a SelectStmt) -> Result<Query> {
        if select.into_clause.is_some() {
            return Err(Refusal::new(
                "SELECT INTO",
                "tables are not made from queries over shards",
            ));
        }
        let ctes = self.ctes.len();
        let with = select.with_clause.as_ref();
        let with = with.map_or(Ok(()), |with| self.with_clause(with));
        let level = std::mem::take(&mut self.level);
        self.level.depth = self.stack.len();
        let done = with.and_then(|()| self.query_body(select));
        self.level = level;
        self.forget(ctes);
        done
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
        if both.iter().any(|limit| limit.is_some()) {
            self.traits.order.get_or_insert("LIMIT");
        }
        both.into_iter()
            .flatten()
            .map(|node| self.expr(inner(node)?))
            .collect()
    }

    /// Notes whether rows are locked that are on every shard.
    fn locking(&mut self, clauses: &[Node]) -> Result<()> {
        for clause in clauses {
            let NodeEnum::LockingClause(clause) = inner(clause)? else {
                return Err(Refusal::new("FOR UPDATE", "of an unknown form"));
            };
            if clause.wait_policy() == LockWaitPolicy::LockWaitSkip {
                // Which rows are locked is another matter on each shard.
                self.traits.order.get_or_insert("SKIP LOCKED");
            }
            let mut named = Vec::new();
            for range in &clause.locked_rels {
                match inner(range)? {
                    NodeEnum::RangeVar(range) => named.push(range.relname.as_str()),
                    _ => return Err(Refusal::new("FOR UPDATE", "of an unknown form")),
                }
            }
            let entries = self
                .stack
                .last()
                .map(|space| &space.entries[..])
                .unwrap_or_default();
            let locked = entries
                .iter()
                .filter(|entry| named.is_empty() || named.contains(&&*entry.alias));
            let spread = |entry: &super::scope::Entry| match entry.columns.first() {
                Some((_, Expr::Col(col))) => match &self.relations[col.rel.0].source {
                    Source::Table(table) => matches!(table.place, Place::Key { .. }),
                    _ => false,
                },
                _ => false,
            };
            // What lies in a subquery is looked at as if all of it were locked.
            self.traits.locks |= !locked.into_iter().all(spread);
        }
        Ok(())
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
        let chooses = kind != SetKind::Union || !select.all;
        if chooses && !columns.iter().all(|column| column.kind.is_exact()) {
            let part = "UNION, INTERSECT or EXCEPT";
            self.traits.order.get_or_insert(part);
        }
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
        self.locking(&select.locking_clause)?;
        self.note_order(&distinct, &targets, &group);
        let level = &mut self.level;
        let picks = level.picks && is_extreme(select);
        let aggregates = level.aggregates || !select.group_clause.is_empty() || having.is_some();
        let body = Select {
            from,
            filter,
            targets,
            loose: level.loose
                || level.picks && !picks
                || matches!(distinct, Distinct::On(_))
                || !level.windows.is_empty(),
            picks,
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

    /// Notes what depends on how rows lie, or on which of equal values stands for all of them.
    fn note_order(&mut self, distinct: &Distinct, targets: &[Expr], group: &[Expr]) {
        let exact = |exprs: &[Expr]| exprs.iter().all(|expr| self.kind_of(expr).is_exact());
        let part = match distinct {
            Distinct::On(_) => Some("DISTINCT ON"),
            Distinct::All if !exact(targets) => Some("DISTINCT"),
            _ if !exact(group) => Some("GROUP BY"),
            _ if !self.level.windows.is_empty() => Some("OVER"),
            _ => None,
        };
        self.level.loose |= part.is_some();
        self.traits.order = self.traits.order.or(part);
    }

    /// A list of targets, with stars written out.
    pub(crate) fn targets(&mut self, list: &'a [Node]) -> Result<(Vec<Expr>, Vec<Output>)> {
        let mut exprs = Vec::new();
        let mut columns = Vec::new();
        let mut costs = Vec::new();
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
                    costs.push(1);
                }
                few(&columns)?;
                continue;
            }
            let before = self.entered;
            let expr = self.expr(value)?;
            costs.push(self.entered - before);
            let kind = self.kind_of(&expr);
            let name = match target.name.is_empty() {
                true => super::output_name(value),
                false => target.name.clone(),
            };
            columns.push(Output { name, kind });
            exprs.push(expr);
        }
        few(&columns)?;
        self.level.costs = costs;
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
}

/// Whether a level gives the least or greatest of some values, and no more.
fn is_extreme(select: &SelectStmt) -> bool {
    let [
        Node {
            node: Some(NodeEnum::ResTarget(target)),
        },
    ] = select.target_list.as_slice()
    else {
        return false;
    };
    let value = target.val.as_deref().and_then(|value| value.node.as_ref());
    let Some(NodeEnum::FuncCall(call)) = value else {
        return false;
    };
    let name = strings(&call.funcname).unwrap_or_default();
    matches!(name.last(), Some(&("min" | "max")))
        && call.over.is_none()
        && select.group_clause.is_empty()
        && select.having_clause.is_none()
        && select.distinct_clause.is_empty()
}

/// Postgres gives no more columns than these; stars within stars would come to any number of them.
fn few(columns: &[Output]) -> Result<()> {
    const MOST: usize = 1664;
    match columns.len() > MOST {
        true => Err(Refusal::new("SELECT", "there are too many columns").with("54011")),
        false => Ok(()),
    }
}

/// The type of a column that comes from two sides; whole numbers stay what they are in a wider type.
fn common(one: Kind, two: Kind) -> Kind {
    let not_null = one.not_null && two.not_null;
    let width = |kind: Kind| [21, 23, 20].iter().position(|oid| *oid == kind.oid);
    if let Some(both) = one.and(two) {
        return both;
    }
    match (width(one), width(two)) {
        (Some(left), Some(right)) => {
            let wider = if left > right { one } else { two };
            Kind { not_null, ..wider }
        }
        _ => Kind::UNKNOWN,
    }
}
