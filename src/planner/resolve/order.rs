//! GROUP BY, DISTINCT ON and ORDER BY, where names and numbers may mean output columns.

use pg_query::NodeEnum;
use pg_query::protobuf::{self, Node, SortByDir, SortByNulls, a_const::Val};

use super::{Resolver, boxed, inner};
use crate::refusal::{Refusal, Result};
use crate::tree::{Distinct, Expr, Output, Sort};

impl<'a> Resolver<'a> {
    pub(super) fn group(
        &mut self,
        clause: &'a [Node],
        targets: &[Expr],
        columns: &[Output],
    ) -> Result<(Vec<Expr>, bool)> {
        let mut group = Vec::new();
        let mut sets = false;
        for node in clause {
            match inner(node)? {
                NodeEnum::GroupingSet(set) => {
                    sets = true;
                    let (inside, _) = self.group(&set.content, targets, columns)?;
                    group.extend(inside);
                }
                NodeEnum::RowExpr(row)
                    if row.row_format() == protobuf::CoercionForm::CoerceImplicitCast =>
                {
                    let (inside, nested) = self.group(&row.args, targets, columns)?;
                    group.extend(inside);
                    sets |= nested;
                }
                node => group.push(self.group_item(node, targets, columns)?),
            }
        }
        Ok((group, sets))
    }

    /// A target that is named once more.
    fn again(&mut self, targets: &[Expr], at: usize) -> Result<Expr> {
        let cost = self.level.costs.get(at).copied().unwrap_or(1);
        self.spend(cost)?;
        Ok(targets[at].clone())
    }

    fn group_item(
        &mut self,
        node: &'a NodeEnum,
        targets: &[Expr],
        columns: &[Output],
    ) -> Result<Expr> {
        if let Some(at) = position(node, columns.len())? {
            return self.again(targets, at);
        }
        if let Some(name) = bare_name(node)
            && self
                .stack
                .last()
                .map(|space| space.bare(name))
                .transpose()?
                .flatten()
                .is_none()
            && let Some(at) = by_name(name, columns, targets)?
        {
            return self.again(targets, at);
        }
        self.expr(node)
    }

    pub(super) fn distinct(
        &mut self,
        clause: &'a [Node],
        targets: &[Expr],
        columns: &[Output],
    ) -> Result<Distinct> {
        match clause {
            [] => Ok(Distinct::No),
            [Node { node: None }] => Ok(Distinct::All),
            items => {
                let mut on = Vec::new();
                for item in items {
                    on.push(self.sort_item(inner(item)?, targets, columns)?.0);
                }
                Ok(Distinct::On(on))
            }
        }
    }

    /// What an item of ORDER BY or DISTINCT ON is, and which output column it is.
    fn sort_item(
        &mut self,
        node: &'a NodeEnum,
        targets: &[Expr],
        columns: &[Output],
    ) -> Result<(Expr, Option<usize>)> {
        if let Some(at) = position(node, columns.len())? {
            return Ok((self.again(targets, at)?, Some(at)));
        }
        if let Some(name) = bare_name(node)
            && let Some(at) = by_name(name, columns, targets)?
        {
            return Ok((self.again(targets, at)?, Some(at)));
        }
        let expr = self.expr(node)?;
        let same = |target: &Expr| matches!((target, &expr), (Expr::Col(one), Expr::Col(two)) if one == two);
        let output = targets.iter().position(same);
        Ok((expr, output))
    }

    pub(super) fn sort(
        &mut self,
        clause: &'a [Node],
        targets: &[Expr],
        columns: &[Output],
    ) -> Result<Vec<Sort>> {
        let mut sorts = Vec::new();
        for node in clause {
            let NodeEnum::SortBy(sort) = inner(node)? else {
                return Err(Refusal::new("ORDER BY", "of an unknown form"));
            };
            let (expr, output) = self.sort_item(boxed(&sort.node)?, targets, columns)?;
            sorts.push(sorted(sort, expr, output));
        }
        Ok(sorts)
    }

    /// ORDER BY where only output columns may be named.
    pub(super) fn output_sort(&self, clause: &'a [Node], columns: &[Output]) -> Result<Vec<Sort>> {
        let mut sorts = Vec::new();
        for node in clause {
            let NodeEnum::SortBy(sort) = inner(node)? else {
                return Err(Refusal::new("ORDER BY", "of an unknown form"));
            };
            let item = boxed(&sort.node)?;
            let mut output = position(item, columns.len())?;
            if let Some(name) = bare_name(item) {
                // Of a set operation, each is a column of its own.
                output = by_name(name, columns, &[])?;
            }
            let Some(at) = output else {
                return Err(Refusal::new(
                    "ORDER BY",
                    "only output columns may stand there",
                ));
            };
            let expr = Expr::Of(Vec::new(), columns[at].kind);
            sorts.push(sorted(sort, expr, output));
        }
        Ok(sorts)
    }
}

fn sorted(sort: &protobuf::SortBy, expr: Expr, output: Option<usize>) -> Sort {
    let descending = sort.sortby_dir() == SortByDir::SortbyDesc;
    Sort {
        expr,
        output,
        descending,
        nulls_first: match sort.sortby_nulls() {
            SortByNulls::SortbyNullsFirst => true,
            SortByNulls::SortbyNullsLast => false,
            _ => descending,
        },
        using: sort.sortby_dir() == SortByDir::SortbyUsing,
    }
}

/// The output column that a number stands for.
pub(crate) fn position(node: &NodeEnum, columns: usize) -> Result<Option<usize>> {
    let NodeEnum::AConst(constant) = node else {
        return Ok(None);
    };
    match &constant.val {
        Some(Val::Ival(number)) => {
            let at = usize::try_from(number.ival)
                .ok()
                .and_then(|at| at.checked_sub(1));
            match at {
                Some(at) if at < columns => Ok(Some(at)),
                _ => Err(
                    Refusal::new("ORDER BY", "there is no output column of this number")
                        .with("42P10"),
                ),
            }
        }
        _ => Err(Refusal::new(
            "ORDER BY",
            "a constant there must be the number of an output column",
        )
        .with("42601")),
    }
}

pub(crate) fn bare_name(node: &NodeEnum) -> Option<&str> {
    let NodeEnum::ColumnRef(column) = node else {
        return None;
    };
    match column.fields.as_slice() {
        [
            Node {
                node: Some(NodeEnum::String(name)),
            },
        ] => Some(&name.sval),
        _ => None,
    }
}

/// The output column of a name. Several may have it if they are the same (findTargetlistEntrySQL92).
fn by_name(name: &str, columns: &[Output], targets: &[Expr]) -> Result<Option<usize>> {
    let mut found = (0..columns.len()).filter(|at| columns[*at].name == name);
    let first = found.next();
    let target = |at: Option<usize>| at.and_then(|at| targets.get(at));
    for other in found {
        let refusal = Refusal::new(name, "more than one output column has this name");
        match (target(first), target(Some(other))) {
            (Some(Expr::Col(one)), Some(Expr::Col(two))) if one == two => {}
            (Some(Expr::Col(_)), _) | (_, Some(Expr::Col(_)) | None) | (None, _) => {
                return Err(refusal.with("42702"));
            }
            // Whether two expressions are the same is not looked at.
            (Some(_), Some(_)) => return Err(refusal.hint("Say it by its number.")),
        }
    }
    Ok(first)
}
