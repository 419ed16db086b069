//! Rows that need not be brought, as they have no partner among the rows that every shard has.
//!
//! Where a column of a spread table must be equal to one of a table that is the same on every shard, and that table's
//! rows must fulfil conditions, each shard can tell by itself which of its rows count. The same holds for a query in
//! an expression that is computed for such rows alone.

use std::collections::{BTreeMap, BTreeSet};

use pg_query::NodeEnum;
use pg_query::protobuf::{
    ColumnRef, JoinExpr, JoinType, Node, RangeVar, SelectStmt, SubLink, SubLinkType,
};

use super::filter::{Owner, conjuncts};
use super::joined::has_bare;
use super::table::{all, of};
use super::{CARRIER, Puller, deparse, said, walk};
use crate::analyze::{Analysis, Dist};
use crate::catalog::RelationKind;
use crate::compose::upper::name;
use crate::placement::{Distribution, KeyType};
use crate::plan::Key;
use crate::refusal::Result;
use crate::resolve::Resolver;
use crate::tree::Place;

/// FROM and WHERE of a query, as far as names are looked for there.
#[derive(Default)]
pub(super) struct Level {
    items: Vec<Item>,
    /// What all rows that count fulfil.
    conjuncts: Vec<Node>,
    /// What is known of the rows that count of what is brought of it.
    wishes: Vec<Wish>,
}

/// A column of a carrier that must be equal to one of something else.
pub(super) struct Wish {
    pull: usize,
    column: String,
    origin: Origin,
    theirs: String,
    kind: &'static str,
}

/// Something in FROM.
struct Item {
    alias: String,
    /// Its columns and the OIDs of their types; `None` if they are not known.
    columns: Option<Vec<(String, u32)>>,
    /// The table, if it is the same on every shard and has a row for each row that counts.
    partner: Option<RangeVar>,
    /// The carrier that stands for it, and what its columns are called there.
    brought: Option<(String, BTreeMap<String, String>)>,
}

impl Level {
    /// The only item that has a column of this name.
    fn alias_of(&self, name: &str) -> Option<&str> {
        let mut found = None;
        for item in &self.items {
            let mut columns = item.columns.as_ref()?.iter();
            if columns.any(|(known, _)| known == name) && found.replace(&*item.alias).is_some() {
                return None;
            }
        }
        found
    }
}

impl Item {
    /// Of which no more is known than its name.
    fn dark(alias: String) -> Self {
        Self {
            alias,
            columns: None,
            partner: None,
            brought: None,
        }
    }
}

/// Where a column is from: which level, and which item of it.
type Origin = (usize, usize);

/// Columns that must be equal to columns of partners.
#[derive(Default)]
struct Links {
    own: Vec<Node>,
    theirs: Vec<Node>,
}

impl Puller<'_> {
    /// What is known of a level; nothing if a name may mean something that is not seen here.
    pub(super) fn known(&self, select: &SelectStmt) -> Option<Level> {
        let mut level = Level {
            items: Vec::new(),
            conjuncts: conjuncts(&select.where_clause),
            wishes: Vec::new(),
        };
        for node in &select.from_clause {
            self.item(node, true, &mut level)?;
        }
        Some(level)
    }

    /// Takes in an item of FROM; `certain` if each row that counts has a row of it.
    fn item(&self, node: &Node, certain: bool, level: &mut Level) -> Option<()> {
        let inner = node.node.as_ref()?;
        match inner {
            NodeEnum::JoinExpr(join) => {
                let renames = join.alias.is_some() || !join.using_clause.is_empty();
                if renames || join.is_natural {
                    return None;
                }
                let (left, right) = match join.jointype() {
                    JoinType::JoinInner => (certain, certain),
                    JoinType::JoinLeft => (certain, false),
                    JoinType::JoinRight => (false, certain),
                    _ => (false, false),
                };
                self.item(join.larg.as_deref()?, left, level)?;
                self.item(join.rarg.as_deref()?, right, level)?;
                if left && right {
                    level.conjuncts.extend(self.on(join));
                }
                Some(())
            }
            NodeEnum::RangeVar(range) => {
                level.items.push(self.named(range, certain)?);
                Some(())
            }
            other => {
                level.items.push(Item::dark(said::alias(other)?.to_owned()));
                Some(())
            }
        }
    }

    /// The conditions of ON with the names of tables before all columns, as far as these are certain: a name that
    /// stands alone is looked for in the two sides, and not in all of FROM.
    pub(super) fn on(&self, join: &JoinExpr) -> Vec<Node> {
        let mut sides = Level::default();
        let both = [&join.larg, &join.rarg].map(Option::as_deref);
        let known = both
            .iter()
            .all(|side| side.is_some_and(|side| self.item(side, false, &mut sides).is_some()));
        let named = |mut part: Node| {
            let mut certain = known || !has_bare(&part);
            let walked = walk::expression(&mut part, &mut |inner| {
                let NodeEnum::ColumnRef(column) = inner else {
                    return Ok(());
                };
                let bare = match said::names(column).as_slice() {
                    [Some(bare)] => (*bare).to_owned(),
                    _ => return Ok(()),
                };
                match sides.alias_of(&bare) {
                    Some(alias) => column.fields = vec![name(alias), name(&bare)],
                    None => certain = false,
                }
                Ok(())
            });
            (walked.is_ok() && certain).then_some(part)
        };
        conjuncts(&join.quals)
            .into_iter()
            .filter_map(named)
            .collect()
    }

    /// What a name in FROM stands for.
    fn named(&self, range: &RangeVar, certain: bool) -> Option<Item> {
        let alias = said::alias(&NodeEnum::RangeVar(range.clone()))?.to_owned();
        let is_cte = range.schemaname.is_empty() && self.ctes.contains(&range.relname);
        let renamed = range
            .alias
            .as_ref()
            .is_some_and(|it| !it.colnames.is_empty());
        if is_cte || renamed || range.relname.starts_with(CARRIER) {
            return Some(Item::dark(alias));
        }
        let mut resolver = self.builder.resolver(self.names);
        let (schema, relation) = resolver.locate(range).ok()?;
        let columns = relation.columns.iter();
        let columns = columns.map(|column| (column.name.clone(), column.kind.oid));
        let is_same = certain && relation.kind == RelationKind::Table && {
            let table = resolver.table(&schema, &range.relname, relation).ok()?;
            matches!(table.place, Place::At(Distribution::Replicated))
        };
        Some(Item {
            alias,
            columns: Some(columns.collect()),
            partner: is_same.then(|| range.clone()),
            brought: None,
        })
    }

    /// The last carrier stands for this item of the present level, whose columns have these names there.
    pub(super) fn stands(
        &mut self,
        alias: &str,
        columns: BTreeMap<String, String>,
        wishes: Vec<Wish>,
    ) {
        let (Some(pull), Some(last)) = (self.pulls.len().checked_sub(1), self.last()) else {
            return;
        };
        let carrier = self.pulls[pull].carrier.clone();
        let Some(level) = &mut self.levels[last] else {
            return;
        };
        let wishes = wishes.into_iter().map(|wish| Wish { pull, ..wish });
        level.wishes.extend(wishes);
        let mut named = level.items.iter_mut().filter(|item| item.alias == alias);
        if let (Some(item), None) = (named.next(), named.next()) {
            item.brought = Some((carrier, columns));
        }
    }

    fn last(&self) -> Option<usize> {
        self.levels.len().checked_sub(1)
    }

    /// Where a filter says that a column of this item of the present level is equal to one of something else, for
    /// the carrier that is to stand for it.
    pub(super) fn wishes(
        &self,
        alias: &str,
        columns: &BTreeMap<String, String>,
        owner: &Owner<'_>,
        filters: &[Node],
    ) -> Vec<Wish> {
        let mut found = Vec::new();
        let Some(last) = self.last() else {
            return found;
        };
        if !self.builder.catalog.operators("=").is_empty() {
            return found;
        }
        for filter in filters {
            let Some((own, other)) = apart(owner, filter) else {
                continue;
            };
            let is_own =
                |at: &Origin| at.0 == last && self.at(*at).is_some_and(|item| item.alias == alias);
            if let Some(here) = self.origin(last, own).filter(is_own)
                && let Some(origin) = self.origin(last, other)
                && let Some(kind) = self.kind(origin, other).and_then(simple)
                && self
                    .kind(here, own)
                    .and_then(simple)
                    .is_some_and(|it| alike(it, kind))
                && let Some(column) = last_name(own).and_then(|name| columns.get(name))
                && let Some(theirs) = last_name(other)
            {
                found.push(Wish {
                    pull: 0,
                    column: column.clone(),
                    origin,
                    theirs: theirs.to_owned(),
                    kind,
                });
            }
        }
        found
    }

    /// Tells what is brought of the present level by what else is brought: at its end, when all of it is known.
    pub(super) fn grant(&mut self) {
        let Some(Some(level)) = self.levels.last_mut() else {
            return;
        };
        for wish in std::mem::take(&mut level.wishes) {
            let item = self.at(wish.origin);
            let Some((carrier, columns)) = item.and_then(|item| item.brought.as_ref()) else {
                continue;
            };
            if let Some(theirs) = columns.get(&wish.theirs) {
                let key = Key {
                    column: wish.column,
                    carrier: carrier.clone(),
                    theirs: theirs.clone(),
                    kind: wish.kind,
                };
                let pull = &mut self.pulls[wish.pull];
                if pull.carrier != key.carrier && !pull.keys.contains(&key) {
                    pull.keys.push(key);
                }
            }
        }
    }

    /// Conditions on rows of these tables that only rows fulfil which have a partner, where all rows that count
    /// fulfil the filters.
    pub(super) fn partnered(&self, owner: &Owner<'_>, filters: &[Node]) -> Result<Vec<Node>> {
        let mut found: BTreeMap<Origin, Links> = BTreeMap::new();
        let Some(last) = self.last() else {
            return Ok(Vec::new());
        };
        if !self.builder.catalog.operators("=").is_empty() {
            return Ok(Vec::new());
        }
        for filter in filters {
            let Some((own, other)) = apart(owner, filter) else {
                continue;
            };
            if let Some((level, item)) = self.link(last, own, other)
                && let Some(group) = self.connected(level, item)
                && let Some(first) = group.first()
            {
                let links = found.entry((level, *first)).or_default();
                links.own.push(node(own));
                links.theirs.push(self.qualified((level, item), other));
            }
        }
        let conditions = found.into_iter();
        conditions
            .map(|(origin, links)| self.condition(origin, links))
            .collect()
    }

    /// Where the partner is, if two columns that must be equal are of types whose values are compared alike
    /// everywhere.
    fn link(&self, last: usize, own: &ColumnRef, other: &ColumnRef) -> Option<Origin> {
        let here = self.origin(last, own)?;
        let there = self.origin(last, other)?;
        let kinds = [(here, own), (there, other)].map(|(at, column)| self.kind(at, column));
        let [Some(one), Some(two)] = kinds else {
            return None;
        };
        let number = |oid| KeyType::of(oid).is_some_and(KeyType::is_int);
        let alike = one == two && KeyType::of(one).is_some() || number(one) && number(two);
        let partner = self.at(there)?.partner.as_ref();
        (alike && here.0 == last && partner.is_some()).then_some(there)
    }

    fn at(&self, (level, item): Origin) -> Option<&Item> {
        self.levels.get(level)?.as_ref()?.items.get(item)
    }

    fn kind(&self, origin: Origin, column: &ColumnRef) -> Option<u32> {
        let name = last_name(column)?;
        let mut columns = self.at(origin)?.columns.as_ref()?.iter();
        columns
            .find(|(known, _)| known == name)
            .map(|(_, oid)| *oid)
    }

    /// Where a column is from that is named in this level; nothing if that is not certain.
    fn origin(&self, level: usize, column: &ColumnRef) -> Option<Origin> {
        let names = said::names(column);
        for at in (0..=level).rev() {
            let mut found = Vec::new();
            for (n, item) in self.levels.get(at)?.as_ref()?.items.iter().enumerate() {
                let is_it = match names.as_slice() {
                    [Some(name)] => {
                        let mut columns = item.columns.as_ref()?.iter();
                        columns.any(|(known, _)| known == name)
                    }
                    [Some(alias), Some(_)] => item.alias == *alias,
                    _ => return None,
                };
                if is_it {
                    found.push(n);
                }
            }
            match found.as_slice() {
                [] => {}
                [one] => return Some((at, *one)),
                _ => return None,
            }
        }
        None
    }

    /// A column with the name of its item.
    fn qualified(&self, origin: Origin, column: &ColumnRef) -> Node {
        match (self.at(origin), last_name(column)) {
            (Some(item), Some(name)) => of(&item.alias, name),
            _ => node(column),
        }
    }

    /// The partners that conditions connect with this one, if these leave fewer of its rows.
    fn connected(&self, level: usize, item: usize) -> Option<BTreeSet<usize>> {
        let conditions = self.conditions(level);
        let mut group = BTreeSet::from([item]);
        loop {
            let known = group.len();
            for (_, items) in &conditions {
                if !group.is_disjoint(items) {
                    group.extend(items);
                }
            }
            if group.len() == known {
                break;
            }
        }
        let mut conditions = conditions.iter();
        let filters = |(part, items): &(Node, BTreeSet<usize>)| {
            equal(part).is_none() && !group.is_disjoint(items)
        };
        conditions.any(filters).then_some(group)
    }

    /// The conditions of a level that are about partners alone, and about which.
    fn conditions(&self, level: usize) -> Vec<(Node, BTreeSet<usize>)> {
        let Some(Some(known)) = self.levels.get(level) else {
            return Vec::new();
        };
        let owner = self.owner_of(known);
        let parts = known.conjuncts.iter();
        let harmless = |part: &&Node| owner.owns(part) || self.is_membership(part);
        let about = |part: &Node| Some((part.clone(), self.about(level, part)?));
        parts.filter(harmless).filter_map(about).collect()
    }

    fn owner_of<'l>(&'l self, level: &'l Level) -> Owner<'l> {
        let tables = level.items.iter().filter_map(|item| {
            let columns = item.columns.as_ref()?.iter();
            Some((
                item.alias.as_str(),
                columns.map(|(name, _)| name.as_str()).collect(),
            ))
        });
        Owner {
            catalog: self.builder.catalog,
            tables: tables.collect(),
            merged: &self.said.using,
        }
    }

    /// Which partners of its level a condition is about, if it is about nothing else.
    fn about(&self, level: usize, part: &Node) -> Option<BTreeSet<usize>> {
        let mut items = Some(BTreeSet::new());
        let walked = walk::expression(&mut part.clone(), &mut |inner| {
            if let NodeEnum::ColumnRef(column) = inner {
                let origin = self.origin(level, column);
                let partner = origin.filter(|origin| {
                    let item = self.at(*origin);
                    origin.0 == level && item.is_some_and(|item| item.partner.is_some())
                });
                items = match (partner, items.take()) {
                    (Some((_, item)), Some(mut items)) => {
                        items.insert(item);
                        Some(items)
                    }
                    _ => None,
                };
            }
            Ok(())
        });
        walked.ok()?;
        items.filter(|items| !items.is_empty())
    }

    /// Whether it asks if a column is in a query that gives the same everywhere, and raises no error.
    fn is_membership(&self, part: &Node) -> bool {
        let Some((sub, select)) = membership(part) else {
            return false;
        };
        let test = sub.testexpr.as_deref().and_then(|test| test.node.as_ref());
        matches!(test, Some(NodeEnum::ColumnRef(_))) && self.is_same(select)
    }

    /// Whether a query picks columns of tables that are the same on every shard, by harmless conditions.
    fn is_same(&self, select: &SelectStmt) -> bool {
        if self.names_cte(select) || !said::is_plain(select) {
            return false;
        }
        let Some(level) = self.known(select) else {
            return false;
        };
        let owner = self.owner_of(&level);
        let mut parts = level.conjuncts.iter();
        parts.all(|part| owner.owns(part) || self.is_membership(part))
            && self.gives_same(select).unwrap_or(false)
    }

    fn gives_same(&self, select: &SelectStmt) -> Result<bool> {
        let mut resolver = Resolver::new(self.builder.catalog, self.builder.placement, self.names);
        let query = resolver.query(select)?;
        let mut analysis = Analysis::new(&resolver.relations);
        let found = analysis.query(&query);
        analysis.complete(None)?;
        Ok(analysis.seen.is_empty() && found.result == Dist::Same && !resolver.rows)
    }

    /// That columns are among those of partners.
    fn condition(&self, (level, item): Origin, links: Links) -> Result<Node> {
        let mut select = deparse::select("SELECT")?;
        let group = self.connected(level, item).unwrap_or_default();
        for at in &group {
            let item = self.at((level, *at));
            let partner = item.and_then(|item| item.partner.clone());
            select.from_clause.extend(partner.map(|range| Node {
                node: Some(NodeEnum::RangeVar(range)),
            }));
        }
        let conditions = self.conditions(level).into_iter();
        let conditions = conditions.filter(|(_, items)| items.is_subset(&group));
        select.where_clause = all(conditions.map(|(part, _)| part).collect())?;
        let targets = links.theirs.into_iter();
        select.target_list = targets.map(|column| deparse::target(column, "")).collect();
        let mut own = links.own;
        let several = own.len() > 1;
        let mut made = deparse::snippet(match several {
            true => "(1, 1) IN (SELECT 1, 1)",
            false => "1 IN (SELECT 1)",
        })?;
        if let Some(NodeEnum::SubLink(sub)) = &mut made.node {
            match sub.testexpr.as_deref_mut() {
                Some(Node {
                    node: Some(NodeEnum::RowExpr(row)),
                }) => row.args = own,
                Some(test) => test.clone_from(&own.remove(0)),
                None => {}
            }
            sub.subselect = Some(Box::new(Node {
                node: Some(NodeEnum::SelectStmt(Box::new(select))),
            }));
        }
        Ok(made)
    }
}

/// The name of a type whose values are written in digits and dashes, and equal if these are.
fn simple(oid: u32) -> Option<&'static str> {
    match oid {
        20 => Some("int8"),
        21 => Some("int2"),
        23 => Some("int4"),
        2950 => Some("uuid"),
        _ => None,
    }
}

/// Whether values of two such types can be compared.
fn alike(one: &str, two: &str) -> bool {
    (one == "uuid") == (two == "uuid")
}

/// `x IN (SELECT …)`.
pub(super) fn membership(part: &Node) -> Option<(&SubLink, &SelectStmt)> {
    let Some(NodeEnum::SubLink(sub)) = &part.node else {
        return None;
    };
    let is_in = sub.sub_link_type() == SubLinkType::AnySublink && sub.oper_name.is_empty();
    match sub.subselect.as_deref().and_then(|node| node.node.as_ref()) {
        Some(NodeEnum::SelectStmt(select)) if is_in => Some((sub, select)),
        _ => None,
    }
}

/// Two columns that must be equal.
pub(super) fn equal(part: &Node) -> Option<(&ColumnRef, &ColumnRef)> {
    let Some(NodeEnum::AExpr(expr)) = &part.node else {
        return None;
    };
    let is_equal = match expr.name.as_slice() {
        [
            Node {
                node: Some(NodeEnum::String(name)),
            },
        ] => name.sval == "=" && expr.kind() == pg_query::protobuf::AExprKind::AexprOp,
        _ => false,
    };
    let sides = [&expr.lexpr, &expr.rexpr];
    match sides.map(|side| side.as_deref().and_then(|node| node.node.as_ref())) {
        [
            Some(NodeEnum::ColumnRef(one)),
            Some(NodeEnum::ColumnRef(two)),
        ] if is_equal => Some((one, two)),
        _ => None,
    }
}

/// A column of these tables, and one of something else, that a condition has equal.
fn apart<'n>(owner: &Owner<'_>, filter: &'n Node) -> Option<(&'n ColumnRef, &'n ColumnRef)> {
    let (one, two) = equal(filter)?;
    match (is_own(owner, one), is_own(owner, two)) {
        (true, false) => Some((one, two)),
        (false, true) => Some((two, one)),
        _ => None,
    }
}

/// A column's name without that of its table.
fn last_name(column: &ColumnRef) -> Option<&str> {
    said::names(column).last().copied().flatten()
}

fn is_own(owner: &Owner<'_>, column: &ColumnRef) -> bool {
    owner.column(&NodeEnum::ColumnRef(column.clone()))
}

fn node(column: &ColumnRef) -> Node {
    Node {
        node: Some(NodeEnum::ColumnRef(column.clone())),
    }
}
