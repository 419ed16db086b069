//! `pgherd.unique_id()`: a function of the shards that gives numbers which no other shard gives, later ones later numbers.
//!
//! It is a function of Postgres, so that it means the same in values, defaults and prepared statements, and proxies
//! need not agree on anything. From the highest bit: the sign; 31 bits of seconds since 2024, as the server's clock has
//! them; 10 bits of the shard's number; 22 bits of a sequence of the server, which begins anew at its end. A number comes
//! twice only if 4,194,304 others have come on the shard between, and the clock has the same second still, or again:
//! a clock would have to be set back by as long as it takes to draw so many. The number of a shard is its place among the
//! shards, and stands in the function's body, by which it is known whether it is the right one: a copy of another shard has
//! another's.

use pgherd_planner::catalog::{Catalog, RelationKind};
use pgherd_wire::error::ErrorReport;
use pgherd_wire::sqlstate;

/// The body of the function, if there is one.
pub(super) const QUESTION: &str = "SELECT p.prosrc FROM pg_catalog.pg_proc p \
 JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace \
 WHERE n.nspname = 'pgherd' AND p.proname = 'unique_id' AND p.pronargs = 0 AND p.provolatile = 'v' AND NOT p.proretset";

/// How many numbers the sequence gives before it begins anew.
const NUMBERS: i64 = 1 << 22;
/// How many shards have numbers of their own.
const SHARDS: u16 = 1 << 10;
/// When the numbers begin: 2024-01-01, in seconds since 1970.
const EPOCH: i64 = 1_704_067_200;

/// What a shard has of the function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Unique {
    /// Nothing.
    #[default]
    Missing,
    /// One that gives numbers of this shard.
    Right,
    /// One that gives what another shard may give, too.
    Wrong,
}

impl Unique {
    /// What a body is that was found on the shard of this number.
    pub(super) fn of(body: &str, shard: u16) -> Self {
        match shard < SHARDS && body == self::body(shard) {
            true => Self::Right,
            false => Self::Wrong,
        }
    }
}

fn body(shard: u16) -> String {
    let own = i64::from(shard) * NUMBERS;
    let second = i64::from(SHARDS) * NUMBERS;
    format!(
        "SELECT (floor(extract(epoch FROM clock_timestamp()))::bigint - {EPOCH}) * {second} + {own} \
         + nextval('pgherd.unique_ids')"
    )
}

/// What makes the function on the shard of this number.
fn definition(shard: u16) -> String {
    format!(
        "CREATE SCHEMA IF NOT EXISTS pgherd; \
         CREATE SEQUENCE IF NOT EXISTS pgherd.unique_ids MINVALUE 0 MAXVALUE {} CYCLE; \
         CREATE OR REPLACE FUNCTION pgherd.unique_id() RETURNS bigint LANGUAGE sql VOLATILE \
         SET search_path = pg_catalog AS $${}$$; \
         GRANT USAGE ON SCHEMA pgherd TO PUBLIC; GRANT USAGE ON SEQUENCE pgherd.unique_ids TO PUBLIC",
        NUMBERS - 1,
        body(shard)
    )
}

/// Why the function must not be used as the shards are, if one has none or another's; they come in their order, with their
/// names.
pub(super) fn unusable<'a>(
    shards: impl IntoIterator<Item = (&'a str, Unique)>,
) -> Option<ErrorReport> {
    let mut shards = (0..).zip(shards);
    let (at, (name, unique)) = shards.find(|(_, (_, unique))| *unique != Unique::Right)?;
    let why = match unique {
        Unique::Missing => "has no function",
        _ => "gives numbers that another may give by the function",
    };
    let text = format!("shard \"{name}\" {why} pgherd.unique_id()");
    let report = ErrorReport::error(sqlstate::FEATURE_NOT_SUPPORTED, text);
    Some(match at < SHARDS {
        true => report.hint(format!("Run there, as who may: {}", definition(at))),
        false => report.hint(format!("It is made for up to {SHARDS} shards.")),
    })
}

/// Whether a text calls the function by its name, as far as it is to be read.
pub(super) fn is_mentioned(text: &[u8]) -> bool {
    let has = |name: &[u8]| {
        let mut parts = text.windows(name.len());
        parts.any(|part| part.eq_ignore_ascii_case(name))
    };
    has(b"unique_id") && has(b"pgherd")
}

/// Whether a text has names with escaped letters (`U&"…"`), which may be any.
pub(super) fn may_hide(text: &[u8]) -> bool {
    text.windows(2).any(|part| part == b"&\"")
}

/// Whether a column has it as its default, or a view calls it: then it is called where no text says so.
pub(super) fn is_hidden(catalog: &Catalog) -> bool {
    let calls = |text: &str| text.contains("pgherd.unique_id()");
    let mut relations = catalog.relations();
    relations.any(|(_, relation)| {
        let mut defaults = relation
            .columns
            .iter()
            .filter_map(|it| it.default.as_deref());
        defaults.any(calls) || matches!(&relation.kind, RelationKind::View(text) if calls(text))
    })
}

#[cfg(test)]
mod tests {
    use super::{Unique, body, definition, is_mentioned, may_hide, unusable};

    #[test]
    fn a_function_is_of_one_shard() {
        assert_eq!(Unique::of(&body(3), 3), Unique::Right);
        assert_eq!(Unique::of(&body(3), 2), Unique::Wrong);
        assert_eq!(
            Unique::of(&body(1024), 1024),
            Unique::Wrong,
            "it has no place"
        );
        assert!(
            body(3).contains("* 4294967296 + 12582912 + nextval"),
            "{}",
            body(3)
        );
        assert!(definition(3).contains(&format!("$${}$$", body(3))));
    }

    #[test]
    fn all_shards_have_one_or_it_is_not_used() {
        let told = |two| unusable([("a", Unique::Right), ("b", two)]);
        assert_eq!(told(Unique::Right), None);
        for unique in [Unique::Missing, Unique::Wrong] {
            let report = told(unique).expect("a reason");
            assert!(report.message.contains("\"b\""), "{report}");
        }
    }

    #[test]
    fn a_text_that_calls_it_has_its_name() {
        assert!(is_mentioned(b"select pgherd.\"unique_id\"()"));
        assert!(is_mentioned(b"select PGHERD.Unique_Id()"));
        assert!(!is_mentioned(b"select unique_id from orders"));
        assert!(may_hide(b"select U&\"\\0070gherd\".unique_id()"));
    }
}
