//! How the rows of each level of a statement are spread over the shards.
//!
//! Each level is one of: the same on every shard; parts that are disjoint, by columns that are equal to the
//! key; or what only a merge can tell. What is not proven by a rule is the last.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::placement::{Distribution, Group};
use crate::refusal::{Refusal, Result};
use crate::tree::{Body, Col, Expr, Occurrence, Place, Query, Rel, Source, Sub, Test};

pub(crate) mod fact;
mod join;
mod level;

pub(crate) use fact::Known;
use fact::{Candidate, Facts, candidates, closure};

/// Why something needs a merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Why {
    pub(crate) part: &'static str,
    pub(crate) reason: &'static str,
}

pub(crate) const fn why(part: &'static str, reason: &'static str) -> Why {
    Why { part, reason }
}

/// Which shards may have rows of a level: by the keys of occurrences that each row comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Prune {
    /// Those on which this may have rows.
    Of(Rel),
    /// Those of all.
    Both(Vec<Self>),
    /// Those of any.
    Any(Vec<Self>),
}

/// Disjoint parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parts {
    /// None once rows of several groups are together.
    pub(crate) group: Option<Group>,
    /// For each column of the key, the columns that are equal to it and never NULL.
    pub(crate) keys: Vec<BTreeSet<Col>>,
    /// All of them hold.
    pub(crate) prune: Vec<Prune>,
}

/// How the rows of a level are spread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Dist {
    /// The same on every shard.
    Same,
    /// As good on one shard as on another, but it may come out differently.
    Loose(Why),
    Parts(Parts),
    Merge(Why),
}

/// The relation whose columns are the outputs of the query that is looked at.
pub(crate) const OUT: Rel = Rel(usize::MAX);

/// What is found of a query: its rows before they are grouped, before LIMIT, and in the end.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) rows: Dist,
    pub(crate) core: Dist,
    pub(crate) result: Dist,
}

/// What is known of the key of an occurrence.
#[derive(Debug, Clone)]
pub(crate) struct Reach {
    /// For each column of the key, the columns that are equal to it.
    pub(crate) columns: Vec<BTreeSet<Col>>,
    /// For each column of the key, lists of values, of which any is enough.
    pub(crate) values: Vec<Vec<Arc<[Candidate]>>>,
}

pub(crate) struct Analysis<'a> {
    pub(crate) facts: Facts<'a>,
    /// The occurrences of tables that are sharded or on one shard, in the order in which they were met.
    pub(crate) seen: Vec<Rel>,
    pub(crate) reach: HashMap<Rel, Reach>,
    /// What may come out differently on each shard, of all that was met.
    loose: Option<Why>,
}

impl<'a> Analysis<'a> {
    pub(crate) fn new(relations: &'a [Occurrence]) -> Self {
        Self {
            facts: Facts::new(relations),
            seen: Vec::new(),
            reach: HashMap::new(),
            loose: None,
        }
    }

    /// Makes sure that no occurrence of a sharded table was passed over, but for one that is only written to.
    pub(crate) fn complete(&self, written: Option<Rel>) -> Result<()> {
        let relations = self.facts.relations().iter().enumerate();
        for (at, relation) in relations {
            let rel = Rel(at);
            let Source::Table(table) = &relation.source else {
                continue;
            };
            let spread = match &table.place {
                Place::Key { .. } => true,
                Place::At(distribution) => *distribution != Distribution::Replicated,
                Place::System => false,
            };
            if spread && written != Some(rel) && !self.seen.contains(&rel) {
                return Err(Refusal::new(
                    &table.name,
                    "it stands where tables are not expected",
                ));
            }
        }
        Ok(())
    }

    fn occurrence(&self, rel: Rel) -> &'a Occurrence {
        let relations: &'a [Occurrence] = self.facts.relations();
        &relations[rel.0]
    }

    /// Looks at a query.
    pub(crate) fn query(&mut self, query: &'a Query) -> Found {
        self.nested(query, &Known::NOTHING, &[])
    }

    /// Looks at a query within others. What is known further out holds within, and the columns to which its outputs
    /// are equal, if rows with other values do not count.
    fn nested(&mut self, query: &'a Query, known: &Known<'_>, links: &[Option<Col>]) -> Found {
        let links = if join::pushable(query) { links } else { &[] };
        let (mut rows, mut core) = match &query.body {
            Body::Select(select) => self.level(select, query, known, links),
            Body::Values(exprs) => {
                let dist = self.exprs(exprs.iter(), known, Dist::Same);
                (dist.clone(), dist)
            }
            Body::Set {
                kind,
                all,
                left,
                right,
            } => {
                let left = self.nested(left, known, links).result;
                let right = self.nested(right, known, links).result;
                let dist = level::set(*kind, *all, left, right, query);
                (dist.clone(), dist)
            }
        };
        let limits = self.exprs(query.limits.iter(), known, Dist::Same);
        // How many rows are wanted must be known wherever they are cut off.
        if let Dist::Merge(why) = limits {
            rows = Dist::Merge(why);
            core = Dist::Merge(why);
        }
        let cut = why("LIMIT", "which rows it leaves is only known of all of them");
        let result = match core.clone() {
            core if query.limits.is_empty() => core,
            Dist::Same => Dist::Loose(cut),
            Dist::Parts(_) => Dist::Merge(cut),
            other => other,
        };
        for dist in [&rows, &result] {
            if let Dist::Loose(why) = dist {
                self.loose = Some(*why);
            }
        }
        Found { rows, core, result }
    }

    /// What becomes of rows when expressions with queries in them are computed of each.
    fn exprs<'e>(
        &mut self,
        exprs: impl Iterator<Item = &'e Expr>,
        known: &Known<'_>,
        mut rows: Dist,
    ) -> Dist
    where
        'a: 'e,
        'e: 'a,
    {
        for expr in exprs {
            for sub in expr.subs() {
                rows = self.sub(sub, known, rows, false);
            }
        }
        rows
    }

    /// As [`Self::exprs`], of conditions that must all hold.
    fn conditions(&mut self, parts: &'a [Expr], known: &Known<'_>, mut rows: Dist) -> Dist {
        for part in parts {
            for sub in part.subs() {
                let itself = matches!(part, Expr::Sub(outer) if std::ptr::eq(outer, sub));
                rows = self.sub(sub, known, rows, itself);
            }
        }
        rows
    }

    fn sub(&mut self, sub: &'a Sub, known: &Known<'_>, rows: Dist, condition: bool) -> Dist {
        let start = self.seen.len();
        let before = self.loose.take();
        // Where only TRUE counts, rows that are not equal do not.
        let links: Vec<Option<Col>> = match (condition, sub.test) {
            (true, Test::In) => sub.left.iter().map(column).collect(),
            _ => Vec::new(),
        };
        let found = self.nested(&sub.query, known, &links);
        let inner = match is_one_number(sub, &found) {
            true => {
                self.loose = None;
                Dist::Same
            }
            false => found.result,
        };
        let loose = self.loose;
        self.loose = before.or(loose);
        let inside = self.seen[start..].to_vec();
        let anchors = |parts| !inside.is_empty() && self.anchored(&inside, parts);
        match (inner, &rows) {
            (_, Dist::Merge(_)) => rows,
            (Dist::Same, _) => rows,
            // Rows of several shards would each be held against another choice.
            (_, Dist::Parts(parts)) if anchors(parts) => loose.map_or(rows, Dist::Merge),
            (Dist::Parts(inner), Dist::Parts(parts)) if self.by_key(sub, &inner, parts) => rows,
            (Dist::Loose(why), Dist::Parts(_)) => Dist::Merge(why),
            (Dist::Loose(why), _) => Dist::Loose(why),
            (Dist::Merge(why), _) => Dist::Merge(why),
            (Dist::Parts(_), _) => Dist::Merge(why(
                "subquery",
                "it reads rows of other shards than those of the row that it is for",
            )),
        }
    }

    /// Whether all sharded tables of a query are bound to the key of the row that it is for.
    fn anchored(&self, inside: &[Rel], parts: &Parts) -> bool {
        inside.iter().all(|rel| {
            let Source::Table(table) = &self.occurrence(*rel).source else {
                return false;
            };
            let Place::Key { group, .. } = table.place else {
                return false;
            };
            let reach = &self.reach[rel];
            parts.group == Some(group)
                && parts.keys.len() == reach.columns.len()
                && reach
                    .columns
                    .iter()
                    .zip(&parts.keys)
                    .all(|(columns, key)| !columns.is_disjoint(key))
        })
    }

    /// Whether rows are looked for by their key among rows that are spread by theirs: the key is never NULL,
    /// so that rows of other shards change nothing.
    fn by_key(&self, sub: &Sub, inner: &Parts, parts: &Parts) -> bool {
        let asked = |key: &BTreeSet<Col>, inner: &BTreeSet<Col>| {
            inner.iter().any(|out| {
                let left = sub.left.get(out.at).and_then(column);
                left.is_some_and(|left| key.contains(&left))
            })
        };
        matches!(sub.test, Test::In | Test::NotIn)
            && inner.group.is_some()
            && inner.group == parts.group
            && inner.keys.len() == parts.keys.len()
            && parts
                .keys
                .iter()
                .zip(&inner.keys)
                .all(|(key, inner)| asked(key, inner))
    }

    /// Notes an occurrence of a table, and what is known of its key.
    pub(crate) fn meet(&mut self, rel: Rel, columns: &[usize], known: &Known<'_>) {
        self.seen.push(rel);
        let of = |at: &usize| closure([Col { rel, at: *at }], known);
        let columns: Vec<BTreeSet<Col>> = columns.iter().map(of).collect();
        let values = columns.iter().map(|columns| candidates(columns, known));
        let reach = Reach {
            values: values.collect(),
            columns,
        };
        self.reach.insert(rel, reach);
    }
}

/// Whether a query gives a number of which it makes no difference how it is written.
fn is_one_number(sub: &Sub, found: &Found) -> bool {
    let picks = match &sub.query.body {
        Body::Select(select) => select.picks && !select.loose,
        _ => false,
    };
    picks && sub.compared && sub.query.limits.is_empty() && found.rows == Dist::Same
}

pub(crate) fn column(expr: &Expr) -> Option<Col> {
    match expr {
        Expr::Col(col) => Some(*col),
        _ => None,
    }
}
