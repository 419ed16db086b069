//! What foreign keys do to rows of other tables, unseen: whether those stay where they belong, and the same where they are
//! the same.

use std::collections::BTreeSet;

use super::{Distribution, Placement, Sharding};
use crate::catalog::{Action, Catalog, Does, Event, Name, Relation};
use crate::refusal::{Refusal, Result};

/// What is done to rows of a table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Write {
    /// These columns are given values.
    Update(Vec<String>),
    /// They are deleted.
    Delete,
}

impl Write {
    fn fires(&self, relation: &Relation, action: &Action) -> bool {
        // What is computed from others changes with them.
        let computed = |name: &String| {
            let at = relation.column(name);
            at.is_some_and(|at| relation.columns[at].generated)
        };
        match self {
            Self::Delete => action.on == Event::Delete,
            Self::Update(given) => {
                action.on == Event::Update
                    && action
                        .of
                        .iter()
                        .any(|name| given.contains(name) || computed(name))
            }
        }
    }
}

impl Placement {
    /// That whatever foreign keys do when rows of a table are written to, every row stays where it belongs.
    pub(crate) fn acts(&self, catalog: &Catalog, table: &Name, write: Write) -> Result<()> {
        let mut seen = BTreeSet::new();
        let mut next = vec![(table.clone(), write)];
        while let Some((table, write)) = next.pop() {
            let Some(relation) = catalog.relation(&table.0, &table.1) else {
                continue;
            };
            if !seen.insert((table.clone(), write.clone())) {
                continue;
            }
            for action in &relation.actions {
                if !write.fires(relation, action) {
                    continue;
                }
                if let Some((part, reason)) =
                    self.harm(catalog, (table.0.as_str(), table.1.as_str()), action)
                {
                    let hint = "Have the foreign key do nothing (NO ACTION), and change the rows that refer to others by \
                                statements of their own.";
                    return Err(Refusal::new(part, reason).hint(hint));
                }
                let then = match (action.on, action.does) {
                    (Event::Delete, Does::Cascade) => Write::Delete,
                    _ => Write::Update(action.columns.clone()),
                };
                next.push((action.table.clone(), then));
            }
        }
        Ok(())
    }

    /// What an action of a foreign key would do that no single Postgres does: the action, and why.
    pub(super) fn harm(
        &self,
        catalog: &Catalog,
        (schema, name): (&str, &str),
        action: &Action,
    ) -> Option<(String, &'static str)> {
        let (own_schema, own_name) = (&action.table.0, &action.table.1);
        let there = catalog.relation(own_schema, own_name)?;
        let what = match (action.on, action.does) {
            (Event::Update, Does::Cascade) => "ON UPDATE CASCADE",
            (Event::Update, Does::Null) => "ON UPDATE SET NULL",
            (Event::Update, Does::Default) => "ON UPDATE SET DEFAULT",
            (Event::Delete, Does::Cascade) => "ON DELETE CASCADE",
            (Event::Delete, Does::Null) => "ON DELETE SET NULL",
            (Event::Delete, Does::Default) => "ON DELETE SET DEFAULT",
        };
        let part = format!("{what} of the FOREIGN KEY of {own_schema}.{own_name}");
        let place = self.place_of(own_schema, own_name, there)?;
        if there.triggers {
            return Some((
                part,
                "triggers of its table may read or write tables unseen",
            ));
        }
        let referred = catalog.relation(schema, name)?;
        let referred = self.place_of(schema, name, referred);
        let reason = match &place {
            Distribution::OneShard(_) => return None,
            _ if action.does == Does::Default => "each shard would compute the default by itself",
            Distribution::Replicated if referred != Some(Distribution::Replicated) => {
                "rows that are on every shard would be changed on one"
            }
            Distribution::Replicated => return None,
            Distribution::Sharded(sharding) => {
                let deletes = (action.on, action.does) == (Event::Delete, Does::Cascade);
                let has_key = |column| action.columns.contains(column);
                if deletes
                    || !sharding.columns.iter().any(has_key)
                    || follows(sharding, referred.as_ref(), action)
                {
                    return None;
                }
                "a row whose key is changed by it may belong to another shard"
            }
        };
        Some((part, reason))
    }

    fn place_of(&self, schema: &str, name: &str, relation: &Relation) -> Option<Distribution> {
        let columns = relation.columns.iter().map(|column| column.name.as_str());
        self.of(schema, name, &columns.collect::<Vec<_>>())
    }
}

/// Whether a row's key becomes what the key of the row has become that it refers to, which stays on its shard.
fn follows(sharding: &Sharding, referred: Option<&Distribution>, action: &Action) -> bool {
    let Some(Distribution::Sharded(other)) = referred else {
        return false;
    };
    let pairs = |own: &String, of: &String| {
        let mut pairs = action.columns.iter().zip(&action.of);
        pairs.any(|(column, referred)| column == own && referred == of)
    };
    action.does == Does::Cascade
        && sharding.group == other.group
        && sharding.columns.len() == other.columns.len()
        && sharding
            .columns
            .iter()
            .zip(&other.columns)
            .all(|(own, of)| pairs(own, of))
}
