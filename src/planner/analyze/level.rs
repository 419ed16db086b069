//! One level of a query: FROM and WHERE, then grouping, windows and DISTINCT; and set operations.

use std::collections::BTreeSet;

use super::fact::{Known, Said};
use super::join::{either, inner};
use super::{Analysis, Dist, OUT, Parts, Why, column, why};
use crate::tree::{Col, Distinct, Expr, Query, Select, SetKind};

impl<'a> Analysis<'a> {
    /// The rows of FROM and WHERE, and what grouping, windows and DISTINCT make of them.
    pub(super) fn level(
        &mut self,
        select: &'a Select,
        query: &'a Query,
        outer: &Known<'_>,
        links: &[Option<Col>],
    ) -> (Dist, Dist) {
        let mut said = Said::default();
        for (link, target) in links.iter().zip(&select.targets) {
            if let (Some(link), Some(col)) = (link, column(target)) {
                self.facts.equal(*link, col, &mut said);
            }
        }
        // What a query in FROM says of its rows is known around it, too.
        if !outer.has(select) {
            self.facts.level(select, &mut said);
        }
        let known = outer.and(&said);
        let mut rows = Dist::Same;
        for from in &select.from {
            let item = self.from(from, &known, &rows);
            rows = inner(rows, item, &known);
        }
        rows = self.conditions(&select.filter, &known, rows);
        let mut rest: Vec<&'a Expr> = select.targets.iter().chain(&select.group).collect();
        rest.extend(&select.having);
        rest.extend(query.sort.iter().map(|sort| &sort.expr));
        rest.extend(select.windows.iter().flatten());
        rest.extend(&select.extra);
        if let Distinct::On(on) = &select.distinct {
            rest.extend(on);
        }
        rows = self.exprs(rest.into_iter(), &known, rows);
        let core = match &rows {
            Dist::Parts(parts) => grouped(select, parts.clone()),
            Dist::Same if select.loose || select.picks => Dist::Loose(why(
                "aggregate, window or DISTINCT",
                "what it gives depends on the order of the rows",
            )),
            other => other.clone(),
        };
        (rows, core)
    }
}

/// Whether each column of a key is among these expressions, which makes them of one shard.
fn covers(exprs: &[Expr], keys: &[BTreeSet<Col>]) -> bool {
    !keys.is_empty()
        && keys.iter().all(|key| {
            let mut columns = exprs.iter().filter_map(column);
            columns.any(|col| key.contains(&col))
        })
}

fn grouped(select: &Select, mut parts: Parts) -> Dist {
    let merge = |part, reason| Dist::Merge(Why { part, reason });
    if select.aggregates {
        if select.grouping_sets || !covers(&select.group, &parts.keys) {
            return merge("GROUP BY", "the groups have rows of several shards");
        }
        let grouped: BTreeSet<Col> = select.group.iter().filter_map(column).collect();
        for key in &mut parts.keys {
            key.retain(|col| grouped.contains(col));
        }
    }
    if !select
        .windows
        .iter()
        .all(|partition| covers(partition, &parts.keys))
    {
        return merge("OVER", "the windows have rows of several shards");
    }
    let distinct = match &select.distinct {
        Distinct::No => true,
        Distinct::All => covers(&select.targets, &parts.keys),
        Distinct::On(on) => covers(on, &parts.keys),
    };
    if !distinct {
        return merge("DISTINCT", "rows of several shards may be the same");
    }
    for key in &mut parts.keys {
        let outputs = select
            .targets
            .iter()
            .enumerate()
            .filter_map(|(at, target)| {
                let col = column(target)?;
                key.contains(&col).then_some(Col { rel: OUT, at })
            });
        *key = outputs.collect();
    }
    Dist::Parts(parts)
}

/// UNION, INTERSECT and EXCEPT: equal rows have equal keys, and so are on one shard, if the key is at the same
/// place on both sides.
pub(super) fn set(kind: SetKind, all: bool, left: Dist, right: Dist, query: &Query) -> Dist {
    let mixed = why("UNION", "one side is the same on every shard");
    let (left, right) = match (left, right) {
        (Dist::Merge(why), _) | (_, Dist::Merge(why)) => return Dist::Merge(why),
        (Dist::Parts(left), Dist::Parts(right)) => (left, right),
        (Dist::Parts(left), Dist::Same) if kind != SetKind::Union && shown(&left, query) => {
            return Dist::Parts(left);
        }
        (Dist::Same, Dist::Parts(right)) if kind == SetKind::Intersect && shown(&right, query) => {
            return Dist::Parts(right);
        }
        (Dist::Parts(_), _) | (_, Dist::Parts(_)) => return Dist::Merge(mixed),
        (Dist::Loose(why), _) | (_, Dist::Loose(why)) => return Dist::Loose(why),
        (Dist::Same, Dist::Same) => {
            let chooses = kind != SetKind::Union || !all;
            let exact = query.columns.iter().all(|column| column.kind.is_exact());
            return match chooses && !exact {
                true => Dist::Loose(why(
                    "UNION, INTERSECT or EXCEPT",
                    "which of equal values stands for all depends on the order of the rows",
                )),
                false => Dist::Same,
            };
        }
    };
    let same =
        left.group.is_some() && left.group == right.group && left.keys.len() == right.keys.len();
    let keys: Vec<BTreeSet<Col>> = match same {
        true => left
            .keys
            .iter()
            .zip(&right.keys)
            .map(|(one, two)| {
                one.intersection(two)
                    .copied()
                    .filter(|col| kept(*col, query))
                    .collect()
            })
            .collect(),
        false => Vec::new(),
    };
    let known = !keys.is_empty() && keys.iter().all(|key| !key.is_empty());
    let together = kind == SetKind::Union && all;
    if !known && !together {
        let reason = "its sides have not their keys at the same place";
        return Dist::Merge(why("UNION, INTERSECT or EXCEPT", reason));
    }
    let prune = match kind {
        SetKind::Union => either(left.prune, right.prune),
        SetKind::Intersect => left.prune.into_iter().chain(right.prune).collect(),
        SetKind::Except => left.prune,
    };
    Dist::Parts(Parts {
        group: known.then_some(left.group).flatten(),
        keys: if known { keys } else { Vec::new() },
        prune,
    })
}

/// Whether a column has one type on both sides, so that its values stay what they are.
fn kept(col: Col, query: &Query) -> bool {
    query
        .columns
        .get(col.at)
        .is_some_and(|column| column.kind.key().is_some())
}

/// Whether the whole key is among the outputs.
fn shown(parts: &Parts, query: &Query) -> bool {
    let all = |key: &BTreeSet<Col>| key.iter().any(|col| kept(*col, query));
    !parts.keys.is_empty() && parts.keys.iter().all(all)
}
