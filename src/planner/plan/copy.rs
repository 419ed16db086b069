//! What is known of a `COPY` before its rows come.

use crate::placement::{Group, KeyType, Shard};

/// `COPY table FROM`, whose rows are to be placed one by one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyIn {
    /// The table's schema.
    pub schema: String,
    /// Its name.
    pub table: String,
    /// The columns, in the order in which they come.
    pub columns: Vec<String>,
    /// Where each row goes.
    pub target: CopyTarget,
    /// The encoding that the statement gives the data, if it gives one.
    pub encoding: Option<String>,
    /// How rows are written.
    pub(crate) form: Form,
    /// The modifiers of the key's types: what is stored may be cut or rounded.
    pub(crate) modifiers: Vec<i32>,
    /// The columns whose texts may name a moment, by their places among those that come.
    pub(crate) watched: Vec<usize>,
}

impl CopyIn {
    /// Whether the data is text, in one encoding or another.
    pub fn is_text(&self) -> bool {
        self.form != Form::Binary
    }
}

/// Where the rows of a `COPY` go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopyTarget {
    /// Each to the shard of its key.
    ByKey {
        /// What the key is placed by.
        group: Group,
        /// For each column of the key, its place among those that come, and its type.
        key: Vec<(usize, KeyType)>,
    },
    /// All to every shard.
    All,
    /// All to one.
    One(Shard),
}

/// How rows are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Form {
    Text(Shape),
    Csv(Shape, Quotes),
    Binary,
}

impl Form {
    /// Whether a field may say that its column's default is meant.
    pub(crate) fn marks_default(&self) -> bool {
        match self {
            Self::Text(shape) | Self::Csv(shape, _) => shape.default.is_some(),
            Self::Binary => false,
        }
    }
}

/// What texts have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) delimiter: u8,
    pub(crate) null: Box<[u8]>,
    /// What stands for a column's default, if anything does.
    pub(crate) default: Option<Box<[u8]>>,
    /// The first line has the columns' names.
    pub(crate) header: bool,
}

/// What CSV has besides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Quotes {
    pub(crate) quote: u8,
    pub(crate) escape: u8,
    /// Which columns of the key take what stands for NULL for a text, and which take it for NULL also in quotes.
    pub(crate) never_null: Vec<bool>,
    pub(crate) null_in_quotes: Vec<bool>,
}

/// How the rows of a `COPY … TO` are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyOut {
    /// A line with the names of the columns comes before them.
    pub header: bool,
    /// The encoding that the statement gives the data, if it gives one.
    pub encoding: Option<String>,
    /// The format.
    pub format: Format,
}

/// The formats of a `COPY … TO`, with what belongs to them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    /// A line for each row.
    Text {
        /// What stands between two values.
        delimiter: u8,
        /// What stands for NULL.
        null: Box<[u8]>,
    },
    /// Lines whose values may be in quotes.
    Csv {
        /// What stands between two values.
        delimiter: u8,
        /// What stands for NULL.
        null: Box<[u8]>,
        /// What stands around a value in quotes.
        quote: u8,
        /// What stands before a quote, or itself, within a value in quotes.
        escape: u8,
        /// The columns that are always in quotes.
        quoted: Quoted,
    },
    /// As values are in the protocol's binary format.
    Binary,
}

/// Columns whose values are in quotes whatever they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Quoted {
    /// Those of these names: of several columns of one name, the first.
    These(Vec<String>),
    /// All.
    All,
}
