//! The constraints of a table that is made: each shard checks them by itself, so they must hold over all if they hold there.

use pg_query::NodeEnum;
use pg_query::protobuf::{ConstrType, Constraint, CreateStmt, Node, TableLikeClause};

use super::Builder;
use super::definition::{Home, unsupported};
use super::schema::{is_serial, per_shard};
use crate::catalog::Relation;
use crate::placement::{Distribution, Sharding};
use crate::refusal::{Refusal, Result};
use crate::resolve::{Names, inner, strings};
use crate::tree::Place;

/// `CREATE_TABLE_LIKE_IDENTITY` and `CREATE_TABLE_LIKE_INDEXES` of Postgres.
const IDENTITY: u32 = 1 << 5;
const INDEXES: u32 = 1 << 6;

impl Builder<'_> {
    /// Where a new table belongs. One with a constraint that would not hold is refused.
    pub(super) fn constrained(&self, create: &CreateStmt, names: &Names) -> Result<Home> {
        let mut columns = Vec::new();
        let mut constraints: Vec<(Option<&str>, &Constraint)> = Vec::new();
        let mut indexed = false;
        let mut only = Vec::new();
        if create.of_typename.is_some() {
            return Err(Refusal::new(
                "CREATE TABLE",
                "a table of a type is not supported over shards",
            ));
        }
        for element in &create.table_elts {
            match inner(element)? {
                NodeEnum::ColumnDef(column) => {
                    let name = column.colname.as_str();
                    columns.push(name);
                    if is_serial(column)? {
                        self.numbers("serial column")?;
                    }
                    for constraint in &column.constraints {
                        if let NodeEnum::Constraint(constraint) = inner(constraint)? {
                            constraints.push((Some(name), constraint));
                        }
                    }
                }
                NodeEnum::Constraint(constraint) => constraints.push((None, constraint)),
                NodeEnum::TableLikeClause(like) => {
                    let relation = self.alike(like, names)?;
                    columns.extend(relation.columns.iter().map(|column| column.name.as_str()));
                    indexed |= like.options & INDEXES != 0;
                    only.push(self.home(&like.relation, names)?);
                }
                other => return Err(unsupported(other)),
            }
        }
        let identity = |(_, it): &(_, &Constraint)| it.contype() == ConstrType::ConstrIdentity;
        if constraints.iter().any(identity) {
            self.numbers("identity column")?;
        }
        let (schema, name) = self.name_of_new(&create.relation, names)?;
        let place = self.placement.of(schema, name, &columns);
        let is_there = |home: &Home| match (home, &place) {
            (Home::All, _) => true,
            (Home::One(there), Some(Distribution::OneShard(here))) => there == here,
            (Home::One(_), _) => false,
        };
        if !only.iter().all(is_there) {
            let reason = "its table is not where the new one belongs";
            return Err(Refusal::new("LIKE", reason));
        }
        let Some(place) = place else {
            // It is placed nowhere, and no statement reaches it.
            return Ok(Home::All);
        };
        if indexed && matches!(place, Distribution::Sharded(_)) {
            let reason = "its unique indexes might only hold on each shard by itself";
            return Err(Refusal::new("LIKE … INCLUDING INDEXES", reason)
                .hint("Leave it out, and create the indexes by themselves."));
        }
        for (column, constraint) in constraints {
            match constraint.contype() {
                ConstrType::ConstrUnique
                | ConstrType::ConstrPrimary
                | ConstrType::ConstrExclusion => {
                    holds_everywhere(&place, column, constraint)?;
                }
                ConstrType::ConstrForeign => {
                    self.reference(&place, (schema, name), column, constraint, names)?;
                }
                _ => {}
            }
        }
        Ok(match place {
            Distribution::OneShard(shard) => Home::One(shard),
            _ => Home::All,
        })
    }

    /// The table whose columns a new one has.
    fn alike<'r>(&'r self, like: &TableLikeClause, names: &'r Names) -> Result<&'r Relation> {
        let missing = || Refusal::new("LIKE", "its table is missing");
        let range = like.relation.as_ref().ok_or_else(missing)?;
        let (_, relation) = self.resolver(names).locate(range)?;
        if like.options & IDENTITY != 0 && relation.columns.iter().any(|column| column.identity) {
            self.numbers("identity column")?;
        }
        Ok(relation)
    }

    /// What a row refers to must be on its own shard.
    pub(super) fn reference(
        &self,
        place: &Distribution,
        new: (&str, &str),
        column: Option<&str>,
        constraint: &Constraint,
        names: &Names,
    ) -> Result<()> {
        let elsewhere = || {
            Refusal::new(
                "FOREIGN KEY",
                "the rows that it refers to may be on other shards",
            )
            .hint("Put the keys of both tables into it.")
        };
        let range = constraint.pktable.as_ref().ok_or_else(elsewhere)?;
        let own = column.map_or_else(|| strings(&constraint.fk_attrs), |name| Ok(vec![name]))?;
        given(place, constraint)?;
        let named = strings(&constraint.pk_attrs)?;
        let is_new =
            range.relname == new.1 && (range.schemaname == new.0 || range.schemaname.is_empty());
        if is_new {
            return match place {
                // Without names it refers to the primary key, whose columns may stand anywhere.
                Distribution::Sharded(it) if !pairs(it, &own, &it.columns, &named) => {
                    Err(elsewhere())
                }
                _ => Ok(()),
            };
        }
        let mut resolver = self.resolver(names);
        let (schema, relation) = resolver.locate(range)?;
        let name = |at: &usize| relation.columns[*at].name.as_str();
        match (
            place,
            resolver.table(&schema, &range.relname, relation)?.place,
        ) {
            (_, Place::At(Distribution::Replicated)) => stays(place, constraint, &own),
            (Distribution::OneShard(here), Place::At(Distribution::OneShard(there)))
                if *here == there =>
            {
                Ok(())
            }
            (Distribution::Sharded(it), Place::Key { group, columns, .. }) if it.group == group => {
                let primary = relation.uniques.iter().find(|unique| unique.primary);
                let named = match (named.is_empty(), primary) {
                    (true, Some(primary)) => primary.columns.iter().map(String::as_str).collect(),
                    _ => named,
                };
                let key: Vec<String> = columns.iter().map(|at| name(at).to_owned()).collect();
                match pairs(it, &own, &key, &named) {
                    true => Ok(()),
                    false => Err(elsewhere()),
                }
            }
            _ => Err(elsewhere()),
        }
    }
}

/// Refuses `SET DEFAULT` of a foreign key: what it stores may belong to another shard, or be another on each.
fn given(place: &Distribution, constraint: &Constraint) -> Result<()> {
    let is_it = |action: &str| action == "d";
    let given = is_it(&constraint.fk_upd_action) || is_it(&constraint.fk_del_action);
    match given && !matches!(place, Distribution::OneShard(_)) {
        true => {
            let reason = "each shard would compute the default by itself";
            Err(Refusal::new("SET DEFAULT of a FOREIGN KEY", reason))
        }
        false => Ok(()),
    }
}

/// Refuses a key that is changed with what it refers to, which is on every shard: the row would stay where it is.
fn stays(place: &Distribution, constraint: &Constraint, own: &[&str]) -> Result<()> {
    let Distribution::Sharded(it) = place else {
        return Ok(());
    };
    let is_key = it.columns.iter().any(|key| own.contains(&key.as_str()));
    match is_key && constraint.fk_upd_action == "c" {
        true => {
            let reason = "a row whose key is changed by it may belong to another shard";
            Err(Refusal::new("ON UPDATE CASCADE of a FOREIGN KEY", reason))
        }
        false => Ok(()),
    }
}

/// Whether each column of the key refers to its counterpart in the other table's.
fn pairs(sharding: &Sharding, own: &[&str], key: &[String], named: &[&str]) -> bool {
    let refers = |from: &String, to: &String| {
        let mut pairs = own.iter().zip(named);
        pairs.any(|(own, other)| own == from && other == to)
    };
    sharding.columns.len() == key.len()
        && sharding
            .columns
            .iter()
            .zip(key)
            .all(|(from, to)| refers(from, to))
}

/// What must be unique is so over all shards only if the key is in it.
fn holds_everywhere(
    place: &Distribution,
    column: Option<&str>,
    constraint: &Constraint,
) -> Result<()> {
    let Distribution::Sharded(sharding) = place else {
        return Ok(());
    };
    let what = match constraint.contype() {
        ConstrType::ConstrExclusion => return Err(per_shard("EXCLUDE")),
        ConstrType::ConstrPrimary => "PRIMARY KEY",
        _ => "UNIQUE",
    };
    let named: Vec<&str> = match column {
        Some(column) => vec![column],
        None => strings(&constraint.keys as &[Node])?,
    };
    let all = sharding
        .columns
        .iter()
        .all(|key| named.contains(&key.as_str()));
    match all {
        true => Ok(()),
        false => Err(per_shard(what)),
    }
}
