//! `EXPLAIN` of what runs on several shards: how the answer is put together and by which rules, and behind it the
//! plans that the servers have for their parts.

use pgherd_planner::{Piece, Route};
use pgherd_sql::{LexOptions, Lexer, Token, TokenKind};
use pgherd_wire::backend::{self, Column, DataRow};
use pgherd_wire::error::ErrorReport;
use pgherd_wire::frame;
use pgherd_wire::frontend::Bind;

use super::rows::Kept;
use super::statement::{Done, Form, rebound};
use super::{Dtx, Fault, carry, deals, reads};
use crate::session::relay::Relay;
use crate::session::shards::plan::{Told, is_read, parts, read, unsupported, with_params};
use crate::session::shards::request::{Bound, Request, Work};
use crate::shards::Known;

/// What is to be explained.
pub(in crate::session::shards) struct Explain {
    /// EXPLAIN with all that is said of how.
    how: Vec<u8>,
    /// How the answer is put together, and by which rules.
    lines: Vec<String>,
    work: Asked,
}

/// What servers are asked for their plans of.
enum Asked {
    /// The parts of a read.
    Read(Box<Request>),
    /// Each of these shards has its own text.
    Each(Vec<(u16, Form)>),
}

/// What a text asks to have explained, if it is not on one shard, and can be. What is bound to it is given with its
/// Parse behind the name.
pub(in crate::session::shards) fn find(
    relay: &Relay,
    known: &Known,
    text: &[u8],
    given: Option<(&[u8], &Bind<'_>)>,
) -> Option<Result<Explain, ErrorReport>> {
    let how = how(text, relay.lexing)?;
    let Ok(Told::Planned(outer)) = read(relay, known, text) else {
        return None;
    };
    let is_one = with_params(relay, known, Some(outer.plan()), given, |params| {
        outer.route(params).is_ok()
    });
    if outer.is_narrowed() || is_one {
        return None;
    }
    let inner = text.get(how.length..)?;
    let Ok(Told::Planned(statement)) = read(relay, known, inner) else {
        return None;
    };
    let found = with_params(relay, known, Some(statement.plan()), given, |params| {
        let route = statement.route(params).ok()?;
        let work = asked(relay, known, text, &how, given, &route)?;
        Some((work, statement.explain(Some(params))))
    });
    let (work, lines) = found?;
    if !how.is_text {
        let text = "EXPLAIN over several shards has the format TEXT only";
        return Some(Err(unsupported(text)));
    }
    let runs_by_parts = match &work {
        Asked::Read(request) => {
            !matches!(request.work, Work::Combined { .. }) && is_read(relay, inner)
        }
        Asked::Each(_) => false,
    };
    if how.runs && !runs_by_parts {
        let text = "EXPLAIN ANALYZE is supported over several shards only for reads whose rows are put one behind the other or merged";
        return Some(Err(unsupported(text).hint("EXPLAIN without ANALYZE.")));
    }
    Some(Ok(Explain {
        how: text.get(..how.length)?.to_vec(),
        lines,
        work,
    }))
}

/// What is asked for the plans of a route; nothing if that is not told.
fn asked(
    relay: &Relay,
    known: &Known,
    text: &[u8],
    how: &How,
    given: Option<(&[u8], &Bind<'_>)>,
    route: &Route<'_>,
) -> Option<Asked> {
    let (prefix, inner) = text.split_at_checked(how.length)?;
    let as_it_is = |shards: Vec<u16>| {
        let form = match given {
            None => Form::Simple(text.to_vec()),
            Some((tail, bind)) => {
                let numbers = 1..=u32::try_from(bind.parameters().count()).unwrap_or(u32::MAX);
                rebound(text, numbers.map(Some), None, tail, bind)
            }
        };
        let forms = shards.into_iter().map(|shard| (shard, form.clone()));
        Some(Asked::Each(forms.collect()))
    };
    match route {
        Route::Concat {
            shards,
            writes: true,
        } => as_it_is(shards.iter().map(|shard| shard.0).collect()),
        Route::All => {
            let pools = relay.spread.as_deref()?.group.pools.len();
            as_it_is((0..).take(pools).collect())
        }
        // Whose rows go one by one has a plan for each of them.
        Route::Pieces(pieces)
            if (1..pieces.len()).any(|at| pieces[at - 1].shard >= pieces[at].shard) =>
        {
            None
        }
        Route::Pieces(pieces) => {
            let form = |piece: &Piece| {
                let text = [prefix, piece.text.as_bytes()].concat();
                let numbers = piece.params.iter().map(|number| Some(*number));
                match given {
                    None => Form::Simple(text),
                    Some((tail, bind)) => rebound(&text, numbers, None, tail, bind),
                }
            };
            let forms = pieces.iter().map(|piece| (piece.shard.0, form(piece)));
            Some(Asked::Each(forms.collect()))
        }
        Route::Deal { source, deal } => {
            let bound = given.map(|(tail, bind)| Bound::of(parts(tail).1, bind));
            let own = deals::widened(source, 0);
            let source = own.as_ref().unwrap_or(&**source);
            let request = Request::of(source, deal.select.as_bytes(), bound, known.number())?;
            Some(Asked::Read(Box::new(request)))
        }
        // What stores them has a plan only where there are rows.
        Route::Move { from, moved, .. } => {
            let bound = given.map(|(tail, bind)| Bound::of(parts(tail).1, bind));
            let text = [prefix, moved.delete.as_bytes()].concat();
            Some(Asked::Each(vec![(from.0, form_of(text, bound.as_ref()))]))
        }
        route => {
            let bound = given.map(|(tail, bind)| Bound::of(parts(tail).1, bind));
            let request = Request::of(route, inner, bound, known.number())?;
            Some(Asked::Read(Box::new(request)))
        }
    }
}

/// A text of ours as it is sent with what is bound to the client's.
fn form_of(text: Vec<u8>, bound: Option<&Bound>) -> Form {
    let Some(bound) = bound else {
        return Form::Simple(text);
    };
    // A plan is in text.
    let (tail, values) = bound.fitting(&text).written(&text, &[]);
    Form::Bound { tail, values }
}

/// What is said of how something is explained.
#[derive(Debug, PartialEq, Eq)]
struct How {
    /// So many bytes of the text.
    length: usize,
    runs: bool,
    is_text: bool,
}

/// Whether a text asks for the plan of what was prepared by a name.
pub(super) fn is_by_name(text: &[u8], lexing: LexOptions) -> bool {
    let behind = how(text, lexing).and_then(|how| text.get(how.length..));
    let first = behind.and_then(|behind| Lexer::new(behind, lexing).token().ok()?);
    first.is_some_and(|first| first.is_word(b"execute"))
}

/// The part of a text that says how something is explained.
pub(super) fn said_how(text: &[u8], lexing: LexOptions) -> &[u8] {
    let length = how(text, lexing).map_or(0, |how| how.length);
    text.get(..length).unwrap_or_default()
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
        let Explain {
            how,
            mut lines,
            work,
        } = explain;
        match work {
            Asked::Read(request) => self.plans(relay, &how, &request, &mut lines).await?,
            Asked::Each(forms) => {
                let (shards, forms): (Vec<u16>, Vec<Form>) = forms.into_iter().unzip();
                self.part(relay, "", &shards, &forms, &mut lines).await?;
            }
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

    /// Adds the plans that the shards have for their parts of a read.
    async fn plans(
        &mut self,
        relay: &mut Relay,
        how: &[u8],
        request: &Request,
        lines: &mut Vec<String>,
    ) -> Result<(), Fault> {
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
                    let text = carrier.text.clone().into_bytes();
                    parts.push((name, carrier.shards.clone(), text));
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
            let form = form_of([how, &text].concat(), request.bound.as_ref());
            let forms = vec![form; shards.len()];
            self.part(relay, &what, &shards, &forms, lines).await?;
        }
        Ok(())
    }

    /// Adds the plans that these shards have for what each is asked.
    async fn part(
        &mut self,
        relay: &mut Relay,
        what: &str,
        shards: &[u16],
        forms: &[Form],
        lines: &mut Vec<String>,
    ) -> Result<(), Fault> {
        self.open(relay, shards).await?;
        let mut told = Kept::default();
        match self.send(relay, shards, forms, &mut told).await {
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
