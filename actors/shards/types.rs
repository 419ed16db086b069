//! The types that users have made: each server has numbers of its own for them.

use std::collections::HashMap;

/// The first number that a server gives to what its users make.
pub const FIRST_OWN: u32 = 16_384;

/// Number, name, and whether no number of another type is in its binary form: not in that of an array or a
/// composite.
pub(super) const QUESTION: &str = "SELECT t.oid::text,
 pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(t.typname),
 (t.typtype = 'e' OR t.typtype = 'b' AND t.typelem = 0)::text
 FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
 WHERE t.oid >= 16384 AND t.typtype IN ('b', 'c', 'e', 'r', 'm') AND n.nspname::text !~ '^pg_(toast|temp)'";

/// The types of one server.
#[derive(Debug, Default)]
pub(super) struct OwnTypes(HashMap<u32, OwnType>);

#[derive(Debug)]
struct OwnType {
    name: Box<str>,
    plain: bool,
}

impl OwnTypes {
    /// Takes a row of the answer; what cannot be read is not known.
    pub(super) fn take(&mut self, row: &[Option<&str>]) {
        if let [Some(oid), Some(name), Some(plain)] = *row
            && let Ok(oid) = oid.parse()
        {
            let (name, plain) = (name.into(), plain == "true");
            self.0.insert(oid, OwnType { name, plain });
        }
    }

    /// Whether the type that has this number here is that of `other` with that number, so that values of it in
    /// this format mean the same.
    pub(super) fn is_alike(&self, oid: u32, other: (&Self, u32), binary: bool) -> bool {
        match (self.0.get(&oid), other.0.0.get(&other.1)) {
            (Some(one), Some(two)) => one.name == two.name && (one.plain || !binary),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::OwnTypes;

    #[test]
    fn types_are_told_by_their_names() {
        let types = |rows: &[[&str; 3]]| {
            let mut types = OwnTypes::default();
            for row in rows {
                types.take(&row.map(Some));
            }
            types
        };
        let one = types(&[["20000", "a.mood", "true"], ["20001", "a._mood", "false"]]);
        let two = types(&[["30000", "a.mood", "true"], ["30001", "a._mood", "false"]]);
        assert!(one.is_alike(20_000, (&two, 30_000), true));
        assert!(one.is_alike(20_001, (&two, 30_001), false));
        assert!(!one.is_alike(20_001, (&two, 30_001), true));
        assert!(!one.is_alike(20_000, (&two, 30_001), false));
        assert!(!one.is_alike(1, (&two, 1), false));
    }
}
