//! What writes within a WITH: it runs on one shard, with the rest of its statement.
//!
//! Each such part is planned by itself, as if it stood alone, and so is the rest, for which such a part is a list of rows that
//! nothing is known of. Where all of them lead to the same shard, each does there what it does on one Postgres, and
//! so does the whole.

use pg_query::NodeEnum;
use pg_query::protobuf::{CommonTableExpr, WithClause};

use super::Builder;
use crate::plan::{Pin, Pins, Plan, Row};
use crate::refusal::{Refusal, Result};
use crate::resolve::{Names, inner, mentions};

/// The WITH of a statement.
fn with_of(node: &NodeEnum) -> Option<&WithClause> {
    match node {
        NodeEnum::SelectStmt(select) => select.with_clause.as_ref(),
        NodeEnum::InsertStmt(insert) => insert.with_clause.as_ref(),
        NodeEnum::UpdateStmt(update) => update.with_clause.as_ref(),
        NodeEnum::DeleteStmt(delete) => delete.with_clause.as_ref(),
        NodeEnum::MergeStmt(merge) => merge.with_clause.as_ref(),
        _ => None,
    }
}

fn parts(node: &NodeEnum) -> Vec<&CommonTableExpr> {
    let all = with_of(node).into_iter().flat_map(|with| &with.ctes);
    let all = all.filter_map(|node| match &node.node {
        Some(NodeEnum::CommonTableExpr(cte)) => Some(&**cte),
        _ => None,
    });
    all.collect()
}

fn writes(cte: &CommonTableExpr) -> bool {
    let body = cte.ctequery.as_ref().and_then(|body| body.node.as_ref());
    !matches!(body, Some(NodeEnum::SelectStmt(_)))
}

/// Whether a part of a statement's WITH writes.
pub(super) fn is_written(node: &NodeEnum) -> bool {
    parts(node).into_iter().any(writes)
}

/// What leads a plan to one shard; nothing if it may run on any.
fn pins(plan: Plan) -> Result<Vec<Pin>> {
    match plan {
        Plan::Anywhere | Plan::Replicated => Ok(Vec::new()),
        Plan::OneShard { pins, .. } => Ok(pins.0),
        Plan::Insert(split) => {
            let row = |key| {
                Pin::Row(Row {
                    group: split.group,
                    kinds: split.kinds.clone(),
                    modifiers: split.modifiers.clone(),
                    key,
                    changed: false,
                })
            };
            Ok(split.keys.iter().cloned().map(row).collect())
        }
        Plan::Refused(refusal) => Err(refusal),
        _ => Err(several()),
    }
}

fn several() -> Refusal {
    let reason = "what writes there is supported only where all of the statement is on one shard";
    Refusal::new("WITH", reason).hint("Give a key to each table in it, all of one shard.")
}

impl Builder<'_> {
    /// The plan of a statement in whose WITH something writes, by that of the rest.
    pub(super) fn together(&mut self, rest: Plan, node: &NodeEnum, names: &Names) -> Result<Plan> {
        if names.whole {
            return Err(Refusal::new("WITH", "it is no query"));
        }
        let all = parts(node);
        let mut pinned = pins(rest)?;
        for part in all.iter().filter(|part| writes(part)) {
            let body = part.ctequery.as_deref();
            let body = body.ok_or_else(|| Refusal::new("WITH", "a query is missing"))?;
            let shown = format!("{body:?}");
            if all.iter().any(|cte| mentions(&shown, &cte.ctename)) {
                let reason = "what writes there may not read another query of it over shards";
                return Err(Refusal::new("WITH", reason));
            }
            if is_written(inner(body)?) {
                return Err(Refusal::new("WITH", "it is nested"));
            }
            let mut other = self.fresh(self.text);
            let own = pins(other.statement(body, names)?)?;
            if own.is_empty() {
                return Err(several());
            }
            pinned.extend(own);
            for (number, kinds) in other.uses {
                self.uses.entry(number).or_default().extend(kinds);
            }
            self.moments.extend(other.moments);
            self.arrays.extend(other.arrays);
            self.locks |= other.locks;
            self.reads |= other.reads;
        }
        Ok(Plan::OneShard {
            pins: Pins(pinned),
            otherwise: Box::new(Plan::Refused(several())),
        })
    }
}
