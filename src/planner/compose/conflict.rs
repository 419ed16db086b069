//! ON CONFLICT and RETURNING.

use pg_query::NodeEnum;
use pg_query::protobuf::{InsertStmt, OnConflictAction, OnConflictClause};

use super::schema::tells_apart;
use crate::refusal::{Refusal, Result};
use crate::resolve::{Resolver, Space, Target, inner};
use crate::tree::{Expr, Place};

impl<'a> Resolver<'a> {
    /// What ON CONFLICT and RETURNING compute.
    pub(super) fn conflict_and_returning(
        &mut self,
        insert: &'a InsertStmt,
        target: &Target<'a>,
        space: Space,
    ) -> Result<Vec<Expr>> {
        let returning = |this: &mut Self| this.returning(&insert.returning_clause);
        let mut exprs = self.within(space.clone(), returning)?;
        let Some(conflict) = &insert.on_conflict_clause else {
            return Ok(exprs);
        };
        let names: Vec<String> = target
            .relation
            .columns
            .iter()
            .map(|column| column.name.clone())
            .collect();
        let excluded = Space::of(target.rel, "excluded", None, &names, false);
        let mut both = space;
        both.entries.extend(excluded.entries);
        exprs.extend(self.within(both, |this| {
            let mut exprs = this.assignments(&conflict.target_list, target)?;
            if let Some(condition) = &conflict.where_clause {
                exprs.push(this.expr(inner(condition)?)?);
            }
            Ok(exprs)
        })?);
        Ok(exprs)
    }
}

/// ON CONFLICT finds only what is on the row's shard: what must be unique has to have the key in it.
pub(super) fn arbiter(conflict: &OnConflictClause, target: &Target<'_>) -> Result<()> {
    let Place::Key { columns, .. } = &target.table.place else {
        return Ok(());
    };
    let key = columns.iter().map(|at| &target.relation.columns[*at].name);
    let uniques = &target.relation.uniques;
    let has_key = |unique: &[String]| key.clone().all(|name| unique.contains(name));
    let refusal = Refusal::new("ON CONFLICT", "what must be unique has not the key in it");
    let ok = match &conflict.infer {
        None => uniques
            .iter()
            .all(|unique| unique.plain && has_key(&unique.columns)),
        Some(infer) if !infer.conname.is_empty() => uniques
            .iter()
            .any(|unique| unique.name == infer.conname && has_key(&unique.columns)),
        Some(infer) => {
            let mut names = Vec::new();
            for element in &infer.index_elems {
                match inner(element)? {
                    NodeEnum::IndexElem(element)
                        if !element.name.is_empty() && tells_apart(element)? =>
                    {
                        names.push(element.name.clone());
                    }
                    _ => return Err(refusal),
                }
            }
            infer.where_clause.is_none() && has_key(&names)
        }
    };
    if ok { Ok(()) } else { Err(refusal) }
}

/// Whether a row that is in the way of another only keeps that from being stored.
pub(super) fn nothing(insert: &InsertStmt) -> bool {
    let conflict = insert.on_conflict_clause.as_deref();
    conflict.is_some_and(|it| it.action() == OnConflictAction::OnconflictNothing)
}

/// Whether what RETURNING gives can be put in the order of the rows.
pub(super) fn ordered(insert: &InsertStmt) -> Result<()> {
    let Some(conflict) = &insert.on_conflict_clause else {
        return Ok(());
    };
    let skips =
        conflict.action() == OnConflictAction::OnconflictNothing || conflict.where_clause.is_some();
    match skips && insert.returning_clause.is_some() {
        true => Err(Refusal::new(
            "RETURNING",
            "which rows it tells of is not known where some may be left out",
        )),
        false => Ok(()),
    }
}
