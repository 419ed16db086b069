//! A statement with its names resolved: what the analysis reads.

use crate::catalog::{Collation, Column};
use crate::placement::{Distribution, KeyType, KeyValue};

/// An occurrence of a table, query or function in FROM, by its number in [`Tree::relations`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Rel(pub(crate) usize);

/// A column of an occurrence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Col {
    pub(crate) rel: Rel,
    pub(crate) at: usize,
}

/// What is known of an expression's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kind {
    /// A type of Postgres' own; 0 if it is another, or not known.
    pub(crate) oid: u32,
    /// Its length or precision; -1 for none that is known.
    pub(crate) modifier: i32,
    pub(crate) collation: Collation,
    /// It is never NULL, as far as its table says.
    pub(crate) not_null: bool,
}

impl Kind {
    pub(crate) const UNKNOWN: Self = Self::plain(0);

    pub(crate) const fn plain(oid: u32) -> Self {
        Self {
            oid,
            modifier: -1,
            collation: Collation::None,
            not_null: false,
        }
    }

    /// What is known of the type of a table's column.
    pub(crate) fn of(column: &Column) -> Self {
        Self {
            oid: column.kind.oid,
            modifier: column.modifier,
            collation: column.collation,
            not_null: column.not_null,
        }
    }

    /// The type of values of both, if they have one.
    pub(crate) fn and(self, other: Self) -> Option<Self> {
        let same = self.oid == other.oid && self.collation == other.collation;
        same.then_some(Self {
            modifier: match self.modifier == other.modifier {
                true => self.modifier,
                false => -1,
            },
            not_null: self.not_null && other.not_null,
            ..self
        })
    }

    /// The type as one of a key, whose equal values are certain to be the same.
    pub(crate) fn key(self) -> Option<KeyType> {
        match self.collation {
            Collation::Nondeterministic => None,
            _ => KeyType::of(self.oid),
        }
    }

    /// Whether values that are equal are the same to the byte, so that any of them may stand for all. It is not so of
    /// numeric (1.0 and 1.00) without a scale, floats (0 and -0), intervals, char without a length, jsonb and types of
    /// one's own.
    pub(crate) fn is_exact(self) -> bool {
        const EXACT: [u32; 15] = [
            16, 17, 18, 19, 20, 21, 23, 25, 26, 1043, 1082, 1083, 1114, 1184, 2950,
        ];
        let fixed = matches!(self.oid, 1042 | 1700) && self.modifier >= 0;
        self.collation != Collation::Nondeterministic && (fixed || EXACT.contains(&self.oid))
    }
}

/// A column that a query or table has for others.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Output {
    pub(crate) name: String,
    pub(crate) kind: Kind,
}

/// A table of the schema.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    pub(crate) schema: String,
    pub(crate) name: String,
    pub(crate) place: Place,
}

/// Where a table's rows are, with the positions of its key's columns.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    At(Distribution),
    Key {
        group: crate::placement::Group,
        columns: Vec<usize>,
        kinds: Vec<KeyType>,
        /// A column of the key may be NULL.
        nullable: bool,
    },
    /// A catalog of the server's own.
    System,
}

#[derive(Debug, Clone)]
pub(crate) enum Source {
    Table(Table),
    Query(Box<Query>),
    /// A recursive query.
    Recursive(Box<Query>),
    /// Rows that come from expressions alone, or are those of the recursion.
    Rows(Vec<Expr>),
}

#[derive(Debug, Clone)]
pub(crate) struct Occurrence {
    pub(crate) source: Source,
    pub(crate) columns: Vec<Output>,
    pub(crate) lateral: bool,
}

/// One of the values that an expression may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Constant {
    Null,
    /// A literal whose type the other side decides.
    Unknown(String),
    /// A literal of a certain type.
    Typed(KeyValue),
    /// A number of another type than the same one has without a cast, and that type.
    Cast(KeyValue, u32),
    /// A literal that is no key.
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Test {
    Exists,
    /// `IN`, `= ANY`.
    In,
    /// `NOT IN`, `<> ALL`; the first as `NOT` of [`Test::In`] is an expression around it.
    NotIn,
    /// One value, an array, or another comparison.
    Value,
}

#[derive(Debug, Clone)]
pub(crate) struct Sub {
    pub(crate) test: Test,
    /// Its value is compared by an operator to which equal ones are one, and does nothing else.
    pub(crate) compared: bool,
    pub(crate) left: Vec<Expr>,
    pub(crate) query: Box<Query>,
}

#[derive(Debug, Clone)]
pub(crate) enum Expr {
    Col(Col),
    Const(Constant),
    /// A parameter, and the type that a cast gives it.
    Param(u32, Option<u32>),
    /// `=` as Postgres defines it.
    Equal(Box<Self>, Box<Self>),
    /// Equal to one of a list, none of which is known to be a query.
    OneOf(Box<Self>, Vec<Self>),
    /// Equal to an element of an array that is a parameter, and the type that a cast gives its elements.
    AnyOf(Box<Self>, u32, Option<u32>),
    Row(Vec<Self>),
    And(Vec<Self>),
    Sub(Sub),
    /// Anything else that is computed of these, and its type if that is certain.
    Of(Vec<Self>, Kind),
}

impl Expr {
    /// Whether a column or a query is in it.
    pub(crate) fn walk<'a>(&'a self, visit: &mut dyn FnMut(&'a Self)) {
        visit(self);
        match self {
            Self::Col(_) | Self::Const(_) | Self::Param(..) => {}
            Self::Equal(left, right) => {
                left.walk(visit);
                right.walk(visit);
            }
            Self::OneOf(left, list) => {
                left.walk(visit);
                list.iter().for_each(|item| item.walk(visit));
            }
            Self::AnyOf(left, ..) => left.walk(visit),
            Self::Row(items) | Self::And(items) | Self::Of(items, _) => {
                items.iter().for_each(|item| item.walk(visit));
            }
            // The query's own expressions are its own.
            Self::Sub(sub) => sub.left.iter().for_each(|item| item.walk(visit)),
        }
    }

    /// The queries in it.
    pub(crate) fn subs(&self) -> Vec<&Sub> {
        let mut found = Vec::new();
        self.walk(&mut |expr| {
            if let Self::Sub(sub) = expr {
                found.push(sub);
            }
        });
        found
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JoinKind {
    Inner,
    Left,
    Right,
    Full,
}

#[derive(Debug, Clone)]
pub(crate) enum From {
    Rel(Rel),
    Join {
        kind: JoinKind,
        left: Box<Self>,
        right: Box<Self>,
        on: Vec<Expr>,
        /// The columns that FULL JOIN … USING makes of two.
        merged: Vec<(Col, Col, Col)>,
    },
}

#[derive(Debug, Clone)]
pub(crate) enum Distinct {
    No,
    All,
    On(Vec<Expr>),
}

/// One level: SELECT … FROM … WHERE … GROUP BY …
#[derive(Debug, Clone)]
pub(crate) struct Select {
    pub(crate) from: Vec<From>,
    pub(crate) filter: Vec<Expr>,
    pub(crate) targets: Vec<Expr>,
    pub(crate) distinct: Distinct,
    pub(crate) group: Vec<Expr>,
    pub(crate) grouping_sets: bool,
    pub(crate) having: Option<Expr>,
    /// It has aggregates, GROUP BY or HAVING.
    pub(crate) aggregates: bool,
    /// The PARTITION BY of each window that is used.
    pub(crate) windows: Vec<Vec<Expr>>,
    /// What windows are ordered and bounded by, and other expressions that only matter for what is in them.
    pub(crate) extra: Vec<Expr>,
    /// Rows that are the same may give another answer when they come in another order, if only in which of equal values
    /// stands for all.
    pub(crate) loose: bool,
    /// All that it gives is the least or greatest of numbers, of which equal ones may be written otherwise.
    pub(crate) picks: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SetKind {
    Union,
    Intersect,
    Except,
}

#[derive(Debug, Clone)]
pub(crate) enum Body {
    Select(Box<Select>),
    Values(Vec<Expr>),
    Set {
        kind: SetKind,
        all: bool,
        left: Box<Query>,
        right: Box<Query>,
    },
}

/// What a row is sorted by.
#[derive(Debug, Clone)]
pub(crate) struct Sort {
    pub(crate) expr: Expr,
    /// The output column that it is.
    pub(crate) output: Option<usize>,
    pub(crate) descending: bool,
    pub(crate) nulls_first: bool,
    /// `USING operator`.
    pub(crate) using: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Query {
    pub(crate) body: Body,
    pub(crate) sort: Vec<Sort>,
    /// LIMIT and OFFSET, in this order, as far as there are.
    pub(crate) limits: Vec<Expr>,
    pub(crate) locks: bool,
    pub(crate) columns: Vec<Output>,
}

/// What a statement calls or names that is not the same on every shard, or at every moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Traits {
    /// The time: one value for the statement.
    pub(crate) clock: Option<String>,
    /// Another value for each row.
    pub(crate) volatile: Option<String>,
    /// The same, of chance alone: neither of a clock nor of what the session has set.
    pub(crate) drawn: Option<String>,
    /// It takes numbers that nobody gets again, which a server may write down.
    pub(crate) numbers: bool,
    /// What is this server's own.
    pub(crate) server: Option<String>,
    /// A new value of a sequence.
    pub(crate) sequence: Option<String>,
    /// The session's last value of a sequence.
    pub(crate) session: Option<String>,
    /// How much one server has of something that is on all.
    pub(crate) share: Option<String>,
    /// It acts on what one server has for all: advisory locks, notifications, large objects.
    pub(crate) fixed: Option<String>,
    /// A function of the users' own that may read or write tables.
    pub(crate) user: Option<String>,
    /// Columns and options that tell of where a row lies.
    pub(crate) physical: Option<String>,
    /// A table with row level security.
    pub(crate) policies: Option<String>,
    /// What comes out otherwise where the same rows lie in another order, or another of equal values stands for all.
    pub(crate) order: Option<&'static str>,
    /// A recursive query tells the way to each of its rows by SEARCH or CYCLE, in records, of which no table has a column.
    pub(crate) paths: bool,
    /// It locks rows of a table that is the same on every shard.
    pub(crate) locks: bool,
    /// It reads tables of its users, wherever they are.
    pub(crate) tables: bool,
}
