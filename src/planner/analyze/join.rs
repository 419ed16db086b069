//! FROM: how the rows of joins are spread.

use std::collections::BTreeSet;

use super::fact::{Known, Said, closure};
use super::{Analysis, Dist, OUT, Parts, Prune, why};
use crate::placement::Distribution;
use crate::tree::{Col, Expr, From, JoinKind, Place, Query, Rel, Source};

impl<'a> Analysis<'a> {
    /// An item of FROM, behind those whose rows are spread as said.
    pub(super) fn from(&mut self, from: &'a From, outer: &Known<'_>, before: &Dist) -> Dist {
        match from {
            From::Rel(rel) => self.rel(*rel, outer, before),
            From::Join {
                kind,
                left,
                right,
                on,
                merged,
            } => match kind {
                JoinKind::Inner => {
                    let mut said = Said::default();
                    on.iter().for_each(|part| self.facts.of(part, &mut said));
                    let known = outer.and(&said);
                    let left = self.from(left, &known, before);
                    let seen = inner(before.clone(), left.clone(), &known);
                    let right = self.from(right, &known, &seen);
                    let both = inner(left, right, &known);
                    self.conditions(on, &known, both)
                }
                JoinKind::Left => self.outer((left, right), on, outer, before),
                JoinKind::Right => self.outer((right, left), on, outer, before),
                JoinKind::Full => {
                    let left = self.from(left, &Known::NOTHING, before);
                    let right = self.from(right, &Known::NOTHING, before);
                    self.full(left, right, on, merged)
                }
            },
        }
    }

    /// A join that keeps all rows of its first side.
    fn outer(
        &mut self,
        (kept, other): (&'a From, &'a From),
        on: &'a [Expr],
        outer: &Known<'_>,
        before: &Dist,
    ) -> Dist {
        let kept = self.from(kept, outer, before);
        // Only what this ON and the other side itself say binds the sides.
        let mut said = Said::default();
        on.iter().for_each(|part| self.facts.of(part, &mut said));
        self.facts.hoist(other, &mut said);
        let (known, bound) = (outer.and(&said), Known::only(&said));
        let other = self.from(other, &known, &kept);
        let both = match (&kept, &other) {
            (Dist::Parts(left), Dist::Parts(_)) => match inner(kept.clone(), other.clone(), &bound)
            {
                // The other side's columns may be NULL, and are no keys any more.
                Dist::Parts(both) => (Dist::Parts(left.clone()), Some(Dist::Parts(both))),
                merge => (merge, None),
            },
            (Dist::Same, Dist::Parts(_)) => (
                Dist::Merge(why(
                    "outer join",
                    "it keeps rows that are on every shard, and joins them with rows of each",
                )),
                None,
            ),
            _ => (inner(kept.clone(), other.clone(), &known), None),
        };
        let (result, matched) = both;
        // Queries in ON are computed of pairs of rows.
        match self.conditions(on, &known, matched.unwrap_or_else(|| result.clone())) {
            Dist::Merge(why) => Dist::Merge(why),
            Dist::Loose(why) => Dist::Loose(why),
            _ => result,
        }
    }

    fn full(
        &mut self,
        left: Dist,
        right: Dist,
        on: &'a [Expr],
        merged: &[(Col, Col, Col)],
    ) -> Dist {
        let mut said = Said::default();
        on.iter().for_each(|part| self.facts.of(part, &mut said));
        let bound = Known::only(&said);
        let pair = (left.clone(), right.clone());
        let (left, right) = match pair {
            (Dist::Parts(left), Dist::Parts(right)) => (left, right),
            (Dist::Parts(_), Dist::Same | Dist::Loose(_))
            | (Dist::Same | Dist::Loose(_), Dist::Parts(_)) => {
                return Dist::Merge(why(
                    "FULL JOIN",
                    "it keeps rows that are on every shard, and joins them with rows of each",
                ));
            }
            (left, right) => {
                let both = inner(left, right, &bound);
                return self.conditions(on, &bound, both);
            }
        };
        let both = inner(
            Dist::Parts(left.clone()),
            Dist::Parts(right.clone()),
            &bound,
        );
        let both = match self.conditions(on, &bound, both) {
            Dist::Parts(both) => both,
            other => return other,
        };
        let keys = both.keys.iter().zip(left.keys.iter().zip(&right.keys));
        let keys = keys.map(|(_, (one, two))| {
            let shared = merged
                .iter()
                .filter(|(a, b, _)| one.contains(a) && two.contains(b));
            shared.map(|(_, _, col)| *col).collect()
        });
        Dist::Parts(Parts {
            group: both.group,
            keys: keys.collect(),
            prune: either(left.prune, right.prune),
        })
    }

    fn rel(&mut self, rel: Rel, known: &Known<'_>, before: &Dist) -> Dist {
        let occurrence = self.occurrence(rel);
        match &occurrence.source {
            Source::Table(table) => match &table.place {
                Place::Key {
                    group,
                    columns,
                    nullable,
                    ..
                } => {
                    self.meet(rel, columns, known);
                    if *nullable {
                        return Dist::Merge(why("table", "its key may be NULL"));
                    }
                    let key = |at: &usize| BTreeSet::from([Col { rel, at: *at }]);
                    Dist::Parts(Parts {
                        group: Some(*group),
                        keys: columns.iter().map(key).collect(),
                        prune: vec![Prune::Of(rel)],
                    })
                }
                Place::At(Distribution::Replicated) => Dist::Same,
                Place::At(_) => {
                    self.meet(rel, &[], known);
                    Dist::Merge(why("table", "it is on one shard, and the query is not"))
                }
                Place::System => Dist::Loose(why("system catalog", "each shard has its own")),
            },
            Source::Query(query) => self.derived(rel, query, occurrence.lateral, known, before),
            Source::Recursive(query) => {
                let start = self.seen.len();
                let dist = self.nested(query, &known.without(rel), &[]).result;
                match dist {
                    Dist::Same if self.seen.len() == start => Dist::Same,
                    Dist::Loose(why) => Dist::Loose(why),
                    _ => Dist::Merge(why("WITH RECURSIVE", "its steps may lead to other shards")),
                }
            }
            Source::Rows(exprs) => self.exprs(exprs.iter(), known, Dist::Same),
        }
    }

    fn derived(
        &mut self,
        rel: Rel,
        query: &'a Query,
        lateral: bool,
        known: &Known<'_>,
        before: &Dist,
    ) -> Dist {
        let start = self.seen.len();
        let outside = self.loose.take();
        let pushes = pushable(query);
        let links: Vec<Option<Col>> = match pushes {
            true => (0..query.columns.len())
                .map(|at| Some(Col { rel, at }))
                .collect(),
            false => Vec::new(),
        };
        // What is asked of its rows must not reach into it if it would change which rows it has.
        let known = match pushes {
            true => *known,
            false => known.without(rel),
        };
        let dist = self.nested(query, &known, &links).result;
        let inside = self.seen[start..].to_vec();
        let loose = self.loose;
        self.loose = outside.or(loose);
        if lateral && !inside.is_empty() {
            return match before {
                // A function of the row before it.
                Dist::Parts(parts) if self.anchored(&inside, parts) => {
                    loose.map_or(Dist::Same, Dist::Merge)
                }
                _ => Dist::Merge(why(
                    "LATERAL",
                    "it reads rows of other shards than those of the row before it",
                )),
            };
        }
        match dist {
            Dist::Parts(_) if !query.sort.is_empty() => Dist::Merge(why(
                "ORDER BY in a subquery",
                "the order of rows of several shards would be lost",
            )),
            Dist::Parts(_) if query.locks => Dist::Merge(why(
                "FOR UPDATE in a subquery",
                "it is not supported over shards",
            )),
            Dist::Parts(parts) => Dist::Parts(outputs_as(parts, rel)),
            other => other,
        }
    }
}

/// Whether rows that are asked for outside may be asked for inside.
pub(super) fn pushable(query: &Query) -> bool {
    use crate::tree::{Body, Distinct};
    if !query.limits.is_empty() {
        return false;
    }
    match &query.body {
        Body::Select(select) => {
            select.windows.is_empty()
                && !select.grouping_sets
                && !matches!(select.distinct, Distinct::On(_))
                && (!select.aggregates || !select.group.is_empty())
        }
        Body::Values(_) => false,
        Body::Set { left, right, .. } => pushable(left) && pushable(right),
    }
}

/// The outputs of a query as the columns of its occurrence.
fn outputs_as(mut parts: Parts, rel: Rel) -> Parts {
    for key in &mut parts.keys {
        *key = key
            .iter()
            .map(|col| match col.rel == OUT {
                true => Col { rel, at: col.at },
                false => *col,
            })
            .collect();
    }
    parts
}

/// The rows of two sides that are joined by what is known.
pub(super) fn inner(left: Dist, right: Dist, known: &Known<'_>) -> Dist {
    match (left, right) {
        (Dist::Merge(why), _) | (_, Dist::Merge(why)) => Dist::Merge(why),
        (Dist::Loose(why), Dist::Parts(_)) | (Dist::Parts(_), Dist::Loose(why)) => Dist::Merge(why),
        (Dist::Loose(why), _) | (_, Dist::Loose(why)) => Dist::Loose(why),
        (Dist::Same, other) | (other, Dist::Same) => other,
        (Dist::Parts(left), Dist::Parts(right)) => joined(left, right, known),
    }
}

/// Where rows of either of two sides may be.
pub(super) fn either(left: Vec<Prune>, right: Vec<Prune>) -> Vec<Prune> {
    vec![Prune::Any(vec![Prune::Both(left), Prune::Both(right)])]
}

fn joined(left: Parts, right: Parts, known: &Known<'_>) -> Dist {
    let apart = Dist::Merge(why("join", "its sides are not joined by their keys"));
    if left.group.is_none() || left.group != right.group || left.keys.len() != right.keys.len() {
        return apart;
    }
    let mut keys = Vec::new();
    for (one, two) in left.keys.iter().zip(&right.keys) {
        let reached = closure(one.iter().copied(), known);
        if reached.is_disjoint(two) {
            return apart;
        }
        keys.push(one.union(two).copied().collect());
    }
    let prune = left.prune.into_iter().chain(right.prune).collect();
    Dist::Parts(Parts {
        group: left.group,
        keys,
        prune,
    })
}
