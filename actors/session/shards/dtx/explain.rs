//! `EXPLAIN` of what runs on several shards: how the answer is put together and by which rules, and behind it the
//! plans that the servers have for their parts.

use std::sync::Arc;

use pgherd_planner::{Params, Route, Statement};
use pgherd_sql::{LexOptions, Lexer, Token, TokenKind};
use pgherd_wire::backend::{self, Column, DataRow};
use pgherd_wire::error::ErrorReport;
use pgherd_wire::frame;

use super::rows::Kept;
use super::statement::{Done, Form};
use super::{Dtx, Fault, carry, reads};
use crate::session::relay::Relay;
use crate::session::shards::names;
use crate::session::shards::plan::{Told, is_read, read, unsupported};
use crate::session::shards::request::{Request, Work};
use crate::shards::Known;

/// What is to be explained.
pub(in crate::session::shards) struct Explain {
    /// EXPLAIN with all that is said of how.
    how: Vec<u8>,
    statement: Arc<Statement>,
    request: Request,
}

/// What a text asks to have explained, if it is not on one shard, and can be.
pub(in crate::session::shards) fn find(
    relay: &Relay,
    known: &Known,
    text: &[u8],
) -> Option<Result<Explain, ErrorReport>> {
    let how = how(text, relay.lexing)?;
    let params = Params {
        foreign_encoding: names::is_foreign(relay, known),
        ..Params::default()
    };
    let Ok(Told::Planned(outer)) = read(relay, known, text) else {
        return None;
    };
    if outer.is_narrowed() || outer.route(&params).is_ok() {
        return None;
    }
    let inner = text.get(how.length..)?;
    let Ok(Told::Planned(statement)) = read(relay, known, inner) else {
        return None;
    };
    let (request, writes) = {
        let route = statement.route(&params).ok()?;
        match &route {
            Route::Concat {
                shards,
                writes: true,
            } => {
                let route = Route::Concat {
                    shards: shards.clone(),
                    writes: false,
                };
                (Request::of(&route, inner, None, known.number())?, true)
            }
            route => {
                let request = Request::of(route, inner, None, known.number())?;
                (request, !is_read(relay, inner))
            }
        }
    };
    if !how.is_text {
        let text = "EXPLAIN over several shards has the format TEXT only";
        return Some(Err(unsupported(text)));
    }
    let whole = matches!(request.work, Work::Combined { .. });
    if how.runs && (whole || writes) {
        let text = "EXPLAIN ANALYZE is supported over several shards only for reads whose rows are put one behind the other or merged";
        return Some(Err(unsupported(text).hint("EXPLAIN without ANALYZE.")));
    }
    Some(Ok(Explain {
        how: text.get(..how.length)?.to_vec(),
        statement,
        request,
    }))
}

/// What is said of how something is explained.
#[derive(Debug, PartialEq, Eq)]
struct How {
    /// So many bytes of the text.
    length: usize,
    runs: bool,
    is_text: bool,
}

fn how(text: &[u8], lexing: LexOptions) -> Option<How> {
    let mut lexer = Lexer::new(text, lexing);
    let mut token = || lexer.token().ok().flatten();
    token().filter(|first| first.is_word(b"explain"))?;
    let mut next = token()?;
    let mut how = How {
        length: 0,
        runs: false,
        is_text: true,
    };
    if next.is(b'(') {
        let mut option: Vec<Token<'_>> = Vec::new();
        loop {
            next = token()?;
            if !next.is(b',') && !next.is(b')') {
                // No option has more than a name and a value.
                if option.len() == 2 {
                    // It is a query in parentheses.
                    return at_parenthesis(text, lexing);
                }
                option.push(next);
                continue;
            }
            how.take(&option)?;
            option.clear();
            if next.is(b')') {
                next = token()?;
                break;
            }
        }
    } else {
        for word in [&b"analyze"[..], b"verbose"] {
            let is_other = word == b"analyze" && next.is_word(b"analyse");
            if next.is_word(word) || is_other {
                how.runs |= word == b"analyze";
                next = token()?;
            }
        }
    }
    how.length = next.start;
    Some(how)
}

/// Nothing is said behind the first word.
fn at_parenthesis(text: &[u8], lexing: LexOptions) -> Option<How> {
    let mut lexer = Lexer::new(text, lexing);
    lexer.token().ok().flatten()?;
    let next = lexer.token().ok().flatten()?;
    Some(How {
        length: next.start,
        runs: false,
        is_text: true,
    })
}

impl How {
    /// Takes an option; what values it may have is the server's affair.
    fn take(&mut self, option: &[Token<'_>]) -> Option<()> {
        let (name, value) = (option.first()?, option.get(1));
        if name.kind != TokenKind::Word {
            // A name in quotes may be any of them.
            return None;
        }
        if name.is_word(b"analyze") || name.is_word(b"analyse") {
            let off = value
                .is_some_and(|it| it.is_word(b"false") || it.is_word(b"off") || it.text == b"0");
            self.runs = !off;
        }
        if name.is_word(b"format") {
            self.is_text = value.is_some_and(|it| it.is_word(b"text"));
        }
        Some(())
    }
}

impl Dtx {
    /// Explains something.
    pub(super) async fn explain(
        &mut self,
        relay: &mut Relay,
        explain: Explain,
        shows: bool,
    ) -> Result<Done, Fault> {
        let request = &explain.request;
        let mut lines = explain.statement.explain(Some(&Params::default()));
        let home = self.home.or_else(|| request.shards.first().copied());
        let home = home.unwrap_or_else(|| self.anywhere(relay));
        let now = match request.moment {
            Some(number) => Some((number, self.now(relay, Some(home)).await?)),
            None => None,
        };
        let mut parts: Vec<(String, Vec<u16>, Vec<u8>)> = Vec::new();
        match &request.work {
            Work::Concat | Work::Merged { .. } => {
                let shards = request.shards.clone();
                parts.push((String::new(), shards, request.text.to_vec()));
            }
            Work::Combined { carriers, last } => {
                for carrier in carriers {
                    let name = format!(", {}", carrier.name);
                    parts.push((
                        name,
                        carrier.shards.clone(),
                        carrier.text.clone().into_bytes(),
                    ));
                }
                // Where it needs a key that only a table has, it cannot be planned before there is one.
                if !carriers.iter().any(|carrier| carrier.keyed) {
                    let last = carry::empty(relay.lexing, carriers, last, home);
                    parts.push((", final".to_owned(), vec![home], last.into_bytes()));
                }
            }
        }
        for (what, shards, text) in parts {
            let text = match &now {
                Some((number, now)) => with_value(&text, *number, now, relay.lexing),
                None => text,
            };
            self.part(relay, &explain, &what, &shards, &text, &mut lines)
                .await?;
        }
        let out = relay.down.made();
        let mut built = Ok(());
        if shows {
            built = backend::row_description(out, &[Column::text("QUERY PLAN")]);
        }
        for line in &lines {
            built = built.and_then(|()| backend::data_row(out, &[Some(line.as_bytes())]));
        }
        debug_assert!(built.is_ok(), "servers have sent as much");
        Ok(Done::Complete(b"EXPLAIN"[..].into()))
    }

    /// Adds the plans that these shards have for a text.
    async fn part(
        &mut self,
        relay: &mut Relay,
        explain: &Explain,
        what: &str,
        shards: &[u16],
        text: &[u8],
        lines: &mut Vec<String>,
    ) -> Result<(), Fault> {
        self.open(relay, shards).await?;
        let form = Form::Simple([&explain.how, text].concat());
        let forms = vec![form; shards.len()];
        let mut told = Kept::default();
        match self.send(relay, shards, &forms, &mut told).await {
            Ok(_) => {}
            Err(Fault::Said(message)) => return Err(Fault::Said(reads::unplaced(&message))),
            Err(fault) => return Err(fault),
        }
        for (shard, rows) in shards.iter().zip(&told.rows) {
            let name = &self.group.pools[usize::from(*shard)].key.database;
            lines.push(format!("Plan on shard {shard} ({name}{what})"));
            for row in rows {
                let row = DataRow::parse(row.get(frame::HEADER_LEN..).unwrap_or_default());
                let line = row.ok().and_then(|row| row.values().next().flatten());
                let line = String::from_utf8_lossy(line.unwrap_or_default());
                lines.push(format!("  {line}"));
            }
        }
        Ok(())
    }
}

/// A text in which a parameter has its value.
fn with_value(text: &[u8], number: u32, value: &[u8], lexing: LexOptions) -> Vec<u8> {
    let name = format!("${number}");
    let mut out = Vec::new();
    let mut lexer = Lexer::new(text, lexing);
    let mut copied = 0;
    while let Ok(Some(token)) = lexer.token() {
        if token.kind == TokenKind::Param && token.text == name.as_bytes() {
            out.extend_from_slice(&text[copied..token.start]);
            out.push(b'\'');
            out.extend_from_slice(value);
            out.push(b'\'');
            copied = token.start + token.text.len();
        }
    }
    out.extend_from_slice(&text[copied..]);
    out
}

#[cfg(test)]
mod tests {
    use pgherd_sql::LexOptions;

    use super::{How, how, with_value};

    #[test]
    fn what_is_said_of_how_ends_before_the_statement() {
        for (text, rest, runs, is_text) in [
            ("explain select 1", "select 1", false, true),
            ("EXPLAIN ANALYZE VERBOSE select 1", "select 1", true, true),
            (
                "explain analyse update t set a = 1",
                "update t set a = 1",
                true,
                true,
            ),
            (
                "explain (costs off, analyze) select 1",
                "select 1",
                true,
                true,
            ),
            (
                "explain (analyze off, format json) select 1",
                "select 1",
                false,
                false,
            ),
            (
                "explain (analyze false, format text) select 1",
                "select 1",
                false,
                true,
            ),
            (
                "explain (select a from b)",
                "(select a from b)",
                false,
                true,
            ),
            ("explain ((select 1))", "((select 1))", false, true),
        ] {
            let found = how(text.as_bytes(), LexOptions::default()).unwrap();
            let length = text.len() - rest.len();
            let expected = How {
                length,
                runs,
                is_text,
            };
            assert_eq!(found, expected, "{text}");
        }
        assert_eq!(how(b"select 1", LexOptions::default()), None);
    }

    #[test]
    fn a_parameter_gets_its_value_where_it_stands() {
        let text = b"select $1, '$2', ($2::timestamptz), $22";
        let with = with_value(text, 2, b"2026-01-01", LexOptions::default());
        assert_eq!(with, b"select $1, '$2', ('2026-01-01'::timestamptz), $22");
    }
}
