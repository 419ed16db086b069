//! Why a row may not be deleted and stored anew in place of being changed, as far as only its server knows.

use std::collections::BTreeMap;

use super::super::deparse::quoted;
use super::{Builder, failed, literal};
use crate::analyze::fact::Candidate;
use crate::catalog::{RelationKind, is_system};
use crate::placement::Distribution;
use crate::plan::CHANGED;
use crate::refusal::Result;
use crate::resolve::Changed;

impl Builder<'_> {
    /// What asks whether anything of the table would heed that its rows are deleted and stored, and not changed: foreign
    /// keys, and rights. Before that, it asks whether the table is still what it is taken for: a column that is not known
    /// would be lost with the row.
    pub(super) fn objection(
        &self,
        changed: &Changed<'_>,
        given: &BTreeMap<usize, Candidate>,
    ) -> Result<String> {
        let table = &changed.target.table;
        let name = literal(&format!(
            "{}.{}",
            quoted(&table.schema),
            quoted(&table.name)
        ))?;
        let (differs, binds) = (differs(changed)?, self.binds(changed, given)?);
        Ok(format!(
            "SELECT CASE WHEN {differs} THEN '{CHANGED}' \
             WHEN EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.contype = 'f' AND ({binds})) \
             THEN 'a foreign key would not hold for it as for a row that is changed' \
             WHEN NOT pg_catalog.has_table_privilege(t.oid, 'DELETE') OR EXISTS (SELECT FROM pg_catalog.pg_attribute a \
             WHERE a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' \
             AND NOT (pg_catalog.has_column_privilege(t.oid, a.attnum, 'SELECT') \
             AND pg_catalog.has_column_privilege(t.oid, a.attnum, 'INSERT'))) \
             THEN 'it takes the rights to SELECT, INSERT and DELETE' END \
             FROM (SELECT {name}::pg_catalog.regclass::pg_catalog.oid) AS t (oid)"
        ))
    }

    /// Whether a foreign key `k` would take the row otherwise: one of another table that refers to what stays the same, or
    /// does not take both alike; or one of its own that its row need not have kept, or that would be looked at anew though
    /// nothing of it has changed, by rows that are not where the row comes to.
    fn binds(&self, changed: &Changed<'_>, given: &BTreeMap<usize, Candidate>) -> Result<String> {
        let columns = &changed.target.relation.columns;
        let keys = given.keys().map(|at| {
            let column = columns.get(*at).ok_or_else(failed)?;
            literal(&column.name)
        });
        let keys: Vec<String> = keys.collect::<Result<_>>()?;
        let (names, count) = (keys.join(", "), keys.len());
        let has_all = |of: &str| {
            format!(
                "(SELECT pg_catalog.count(*) FROM pg_catalog.pg_attribute a WHERE a.attrelid = t.oid \
                 AND a.attname IN ({names}) AND a.attnum = ANY (k.{of})) = {count}"
            )
        };
        let (theirs, own) = (has_all("confkey"), has_all("conkey"));
        let everywhere = self.refers_everywhere();
        Ok(format!(
            "k.confrelid = t.oid AND (k.confupdtype <> k.confdeltype OR NOT {theirs}) \
             OR k.conrelid = t.oid AND (NOT k.convalidated OR NOT ({own} OR {everywhere}))"
        ))
    }

    /// Whether the foreign key `k` refers to a table of which every shard has all rows. One that is not known to be such,
    /// or whose name not every session writes alike, is taken for none.
    fn refers_everywhere(&self) -> String {
        let is_replicated = |schema: &str, name: &str, columns: &[&str]| {
            let place = self.placement.of(schema, name, columns);
            matches!(place, Some(Distribution::Replicated)) && !is_system(schema)
        };
        let mut tables = Vec::new();
        for ((schema, name), relation) in self.catalog.relations() {
            let columns = relation.columns.iter();
            let columns: Vec<&str> = columns.map(|it| it.name.as_str()).collect();
            let is_one =
                relation.kind == RelationKind::Table && schema.is_ascii() && name.is_ascii();
            if let (true, Ok(schema), Ok(name)) = (
                is_one && is_replicated(schema, name, &columns),
                literal(schema),
                literal(name),
            ) {
                tables.push(format!("({schema}, {name})"));
            }
        }
        if tables.is_empty() {
            return "false".to_owned();
        }
        format!(
            "EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace s ON s.oid = c.relnamespace \
             WHERE c.oid = k.confrelid AND (s.nspname::pg_catalog.text, c.relname::pg_catalog.text) \
             IN (VALUES {}))",
            tables.join(", ")
        )
    }
}

/// Whether the table `t` has other columns than are known, or what runs when its rows are written.
fn differs(changed: &Changed<'_>) -> Result<String> {
    let columns = changed.target.relation.columns.iter();
    let columns = columns.map(|it| Ok(format!("({}, {})", literal(&it.name)?, it.generated)));
    let columns: Vec<String> = columns.collect::<Result<_>>()?;
    Ok(format!(
        "EXISTS (SELECT a.attname::pg_catalog.text, a.attgenerated <> '' FROM pg_catalog.pg_attribute a \
         WHERE a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped EXCEPT VALUES {}) \
         OR EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = t.oid AND (c.relrowsecurity OR EXISTS (SELECT \
         FROM pg_catalog.pg_rewrite w WHERE w.ev_class = c.oid))) \
         OR EXISTS (SELECT FROM pg_catalog.pg_trigger g WHERE g.tgrelid = t.oid AND NOT g.tgisinternal)",
        columns.join(", ")
    ))
}
