//! Values as they were written, each with its place, before they mean anything.
//!
//! A tree of our own stands in for derived deserialization, which gives up at the first fault and
//! forgets where values of lower layers came from.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use crate::fault::{Findings, Origin, Problem};

/// A value and where it was written.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) origin: Origin,
    pub(crate) value: Value,
}

/// A value as it was written.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Text(String),
    Integer(i64),
    /// A float, a date, or an integer beyond 64 bits: nothing that a setting takes.
    Other(String),
    Boolean(bool),
    List(Vec<Node>),
    Table(Table),
}

/// Values by key.
pub(crate) type Table = BTreeMap<String, Node>;

impl Node {
    pub(crate) fn text_at(origin: &Origin, text: impl Into<String>) -> Self {
        Self {
            origin: origin.clone(),
            value: Value::Text(text.into()),
        }
    }

    /// Gives the text, if it is one.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Tells whether the value comes from where everything is text.
    pub(crate) fn is_untyped(&self) -> bool {
        matches!(self.origin, Origin::Variable(_) | Origin::Argument(_))
    }

    /// Gives the integer, if it is one.
    pub(crate) fn integer(&self) -> Option<i64> {
        match &self.value {
            Value::Integer(number) => Some(*number),
            Value::Text(text) if self.is_untyped() => text.trim().parse().ok(),
            _ => None,
        }
    }

    /// Gives the value as it was written, for a message.
    pub(crate) fn written(&self) -> String {
        match &self.value {
            Value::Text(text) => format!("{text:?}"),
            Value::Integer(number) => number.to_string(),
            Value::Other(text) => text.clone(),
            Value::Boolean(value) => value.to_string(),
            Value::List(_) => "a list".to_owned(),
            Value::Table(_) => "a table".to_owned(),
        }
    }
}

/// Reads TOML; what is not TOML becomes faults, and no table is given then.
pub(crate) fn parse(
    text: &str,
    place: &dyn Fn(usize) -> Origin,
    findings: &mut Findings,
) -> Option<Table> {
    let lines = Lines::of(text);
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let line = error.span().map_or(1, |span| lines.at(span.start));
        let message = error
            .message()
            .lines()
            .next()
            .unwrap_or("not TOML")
            .to_owned();
        findings.fault(&place(line), "", Problem::Syntax(message), "");
    }
    let at = |offset: usize| place(lines.at(offset));
    errors.is_empty().then(|| table_of(table.get_ref(), &at))
}

/// Gives the places of an operator's file.
pub(crate) fn in_file(file: PathBuf) -> impl Fn(usize) -> Origin {
    let file = Arc::new(file);
    move |line| Origin::File {
        file: Arc::clone(&file),
        line,
    }
}

fn table_of(table: &DeTable<'_>, at: &dyn Fn(usize) -> Origin) -> Table {
    let node = |key: usize, value: &DeValue<'_>| Node {
        origin: at(key),
        value: value_of(value, at),
    };
    table
        .iter()
        .map(|(key, value)| {
            (
                key.get_ref().to_string(),
                node(key.span().start, value.get_ref()),
            )
        })
        .collect()
}

fn value_of(value: &DeValue<'_>, at: &dyn Fn(usize) -> Origin) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or_else(|_| Value::Other(number.as_str().to_owned()), Value::Integer),
        DeValue::Float(number) => Value::Other(number.as_str().to_owned()),
        DeValue::Boolean(value) => Value::Boolean(*value),
        DeValue::Datetime(moment) => Value::Other(moment.to_string()),
        DeValue::Array(items) => Value::List(
            items
                .iter()
                .map(|item| Node {
                    origin: at(item.span().start),
                    value: value_of(item.get_ref(), at),
                })
                .collect(),
        ),
        DeValue::Table(table) => Value::Table(table_of(table, at)),
    }
}

/// Where lines begin, to find the line of an offset.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        Self(
            text.match_indices('\n')
                .map(|(offset, _)| offset + 1)
                .collect(),
        )
    }

    fn at(&self, offset: usize) -> usize {
        self.0.partition_point(|start| *start <= offset) + 1
    }
}

/// Lays a layer over another: what both have is taken from the upper.
pub(crate) fn overlay(lower: &mut Table, upper: Table) {
    for (key, node) in upper {
        match (lower.get_mut(&key), node) {
            (
                Some(Node {
                    origin,
                    value: Value::Table(below),
                }),
                Node {
                    origin: above,
                    value: Value::Table(table),
                },
            ) => {
                *origin = above;
                overlay(below, table);
            }
            (_, node) => {
                lower.insert(key, node);
            }
        }
    }
}

/// Joins two files of one layer: what both have is a fault.
pub(crate) fn join(first: &mut Table, second: Table, path: &str, findings: &mut Findings) {
    for (key, node) in second {
        let inner = dotted(path, &key);
        // A database or user belongs to one file whole.
        let whole = path == "databases" || path == "users";
        match (first.get_mut(&key), node) {
            (None, node) => {
                first.insert(key, node);
            }
            (
                Some(Node {
                    value: Value::Table(one),
                    ..
                }),
                Node {
                    value: Value::Table(other),
                    ..
                },
            ) if !whole => {
                join(one, other, &inner, findings);
            }
            (Some(one), other) => {
                let twice = Problem::Twice(one.origin.clone());
                findings.fault(&other.origin, inner, twice, "");
            }
        }
    }
}

/// Appends a key to a path, quoted if TOML would quote it.
pub(crate) fn dotted(path: &str, key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let key = if !key.is_empty() && key.chars().all(bare) {
        key.to_owned()
    } else {
        format!("{key:?}")
    };
    if path.is_empty() {
        key
    } else {
        format!("{path}.{key}")
    }
}
