//! INSERT of rows whose key no value says: a column's default, or an expression. They are read first, as by
//! `INSERT … SELECT`, which computes the keys, and are then dealt out by these.

use pg_query::NodeEnum;
use pg_query::protobuf::{InsertStmt, Node, OverridingKind, SelectStmt, SetOperation};

use super::moment::{named, spells_now};
use super::values::{columns, items};
use super::{Builder, deparse};
use crate::catalog::{Column, Relation};
use crate::refusal::Result;
use crate::resolve::{Names, Resolver};
use crate::tree::Place;

/// The text of the statement with its rows as a query that gives all of the key; `None` if there is none, or the key
/// cannot be told in this way.
pub(super) fn drawn(builder: &Builder<'_>, node: &NodeEnum, names: &Names) -> Option<String> {
    let NodeEnum::InsertStmt(insert) = node else {
        return None;
    };
    let overrides = insert.r#override() == OverridingKind::OverridingUserValue;
    if insert.with_clause.is_some() || builder.hinted || overrides {
        return None;
    }
    let mut resolver: Resolver<'_> = builder.resolver(names);
    let (target, _) = resolver.target(&insert.relation).ok()?;
    let Place::Key { columns: key, .. } = &target.table.place else {
        return None;
    };
    let mut filled = Filled {
        relation: target.relation,
        key,
        names: Vec::new(),
    };
    let select = match insert.select_stmt.as_deref().map(|node| &node.node) {
        None => None,
        Some(Some(NodeEnum::SelectStmt(select))) => Some(&**select),
        Some(_) => return None,
    };
    let given = |width: usize| -> Option<Vec<String>> {
        let found = columns(&insert.cols, &target, width).ok()?;
        (found.len() == width).then(|| found.into_iter().map(str::to_owned).collect())
    };
    let query = match select {
        Some(select) if select.values_lists.is_empty() => {
            filled.names = given(select.target_list.len())?;
            filled.query(select)?
        }
        Some(select) => {
            let rows: Result<Vec<&[Node]>> = select.values_lists.iter().map(items).collect();
            let rows = rows.ok()?;
            let width = rows.first()?.len();
            filled.names = given(width)?;
            let is_even = rows.iter().all(|row| row.len() == width);
            is_even.then(|| filled.rows(&rows)).flatten()?
        }
        None => filled.rows(&[&[]])?,
    };
    let mut made: InsertStmt = (**insert).clone();
    made.cols = filled.names.iter().map(|name| named(name)).collect();
    made.select_stmt = Some(Box::new(Node {
        node: Some(NodeEnum::SelectStmt(Box::new(query))),
    }));
    deparse::text_of(NodeEnum::InsertStmt(Box::new(made))).ok()
}

/// Rows to which the columns are added that have to be said.
struct Filled<'a> {
    relation: &'a Relation,
    /// The columns of the key.
    key: &'a [usize],
    /// The columns that are given.
    names: Vec<String>,
}

impl Filled<'_> {
    fn column(&self, name: &str) -> Option<&Column> {
        let at = self.relation.column(name)?;
        self.relation.columns.get(at)
    }

    fn is_key(&self, name: &str) -> bool {
        self.relation
            .column(name)
            .is_some_and(|at| self.key.contains(&at))
    }

    /// What is to be added, each by its default: the rest of the key, and the time, which is to be one for all rows.
    /// `None` if nobody knows what the key would be.
    fn missing(&self) -> Option<Vec<(String, Node)>> {
        let mut missing = Vec::new();
        for column in &self.relation.columns {
            let is_given = self.names.contains(&column.name);
            if !is_given && (self.is_key(&column.name) || spells_now(column)) {
                missing.push((column.name.clone(), default(column)?));
            }
        }
        Some(missing)
    }

    /// A query that gives no key, and does by this.
    fn query(&mut self, select: &SelectStmt) -> Option<SelectStmt> {
        let is_plain = select.op() == SetOperation::SetopNone && select.distinct_clause.is_empty();
        let stars = format!("{:?}", select.target_list).contains("AStar");
        let lacks = |at: &usize| !self.names.contains(&self.relation.columns[*at].name);
        if !is_plain || stars || !self.key.iter().any(lacks) {
            return None;
        }
        let mut select = select.clone();
        for (name, value) in self.missing()? {
            select.target_list.push(deparse::target(value, ""));
            self.names.push(name);
        }
        Some(select)
    }

    /// Rows of VALUES, each value of its column's type, as it would be stored.
    fn rows(&mut self, rows: &[&[Node]]) -> Option<SelectStmt> {
        let mut columns: Vec<(String, Vec<Node>)> = Vec::new();
        for (at, name) in self.names.iter().enumerate() {
            let is_default = |row: &&[Node]| {
                let node = row.get(at).and_then(|node| node.node.as_ref());
                matches!(node, Some(NodeEnum::SetToDefault(_)))
            };
            let column = self.column(name)?;
            let needed = self.is_key(name) || spells_now(column);
            if !needed && rows.iter().all(is_default) {
                continue;
            }
            let mut values = Vec::new();
            for row in rows {
                values.push(match is_default(row) {
                    true => typed(default(column)?, column)?,
                    false => typed(row.get(at)?.clone(), column)?,
                });
            }
            columns.push((name.clone(), values));
        }
        for (name, value) in self.missing()? {
            let value = typed(value, self.column(&name)?)?;
            columns.push((name, vec![value; rows.len()]));
        }
        let mut query = deparse::select("SELECT * FROM (VALUES (1)) AS pgherd_values").ok()?;
        let mut lists = Vec::new();
        for at in 0..rows.len() {
            let mut list = deparse::select("VALUES (1)").ok()?.values_lists.pop()?;
            if let Some(NodeEnum::List(list)) = &mut list.node {
                let items = columns.iter().map(|(_, values)| values.get(at).cloned());
                list.items = items.collect::<Option<Vec<Node>>>()?;
            }
            lists.push(list);
        }
        let Some(NodeEnum::RangeSubselect(from)) = &mut query.from_clause.first_mut()?.node else {
            return None;
        };
        let Some(NodeEnum::SelectStmt(inner)) = &mut from.subquery.as_mut()?.node else {
            return None;
        };
        inner.values_lists = lists;
        self.names = columns.into_iter().map(|(name, _)| name).collect();
        Some(query)
    }
}

/// What a column has by its default, if that can be said.
fn default(column: &Column) -> Option<Node> {
    if column.identity || column.generated {
        return None;
    }
    deparse::snippet(column.default.as_deref()?).ok()
}

/// A value as one of its column's type, but of any length: what is too long is refused when it is stored.
fn typed(value: Node, column: &Column) -> Option<Node> {
    let [schema, name] = [&column.kind.schema, &column.kind.name].map(|it| deparse::quoted(it));
    let text = format!("NULL::{schema}.{name}");
    let mut cast = deparse::snippet(&text).ok()?;
    match &mut cast.node {
        Some(NodeEnum::TypeCast(cast)) => cast.arg = Some(Box::new(value)),
        _ => return None,
    }
    Some(cast)
}
