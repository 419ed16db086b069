//! Expressions. What may pin a key keeps its shape; all else is what it is made of.

use pg_query::NodeEnum;
use pg_query::protobuf::{AExpr, AExprKind, BoolExprType, Node, TypeCast};

use super::types::text_of;
use super::{Resolver, boxed, inner, literal, strings, unknown_node};
use crate::catalog::Volatility;
use crate::placement::KeyType;
use crate::refusal::{Refusal, Result};
use crate::tree::{Constant, Expr, Kind};

const BOOL: Kind = Kind::plain(16);

/// Operators beside `=` to which equal values are one.
const COMPARE: [&str; 6] = ["<", ">", "<=", ">=", "<>", "!="];

impl<'a> Resolver<'a> {
    pub(crate) fn expr(&mut self, node: &'a NodeEnum) -> Result<Expr> {
        self.enter()?;
        let done = self.expression(node);
        self.leave();
        done
    }

    fn expression(&mut self, node: &'a NodeEnum) -> Result<Expr> {
        Ok(match node {
            NodeEnum::ColumnRef(column) => return self.column_ref(column),
            NodeEnum::ParamRef(param) => {
                let number = self.parameter(param.number, 0, false)?;
                Expr::Param(number, None)
            }
            NodeEnum::AConst(constant) => Expr::Const(literal::constant(constant)),
            NodeEnum::TypeCast(cast) => return self.cast(cast),
            NodeEnum::AExpr(expr) => return self.operator(expr),
            NodeEnum::BoolExpr(expr) => {
                let args = self.all(&expr.args)?;
                match expr.boolop() {
                    BoolExprType::AndExpr => Expr::And(args),
                    _ => Expr::Of(args, BOOL),
                }
            }
            NodeEnum::NullTest(test) => Expr::Of(self.some([&test.arg])?, BOOL),
            NodeEnum::BooleanTest(test) => Expr::Of(self.some([&test.arg])?, BOOL),
            NodeEnum::CaseExpr(case) => {
                let mut parts = self.some([&case.arg, &case.defresult])?;
                for when in &case.args {
                    match inner(when)? {
                        NodeEnum::CaseWhen(when) => {
                            parts.extend(self.some([&when.expr, &when.result])?);
                        }
                        other => return Err(unknown_node("CASE", other)),
                    }
                }
                Expr::Of(parts, Kind::UNKNOWN)
            }
            NodeEnum::CoalesceExpr(coalesce) => Expr::Of(self.all(&coalesce.args)?, Kind::UNKNOWN),
            NodeEnum::MinMaxExpr(minmax) => Expr::Of(self.all(&minmax.args)?, Kind::UNKNOWN),
            NodeEnum::RowExpr(row) => Expr::Row(self.all(&row.args)?),
            NodeEnum::AArrayExpr(array) => Expr::Of(self.all(&array.elements)?, Kind::UNKNOWN),
            NodeEnum::AIndirection(indirection) => {
                let mut parts = self.some([&indirection.arg])?;
                for step in &indirection.indirection {
                    match inner(step)? {
                        NodeEnum::String(_) => {}
                        NodeEnum::AIndices(indices) => {
                            parts.extend(self.some([&indices.lidx, &indices.uidx])?);
                        }
                        other => return Err(unknown_node("expression", other)),
                    }
                }
                Expr::Of(parts, Kind::UNKNOWN)
            }
            // Another collation may find others equal.
            NodeEnum::CollateClause(collate) => Expr::Of(self.some([&collate.arg])?, Kind::UNKNOWN),
            NodeEnum::FuncCall(call) => return self.call(call),
            NodeEnum::SqlvalueFunction(function) => self.value_function(function),
            NodeEnum::SubLink(sub) => return self.sublink(sub),
            NodeEnum::GroupingFunc(function) => {
                self.level.aggregates = true;
                Expr::Of(self.all(&function.args)?, Kind::plain(23))
            }
            NodeEnum::NamedArgExpr(arg) => return self.expr(boxed(&arg.arg)?),
            other => return Err(unknown_node("expression", other)),
        })
    }

    pub(super) fn all(&mut self, nodes: &'a [Node]) -> Result<Vec<Expr>> {
        nodes.iter().map(|node| self.expr(inner(node)?)).collect()
    }

    fn some<const N: usize>(&mut self, nodes: [&'a Option<Box<Node>>; N]) -> Result<Vec<Expr>> {
        nodes
            .into_iter()
            .flatten()
            .map(|node| self.expr(inner(node)?))
            .collect()
    }

    /// Notes a use of a parameter.
    pub(crate) fn parameter(&mut self, number: i32, oid: u32, array: bool) -> Result<u32> {
        let number = u32::try_from(number).ok().filter(|number| *number > 0);
        let wrong = || Refusal::new("parameter", "its number is not positive").with("42P02");
        let number = number.ok_or_else(wrong)?;
        // A varchar is compared as a text.
        let oid = if oid == 1043 { 25 } else { oid };
        self.uses.entry(number).or_default().insert((oid, array));
        Ok(number)
    }

    fn column_ref(&mut self, column: &'a pg_query::protobuf::ColumnRef) -> Result<Expr> {
        let expr = match column.fields.split_last() {
            Some((last, before)) if matches!(last.node, Some(NodeEnum::AStar(_))) => {
                let stars = match strings(before)?.as_slice() {
                    [alias] => self.star_of(None, alias)?,
                    [schema, alias] => self.star_of(Some(schema), alias)?,
                    _ => return Err(Refusal::new("*", "it cannot stand there")),
                };
                self.spend(stars.len())?;
                Expr::Of(
                    stars.into_iter().map(|star| star.expr).collect(),
                    Kind::UNKNOWN,
                )
            }
            _ => self.column(&strings(&column.fields)?)?,
        };
        if matches!(expr, Expr::Of(..)) && self.is_record(column) {
            self.records.insert(column.location);
        }
        self.places.insert(column.location, expr.clone());
        Ok(expr)
    }

    /// Whether a name stands for a row that is no table's, and so has no type of a name.
    fn is_record(&self, column: &pg_query::protobuf::ColumnRef) -> bool {
        // None for a star.
        fn name(field: &Node) -> Option<&str> {
            match &field.node {
                Some(NodeEnum::String(name)) => Some(&name.sval),
                _ => None,
            }
        }
        let names: Vec<Option<&str>> = column.fields.iter().map(name).collect();
        let (schema, alias) = match names.as_slice() {
            [Some(alias)] if !self.is_column(alias) => (None, *alias),
            [Some(alias), None] => (None, *alias),
            [Some(schema), Some(alias), None] => (Some(*schema), *alias),
            _ => return false,
        };
        let mut levels = self.stack.iter().rev();
        let entry = levels.find_map(|space| space.entry(schema, alias).ok().flatten());
        entry.is_some_and(|entry| !entry.table)
    }

    /// Whether a column has this name on any level.
    fn is_column(&self, name: &str) -> bool {
        let mut levels = self.stack.iter();
        levels.any(|space| matches!(space.bare(name), Ok(Some(_))))
    }

    fn cast(&mut self, cast: &'a TypeCast) -> Result<Expr> {
        let name = cast.type_name.as_ref();
        let name = name.ok_or_else(|| Refusal::new("cast", "its type is missing"))?;
        let to = self.type_name(name)?;
        let node = boxed(&cast.arg)?;
        if let NodeEnum::ParamRef(param) = node {
            // A length of the type is applied behind the parameter.
            let number = self.parameter(param.number, to.oid, to.array)?;
            return Ok(match to.oid != 0 && !to.array && !to.modified {
                true => Expr::Param(number, Some(to.oid)),
                false => Expr::Of(vec![Expr::Param(number, None)], Kind::UNKNOWN),
            });
        }
        let arg = self.expr(node)?;
        if to.array || to.oid == 0 {
            return Ok(Expr::Of(vec![arg], Kind::UNKNOWN));
        }
        if let (Expr::Const(constant), Some(kind)) = (&arg, KeyType::of(to.oid))
            && !to.modified
        {
            return Ok(match literal::cast(constant, kind) {
                Constant::Other => Expr::Of(Vec::new(), Kind::plain(to.oid)),
                cast => Expr::Const(literal::of_type(cast, to.oid)),
            });
        }
        if !to.modified && matches!(arg, Expr::Col(_)) && self.kind_of(&arg).oid == to.oid {
            return Ok(arg);
        }
        Ok(Expr::Of(vec![arg], Kind::plain(to.oid)))
    }

    /// Whether an operator is Postgres' own; one of the users' must be immutable.
    fn is_plain(&mut self, names: &[&str]) -> bool {
        let (schema, name) = match names {
            [name] => (None, *name),
            [schema, name] => (Some(*schema), *name),
            _ => (None, ""),
        };
        if schema == Some("pg_catalog") {
            return true;
        }
        let all = self.catalog.operators(name).iter();
        let path = &self.path;
        let seen: Vec<_> = all
            .filter(|operator| match schema {
                Some(schema) => operator.schema == schema,
                None => path.contains(&operator.schema),
            })
            .collect();
        if seen
            .iter()
            .any(|operator| operator.volatility != Volatility::Immutable)
        {
            self.traits
                .user
                .get_or_insert_with(|| format!("operator {name}"));
        }
        schema.is_none() && !seen.iter().any(|operator| operator.of_plain_types)
    }

    fn operator(&mut self, expr: &'a AExpr) -> Result<Expr> {
        let names = strings(&expr.name)?;
        let plain = self.is_plain(&names);
        let equal = plain && names.last() == Some(&"=");
        match expr.kind() {
            AExprKind::AexprOp if equal => self.equal(boxed(&expr.lexpr)?, boxed(&expr.rexpr)?),
            AExprKind::AexprIn if equal => self.one_of(boxed(&expr.lexpr)?, boxed(&expr.rexpr)?),
            AExprKind::AexprOpAny if equal => self.any_of(boxed(&expr.lexpr)?, boxed(&expr.rexpr)?),
            AExprKind::AexprOp => {
                let mut args = self.some([&expr.lexpr, &expr.rexpr])?;
                let name = names.last().copied().unwrap_or_default();
                if plain && COMPARE.contains(&name) {
                    args.iter_mut().for_each(compared);
                }
                let kind = self.result(name, plain, &args);
                Ok(Expr::Of(args, kind))
            }
            AExprKind::AexprNullif => Ok(Expr::Of(
                self.some([&expr.lexpr, &expr.rexpr])?,
                Kind::UNKNOWN,
            )),
            AExprKind::Undefined => Err(Refusal::new("operator", "of an unknown kind")),
            _ => {
                let mut args = self.some([&expr.lexpr])?;
                match boxed(&expr.rexpr)? {
                    NodeEnum::List(list) => args.extend(self.all(&list.items)?),
                    other => args.push(self.expr(other)?),
                }
                Ok(Expr::Of(args, BOOL))
            }
        }
    }

    /// The type that an operator on numbers gives.
    fn result(&self, name: &str, plain: bool, args: &[Expr]) -> Kind {
        if plain && COMPARE.contains(&name) {
            return BOOL;
        }
        let rank = |expr: &Expr| match self.kind_of(expr).oid {
            21 => Some(0),
            23 => Some(1),
            20 => Some(2),
            1700 => Some(3),
            _ => None,
        };
        let ranks: Option<Vec<usize>> = args.iter().map(rank).collect();
        match (plain && matches!(name, "+" | "-" | "*" | "/" | "%"), ranks) {
            (true, Some(ranks)) => {
                let most = ranks.into_iter().max().unwrap_or_default();
                Kind::plain([21, 23, 20, 1700][most])
            }
            _ => Kind::UNKNOWN,
        }
    }

    /// One side of a comparison, where a parameter has the type of the other.
    fn side(&mut self, node: &'a NodeEnum, other: Kind) -> Result<Expr> {
        match node {
            NodeEnum::ParamRef(param) => {
                let number = self.parameter(param.number, other.oid, false)?;
                Ok(Expr::Param(number, None))
            }
            node => self.expr(node),
        }
    }

    fn equal(&mut self, left: &'a NodeEnum, right: &'a NodeEnum) -> Result<Expr> {
        let (left, right) = match (left, right) {
            (NodeEnum::ParamRef(_), _) => {
                let right = self.expr(right)?;
                (self.side(left, self.kind_of(&right))?, right)
            }
            _ => {
                let left = self.expr(left)?;
                let right = self.side(right, self.kind_of(&left))?;
                (left, right)
            }
        };
        Ok(match (left, right) {
            (Expr::Row(left), Expr::Row(right)) if left.len() == right.len() => {
                let pairs = left.into_iter().zip(right);
                let pairs = pairs.map(|(one, two)| Expr::Equal(Box::new(one), Box::new(two)));
                Expr::And(pairs.collect())
            }
            (mut left, mut right) => {
                compared(&mut left);
                compared(&mut right);
                Expr::Equal(Box::new(left), Box::new(right))
            }
        })
    }

    fn one_of(&mut self, left: &'a NodeEnum, right: &'a NodeEnum) -> Result<Expr> {
        let left = self.expr(left)?;
        let kind = self.kind_of(&left);
        let NodeEnum::List(list) = right else {
            return Err(Refusal::new("IN", "what stands there is no list"));
        };
        let items = list.items.iter().map(inner).collect::<Result<Vec<_>>>()?;
        let mut found = Vec::with_capacity(items.len());
        for item in &items {
            found.push(match item {
                NodeEnum::ParamRef(_) => None,
                node => Some(self.expr(node)?),
            });
        }
        // In one list all have one type: a number with a point makes it that of numbers with one, parameters included.
        let alike = found
            .iter()
            .flatten()
            .all(|item| self.is_at_most(item, kind));
        let kind = if alike { kind } else { Kind::UNKNOWN };
        let found = found
            .into_iter()
            .zip(items)
            .map(|(found, item)| match found {
                Some(found) => Ok(found),
                None => self.side(item, kind),
            });
        let found = found.collect::<Result<Vec<_>>>()?;
        Ok(Expr::OneOf(Box::new(left), found))
    }

    /// Whether what is compared with something of this type leaves it at that.
    fn is_at_most(&self, item: &Expr, kind: Kind) -> bool {
        const INTEGERS: [u32; 3] = [21, 23, 20];
        let rank = |oid: u32| INTEGERS.iter().position(|it| *it == oid);
        let of = self.kind_of(item).oid;
        match item {
            Expr::Const(Constant::Null | Constant::Unknown(_)) => true,
            _ if of == kind.oid => of != 0,
            _ => rank(of)
                .zip(rank(kind.oid))
                .is_some_and(|(of, kind)| of <= kind),
        }
    }

    fn any_of(&mut self, left: &'a NodeEnum, right: &'a NodeEnum) -> Result<Expr> {
        let left = Box::new(self.expr(left)?);
        let kind = self.kind_of(&left);
        let (array, cast) = match right {
            NodeEnum::TypeCast(cast) => {
                let name = cast.type_name.as_ref();
                let name = name.ok_or_else(|| Refusal::new("cast", "its type is missing"))?;
                (boxed(&cast.arg)?, Some(self.type_name(name)?))
            }
            other => (other, None),
        };
        let same = cast.is_none_or(|cast| cast.array && !cast.modified && cast.oid != 0);
        let oid = cast.map_or(kind.oid, |cast| cast.oid);
        match array {
            NodeEnum::ParamRef(param) if same => {
                let number = self.parameter(param.number, oid, true)?;
                Ok(Expr::AnyOf(left, number, cast.map(|cast| cast.oid)))
            }
            NodeEnum::AArrayExpr(array) if cast.is_none() => {
                Ok(Expr::OneOf(left, self.all(&array.elements)?))
            }
            other => {
                if let (Some(text), true) = (text_of(other), same && oid == kind.oid)
                    && let Some(items) = crate::plan::array::elements(text)
                {
                    let items = items
                        .into_iter()
                        .map(|item| Expr::Const(item.map_or(Constant::Null, Constant::Unknown)));
                    return Ok(Expr::OneOf(left, items.collect()));
                }
                let right = self.expr(right)?;
                Ok(Expr::Of(vec![*left, right], BOOL))
            }
        }
    }
}

/// Notes of a query that its value is only compared.
fn compared(expr: &mut Expr) {
    if let Expr::Sub(sub) = expr {
        sub.compared = true;
    }
}
