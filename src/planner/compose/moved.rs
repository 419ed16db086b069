//! UPDATE of a key whose new value belongs to another shard: what becomes of the rows is computed where they are, and
//! stored where they belong then.

mod objection;

use std::collections::BTreeMap;

use pg_query::NodeEnum;
use pg_query::protobuf::{Node, ReturningClause};

use super::{Builder, deparse};
use crate::analyze::fact::Candidate;
use crate::catalog::{Column, Relation};
use crate::plan::{Moved, Pin, Row};
use crate::refusal::{Refusal, Result};
use crate::resolve::{Change, Changed, Resolver, boxed, inner};

/// What a column of a row becomes.
enum Value<'a> {
    /// What it was.
    Old,
    /// Its default.
    Default,
    /// A literal or a parameter, whose type is that of the column.
    Given(&'a Node),
    /// What is computed of the row.
    Computed(&'a Node),
}

impl Builder<'_> {
    /// How rows that are found by `found` come to the shard of a new key.
    pub(super) fn moved(
        &self,
        resolver: &Resolver<'_>,
        change: &Change<'_>,
        changed: &Changed<'_>,
        given: &BTreeMap<usize, Candidate>,
        (found, key): (Vec<Pin>, Row),
    ) -> Result<Moved> {
        self.several(&resolver.traits)?;
        let table = changed.target.relation;
        may_move(change, table)?;
        let mut stored: Vec<&str> = Vec::new();
        let mut targets: Vec<Node> = Vec::new();
        let mut carried: Vec<Node> = Vec::new();
        for column in table.columns.iter().filter(|column| !column.generated) {
            let part = match value(change.set, column)? {
                Value::Default => continue,
                Value::Given(node) => {
                    stored.push(&column.name);
                    targets.push(node.clone());
                    continue;
                }
                Value::Old => deparse::snippet(&deparse::quoted(&column.name))?,
                Value::Computed(node) => node.clone(),
            };
            stored.push(&column.name);
            targets.push(deparse::snippet(&format!(
                "pgherd_rows.w{}",
                carried.len()
            ))?);
            carried.push(part);
        }
        if carried.is_empty() {
            // Each row gives something, if only to be counted.
            carried.push(deparse::snippet("1")?);
        }
        let carried: Vec<Node> = carried
            .into_iter()
            .map(|part| deparse::target(part, ""))
            .collect();
        Ok(Moved {
            found,
            key,
            whole: self.text.to_owned(),
            objection: self.objection(changed, given)?,
            delete: delete(change, carried.clone())?,
            columns: columns(change, carried)?,
            store: store(change, &stored, targets)?,
        })
    }
}

/// Whether a row of a table may be deleted and stored anew in place of being changed.
fn may_move(change: &Change<'_>, table: &Relation) -> Result<()> {
    let no = |part: &str, reason: &str| {
        Err(Refusal::new(part, reason)
            .hint("Insert the row by its new key, and delete the old one."))
    };
    if change.with.is_some() || !change.from.is_empty() {
        let reason = "a row does not move to another shard by what stands there";
        return no("WITH and FROM", reason);
    }
    // It is computed where nothing else of the statement's is.
    if format!("{:?}", change.returning).contains("SubLink") {
        return no(
            "RETURNING",
            "a query in it is not run where the row has moved",
        );
    }
    match table.actions.is_empty() {
        true => Ok(()),
        false => no(
            "SET",
            "a row that rows of other tables follow by a foreign key does not move to another shard",
        ),
    }
}

/// What an UPDATE gives a column.
fn value<'a>(set: &'a [Node], column: &Column) -> Result<Value<'a>> {
    for node in set {
        let NodeEnum::ResTarget(assigned) = inner(node)? else {
            continue;
        };
        if assigned.name != column.name {
            continue;
        }
        let value = boxed(&assigned.val)?;
        let Some(node) = assigned
            .val
            .as_deref()
            .filter(|_| assigned.indirection.is_empty())
        else {
            let reason = "parts of columns are not changed where the row moves to another shard";
            return Err(Refusal::new("SET", reason));
        };
        return match value {
            NodeEnum::SetToDefault(_) => Ok(Value::Default),
            NodeEnum::AConst(_) | NodeEnum::ParamRef(_) => Ok(Value::Given(node)),
            NodeEnum::MultiAssignRef(_) | NodeEnum::RowExpr(_) => {
                let reason = "rows are not assigned where a row moves to another shard";
                Err(Refusal::new("SET", reason).hint("Name each column with its value."))
            }
            _ => Ok(Value::Computed(node)),
        };
    }
    Ok(Value::Old)
}

fn failed() -> Refusal {
    Refusal::new("SET", "its other form cannot be made")
}

fn returning(exprs: Vec<Node>) -> Option<ReturningClause> {
    Some(ReturningClause {
        options: Vec::new(),
        exprs,
    })
}

/// What deletes the rows and gives what becomes of them.
fn delete(change: &Change<'_>, carried: Vec<Node>) -> Result<String> {
    let NodeEnum::DeleteStmt(mut delete) = deparse::statement("DELETE FROM pgherd_rows")? else {
        return Err(failed());
    };
    delete.relation = change.relation.clone();
    delete.where_clause = change.filter.clone();
    delete.returning_clause = returning(carried);
    deparse::text_of(NodeEnum::DeleteStmt(delete))
}

/// A query that has columns of these types.
fn columns(change: &Change<'_>, carried: Vec<Node>) -> Result<String> {
    let mut select = deparse::select("SELECT")?;
    select.target_list = carried;
    select.from_clause = vec![Node {
        node: change.relation.clone().map(NodeEnum::RangeVar),
    }];
    deparse::text_of(NodeEnum::SelectStmt(Box::new(select)))
}

/// What stores the rows by these columns.
fn store(change: &Change<'_>, stored: &[&str], targets: Vec<Node>) -> Result<String> {
    let names: Vec<String> = stored.iter().map(|name| deparse::quoted(name)).collect();
    let text = format!(
        "INSERT INTO pgherd_rows ({}) OVERRIDING SYSTEM VALUE SELECT 1 FROM pgherd_rows",
        names.join(", ")
    );
    let NodeEnum::InsertStmt(mut insert) = deparse::statement(&text)? else {
        return Err(failed());
    };
    insert.relation = change.relation.clone();
    if let Some(relation) = &mut insert.relation {
        // Nothing inherits from it.
        relation.inh = true;
    }
    insert.returning_clause = change.returning.clone();
    let select = insert.select_stmt.as_mut().and_then(|it| it.node.as_mut());
    let Some(NodeEnum::SelectStmt(select)) = select else {
        return Err(failed());
    };
    let targets = targets.into_iter();
    select.target_list = targets.map(|part| deparse::target(part, "")).collect();
    deparse::text_of(NodeEnum::InsertStmt(insert))
}

fn literal(text: &str) -> Result<String> {
    match text.contains('\\') {
        // What it means there hangs on a setting.
        true => Err(failed()),
        false => Ok(format!("'{}'", text.replace('\'', "''"))),
    }
}
