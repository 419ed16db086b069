//! MERGE: where the rows of its source and its target meet by their keys, each shard does its own.

use pg_query::NodeEnum;
use pg_query::protobuf::{CmdType, MergeMatchKind, MergeStmt, MergeWhenClause};

use super::values::{candidate, columns, keeps, key, overridden};
use super::{Builder, Noted, kinds_agree, pruned, refused, replicated};
use crate::analyze::fact::Candidate;
use crate::analyze::{Analysis, Dist};
use crate::placement::{Distribution, Group, KeyType, KeyValue, Write};
use crate::plan::{Pin, Plan, Row};
use crate::refusal::{Refusal, Result};
use crate::resolve::{Names, Resolver, Space, Target, boxed, conjuncts, inner, selected};
use crate::tree::{Body, Constant, Distinct, Expr, From, JoinKind, Place, Query, Source};

/// The value of a column of the key of a row that is stored.
struct Stored {
    /// The column's place in the key.
    at: usize,
    kind: KeyType,
    modifier: i32,
    expr: Expr,
    /// It, if it is a literal or a parameter.
    candidate: Option<Candidate>,
}

/// What the actions compute and store.
#[derive(Default)]
struct Actions {
    exprs: Vec<Expr>,
    /// There is one for rows of the source without a row of the target.
    adds: bool,
    /// For each row that may be stored, its key.
    stored: Vec<Vec<Stored>>,
}

impl Builder<'_> {
    pub(super) fn matched(&mut self, merge: &MergeStmt, names: &Names) -> Result<Plan> {
        let mut resolver = self.resolver(names);
        let plan = self.merges(&mut resolver, merge);
        let reads = replicated(&resolver.relations);
        let noted = Noted::of(&mut resolver);
        self.note(noted);
        self.reads = reads;
        plan
    }

    fn merges<'r>(&self, resolver: &mut Resolver<'r>, merge: &'r MergeStmt) -> Result<Plan> {
        if merge.returning_clause.is_some() {
            let reason = "it is not supported in a MERGE over shards";
            return Err(Refusal::new("RETURNING", reason));
        }
        if let Some(with) = &merge.with_clause {
            resolver.with_clause(with)?;
        }
        let (target, own) = resolver.target(&merge.relation)?;
        let given = merge.source_relation.as_deref();
        let given = given.ok_or_else(|| Refusal::new("MERGE", "its source is missing"))?;
        let (mut from, mut others) = resolver.sources(std::slice::from_ref(given))?;
        let Some(source) = from.pop() else {
            return Err(Refusal::new("MERGE", "its source is missing"));
        };
        constants(resolver, &source, &mut others);
        let both = own.and(others.clone());
        let condition = resolver.within(both.clone(), |this| {
            this.expr(boxed(&merge.join_condition)?)
        })?;
        let mut on = Vec::new();
        conjuncts(condition, &mut on);
        let mut actions = Actions::default();
        for clause in &merge.merge_when_clauses {
            let NodeEnum::MergeWhenClause(clause) = inner(clause)? else {
                return Err(Refusal::new("MERGE", "of an unknown form"));
            };
            let space = match clause.match_kind() {
                MergeMatchKind::MergeWhenMatched => both.clone(),
                MergeMatchKind::MergeWhenNotMatchedByTarget => {
                    actions.adds = true;
                    others.clone()
                }
                _ => {
                    let reason = "it is not supported over shards";
                    return Err(Refusal::new("WHEN NOT MATCHED BY SOURCE", reason));
                }
            };
            resolver.within(space, |this| action(this, clause, &target, &mut actions))?;
        }
        let join = From::Join {
            kind: if actions.adds {
                JoinKind::Left
            } else {
                JoinKind::Inner
            },
            left: Box::new(source),
            right: Box::new(From::Rel(target.rel)),
            on,
            merged: Vec::new(),
        };
        let exprs = std::mem::take(&mut actions.exprs);
        let query = selected(vec![join], Vec::new(), exprs);
        self.placed(resolver, &target, &query, &actions.stored)
    }

    fn placed(
        &self,
        resolver: &Resolver<'_>,
        target: &Target<'_>,
        query: &Query,
        stored: &[Vec<Stored>],
    ) -> Result<Plan> {
        let traits = &resolver.traits;
        self.anywhere(traits)?;
        kinds_agree(&resolver.relations)?;
        let mut analysis = Analysis::new(&resolver.relations);
        let rows = analysis.query(query).rows;
        analysis.complete(None)?;
        let (group, kinds) = match &target.table.place {
            Place::Key { group, kinds, .. } => (*group, kinds),
            Place::At(Distribution::OneShard(_)) => {
                return self.pinned(&analysis, traits, Err(apart()));
            }
            _ => {
                let reason = "its table is the same on every shard";
                return Err(Refusal::new("MERGE", reason)
                    .hint("Use INSERT … ON CONFLICT, UPDATE and DELETE."));
            }
        };
        let parts = match &rows {
            Dist::Parts(parts) if parts.group == Some(group) => Some(parts),
            _ => None,
        };
        // Where the key of a new row is that of its source's row, it stays on that shard.
        let stays = |row: &[Stored]| {
            row.iter().all(|stored| {
                let column = crate::analyze::column(&stored.expr);
                let keys = parts.and_then(|parts| parts.keys.get(stored.at));
                let of_source = column
                    .zip(keys)
                    .is_some_and(|(column, keys)| keys.contains(&column));
                let kind = resolver.kind(&stored.expr).key();
                of_source && kind.is_some_and(|kind| keeps(kind, stored.kind, stored.modifier))
            })
        };
        let others: Vec<&Vec<Stored>> = stored.iter().filter(|row| !stays(row)).collect();
        let several = match (&rows, parts) {
            (_, Some(parts)) if others.is_empty() => self.several(traits).map(|()| Plan::Pushed {
                prune: pruned(&analysis, parts),
                writes: true,
            }),
            (Dist::Merge(why) | Dist::Loose(why), _) => Err(refused(*why).hint(JOIN)),
            _ => Err(apart()),
        };
        let mut plan = self.pinned(&analysis, traits, several)?;
        if let Plan::OneShard { pins, .. } = &mut plan {
            for row in others {
                pins.0.push(pin(group, kinds, row)?);
            }
        }
        Ok(plan)
    }
}

const JOIN: &str = "Join its source by the key, and store the source's key.";

fn apart() -> Refusal {
    let reason = "its rows and those of its source are not known to be on the same shards";
    Refusal::new("MERGE", reason).hint(JOIN)
}

/// Where a new row is whose key is said.
fn pin(group: Group, kinds: &[KeyType], row: &[Stored]) -> Result<Pin> {
    let key = row
        .iter()
        .map(|stored| stored.candidate.clone().ok_or_else(apart));
    Ok(Pin::Row(Row {
        group,
        kinds: kinds.to_vec(),
        modifiers: row.iter().map(|stored| stored.modifier).collect(),
        key: key.collect::<Result<_>>()?,
        changed: false,
    }))
}

/// What is done with the rows of a case.
fn action<'r>(
    this: &mut Resolver<'r>,
    clause: &'r MergeWhenClause,
    target: &Target<'r>,
    actions: &mut Actions,
) -> Result<()> {
    if let Some(condition) = &clause.condition {
        actions.exprs.push(this.expr(inner(condition)?)?);
    }
    match clause.command_type() {
        CmdType::CmdUpdate => {
            let exprs = this.assignments(&clause.target_list, target)?;
            actions.exprs.extend(exprs);
        }
        CmdType::CmdInsert => store(this, clause, target, actions)?,
        CmdType::CmdDelete => this.acts(target, Write::Delete)?,
        CmdType::CmdNothing => {}
        _ => return Err(Refusal::new("MERGE", "of an unknown form")),
    }
    Ok(())
}

/// A row that is stored.
fn store<'r>(
    this: &mut Resolver<'r>,
    clause: &'r MergeWhenClause,
    target: &Target<'r>,
    actions: &mut Actions,
) -> Result<()> {
    overridden(clause.r#override(), target)?;
    let named = columns(&clause.target_list, target, clause.values.len())?;
    for column in &target.relation.columns {
        if !named.contains(&column.name.as_str()) {
            this.default(column)?;
        }
    }
    let key = match target.table.place {
        Place::Key { .. } => Some(key(target, &named)?),
        _ => None,
    };
    let mut row = Vec::new();
    for (place, value) in clause.values.iter().enumerate() {
        let at = key.as_ref().and_then(|key| {
            let at = key.places.iter().position(|known| *known == place)?;
            Some((at, key.kinds[at], key.modifiers[at]))
        });
        let value = inner(value)?;
        if let NodeEnum::SetToDefault(_) = value {
            let column = named
                .get(place)
                .and_then(|name| target.relation.column(name));
            match (at, column) {
                (None, Some(column)) => this.default(&target.relation.columns[column])?,
                _ => return Err(apart()),
            }
            continue;
        }
        let expr = match at {
            Some(_) => this.stored(value)?,
            None => this.expr(value)?,
        };
        if let Some((at, kind, modifier)) = at {
            let oid = oid_of(target, named[place]);
            let candidate = candidate(this, value, &expr, kind, oid).ok();
            let expr = expr.clone();
            row.push(Stored {
                at,
                kind,
                modifier,
                expr,
                candidate,
            });
        }
        actions.exprs.push(expr);
    }
    if let Some(key) = &key {
        row.sort_by_key(|stored| stored.at);
        if row.len() != key.kinds.len() {
            return Err(apart());
        }
        actions.stored.push(row);
    }
    Ok(())
}

fn oid_of(target: &Target<'_>, name: &str) -> u32 {
    let at = target.relation.column(name);
    at.map_or(0, |at| target.relation.columns[at].kind.oid)
}

/// Of a source of one row, the names of constants and of parameters with a type mean these.
fn constants(resolver: &Resolver<'_>, source: &From, space: &mut Space) {
    let From::Rel(rel) = source else { return };
    let Source::Query(query) = &resolver.relations[rel.0].source else {
        return;
    };
    let values = match &query.body {
        Body::Values(exprs) if exprs.len() == query.columns.len() => exprs,
        Body::Select(select)
            if select.from.is_empty()
                && select.filter.is_empty()
                && !select.aggregates
                && select.windows.is_empty()
                && matches!(select.distinct, Distinct::No) =>
        {
            &select.targets
        }
        _ => return,
    };
    if !query.limits.is_empty() {
        return;
    }
    let known = |expr: &Expr| match expr {
        Expr::Col(col) if col.rel == *rel => constant(values.get(col.at)?),
        _ => None,
    };
    let named = space
        .entries
        .iter_mut()
        .flat_map(|entry| &mut entry.columns);
    let named = named.map(|(_, expr)| expr);
    let bare = space.columns.iter_mut().map(|star| &mut star.expr);
    for expr in named.chain(bare) {
        if let Some(value) = known(expr) {
            *expr = value;
        }
    }
}

/// A value whose type is certain.
fn constant(expr: &Expr) -> Option<Expr> {
    match expr {
        Expr::Const(Constant::Typed(_) | Constant::Cast(..)) | Expr::Param(_, Some(_)) => {
            Some(expr.clone())
        }
        // Without a type it is a text there.
        Expr::Const(Constant::Unknown(text)) => {
            let value = KeyValue::from_text(KeyType::Text, text.as_bytes()).ok()?;
            Some(Expr::Const(Constant::Typed(value)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::constant;
    use crate::tree::{Constant, Expr};

    #[test]
    fn only_what_has_a_type_is_taken_for_its_name() {
        assert!(constant(&Expr::Const(Constant::Null)).is_none());
        assert!(constant(&Expr::Param(1, None)).is_none());
        assert!(constant(&Expr::Param(1, Some(20))).is_some());
        let text = constant(&Expr::Const(Constant::Unknown("7".into())));
        assert!(matches!(text, Some(Expr::Const(Constant::Typed(_)))));
    }
}
