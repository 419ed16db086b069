//! A line of a collection: which kind of route is expected, how answers are compared, the query, and its parameters.

/// What can be had without the rows of several shards at one place, and what cannot.
pub(crate) const COLLECTIONS: [&str; 2] = [include_str!("queries.txt"), include_str!("pulled.txt")];

/// What changes rows and definitions, each behind those before it.
pub(crate) const WRITES: &str = include_str!("writes.txt");

pub(crate) struct Line<'a> {
    pub(crate) kind: &'a str,
    pub(crate) mode: Mode,
    pub(crate) query: &'a str,
    pub(crate) values: Vec<Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The rows in any order.
    Bag,
    /// The rows in this order.
    Sequence,
    /// As many rows.
    Count,
}

/// A parameter: its type's name and OID, and its text.
#[derive(Debug, Clone)]
pub(crate) struct Value {
    pub(crate) oid: u32,
    pub(crate) kind: &'static str,
    pub(crate) text: Option<String>,
}

const TYPES: &[(&str, u32)] = &[
    ("int8", 20),
    ("int4", 23),
    ("int2", 21),
    ("numeric", 1700),
    ("text", 25),
    ("uuid", 2950),
    ("int8[]", 1016),
    ("numeric[]", 1231),
    ("int4[]", 1007),
    ("text[]", 1009),
    ("bpchar", 1042),
    ("date", 1082),
];

/// `kind[=~] query`, and behind ` -- ` the parameters as `type:text`.
pub(crate) fn line(text: &str) -> Option<Line<'_>> {
    if text.trim().is_empty() || text.starts_with("--") {
        return None;
    }
    let (kind, query) = text.split_once(' ').unwrap();
    let (kind, mode) = match kind.strip_suffix('=') {
        Some(kind) => (kind, Mode::Sequence),
        None => match kind.strip_suffix('~') {
            Some(kind) => (kind, Mode::Count),
            None => (kind, Mode::Bag),
        },
    };
    let (query, params) = query.split_once(" -- ").unwrap_or((query, ""));
    let values = params.split(" | ").filter(|text| !text.is_empty());
    Some(Line {
        kind,
        mode,
        query: query.trim(),
        values: values.map(value).collect(),
    })
}

fn value(text: &str) -> Value {
    let (kind, text) = text.split_once(':').unwrap();
    let (kind, oid) = TYPES.iter().find(|(name, _)| *name == kind).expect(kind);
    Value {
        oid: *oid,
        kind,
        text: (text != "NULL").then(|| text.to_owned()),
    }
}

/// A text with its parameters written into it.
pub(crate) fn with(text: &str, values: &[Value]) -> String {
    let mut text = text.to_owned();
    for (at, value) in values.iter().enumerate().rev() {
        let literal = match &value.text {
            Some(text) => format!("('{}'::{})", text.replace('\'', "''"), value.kind),
            None => format!("(NULL::{})", value.kind),
        };
        text = text.replace(&format!("${}", at + 1), &literal);
    }
    text
}

/// A number of the environment.
pub(crate) fn asked<T: std::str::FromStr>(name: &str, otherwise: T) -> T {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(otherwise)
}
