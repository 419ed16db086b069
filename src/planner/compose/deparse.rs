//! From trees back to texts, with a proof that the text means the tree.

use pg_query::protobuf::{Node, ParseResult, RawStmt, ResTarget, SelectStmt};
use pg_query::{DeparseOptions, NodeEnum};

use crate::refusal::{Refusal, Result};

/// The text of a statement, which was read again and found to be the same.
pub(super) fn text_of(node: NodeEnum) -> Result<String> {
    let text = deparse(node.clone())?;
    let failed = || Refusal::new("statement", "its other form cannot be written as a text");
    let again = pg_query::parse(&text, 0).map_err(|_| failed())?;
    let again = again.protobuf.stmts.into_iter().next();
    let again = again.and_then(|raw| raw.stmt).and_then(|node| node.node);
    match again {
        Some(again) if shown(&again) == shown(&node) => Ok(text),
        _ => Err(failed()),
    }
}

fn deparse(node: NodeEnum) -> Result<String> {
    let stmt = Some(Box::new(Node { node: Some(node) }));
    let tree = ParseResult {
        version: 0,
        stmts: vec![RawStmt {
            stmt,
            stmt_location: 0,
            stmt_len: 0,
        }],
    };
    pg_query::deparse(&tree, DeparseOptions::default())
        .map_err(|error| Refusal::new("statement", error.to_string()))
}

/// The tree as a text without the places in the text that it was read from.
fn shown(node: &NodeEnum) -> String {
    const PLACES: [&str; 6] = [
        "location: ",
        "stmt_len: ",
        "list_start: ",
        "list_end: ",
        "rexpr_list_start: ",
        "rexpr_list_end: ",
    ];
    let mut shown = format!("{node:?}");
    for place in PLACES {
        let mut parts = shown.split(place);
        let mut kept = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            kept.push_str(
                part.trim_start_matches(|char: char| char == '-' || char.is_ascii_digit()),
            );
        }
        shown = kept;
    }
    shown
}

/// An expression as a text, by which two can be told to be the same.
pub(super) fn expression(node: &Node) -> Result<String> {
    // libpg_query ends the process where an enum has no value, so trees begin with what it has parsed.
    let mut select = select("SELECT")?;
    select.target_list = vec![target(node.clone(), "")];
    deparse(NodeEnum::SelectStmt(Box::new(select)))
}

pub(super) fn target(value: Node, name: &str) -> Node {
    let target = ResTarget {
        name: name.to_owned(),
        val: Some(Box::new(value)),
        ..ResTarget::default()
    };
    Node {
        node: Some(NodeEnum::ResTarget(Box::new(target))),
    }
}

/// A statement of our own, as a tree.
pub(super) fn statement(text: &str) -> Result<NodeEnum> {
    let failed = || Refusal::new("statement", "its other form cannot be made");
    let parsed = pg_query::parse(text, 0).map_err(|_| failed())?;
    let raw = parsed.protobuf.stmts.into_iter().next();
    let node = raw.and_then(|raw| raw.stmt).and_then(|node| node.node);
    node.ok_or_else(failed)
}

/// A query of our own, as a tree.
pub(super) fn select(text: &str) -> Result<SelectStmt> {
    match statement(text)? {
        NodeEnum::SelectStmt(select) => Ok(*select),
        _ => Err(Refusal::new("statement", "its other form cannot be made")),
    }
}

/// A name in quotes.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// An expression of our own, as a tree.
pub(super) fn snippet(text: &str) -> Result<Node> {
    let select = select(&format!("SELECT {text}"))?;
    let target = select
        .target_list
        .into_iter()
        .next()
        .and_then(|node| node.node);
    match target {
        Some(NodeEnum::ResTarget(target)) => Ok(target.val.map(|node| *node).unwrap_or_default()),
        _ => Err(Refusal::new("statement", "its other form cannot be made")),
    }
}
