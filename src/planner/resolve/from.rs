//! FROM: tables, joins, queries and functions.

use pg_query::NodeEnum;
use pg_query::protobuf::{Alias, JoinExpr, JoinType, Node, RangeFunction, RangeSubselect};

use super::function::Columns;
use super::scope::{Entry, Star};
use super::{Resolver, Space, boxed, inner, strings, unknown_node};
use crate::refusal::{Refusal, Result};
use crate::tree::{Col, Expr, From, JoinKind, Kind, Output, Rel, Source};

impl<'a> Resolver<'a> {
    /// All items of a FROM. What stands further left is known to those that are LATERAL.
    pub(crate) fn sources(&mut self, items: &'a [Node]) -> Result<(Vec<From>, Space)> {
        let mut space = Space::default();
        let mut from = Vec::with_capacity(items.len());
        for item in items {
            let (item, names) = self.source(inner(item)?, &space)?;
            for entry in &names.entries {
                // Only tables and views without an alias are told apart by their schemas.
                let twice = |known: &Entry| {
                    known.alias == entry.alias
                        && (known.schema == entry.schema
                            || known.schema.is_none()
                            || entry.schema.is_none())
                };
                if space.entries.iter().any(twice) {
                    let reason = "the name is given to two things in FROM";
                    return Err(Refusal::new(&entry.alias, reason).with("42712"));
                }
            }
            space = space.and(names);
            from.push(item);
        }
        Ok((from, space))
    }

    fn source(&mut self, node: &'a NodeEnum, left: &Space) -> Result<(From, Space)> {
        self.enter()?;
        let done = self.item(node, left);
        self.leave();
        done
    }

    fn item(&mut self, node: &'a NodeEnum, left: &Space) -> Result<(From, Space)> {
        match node {
            NodeEnum::RangeVar(range) => {
                let (rel, space) = self.range(range)?;
                Ok((From::Rel(rel), space))
            }
            NodeEnum::RangeSubselect(sub) => self.derived(sub, left),
            NodeEnum::RangeFunction(function) => self.range_function(function, left),
            NodeEnum::JoinExpr(join) => self.join(join, left),
            NodeEnum::RangeTableSample(sample) => {
                self.traits.physical = Some("TABLESAMPLE".into());
                if !sample.args.is_empty() || sample.repeatable.is_some() {
                    let mut all: Vec<&Node> = sample.args.iter().collect();
                    all.extend(sample.repeatable.as_deref());
                    for arg in all {
                        let expr = self.expr(inner(arg)?)?;
                        self.level.extra.push(expr);
                    }
                }
                self.source(boxed(&sample.relation)?, left)
            }
            other => Err(unknown_node("FROM", other)),
        }
    }

    /// The names of an occurrence, as an alias changes them.
    pub(super) fn space(
        &mut self,
        rel: Rel,
        alias: &Option<Alias>,
        name: &str,
        schema: Option<&str>,
        table: bool,
    ) -> Result<Space> {
        let (name, renamed) = match alias {
            Some(alias) => (alias.aliasname.as_str(), strings(&alias.colnames)?),
            None => (name, Vec::new()),
        };
        let columns = &mut self.relations[rel.0].columns;
        if renamed.len() > columns.len() {
            return Err(
                Refusal::new(name, "it has fewer columns than the alias names").with("42P10"),
            );
        }
        for (column, renamed) in columns.iter_mut().zip(&renamed) {
            column.name = (*renamed).to_owned();
        }
        let names: Vec<String> = columns.iter().map(|column| column.name.clone()).collect();
        // An alias hides the table's own name, with its schema.
        let schema = schema.filter(|_| alias.is_none());
        Ok(Space::of(rel, name, schema, &names, table))
    }

    fn derived(&mut self, sub: &'a RangeSubselect, left: &Space) -> Result<(From, Space)> {
        let NodeEnum::SelectStmt(select) = boxed(&sub.subquery)? else {
            return Err(Refusal::new("FROM", "only a SELECT may stand there"));
        };
        let query = match sub.lateral {
            true => self.within(left.clone(), |this| this.query(select))?,
            false => self.query(select)?,
        };
        let columns = query.columns.clone();
        let rel = self.add(Source::Query(Box::new(query)), columns, sub.lateral)?;
        let space = self.space(rel, &sub.alias, "", None, false)?;
        Ok((From::Rel(rel), space))
    }

    /// Resolves with one more level of names.
    pub(crate) fn within<T>(
        &mut self,
        space: Space,
        resolve: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        self.stack.push(space);
        let done = resolve(self);
        self.stack.pop();
        done
    }

    fn range_function(&mut self, range: &'a RangeFunction, left: &Space) -> Result<(From, Space)> {
        let mut exprs = Vec::new();
        let mut columns = Vec::new();
        // What several are called is what the first is.
        let mut called = None;
        // Whether the only column is called as the alias is.
        let mut nameless = true;
        for function in &range.functions {
            let NodeEnum::List(parts) = inner(function)? else {
                return Err(Refusal::new("FROM", "a function of an unknown form"));
            };
            let [call, definition] = parts.items.as_slice() else {
                return Err(Refusal::new("FROM", "a function of an unknown form"));
            };
            let call = inner(call)?;
            let defined = match &definition.node {
                Some(NodeEnum::List(list)) => list.items.as_slice(),
                Some(_) => return Err(Refusal::new("FROM", "a function of an unknown form")),
                None => &[],
            };
            let defined = if defined.is_empty() {
                &range.coldeflist
            } else {
                defined
            };
            let name = super::output_name(call);
            called.get_or_insert_with(|| name.clone());
            if let Some(arrays) = arrays(call, defined) {
                for array in arrays {
                    let array = inner(array)?;
                    let expr = self.within(left.clone(), |this| this.expr(array))?;
                    let given = self.unnested(array, &expr);
                    columns.extend(function_columns(given, &name)?);
                    exprs.push(expr);
                }
                continue;
            }
            let (expr, given) = self.within(left.clone(), |this| {
                let expr = this.expr(call)?;
                let given = this.columns_of(call, &expr)?;
                Ok((expr, given))
            })?;
            exprs.push(expr);
            if defined.is_empty() {
                nameless &= matches!(given, Columns::Value(None));
                columns.extend(function_columns(given, &name)?);
            } else {
                nameless = false;
            }
            for column in defined {
                match inner(column)? {
                    NodeEnum::ColumnDef(column) => columns.push(column.colname.clone()),
                    other => return Err(unknown_node("FROM", other)),
                }
            }
        }
        // An alias of a function with one column is its column's name as well.
        if let (Some(alias), [column]) = (&range.alias, columns.as_mut_slice())
            && alias.colnames.is_empty()
            && nameless
        {
            *column = alias.aliasname.clone();
        }
        if range.ordinality {
            columns.push("ordinality".into());
        }
        let columns = columns.into_iter().map(|name| Output {
            name,
            kind: Kind::UNKNOWN,
        });
        let rel = self.add(Source::Rows(exprs), columns.collect(), true)?;
        let called = called.unwrap_or_default();
        let space = self.space(rel, &range.alias, &called, None, false)?;
        Ok((From::Rel(rel), space))
    }

    fn join(&mut self, join: &'a JoinExpr, outer: &Space) -> Result<(From, Space)> {
        let (left, left_space) = self.source(boxed(&join.larg)?, outer)?;
        let seen = outer.clone().and(left_space.clone());
        let (right, right_space) = self.source(boxed(&join.rarg)?, &seen)?;
        let kind = match join.jointype() {
            JoinType::JoinInner => JoinKind::Inner,
            JoinType::JoinLeft => JoinKind::Left,
            JoinType::JoinRight => JoinKind::Right,
            JoinType::JoinFull => JoinKind::Full,
            _ => return Err(Refusal::new("JOIN", "of an unknown kind")),
        };
        let shared: Vec<String> = match join.is_natural {
            true => natural(&left_space, &right_space),
            false => strings(&join.using_clause)?
                .into_iter()
                .map(str::to_owned)
                .collect(),
        };
        let mut merged = Vec::new();
        let mut on = Vec::new();
        let mut space = self.using(
            kind,
            &shared,
            left_space,
            right_space,
            (&mut on, &mut merged),
        )?;
        if let Some(quals) = &join.quals {
            // What stands before the join in FROM is not known to its ON.
            let expr = self.within(space.clone(), |this| this.expr(inner(quals)?))?;
            conjuncts(expr, &mut on);
        }
        if let Some(alias) = &join.join_using_alias {
            let columns = space.columns.iter().take(shared.len());
            let columns = columns
                .map(|star| (star.name.clone(), star.expr.clone()))
                .collect();
            space.entries.push(Entry {
                schema: None,
                alias: alias.aliasname.clone(),
                columns,
                table: false,
            });
        }
        if let Some(alias) = &join.alias {
            space = renamed(space, alias)?;
        }
        let from = From::Join {
            kind,
            left: Box::new(left),
            right: Box::new(right),
            on,
            merged,
        };
        Ok((from, space))
    }

    /// The names behind a join, whose shared columns come first and once.
    fn using(
        &mut self,
        kind: JoinKind,
        shared: &[String],
        left: Space,
        right: Space,
        (on, merged): (&mut Vec<Expr>, &mut Vec<(Col, Col, Col)>),
    ) -> Result<Space> {
        let mut first = Vec::new();
        for name in shared {
            let missing =
                || Refusal::new(name, "the shared column is not on both sides").with("42703");
            let one = left.bare(name)?.ok_or_else(missing)?.clone();
            let two = right.bare(name)?.ok_or_else(missing)?.clone();
            on.push(Expr::Equal(Box::new(one.clone()), Box::new(two.clone())));
            let kinds = (self.kind_of(&one), self.kind_of(&two));
            let same = kinds.0.oid != 0 && kinds.0.oid == kinds.1.oid;
            let expr = match kind {
                JoinKind::Full => self.full_column(name, &one, &two, merged)?,
                // The value is one side's, but the type may be that of both.
                JoinKind::Right if same => two,
                _ if same => one,
                _ => Expr::Of(vec![one, two], Kind::UNKNOWN),
            };
            first.push(Star {
                name: name.clone(),
                alias: None,
                expr,
            });
        }
        let rest = |space: &Space| -> Vec<Star> {
            let columns = space.columns.iter();
            columns
                .filter(|star| !shared.contains(&star.name))
                .cloned()
                .collect()
        };
        first.extend(rest(&left));
        first.extend(rest(&right));
        let mut entries = left.entries;
        entries.extend(right.entries);
        Ok(Space {
            entries,
            columns: first,
        })
    }

    fn full_column(
        &mut self,
        name: &str,
        one: &Expr,
        two: &Expr,
        merged: &mut Vec<(Col, Col, Col)>,
    ) -> Result<Expr> {
        let (Expr::Col(left), Expr::Col(right)) = (one, two) else {
            return Ok(Expr::Of(vec![one.clone(), two.clone()], Kind::UNKNOWN));
        };
        let both = self.kind_of(one).and(self.kind_of(two));
        let output = Output {
            name: name.to_owned(),
            kind: both.unwrap_or(Kind::UNKNOWN),
        };
        let rel = self.add(Source::Rows(Vec::new()), vec![output], false)?;
        let col = Col { rel, at: 0 };
        merged.push((*left, *right, col));
        Ok(Expr::Col(col))
    }
}

/// The arguments of `unnest` with several, which is as many calls beside each other.
fn arrays<'n>(call: &'n NodeEnum, defined: &[Node]) -> Option<&'n [Node]> {
    let NodeEnum::FuncCall(call) = call else {
        return None;
    };
    let plain = call.agg_order.is_empty()
        && call.agg_filter.is_none()
        && call.over.is_none()
        && !(call.agg_star || call.agg_distinct || call.func_variadic)
        && defined.is_empty();
    let unnests = strings(&call.funcname).is_ok_and(|names| names == ["unnest"]);
    (plain && unnests && call.args.len() > 1).then_some(call.args.as_slice())
}

fn function_columns(given: Columns, name: &str) -> Result<Vec<String>> {
    match given {
        Columns::Value(own) => Ok(vec![own.unwrap_or_else(|| name.to_owned())]),
        Columns::Row(Some(names)) => Ok(names),
        // An alias may name fewer than there are.
        Columns::Row(None) => {
            let unknown = Refusal::new(
                name,
                "whether it gives rows, and of which columns, is not known",
            );
            Err(match name {
                "unnest" => unknown.hint("Say what type the array has, as in x::text[]."),
                _ => unknown,
            })
        }
    }
}

fn natural(left: &Space, right: &Space) -> Vec<String> {
    let columns = left.columns.iter();
    columns
        .filter(|star| right.columns.iter().any(|other| other.name == star.name))
        .map(|star| star.name.clone())
        .collect()
}

/// A join with an alias has this one name only.
fn renamed(space: Space, alias: &Alias) -> Result<Space> {
    let names = strings(&alias.colnames)?;
    let mut columns = space.columns;
    for (star, name) in columns.iter_mut().zip(names) {
        star.name = name.to_owned();
    }
    for star in &mut columns {
        star.alias = Some(alias.aliasname.clone());
    }
    let entry = Entry {
        schema: None,
        alias: alias.aliasname.clone(),
        columns: columns
            .iter()
            .map(|star| (star.name.clone(), star.expr.clone()))
            .collect(),
        table: false,
    };
    Ok(Space {
        entries: vec![entry],
        columns,
    })
}

/// The parts that must all hold.
pub(crate) fn conjuncts(expr: Expr, into: &mut Vec<Expr>) {
    match expr {
        Expr::And(parts) => parts.into_iter().for_each(|part| conjuncts(part, into)),
        other => into.push(other),
    }
}
