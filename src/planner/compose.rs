//! From a text to its plan.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pg_query::NodeEnum;
use pg_query::protobuf::{Node, ParseResult, SelectStmt};

use crate::analyze::{Analysis, Dist, Found, Parts, Prune as Pruned};
use crate::catalog::Catalog;
use crate::placement::{Distribution, KeyType, Placement, Shard};
use crate::plan::{CopyOut, Pin, Pins, Plan, Prune, Statement, narrowed};
use crate::refusal::{Refusal, Result};
use crate::resolve::{Moment, Names, Resolver, Uses};
use crate::tree::{Occurrence, Place, Query, Source, Table, Traits};

mod combine;
mod conflict;
mod copy;
mod created;
mod dealt;
mod definition;
mod deparse;
mod drawn;
mod matched;
mod merge;
mod moment;
mod moved;
mod pull;
mod renamed;
mod risk;
mod rows;
mod schema;
mod sorted;
mod stepped;
mod upper;
mod values;
mod within;
mod write;

/// The longest text that is planned.
const LONGEST: usize = 1 << 20;

/// Plans one statement. Its strings are read with `standard_conforming_strings` on.
pub fn plan(text: &str, names: &Names, catalog: &Catalog, placement: &Arc<Placement>) -> Statement {
    let builder = |text| {
        let mut builder = Builder::of(text, catalog, placement);
        builder.hinted = names.hint.is_some();
        builder
    };
    let is_refused = |statement: &Statement| {
        let timed = statement.moment.as_deref().map(|moment| &moment.plan);
        [Some(&statement.plan), timed]
            .into_iter()
            .flatten()
            .all(|plan| matches!(plan, Plan::Refused(_)))
    };
    let statement = planned(builder(text), names);
    if !is_refused(&statement) {
        return statement;
    }
    let parsed = parse(text).ok();
    let node = parsed.as_ref().and_then(|node| node.node.as_ref());
    let drawn = node.and_then(|node| drawn::drawn(&builder(text), node, names));
    let Some(drawn) = drawn else {
        return statement;
    };
    let mut other = planned(builder(&drawn), names);
    if is_refused(&other) {
        return statement;
    }
    // What is wrong with it is to be said of what the client has written.
    let timed = other.moment.as_deref_mut().map(|moment| &mut moment.plan);
    for plan in [Some(&mut other.plan), timed].into_iter().flatten() {
        if let Plan::Dealt(dealt) = plan {
            text.clone_into(&mut dealt.deal.whole);
        }
    }
    other
}

/// Plans what a builder has.
fn planned(mut builder: Builder<'_>, names: &Names) -> Statement {
    let (text, catalog, placement) = (builder.text, builder.catalog, builder.placement);
    let parsed = parse(text);
    let attempt = |builder: &mut Builder<'_>| {
        builder.statement(parsed.as_ref().map_err(Clone::clone)?, names)
    };
    let mut plan = attempt(&mut builder);
    let mut moment = moment::moment(&builder, names);
    if moment.is_none() && !builder.moments.is_empty() {
        // Then it is asked for on one server only, behind the rows.
        builder.late = true;
        plan = attempt(&mut builder);
    }
    let narrow = names.hint.as_ref();
    let narrow = narrow.map(|hint| hint.shard(catalog, placement));
    if let Some(Ok(only)) = &narrow {
        plan = plan.map(|plan| narrowed(plan, *only));
        if let Some(moment) = &mut moment {
            let plan = std::mem::replace(&mut moment.plan, Plan::Session);
            moment.plan = narrowed(plan, *only);
        }
    }
    let narrow = match narrow.transpose() {
        Ok(narrow) => narrow,
        Err(refusal) => {
            // What is of the session may get it out of this.
            plan = plan.and_then(|plan| match plan {
                Plan::Session => Ok(plan),
                _ => Err(refusal),
            });
            moment = None;
            None
        }
    };
    Statement {
        narrow,
        plan: plan.unwrap_or_else(Plan::Refused),
        placement: Arc::clone(placement),
        parameters: inferred(&builder.uses),
        arrays: arrays(&builder),
        moment: moment.map(Box::new),
        locks: builder.locks,
        reads: builder.reads,
        open: builder.open,
        copied: builder.copied.map(Box::new),
    }
}

fn parse(text: &str) -> Result<Node> {
    if text.len() > LONGEST {
        return Err(Refusal::new("statement", "it is too long to be planned"));
    }
    let parsed = pg_query::parse(text, 0).map_err(|error| match error {
        // The parser has less room than a server's, which may take it.
        pg_query::Error::Parse(text)
            if text.contains("stack depth limit exceeded") || text.contains("memory exhausted") =>
        {
            Refusal::new("statement", text)
        }
        pg_query::Error::Parse(text) => Refusal::new("statement", text).with("42601"),
        // The decoder bounds how deep it goes, and with that how deep we do.
        pg_query::Error::Decode(_) => {
            Refusal::new("statement", "it is nested too deeply to be planned")
                .hint("Write a long chain of OR as IN, and give subqueries fewer levels.")
        }
        other => Refusal::new("statement", other.to_string()),
    })?;
    let ParseResult { stmts, .. } = parsed.protobuf;
    let mut stmts = stmts.into_iter();
    match (stmts.next(), stmts.next()) {
        (Some(raw), None) => {
            let node = raw
                .stmt
                .ok_or_else(|| Refusal::new("statement", "it is empty"));
            node.map(|node| *node)
        }
        _ => Err(Refusal::new("statement", "there must be exactly one")),
    }
}

/// The type of each parameter, if all its uses agree.
fn inferred(uses: &Uses) -> Vec<(u32, bool)> {
    let most = uses.keys().next_back().copied().unwrap_or_default();
    (1..=most.min(u32::from(u16::MAX)))
        .map(|number| match uses.get(&number) {
            Some(kinds) if kinds.len() == 1 => kinds.first().copied().unwrap_or_default(),
            _ => (0, false),
        })
        .collect()
}

/// The parameters that have to be arrays of what is no row, and whether a cast says so where the client does not.
fn arrays(builder: &Builder<'_>) -> Vec<(u32, bool)> {
    let is_cast = |number: &u32| {
        let kinds = builder.uses.get(number);
        kinds.is_some_and(|kinds| kinds.iter().any(|(oid, array)| *array && *oid != 0))
    };
    let numbers = builder.arrays.iter();
    numbers.map(|number| (*number, is_cast(number))).collect()
}

pub(crate) struct Builder<'a> {
    text: &'a str,
    catalog: &'a Catalog,
    placement: &'a Arc<Placement>,
    uses: Uses,
    moments: BTreeMap<i32, Moment>,
    given: Vec<String>,
    arrays: BTreeSet<u32>,
    /// The time cannot be put in from outside.
    late: bool,
    /// Rows are locked that are the same on every shard.
    locks: bool,
    /// It writes by what it reads of rows that are the same on every shard.
    reads: bool,
    /// SQL allows of several answers.
    open: bool,
    /// How the rows of a `COPY … TO` are written.
    copied: Option<CopyOut>,
    /// A hint leads it to one shard.
    hinted: bool,
    /// A part of its WITH may write.
    within: bool,
    /// Its rows are not merged here, where one row comes behind the other.
    unsorted: bool,
}

impl<'a> Builder<'a> {
    /// What plans a text.
    fn of(text: &'a str, catalog: &'a Catalog, placement: &'a Arc<Placement>) -> Self {
        Self {
            text,
            catalog,
            placement,
            uses: Uses::new(),
            moments: BTreeMap::new(),
            given: Vec::new(),
            arrays: BTreeSet::new(),
            late: false,
            locks: false,
            reads: false,
            open: false,
            copied: None,
            hinted: false,
            within: false,
            unsorted: false,
        }
    }

    /// What plans another text in its place, or a part of it.
    fn fresh<'t>(&self, text: &'t str) -> Builder<'t>
    where
        'a: 't,
    {
        Builder {
            hinted: self.hinted,
            ..Builder::of(text, self.catalog, self.placement)
        }
    }
}

impl Builder<'_> {
    fn statement(&mut self, node: &Node, names: &Names) -> Result<Plan> {
        if names
            .search_path
            .iter()
            .skip(1)
            .any(|schema| schema == "pg_catalog")
        {
            let reason =
                "names of Postgres' own may mean something else where pg_catalog is not first";
            return Err(Refusal::new("search_path", reason));
        }
        let node = crate::resolve::inner(node)?;
        self.within = within::is_written(node);
        let rest = self.kind(node, names);
        match std::mem::take(&mut self.within) {
            true => self.together(rest?, node, names),
            false => rest,
        }
    }

    fn kind(&mut self, node: &NodeEnum, names: &Names) -> Result<Plan> {
        match node {
            NodeEnum::SelectStmt(select) => self.select(select, names),
            _ if names.whole => Err(Refusal::new("statement", "it is no query")),
            NodeEnum::InsertStmt(insert) => self.insert(insert, names),
            NodeEnum::UpdateStmt(update) => self.update(update, names),
            NodeEnum::DeleteStmt(delete) => self.delete(delete, names),
            NodeEnum::MergeStmt(merge) => self.matched(merge, names),
            other => {
                let plan = self.definition(other, names);
                // A query in another statement does not run now, or not by itself.
                self.locks &= matches!(
                    other,
                    NodeEnum::CopyStmt(_) | NodeEnum::DeclareCursorStmt(_)
                );
                plan
            }
        }
    }

    /// Keeps what a resolver has noted of the text.
    fn note(&mut self, noted: Noted) {
        self.uses = noted.uses;
        self.moments = noted.moments;
        self.given = noted.given;
        self.arrays = noted.arrays;
    }

    fn resolver<'r>(&'r self, names: &'r Names) -> Resolver<'r> {
        let mut resolver = Resolver::new(self.catalog, self.placement, names);
        resolver.within = self.within;
        resolver
    }

    pub(crate) fn select(&mut self, select: &SelectStmt, names: &Names) -> Result<Plan> {
        let mut resolver = self.resolver(names);
        let query = resolver.query(select)?;
        resolver.given = query
            .columns
            .iter()
            .map(|column| column.name.clone())
            .collect();
        // The query is a right one: what is wrong is ours.
        let plan = self.read(&resolver, select, &query);
        let plan = plan.map_err(|refusal| Refusal {
            code: "0A000",
            ..refusal
        });
        // With rows of a shard it is refused.
        let locks = plan.is_ok() && resolver.traits.locks && replicated(&resolver.relations);
        let open = resolver.traits.order.is_some();
        let noted = Noted::of(&mut resolver);
        self.note(noted);
        self.locks = locks;
        self.open = open;
        plan
    }

    fn read(&self, resolver: &Resolver<'_>, select: &SelectStmt, query: &Query) -> Result<Plan> {
        let traits = &resolver.traits;
        self.anywhere(traits)?;
        kinds_agree(&resolver.relations)?;
        if resolver.names.whole {
            return self.whole(select, resolver.names, traits, &resolver.given);
        }
        let mut analysis = Analysis::new(&resolver.relations);
        let found = analysis.query(query);
        analysis.complete(None)?;
        if analysis.seen.is_empty() {
            // Who writes to such a table locks the rows on the first shard first.
            if traits.fixed.is_some() || traits.locks {
                return Ok(fixed_to(Shard(0)));
            }
            return Ok(match traits.tables {
                true => Plan::Replicated,
                false => Plan::Anywhere,
            });
        }
        if traits.locks && replicated(&resolver.relations) {
            let reason = "rows that are on every shard would be locked on one";
            return Err(
                Refusal::new("FOR UPDATE", reason).hint("Say FOR UPDATE OF the sharded table.")
            );
        }
        let several = self
            .several(traits)
            .and_then(|()| self.spread(resolver, &analysis, select, query, &found))
            .or_else(|_| self.pulled(select, resolver.names, traits, &resolver.given))
            .or_else(|refusal| hinted(resolver.names, &analysis, traits, false, refusal));
        self.pinned(&analysis, traits, several)
    }

    /// A plan for one shard if all keys are bound, and else another.
    pub(crate) fn pinned(
        &self,
        analysis: &Analysis<'_>,
        traits: &Traits,
        several: Result<Plan>,
    ) -> Result<Plan> {
        let pins = analysis.seen.iter().map(|rel| bound(analysis, *rel));
        let pins: Vec<Option<Pin>> = pins.collect();
        if pins.iter().any(Option::is_none) {
            let said = pins.into_iter().flatten().collect();
            return several.map(|plan| self.led(said, plan));
        }
        let pins = pins.into_iter().flatten().collect();
        if let Some(part) = &traits.fixed {
            return Err(Refusal::new(
                part,
                "it acts on one server, which may be another than that of the rows",
            ));
        }
        Ok(Plan::OneShard {
            pins: Pins(pins),
            otherwise: Box::new(several.unwrap_or_else(Plan::Refused)),
        })
    }

    /// A plan that heeds a hint: it leads to the one shard only if no key that is said in the statement leads elsewhere,
    /// also where that leaves out none of its rows, as one in EXISTS.
    fn led(&self, said: Vec<Pin>, plan: Plan) -> Plan {
        match plan {
            Plan::Pushed { .. } | Plan::Merged { .. } | Plan::Pulled(_) if self.hinted => {
                Plan::OneShard {
                    pins: Pins(said),
                    otherwise: Box::new(plan),
                }
            }
            plan => plan,
        }
    }

    /// What is not done on any shard.
    pub(crate) fn anywhere(&self, traits: &Traits) -> Result<()> {
        if let Some(part) = &traits.user {
            return Err(Refusal::new(part, "it may read or write tables unseen")
                .hint("Make it IMMUTABLE if it is, or declare it harmless."));
        }
        if let Some(part) = &traits.share {
            return Err(Refusal::new(part, "it counts only what is on one shard")
                .hint("Ask each shard by its own name."));
        }
        if let Some(part) = &traits.session {
            return Err(Refusal::new(part, "each shard has sequences of its own"));
        }
        if let Some(part) = traits
            .sequence
            .as_ref()
            .filter(|_| !self.placement.sequences_are_disjoint())
        {
            return Err(
                Refusal::new(part, "another shard's sequence may give the same")
                    .hint("Let the shards' sequences give different numbers, and say so."),
            );
        }
        if let Some(part) = traits.policies.as_ref() {
            return Err(Refusal::new(part, "its policies may read other tables"));
        }
        Ok(())
    }

    /// What is not done on several shards at once.
    pub(crate) fn several(&self, traits: &Traits) -> Result<()> {
        self.several_in(traits, self.text)
    }

    /// As [`Self::several`], of a part of the statement.
    pub(crate) fn several_in(&self, traits: &Traits, text: &str) -> Result<()> {
        let no = |part: &Option<String>, reason: &str| match part {
            Some(part) => Err(Refusal::new(part, reason)),
            None => Ok(()),
        };
        no(
            &traits.physical,
            "where a row lies is not the same over several shards",
        )?;
        no(&traits.clock, "each shard has a clock of its own")?;
        no(&traits.volatile, "it gives something else on each shard")?;
        no(&traits.drawn, "it gives something else on each shard")?;
        no(&traits.server, "it is not the same on every shard")?;
        no(&traits.sequence, "it gives something else on each shard")?;
        no(&traits.fixed, "it acts on one server")?;
        let options = pgherd_sql::LexOptions::default();
        if pgherd_sql::names_moment(text.as_bytes(), options) {
            return Err(Refusal::new(
                "literal",
                "it may name a moment, and each shard has a clock of its own",
            ));
        }
        Ok(())
    }

    /// How rows of several shards become one answer.
    fn spread(
        &self,
        resolver: &Resolver<'_>,
        analysis: &Analysis<'_>,
        select: &SelectStmt,
        query: &Query,
        found: &Found,
    ) -> Result<Plan> {
        if resolver.traits.paths {
            let reason = "its rows are not put together with those of other shards";
            return Err(Refusal::new("SEARCH or CYCLE", reason));
        }
        if let Dist::Parts(parts) = &found.core
            && !resolver.names.together
        {
            let prune = pruned(analysis, parts);
            if query.sort.is_empty() && query.limits.is_empty() {
                return Ok(Plan::Pushed {
                    prune,
                    writes: false,
                });
            }
            if query.locks && !query.limits.is_empty() {
                return Err(Refusal::new(
                    "FOR UPDATE",
                    "rows would be locked that LIMIT leaves out",
                ));
            }
            if self.unsorted {
                return Err(Refusal::new(
                    "ORDER BY and LIMIT",
                    "rows are not merged there",
                ));
            }
            if let Some(merge) = merge::merged(resolver, select, query)? {
                return Ok(Plan::Merged { prune, merge });
            }
        }
        if query.locks {
            return Err(Refusal::new(
                "FOR UPDATE",
                "it is not supported where rows of several shards are merged",
            ));
        }
        let (parts, merge) = combine::combined(resolver, select, query, found)?;
        let prune = pruned(analysis, parts);
        Ok(Plan::Merged { prune, merge })
    }
}

/// Where a hint leads to one shard, what cannot run on several runs there: what is known of its keys must lead there,
/// too.
pub(crate) fn hinted(
    names: &Names,
    analysis: &Analysis<'_>,
    traits: &Traits,
    writes: bool,
    refusal: Refusal,
) -> Result<Plan> {
    if names.hint.is_none() || traits.fixed.is_some() {
        return Err(refusal);
    }
    let pins = analysis.seen.iter().filter_map(|rel| bound(analysis, *rel));
    let prune = Prune(pins.map(crate::plan::Node::Of).collect());
    Ok(Plan::Pushed { prune, writes })
}

/// What a resolver notes of a text.
pub(crate) struct Noted {
    uses: Uses,
    moments: BTreeMap<i32, Moment>,
    given: Vec<String>,
    arrays: BTreeSet<u32>,
}

impl Noted {
    pub(crate) fn of(resolver: &mut Resolver<'_>) -> Self {
        Self {
            uses: std::mem::take(&mut resolver.uses),
            moments: std::mem::take(&mut resolver.moments),
            given: std::mem::take(&mut resolver.given),
            arrays: std::mem::take(&mut resolver.arrays),
        }
    }
}

pub(crate) fn refused(why: crate::analyze::Why) -> Refusal {
    Refusal::new(why.part, why.reason)
}

/// One shard, whatever its keys; advisory locks and the like are always on the first.
pub(crate) fn fixed_to(shard: Shard) -> Plan {
    Plan::OneShard {
        pins: Pins(vec![Pin::Shard(shard)]),
        otherwise: Box::new(Plan::Anywhere),
    }
}

/// Whether a table is read that is the same on every shard.
pub(crate) fn replicated(relations: &[Occurrence]) -> bool {
    relations.iter().any(|relation| match &relation.source {
        Source::Table(table) => matches!(table.place, Place::At(Distribution::Replicated)),
        _ => false,
    })
}

/// Tables of one group have keys that hash alike.
pub(crate) fn kinds_agree(relations: &[Occurrence]) -> Result<()> {
    let mut known = std::collections::HashMap::new();
    for relation in relations {
        let Source::Table(Table {
            place: Place::Key { group, kinds, .. },
            name,
            ..
        }) = &relation.source
        else {
            continue;
        };
        let alike: Vec<KeyType> = kinds
            .iter()
            .map(|kind| if kind.is_int() { KeyType::Int8 } else { *kind })
            .collect();
        if known.entry(*group).or_insert_with(|| alike.clone()) != &alike {
            return Err(Refusal::new(
                name,
                "its key has another type than that of its group",
            ));
        }
    }
    Ok(())
}

fn pin(analysis: &Analysis<'_>, rel: crate::tree::Rel) -> Option<Pin> {
    let Source::Table(table) = &analysis.facts.relations()[rel.0].source else {
        return None;
    };
    match &table.place {
        Place::At(Distribution::OneShard(shard)) => Some(Pin::Shard(*shard)),
        Place::Key { group, kinds, .. } => Some(Pin::Key {
            group: *group,
            kinds: kinds.clone(),
            values: analysis.reach.get(&rel)?.values.clone(),
        }),
        _ => None,
    }
}

/// The pin of an occurrence, if something is said of all of its key.
fn bound(analysis: &Analysis<'_>, rel: crate::tree::Rel) -> Option<Pin> {
    pin(analysis, rel).filter(|pin| match pin {
        Pin::Shard(_) | Pin::Row(_) => true,
        Pin::Key { values, .. } => values.iter().all(|lists| !lists.is_empty()),
    })
}

pub(crate) fn pruned(analysis: &Analysis<'_>, parts: &Parts) -> Prune {
    fn node(analysis: &Analysis<'_>, pruned: &Pruned) -> crate::plan::Node {
        let all = |list: &[Pruned]| list.iter().map(|one| node(analysis, one)).collect();
        match pruned {
            Pruned::Of(rel) => match bound(analysis, *rel) {
                Some(pin) => crate::plan::Node::Of(pin),
                None => crate::plan::Node::Both(Vec::new()),
            },
            Pruned::Both(list) => crate::plan::Node::Both(all(list)),
            Pruned::Any(list) => crate::plan::Node::Any(all(list)),
        }
    }
    Prune(parts.prune.iter().map(|one| node(analysis, one)).collect())
}
