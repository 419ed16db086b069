//! WITH: each use of a query's name is the query itself, resolved where it stands.

use std::collections::BTreeSet;
use std::rc::Rc;

use pg_query::NodeEnum;
use pg_query::protobuf::{CommonTableExpr, SelectStmt, WithClause};

use super::{Cte, MOST, Resolver, USE, boxed, inner, strings, unknown_node};
use crate::refusal::{Refusal, Result};
use crate::tree::{Kind, Output, Query, Rel, Source};

/// How much of a shown tree is a step.
const SHOWN: usize = 256;

impl<'a> Resolver<'a> {
    pub(crate) fn with_clause(&mut self, with: &'a WithClause) -> Result<()> {
        // Each of them holds all before it.
        if self.ctes.len() + with.ctes.len() > MOST {
            return Err(Refusal::new("WITH", "there are too many queries"));
        }
        let mut all: Vec<&'a CommonTableExpr> = Vec::new();
        for node in &with.ctes {
            match inner(node)? {
                NodeEnum::CommonTableExpr(cte) => all.push(cte),
                other => return Err(unknown_node("WITH", other)),
            }
        }
        let mut shown = Vec::with_capacity(all.len());
        for cte in &all {
            shown.push(match with.recursive {
                true => format!("{:?}", cte.ctequery),
                false => String::new(),
            });
            if self.links > 0 {
                self.spend(shown.last().map_or(0, String::len) / SHOWN)?;
            }
        }
        for at in ordered(&all, &shown)? {
            let (cte, shown) = (all[at], &shown[at]);
            let body = cte.ctequery.as_deref();
            let body = body.ok_or_else(|| Refusal::new("WITH", "a query is missing"))?;
            let mut work = None;
            if !matches!(body.node, Some(NodeEnum::SelectStmt(_))) {
                if !self.within {
                    return Err(Refusal::new(
                        "WITH",
                        "what writes there is not supported over shards",
                    ));
                }
                work = Some(self.written(cte, inner(body)?)?);
            }
            let added = self.added(cte)?;
            let is_named = |name: &String| shown.contains(&format!("sval: {name:?}"));
            if added.iter().any(is_named) {
                let reason = "a column that it adds is named within the query";
                return Err(Refusal::new("SEARCH or CYCLE", reason));
            }
            let aliases = strings(&cte.aliascolnames)?;
            let made = Cte {
                name: cte.ctename.clone(),
                aliases: aliases.into_iter().map(str::to_owned).collect(),
                body,
                recursive: mentions(shown, &cte.ctename),
                visible: self.ctes.clone(),
                levels: self.stack.len(),
                queries: self.queries,
                added,
                work: std::cell::RefCell::new(work),
                used: std::cell::Cell::new(false),
                read: std::cell::Cell::new(false),
                busy: std::cell::Cell::new(false),
            };
            self.ctes.push(Rc::new(made));
        }
        Ok(())
    }

    /// The columns that a part which writes gives; of their types and values nothing is known.
    fn written(&self, cte: &CommonTableExpr, body: &NodeEnum) -> Result<Vec<Output>> {
        let (relation, returning, alone) = match body {
            NodeEnum::InsertStmt(it) => (&it.relation, &it.returning_clause, true),
            NodeEnum::UpdateStmt(it) => {
                let alone = it.from_clause.is_empty();
                (&it.relation, &it.returning_clause, alone)
            }
            NodeEnum::DeleteStmt(it) => {
                let alone = it.using_clause.is_empty();
                (&it.relation, &it.returning_clause, alone)
            }
            other => return Err(unknown_node("WITH", other)),
        };
        let unclear = || {
            Refusal::new("RETURNING", "the name of a column is not clear")
                .hint("Give each column a name by AS.")
        };
        let mut names: Vec<String> = Vec::new();
        for target in returning.iter().flat_map(|clause| &clause.exprs) {
            let NodeEnum::ResTarget(target) = inner(target)? else {
                return Err(unclear());
            };
            if !target.name.is_empty() {
                names.push(target.name.clone());
                continue;
            }
            let NodeEnum::ColumnRef(column) = boxed(&target.val)? else {
                return Err(unclear());
            };
            match column.fields.last().and_then(|field| field.node.as_ref()) {
                Some(NodeEnum::String(name)) => names.push(name.sval.clone()),
                Some(NodeEnum::AStar(_)) if alone && column.fields.len() == 1 => {
                    let (_, relation) = self.locate(relation.as_ref().ok_or_else(unclear)?)?;
                    let columns = relation.columns.iter();
                    names.extend(columns.map(|column| column.name.clone()));
                }
                _ => return Err(unclear()),
            }
        }
        for (name, alias) in names.iter_mut().zip(strings(&cte.aliascolnames)?) {
            alias.clone_into(name);
        }
        let kind = Kind::UNKNOWN;
        Ok(names
            .into_iter()
            .map(|name| Output { name, kind })
            .collect())
    }

    /// The columns that SEARCH and CYCLE add to those of a query.
    fn added(&mut self, cte: &'a CommonTableExpr) -> Result<Vec<String>> {
        let mut added = Vec::new();
        if let Some(search) = &cte.search_clause {
            added.push(search.search_seq_column.clone());
        }
        if let Some(cycle) = &cte.cycle_clause {
            for value in [&cycle.cycle_mark_value, &cycle.cycle_mark_default] {
                self.expr(boxed(value)?)?;
            }
            added.push(cycle.cycle_mark_column.clone());
            added.push(cycle.cycle_path_column.clone());
        }
        self.traits.paths |= !added.is_empty();
        Ok(added)
    }

    pub(super) fn cte(&mut self, cte: &Rc<Cte<'a>>) -> Result<Rel> {
        cte.read.set(true);
        let work = cte.work.borrow().clone();
        if let Some(columns) = work {
            cte.used.set(true);
            return self.add(Source::Rows(Vec::new()), columns, false);
        }
        if cte.busy.get() {
            let reason = "a recursive query may name itself only behind UNION";
            return Err(Refusal::new(&cte.name, reason).with("42P19"));
        }
        // Further in, a star does not stand for the columns that are added, which have their names there, too.
        if !cte.added.is_empty() && cte.queries != self.queries {
            let reason = "it is read within another query, where not all of its columns are shown";
            return Err(Refusal::new("SEARCH or CYCLE", reason));
        }
        let NodeEnum::SelectStmt(select) = inner(cte.body)? else {
            return Err(Refusal::new(
                "WITH",
                "what writes there is not supported over shards",
            ));
        };
        self.spend(USE)?;
        let mut visible = cte.visible.clone();
        if cte.recursive {
            visible.push(Rc::clone(cte));
        }
        let ctes = std::mem::replace(&mut self.ctes, visible);
        let stack = self.stack.split_off(cte.levels.min(self.stack.len()));
        let found_in = self.found_in;
        cte.busy.set(true);
        self.links += 1;
        let done = self.cte_query(cte, select);
        self.links -= 1;
        cte.busy.set(false);
        self.found_in = found_in;
        self.stack.extend(stack);
        self.ctes = ctes;
        let (mut query, recursive) = done?;
        for (column, alias) in query.columns.iter_mut().zip(&cte.aliases) {
            column.name = alias.clone();
        }
        let mut columns = query.columns.clone();
        columns.extend(cte.added.iter().map(|name| Output {
            name: name.clone(),
            kind: Kind::UNKNOWN,
        }));
        let source = match (recursive, cte.added.is_empty()) {
            (true, _) => Source::Recursive(Box::new(query)),
            (false, true) => Source::Query(Box::new(query)),
            (false, false) => {
                let reason = "it is not known to be recursive";
                return Err(Refusal::new("SEARCH or CYCLE", reason));
            }
        };
        self.add(source, columns, false)
    }

    fn cte_query(&mut self, cte: &Rc<Cte<'a>>, select: &'a SelectStmt) -> Result<(Query, bool)> {
        let Some(first) = select.larg.as_deref().filter(|_| cte.recursive) else {
            return Ok((self.query(select)?, false));
        };
        // The columns of the recursion are those of its first part, which does not name it.
        let (known, ctes) = (self.relations.len(), self.ctes.len());
        // The WITH of both parts is the first's as well.
        let with = select.with_clause.as_ref();
        let with = with.map_or(Ok(()), |with| self.with_clause(with));
        let first = with.and_then(|()| self.query(first));
        self.forget(ctes);
        let mut columns = first?.columns;
        self.relations.truncate(known);
        for (column, alias) in columns.iter_mut().zip(&cte.aliases) {
            column.name = alias.clone();
        }
        for column in &mut columns {
            column.kind = Kind::UNKNOWN;
        }
        cte.used.set(false);
        *cte.work.borrow_mut() = Some(columns);
        let query = self.query(select);
        *cte.work.borrow_mut() = None;
        Ok((query?, cte.used.get()))
    }

    /// Leaves only so many queries to be named. The last goes first: as each holds all before it, they would else
    /// be freed one within the other.
    pub(super) fn forget(&mut self, known: usize) {
        while self.ctes.len() > known {
            if let Some(cte) = self.ctes.pop()
                && !cte.read.get()
            {
                // Nothing of it is resolved; but a server gives types to its parameters by it.
                for number in parameters(&format!("{:?}", cte.body)) {
                    self.uses.entry(number).or_default().insert((0, false));
                }
            }
        }
    }
}

/// The numbers of the parameters that are anywhere in a query that is shown.
fn parameters(shown: &str) -> impl Iterator<Item = u32> {
    let behind = shown.split("ParamRef { number: ").skip(1);
    behind.filter_map(|rest| rest.split(',').next()?.parse().ok())
}

/// Whether a table's name is said anywhere in a query that is shown; the shown tree has all names in quotes.
pub(crate) fn mentions(shown: &str, name: &str) -> bool {
    shown.contains(&format!("relname: {}", shown_name(name)))
}

/// In which order queries of a WITH RECURSIVE are resolved: each behind those that it names.
fn ordered(all: &[&CommonTableExpr], shown: &[String]) -> Result<Vec<usize>> {
    let named: Vec<BTreeSet<&str>> = shown.iter().map(|shown| named(shown)).collect();
    let names: Vec<String> = all.iter().map(|cte| shown_name(&cte.ctename)).collect();
    let mut order: Vec<usize> = Vec::with_capacity(all.len());
    let mut left: Vec<usize> = (0..all.len()).collect();
    while !left.is_empty() {
        let waits = |at: usize| {
            let mut others = left.iter().filter(|other| **other != at);
            others.any(|other| named[at].contains(&*names[*other]))
        };
        let Some(next) = left.iter().position(|at| !waits(*at)) else {
            let reason = "its queries name each other";
            return Err(Refusal::new("WITH RECURSIVE", reason));
        };
        order.push(left.remove(next));
    }
    Ok(order)
}

/// The names of tables in a query that is shown, as they are shown.
fn named(shown: &str) -> BTreeSet<&str> {
    let mut places = shown.split("relname: ");
    places.next();
    let name = |place: &str| {
        let mut escaped = false;
        let mut letters = place.char_indices().skip(1);
        letters.find_map(|(at, letter)| {
            let ends = letter == '"' && !escaped;
            escaped = letter == '\\' && !escaped;
            ends.then_some(at + 1)
        })
    };
    places
        .filter_map(|place| place.get(..name(place)?))
        .collect()
}

fn shown_name(name: &str) -> String {
    format!("{name:?}")
}
