//! Rows that are brought to one server, which then answers what is left of the query.

use super::Prune;

/// A query that one server answers from what it has, and from rows that are brought to it before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// What is brought there.
    pub pulls: Vec<Pull>,
    /// What is run there behind it. It names the carriers without a schema, may have the statement's parameters (not
    /// all in each text, so that their types must be said with it), and reads no table but those that are the same on every shard.
    pub text: String,
}

/// Rows of the shards that become a relation of the server that answers.
///
/// Its columns have the names, types and collations that the text gives, as `CREATE TEMP TABLE … AS … WITH NO DATA`
/// keeps them. The texts that go to one shard must see one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pull {
    /// The relation's name.
    pub carrier: String,
    /// What is sent to the shards. It may have the statement's parameters.
    pub text: String,
    /// Which shards are concerned; where none is, the carrier stays empty.
    pub prune: Prune,
    /// Columns that must be declared as the primary key, because the query may group by them alone; empty if
    /// there is no need.
    pub primary: Vec<String>,
    /// The query may group by a primary key that need not be unique over the shards, and so cannot be declared.
    pub keyless: bool,
    /// Columns that are looked for row by row, so that large carriers should have an index of each.
    pub indexes: Vec<String>,
    /// Conditions of its own leave fewer rows of it, so that it may have fewer than others.
    pub filtered: bool,
    /// What else is known of the rows that count.
    pub keys: Vec<Key>,
    /// Why its rows may be taken by themselves.
    pub rule: Rule,
    /// The view that it is a piece of. In a view the rights of its owner count, but here it is the client who reads.
    pub view: Option<String>,
}

/// A column of a carrier in which only such values count as another carrier has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The column.
    pub column: String,
    /// The other carrier.
    pub carrier: String,
    /// The column of that.
    pub theirs: String,
    /// The name in `pg_catalog` of the type of that.
    pub kind: &'static str,
}

/// The rule by which rows may be taken out of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// The rows of a table that its own conditions leave.
    Table,
    /// Tables that are joined by their keys.
    Join,
    /// A query whose rows are disjoint parts, one on each shard.
    Query,
    /// What a query computes of each shard's rows, and is finished where all are together.
    Partial,
}

impl Rule {
    /// It in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Table => "a table's rows, by its own conditions and used columns",
            Self::Join => "tables that are joined by their keys",
            Self::Query => "a query whose rows are disjoint parts of the shards",
            Self::Partial => "a query's rows or partial aggregates, finished on one server",
        }
    }
}
