//! UPDATE and DELETE.

use std::collections::BTreeMap;

use pg_query::protobuf::{DeleteStmt, UpdateStmt};

use super::values::candidate;
use super::{Builder, Noted, hinted, kinds_agree, pruned, refused, replicated};
use crate::analyze::fact::Candidate;
use crate::analyze::{Analysis, Dist};
use crate::placement::Distribution;
use crate::plan::{Pin, Plan, Row};
use crate::refusal::{Refusal, Result};
use crate::resolve::{Change, Changed, Names, Resolver, Target};
use crate::tree::{Col, Expr, Place};

impl Builder<'_> {
    pub(super) fn update(&mut self, update: &UpdateStmt, names: &Names) -> Result<Plan> {
        let change = Change {
            relation: &update.relation,
            with: &update.with_clause,
            from: &update.from_clause,
            set: &update.target_list,
            filter: &update.where_clause,
            returning: &update.returning_clause,
        };
        self.change(&change, names)
    }

    pub(super) fn delete(&mut self, delete: &DeleteStmt, names: &Names) -> Result<Plan> {
        let change = Change {
            relation: &delete.relation,
            with: &delete.with_clause,
            from: &delete.using_clause,
            set: &[],
            filter: &delete.where_clause,
            returning: &delete.returning_clause,
        };
        self.change(&change, names)
    }

    fn change(&mut self, change: &Change<'_>, names: &Names) -> Result<Plan> {
        let mut resolver = self.resolver(names);
        let changed = resolver.change(change)?;
        let key = new_key(&mut resolver, &changed)?;
        let plan = self.changed(&resolver, change, &changed, &key);
        let reads = replicated(&resolver.relations);
        let noted = Noted::of(&mut resolver);
        self.note(noted);
        self.reads = reads;
        plan
    }

    fn changed(
        &self,
        resolver: &Resolver<'_>,
        change: &Change<'_>,
        changed: &Changed<'_>,
        key: &BTreeMap<usize, Candidate>,
    ) -> Result<Plan> {
        let Changed { target, query, .. } = changed;
        let traits = &resolver.traits;
        self.anywhere(traits)?;
        kinds_agree(&resolver.relations)?;
        let mut analysis = Analysis::new(&resolver.relations);
        let rows = analysis.query(query).rows;
        analysis.complete(None)?;
        if let Place::At(Distribution::Replicated) = target.table.place {
            let chosen = !change.set.is_empty() && !change.from.is_empty();
            return self.everywhere(&analysis, traits, &rows, chosen);
        }
        let several = match &rows {
            Dist::Parts(parts) => self.several(traits).map(|()| Plan::Pushed {
                prune: pruned(&analysis, parts),
                writes: true,
            }),
            Dist::Merge(why) | Dist::Loose(why) => Err(refused(*why)),
            Dist::Same => Err(Refusal::new("statement", "it is not supported over shards")),
        };
        if !key.is_empty() {
            let mut plan = self.pinned(&analysis, traits, Err(moves()))?;
            if let Plan::OneShard { pins, otherwise } = &mut plan {
                let row = moved(&analysis, target, key)?;
                let ends = (pins.0.clone(), row.clone());
                **otherwise = match self.moved(resolver, change, changed, key, ends) {
                    Ok(moved) => Plan::Move(Box::new(moved)),
                    Err(refusal) => Plan::Refused(refusal),
                };
                pins.0.push(Pin::Row(row));
            }
            return Ok(plan);
        }
        let hinted = |refusal| hinted(resolver.names, &analysis, traits, true, refusal);
        let several = several.or_else(hinted);
        let stepped = |refusal| {
            let plan = self.stepped(resolver, change, changed);
            plan.map_err(|_| refusal)
        };
        let several = several.or_else(stepped);
        self.pinned(&analysis, traits, several)
    }

    /// A write that must do the same on every shard.
    pub(super) fn everywhere(
        &self,
        analysis: &Analysis<'_>,
        traits: &crate::tree::Traits,
        rows: &Dist,
        chosen: bool,
    ) -> Result<Plan> {
        self.several(traits)?;
        if !analysis.seen.is_empty() {
            let reason = "rows that are on every shard would depend on rows that are not";
            return Err(Refusal::new("statement", reason));
        }
        if let Some(part) = traits.order {
            let reason =
                "it may depend on how rows lie, or on which of equal values stands for all";
            return Err(Refusal::new(part, reason).hint("Read it first, and write what it gives."));
        }
        if chosen {
            let reason = "each shard might choose another of several rows that are found for one";
            return Err(Refusal::new("UPDATE … FROM", reason).hint("Use a subquery in SET."));
        }
        match rows {
            Dist::Same => Ok(Plan::All),
            Dist::Merge(why) | Dist::Loose(why) => Err(refused(*why)),
            Dist::Parts(_) => Err(Refusal::new("statement", "it is not supported over shards")),
        }
    }
}

fn moves() -> Refusal {
    let reason =
        "a row's key is changed only where its old and its new value are known and on one shard";
    Refusal::new("SET", reason).hint("Insert the row by its new key, and delete the old one.")
}

/// What an UPDATE gives the columns of the key, by their places in the table, but for those that stay as they are.
fn new_key<'r>(
    resolver: &mut Resolver<'r>,
    changed: &Changed<'r>,
) -> Result<BTreeMap<usize, Candidate>> {
    let mut found = BTreeMap::new();
    let Place::Key {
        columns,
        kinds,
        nullable,
        ..
    } = &changed.target.table.place
    else {
        return Ok(found);
    };
    for (name, expr, node) in &changed.keys {
        let at = changed.target.relation.column(name).ok_or_else(moves)?;
        let itself = Col {
            rel: changed.target.rel,
            at,
        };
        if matches!(expr, Expr::Col(col) if *col == itself) {
            continue;
        }
        let place = columns.iter().position(|known| *known == at);
        let kind = place.and_then(|place| kinds.get(place)).ok_or_else(moves)?;
        let oid = changed.target.relation.columns[at].kind.oid;
        let candidate = candidate(resolver, node, expr, *kind, oid).map_err(|_| moves())?;
        // There is no shard for one that is NULL.
        if *nullable {
            return Err(moves());
        }
        found.insert(at, candidate);
    }
    Ok(found)
}

/// Where a row is with its new key. What of the key is not given is what the row was found by.
fn moved(
    analysis: &Analysis<'_>,
    target: &Target<'_>,
    given: &BTreeMap<usize, Candidate>,
) -> Result<Row> {
    let Place::Key {
        group,
        columns,
        kinds,
        ..
    } = &target.table.place
    else {
        return Err(moves());
    };
    let reach = analysis.reach.get(&target.rel).ok_or_else(moves)?;
    let key = columns.iter().zip(&reach.values).map(|(at, lists)| {
        let found = lists.iter().find_map(|list| match &**list {
            [one] => Some(one),
            _ => None,
        });
        given.get(at).or(found).cloned().ok_or_else(moves)
    });
    let modifiers = columns
        .iter()
        .map(|at| target.relation.columns[*at].modifier);
    Ok(Row {
        group: *group,
        kinds: kinds.clone(),
        modifiers: modifiers.collect(),
        key: key.collect::<Result<_>>()?,
        changed: true,
    })
}
