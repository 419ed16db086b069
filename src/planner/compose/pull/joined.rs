//! Tables of one level that are joined by their keys are brought together, so that only rows that have a partner
//! come.
//!
//! One carrier has the columns of all of them. Each table's name stands for a lateral query that picks its own
//! columns from the carrier's row, so that all that is said of it means what it did.

use std::collections::BTreeMap;

use pg_query::NodeEnum;
use pg_query::protobuf::{JoinType, Node, RangeVar, SelectStmt};

use super::filter::{Owner, conjuncts};
use super::grouped::Grouped;
use super::reduce::{equal, membership};
use super::table::{all, looked_for, of};
use super::{Look, Position, Puller, deparse, said, walk};
use crate::catalog::{Relation, RelationKind};
use crate::plan::Rule;
use crate::refusal::{Refusal, Result};
use crate::tree::Place;

/// How many things in FROM are looked at for such tables.
const MOST: usize = 12;

/// A table that other tables may be brought with.
struct Leaf<'c> {
    /// Where it stands among all that is joined.
    at: usize,
    range: RangeVar,
    alias: String,
    described: &'c Relation,
}

impl<'b> Puller<'b> {
    pub(super) fn joined(&mut self, select: &mut SelectStmt, position: &Position) -> Result<()> {
        if self.whole || position.star || self.said.natural {
            return Ok(());
        }
        let mut filters = position.filters.clone();
        let mut nodes = Vec::new();
        for item in &mut select.from_clause {
            self.leaves(item, &mut nodes, &mut filters);
        }
        if nodes.len() > MOST {
            return Ok(());
        }
        let mut left: Vec<Leaf<'b>> = Vec::new();
        for (at, node) in nodes.iter().enumerate() {
            left.extend(self.leaf(at, node, &position.grouped)?);
        }
        while !left.is_empty() {
            let mut block = vec![left.remove(0)];
            let mut at = 0;
            while at < left.len() {
                let candidate = left.remove(at);
                block.push(candidate);
                if self.fits(&block, &filters) {
                    // Others may fit now that did not before.
                    at = 0;
                } else {
                    left.extend(block.pop());
                    let last = left.len() - 1;
                    left[at..].rotate_right(1);
                    debug_assert!(at <= last);
                    at += 1;
                }
            }
            if block.len() > 1 {
                self.take(block, &filters, &mut nodes, &mut select.where_clause)?;
            }
        }
        Ok(())
    }

    /// A plain name of a table whose rows have keys.
    fn leaf(&self, at: usize, node: &Node, grouped: &Grouped) -> Result<Option<Leaf<'b>>> {
        let Some(NodeEnum::RangeVar(range)) = &node.node else {
            return Ok(None);
        };
        let named = range.schemaname.is_empty() && self.ctes.contains(&range.relname);
        let renamed = range
            .alias
            .as_ref()
            .is_some_and(|alias| !alias.colnames.is_empty());
        if named || renamed || range.relname.starts_with(super::CARRIER) {
            return Ok(None);
        }
        let mut resolver = self.builder.resolver(self.names);
        let (schema, described) = resolver.locate(range)?;
        if described.kind != RelationKind::Table {
            return Ok(None);
        }
        let table = resolver.table(&schema, &range.relname, described)?;
        let alias = said::alias(&NodeEnum::RangeVar(range.clone()))
            .unwrap_or_default()
            .to_owned();
        let spread = matches!(
            table.place,
            Place::Key {
                nullable: false,
                ..
            }
        );
        // Where rows are grouped by a primary key alone, the table must have it.
        let dependent = grouped.by_primary(&alias, described);
        let whole = self.said.whole(&alias) || self.said.row_type(&alias);
        let fits = spread && !dependent && !whole;
        let range = range.clone();
        Ok(fits.then_some(Leaf {
            at,
            range,
            alias,
            described,
        }))
    }

    /// Whether the last of them can be brought with the others: its rows are on the shards of theirs, and neither
    /// side's rows become more.
    fn fits(&self, block: &[Leaf<'_>], filters: &[Node]) -> bool {
        let Some((last, before)) = block.split_last() else {
            return false;
        };
        let own = self.own(block, filters);
        let once = |leaf: &Leaf<'_>| {
            let equal = looked_for(&self.owner(std::slice::from_ref(leaf)), &own);
            let mut uniques = leaf.described.uniques.iter();
            uniques.any(|unique| {
                unique.primary && unique.columns.iter().all(|name| equal.contains(name))
            })
        };
        let single = once(last) || matches!(before, [leaf] if once(leaf));
        let select = self.block(block, own);
        single && select.is_ok_and(|select| matches!(self.look(&select), Look::Parts { .. }))
    }

    fn owner<'l>(&'l self, block: &'l [Leaf<'_>]) -> Owner<'l> {
        let tables = block.iter().map(|leaf| {
            let columns = leaf.described.columns.iter();
            (
                leaf.alias.as_str(),
                columns.map(|column| column.name.as_str()).collect(),
            )
        });
        Owner {
            catalog: self.builder.catalog,
            tables: tables.collect(),
            merged: &self.said.using,
        }
    }

    fn own(&self, block: &[Leaf<'_>], filters: &[Node]) -> Vec<Node> {
        let owner = self.owner(block);
        filters
            .iter()
            .filter(|part| owner.owns(part))
            .cloned()
            .collect()
    }

    /// The query that gives the tables' rows together.
    fn block(&self, block: &[Leaf<'_>], own: Vec<Node>) -> Result<SelectStmt> {
        let mut select = deparse::select("SELECT")?;
        for leaf in block {
            select.from_clause.push(Node {
                node: Some(NodeEnum::RangeVar(leaf.range.clone())),
            });
            for column in self.used(leaf.described, false) {
                let name = format!("pgherd_c{}", select.target_list.len());
                let value = of(&leaf.alias, &column.name);
                select.target_list.push(deparse::target(value, &name));
            }
        }
        select.where_clause = all(own)?;
        Ok(select)
    }

    /// Adds a condition to those by which rows are brought, if the shards can tell each by itself.
    fn narrow(&self, block: &[Leaf<'_>], own: &mut Vec<Node>, more: Node) -> bool {
        own.push(more);
        let select = self.block(block, own.clone());
        let holds = select.is_ok_and(|select| matches!(self.look(&select), Look::Parts { .. }));
        if !holds {
            own.pop();
        }
        holds
    }

    fn take(
        &mut self,
        mut block: Vec<Leaf<'_>>,
        filters: &[Node],
        nodes: &mut [&mut Node],
        rest: &mut Option<Box<Node>>,
    ) -> Result<()> {
        block.sort_by_key(|leaf| leaf.at);
        let mut own = self.own(&block, filters);
        let partners = self.partnered(&self.owner(&block), filters)?;
        for more in partners {
            self.narrow(&block, &mut own, more);
        }
        let (asked, left): (Vec<Node>, Vec<Node>) = conjuncts(rest).into_iter().partition(|part| {
            membership(part).is_some_and(|(_, inner)| !self.names_cte(inner))
                && self.narrow(&block, &mut own, part.clone())
        });
        if !asked.is_empty() {
            // All rows that are brought fulfil it.
            *rest = all(left)?;
        }
        let filtered = own.iter().any(|part| equal(part).is_none());
        let select = self.block(&block, own)?;
        let prune = self.parts(&select)?;
        let width = select.target_list.len();
        let text = deparse::text_of(NodeEnum::SelectStmt(Box::new(select)))?;
        let columns: Vec<String> = (0..width).map(|at| format!("pgherd_c{at}")).collect();
        let carrier = self.carrier(text, prune, &columns, Rule::Join);
        if let Some(pull) = self.pulls.last_mut() {
            pull.filtered = filtered;
        }
        let mut at = 0;
        for (place, leaf) in block.iter().enumerate() {
            let mut picked = Vec::new();
            let mut names = BTreeMap::new();
            for column in self.used(leaf.described, false) {
                picked.push(format!(
                    "{carrier}.pgherd_c{at} AS {}",
                    deparse::quoted(&column.name)
                ));
                names.insert(column.name.clone(), format!("pgherd_c{at}"));
                at += 1;
            }
            let wishes = self.wishes(&leaf.alias, &names, &self.owner(&block), filters);
            self.stands(&leaf.alias, names, wishes);
            let lateral = format!(
                "LATERAL (SELECT {}) AS {}",
                picked.join(", "),
                deparse::quoted(&leaf.alias)
            );
            let text = match place {
                0 => format!("SELECT FROM {carrier} CROSS JOIN {lateral}"),
                _ => format!("SELECT FROM {lateral}"),
            };
            let made = deparse::select(&text)?.from_clause.into_iter().next();
            *nodes[leaf.at] =
                made.ok_or_else(|| Refusal::new("FROM", "its other form cannot be made"))?;
            self.taken.push(leaf.alias.clone());
        }
        Ok(())
    }

    /// All that is joined so that a row of each is in every row of the whole, from left to right, with the conditions
    /// that hold for all rows.
    fn leaves<'n>(
        &self,
        node: &'n mut Node,
        found: &mut Vec<&'n mut Node>,
        filters: &mut Vec<Node>,
    ) {
        let flat = match &node.node {
            Some(NodeEnum::JoinExpr(join)) => {
                let plain = join.alias.is_none() && join.using_clause.is_empty();
                plain.then(|| join.jointype())
            }
            _ => None,
        };
        let sides = match flat {
            Some(JoinType::JoinInner) => 2,
            Some(JoinType::JoinLeft) => 1,
            _ => return found.push(node),
        };
        let Some(NodeEnum::JoinExpr(join)) = &mut node.node else {
            return;
        };
        if sides == 2 {
            filters.extend(self.on(join));
        }
        let both = [&mut join.larg, &mut join.rarg].into_iter().take(sides);
        for side in both.flatten() {
            self.leaves(side, found, filters);
        }
    }
}

/// Whether a column is named without its table: in ON it is one of fewer than elsewhere.
pub(super) fn has_bare(node: &Node) -> bool {
    let mut found = false;
    let walked = walk::expression(&mut node.clone(), &mut |part| {
        if let NodeEnum::ColumnRef(column) = part {
            found |= said::names(column).len() < 2;
        }
        Ok(())
    });
    found || walked.is_err()
}
