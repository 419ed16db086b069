//! The facts of a schema, as a plain value: what a name means, and what may be relied on.

use std::collections::{BTreeMap, BTreeSet};

mod compare;
mod load;
#[cfg(test)]
mod tests;

pub use load::{Loader, Part, RowError, SNAPSHOT};

/// A schema's name and a name in it.
pub type Name = (String, String);

/// A type, which is the same on all shards by its name, and by its OID only if it is Postgres' own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TypeRef {
    /// The schema.
    pub schema: String,
    /// The name (`int8`, `_text`).
    pub name: String,
    /// The OID of a type of Postgres' own; 0 for all others.
    pub oid: u32,
}

/// How the texts of a column are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Collation {
    /// It has none: no text.
    None,
    /// By bytes (`C`, `POSIX`).
    Bytes,
    /// By a language; equal only if the bytes are.
    Deterministic,
    /// Different bytes may be equal.
    Nondeterministic,
}

/// A column of a table or view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: TypeRef,
    /// The type's modifier; -1 for none.
    pub modifier: i32,
    /// Whether it is declared NOT NULL.
    pub not_null: bool,
    /// How its texts are compared.
    pub collation: Collation,
    /// What it is given if nothing is: the expression's text.
    pub default: Option<String>,
    /// `GENERATED … AS IDENTITY`.
    pub identity: bool,
    /// `GENERATED ALWAYS AS (…) STORED`.
    pub generated: bool,
}

/// What a name of the relations stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RelationKind {
    /// A table, or a partitioned one.
    Table,
    /// A view, with its query; names in it are qualified.
    View(String),
    /// Anything else: a materialized view, a foreign table, a sequence, a composite type, an index.
    Other,
}

/// A unique index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unique {
    /// The index', and the constraint's if it has one.
    pub name: String,
    /// Its columns.
    pub columns: Vec<String>,
    /// Whether it is the primary key.
    pub primary: bool,
    /// Whether it is of columns alone, for all rows.
    pub plain: bool,
}

/// What happens to rows that a foreign key refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    /// Other values in columns.
    Update,
    /// They are deleted.
    Delete,
}

/// What a foreign key does then to the rows that refer to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Does {
    /// The same.
    Cascade,
    /// Their columns become NULL.
    Null,
    /// Their columns are given their defaults.
    Default,
}

/// What a foreign key does to rows of a table when rows that they refer to are changed, unless it is nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    /// The table whose rows refer to others.
    pub table: Name,
    /// When.
    pub on: Event,
    /// What.
    pub does: Does,
    /// The columns that are referred to.
    pub of: Vec<String>,
    /// Those that are changed. Where they follow the others, each has its counterpart among these.
    pub columns: Vec<String>,
}

/// A table, a view, or what else has columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// What it is.
    pub kind: RelationKind,
    /// Its columns, in order.
    pub columns: Vec<Column>,
    /// Its unique indexes.
    pub uniques: Vec<Unique>,
    /// What foreign keys do that refer to it.
    pub actions: Vec<Action>,
    /// Row level security is on.
    pub row_security: bool,
    /// It has rules of its users' own.
    pub rules: bool,
    /// It has triggers of its users' own, or CHECK constraints by functions of theirs that may read tables.
    pub triggers: bool,
    /// It inherits from, or is a part of, this one.
    pub parent: Option<Name>,
    /// Others inherit from it, and it is not partitioned.
    pub inherited: bool,
}

/// When a function gives the same again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Volatility {
    /// Always.
    Immutable,
    /// Within a statement.
    Stable,
    /// Never for certain.
    Volatile,
}

/// What kind of function it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FunctionKind {
    /// A plain one.
    Plain,
    /// One of a group of rows.
    Aggregate,
    /// One of a window of rows.
    Window,
    /// Something to be called by itself.
    Procedure,
}

/// A function of a name; there may be several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// Its schema.
    pub schema: String,
    /// What kind it is.
    pub kind: FunctionKind,
    /// When it gives the same.
    pub volatility: Volatility,
    /// The least and the greatest number of arguments.
    pub arguments: (u16, u16),
    /// It gives a set of rows.
    pub set: bool,
    /// It gives a row, or may give one, so that it has more than one column in FROM.
    pub row: bool,
    /// The names of the columns that it has in FROM, as far as they are its own.
    pub columns: Option<Vec<String>>,
}

/// An operator of the users' own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// Its schema.
    pub schema: String,
    /// The volatility of its function.
    pub volatility: Volatility,
    /// Both its types are Postgres' own, so that it may be chosen where one of Postgres' is meant.
    pub of_plain_types: bool,
}

/// A type of the users' own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserType {
    /// `typtype`: b(ase), c(omposite), d(omain), e(num), r(ange), m(ultirange), p(seudo).
    pub kind: char,
    /// An enum's labels, in order.
    pub labels: Vec<String>,
}

/// The facts of a database's schemas.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Catalog {
    pub(crate) schemas: BTreeSet<String>,
    pub(crate) relations: BTreeMap<Name, Relation>,
    pub(crate) functions: BTreeMap<String, Vec<Function>>,
    pub(crate) operators: BTreeMap<String, Vec<Operator>>,
    pub(crate) types: BTreeMap<Name, UserType>,
}

impl Catalog {
    /// A table or view, by its schema and name.
    pub fn relation(&self, schema: &str, name: &str) -> Option<&Relation> {
        let key = (schema.to_owned(), name.to_owned());
        self.relations.get(&key)
    }

    /// Whether there is a schema of this name.
    pub fn has_schema(&self, name: &str) -> bool {
        self.schemas.contains(name)
    }

    /// All tables and views, in the order of their names.
    pub fn relations(&self) -> impl Iterator<Item = (&Name, &Relation)> {
        self.relations.iter()
    }

    /// The operators of a name that the users have made.
    pub(crate) fn operators(&self, name: &str) -> &[Operator] {
        self.operators.get(name).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn user_type(&self, schema: &str, name: &str) -> Option<&UserType> {
        let key = (schema.to_owned(), name.to_owned());
        self.types.get(&key)
    }

    /// What differs from another shard's, each thing in a sentence; empty if nothing does.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        compare::differences(self, other)
    }
}

impl Relation {
    /// A column's position, by its name.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }
}

/// Whether a schema is Postgres' own.
pub(crate) fn is_system(schema: &str) -> bool {
    matches!(schema, "pg_catalog" | "information_schema")
}
