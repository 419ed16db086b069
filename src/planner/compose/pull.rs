//! Postgres as the merge: what of a query can be had from the shards is brought to one server, and the rest of
//! the query runs there as it was written.
//!
//! From the outside in, each query is taken as a whole if its rows are disjoint parts; else what can be computed
//! of each shard's rows; else it stays, and what is in it is looked at. What is left in the end are the tables'
//! own rows, by the conditions that are about them alone. The rest is resolved once more: it must read no table
//! that is spread, and give columns of the same names.

use std::collections::BTreeMap;
use std::rc::Rc;

use pg_query::NodeEnum;
use pg_query::protobuf::{Alias, JoinExpr, JoinType, Node, RangeVar, SelectStmt, SubLinkType};

use super::combine::PARTIALS;
use super::{Builder, deparse, upper};
use crate::catalog::{Relation, RelationKind};
use crate::plan::{Plan, Pull, Pulled, Rule};
use crate::refusal::{Refusal, Result};
use crate::resolve::Names;
use crate::tree::Traits;

mod carrier;
mod filter;
mod grouped;
mod joined;
mod look;
mod reduce;
mod said;
mod table;
mod verify;
mod view;
mod walk;

use carrier::columns;
use grouped::Grouped;
use look::Look;
use reduce::Level;
use said::Said;
use view::Pieces;

/// What the carriers' names begin with.
pub(crate) const CARRIER: &str = "pgherd_pull_";

/// The longest text that is taken apart: its parts are looked at again and again.
const LONGEST: usize = 1 << 17;

/// How deeply views may be nested.
const DEEPEST: usize = 20;

pub(super) struct Puller<'b> {
    builder: &'b Builder<'b>,
    names: &'b Names,
    said: Said,
    pulls: Vec<Pull>,
    /// The columns of the carriers.
    carriers: BTreeMap<String, Relation>,
    /// The names of the queries of WITH that can be named.
    ctes: Vec<String>,
    /// The names in FROM that stand for carriers now.
    taken: Vec<String>,
    views: usize,
    /// The view in whose query it is; of views within views, the outermost.
    view: Option<Pieces>,
    /// Within a query that runs for each row of another.
    correlated: bool,
    /// The next query is asked only whether it has a row, or a value.
    once: bool,
    /// Nothing is computed on the shards, and no row of theirs is left out.
    whole: bool,
    /// The levels whose names can be said, the innermost last; nothing where they are not known.
    levels: Vec<Option<Level>>,
}

/// Where something stands in FROM.
#[derive(Clone, Default)]
struct Position {
    /// What all rows that count fulfil.
    filters: Vec<Node>,
    /// Those of them whose names are looked for in the whole level, as those in ON need not be.
    sure: Vec<Node>,
    /// All columns are among the targets.
    star: bool,
    /// It makes no difference how often there is the same row.
    once: bool,
    grouped: Rc<Grouped>,
}

impl Builder<'_> {
    /// A plan that brings rows to one server.
    pub(super) fn pulled(
        &self,
        select: &SelectStmt,
        names: &Names,
        traits: &Traits,
        given: &[String],
    ) -> Result<Plan> {
        self.pullable(traits)?;
        self.taken_apart(select, names, given, false)
    }

    /// A plan that brings all rows of all tables to one server, which is to answer as any other plan does.
    pub(super) fn whole(
        &self,
        select: &SelectStmt,
        names: &Names,
        traits: &Traits,
        given: &[String],
    ) -> Result<Plan> {
        self.pullable(traits)?;
        // A clock that cannot be told from outside may be that of the statement.
        let again = traits.volatile.as_ref().or(traits.drawn.as_ref());
        if let Some(part) = again.or(traits.clock.as_ref()) {
            return Err(Refusal::new(part, "it gives something else each time"));
        }
        let plan = self.taken_apart(select, names, given, true)?;
        match &plan {
            Plan::Pulled(pulled) if pulled.pulls.is_empty() => Err(Refusal::new(
                "statement",
                "it reads no table that is spread",
            )),
            _ => Ok(plan),
        }
    }

    fn taken_apart(
        &self,
        select: &SelectStmt,
        names: &Names,
        given: &[String],
        whole: bool,
    ) -> Result<Plan> {
        if self.text.len() > LONGEST {
            let reason = "it is too long to be taken apart";
            return Err(Refusal::new("statement", reason));
        }
        if self.text.contains(CARRIER) {
            return Err(Refusal::new(CARRIER, "names that begin so are taken"));
        }
        let mut puller = Puller {
            builder: self,
            names,
            said: Said::default(),
            pulls: Vec::new(),
            carriers: BTreeMap::new(),
            ctes: Vec::new(),
            taken: Vec::new(),
            views: 0,
            view: None,
            correlated: false,
            once: false,
            whole,
            levels: Vec::new(),
        };
        puller.said.of(select)?;
        puller.locks_nothing()?;
        let mut rest = select.clone();
        puller.query(&mut rest)?;
        // Views have said more.
        puller.locks_nothing()?;
        puller.unqualify(&mut rest)?;
        puller.verify(&rest, given)?;
        let text = deparse::text_of(NodeEnum::SelectStmt(Box::new(rest)))?;
        Ok(Plan::Pulled(Box::new(Pulled {
            pulls: puller.pulls,
            text,
        })))
    }

    /// What one server must not answer in place of all.
    fn pullable(&self, traits: &Traits) -> Result<()> {
        let no = |part: &Option<String>, reason: &str| match part {
            Some(part) => Err(Refusal::new(part, reason)),
            None => Ok(()),
        };
        no(
            &traits.physical,
            "where a row lies is not the same over several shards",
        )?;
        no(&traits.server, "it is not the same on every shard")?;
        no(&traits.sequence, "it gives something else on each shard")?;
        no(&traits.fixed, "it acts on one server")?;
        if !self.late {
            no(&traits.clock, "each shard has a clock of its own")?;
        }
        Ok(())
    }
}

impl Puller<'_> {
    fn locks_nothing(&self) -> Result<()> {
        match self.said.locks {
            false => Ok(()),
            true => Err(Refusal::new(
                "FOR UPDATE",
                "it is not supported where rows are brought to one server",
            )),
        }
    }

    /// A query of which only parts are brought.
    fn query(&mut self, select: &mut SelectStmt) -> Result<()> {
        let once = std::mem::take(&mut self.once) && said::is_plain(select);
        let scope = self.ctes.len();
        self.with(select)?;
        let level = self.known(select);
        self.levels.push(level);
        self.level(select, once)?;
        for arm in [&mut select.larg, &mut select.rarg].into_iter().flatten() {
            // A literal has its type from the other side, which it would lose in a table.
            match literal(arm) {
                true => self.query(arm)?,
                false => self.part(arm)?,
            }
        }
        for node in walk::expressions(select) {
            self.expression(node)?;
        }
        self.levels.pop();
        self.ctes.truncate(scope);
        Ok(())
    }

    /// Does something where other names can be said than those of the present level.
    fn elsewhere<T>(
        &mut self,
        level: Option<Level>,
        done: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        let here = self.levels.pop();
        self.levels.push(level);
        let done = done(self);
        self.levels.pop();
        self.levels.extend(here);
        done
    }

    fn with(&mut self, select: &mut SelectStmt) -> Result<()> {
        let Some(with) = &mut select.with_clause else {
            return Ok(());
        };
        let mut behind = Vec::new();
        for node in &with.ctes {
            match &node.node {
                Some(NodeEnum::CommonTableExpr(cte)) => behind.push(cte.ctename.clone()),
                _ => return Err(Refusal::new("WITH", "of an unknown form")),
            }
        }
        if with.recursive {
            self.ctes.extend(behind.iter().cloned());
        }
        for (node, name) in with.ctes.iter_mut().zip(behind) {
            if let Some(NodeEnum::CommonTableExpr(cte)) = &mut node.node {
                self.part(walk::of_node(cte.ctequery.as_deref_mut())?)?;
            }
            if !with.recursive {
                self.ctes.push(name);
            }
        }
        Ok(())
    }

    /// A query within another: brought as a whole if it may be.
    fn part(&mut self, select: &mut SelectStmt) -> Result<()> {
        if self.whole || self.names_cte(select) {
            return self.query(select);
        }
        match self.look(select) {
            Look::Same => Ok(()),
            // It may be needed of some rows only, or not at all: what stands around it says so.
            Look::Parts { risky: true, .. } | Look::Partial { risky: true, .. } => {
                self.query(select)
            }
            Look::Parts { prune, names, .. } => {
                let inner = deparse::text_of(NodeEnum::SelectStmt(Box::new(select.clone())))?;
                let columns = columns(names.len());
                let text = format!(
                    "SELECT * FROM ({inner}) AS pgherd_rows ({})",
                    columns.join(", ")
                );
                let carrier = self.carrier(text, prune, &columns, Rule::Query);
                let mut all = deparse::select(&format!("SELECT FROM {carrier}"))?;
                for (column, name) in columns.iter().zip(&names) {
                    all.target_list
                        .push(deparse::target(deparse::snippet(column)?, name));
                }
                *select = all;
                Ok(())
            }
            Look::Partial {
                prune,
                partial,
                combine,
                width,
                ..
            } => {
                let carrier = self.carrier(partial, prune, &columns(width), Rule::Partial);
                let mut combine = deparse::select(&combine)?;
                for item in &mut combine.from_clause {
                    if let Some(NodeEnum::RangeVar(range)) = &mut item.node {
                        range.relname = carrier.clone();
                        range.alias = Some(Alias {
                            aliasname: PARTIALS.to_owned(),
                            colnames: Vec::new(),
                        });
                    }
                }
                *select = combine;
                Ok(())
            }
            Look::Unknown => self.query(select),
        }
    }

    /// Whether it may name a query of a WITH that is not its own.
    fn names_cte(&self, select: &SelectStmt) -> bool {
        let shown = format!("{select:?}");
        let mut names = self.ctes.iter();
        names.any(|name| shown.contains(&format!("relname: {name:?}")))
    }

    fn expression(&mut self, node: &mut Node) -> Result<()> {
        walk::expression(node, &mut |inner| {
            let NodeEnum::SubLink(sub) = inner else {
                return Ok(());
            };
            let before = std::mem::replace(&mut self.correlated, true);
            let exists = sub.sub_link_type() == SubLinkType::ExistsSublink;
            let select = walk::of_node(sub.subselect.as_deref_mut())?;
            if exists && said::is_only_star(select) {
                // Which columns there are is nothing to EXISTS.
                select.target_list = vec![deparse::target(deparse::snippet("1")?, "")];
            }
            self.once = matches!(
                sub.sub_link_type(),
                SubLinkType::ExistsSublink | SubLinkType::AnySublink
            );
            let select = walk::of_node(sub.subselect.as_deref_mut())?;
            let done = self.part(select);
            self.once = false;
            self.correlated = before;
            done
        })
    }

    fn level(&mut self, select: &mut SelectStmt, once: bool) -> Result<()> {
        let filters = filter::conjuncts(&select.where_clause);
        let position = Position {
            sure: filters.clone(),
            filters,
            star: said::has_star(select),
            once,
            grouped: Rc::new(Grouped::of(select)),
        };
        self.joined(select, &position)?;
        for item in &mut select.from_clause {
            self.source(item, &position)?;
        }
        self.grant();
        Ok(())
    }

    fn source(&mut self, node: &mut Node, position: &Position) -> Result<()> {
        match &mut node.node {
            Some(NodeEnum::RangeVar(range)) => {
                let range = range.clone();
                if let Some(other) = self.range(range, position)? {
                    node.node = Some(other);
                }
                Ok(())
            }
            Some(NodeEnum::RangeSubselect(sub)) => {
                let before = self.correlated;
                self.correlated |= sub.lateral;
                // A lateral query sees what stands before it, which is not told apart here.
                let level = (!sub.lateral).then(Level::default);
                let select = walk::of_node(sub.subquery.as_deref_mut())?;
                let done = self.elsewhere(level, |puller| puller.part(select));
                self.correlated = before;
                done
            }
            Some(NodeEnum::RangeFunction(function)) => {
                for call in walk::calls(&mut function.functions)? {
                    self.elsewhere(None, |puller| puller.expression(call))?;
                }
                Ok(())
            }
            Some(NodeEnum::JoinExpr(join)) => self.join(join, position),
            _ => Err(Refusal::new("FROM", "of an unknown form")),
        }
    }

    fn join(&mut self, join: &mut JoinExpr, position: &Position) -> Result<()> {
        let on = filter::conjuncts(&join.quals);
        let whole = self.on(join);
        // An alias hides the names of both sides from what stands further out.
        let (outer, outer_sure) = match join.alias {
            Some(_) => (Vec::new(), Vec::new()),
            None => (position.filters.clone(), position.sure.clone()),
        };
        let kind = join.jointype();
        let (left, right) = sides(kind, outer, on);
        let (left_sure, right_sure) = sides(kind, outer_sure, whole);
        for (side, filters, sure) in [
            (&mut join.larg, left, left_sure),
            (&mut join.rarg, right, right_sure),
        ] {
            let side = side
                .as_deref_mut()
                .ok_or_else(|| Refusal::new("JOIN", "a side is missing"))?;
            // The join's own name may stand for all columns of both sides.
            let position = Position {
                filters,
                sure,
                star: position.star || join.alias.is_some(),
                once: position.once,
                grouped: Rc::clone(&position.grouped),
            };
            self.source(side, &position)?;
        }
        match &mut join.quals {
            // In ON fewer names can be said than elsewhere.
            Some(quals) => self.elsewhere(None, |puller| puller.expression(quals)),
            None => Ok(()),
        }
    }

    /// A name in FROM, and what stands there instead.
    fn range(&mut self, range: RangeVar, position: &Position) -> Result<Option<NodeEnum>> {
        if range.schemaname.is_empty() && self.ctes.contains(&range.relname)
            || range.relname.starts_with(CARRIER)
        {
            return Ok(None);
        }
        let builder = self.builder;
        let mut resolver = builder.resolver(self.names);
        let (schema, relation) = resolver.locate(&range)?;
        let alias = match &range.alias {
            Some(alias) => alias.aliasname.clone(),
            None => range.relname.clone(),
        };
        let RelationKind::View(text) = &relation.kind else {
            let table = resolver.table(&schema, &range.relname, relation)?;
            return self.table(&range, &alias, relation, &table, position);
        };
        if matches!(self.look(&everything(&range)?), Look::Same) {
            return Ok(None);
        }
        // What stands in its place gives records, and not rows of the view's type.
        self.keeps_row_type(&alias)?;
        self.taken.push(alias);
        self.views += 1;
        if self.views > DEEPEST {
            return Err(Refusal::new(&range.relname, "there are too many views"));
        }
        let mut sub = self.inlined(&range, relation, text)?;
        let inner = walk::of_node(sub.subquery.as_deref_mut())?;
        self.said.of(inner)?;
        // Whole views are asked for by their names, as their owners' rights count for what is in them.
        let whole = everything(&range)?;
        let as_whole = !self.whole && matches!(self.look(&whole), Look::Parts { risky: false, .. });
        let outermost = self.view.is_none() && !as_whole;
        if as_whole {
            *inner = whole;
        } else if outermost {
            self.view = Some(Pieces::of(&range)?);
        }
        let ctes = std::mem::take(&mut self.ctes);
        let done = self.elsewhere(None, |puller| puller.part(inner));
        self.ctes = ctes;
        if outermost {
            self.view = None;
        }
        done?;
        Ok(Some(NodeEnum::RangeSubselect(Box::new(sub))))
    }
}

/// What holds for the rows that count of each side of a join, by what holds for those of the whole, and by its ON.
fn sides(kind: JoinType, outer: Vec<Node>, on: Vec<Node>) -> (Vec<Node>, Vec<Node>) {
    match kind {
        JoinType::JoinInner => {
            let both = [outer, on].concat();
            (both.clone(), both)
        }
        JoinType::JoinLeft => (outer, on),
        JoinType::JoinRight => (on, outer),
        _ => (Vec::new(), Vec::new()),
    }
}

/// All of a table or view.
fn everything(range: &RangeVar) -> Result<SelectStmt> {
    let mut select = deparse::select("SELECT * FROM x")?;
    let plain = RangeVar {
        alias: None,
        ..range.clone()
    };
    select.from_clause = vec![Node {
        node: Some(NodeEnum::RangeVar(plain)),
    }];
    Ok(select)
}

/// Whether a target is a literal whose type is decided outside, or has a collation that would count for less were it
/// a table's.
fn literal(select: &SelectStmt) -> bool {
    if format!("{:?}", select.target_list).contains("CollateClause") {
        return true;
    }
    let arms = [&select.larg, &select.rarg];
    let of_target = |node: &Node| match &node.node {
        Some(NodeEnum::ResTarget(target)) => matches!(
            target.val.as_deref().and_then(|value| value.node.as_ref()),
            Some(NodeEnum::AConst(_) | NodeEnum::ParamRef(_))
        ),
        _ => true,
    };
    arms.into_iter().flatten().any(|arm| literal(arm))
        || select.target_list.iter().any(of_target)
        || !select.values_lists.is_empty()
}
