//! New names: the rows of a table are where its name and those of its columns say.

use pg_query::protobuf::{ObjectType, RangeVar, RenameStmt};

use super::Builder;
use crate::catalog::{Relation, RelationKind};
use crate::plan::Plan;
use crate::refusal::{Refusal, Result};
use crate::resolve::Names;
use crate::tree::Place;

impl Builder<'_> {
    pub(super) fn rename(&self, rename: &RenameStmt, names: &Names) -> Result<Plan> {
        match (rename.rename_type(), &rename.relation) {
            (ObjectType::ObjectSchema, None) => self.rename_schema(rename),
            (_, None) => Ok(Plan::All),
            (ObjectType::ObjectIndex, Some(range)) => self.rename_index(range, names),
            (ObjectType::ObjectColumn, Some(range))
                if rename.relation_type() == ObjectType::ObjectTable =>
            {
                self.rename_column(rename, range, names)
            }
            // Names of constraints place nothing.
            (ObjectType::ObjectTabconstraint, Some(_)) => {
                Ok(self.home(&rename.relation, names)?.plan())
            }
            (_, Some(_)) => Err(Refusal::new(
                "RENAME",
                "where a table's rows are is said by its name",
            )),
        }
    }

    /// What is said of tables is said by their schemas' names, too.
    fn rename_schema(&self, rename: &RenameStmt) -> Result<Plan> {
        let tables = self
            .catalog
            .relations()
            .filter(|((schema, _), relation)| *schema == rename.subname && is_table(relation));
        for ((schema, name), relation) in tables {
            let columns = columns(relation);
            let before = self.placement.of(schema, name, &columns);
            if before != self.placement.of(&rename.newname, name, &columns) {
                let part = format!("table {schema}.{name}");
                let reason = "by its schema's new name, its rows would belong elsewhere";
                return Err(Refusal::new(part, reason)
                    .hint("Keep the schema's name, or say the same of its tables by both names."));
            }
        }
        Ok(Plan::All)
    }

    fn rename_column(&self, rename: &RenameStmt, range: &RangeVar, names: &Names) -> Result<Plan> {
        let mut resolver = self.resolver(names);
        let (schema, relation) = resolver.locate(range)?;
        let table = resolver.table(&schema, &range.relname, relation)?;
        if let Place::Key { columns, .. } = &table.place
            && relation
                .column(&rename.subname)
                .is_some_and(|at| columns.contains(&at))
        {
            return Err(Refusal::new("RENAME", "the key cannot be altered"));
        }
        let before = columns(relation);
        let after: Vec<&str> = before
            .iter()
            .map(|name| match *name == rename.subname {
                true => rename.newname.as_str(),
                false => name,
            })
            .collect();
        let of = |columns: &[&str]| self.placement.of(&schema, &range.relname, columns);
        if of(&before) != of(&after) {
            let reason = "by its column's new name, the table's rows would belong elsewhere";
            return Err(
                Refusal::new("RENAME", reason).hint("Say by the table's name where its rows are.")
            );
        }
        Ok(self.home(&rename.relation, names)?.plan())
    }

    /// `ALTER INDEX` renames a table, too, if it is given the name of one.
    fn rename_index(&self, range: &RangeVar, names: &Names) -> Result<Plan> {
        match self.resolver(names).locate(range) {
            Ok(_) => Err(Refusal::new("RENAME", "it is no index")),
            // Indexes are not among what is known; servers say if there is none.
            Err(refusal) if refusal.code == "42P01" => Ok(Plan::All),
            Err(refusal) => Err(refusal),
        }
    }
}

fn is_table(relation: &Relation) -> bool {
    !matches!(relation.kind, RelationKind::View(_))
}

fn columns(relation: &Relation) -> Vec<&str> {
    let columns = relation.columns.iter();
    columns.map(|column| column.name.as_str()).collect()
}
