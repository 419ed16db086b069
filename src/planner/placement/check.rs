//! What in a schema does not agree with a placement.

use super::{Distribution, KeyType, Placement, Sharding};
use crate::catalog::{Catalog, Collation, Relation, RelationKind, is_system};

/// Something that does not agree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The table, with its schema.
    pub table: String,
    /// What it is, in words.
    pub problem: String,
    /// Statements with the table are refused, or may be; else it only does not hold over all shards.
    pub refused: bool,
}

impl Placement {
    /// All that an operator should know of before the first statement.
    pub fn check(&self, catalog: &Catalog) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (schema, name) in self.tables.keys() {
            if catalog.relation(schema, name).is_none() {
                findings.push(finding(schema, name, "does not exist", true));
            }
        }
        for ((schema, name), relation) in catalog.relations() {
            if is_system(schema) || relation.kind != RelationKind::Table {
                continue;
            }
            let columns: Vec<&str> = relation
                .columns
                .iter()
                .map(|column| column.name.as_str())
                .collect();
            match self.of(schema, name, &columns) {
                None => findings.push(finding(schema, name, "is placed nowhere", true)),
                Some(Distribution::Sharded(sharding)) => {
                    let mut problems = key(relation, &sharding.columns);
                    if !self.takes(relation, &sharding) {
                        let problem = "has a key of another type than what it is placed by";
                        problems.push((problem.to_owned(), true));
                    }
                    let problems = problems
                        .into_iter()
                        .map(|(problem, refused)| finding(schema, name, &problem, refused));
                    findings.extend(problems);
                }
                Some(_) => {}
            }
            for action in &relation.actions {
                if let Some((part, reason)) =
                    self.harm(catalog, (schema.as_str(), name.as_str()), action)
                {
                    let problem = format!(
                        "has rows that a foreign key refers to, so that writes are refused upon which it would act ({part}: {reason})"
                    );
                    findings.push(finding(schema, name, &problem, true));
                }
            }
            if relation.inherited || relation.parent.is_some() {
                findings.push(finding(
                    schema,
                    name,
                    "inherits, or is inherited from",
                    true,
                ));
            }
            if relation.row_security || relation.rules {
                findings.push(finding(schema, name, "has policies or rules", true));
            }
            if relation.triggers {
                findings.push(finding(
                    schema,
                    name,
                    "has triggers, or checks by functions that are not IMMUTABLE, so that it is not written to",
                    true,
                ));
            }
        }
        findings
    }

    /// Whether the method of a table's group places keys of the types of its own; what is no key is another's to tell.
    fn takes(&self, relation: &Relation, sharding: &Sharding) -> bool {
        let kind = |name: &String| {
            let column = &relation.columns[relation.column(name)?];
            KeyType::of(column.kind.oid)
        };
        let kinds: Option<Vec<KeyType>> = sharding.columns.iter().map(kind).collect();
        let method = self.method(sharding.group).zip(kinds);
        method.is_none_or(|(method, kinds)| method.takes(&kinds))
    }
}

fn finding(schema: &str, name: &str, problem: &str, refused: bool) -> Finding {
    Finding {
        table: format!("{schema}.{name}"),
        problem: problem.to_owned(),
        refused,
    }
}

fn key(relation: &Relation, key: &[String]) -> Vec<(String, bool)> {
    let mut problems = Vec::new();
    for name in key {
        let Some(at) = relation.column(name) else {
            problems.push((format!("has no column {name} to be sharded by"), true));
            continue;
        };
        let column = &relation.columns[at];
        if column.collation == Collation::Nondeterministic || KeyType::of(column.kind.oid).is_none()
        {
            problems.push((
                format!("has a key {name} whose type or collation cannot be hashed"),
                true,
            ));
        }
        if !column.not_null {
            problems.push((format!("has a key {name} that may be NULL"), true));
        }
        if column.generated {
            problems.push((
                format!("has a key {name} that is computed from other columns"),
                true,
            ));
        }
    }
    for unique in &relation.uniques {
        if !key.iter().all(|name| unique.columns.contains(name)) {
            let problem = format!("{} is unique on each shard by itself only", unique.name);
            problems.push((problem, false));
        }
    }
    problems
}
