//! What of a script makes tables, and what asks.

use std::collections::HashSet;
use std::path::Path;

use pg_query::protobuf::SelectStmt;
use pg_query::{NodeEnum, NodeRef};
use pgherd_tests::{Script, Statement};

/// The two halves of a script.
#[derive(Debug, Default)]
pub(super) struct Parts {
    /// What makes tables and fills them, as psql reads it.
    pub(super) setup: String,
    /// What is asked, each text once.
    pub(super) queries: Vec<String>,
}

/// What a statement that begins so makes stays, and is of one database.
const KEPT: &[&str] = &[
    "alter", "copy", "create", "do", "insert", "update", "with", "select",
];
/// These belong to the whole server, are about who may do what, or change what others' operators mean.
const LEFT_OUT: &[&str] = &[
    "role",
    "user",
    "group",
    "tablespace",
    "database",
    "policy",
    "operator",
    "cast",
];

impl Parts {
    /// Reads a script, which may load files of a folder.
    pub(super) fn of(text: &str, data: &Path) -> Self {
        let mut script = Script::new(text);
        script.set("abs_srcdir", &data.display().to_string());
        let (mut parts, mut known) = (Self::default(), HashSet::new());
        while let Some(statement) = script.statement() {
            let lines = match statement.reads_on() {
                true => script.data() + "\\.\n",
                false => String::new(),
            };
            if let Some(query) = query(&statement.text) {
                if known.insert(query.clone()) {
                    parts.queries.push(query);
                }
            } else if is_kept(&statement) {
                parts.setup += &format!("{};\n{lines}", lasting(&statement.text));
            }
        }
        parts
    }
}

fn is_kept(statement: &Statement) -> bool {
    let words = statement.text.split_whitespace().map(str::to_lowercase);
    let words: Vec<String> = words.take(3).collect();
    let first = words.first().map_or("", String::as_str);
    !statement.several
        && KEPT.contains(&first)
        && !words.iter().any(|word| LEFT_OUT.contains(&word.as_str()))
}

/// The same without what would have it go with the session.
fn lasting(text: &str) -> String {
    let mut words = text.split_whitespace();
    let of = words.by_ref().take(4).map(str::to_lowercase);
    let first: Vec<String> = of.collect();
    let is_passing = |word: &str| ["temp", "temporary", "local", "global"].contains(&word);
    let creates = first.first().is_some_and(|word| word == "create");
    if !creates || !first.iter().any(|word| is_passing(word)) {
        return text.to_owned();
    }
    let mut rest = text;
    let mut kept = String::new();
    for word in &first {
        let (before, behind) = rest.trim_start().split_at(word.len());
        if !is_passing(word) {
            kept += before;
            kept.push(' ');
        }
        rest = behind;
    }
    let rest = rest.to_owned();
    let end = rest.to_lowercase().find("on commit");
    match end {
        Some(at) if rest.len() == rest.to_lowercase().len() => {
            let behind = rest[at..].split_whitespace().nth(3).is_some();
            if behind {
                kept + &rest
            } else {
                kept + &rest[..at]
            }
        }
        _ => kept + &rest,
    }
}

/// The text of a statement that only asks; that of what is to be explained, too.
fn query(text: &str) -> Option<String> {
    let parsed = pg_query::parse(text, 0).ok()?;
    let statements = &parsed.protobuf.stmts;
    let [one] = statements.as_slice() else {
        return None;
    };
    match one.stmt.as_ref()?.node.as_ref()? {
        NodeEnum::SelectStmt(select) if only_asks(select, &parsed) => Some(text.to_owned()),
        NodeEnum::ExplainStmt(explain) => {
            let NodeEnum::SelectStmt(_) = explain.query.as_ref()?.node.as_ref()? else {
                return None;
            };
            query(behind_explain(text)?)
        }
        _ => None,
    }
}

/// What stands behind `EXPLAIN (…)`.
fn behind_explain(text: &str) -> Option<&str> {
    let mut rest = text.trim_start().get("explain".len()..)?.trim_start();
    if let Some(options) = rest.strip_prefix('(')
        && !options.trim_start().to_lowercase().starts_with("select")
    {
        rest = &options[options.find(')')? + 1..];
    }
    for word in ["analyze", "verbose"] {
        if rest.to_lowercase().trim_start().starts_with(word) {
            rest = &rest.trim_start()[word.len()..];
        }
    }
    Some(rest.trim())
}

fn only_asks(select: &SelectStmt, parsed: &pg_query::ParseResult) -> bool {
    select.into_clause.is_none()
        && !parsed.protobuf.nodes().iter().any(|(node, ..)| {
            matches!(
                node,
                NodeRef::InsertStmt(_)
                    | NodeRef::UpdateStmt(_)
                    | NodeRef::DeleteStmt(_)
                    | NodeRef::MergeStmt(_)
                    | NodeRef::IntoClause(_)
            )
        })
}
