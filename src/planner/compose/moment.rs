//! One time for all shards: `now()` becomes a parameter.

use pgherd_sql::{LexOptions, Lexer, TokenKind};

use super::{Builder, parse};
use crate::plan::{Fixed, Plan};
use crate::resolve::{Moment, Names, Uses};

/// The statement with the time as a parameter, if it asks for it only where it can be put in.
pub(super) fn moment(builder: &Builder<'_>, names: &Names) -> Option<Fixed> {
    if builder.moments.is_empty() {
        return None;
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
    let mut other = Builder {
        locks: false,
        reads: false,
        open: false,
        hinted: builder.hinted,
        text: &text,
        catalog: builder.catalog,
        placement: builder.placement,
        uses: Uses::new(),
        moments: std::collections::BTreeMap::new(),
        given: Vec::new(),
        arrays: std::collections::BTreeSet::new(),
        late: false,
    };
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
