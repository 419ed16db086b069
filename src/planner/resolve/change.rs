//! Statements that change rows, as the queries that find them.

use pg_query::NodeEnum;
use pg_query::protobuf::{Node, RangeVar, ResTarget, ReturningClause, WithClause};

use super::{Names, Resolver, boxed, inner, unknown_node};
use crate::catalog::{Column, Relation, RelationKind, is_system};
use crate::placement::Write;
use crate::refusal::{Refusal, Result};
use crate::tree::{Body, Distinct, Expr, From, Place, Query, Rel, Select, Source, Table};

/// An UPDATE or DELETE, part by part.
pub(crate) struct Change<'a> {
    pub(crate) relation: &'a Option<RangeVar>,
    pub(crate) with: &'a Option<WithClause>,
    pub(crate) from: &'a [Node],
    pub(crate) set: &'a [Node],
    pub(crate) filter: &'a Option<Box<Node>>,
    pub(crate) returning: &'a Option<ReturningClause>,
}

/// The table that is written to.
pub(crate) struct Target<'a> {
    pub(crate) rel: Rel,
    pub(crate) table: Table,
    pub(crate) relation: &'a Relation,
}

/// What an UPDATE or DELETE does.
pub(crate) struct Changed<'a> {
    pub(crate) target: Target<'a>,
    pub(crate) query: Query,
    /// What columns of the key are given.
    pub(crate) keys: Vec<(&'a str, Expr, &'a NodeEnum)>,
}

impl Target<'_> {
    /// Whether a column is of the key.
    pub(crate) fn is_key(&self, name: &str) -> bool {
        match &self.table.place {
            Place::Key { columns, .. } => self
                .relation
                .column(name)
                .is_some_and(|at| columns.contains(&at)),
            _ => false,
        }
    }
}

/// A query of one level.
pub(crate) fn selected(from: Vec<From>, filter: Vec<Expr>, targets: Vec<Expr>) -> Query {
    Query {
        body: Body::Select(Box::new(Select {
            from,
            filter,
            targets,
            distinct: Distinct::No,
            group: Vec::new(),
            grouping_sets: false,
            having: None,
            aggregates: false,
            windows: Vec::new(),
            extra: Vec::new(),
            loose: false,
            picks: false,
        })),
        sort: Vec::new(),
        limits: Vec::new(),
        locks: false,
        columns: Vec::new(),
    }
}

impl<'a> Resolver<'a> {
    /// The table that a statement writes to.
    pub(crate) fn target(
        &mut self,
        range: &Option<RangeVar>,
    ) -> Result<(Target<'a>, super::Space)> {
        let range = range
            .as_ref()
            .ok_or_else(|| Refusal::new("statement", "its table is missing"))?;
        let (schema, relation) = self.locate(range)?;
        let part = format!("table {schema}.{}", range.relname);
        if is_system(&schema) || relation.kind != RelationKind::Table {
            return Err(Refusal::new(part, "only tables are written to over shards"));
        }
        if relation.triggers {
            return Err(Refusal::new(
                part,
                "its triggers, or the functions of its checks, may read or write tables unseen",
            )
            .hint("Make functions IMMUTABLE that are."));
        }
        let table = self.table(&schema, &range.relname, relation)?;
        let columns = super::table::outputs(relation);
        let rel = self.add(Source::Table(table.clone()), columns, false)?;
        let space = self.space(rel, &range.alias, &range.relname, Some(&schema), true)?;
        let target = Target {
            rel,
            table,
            relation,
        };
        Ok((target, space))
    }

    /// The rows that an UPDATE or DELETE changes: those of its table that it finds, with what it is given.
    pub(crate) fn change(&mut self, change: &Change<'a>) -> Result<Changed<'a>> {
        if let Some(with) = change.with {
            self.with_clause(with)?;
        }
        let (target, space) = self.target(change.relation)?;
        if change.set.is_empty() {
            self.acts(&target, Write::Delete)?;
        }
        let (mut from, others) = self.sources(change.from)?;
        from.insert(0, From::Rel(target.rel));
        let space = space.and(others);
        let mut keys = Vec::new();
        let (filter, targets) = self.within(space, |this| {
            let mut filter = Vec::new();
            if let Some(condition) = change.filter {
                super::from::conjuncts(this.expr(inner(condition)?)?, &mut filter);
            }
            let mut targets = this.assigned_all(change.set, &target, Some(&mut keys))?;
            targets.extend(this.returning(change.returning)?);
            Ok((filter, targets))
        })?;
        if self.level.aggregates || !self.level.windows.is_empty() {
            return Err(Refusal::new("statement", "aggregates may not stand there").with("42803"));
        }
        Ok(Changed {
            query: selected(from, filter, targets),
            target,
            keys,
        })
    }

    /// What RETURNING gives.
    pub(crate) fn returning(
        &mut self,
        returning: &'a Option<ReturningClause>,
    ) -> Result<Vec<Expr>> {
        match returning {
            Some(clause) if !clause.options.is_empty() => Err(Refusal::new(
                "RETURNING",
                "its options are not supported over shards",
            )),
            Some(clause) => {
                let (exprs, columns) = self.targets(&clause.exprs)?;
                self.given = columns.into_iter().map(|column| column.name).collect();
                Ok(exprs)
            }
            None => Ok(Vec::new()),
        }
    }

    /// That what foreign keys do to other rows when these are written to leaves all where it belongs.
    pub(crate) fn acts(&self, target: &Target<'_>, write: Write) -> Result<()> {
        let name = (target.table.schema.clone(), target.table.name.clone());
        self.placement.acts(self.catalog, &name, write)
    }

    /// What SET gives the columns of a table; none of them may be of its key.
    pub(crate) fn assignments(
        &mut self,
        set: &'a [Node],
        target: &Target<'a>,
    ) -> Result<Vec<Expr>> {
        self.assigned_all(set, target, None)
    }

    /// The same, but that of the key is told apart, if that is wanted.
    fn assigned_all(
        &mut self,
        set: &'a [Node],
        target: &Target<'a>,
        mut keys: Option<&mut Vec<(&'a str, Expr, &'a NodeEnum)>>,
    ) -> Result<Vec<Expr>> {
        let mut exprs = Vec::new();
        let mut given = Vec::new();
        for node in set {
            let NodeEnum::ResTarget(assigned) = inner(node)? else {
                return Err(Refusal::new("SET", "of an unknown form"));
            };
            given.push(assigned.name.clone());
            if target.is_key(&assigned.name) {
                let value = boxed(&assigned.val)?;
                let plain = assigned.indirection.is_empty()
                    && !matches!(
                        value,
                        NodeEnum::MultiAssignRef(_) | NodeEnum::SetToDefault(_)
                    );
                if let (Some(keys), true) = (&mut keys, plain) {
                    let expr = self.stored(value)?;
                    keys.push((assigned.name.as_str(), expr.clone(), value));
                    exprs.push(expr);
                    continue;
                }
                return Err(Refusal::new(
                    "SET",
                    "a row's key cannot be changed over shards",
                ));
            }
            exprs.extend(self.assigned(assigned, target)?);
        }
        if !given.is_empty() {
            self.acts(target, Write::Update(given))?;
        }
        Ok(exprs)
    }

    /// The value of a key that is stored. A parameter has its type from its column, as is noted further on.
    pub(crate) fn stored(&mut self, value: &'a NodeEnum) -> Result<Expr> {
        match value {
            NodeEnum::ParamRef(param) => {
                let number = u32::try_from(param.number).unwrap_or_default();
                Ok(Expr::Param(number, None))
            }
            value => self.expr(value),
        }
    }

    fn assigned(&mut self, assigned: &'a ResTarget, target: &Target<'a>) -> Result<Vec<Expr>> {
        let mut exprs = Vec::new();
        for step in &assigned.indirection {
            match inner(step)? {
                NodeEnum::String(_) => {}
                NodeEnum::AIndices(indices) => {
                    for node in [&indices.lidx, &indices.uidx].into_iter().flatten() {
                        exprs.push(self.expr(inner(node)?)?);
                    }
                }
                other => return Err(unknown_node("SET", other)),
            }
        }
        let value = match boxed(&assigned.val)? {
            // The same row stands behind each of its columns.
            NodeEnum::MultiAssignRef(multi) => boxed(&multi.source)?,
            other => other,
        };
        match value {
            NodeEnum::SetToDefault(_) => {
                let column = target.relation.column(&assigned.name);
                if let Some(at) = column {
                    self.default(&target.relation.columns[at])?;
                }
            }
            NodeEnum::RowExpr(row) => {
                for item in &row.args {
                    match inner(item)? {
                        NodeEnum::SetToDefault(_) => {
                            return Err(Refusal::new(
                                "SET",
                                "DEFAULT in a row is not supported over shards",
                            ));
                        }
                        other => exprs.push(self.expr(other)?),
                    }
                }
            }
            other => exprs.push(self.expr(other)?),
        }
        Ok(exprs)
    }

    /// Notes what the default of a column calls.
    pub(crate) fn default(&mut self, column: &Column) -> Result<()> {
        if column.identity {
            self.traits
                .sequence
                .get_or_insert_with(|| format!("identity column {}", column.name));
        }
        let Some(text) = &column.default else {
            return Ok(());
        };
        let part = || format!("default of column {}", column.name);
        let parsed = pg_query::parse(&format!("SELECT {text}"), 0);
        let parsed = parsed.map_err(|_| Refusal::new(part(), "it cannot be read"))?;
        let raw = parsed
            .protobuf
            .stmts
            .into_iter()
            .next()
            .and_then(|raw| raw.stmt);
        let Some(NodeEnum::SelectStmt(select)) = raw.and_then(|node| node.node) else {
            return Err(Refusal::new(part(), "it cannot be read"));
        };
        let names = Names {
            search_path: Vec::new(),
            temporary: std::collections::BTreeSet::new(),
            hint: None,
            whole: false,
            together: false,
        };
        let mut other = Resolver::new(self.catalog, self.placement, &names);
        other.traits = std::mem::take(&mut self.traits);
        let done = other.query(&select);
        self.traits = std::mem::take(&mut other.traits);
        if !other.moments.is_empty() {
            // No text has this place.
            self.moments.insert(-1, super::Moment::Other);
        }
        done.map(drop)
    }
}

/// A query of expressions alone.
pub(crate) fn computed(exprs: Vec<Expr>) -> Query {
    selected(Vec::new(), Vec::new(), exprs)
}
