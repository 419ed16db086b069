//! How statements of a sharded database ran, and why others were refused.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use pgherd_wire::error::ErrorReport;
use pgherd_wire::sqlstate;

/// How a statement runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// On one shard, as it is; what is about the session or its transaction, too.
    OneShard,
    /// A read of several, whose answers are put one behind the other.
    PushedDown,
    /// A read of several, whose answers are merged, or combined from partial ones.
    Merged,
    /// A read for which rows are brought to one of them.
    Pulled,
    /// A write or a definition for several.
    Written,
}

impl Tier {
    const ALL: [Self; 5] = [
        Self::OneShard,
        Self::PushedDown,
        Self::Merged,
        Self::Pulled,
        Self::Written,
    ];

    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::OneShard => "one_shard",
            Self::PushedDown => "pushed_down",
            Self::Merged => "merged",
            Self::Pulled => "pulled",
            Self::Written => "written",
        }
    }
}

/// What of a statement was not supported (0A000).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// A function or an operator.
    Function,
    /// A table: how it is placed, or what it has.
    Table,
    /// What a query consists of.
    Query,
    /// What a write does.
    Write,
    /// `COPY`.
    Copy,
    /// A definition.
    Definition,
    /// The transaction or session: it may not come to this shard, or to several.
    Transaction,
    /// The shards differ, or cannot be read.
    Schema,
    /// Anything else.
    Other,
}

impl Reason {
    const ALL: [Self; 9] = [
        Self::Function,
        Self::Table,
        Self::Query,
        Self::Write,
        Self::Copy,
        Self::Definition,
        Self::Transaction,
        Self::Schema,
        Self::Other,
    ];

    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Function => "function",
            Self::Table => "table",
            Self::Query => "query",
            Self::Write => "write",
            Self::Copy => "copy",
            Self::Definition => "definition",
            Self::Transaction => "transaction",
            Self::Schema => "schema",
            Self::Other => "other",
        }
    }

    /// What a client was told of, by its words: they begin with the part of the statement that is not supported.
    fn of(message: &str) -> Self {
        const BEGINNINGS: [(Reason, &[&str]); 8] = [
            (
                Reason::Function,
                &["function ", "functions ", "procedure ", "operator "],
            ),
            (Reason::Table, &["table ", "view ", "system catalog "]),
            (Reason::Copy, &["COPY"]),
            (
                Reason::Write,
                &[
                    "INSERT",
                    "UPDATE",
                    "DELETE",
                    "MERGE",
                    "VALUES",
                    "SET:",
                    "ON CONFLICT",
                    "ON UPDATE",
                    "ON DELETE",
                    "RETURNING",
                    "OVERRIDING",
                    "WHEN ",
                    "this stores rows",
                    "this is a write",
                ],
            ),
            (
                Reason::Definition,
                &[
                    "ALTER",
                    "CREATE",
                    "DROP",
                    "RENAME",
                    "FOREIGN KEY",
                    "UNIQUE",
                    "PRIMARY KEY",
                    "EXCLUDE",
                    "LIKE",
                    "SET DEFAULT",
                    "ANALYZE",
                    "this definition",
                ],
            ),
            (
                Reason::Query,
                &[
                    "SELECT",
                    "WITH",
                    "FROM",
                    "JOIN",
                    "join",
                    "LIMIT",
                    "ORDER BY",
                    "GROUPING SETS",
                    "UNION",
                    "OVER",
                    "FOR UPDATE",
                    "SEARCH",
                    "subquery",
                    "aggregate",
                    "expression",
                    "cast",
                    "unnest",
                    "IN:",
                    "this statement has rows on",
                ],
            ),
            (
                Reason::Transaction,
                &[
                    "this transaction",
                    "this would bind",
                    "transactions ",
                    "only READ COMMITTED",
                ],
            ),
            (
                Reason::Schema,
                &["shards ", "the schema of", "the sequences of"],
            ),
        ];
        let part = message.split(": ").next().unwrap_or_default();
        if part.ends_with("()") {
            return Self::Function;
        }
        let begins = |(_, beginnings): &&(Self, &[&str])| {
            let mut beginnings = beginnings.iter();
            beginnings.any(|beginning| message.starts_with(beginning))
        };
        let found = BEGINNINGS.iter().find(begins);
        found.map_or(Self::Other, |(reason, _)| *reason)
    }
}

/// The counters of one database.
#[derive(Debug, Default)]
pub struct Counts {
    tiers: [AtomicU64; Tier::ALL.len()],
    refusals: [AtomicU64; Reason::ALL.len()],
}

impl Counts {
    /// A statement has been sent where it runs.
    pub fn ran(&self, tier: Tier) {
        self.tiers[tier as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// A client was told an error of ours; what else than a refusal it is does not count.
    pub fn told(&self, report: &ErrorReport) {
        if report.code == sqlstate::FEATURE_NOT_SUPPORTED {
            let reason = Reason::of(&report.message);
            self.refusals[reason as usize].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many statements ran in each way.
    pub fn tiers(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let count = |tier: Tier| self.tiers[tier as usize].load(Ordering::Relaxed);
        Tier::ALL
            .into_iter()
            .map(move |tier| (tier.name(), count(tier)))
    }

    /// How many were refused for each reason.
    pub fn refusals(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let count = |reason: Reason| self.refusals[reason as usize].load(Ordering::Relaxed);
        let all = Reason::ALL.into_iter();
        all.map(move |reason| (reason.name(), count(reason)))
    }
}

/// The counters of all databases that were ever asked for. They outlive what their sessions share.
#[derive(Debug, Default)]
pub struct AllCounts(Mutex<BTreeMap<String, Arc<Counts>>>);

impl AllCounts {
    /// Those of a database.
    pub fn of(&self, database: &str) -> Arc<Counts> {
        let mut all = self.0.lock();
        Arc::clone(all.entry(database.to_owned()).or_default())
    }

    /// All of them, with their databases.
    pub fn all(&self) -> Vec<(String, Arc<Counts>)> {
        let all = self.0.lock();
        let pairs = all.iter();
        pairs
            .map(|(name, counts)| (name.clone(), Arc::clone(counts)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use pgherd_wire::error::ErrorReport;
    use pgherd_wire::sqlstate::{self, SqlState};

    use super::{Counts, Reason};

    #[test]
    fn each_counter_has_its_place() {
        for (at, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, at, "{reason:?}");
        }
        for (at, tier) in super::Tier::ALL.into_iter().enumerate() {
            assert_eq!(tier as usize, at, "{tier:?}");
        }
    }

    #[test]
    fn refusals_are_told_apart_by_their_words() {
        for (message, reason) in [
            (
                "random(): it is not the same on every shard",
                Reason::Function,
            ),
            ("table public.t: it has rules", Reason::Table),
            (
                "INSERT: the key of a row is its column's default",
                Reason::Write,
            ),
            (
                "ON UPDATE CASCADE of the FOREIGN KEY of public.t: it may",
                Reason::Write,
            ),
            ("COPY … WITH: it is not supported", Reason::Copy),
            (
                "LIMIT: which rows it leaves is only known of all of them",
                Reason::Query,
            ),
            (
                "this statement has rows on 2 shards, and runs on one only",
                Reason::Query,
            ),
            ("shards \"a\" and \"b\" differ", Reason::Schema),
            ("LISTEN in a block over several shards", Reason::Other),
        ] {
            assert_eq!(Reason::of(message), reason, "{message}");
        }
    }

    #[test]
    fn only_refusals_count() {
        let counts = Counts::default();
        let tell = |code: SqlState| counts.told(&ErrorReport::error(code, "f(): no"));
        tell(sqlstate::SYNTAX_ERROR);
        tell(sqlstate::FEATURE_NOT_SUPPORTED);
        let found: Vec<_> = counts.refusals().filter(|(_, count)| *count > 0).collect();
        assert_eq!(found, [("function", 1)]);
    }
}
