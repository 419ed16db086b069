//! How large numbers may become, by the types of what they are computed from.

use pg_query::NodeEnum;
use pg_query::protobuf::{AConst, AExpr, AExprKind, CaseExpr, FuncCall, Node, a_const::Val};

use super::{Risk, is_count};
use crate::tree::{Col, Expr};

/// What a number is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Size {
    /// A whole number of at most 64 bits.
    Int,
    /// A numeric of no more digits than that, before and behind the point.
    Numeric(u32),
}

/// An int has no more digits.
const INT: u32 = 20;
/// How many digits a division or a sum may add.
const MORE: u32 = 40;
/// No numeric that somebody has stored has more, where its column does not say, and none whose column does.
const LONG: u32 = 1000;
/// From so many digits on nothing is said; Postgres takes more than ten times as many.
const MOST: u32 = 10_000;

impl Size {
    fn digits(self) -> u32 {
        match self {
            Self::Int => INT,
            Self::Numeric(digits) => digits,
        }
    }

    fn numeric(digits: u32) -> Option<Self> {
        (digits < MOST).then_some(Self::Numeric(digits))
    }

    /// One that may be either.
    fn or(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::Int, Self::Int) => Some(Self::Int),
            (one, two) => Self::numeric(one.digits().max(two.digits())),
        }
    }
}

impl Risk<'_, '_> {
    /// What an expression gives, if it is a number that is known not to become too large.
    pub(super) fn size(&self, node: &Node) -> Option<Size> {
        match node.node.as_ref()? {
            NodeEnum::ColumnRef(column) => match self.places.get(&column.location)? {
                Expr::Col(col) => self.size_of_column(*col),
                _ => None,
            },
            NodeEnum::AConst(constant) => literal(constant),
            NodeEnum::AExpr(expr) => self.size_of(expr),
            NodeEnum::FuncCall(call) => self.size_of_call(call),
            NodeEnum::CoalesceExpr(coalesce) => self.largest(coalesce.args.iter()),
            NodeEnum::CaseExpr(case) => self.size_of_case(case),
            NodeEnum::TypeCast(cast) => {
                let size = self.size(cast.arg.as_deref()?)?;
                match super::type_of(cast)? {
                    "numeric" => Size::numeric(size.digits()),
                    "int8" => (size == Size::Int).then_some(size),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// What an operator of numbers gives. Sums and products of whole numbers may be too large for their type.
    pub(super) fn size_of(&self, expr: &AExpr) -> Option<Size> {
        let name = self.operator(expr)?;
        if expr.kind() != AExprKind::AexprOp {
            return None;
        }
        let right = expr.rexpr.as_deref()?;
        let two = self.size(right)?;
        let Some(left) = expr.lexpr.as_deref() else {
            return match (name, two) {
                ("+" | "-", Size::Numeric(_)) => Some(two),
                _ => None,
            };
        };
        let one = self.size(left)?;
        let divides = is_positive(right);
        match (name, one, two) {
            ("/", Size::Int, Size::Int) => divides.then_some(Size::Int),
            ("%", Size::Int, Size::Int) => (divides && is_count(right)).then_some(Size::Int),
            ("/", ..) if divides => Size::numeric(one.digits() + two.digits() + MORE),
            (_, Size::Int, Size::Int) => None,
            ("+" | "-", ..) => Size::numeric(one.digits() + two.digits() + 1),
            ("*", ..) => Size::numeric(one.digits() + two.digits()),
            _ => None,
        }
    }

    fn size_of_column(&self, col: Col) -> Option<Size> {
        let relation = &self.resolver.relations[col.rel.0];
        match relation.columns.get(col.at)?.kind.oid {
            20 | 21 | 23 => Some(Size::Int),
            1700 => Size::numeric(LONG),
            _ => None,
        }
    }

    fn size_of_call(&self, call: &FuncCall) -> Option<Size> {
        let name = self.system(call)?;
        let first = || self.size(call.args.first()?);
        let whole = matches!(self.resolver.calls.get(&call.location)?.first.oid, 21 | 23);
        match name {
            "count" | "row_number" | "rank" | "dense_rank" => Some(Size::Int),
            "min" | "max" => first(),
            "sum" if whole => Some(Size::Int),
            "sum" | "avg" => Size::numeric(first()?.digits() + MORE),
            "abs" | "round" | "floor" | "ceil" => match first()? {
                Size::Numeric(digits) => Size::numeric(digits + 1),
                Size::Int => None,
            },
            _ => None,
        }
    }

    fn size_of_case(&self, case: &CaseExpr) -> Option<Size> {
        let results = case.args.iter().map(|when| match when.node.as_ref() {
            Some(NodeEnum::CaseWhen(when)) => when.result.as_deref(),
            _ => None,
        });
        let results: Option<Vec<&Node>> = results.collect();
        self.largest(results?.into_iter().chain(case.defresult.as_deref()))
    }

    /// That which has room for all of these; NULL fits everywhere.
    fn largest<'n>(&self, nodes: impl Iterator<Item = &'n Node>) -> Option<Size> {
        let is_null = |node: &Node| match &node.node {
            Some(NodeEnum::AConst(constant)) => constant.isnull,
            _ => false,
        };
        let mut largest = None;
        for node in nodes.filter(|node| !is_null(node)) {
            let size = self.size(node)?;
            largest = Some(match largest {
                Some(known) => size.or(known)?,
                None => size,
            });
        }
        largest
    }
}

fn literal(constant: &AConst) -> Option<Size> {
    match &constant.val {
        Some(Val::Ival(_)) => Some(Size::Int),
        Some(Val::Fval(number)) => {
            let text = &number.fval;
            if text.parse::<i64>().is_ok() {
                return Some(Size::Int);
            }
            let mut bytes = text.trim_start_matches('-').bytes();
            let plain = bytes.all(|byte| byte.is_ascii_digit() || byte == b'.');
            let digits = u32::try_from(text.len()).ok()?;
            plain.then(|| Size::numeric(digits)).flatten()
        }
        _ => None,
    }
}

/// A literal that is more than zero.
fn is_positive(node: &Node) -> bool {
    match &node.node {
        Some(NodeEnum::AConst(constant)) => match &constant.val {
            Some(Val::Ival(number)) => number.ival > 0,
            Some(Val::Fval(number)) => {
                let plain = literal(constant).is_some() && !number.fval.starts_with('-');
                plain
                    && number
                        .fval
                        .bytes()
                        .any(|byte| (b'1'..=b'9').contains(&byte))
            }
            _ => false,
        },
        _ => false,
    }
}
