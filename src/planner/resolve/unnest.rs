//! Arrays in FROM: whether their values are known to be no rows, which would be a column for each of theirs.

use pg_query::NodeEnum;
use pg_query::protobuf::{FuncCall, Node, TypeName};

use super::function::Columns;
use super::{Resolver, strings};
use crate::catalog::is_system;
use crate::tree::Expr;

const TSVECTOR: u32 = 3614;

/// Types of Postgres' own below 10000 that are rows, or arrays of them or of any type: those of `pg_type`,
/// `pg_attribute`, `pg_proc` and `pg_class`, of `pg_database`, `pg_authid`, `pg_auth_members`, `pg_shseclabel` and
/// `pg_subscription`; `record` and `anyarray`.
const ROWS: [u32; 16] = [
    71, 75, 81, 83, 210, 270, 272, 273, 1248, 2842, 2843, 4066, 6101, 2249, 2287, 2277,
];

/// Arrays of types of Postgres' own that are no rows, by the OIDs of `pg_type.dat`: those of xml, json, cidr, money, bool,
/// bytea, "char", name, int2, int4, text, char(n), varchar, int8, the floats, oid, macaddr, inet, the times and dates,
/// numeric, bits, uuid, tsvector, tsquery, jsonb and a range.
const ARRAYS: [u32; 33] = [
    143, 199, 651, 791, 1000, 1001, 1002, 1003, 1005, 1007, 1009, 1014, 1015, 1016, 1021, 1022,
    1028, 1040, 1041, 1115, 1182, 1183, 1185, 1187, 1231, 1270, 1561, 1563, 2951, 3643, 3645, 3807,
    3905,
];

/// Functions of Postgres' own that give an array of texts.
const TEXTS: [&str; 5] = [
    "string_to_array",
    "regexp_split_to_array",
    "regexp_match",
    "parse_ident",
    "tsvector_to_array",
];

/// Functions of Postgres' own that give an array of the type that they are given one of.
const KEEPS: [&str; 5] = [
    "array_append",
    "array_prepend",
    "array_cat",
    "array_remove",
    "array_replace",
];

impl Resolver<'_> {
    /// The columns of what `unnest` gives of its argument.
    pub(super) fn unnested(&mut self, node: &NodeEnum, expr: &Expr) -> Columns {
        if let (NodeEnum::ParamRef(_), Expr::Param(number, None)) = (node, expr) {
            // Of which type it is, is known when it is bound.
            self.arrays.insert(*number);
            return Columns::Value(None);
        }
        if self.kind_of(expr).oid == TSVECTOR {
            let names = ["lexeme", "positions", "weights"].map(str::to_owned);
            return Columns::Row(Some(names.to_vec()));
        }
        match self.is_of_scalars(node, expr) {
            true => Columns::Value(None),
            false => self.uncertain(),
        }
    }

    /// The columns of something that may be a row. What is left of a statement was looked at before, where all types
    /// were known; carriers do not have those of all their columns.
    pub(super) fn uncertain(&self) -> Columns {
        match self.carriers {
            Some(_) => Columns::Value(None),
            None => Columns::Row(None),
        }
    }

    fn is_of_scalars(&self, node: &NodeEnum, expr: &Expr) -> bool {
        match (node, expr) {
            (NodeEnum::TypeCast(cast), _) => {
                let name = cast.type_name.as_ref();
                name.is_some_and(|name| self.names_array(name))
            }
            (NodeEnum::AArrayExpr(array), Expr::Of(elements, _)) => {
                let literal = |element: &Expr| matches!(element, Expr::Const(_));
                let scalar = |(node, element): (&Node, &Expr)| {
                    is_scalar(self.kind_of(element).oid) || self.within_is(node, element)
                };
                // All have one type. That of a literal is another's, or text.
                array.elements.iter().zip(elements).any(scalar)
                    || !elements.is_empty() && elements.iter().all(literal)
            }
            (NodeEnum::SubLink(_), Expr::Sub(sub)) => {
                let column = sub.query.columns.first();
                column.is_some_and(|column| is_scalar(column.kind.oid))
            }
            (NodeEnum::AIndirection(indirection), Expr::Of(parts, _)) => {
                let mut steps = indirection.indirection.iter();
                let slices = steps.all(|step| matches!(step.node, Some(NodeEnum::AIndices(_))));
                let of = indirection.arg.as_deref().zip(parts.first());
                slices && of.is_some_and(|(node, expr)| self.within_is(node, expr))
            }
            (NodeEnum::FuncCall(call), Expr::Of(args, _)) => self.gives_scalars(call, args),
            _ => is_scalar(self.kind_of(expr).oid),
        }
    }

    fn within_is(&self, node: &Node, expr: &Expr) -> bool {
        let node = node.node.as_ref();
        node.is_some_and(|node| self.is_of_scalars(node, expr))
    }

    fn gives_scalars(&self, call: &FuncCall, args: &[Expr]) -> bool {
        let Ok((name, found)) = self.candidates(call) else {
            return false;
        };
        let mut pairs = call.args.iter().zip(args);
        found.iter().all(|function| is_system(&function.schema))
            && (TEXTS.contains(&name.as_str())
                || KEEPS.contains(&name.as_str())
                    && pairs.any(|(node, arg)| self.within_is(node, arg)))
    }

    /// Whether a name is that of an array of a type of Postgres' own that is no row.
    fn names_array(&self, name: &TypeName) -> bool {
        let (own, base) = match strings(&name.names).as_deref() {
            Ok([base]) => {
                let mut schemas = self.path.iter();
                let users = schemas.any(|schema| self.catalog.user_type(schema, base).is_some());
                (!users, *base)
            }
            Ok(["pg_catalog", base]) => (true, *base),
            _ => return false,
        };
        let row = base == "record" || self.catalog.relation("pg_catalog", base).is_some();
        own && !row && !name.array_bounds.is_empty()
    }
}

/// Whether a type is one of arrays that `unnest` makes one column of.
pub(crate) fn is_array_of_scalars(oid: u32) -> bool {
    ARRAYS.contains(&oid)
}

fn is_scalar(oid: u32) -> bool {
    (1..10_000).contains(&oid) && oid != TSVECTOR && !ROWS.contains(&oid)
}
