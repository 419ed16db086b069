//! One time for all shards: `now()` becomes a parameter.

use pg_query::NodeEnum;
use pg_query::protobuf::{Node, ResTarget};
use pgherd_sql::{LexOptions, Lexer, TokenKind};

use super::{Builder, deparse, parse};
use crate::catalog::Column;
use crate::plan::{Fixed, Plan};
use crate::resolve::{Moment, Names};

/// The place of a moment that stands in no text of the client's: in a default, or a view.
const NOWHERE: i32 = -1;

/// The statement with the time as a parameter, if it asks for it only where it can be put in.
pub(super) fn moment(builder: &Builder<'_>, names: &Names) -> Option<Fixed> {
    if builder.moments.is_empty() {
        return None;
    }
    if builder.moments.contains_key(&NOWHERE) {
        let text = spelled(builder, names)?;
        let mut other = builder.fresh(&text);
        let tree = parse(&text).ok()?;
        // The time is one value for all shards only in what comes of it next.
        let _ = other.statement(&tree, names);
        let found = !other.moments.is_empty() && !other.moments.contains_key(&NOWHERE);
        return (found && other.given == builder.given)
            .then(|| moment(&other, names))
            .flatten();
    }
    let parameter = greatest(builder.text)? + 1;
    let mut text = String::new();
    let mut copied = 0;
    for (place, moment) in &builder.moments {
        let start = usize::try_from(*place).ok()?;
        let end = start + length(builder.text.get(start..)?)?;
        text.push_str(builder.text.get(copied..start)?);
        text.push_str(&match moment {
            Moment::Timestamptz => format!("(${parameter}::timestamptz)"),
            Moment::Date => format!("(${parameter}::timestamptz::date)"),
            Moment::Timestamp => format!("(${parameter}::timestamptz::timestamp)"),
            Moment::Other => return None,
        });
        copied = end;
    }
    text.push_str(builder.text.get(copied..)?);
    let mut other = builder.fresh(&text);
    let plan = parse(&text)
        .and_then(|tree| other.statement(&tree, names))
        .ok()?;
    // A column that was called `now` must be called so still.
    let same = other.given == builder.given && other.moments.is_empty();
    (same && !matches!(plan, Plan::Refused(_))).then_some(Fixed {
        text,
        parameter,
        plan,
    })
}

/// An INSERT of rows in which the time stands where a column would have it by its default.
fn spelled(builder: &Builder<'_>, names: &Names) -> Option<String> {
    let Some(NodeEnum::InsertStmt(mut insert)) = parse(builder.text).ok()?.node else {
        return None;
    };
    let resolver = builder.resolver(names);
    let (_, relation) = resolver.locate(insert.relation.as_ref()?).ok()?;
    let NodeEnum::SelectStmt(select) = insert.select_stmt.as_mut()?.node.as_mut()? else {
        return None;
    };
    let mut rows = Vec::new();
    for list in &mut select.values_lists {
        match list.node.as_mut()? {
            NodeEnum::List(list) => rows.push(&mut list.items),
            _ => return None,
        }
    }
    let width = rows.first()?.len();
    if insert.cols.is_empty() {
        let given = relation.columns.iter().take(width);
        insert.cols = given.map(|column| named(&column.name)).collect();
    }
    if width != insert.cols.len() || rows.iter().any(|row| row.len() != width) {
        return None;
    }
    let now = deparse::snippet("pg_catalog.now()").ok()?;
    let timed = relation.columns.iter();
    for column in timed.filter(|column| spells_now(column)) {
        let is_it = |node: &Node| match &node.node {
            Some(NodeEnum::ResTarget(it)) => it.name == column.name,
            _ => false,
        };
        let Some(at) = insert.cols.iter().position(is_it) else {
            insert.cols.push(named(&column.name));
            rows.iter_mut().for_each(|row| row.push(now.clone()));
            continue;
        };
        for row in &mut rows {
            let item = row.get_mut(at)?;
            if matches!(item.node, Some(NodeEnum::SetToDefault(_))) {
                *item = now.clone();
            }
        }
    }
    drop(rows);
    deparse::text_of(NodeEnum::InsertStmt(insert)).ok()
}

/// Whether a column has the time by its default.
pub(super) fn spells_now(column: &Column) -> bool {
    const NOW: [&str; 3] = ["now()", "CURRENT_TIMESTAMP", "transaction_timestamp()"];
    let default = column.default.as_deref();
    default.is_some_and(|text| NOW.contains(&text))
}

/// A column of an INSERT.
pub(super) fn named(name: &str) -> Node {
    let target = ResTarget {
        name: name.to_owned(),
        ..ResTarget::default()
    };
    Node {
        node: Some(NodeEnum::ResTarget(Box::new(target))),
    }
}

/// The greatest number of a parameter in a text, wherever it stands.
fn greatest(text: &str) -> Option<u32> {
    let mut lexer = Lexer::new(text.as_bytes(), LexOptions::default());
    let mut greatest = 0;
    while let Some(token) = lexer.token().ok()? {
        if token.kind == TokenKind::Param {
            let digits = std::str::from_utf8(&token.text[1..]).ok()?;
            greatest = greatest.max(digits.parse().ok()?);
        }
    }
    Some(greatest)
}

/// How long the call at the beginning of a text is.
fn length(text: &str) -> Option<usize> {
    let mut lexer = Lexer::new(text.as_bytes(), LexOptions::default());
    let mut end = |kind: Option<u8>| {
        let token = lexer.token().ok().flatten()?;
        let right = match kind {
            Some(byte) => token.is(byte),
            None => token.kind == TokenKind::Word,
        };
        let behind = token.text.as_ptr() as usize - text.as_ptr() as usize + token.text.len();
        right.then_some(behind)
    };
    let word = end(None)?;
    let keyword = text.get(..word)?.to_ascii_lowercase();
    if matches!(
        keyword.as_str(),
        "current_timestamp" | "current_date" | "localtimestamp"
    ) {
        return Some(word);
    }
    if keyword == "pg_catalog" {
        end(Some(b'.'))?;
        end(None)?;
    }
    end(Some(b'('))?;
    end(Some(b')'))
}
