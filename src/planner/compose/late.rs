//! LIMIT over rows of which something is computed that may fail: it is computed of the rows that count.
//!
//! One Postgres with all rows may compute a target behind the sort, of no more rows than LIMIT lets through: what is
//! expensive always, all else where an index has the order. The first rows of a shard need not be among the first of
//! all, so an error that one of them raises there may be one that nobody has to hear of. Therefore the shards give the
//! columns that targets are made of, and the server that makes one answer of them computes the targets, of the rows up
//! to the last that is wanted: those that OFFSET leaves out are computed by one Postgres, too.
//!
//! What is sorted by is computed of all rows by everybody. Queries within a target, and functions that give sets, stay
//! with the shards.

use pg_query::NodeEnum;
use pg_query::protobuf::{ColumnRef, LimitOption, Node, RangeSubselect, SelectStmt};

use super::combine::{PARTIALS, named, targets};
use super::risk::Risk;
use super::upper::{Units, of_rows, parts, reference};
use super::{deparse, merge};
use crate::plan::Merge;
use crate::refusal::{Refusal, Result};
use crate::resolve::{Resolver, bare_name, position};
use crate::tree::{Body, Distinct, Query};

/// How the answer is made where its targets are computed late; nothing if that is not needed, or not to be done.
pub(super) fn late(resolver: &Resolver<'_>, select: &SelectStmt, query: &Query) -> Option<Merge> {
    let Body::Select(level) = &query.body else {
        return None;
    };
    let limited = !matches!(merge::count(&select.limit_count), Ok(None));
    if !limited || !matches!(level.distinct, Distinct::No) || level.grouping_sets {
        return None;
    }
    let mut late = Late {
        units: Units::new(resolver),
        select,
        query,
        grouped: level.aggregates,
    };
    let targets = targets(&mut late.units, select).ok()?;
    if targets.len() != query.columns.len() || !late.is_needed(&targets) {
        return None;
    }
    late.merge(targets).ok()
}

struct Late<'a, 'r> {
    units: Units<'a, 'r>,
    select: &'a SelectStmt,
    query: &'a Query,
    grouped: bool,
}

impl Late<'_, '_> {
    /// Whether a target may fail that nothing is sorted by.
    fn is_needed(&self, targets: &[(String, Node)]) -> bool {
        let risk = Risk::of_query(self.units.resolver);
        let sorts = &self.query.sort;
        let mut others = targets
            .iter()
            .enumerate()
            .filter(|(at, _)| !sorts.iter().any(|sort| sort.output == Some(*at)));
        others.any(|(_, (_, value))| risk.node(value))
    }

    fn merge(&mut self, targets: Vec<(String, Node)>) -> Result<Merge> {
        for (_, value) in &targets {
            self.gives_one(value)?;
        }
        let mut sent = self.select.clone();
        self.groups(&mut sent, &targets)?;
        let keys = self.keys(&targets)?;
        let mut last = deparse::select(&format!(
            "SELECT FROM (SELECT * FROM {PARTIALS}) AS {PARTIALS}"
        ))?;
        for (at, (name, mut value)) in targets.into_iter().enumerate() {
            let mut sorts = self.query.sort.iter().zip(&keys);
            match sorts.find(|(sort, _)| sort.output == Some(at)) {
                Some((_, key)) => value = reference(*key),
                None => self.split(&mut value)?,
            }
            last.target_list.push(deparse::target(value, &name));
        }
        last.sort_clause = self.sorted(&keys, reference)?;
        last.limit_count = self.select.limit_count.clone();
        last.limit_offset = self.select.limit_offset.clone();
        last.limit_option = self.select.limit_option;
        self.up_to_last(inner(&mut last)?)?;
        inner(&mut last)?.sort_clause = self.sorted(&keys, reference)?;
        Ok(Merge::Combined {
            partial: self.partial(sent, &keys)?,
            combine: deparse::text_of(NodeEnum::SelectStmt(Box::new(last)))?,
        })
    }

    /// What the shards are asked for.
    fn partial(&self, mut sent: SelectStmt, keys: &[usize]) -> Result<String> {
        let width = self.units.nodes.len();
        let nodes = self.units.nodes.iter().enumerate();
        sent.target_list = nodes
            .map(|(at, node)| deparse::target(node.clone(), &format!("c{at}")))
            .collect();
        if width == 0 {
            let one = deparse::target(deparse::snippet("1")?, "c0");
            sent.target_list.push(one);
        }
        match merge::counts(self.select) {
            Some(_) => {
                // Each by its number: what it is called may be called otherwise in the text.
                let numbered = |at: usize| deparse::snippet(&(at + 1).to_string());
                sent.sort_clause = self.sorted_by(keys, numbered)?;
                self.up_to_last(&mut sent)?;
            }
            None => {
                sent.sort_clause.clear();
                sent.limit_count = None;
                sent.limit_offset = None;
                sent.limit_option = LimitOption::Default as i32;
            }
        }
        let text = deparse::text_of(NodeEnum::SelectStmt(Box::new(sent)))?;
        let columns: Vec<String> = (0..width.max(1)).map(|at| format!("c{at}")).collect();
        Ok(format!(
            "SELECT * FROM ({text}) AS pgherd_rows ({})",
            columns.join(", ")
        ))
    }

    /// Cuts rows off behind the last that is wanted.
    fn up_to_last(&self, select: &mut SelectStmt) -> Result<()> {
        if let Some((limit, offset)) = merge::counts(self.select) {
            return merge::limit(select, &limit, &offset);
        }
        if self.select.limit_offset.is_some() {
            let reason = "a LIMIT that is computed is not supported here with OFFSET";
            return Err(Refusal::new("LIMIT", reason));
        }
        select.limit_count = self.select.limit_count.clone();
        select.limit_option = self.select.limit_option;
        Ok(())
    }

    /// Has what rows are grouped by among the columns, and says it without the names and numbers of targets.
    fn groups(&mut self, sent: &mut SelectStmt, targets: &[(String, Node)]) -> Result<()> {
        for node in &mut sent.group_clause {
            let Some(item) = &node.node else {
                return Err(unclear());
            };
            if matches!(item, NodeEnum::RowExpr(_) | NodeEnum::GroupingSet(_)) {
                return Err(unclear());
            }
            let mut at = position(item, self.query.columns.len())?;
            if let Some(name) = bare_name(item) {
                let top = self.units.resolver.top.as_ref().ok_or_else(unclear)?;
                if top.bare(name)?.is_none() {
                    at = named(name, self.query);
                }
            }
            if let Some((_, value)) = at.and_then(|at| targets.get(at)) {
                *node = value.clone();
            }
            if !node.node.as_ref().map_or(Ok(false), of_rows)? {
                return Err(unclear());
            }
            self.units.column(node)?;
        }
        Ok(())
    }

    /// The columns that rows are sorted by.
    fn keys(&mut self, targets: &[(String, Node)]) -> Result<Vec<usize>> {
        let mut keys = Vec::new();
        for (node, sort) in self.select.sort_clause.iter().zip(&self.query.sort) {
            let value = match (sort.output, &node.node) {
                (Some(at), _) => targets.get(at).map(|(_, value)| value),
                (None, Some(NodeEnum::SortBy(by))) => by.node.as_deref(),
                _ => None,
            };
            let value = value.ok_or_else(unclear)?;
            self.gives_one(value)?;
            keys.push(self.column(value)?);
        }
        Ok(keys)
    }

    fn sorted(&self, keys: &[usize], named: fn(usize) -> Node) -> Result<Vec<Node>> {
        self.sorted_by(keys, |at| Ok(named(at)))
    }

    /// ORDER BY as it was, by these columns.
    fn sorted_by(
        &self,
        keys: &[usize],
        named: impl Fn(usize) -> Result<Node>,
    ) -> Result<Vec<Node>> {
        let pairs = self.select.sort_clause.iter().zip(keys);
        let sorted = pairs.map(|(node, key)| match &node.node {
            Some(NodeEnum::SortBy(by)) => {
                let mut by = by.clone();
                by.node = Some(Box::new(named(*key)?));
                Ok(Node {
                    node: Some(NodeEnum::SortBy(by)),
                })
            }
            _ => Err(unclear()),
        });
        sorted.collect()
    }

    /// Replaces the columns, and what is computed of groups and windows, by those that the shards give. Expressions are
    /// left as they are, so that they have the collations that they had.
    fn split(&mut self, node: &mut Node) -> Result<()> {
        let Some(inner) = &node.node else {
            return Ok(());
        };
        if !of_rows(inner)? && !self.units.is_upper(inner)? {
            return Ok(());
        }
        let is_grouped = self.grouped && is_expression(inner);
        if is_grouped && let Some(at) = self.units.known(node)? {
            *node = reference(at);
            return Ok(());
        }
        let whole = match inner {
            NodeEnum::ColumnRef(_) | NodeEnum::GroupingFunc(_) => true,
            NodeEnum::FuncCall(call) => self.units.resolver.is_upper(call),
            NodeEnum::SubLink(_) => {
                if Risk::of_query(self.units.resolver).expression(inner) {
                    return Err(unclear());
                }
                true
            }
            _ => false,
        };
        if whole {
            let at = self.column(node)?;
            *node = reference(at);
            return Ok(());
        }
        if let Some(inner) = &mut node.node {
            for part in parts(inner)? {
                self.split(part)?;
            }
        }
        Ok(())
    }

    /// A column of the shards; as a target, a star would be more than one.
    fn column(&mut self, node: &Node) -> Result<usize> {
        match &node.node {
            Some(NodeEnum::ColumnRef(column)) if has_star(column) => Err(unclear()),
            _ => self.units.column(node),
        }
    }

    /// That an expression gives one value of each row, and not a set of them.
    fn gives_one(&self, node: &Node) -> Result<()> {
        let resolver = self.units.resolver;
        let gives_set = |node: &NodeEnum| match node {
            NodeEnum::FuncCall(call) => resolver.may_give_set(call),
            _ => false,
        };
        match &node.node {
            Some(inner) if super::upper::any(inner, &gives_set)? => Err(unclear()),
            _ => Ok(()),
        }
    }
}

/// The query that FROM is.
fn inner(select: &mut SelectStmt) -> Result<&mut SelectStmt> {
    let item = select.from_clause.first_mut();
    match item.and_then(|item| item.node.as_mut()) {
        Some(NodeEnum::RangeSubselect(sub)) => of_source(sub),
        _ => Err(unclear()),
    }
}

fn of_source(sub: &mut RangeSubselect) -> Result<&mut SelectStmt> {
    match sub.subquery.as_deref_mut().and_then(|it| it.node.as_mut()) {
        Some(NodeEnum::SelectStmt(select)) => Ok(select),
        _ => Err(unclear()),
    }
}

fn has_star(column: &ColumnRef) -> bool {
    let mut fields = column.fields.iter();
    fields.any(|field| matches!(field.node, Some(NodeEnum::AStar(_))))
}

/// Whether a node is something that has a value by itself.
fn is_expression(node: &NodeEnum) -> bool {
    !matches!(
        node,
        NodeEnum::List(_)
            | NodeEnum::SortBy(_)
            | NodeEnum::WindowDef(_)
            | NodeEnum::CaseWhen(_)
            | NodeEnum::AIndices(_)
            | NodeEnum::NamedArgExpr(_)
    )
}

fn unclear() -> Refusal {
    Refusal::new("LIMIT", "its targets are not computed behind it")
}
