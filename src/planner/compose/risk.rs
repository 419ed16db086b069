//! Whether computing something may raise an error for some row.
//!
//! Postgres computes of each row only what is needed where it stands: FILTER, CASE and the WHERE around a subquery keep
//! it from the rest. What a shard computes before that, for other rows as well, must not be able to fail there. Only what
//! is known not to fail is said not to; that somebody has stored a number of more than a thousand digits is not thought of.

use std::collections::HashMap;

use pg_query::NodeEnum;
use pg_query::protobuf::{
    AConst, AExpr, AExprKind, FuncCall, Node, RangeVar, SelectStmt, SubLink, SubLinkType, TypeCast,
    WindowDef, a_const::Val,
};

use super::upper::parts;
use super::{deparse, merge};
use crate::catalog::{RelationKind, is_system};
use crate::plan::Count;
use crate::resolve::{Names, Resolver};
use crate::tree::{Body, Col, Expr, Query, Source};

mod number;

/// Operators of comparisons.
const COMPARE: [&str; 7] = ["=", "<>", "!=", "<", ">", "<=", ">="];

/// Types a literal of which is read when the statement is, whatever becomes of it.
const TYPES: [&str; 18] = [
    "bool",
    "int2",
    "int4",
    "int8",
    "text",
    "varchar",
    "bpchar",
    "numeric",
    "float4",
    "float8",
    "date",
    "time",
    "timestamp",
    "timestamptz",
    "interval",
    "uuid",
    "json",
    "jsonb",
];

/// What a date or timestamp may be asked for, and cut to.
const FIELDS: [&str; 9] = [
    "year", "quarter", "month", "week", "day", "dow", "doy", "isodow", "isoyear",
];
const UNITS: [&str; 8] = [
    "year", "quarter", "month", "week", "day", "hour", "minute", "second",
];

/// The OIDs of types that are no arrays: bool, bytea, "char", name, the whole numbers, text, json, the floats, char(n),
/// varchar, dates and times, numeric, uuid, jsonb.
const SCALARS: [u32; 21] = [
    16, 17, 18, 19, 20, 21, 23, 25, 114, 700, 701, 1042, 1043, 1082, 1083, 1114, 1184, 1186, 1700,
    2950, 3802,
];
/// The OIDs of text, char(n) and varchar, and those of date and the timestamps.
const TEXTS: [u32; 3] = [25, 1042, 1043];
const DATES: [u32; 3] = [1082, 1114, 1184];

pub(super) struct Risk<'a, 'r> {
    resolver: &'a Resolver<'r>,
    /// What the columns' names at these places mean.
    places: &'a HashMap<i32, Expr>,
    /// What the queries in FROM compute is looked at where they stand, and not where their columns are named.
    whole: bool,
}

impl<'a, 'r> Risk<'a, 'r> {
    /// That of expressions of a level whose FROM is computed elsewhere.
    pub(super) fn of_level(resolver: &'a Resolver<'r>, places: &'a HashMap<i32, Expr>) -> Self {
        Self {
            resolver,
            places,
            whole: false,
        }
    }

    /// That of a query with all that is in it, which the resolver has resolved.
    pub(super) fn of_query(resolver: &'a Resolver<'r>) -> Self {
        Self {
            resolver,
            places: &resolver.places,
            whole: true,
        }
    }

    pub(super) fn query(&self, select: &SelectStmt) -> bool {
        let mut with = select.with_clause.iter().flat_map(|with| &with.ctes);
        let mut arms = [&select.larg, &select.rarg].into_iter().flatten();
        let lists = [
            &select.target_list,
            &select.group_clause,
            &select.window_clause,
            &select.sort_clause,
            &select.distinct_clause,
            &select.values_lists,
        ];
        let single = [&select.where_clause, &select.having_clause];
        let mut limits = [&select.limit_count, &select.limit_offset].into_iter();
        with.any(|node| self.common(node))
            || arms.any(|arm| self.query(arm))
            || select.from_clause.iter().any(|item| self.source(item))
            || lists.into_iter().flatten().any(|node| self.node(node))
            || single.into_iter().flatten().any(|node| self.node(node))
            || limits.any(|limit| merge::count(limit).is_err())
    }

    /// A query of WITH.
    fn common(&self, node: &Node) -> bool {
        match &node.node {
            Some(NodeEnum::CommonTableExpr(cte)) => self.selected(&cte.ctequery),
            _ => true,
        }
    }

    fn selected(&self, node: &Option<Box<Node>>) -> bool {
        match node.as_ref().and_then(|node| node.node.as_ref()) {
            Some(NodeEnum::SelectStmt(select)) => self.query(select),
            _ => true,
        }
    }

    fn source(&self, node: &Node) -> bool {
        match &node.node {
            Some(NodeEnum::RangeVar(range)) => self.relation(range),
            Some(NodeEnum::RangeSubselect(sub)) => self.selected(&sub.subquery),
            Some(NodeEnum::JoinExpr(join)) => {
                let mut sides = [&join.larg, &join.rarg].into_iter().flatten();
                sides.any(|side| self.source(side))
                    || join.quals.as_deref().is_some_and(|quals| self.node(quals))
            }
            Some(NodeEnum::RangeFunction(function)) => {
                let mut calls = function.functions.iter();
                calls.any(|call| match &call.node {
                    Some(NodeEnum::List(list)) => !list
                        .items
                        .first()
                        .is_some_and(|call| self.is_elements(call)),
                    _ => true,
                })
            }
            _ => true,
        }
    }

    /// The elements of an array.
    fn is_elements(&self, node: &Node) -> bool {
        let Some(NodeEnum::FuncCall(call)) = &node.node else {
            return false;
        };
        self.system(call) == Some("unnest") && !call.args.iter().any(|arg| self.node(arg))
    }

    /// A table, or a view, whose query is computed with the rest.
    fn relation(&self, range: &RangeVar) -> bool {
        // A query of WITH is looked at where it is.
        let Ok((schema, relation)) = self.resolver.locate(range) else {
            return false;
        };
        let RelationKind::View(text) = &relation.kind else {
            return false;
        };
        let Ok(select) = deparse::select(text) else {
            return true;
        };
        let names = Names {
            search_path: Vec::new(),
            ..Names::default()
        };
        let mut resolver = Resolver::new(self.resolver.catalog, self.resolver.placement, &names);
        is_system(&schema)
            || resolver.query(&select).is_err()
            || Risk::of_query(&resolver).query(&select)
    }

    pub(super) fn node(&self, node: &Node) -> bool {
        node.node
            .as_ref()
            .is_some_and(|inner| self.expression(inner))
    }

    pub(super) fn expression(&self, node: &NodeEnum) -> bool {
        match node {
            NodeEnum::ColumnRef(column) => !self.whole && !self.is_stored(column.location),
            NodeEnum::ParamRef(_) | NodeEnum::AConst(_) | NodeEnum::SqlvalueFunction(_) => false,
            NodeEnum::TypeCast(cast) => self.cast(cast),
            NodeEnum::AExpr(expr) => !self.is_safe(expr) || self.any_part(node),
            NodeEnum::FuncCall(call) => !self.is_known(call) || self.any_part(node),
            NodeEnum::SubLink(sub) => self.sublink(sub),
            NodeEnum::ResTarget(target) => {
                target.val.as_deref().is_some_and(|value| self.node(value))
            }
            NodeEnum::WindowDef(window) => !has_plain_frame(window) || self.any_part(node),
            // Arrays of different sizes do not go into one.
            NodeEnum::AArrayExpr(array) => {
                let mut elements = array.elements.iter();
                !elements.all(|node| self.is_scalar(node)) || self.any_part(node)
            }
            other => self.any_part(other),
        }
    }

    fn any_part(&self, node: &NodeEnum) -> bool {
        let mut copy = node.clone();
        parts(&mut copy).map_or(true, |parts| parts.iter().any(|part| self.node(part)))
    }

    /// Whether a column has its value from a table, and not from an expression of a query in FROM.
    fn is_stored(&self, location: i32) -> bool {
        fn meant(risk: &Risk<'_, '_>, expr: &Expr) -> bool {
            match expr {
                Expr::Col(col) => risk.comes_stored(*col),
                // A whole row, or what USING makes of two columns.
                Expr::Of(parts, _) => parts.iter().all(|part| meant(risk, part)),
                _ => false,
            }
        }
        self.places
            .get(&location)
            .is_some_and(|expr| meant(self, expr))
    }

    fn comes_stored(&self, col: Col) -> bool {
        match &self.resolver.relations[col.rel.0].source {
            Source::Table(_) | Source::Rows(_) => true,
            Source::Query(query) => self.gives_stored(query, col.at),
            Source::Recursive(_) => false,
        }
    }

    fn gives_stored(&self, query: &Query, at: usize) -> bool {
        match &query.body {
            Body::Select(select) => match select.targets.get(at) {
                Some(Expr::Col(col)) => self.comes_stored(*col),
                Some(Expr::Const(_)) => true,
                _ => false,
            },
            Body::Set { left, right, .. } => {
                self.gives_stored(left, at) && self.gives_stored(right, at)
            }
            Body::Values(exprs) => exprs.iter().all(|expr| matches!(expr, Expr::Const(_))),
        }
    }

    fn cast(&self, cast: &TypeCast) -> bool {
        let (Some(arg), Some(to)) = (&cast.arg, type_of(cast)) else {
            return true;
        };
        let name = cast.type_name.as_ref();
        let array = is_to_array(cast);
        let cut = name.is_some_and(|name| !name.typmods.is_empty());
        let text = matches!(to, "text" | "varchar" | "bpchar");
        match &arg.node {
            Some(NodeEnum::ParamRef(_)) => return cut && !text,
            Some(NodeEnum::AConst(constant)) if is_string(constant) || constant.isnull => {
                return cut && !text;
            }
            _ => {}
        }
        let oid = self.oid(arg);
        let size = self.size(arg);
        let fits = match to {
            "text" | "varchar" | "bpchar" => true,
            _ if cut => false,
            "numeric" => size.is_some(),
            "int8" => size == Some(number::Size::Int),
            "int4" => matches!(oid, 21 | 23),
            "float8" => size == Some(number::Size::Int) || oid == 700,
            "date" => DATES.contains(&oid),
            other => oid != 0 && oid == oid_of(other),
        };
        array || !fits || self.node(arg)
    }

    /// Whether an operator is one of Postgres' own that takes all that it is given here.
    fn is_safe(&self, expr: &AExpr) -> bool {
        let Some(name) = self.operator(expr) else {
            return false;
        };
        match expr.kind() {
            AExprKind::AexprOp => match name {
                "->" | "->>" => true,
                "||" => self.are_texts(expr),
                "~~" | "!~~" | "~~*" | "!~~*" => is_pattern(&expr.rexpr),
                "+" | "-" | "*" | "/" | "%" => {
                    self.size_of(expr).is_some() || are_literals(expr, name)
                }
                name => COMPARE.contains(&name),
            },
            AExprKind::AexprOpAny
            | AExprKind::AexprOpAll
            | AExprKind::AexprDistinct
            | AExprKind::AexprNotDistinct
            | AExprKind::AexprNullif
            | AExprKind::AexprIn => COMPARE.contains(&name),
            AExprKind::AexprLike | AExprKind::AexprIlike => is_pattern(&expr.rexpr),
            AExprKind::AexprBetween | AExprKind::AexprNotBetween => {
                let operators = &self.resolver.catalog;
                let mut all = COMPARE.iter();
                all.all(|name| operators.operators(name).is_empty())
            }
            _ => false,
        }
    }

    /// The name of an operator that can only be Postgres' own.
    fn operator<'e>(&self, expr: &'e AExpr) -> Option<&'e str> {
        match crate::resolve::strings(&expr.name).ok()?.as_slice() {
            ["pg_catalog", name] => Some(*name),
            [name] => {
                let own = self.resolver.catalog.operators(name).is_empty();
                own.then_some(*name)
            }
            _ => None,
        }
    }

    /// Whether both sides are texts, and not arrays or documents.
    fn are_texts(&self, expr: &AExpr) -> bool {
        let mut sides = [&expr.lexpr, &expr.rexpr].into_iter().flatten();
        sides.all(|side| match &side.node {
            Some(NodeEnum::AConst(constant)) => is_string(constant),
            Some(NodeEnum::AExpr(inner)) => {
                self.operator(inner) == Some("||") && self.are_texts(inner)
            }
            _ => TEXTS.contains(&self.oid(side)),
        })
    }

    /// The name of a function that can only be Postgres' own.
    fn system<'c>(&self, call: &'c FuncCall) -> Option<&'c str> {
        let known = self.resolver.calls.get(&call.location)?;
        let names = crate::resolve::strings(&call.funcname).ok()?;
        names.last().copied().filter(|_| known.system)
    }

    /// Whether a call takes whatever it is given.
    fn is_known(&self, call: &FuncCall) -> bool {
        let Some(name) = self.system(call) else {
            return false;
        };
        let frame = call.over.as_deref().is_none_or(has_plain_frame);
        let plain = frame && !call.func_variadic;
        plain
            && match self.resolver.is_upper(call) {
                true => self.is_known_upper(name, call),
                false => self.is_known_plain(name, call),
            }
    }

    fn is_known_upper(&self, name: &str, call: &FuncCall) -> bool {
        let first = call.args.first();
        !call.agg_within_group
            && match name {
                "count" | "row_number" | "rank" | "dense_rank" | "percent_rank" | "cume_dist"
                | "bool_and" | "bool_or" | "every" | "bit_and" | "bit_or" | "bit_xor" | "min"
                | "max" | "string_agg" | "first_value" | "last_value" | "lag" | "lead" => true,
                "array_agg" => first.is_some_and(|arg| self.is_scalar(arg)),
                "sum" | "avg" => first.is_some_and(|arg| self.size(arg).is_some()),
                _ => false,
            }
    }

    fn is_known_plain(&self, name: &str, call: &FuncCall) -> bool {
        let first = call.args.first();
        let is_of = |at: usize, oids: &[u32]| {
            let arg = call.args.get(at);
            arg.is_some_and(|arg| oids.contains(&self.oid(arg)))
        };
        let says = |words: &[&str]| first.and_then(string).is_some_and(|it| words.contains(&it));
        match name {
            "lower" | "upper" | "length" | "char_length" | "character_length" | "btrim"
            | "ltrim" | "rtrim" | "left" | "right" => is_of(0, &TEXTS),
            "substring" | "substr" => {
                let mut counts = call.args.iter().skip(1);
                is_of(0, &TEXTS) && call.args.len() > 1 && counts.all(is_count)
            }
            "extract" | "date_part" => says(&FIELDS) && is_of(1, &DATES),
            "date_trunc" => says(&UNITS) && is_of(1, &DATES[1..]) && call.args.len() == 2,
            "abs" | "round" | "floor" | "ceil" => {
                let size = first.and_then(|arg| self.size(arg));
                let mut rest = call.args.iter().skip(1);
                matches!(size, Some(number::Size::Numeric(_))) && rest.all(is_count)
            }
            _ => false,
        }
    }

    fn sublink(&self, sub: &SubLink) -> bool {
        let test = sub.testexpr.as_deref().is_some_and(|test| self.node(test));
        let select = sub.subselect.as_deref().and_then(|node| node.node.as_ref());
        let Some(NodeEnum::SelectStmt(select)) = select else {
            return true;
        };
        let one = match sub.sub_link_type() {
            SubLinkType::ExistsSublink | SubLinkType::AnySublink | SubLinkType::AllSublink => true,
            SubLinkType::ArraySublink => self.gives_scalars(select),
            SubLinkType::ExprSublink => self.gives_one(select),
            _ => false,
        };
        !one || test || self.query(select)
    }

    /// Whether what a query gives can be the elements of an array: arrays of different sizes cannot.
    fn gives_scalars(&self, select: &SelectStmt) -> bool {
        let arms = [&select.larg, &select.rarg].into_iter().flatten();
        let mut targets = select.target_list.iter();
        let plain = select.values_lists.is_empty();
        plain
            && arms.into_iter().all(|arm| self.gives_scalars(arm))
            && targets.all(|target| match &target.node {
                Some(NodeEnum::ResTarget(target)) => {
                    target.val.as_deref().is_some_and(|it| self.is_scalar(it))
                }
                _ => false,
            })
    }

    /// Whether an expression is known to give no array.
    fn is_scalar(&self, node: &Node) -> bool {
        let computed = match &node.node {
            Some(NodeEnum::FuncCall(call)) => match self.system(call) {
                Some("count" | "length") => true,
                // Those of a range give what it is a range of, which may be arrays.
                Some("lower" | "upper") => {
                    let arg = call.args.first();
                    arg.is_some_and(|arg| TEXTS.contains(&self.oid(arg)))
                }
                _ => false,
            },
            _ => self.size(node).is_some(),
        };
        computed || is_literal(node) || SCALARS.contains(&self.oid(node))
    }

    /// Whether a query surely gives no more than one row.
    fn gives_one(&self, select: &SelectStmt) -> bool {
        let limited = matches!(
            merge::count(&select.limit_count),
            Ok(Some(Count::Number(0 | 1)))
        );
        let aggregate = |node: &NodeEnum| match node {
            NodeEnum::FuncCall(call) => call.over.is_none() && self.resolver.is_upper(call),
            _ => false,
        };
        let mut targets = select
            .target_list
            .iter()
            .filter_map(|node| match &node.node {
                Some(NodeEnum::ResTarget(target)) => target.val.as_deref()?.node.as_ref(),
                _ => None,
            });
        let plain = select.group_clause.is_empty() && select.larg.is_none();
        limited
            || plain
                && targets.any(|value| super::upper::any(value, &aggregate).unwrap_or_default())
    }

    /// The OID of an expression's type, where it is simple to say; else 0.
    fn oid(&self, node: &Node) -> u32 {
        match &node.node {
            Some(NodeEnum::ColumnRef(column)) => {
                let expr = self.places.get(&column.location);
                expr.map_or(0, |expr| self.resolver.kind(expr).oid)
            }
            Some(NodeEnum::TypeCast(cast)) if !is_to_array(cast) => type_of(cast).map_or(0, oid_of),
            Some(NodeEnum::AConst(constant)) => match constant.val {
                Some(Val::Ival(_)) => 23,
                _ => 0,
            },
            _ => 0,
        }
    }
}

/// The plain name of the type of a cast, if it is one of [`TYPES`].
fn type_of(cast: &TypeCast) -> Option<&str> {
    let names = crate::resolve::strings(&cast.type_name.as_ref()?.names).ok()?;
    let name = match names.as_slice() {
        [name] | ["pg_catalog", name] => *name,
        _ => return None,
    };
    TYPES.contains(&name).then_some(name)
}

fn is_to_array(cast: &TypeCast) -> bool {
    let name = cast.type_name.as_ref();
    name.is_some_and(|name| !name.array_bounds.is_empty())
}

fn oid_of(name: &str) -> u32 {
    match name {
        "bool" => 16,
        "int8" => 20,
        "int2" => 21,
        "int4" => 23,
        "text" => 25,
        "float4" => 700,
        "float8" => 701,
        "bpchar" => 1042,
        "varchar" => 1043,
        "date" => 1082,
        "timestamp" => 1114,
        "timestamptz" => 1184,
        "numeric" => 1700,
        "uuid" => 2950,
        _ => 0,
    }
}

fn is_string(constant: &AConst) -> bool {
    matches!(constant.val, Some(Val::Sval(_)))
}

fn string(node: &Node) -> Option<&str> {
    match &node.node {
        Some(NodeEnum::AConst(constant)) => match &constant.val {
            Some(Val::Sval(text)) => Some(&text.sval),
            _ => None,
        },
        _ => None,
    }
}

/// A literal that is a number, and not less than zero.
fn is_count(node: &Node) -> bool {
    match &node.node {
        Some(NodeEnum::AConst(constant)) => {
            matches!(&constant.val, Some(Val::Ival(number)) if number.ival >= 0)
        }
        _ => false,
    }
}

/// Whether a pattern of LIKE can be applied to any text: it is known, and does not end in an escape.
pub(super) fn is_pattern(node: &Option<Box<Node>>) -> bool {
    let text = node.as_deref().and_then(string);
    text.is_some_and(|text| {
        let escapes = text.bytes().rev().take_while(|byte| *byte == b'\\');
        escapes.count() % 2 == 0
    })
}

/// A literal, also of a type that is said.
fn is_literal(node: &Node) -> bool {
    match &node.node {
        Some(NodeEnum::AConst(_)) => true,
        Some(NodeEnum::TypeCast(cast)) => {
            let plain = type_of(cast).is_some()
                && cast
                    .type_name
                    .as_ref()
                    .is_some_and(|name| name.array_bounds.is_empty());
            plain && cast.arg.as_deref().and_then(string).is_some()
        }
        Some(NodeEnum::AExpr(expr)) => {
            let names = crate::resolve::strings(&expr.name).unwrap_or_default();
            names
                .last()
                .copied()
                .is_some_and(|name| are_literals(expr, name))
        }
        _ => false,
    }
}

/// What is computed of literals alone is computed when the statement is planned.
fn are_literals(expr: &AExpr, name: &str) -> bool {
    let mut sides = [&expr.lexpr, &expr.rexpr].into_iter().flatten();
    matches!(name, "+" | "-" | "*") && sides.all(|side| is_literal(side))
}

/// Whether how far a frame reaches is said by no expression but a number.
fn has_plain_frame(window: &WindowDef) -> bool {
    let mut offsets = [&window.start_offset, &window.end_offset]
        .into_iter()
        .flatten();
    offsets.all(|offset| is_count(offset))
}

/// Whether the parts of an expression are computed only as far as others do not decide.
pub(super) fn is_conditional(node: &NodeEnum) -> bool {
    let is_row = |side: &Option<Box<Node>>| {
        let side = side.as_deref().and_then(|side| side.node.as_ref());
        matches!(side, Some(NodeEnum::RowExpr(_)))
    };
    match node {
        NodeEnum::CaseExpr(_)
        | NodeEnum::CaseWhen(_)
        | NodeEnum::CoalesceExpr(_)
        | NodeEnum::BoolExpr(_) => true,
        // They become AND or OR of several.
        NodeEnum::AExpr(expr) => match expr.kind() {
            AExprKind::AexprIn
            | AExprKind::AexprBetween
            | AExprKind::AexprNotBetween
            | AExprKind::AexprBetweenSym
            | AExprKind::AexprNotBetweenSym => true,
            _ => is_row(&expr.lexpr) || is_row(&expr.rexpr),
        },
        _ => false,
    }
}
