//! The rows of an INSERT, and the texts that they are put together from.

use pg_query::NodeEnum;
use pg_query::protobuf::{InsertStmt, Node, SelectStmt};
use pgherd_sql::{LexOptions, Lexer, TokenKind};

use super::deparse;
use super::values::{Key, candidate, items};
use crate::analyze::fact::Candidate;
use crate::plan::Span;
use crate::refusal::{Refusal, Result};
use crate::resolve::{Resolver, Target, inner};
use crate::tree::Expr;

/// The rows of VALUES.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub(super) nodes: Vec<Node>,
    pub(super) exprs: Vec<Expr>,
    pub(super) keys: Vec<Vec<Candidate>>,
}

impl Rows {
    pub(super) fn read<'r>(
        resolver: &mut Resolver<'r>,
        target: &Target<'r>,
        columns: &[&str],
        select: &'r SelectStmt,
        key: Option<&Key>,
    ) -> Result<Self> {
        let mut rows = Self::default();
        for list in &select.values_lists {
            let items = items(list)?;
            if items.len() > columns.len() {
                return Err(
                    Refusal::new("VALUES", "there are more values than columns").with("42601")
                );
            }
            let mut row = Vec::new();
            for (at, item) in items.iter().enumerate() {
                let node = inner(item)?;
                if let NodeEnum::SetToDefault(_) = node {
                    let column = target.relation.column(columns[at]);
                    column.map_or(Ok(()), |at| resolver.default(&target.relation.columns[at]))?;
                    row.push((node, None));
                    continue;
                }
                let is_key = key.is_some_and(|key| key.places.contains(&at));
                let expr = match is_key {
                    true => resolver.stored(node)?,
                    false => resolver.expr(node)?,
                };
                row.push((node, Some(expr)));
            }
            if let Some(key) = key {
                let mut values = Vec::new();
                for (place, kind) in key.places.iter().zip(&key.kinds) {
                    let missing =
                        || Refusal::new("INSERT", "the key of a row is its column's default");
                    let (node, expr) = row.get(*place).ok_or_else(missing)?;
                    let expr = expr.as_ref().ok_or_else(missing)?;
                    let column = target.relation.column(columns[*place]);
                    let oid = column.map_or(0, |at| target.relation.columns[at].kind.oid);
                    values.push(candidate(resolver, node, expr, *kind, oid)?);
                }
                rows.keys.push(values);
            }
            rows.exprs
                .extend(row.into_iter().filter_map(|(_, expr)| expr));
            rows.nodes.push(list.clone());
        }
        Ok(rows)
    }
}

/// What an INSERT is put together from.
pub(super) struct Texts {
    pub(super) head: Vec<Span>,
    pub(super) rows: Vec<Vec<Span>>,
    pub(super) tail: Vec<Span>,
}

const MARK: &str = "pgherd: the rows stand here";

/// What stands before the rows, the rows, and what stands behind them.
pub(super) fn split(insert: &InsertStmt, rows: &[Node]) -> Result<Texts> {
    let failed = || Refusal::new("INSERT", "its rows cannot be told apart");
    let mut frame = insert.clone();
    let mark = deparse::select(&format!("VALUES ('{MARK}')"))?;
    frame.select_stmt = Some(Box::new(Node {
        node: Some(NodeEnum::SelectStmt(Box::new(mark))),
    }));
    let text = deparse::text_of(NodeEnum::InsertStmt(Box::new(frame)))?;
    let mark = format!("('{MARK}')");
    let parts: Vec<&str> = text.split(&mark).collect();
    let [head, tail] = parts.as_slice() else {
        return Err(failed());
    };
    let mut texts = Vec::new();
    for row in rows {
        let mut values = deparse::select("VALUES (1)")?;
        values.values_lists = vec![row.clone()];
        let text = deparse::text_of(NodeEnum::SelectStmt(Box::new(values)))?;
        let row = text.strip_prefix("VALUES ").ok_or_else(failed)?;
        texts.push(spans(row)?);
    }
    Ok(Texts {
        head: spans(head)?,
        rows: texts,
        tail: spans(tail)?,
    })
}

/// A text with its parameters taken out.
fn spans(text: &str) -> Result<Vec<Span>> {
    let failed = |_| Refusal::new("INSERT", "its text cannot be followed");
    let mut lexer = Lexer::new(text.as_bytes(), LexOptions::default());
    let mut spans = Vec::new();
    let mut copied = 0;
    while let Some(token) = lexer.token().map_err(failed)? {
        if token.kind != TokenKind::Param {
            continue;
        }
        // The token is a part of the text.
        let at = token.text.as_ptr() as usize - text.as_ptr() as usize;
        let number = std::str::from_utf8(&token.text[1..])
            .ok()
            .and_then(|digits| digits.parse().ok());
        let number = number.ok_or_else(|| Refusal::new("INSERT", "a parameter has no number"))?;
        spans.push(Span::Text(text[copied..at].to_owned()));
        spans.push(Span::Param(number));
        copied = at + token.text.len();
    }
    spans.push(Span::Text(text[copied..].to_owned()));
    Ok(spans)
}
