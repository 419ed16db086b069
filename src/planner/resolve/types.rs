//! The names of types.

use pg_query::NodeEnum;
use pg_query::protobuf::TypeName;

use super::{Resolver, strings};
use crate::refusal::{Refusal, Result};

/// Types of Postgres' own that something depends on, by their OIDs in `pg_type.dat`.
const KNOWN: &[(&str, u32)] = &[
    ("bool", 16),
    ("bytea", 17),
    ("int8", 20),
    ("int2", 21),
    ("int4", 23),
    ("text", 25),
    ("oid", 26),
    ("float4", 700),
    ("float8", 701),
    ("money", 790),
    ("bpchar", 1042),
    ("varchar", 1043),
    ("date", 1082),
    ("time", 1083),
    ("timestamp", 1114),
    ("timestamptz", 1184),
    ("interval", 1186),
    ("numeric", 1700),
    ("uuid", 2950),
];

/// Types whose values are names of things, which each server has under a number of its own.
const OF_THE_SERVER: [&str; 11] = [
    "regclass",
    "regproc",
    "regprocedure",
    "regoper",
    "regoperator",
    "regtype",
    "regrole",
    "regnamespace",
    "regconfig",
    "regdictionary",
    "regcollation",
];

/// A type of a cast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cast {
    /// 0 if it is none of those that something depends on.
    pub(crate) oid: u32,
    pub(crate) array: bool,
    /// With a length or precision, which may change the value.
    pub(crate) modified: bool,
}

impl Resolver<'_> {
    pub(super) fn type_name(&mut self, name: &TypeName) -> Result<Cast> {
        if name.pct_type || name.setof {
            return Err(Refusal::new(
                "type",
                "%TYPE and SETOF are not supported over shards",
            ));
        }
        let names = strings(&name.names)?;
        let (schema, base) = match names.as_slice() {
            [base] => (None, *base),
            [schema, base] => (Some(*schema), *base),
            _ => return Err(Refusal::new("type", "its name has too many parts")),
        };
        let array = !name.array_bounds.is_empty();
        let mut cast = Cast {
            oid: 0,
            array,
            modified: !name.typmods.is_empty(),
        };
        let users = match schema {
            Some(schema) => self.catalog.user_type(schema, base),
            None => {
                let schemas = self.path.iter();
                let builtin = KNOWN.iter().any(|(known, _)| *known == base);
                let users = schemas.filter(|_| !builtin);
                users
                    .clone()
                    .find_map(|schema| self.catalog.user_type(schema, base))
            }
        };
        if let Some(users) = users {
            if !matches!(users.kind, 'e' | 'b' | 'r') {
                self.traits
                    .user
                    .get_or_insert_with(|| format!("type {base}"));
            }
            return Ok(cast);
        }
        if OF_THE_SERVER.contains(&base) {
            self.traits
                .server
                .get_or_insert_with(|| format!("type {base}"));
        }
        let known = KNOWN.iter().find(|(known, _)| *known == base);
        cast.oid = known.map_or(0, |(_, oid)| *oid);
        // `char` is char(1), and gives a length where none is said.
        cast.modified |= cast.oid == 1042;
        Ok(cast)
    }
}

/// The text of a string literal.
pub(super) fn text_of(node: &NodeEnum) -> Option<&str> {
    match node {
        NodeEnum::AConst(constant) => match &constant.val {
            Some(pg_query::protobuf::a_const::Val::Sval(text)) => Some(&text.sval),
            _ => None,
        },
        _ => None,
    }
}
