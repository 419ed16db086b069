//! What one server makes of the rows or partial aggregates of all shards.

use pg_query::NodeEnum;
use pg_query::protobuf::{ColumnRef, FuncCall, Node, SelectStmt};

use super::upper::{self, Units, name, of_rows, parts, reference};
use super::{deparse, refused};
use crate::analyze::{Dist, Found, Parts};
use crate::plan::Merge;
use crate::refusal::{Refusal, Result};
use crate::resolve::{Resolver, bare_name, output_name, position};
use crate::tree::{Body, Distinct, Query};

/// The name under which the combining server has what the shards gave.
pub(super) const PARTIALS: &str = "pgherd_partials";

/// How the rows that are spread become the answer, and how they are spread.
pub(super) fn combined<'f>(
    resolver: &Resolver<'_>,
    select: &SelectStmt,
    query: &Query,
    found: &'f Found,
) -> Result<(&'f Parts, Merge)> {
    if let Dist::Parts(parts) = &found.core {
        return Ok((parts, super::sorted::sorted(resolver, select, query)?));
    }
    let core = match &found.core {
        Dist::Merge(why) | Dist::Loose(why) => refused(*why),
        _ => Refusal::new("statement", "it is not supported over shards"),
    };
    match (&found.rows, &query.body) {
        (Dist::Parts(parts), Body::Select(_)) => Ok((parts, grouped(resolver, select, query)?)),
        _ => Err(core),
    }
}

/// A level that groups, numbers or tells apart rows of several shards.
struct Grouping<'a, 'r> {
    units: Units<'a, 'r>,
    aggregates: bool,
    /// Aggregates are computed on the shards, and those of all shards made one.
    partial: bool,
    /// How many of the columns are those of GROUP BY.
    group: usize,
}

fn grouped(resolver: &Resolver<'_>, select: &SelectStmt, query: &Query) -> Result<Merge> {
    let Body::Select(level) = &query.body else {
        return Err(Refusal::new("statement", "it is not supported over shards"));
    };
    // First with partial aggregates; if they are not enough, with the rows themselves.
    if level.aggregates && !level.grouping_sets {
        match combine(resolver, select, query, true, true) {
            Err(refusal) if refusal.part == NOT_PARTIAL => {}
            other => return other,
        }
    }
    combine(resolver, select, query, level.aggregates, false)
}

const NOT_PARTIAL: &str = "pgherd: not partial";

fn combine(
    resolver: &Resolver<'_>,
    select: &SelectStmt,
    query: &Query,
    aggregates: bool,
    partial: bool,
) -> Result<Merge> {
    let mut grouping = Grouping {
        units: Units::new(resolver),
        aggregates,
        partial,
        group: 0,
    };
    let targets = targets(&mut grouping.units, select)?;
    let mut expanding = 0;
    for (_, value) in &targets {
        expanding += usize::from(grouping.units.expands(value)?);
    }
    if expanding > most_expanding(query) {
        return Err(upper::several_rows());
    }
    let mut after = deparse::select(&format!("SELECT FROM {PARTIALS}"))?;
    after.limit_option = select.limit_option;
    after.limit_count = select.limit_count.clone();
    after.limit_offset = select.limit_offset.clone();
    after.group_distinct = select.group_distinct;
    let values: Vec<Node> = targets.iter().map(|(_, value)| value.clone()).collect();
    for node in &select.group_clause {
        let node = grouping.group_item(node, &values, query)?;
        after.group_clause.push(node);
    }
    grouping.group = grouping.units.nodes.len();
    if sets(select) {
        grouping.apart(&values)?;
    }
    for (name, value) in &targets {
        let mut value = value.clone();
        grouping.rewrite(&mut value)?;
        after.target_list.push(deparse::target(value, name));
    }
    let rest = [(&select.window_clause, &mut after.window_clause)];
    for (from, to) in rest {
        for node in from {
            let mut node = node.clone();
            grouping.rewrite(&mut node)?;
            to.push(node);
        }
    }
    if let Some(having) = &select.having_clause {
        let mut having = having.clone();
        grouping.rewrite(&mut having)?;
        after.having_clause = Some(having);
    }
    for (node, sort) in select.sort_clause.iter().zip(&query.sort) {
        let mut node = node.clone();
        if let Some(NodeEnum::SortBy(by)) = &mut node.node {
            match sort.output {
                Some(at) => by.node = Some(Box::new(deparse::snippet(&(at + 1).to_string())?)),
                None => grouping.rewrite(by.node.as_mut().ok_or_else(upper::not_grouped)?)?,
            }
        }
        after.sort_clause.push(node);
    }
    for node in &select.distinct_clause {
        after
            .distinct_clause
            .push(grouping.distinct_item(node, query)?);
    }
    keeps_names(select, &after)?;
    let sent = grouping.sent(select)?;
    Ok(Merge::Combined {
        partial: deparse::text_of(NodeEnum::SelectStmt(Box::new(sent)))?,
        combine: deparse::text_of(NodeEnum::SelectStmt(Box::new(after)))?,
    })
}

/// Refuses what is asked behind the rows if a query of it may name one of a WITH: that stays with the rows, and behind them
/// a table may have its name.
pub(super) fn keeps_names(select: &SelectStmt, behind: &SelectStmt) -> Result<()> {
    match select.with_clause.is_some() && format!("{behind:?}").contains("SubLink(") {
        true => Err(Refusal::new(
            "WITH",
            "its queries cannot be named where rows of several shards are merged",
        )),
        false => Ok(()),
    }
}

/// How many targets may give several rows. Windows are computed before they do, and DISTINCT ON may be; several of them give
/// theirs in step, which is lost where one is computed on the shards and another behind them.
fn most_expanding(query: &Query) -> usize {
    match &query.body {
        Body::Select(level) if !level.windows.is_empty() => 0,
        Body::Select(level) => match level.distinct {
            Distinct::No => usize::MAX,
            Distinct::All => 1,
            Distinct::On(_) => 0,
        },
        Body::Values(_) | Body::Set { .. } => 0,
    }
}

/// Whether there are GROUPING SETS, or what is short for them.
fn sets(select: &SelectStmt) -> bool {
    let mut items = select.group_clause.iter();
    items.any(|item| matches!(item.node, Some(NodeEnum::GroupingSet(_))))
}

impl Grouping<'_, '_> {
    /// Two targets that are the same may be NULL in different groups, which one column cannot be.
    fn apart(&self, targets: &[Node]) -> Result<()> {
        let mut seen = std::collections::BTreeSet::new();
        for target in targets {
            if let Some(at) = self.units.known(target)?
                && at < self.group
                && !seen.insert(at)
            {
                let reason =
                    "it has one column twice, which is not supported where groups are merged";
                return Err(Refusal::new("GROUPING SETS", reason));
            }
        }
        Ok(())
    }

    fn group_item(&mut self, node: &Node, targets: &[Node], query: &Query) -> Result<Node> {
        let Some(inner) = &node.node else {
            return Err(upper::not_grouped());
        };
        if let NodeEnum::GroupingSet(set) = inner {
            let mut set = set.clone();
            for item in &mut set.content {
                *item = self.group_item(item, targets, query)?;
            }
            return Ok(Node {
                node: Some(NodeEnum::GroupingSet(set)),
            });
        }
        if let NodeEnum::RowExpr(_) = inner {
            return Err(Refusal::new(
                "GROUP BY",
                "a row is not supported where groups are merged",
            ));
        }
        let mut item = node;
        if let Some(at) = position(inner, query.columns.len())? {
            item = &targets[at];
        } else if let Some(name) = bare_name(inner) {
            let space = self.units.resolver.top.as_ref();
            let input = space.map(|space| space.bare(name)).transpose()?.flatten();
            if let (None, Some(at)) = (input, named(name, query)) {
                item = &targets[at];
            }
        }
        let constant = item.node.as_ref().map(of_rows).transpose()? != Some(true);
        if constant {
            return Err(Refusal::new(
                "GROUP BY",
                "a constant is not supported where groups are merged",
            ));
        }
        Ok(reference(self.units.column(item)?))
    }

    fn distinct_item(&mut self, node: &Node, query: &Query) -> Result<Node> {
        let Some(inner) = &node.node else {
            return Ok(node.clone());
        };
        let by_name = match bare_name(inner) {
            Some(name) => named(name, query),
            None => position(inner, query.columns.len())?,
        };
        if let Some(at) = by_name {
            return deparse::snippet(&(at + 1).to_string());
        }
        let mut node = node.clone();
        self.rewrite(&mut node)?;
        Ok(node)
    }

    fn rewrite(&mut self, node: &mut Node) -> Result<()> {
        match self.aggregates {
            true => self.group_parts(node),
            false => self.units.rows(node),
        }
    }

    /// Replaces what is grouped by, and aggregates.
    fn group_parts(&mut self, node: &mut Node) -> Result<()> {
        let Some(inner) = &node.node else {
            return Ok(());
        };
        if !of_rows(inner)? && !self.units.is_upper(inner)? {
            return Ok(());
        }
        let expression = !matches!(
            inner,
            NodeEnum::SortBy(_)
                | NodeEnum::WindowDef(_)
                | NodeEnum::List(_)
                | NodeEnum::CaseWhen(_)
                | NodeEnum::NamedArgExpr(_)
        );
        if expression
            && let Some(at) = self.units.known(node)?
            && at < self.group
        {
            *node = reference(at);
            return Ok(());
        }
        if let NodeEnum::FuncCall(call) = inner
            && call.over.is_none()
            && self.units.resolver.is_upper(call)
        {
            let call = call.clone();
            *node = match self.partial {
                true => self.aggregate(&call)?,
                false => self.aggregate_of_rows(*call)?,
            };
            return Ok(());
        }
        if matches!(inner, NodeEnum::ColumnRef(_) | NodeEnum::SubLink(_)) {
            return Err(upper::not_grouped());
        }
        if let Some(inner) = &mut node.node {
            upper::has_no_star(inner)?;
            for part in parts(inner)? {
                self.group_parts(part)?;
            }
        }
        Ok(())
    }

    fn aggregate_of_rows(&mut self, mut call: FuncCall) -> Result<Node> {
        self.units.rows_of_call(&mut call)?;
        let node = Some(NodeEnum::FuncCall(Box::new(call)));
        Ok(Node { node })
    }

    /// An aggregate whose value follows from those of the shards.
    fn aggregate(&mut self, call: &FuncCall) -> Result<Node> {
        let not = || Refusal::new(NOT_PARTIAL, "");
        let known = self
            .units
            .resolver
            .calls
            .get(&call.location)
            .ok_or_else(not)?;
        let name = crate::resolve::strings(&call.funcname)?
            .last()
            .copied()
            .unwrap_or_default();
        if call.agg_distinct || call.agg_within_group || !known.system {
            return Err(not());
        }
        let of = |this: &mut Self, function: &str| -> Result<usize> {
            let mut call = call.clone();
            call.funcname = vec![upper::name("pg_catalog"), upper::name(function)];
            let node = NodeEnum::FuncCall(Box::new(call));
            this.units.column(&Node { node: Some(node) })
        };
        let text = match (name, known.first.oid) {
            ("count", _) => format!("coalesce(sum(c{}), 0)::int8", of(self, name)?),
            ("sum", 21 | 23) => format!("sum(c{})::int8", of(self, name)?),
            ("sum", 20 | 1700 | 1186 | 790) => format!("sum(c{})", of(self, name)?),
            ("avg", 20 | 21 | 23 | 1700) => {
                let sum = of(self, "sum")?;
                format!("sum(c{sum}) / nullif(sum(c{}), 0)", of(self, "count")?)
            }
            (
                "min" | "max" | "bool_and" | "bool_or" | "every" | "bit_and" | "bit_or" | "bit_xor",
                _,
            ) => {
                format!("{name}(c{})", of(self, name)?)
            }
            _ => return Err(not()),
        };
        deparse::snippet(&text)
    }

    /// What the shards are asked for.
    fn sent(&self, select: &SelectStmt) -> Result<SelectStmt> {
        let mut sent = select.clone();
        sent.target_list = self
            .units
            .nodes
            .iter()
            .enumerate()
            .map(|(at, node)| deparse::target(node.clone(), &format!("c{at}")))
            .collect();
        if sent.target_list.is_empty() {
            sent.target_list
                .push(deparse::target(deparse::snippet("1")?, "c0"));
        }
        let alone = !self.aggregates && select.window_clause.is_empty() && !windows(select);
        if !(alone && matches!(select.distinct_clause.as_slice(), [Node { node: None }])) {
            sent.distinct_clause.clear();
        }
        sent.group_clause.clear();
        sent.group_distinct = false;
        if self.partial {
            for at in 1..=self.group {
                sent.group_clause.push(deparse::snippet(&at.to_string())?);
            }
        }
        sent.having_clause = None;
        sent.window_clause.clear();
        sent.sort_clause.clear();
        sent.limit_count = None;
        sent.limit_offset = None;
        sent.limit_option = pg_query::protobuf::LimitOption::Default as i32;
        Ok(sent)
    }
}

/// The targets with their names, stars written out.
pub(super) fn targets(
    units: &mut Units<'_, '_>,
    select: &SelectStmt,
) -> Result<Vec<(String, Node)>> {
    let mut found = Vec::new();
    for node in &select.target_list {
        let Some(NodeEnum::ResTarget(target)) = &node.node else {
            return Err(Refusal::new("SELECT", "a target of an unknown form"));
        };
        let value = target.val.as_deref().cloned().unwrap_or_default();
        let Some(inner) = &value.node else {
            return Err(Refusal::new("SELECT", "a target of an unknown form"));
        };
        if let NodeEnum::ColumnRef(column) = inner
            && let Some((last, before)) = column.fields.split_last()
            && matches!(last.node, Some(NodeEnum::AStar(_)))
        {
            stars(units, before, &mut found)?;
            continue;
        }
        let name = match target.name.is_empty() {
            true => output_name(inner),
            false => target.name.clone(),
        };
        found.push((name, value));
    }
    Ok(found)
}

fn stars(
    units: &mut Units<'_, '_>,
    before: &[Node],
    found: &mut Vec<(String, Node)>,
) -> Result<()> {
    let unclear =
        || Refusal::new("*", "it is not supported here over shards").hint("Name the columns.");
    let space = units.resolver.top.as_ref().ok_or_else(unclear)?;
    let stars: Vec<_> = match crate::resolve::strings(before)?.as_slice() {
        [] => space.columns.clone(),
        [alias] => {
            let mut entries = space.entries.iter().filter(|entry| entry.alias == *alias);
            let (Some(entry), None) = (entries.next(), entries.next()) else {
                return Err(unclear());
            };
            let columns = entry
                .columns
                .iter()
                .map(|(name, expr)| crate::resolve::Star {
                    name: name.clone(),
                    alias: Some(entry.alias.clone()),
                    expr: expr.clone(),
                });
            columns.collect()
        }
        _ => return Err(unclear()),
    };
    let aliases = |alias: &str| {
        space
            .entries
            .iter()
            .filter(|entry| entry.alias == alias)
            .count()
    };
    for star in stars {
        let mut fields = Vec::new();
        if let Some(alias) = &star.alias {
            if aliases(alias) != 1 {
                return Err(unclear());
            }
            fields.push(name(alias));
        }
        fields.push(name(&star.name));
        // A place that no text has.
        let location = -1_000 - i32::try_from(units.places.len()).unwrap_or_default();
        units.places.insert(location, star.expr);
        let column = NodeEnum::ColumnRef(ColumnRef { fields, location });
        found.push((star.name, Node { node: Some(column) }));
    }
    Ok(())
}

/// The first output column of a name; where there are more, they were found to be the same.
pub(super) fn named(name: &str, query: &Query) -> Option<usize> {
    let mut columns = query.columns.iter();
    columns.position(|column| column.name == name)
}

/// Whether a window is said anywhere in what is computed of whole rows.
fn windows(select: &SelectStmt) -> bool {
    let shown = |nodes: &[Node]| format!("{nodes:?}").contains("over: Some(");
    shown(&select.target_list) || shown(&select.sort_clause)
}
