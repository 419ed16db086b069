//! The rows of a table: the columns that are named, by the conditions that are about them alone.

use pg_query::NodeEnum;
use pg_query::protobuf::{Alias, BoolExprType, ColumnRef, Node, RangeVar, SelectStmt};

use super::carrier::relation;
use super::filter::Owner;
use super::{Look, Position, Puller, deparse, said, upper};
use crate::catalog::{Column, Relation};
use crate::placement::Distribution;
use crate::plan::{Pin, Prune, Rule};
use crate::refusal::{Refusal, Result};
use crate::tree::{Kind, Place, Table};

impl Puller<'_> {
    pub(super) fn table(
        &mut self,
        range: &RangeVar,
        alias: &str,
        described: &Relation,
        table: &Table,
        position: &Position,
    ) -> Result<Option<NodeEnum>> {
        if matches!(
            table.place,
            Place::At(Distribution::Replicated) | Place::System
        ) {
            return Ok(None);
        }
        self.keeps_row_type(alias)?;
        let renamed = range
            .alias
            .as_ref()
            .is_some_and(|alias| !alias.colnames.is_empty());
        let all = self.whole || renamed || position.star || self.said.whole(alias);
        let columns = self.used(described, all);
        let owned = described.columns.iter().map(|column| column.name.as_str());
        let owner = Owner {
            catalog: self.builder.catalog,
            tables: vec![(alias, owned.collect())],
            merged: &self.said.using,
        };
        let filters: Vec<Node> = match self.whole || renamed || self.said.natural {
            true => Vec::new(),
            false => {
                let all = position.filters.iter();
                all.filter(|part| owner.owns(part)).cloned().collect()
            }
        };
        let indexes = match self.correlated {
            true => looked_for(&owner, &position.filters),
            false => Vec::new(),
        };
        let names: Vec<String> = columns.iter().map(|column| column.name.clone()).collect();
        let mut narrow = filters.clone();
        let columns_there = names
            .iter()
            .map(|name| (name.clone(), name.clone()))
            .collect();
        let mut wishes = Vec::new();
        if !self.whole && !renamed && !self.said.natural {
            narrow.extend(self.partnered(&owner, &position.sure)?);
            wishes = self.wishes(alias, &columns_there, &owner, &position.sure);
        }
        let filtered = !narrow.is_empty();
        let once = !self.whole && position.once && repeats(described, &columns);
        let brought = self.rows(range, alias, &columns, narrow, table, once);
        let (text, prune) = match brought {
            Err(_) => self.rows(range, alias, &columns, filters, table, once)?,
            Ok(brought) => brought,
        };
        let carrier = self.carrier(text, prune, &names, Rule::Table);
        let indexes = indexes.into_iter().filter(|name| names.contains(name));
        let indexes: Vec<String> = indexes.collect();
        let by_primary = position.grouped.by_primary(alias, described);
        let primary = match by_primary {
            true => primary(described, table, &names),
            false => Vec::new(),
        };
        if let Some(pull) = self.pulls.last_mut() {
            pull.indexes = indexes;
            pull.keyless = by_primary && primary.is_empty();
            pull.primary = primary;
            pull.filtered = filtered;
        }
        self.stands(alias, columns_there, wishes);
        self.carriers.insert(
            carrier.clone(),
            relation(columns.into_iter().cloned().collect()),
        );
        self.taken.push(alias.to_owned());
        let mut stands = range.clone();
        stands.schemaname.clear();
        stands.relname = carrier;
        stands.inh = true;
        if stands.alias.is_none() {
            stands.alias = Some(Alias {
                aliasname: alias.to_owned(),
                colnames: Vec::new(),
            });
        }
        Ok(Some(NodeEnum::RangeVar(stands)))
    }

    /// Where rows of a table are named, their type must not matter, as it is another's then.
    pub(super) fn keeps_row_type(&self, alias: &str) -> Result<()> {
        match self.said.row_type(alias) {
            false => Ok(()),
            true => Err(Refusal::new(
                alias,
                "whole rows of a table cannot be brought to one server with their type",
            )
            .hint("Name the columns.")),
        }
    }

    /// The columns of a table that are named.
    pub(super) fn used<'t>(&self, described: &'t Relation, all: bool) -> Vec<&'t Column> {
        let used: Vec<&Column> = described
            .columns
            .iter()
            .filter(|column| all || self.said.names(&column.name))
            .collect();
        match used.is_empty() {
            // Somebody may count the rows.
            true => described.columns.iter().take(1).collect(),
            false => used,
        }
    }

    /// The text that gives a table's rows, and where they are.
    fn rows(
        &self,
        range: &RangeVar,
        alias: &str,
        columns: &[&Column],
        filters: Vec<Node>,
        table: &Table,
        once: bool,
    ) -> Result<(String, Prune)> {
        let plain = RangeVar {
            alias: Some(Alias {
                aliasname: alias.to_owned(),
                colnames: Vec::new(),
            }),
            ..range.clone()
        };
        let mut select = deparse::select("SELECT")?;
        select.from_clause = vec![Node {
            node: Some(NodeEnum::RangeVar(plain)),
        }];
        let targets = columns
            .iter()
            .map(|column| deparse::target(of(alias, &column.name), ""));
        select.target_list = targets.collect();
        select.where_clause = all(filters)?;
        let prune = match &table.place {
            Place::At(Distribution::OneShard(shard)) => {
                Prune(vec![crate::plan::Node::Of(Pin::Shard(*shard))])
            }
            // Rows without a key are somewhere.
            Place::Key { nullable: true, .. } => Prune(Vec::new()),
            _ => self.parts(&select)?,
        };
        if once {
            select.distinct_clause = deparse::select("SELECT DISTINCT 1")?.distinct_clause;
        }
        let text = deparse::text_of(NodeEnum::SelectStmt(Box::new(select)))?;
        Ok((text, prune))
    }

    /// Where the rows of a query are that must be disjoint parts.
    pub(super) fn parts(&self, select: &SelectStmt) -> Result<Prune> {
        match self.look(select) {
            Look::Parts { prune, .. } => Ok(prune),
            _ => Err(Refusal::new("statement", "it is not supported over shards")),
        }
    }
}

/// Whether a table may have the same in these columns more than once, and equal values are the same.
fn repeats(described: &Relation, columns: &[&Column]) -> bool {
    let exact = |column: &&Column| Kind::of(column).is_exact();
    let has = |name: &String| columns.iter().any(|column| column.name == *name);
    let mut uniques = described.uniques.iter();
    columns.iter().all(exact) && !uniques.any(|unique| unique.columns.iter().all(has))
}

/// The columns of a table's primary key, if they are among those that are brought, and unique over all shards.
fn primary(described: &Relation, table: &Table, names: &[String]) -> Vec<String> {
    let Place::Key { columns, .. } = &table.place else {
        return Vec::new();
    };
    let key = columns.iter().map(|at| &described.columns[*at].name);
    let mut uniques = described.uniques.iter();
    let found = uniques.find(|unique| unique.primary && unique.plain);
    let found = found.filter(|unique| {
        key.clone().all(|name| unique.columns.contains(name))
            && unique.columns.iter().all(|name| names.contains(name))
    });
    found
        .map(|unique| unique.columns.clone())
        .unwrap_or_default()
}

/// The columns that must be equal to something that is not the table's own.
pub(super) fn looked_for(owner: &Owner<'_>, filters: &[Node]) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for filter in filters {
        let Some(NodeEnum::AExpr(expr)) = &filter.node else {
            continue;
        };
        let equal = matches!(
            expr.name.last().and_then(|name| name.node.as_ref()),
            Some(NodeEnum::String(name)) if name.sval == "="
        );
        let sides = [&expr.lexpr, &expr.rexpr]
            .map(|side| side.as_ref().and_then(|side| side.node.as_ref()));
        let [Some(left), Some(right)] = sides else {
            continue;
        };
        let own = match (equal, owner.column(left), owner.column(right)) {
            (true, true, false) => left,
            (true, false, true) => right,
            _ => continue,
        };
        if let NodeEnum::ColumnRef(column) = own
            && let Some(Some(name)) = said::names(column).last()
            && !found.iter().any(|known| known == name)
        {
            found.push((*name).to_owned());
        }
    }
    found
}

/// A column of what has this name in FROM.
pub(super) fn of(alias: &str, column: &str) -> Node {
    Node {
        node: Some(NodeEnum::ColumnRef(ColumnRef {
            fields: vec![upper::name(alias), upper::name(column)],
            location: 0,
        })),
    }
}

/// Conditions that must all hold, as one.
pub(super) fn all(mut filters: Vec<Node>) -> Result<Option<Box<Node>>> {
    if filters.len() < 2 {
        return Ok(filters.pop().map(Box::new));
    }
    let mut both = deparse::snippet("true AND true")?;
    if let Some(NodeEnum::BoolExpr(expr)) = &mut both.node {
        expr.set_boolop(BoolExprType::AndExpr);
        expr.args = filters;
    }
    Ok(Some(Box::new(both)))
}
