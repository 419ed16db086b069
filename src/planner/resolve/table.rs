//! What the name of a table means.

use std::rc::Rc;

use pg_query::NodeEnum;
use pg_query::protobuf::RangeVar;

use super::{Resolver, Space};
use crate::catalog::{Collation, Relation, RelationKind, is_system};
use crate::placement::{Distribution, KeyType};
use crate::refusal::{Refusal, Result};
use crate::tree::{Kind, Output, Place, Rel, Source, Table};

impl<'a> Resolver<'a> {
    /// The schema of a table's name.
    pub(crate) fn locate(&self, range: &RangeVar) -> Result<(String, &'a Relation)> {
        let name = range.relname.as_str();
        let missing = || Refusal::new(name, "there is no such table").with("42P01");
        if !range.catalogname.is_empty() {
            return Err(Refusal::new(name, "its name has a database in it"));
        }
        if range.relpersistence == "t" || range.schemaname.starts_with("pg_temp") {
            return Err(Refusal::new(name, "it is a temporary table"));
        }
        if let Some(carrier) = self.carrier(range) {
            return Ok((String::new(), carrier));
        }
        if !range.schemaname.is_empty() {
            let found = self.catalog.relation(&range.schemaname, name);
            return Ok((range.schemaname.clone(), found.ok_or_else(missing)?));
        }
        if self.names.temporary.contains(name) {
            return Err(Refusal::new(name, "it is a temporary table"));
        }
        let mut schemas = self.path.iter();
        schemas
            .find_map(|schema| Some((schema.clone(), self.catalog.relation(schema, name)?)))
            .ok_or_else(missing)
    }

    fn carrier(&self, range: &RangeVar) -> Option<&'a Relation> {
        let carriers = self.carriers.filter(|_| range.schemaname.is_empty())?;
        carriers.get(&range.relname)
    }

    /// A table for FROM or as the target of a write, where its rows are known.
    pub(crate) fn table(
        &mut self,
        schema: &str,
        name: &str,
        relation: &'a Relation,
    ) -> Result<Table> {
        if schema.is_empty() {
            // It is where the statement is.
            return Ok(Table {
                schema: String::new(),
                name: name.to_owned(),
                place: Place::At(Distribution::Replicated),
            });
        }
        let part = format!("table {schema}.{name}");
        if is_system(schema) {
            if tells_of_share(name) {
                self.traits
                    .share
                    .get_or_insert_with(|| format!("view {name}"));
            }
            self.traits
                .server
                .get_or_insert_with(|| format!("system catalog {name}"));
            return Ok(Table {
                schema: schema.to_owned(),
                name: name.to_owned(),
                place: Place::System,
            });
        }
        self.traits.tables = true;
        if relation.kind != RelationKind::Table {
            return Err(Refusal::new(part, "it is neither a table nor a view"));
        }
        if relation.rules {
            return Err(Refusal::new(part, "it has rules"));
        }
        if relation.inherited || relation.parent.is_some() {
            return Err(Refusal::new(
                part,
                "it inherits, is inherited from, or is a part of another",
            ));
        }
        if relation.row_security {
            self.traits.policies = Some(part.clone());
        }
        let columns: Vec<&str> = relation
            .columns
            .iter()
            .map(|column| column.name.as_str())
            .collect();
        let Some(place) = self.placement.of(schema, name, &columns) else {
            return Err(Refusal::new(part, "nothing is said of where its rows are")
                .hint("Say whether it is sharded, replicated or on one shard."));
        };
        Ok(Table {
            schema: schema.to_owned(),
            name: name.to_owned(),
            place: self.place(place, relation, &part)?,
        })
    }

    fn place(&self, place: Distribution, relation: &Relation, part: &str) -> Result<Place> {
        let Distribution::Sharded(sharding) = place else {
            return Ok(Place::At(place));
        };
        let mut columns = Vec::new();
        let mut kinds = Vec::new();
        let mut nullable = false;
        for name in &sharding.columns {
            let at = relation.column(name).ok_or_else(|| {
                Refusal::new(part, format!("it has no column {name} to be sharded by"))
            })?;
            let column = &relation.columns[at];
            let kind = (column.collation != Collation::Nondeterministic)
                .then(|| KeyType::of(column.kind.oid))
                .flatten();
            kinds.push(kind.ok_or_else(|| {
                Refusal::new(
                    part,
                    format!("its key {name} has a type or collation that cannot be hashed"),
                )
            })?);
            if column.generated {
                return Err(Refusal::new(
                    part,
                    format!("its key {name} is computed from other columns"),
                ));
            }
            nullable |= !column.not_null;
            columns.push(at);
        }
        let method = self.placement.method(sharding.group);
        if !method.is_some_and(|method| method.takes(&kinds)) {
            return Err(Refusal::new(
                part,
                "its key has another type than what it is placed by",
            ));
        }
        Ok(Place::Key {
            group: sharding.group,
            columns,
            kinds,
            nullable,
        })
    }

    /// A name in FROM: a query of a WITH, a view, or a table.
    pub(super) fn range(&mut self, range: &RangeVar) -> Result<(Rel, Space)> {
        if range.schemaname.is_empty() && range.catalogname.is_empty() {
            let found = self.ctes.iter().rev().find(|cte| cte.name == range.relname);
            if let Some(cte) = found.map(Rc::clone) {
                let rel = self.cte(&cte)?;
                let space = self.space(rel, &range.alias, &range.relname, None, false)?;
                return Ok((rel, space));
            }
        }
        let (schema, relation) = self.locate(range)?;
        let columns = outputs(relation);
        let (source, table) = match &relation.kind {
            RelationKind::View(text) if !is_system(&schema) => {
                let query = self.view(&schema, &range.relname, text)?;
                (Source::Query(Box::new(query)), false)
            }
            _ => {
                let table = self.table(&schema, &range.relname, relation)?;
                (Source::Table(table), true)
            }
        };
        let rel = self.add(source, columns, false)?;
        let space = self.space(rel, &range.alias, &range.relname, Some(&schema), table)?;
        Ok((rel, space))
    }

    fn view(&mut self, schema: &str, name: &str, text: &str) -> Result<crate::tree::Query> {
        let key = (schema.to_owned(), name.to_owned());
        if self.views.contains(&key) || self.views.len() > 20 {
            return Err(Refusal::new(name, "its views are nested too deeply"));
        }
        let parsed = pg_query::parse(text, 0)
            .map_err(|_| Refusal::new(name, "the view's query cannot be read"))?;
        let statement = parsed.protobuf.stmts.into_iter().next();
        let node = statement.and_then(|raw| raw.stmt);
        let Some(NodeEnum::SelectStmt(select)) = node.and_then(|node| node.node) else {
            return Err(Refusal::new(name, "the view is no SELECT"));
        };
        // A resolver of its own: the names of the statement mean nothing in a view.
        let names = super::Names {
            search_path: Vec::new(),
            temporary: std::collections::BTreeSet::new(),
            hint: None,
            whole: false,
            together: false,
        };
        self.spend(super::USE)?;
        let mut views = std::mem::take(&mut self.views);
        views.push(key);
        let mut other = Resolver::new(self.catalog, self.placement, &names);
        other.views = views;
        other.relations = std::mem::take(&mut self.relations);
        other.traits = std::mem::take(&mut self.traits);
        (other.depth, other.links, other.steps) = (self.depth, self.links + 1, self.steps);
        let query = other.query(&select);
        self.steps = other.steps;
        self.relations = std::mem::take(&mut other.relations);
        self.traits = std::mem::take(&mut other.traits);
        if !other.moments.is_empty() {
            // No text has this place.
            self.moments.insert(-1, super::Moment::Other);
        }
        self.views = std::mem::take(&mut other.views);
        self.views.pop();
        if query.is_err() {
            // What was refused must not be used further.
            self.views.clear();
        }
        query
    }
}

/// Whether a catalog or view of the server counts what is in its tables.
fn tells_of_share(name: &str) -> bool {
    const OF: [&str; 3] = ["_tables", "_indexes", "_sequences"];
    let counts = name.starts_with("pg_stat_") || name.starts_with("pg_statio_");
    counts && OF.iter().any(|ending| name.ends_with(ending))
        || matches!(name, "pg_stats" | "pg_statistic" | "pg_stat_database")
}

/// The columns of a table, with their types.
pub(crate) fn outputs(relation: &Relation) -> Vec<Output> {
    relation
        .columns
        .iter()
        .map(|column| Output {
            name: column.name.clone(),
            kind: Kind::of(column),
        })
        .collect()
}
