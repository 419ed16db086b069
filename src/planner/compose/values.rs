//! INSERT.

use pg_query::NodeEnum;
use pg_query::protobuf::{InsertStmt, Node, OverridingKind, SelectStmt};

use super::conflict::{arbiter, nothing, ordered};
use super::rows::{Rows, split};
use super::{Builder, Noted, kinds_agree, pruned, refused, replicated};
use crate::analyze::fact::Candidate;
use crate::analyze::{Analysis, Dist, Known, OUT, Parts};
use crate::placement::{Distribution, Group, KeyType};
use crate::plan::{Plan, Split};
use crate::refusal::{Refusal, Result};
use crate::resolve::{Names, Resolver, Target, computed, inner};
use crate::tree::{Body, Col, Distinct, Expr, From, Place, Query, Source};

/// More rows are not sent one by one.
const SINGLY_MAX: usize = 1000;

/// Refuses `OVERRIDING USER VALUE`, by which each server stores numbers of its own for identity columns.
pub(super) fn overridden(kind: OverridingKind, target: &Target<'_>) -> Result<()> {
    let is_one = matches!(target.table.place, Place::At(Distribution::OneShard(_)));
    match kind == OverridingKind::OverridingUserValue && !is_one {
        true => {
            let reason = "each shard would give rows numbers of its own";
            Err(Refusal::new("OVERRIDING USER VALUE", reason))
        }
        false => Ok(()),
    }
}

/// A sharded table's key among the columns of an INSERT.
pub(super) struct Key {
    pub(super) group: Group,
    pub(super) kinds: Vec<KeyType>,
    pub(super) modifiers: Vec<i32>,
    /// Its places among the columns that are given.
    pub(super) places: Vec<usize>,
}

impl Builder<'_> {
    pub(super) fn insert(&mut self, insert: &InsertStmt, names: &Names) -> Result<Plan> {
        let mut resolver = self.resolver(names);
        let plan = self.inserted(&mut resolver, insert);
        let reads = replicated(&resolver.relations);
        let noted = Noted::of(&mut resolver);
        self.note(noted);
        self.reads = reads;
        plan
    }

    fn inserted<'r>(&self, resolver: &mut Resolver<'r>, insert: &'r InsertStmt) -> Result<Plan> {
        if let Some(with) = &insert.with_clause {
            resolver.with_clause(with)?;
        }
        let (target, space) = resolver.target(&insert.relation)?;
        let select = match insert.select_stmt.as_deref().map(inner).transpose()? {
            Some(NodeEnum::SelectStmt(select)) => Some(&**select),
            Some(_) => return Err(Refusal::new("INSERT", "of an unknown form")),
            None => None,
        };
        let query = match select {
            Some(select) if !is_values(select) => Some(resolver.query(select)?),
            _ => None,
        };
        if let Some(query) = &query
            && insert.on_conflict_clause.is_some()
            && !comes_in_order(query, resolver)
        {
            // Of rows that are in each other's way, the first is stored.
            let part = "INSERT … SELECT … ON CONFLICT";
            resolver.traits.order.get_or_insert(part);
        }
        overridden(insert.r#override(), &target)?;
        let width = match &query {
            Some(query) => query.columns.len(),
            None => select.map_or(0, width),
        };
        let columns = columns(&insert.cols, &target, width)?;
        for column in &target.relation.columns {
            if !columns.contains(&column.name.as_str()) {
                resolver.default(column)?;
            }
        }
        let rest = resolver.conflict_and_returning(insert, &target, space)?;
        let key = key(&target, &columns);
        if let Some(conflict) = &insert.on_conflict_clause {
            arbiter(conflict, &target)?;
        }
        match (select, query) {
            (Some(select), Some(query)) => {
                let asked = (insert, select, &query);
                self.selected(resolver, &target, key, asked, rest)
            }
            (None, Some(_)) => Err(Refusal::new("INSERT", "of an unknown form")),
            (Some(select), None) => {
                let rows = Rows::read(resolver, &target, &columns, select, key.as_ref().ok())?;
                self.values(resolver, insert, &target, key, rows, rest)
            }
            (None, None) => self.values(resolver, insert, &target, key, Rows::default(), rest),
        }
    }

    fn values(
        &self,
        resolver: &Resolver<'_>,
        insert: &InsertStmt,
        target: &Target<'_>,
        key: Result<Key>,
        rows: Rows,
        mut rest: Vec<Expr>,
    ) -> Result<Plan> {
        let traits = &resolver.traits;
        self.anywhere(traits)?;
        rest.extend(rows.exprs);
        let mut apart = traits.clone();
        let plain = rest.iter().all(|expr| expr.subs().is_empty());
        if plain {
            // Each row has a value of chance of its own, wherever it is stored. One of a clock would not come behind those of
            // the rows before it.
            apart.drawn = None;
        }
        let query = computed(rest);
        let mut analysis = Analysis::new(&resolver.relations);
        let dist = analysis.query(&query).rows;
        analysis.complete(Some(target.rel))?;
        match &target.table.place {
            Place::At(Distribution::Replicated) => {
                return self.everywhere(&analysis, traits, &dist, false);
            }
            Place::At(Distribution::OneShard(_)) => {
                analysis.meet(target.rel, &[], &Known::NOTHING);
                return self.pinned(&analysis, traits, Err(only_there()));
            }
            _ => {}
        }
        let key = key?;
        if rows.nodes.is_empty() {
            return Err(Refusal::new("INSERT", "a row has no key"));
        }
        if let Dist::Merge(why) = dist {
            return Err(refused(why));
        }
        if let Some(part) = &traits.fixed {
            return Err(Refusal::new(
                part,
                "it acts on one server, which may be another than that of the rows",
            ));
        }
        let whole = match (self.several(&apart), &dist) {
            (Err(refusal), _) => Some(refusal),
            (Ok(()), Dist::Loose(why)) => Some(refused(*why)),
            (Ok(()), _) => ordered(insert).err(),
        };
        // One after the other, nothing of them reads what the others have stored but to see that it is there.
        let loose = matches!(dist, Dist::Loose(_)) || self.several(&apart).is_err();
        let singly = whole.is_some() && plain && !loose && nothing(insert);
        let singly = singly && rows.nodes.len() <= SINGLY_MAX;
        let whole = whole.filter(|_| !singly);
        let texts = split(insert, &rows.nodes)?;
        Ok(Plan::Insert(Box::new(Split {
            group: key.group,
            kinds: key.kinds,
            modifiers: key.modifiers,
            keys: rows.keys,
            head: texts.head,
            rows: texts.rows,
            tail: texts.tail,
            whole,
            singly,
        })))
    }

    /// `INSERT … SELECT`: each shard's rows stay on it, or they are read first and then dealt out.
    fn selected(
        &self,
        resolver: &Resolver<'_>,
        target: &Target<'_>,
        key: Result<Key>,
        (insert, select, query): (&InsertStmt, &SelectStmt, &Query),
        rest: Vec<Expr>,
    ) -> Result<Plan> {
        let traits = &resolver.traits;
        self.anywhere(traits)?;
        kinds_agree(&resolver.relations)?;
        let mut analysis = Analysis::new(&resolver.relations);
        let found = analysis.query(query);
        let plain = rest.iter().all(|expr| expr.subs().is_empty());
        let computed = computed(rest);
        let rest = analysis.query(&computed).rows;
        analysis.complete(Some(target.rel))?;
        match rest {
            Dist::Same => {}
            Dist::Merge(why) | Dist::Loose(why) => return Err(refused(why)),
            Dist::Parts(_) => {
                return Err(Refusal::new("INSERT", "it is not supported over shards"));
            }
        }
        match &target.table.place {
            Place::At(Distribution::Replicated) => {
                return self.everywhere(&analysis, traits, &found.result, false);
            }
            Place::At(Distribution::OneShard(_)) => {
                analysis.meet(target.rel, &[], &Known::NOTHING);
                return self.pinned(&analysis, traits, Err(only_there()));
            }
            _ => {}
        }
        let key = key?;
        let stay = match &found.core {
            Dist::Parts(parts) if parts.group == Some(key.group) => stays(&key, parts, query),
            _ => false,
        };
        let dealt = |key| self.dealt(resolver, insert, select, (key, query, plain));
        if !stay {
            return dealt(key);
        }
        let several = match &found.result {
            Dist::Parts(parts) => self.several(traits).map(|()| Plan::Pushed {
                prune: pruned(&analysis, parts),
                writes: true,
            }),
            Dist::Merge(why) | Dist::Loose(why) => {
                dealt(key).map_err(|refusal| match refusal.code {
                    "0A000" => refused(*why),
                    _ => refusal,
                })
            }
            Dist::Same => Err(Refusal::new(
                "INSERT … SELECT",
                "it is not supported over shards",
            )),
        };
        self.pinned(&analysis, traits, several)
    }
}

/// Whether the key of each row that is found is the key of the row that is made of it.
fn stays(key: &Key, parts: &Parts, query: &Query) -> bool {
    key.places.iter().enumerate().all(|(at, place)| {
        let kind = query
            .columns
            .get(*place)
            .and_then(|column| column.kind.key());
        let same = kind.is_some_and(|kind| keeps(kind, key.kinds[at], key.modifiers[at]));
        let out = Col {
            rel: OUT,
            at: *place,
        };
        same && parts
            .keys
            .get(at)
            .is_some_and(|columns| columns.contains(&out))
    })
}

/// Whether each value of a type stays what it is in a column of a key.
pub(super) fn keeps(kind: KeyType, column: KeyType, modifier: i32) -> bool {
    kind == column && modifier < 0 || kind.is_int() && column.is_int()
}

/// Whether the rows of a query come in the order in which an expression gives them, or there is but one.
fn comes_in_order(query: &Query, resolver: &Resolver<'_>) -> bool {
    let Body::Select(select) = &query.body else {
        return false;
    };
    let given = match select.from.as_slice() {
        [] => true,
        [From::Rel(rel)] => matches!(resolver.relations[rel.0].source, Source::Rows(_)),
        _ => false,
    };
    let is_plain = !select.aggregates && matches!(select.distinct, Distinct::No);
    given && is_plain && select.filter.iter().all(|part| part.subs().is_empty())
}

fn only_there() -> Refusal {
    Refusal::new(
        "INSERT",
        "its table is on one shard, and what it reads is not",
    )
}

fn is_values(select: &SelectStmt) -> bool {
    !select.values_lists.is_empty()
        && select.sort_clause.is_empty()
        && select.limit_count.is_none()
        && select.limit_offset.is_none()
        && select.with_clause.is_none()
}

fn width(select: &SelectStmt) -> usize {
    match select
        .values_lists
        .first()
        .and_then(|list| list.node.as_ref())
    {
        Some(NodeEnum::List(list)) => list.items.len(),
        _ => 0,
    }
}

/// The columns that are given, in order.
pub(super) fn columns<'t>(
    given: &'t [Node],
    target: &Target<'t>,
    width: usize,
) -> Result<Vec<&'t str>> {
    let all = target
        .relation
        .columns
        .iter()
        .map(|column| column.name.as_str());
    if given.is_empty() {
        return Ok(all.take(width).collect());
    }
    let mut found = Vec::new();
    for node in given {
        match inner(node)? {
            NodeEnum::ResTarget(column) if column.indirection.is_empty() => {
                if target.relation.column(&column.name).is_none() {
                    return Err(Refusal::new(&column.name, "there is no such column").with("42703"));
                }
                found.push(column.name.as_str());
            }
            _ => {
                return Err(Refusal::new(
                    "INSERT",
                    "parts of columns are not supported over shards",
                ));
            }
        }
    }
    Ok(found)
}

pub(super) fn key(target: &Target<'_>, columns: &[&str]) -> Result<Key> {
    let Place::Key {
        group,
        columns: key,
        kinds,
        ..
    } = &target.table.place
    else {
        return Err(Refusal::new("INSERT", "its table is not sharded"));
    };
    let mut places = Vec::new();
    let mut modifiers = Vec::new();
    for at in key {
        let column = &target.relation.columns[*at];
        let place = columns.iter().position(|name| *name == column.name);
        places.push(place.ok_or_else(|| {
            let reason = format!("the key {} is not given", column.name);
            Refusal::new("INSERT", reason).hint("Name the column, and give it a value.")
        })?);
        modifiers.push(column.modifier);
    }
    Ok(Key {
        group: *group,
        kinds: kinds.clone(),
        modifiers,
        places,
    })
}

pub(super) fn candidate(
    resolver: &mut Resolver<'_>,
    node: &NodeEnum,
    expr: &Expr,
    kind: KeyType,
    oid: u32,
) -> Result<Candidate> {
    let unclear = || {
        Refusal::new(
            "INSERT",
            "the key of a row is neither a literal nor a parameter",
        )
        .hint("Give the key as a value; one of pgherd.unique_id() can be selected first.")
    };
    match (expr, node) {
        (Expr::Const(constant), _) => {
            let known = crate::resolve::literal::value(constant, kind).ok_or_else(unclear)?;
            let null = || Refusal::new("INSERT", "the key of a row is NULL").with("23502");
            let is_null = matches!(constant, crate::tree::Constant::Null);
            match known {
                Some(value) => Ok(Candidate::Value(value)),
                None if is_null => Err(null()),
                None => Err(unclear()),
            }
        }
        (Expr::Param(number, None), NodeEnum::ParamRef(param)) => {
            resolver.parameter(param.number, oid, false)?;
            Ok(Candidate::Param {
                number: *number,
                column: kind,
                cast: false,
            })
        }
        (Expr::Param(number, Some(cast)), _) => {
            let cast = KeyType::of(*cast).ok_or_else(unclear)?;
            if cast != kind && !(cast.is_int() && kind.is_int()) {
                return Err(unclear());
            }
            Ok(Candidate::Param {
                number: *number,
                column: kind,
                cast: true,
            })
        }
        _ => Err(unclear()),
    }
}

/// The expressions of a row of VALUES.
pub(super) fn items(list: &Node) -> Result<&[Node]> {
    match inner(list)? {
        NodeEnum::List(list) => Ok(&list.items),
        _ => Err(Refusal::new("VALUES", "it is no list")),
    }
}
