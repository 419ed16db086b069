//! Statements that are named in SQL: `PREPARE`, `EXECUTE` and `DEALLOCATE`. They have their names together with those
//! of the protocol, and are planned as those are; what `EXECUTE` gives them is bound as text, as far as it is plain
//! constants.

mod given;

use bytes::{BufMut, BytesMut};
use pgherd_planner::{Names, Plan};
use pgherd_session::{Held, Reach, Source, literal};
use pgherd_sql::{LexOptions, Lexer, TokenKind, mentions};
use pgherd_wire::backend::tag as reply;
use pgherd_wire::error::ErrorReport;
use pgherd_wire::frame;
use pgherd_wire::frontend::Bind;
use pgherd_wire::sqlstate;

use super::explain::{is_by_name, said_how};
use super::extended::Bound;
use super::script::moved;
use super::session::failed;
use super::statement::Done;
use super::{Dtx, Fault};
use crate::judgement;
use crate::session::relay::Relay;
use crate::session::shards::hint;
use crate::session::shards::names;
use crate::session::shards::objection::missing;
use crate::session::shards::plan::{
    parts, prepared, tail_now, tail_of, text_of, unsupported, worded,
};
use crate::shards::FIRST_OWN;
use given::{Given, split};

/// More statements are not kept.
const STATEMENTS_MAX: usize = 10_000;

/// What is done with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    Prepare,
    Execute,
    /// `EXPLAIN EXECUTE`.
    Explain,
    Deallocate,
}

/// What a text does with the name of a statement, by its first words.
pub(super) fn named(text: &[u8], lexing: LexOptions) -> Option<Named> {
    let mut lexer = Lexer::new(text, lexing);
    let mut tokens = std::iter::from_fn(|| lexer.token().ok().flatten());
    let first = tokens.find(|token| !token.is(b';'))?;
    if first.is_word(b"execute") {
        return Some(Named::Execute);
    }
    if is_by_name(text, lexing) {
        return Some(Named::Explain);
    }
    if first.is_word(b"deallocate") {
        return Some(Named::Deallocate);
    }
    // PREPARE TRANSACTION names no statement, but one may be called so.
    let prepares = first.is_word(b"prepare");
    let two_phase = prepares
        && tokens.next().is_some_and(|it| it.is_word(b"transaction"))
        && tokens.next().is_some_and(|it| it.is_string());
    (prepares && !two_phase).then_some(Named::Prepare)
}

/// Whether a text prepares a statement by SQL or runs one.
pub(in crate::session::shards) fn is_named(text: &[u8], lexing: LexOptions) -> bool {
    let named = named(text, lexing);
    matches!(
        named,
        Some(Named::Prepare | Named::Execute | Named::Explain)
    )
}

/// A name in a text, and where it stands.
struct Mentioned {
    name: Box<[u8]>,
    /// Offset behind it.
    behind: usize,
    /// Where the query begins that is prepared.
    query: usize,
}

/// The name in a text; nothing for `ALL`.
fn mentioned(text: &[u8], lexing: LexOptions) -> Result<Option<Mentioned>, ErrorReport> {
    let unclear = || unsupported("the name of this prepared statement cannot be told");
    let found = mentions(text, lexing).map_err(|_| unclear())?;
    if found.escaped || found.statements != 1 {
        return Err(unclear());
    }
    let Some(mention) = found.found.first() else {
        return Ok(None);
    };
    let query = match mention.deed {
        pgherd_sql::Deed::Prepare { query } => query,
        _ => 0,
    };
    match &mention.name {
        Some(name) => Ok(Some(Mentioned {
            name: name.as_ref().into(),
            behind: mention.at.end,
            query,
        })),
        None => Err(unclear()),
    }
}

impl Dtx {
    /// Prepares, runs or forgets a statement by its name. `results` are the formats of the columns, as a Bind has
    /// them.
    pub(super) async fn named(
        &mut self,
        relay: &mut Relay,
        text: &[u8],
        named: Named,
        shows: bool,
        results: &[u8],
    ) -> Result<Done, Fault> {
        if self.failed {
            return Err(failed().into());
        }
        self.well_formed(relay, text).await?;
        let found = mentioned(text, relay.lexing)?;
        let own = match (named, &found) {
            (Named::Prepare, Some(found)) => text.get(..found.query),
            _ => None,
        };
        if hint::is_in(own.unwrap_or(text), relay.lexing) {
            let text = "a hint is not supported in front of PREPARE, nor with EXECUTE";
            let hint = "Write it within the statement that is prepared, or SET it.";
            return Err(unsupported(text).hint(hint).into());
        }
        match (named, found) {
            (Named::Prepare, Some(found)) => self.prepare(relay, text, &found).await,
            (Named::Execute | Named::Explain, Some(found)) => {
                let (tail, values) = self.bound(relay, text, &found, results).await?;
                let tail = [said_how(text, relay.lexing), &tail].concat();
                let body = [&[0, 0][..], &values].concat();
                let Ok(bind) = Bind::parse(&body) else {
                    return Err(unsupported("what is given here cannot be bound").into());
                };
                let bound = Bound {
                    tail: &tail,
                    bind,
                    values: &values,
                    max_rows: 0,
                };
                self.rows(relay, text_of(&tail), Some(&bound), shows).await
            }
            (Named::Deallocate, found) => deallocate(relay, found),
            (Named::Prepare | Named::Execute | Named::Explain, None) => {
                Err(unsupported("the name of this prepared statement cannot be told").into())
            }
        }
    }

    /// What an `EXECUTE` gives, as a portal's Describe tells it, or the Describe of a statement.
    pub(super) async fn describe_named(
        &mut self,
        relay: &mut Relay,
        text: &[u8],
        results: Option<&[u8]>,
    ) -> Result<(), Fault> {
        self.well_formed(relay, text).await?;
        let Some(found) = mentioned(text, relay.lexing)? else {
            return Err(unsupported("the name of this prepared statement cannot be told").into());
        };
        let told = match results {
            Some(results) => {
                let (tail, values) = self.bound(relay, text, &found, results).await?;
                let tail = [said_how(text, relay.lexing), &tail].concat();
                self.described_at_home(relay, &tail, Some(&values)).await?
            }
            None => {
                let tail = tail_of(relay, &found.name).ok_or_else(|| missing(&found.name))?;
                let tail = [said_how(text, relay.lexing), tail].concat();
                self.described_at_home(relay, &tail, None).await?
            }
        };
        if results.is_none() {
            // It has no parameters itself.
            relay
                .down
                .insert(&[reply::PARAMETER_DESCRIPTION, 0, 0, 0, 6, 0, 0]);
        }
        let rows = told
            .iter()
            .filter(|it| it.first() != Some(&reply::PARAMETER_DESCRIPTION));
        rows.for_each(|message| relay.down.insert(message));
        Ok(())
    }

    /// What is no statement at all is none of the servers' affair.
    async fn well_formed(&self, relay: &mut Relay, text: &[u8]) -> Result<(), Fault> {
        let known = self.known(relay).await?;
        let readable = names::readable(relay, &known, text)?;
        let statement = self.group.plan(readable, &Names::default(), &known);
        match statement.plan() {
            Plan::Refused(refusal) if refusal.code == "42601" => Err(worded(refusal).into()),
            _ => Ok(()),
        }
    }

    async fn prepare(
        &mut self,
        relay: &mut Relay,
        text: &[u8],
        found: &Mentioned,
    ) -> Result<Done, Fault> {
        let query = text.get(found.query..).unwrap_or_default();
        let query = query.trim_ascii_end();
        let query = query.strip_suffix(b";").unwrap_or(query);
        if found.query == 0 || !judgement::is_analysed(query, relay.lexing) {
            return Err(unsupported("this cannot be prepared over a sharded database").into());
        }
        let known = self.known(relay).await?;
        let types = types_in(text, found, relay.lexing);
        let given = self.type_numbers(relay, &types).await?;
        let tail = tail(query, &given);
        prepared(relay, &known, &tail)?;
        let told = self.described_at_home(relay, &tail, None).await;
        let told = told.map_err(|fault| match fault {
            Fault::Said(message) => Fault::Said(moved(&message, &text[..found.query])),
            other => other,
        })?;
        let tail = self::tail(query, &all_types(&given, &told));
        keep(relay, &found.name, query, &tail)?;
        if let Some(spread) = relay.spread.as_deref_mut() {
            spread.prepares = true;
        }
        Ok(Done::Complete(b"PREPARE"[..].into()))
    }

    /// What an `EXECUTE` runs: the statement, and a Bind of it behind its names.
    async fn bound(
        &mut self,
        relay: &mut Relay,
        text: &[u8],
        found: &Mentioned,
        results: &[u8],
    ) -> Result<(Vec<u8>, Vec<u8>), Fault> {
        let tail = tail_now(relay, &found.name)?.ok_or_else(|| missing(&found.name))?;
        let tail = tail.to_vec();
        let given = split(&text[found.behind..], relay.lexing)?;
        let (query, types) = parts(&tail);
        let count = types.len().max(greatest(query, relay.lexing));
        if given.len() != count {
            let name = String::from_utf8_lossy(&found.name);
            let text = format!("wrong number of parameters for prepared statement \"{name}\"");
            let report = ErrorReport::error(sqlstate::SYNTAX_ERROR, text);
            let detail = format!("Expected {count} parameters but got {}.", given.len());
            return Err(report.detail(detail).into());
        }
        let casts: Vec<&[u8]> = given.iter().filter_map(Given::cast).collect();
        let mut casts = self.type_numbers(relay, &casts).await?.into_iter();
        let mut values = Vec::with_capacity(count);
        for (at, given) in given.iter().enumerate() {
            let cast = given.cast().and_then(|_| casts.next());
            values.push(given.of(types.get(at).copied().unwrap_or_default(), cast)?);
        }
        let mut out = BytesMut::new();
        out.put_u16(0);
        out.put_u16(u16::try_from(count).unwrap_or(u16::MAX));
        for value in &values {
            frame::put_value(&mut out, value.as_deref());
        }
        out.put_u16(u16::try_from(results.len() / 2).unwrap_or_default());
        out.extend_from_slice(results);
        Ok((tail, out.to_vec()))
    }

    /// The OIDs of types by their names, as the session means them.
    async fn type_numbers(
        &mut self,
        relay: &mut Relay,
        types: &[&[u8]],
    ) -> Result<Vec<u32>, Fault> {
        if types.is_empty() {
            return Ok(Vec::new());
        }
        let asked = types.iter().map(|name| {
            let name = literal(&String::from_utf8_lossy(name));
            format!("CAST(CAST({name} AS pg_catalog.regtype) AS pg_catalog.oid)")
        });
        let asked: Vec<String> = asked.collect();
        let home = self.anywhere(relay);
        self.open(relay, &[home]).await?;
        let Some(leg) = self.legs.get_mut(&home) else {
            return Err(self.lost("it is gone"));
        };
        let sql = format!("SELECT {}", asked.join(", "));
        let answer = match leg.run(sql.as_bytes()).await {
            Ok(answer) => answer,
            Err(report) => {
                leg.lost = true;
                return Err(self.lost(&report.message));
            }
        };
        if let Some(error) = answer.error {
            return Err(error.into());
        }
        let row = answer.rows.first().map(Vec::as_slice).unwrap_or_default();
        let number = |value: &Option<Vec<u8>>| {
            let text = std::str::from_utf8(value.as_deref()?).ok()?;
            text.parse().ok()
        };
        let numbers: Option<Vec<u32>> = row.iter().map(number).collect();
        let numbers = numbers.filter(|numbers| numbers.len() == types.len());
        numbers.ok_or_else(|| unsupported("a shard does not know these types").into())
    }
}

/// Keeps a statement by its name.
pub(super) fn keep(relay: &mut Relay, name: &[u8], query: &[u8], tail: &[u8]) -> Result<(), Fault> {
    let judgement = relay.judge(query);
    let statements = relay.statements.get_or_insert_default();
    if statements.get(name).is_some() {
        let name = String::from_utf8_lossy(name);
        let text = format!("prepared statement \"{name}\" already exists");
        return Err(ErrorReport::error(sqlstate::DUPLICATE_PREPARED_STATEMENT, text).into());
    }
    if statements.len() >= STATEMENTS_MAX {
        let text = "too many prepared statements";
        return Err(ErrorReport::error(sqlstate::CONFIGURATION_LIMIT_EXCEEDED, text).into());
    }
    let reach = judgement::reach(query, relay.lexing);
    if reach == Reach::Bound {
        let text = "a statement that names a moment cannot be prepared in a transaction over several shards";
        return Err(unsupported(text).into());
    }
    let (registry, parameters) = (&relay.pool.registry, &relay.parameters);
    let statement = match reach {
        Reach::Shared => registry.intern(parameters, Source::Parse, tail, || judgement),
        reach => registry.own(parameters, Source::Parse, tail, reach, judgement),
    };
    let shape = None;
    let statements = relay.statements.get_or_insert_default();
    statements.insert(name, Held { statement, shape });
    relay.pool.stats.client_parse();
    Ok(())
}

fn deallocate(relay: &mut Relay, found: Option<Mentioned>) -> Result<Done, Fault> {
    let Some(found) = found else {
        if let Some(statements) = relay.statements.as_deref_mut() {
            statements.clear();
        }
        return Ok(Done::Complete(b"DEALLOCATE ALL"[..].into()));
    };
    let statements = relay.statements.as_deref_mut();
    match statements.and_then(|statements| statements.remove(&found.name)) {
        Some(_) => Ok(Done::Complete(b"DEALLOCATE"[..].into())),
        None => Err(missing(&found.name).into()),
    }
}

/// A Parse behind its name.
fn tail(query: &[u8], types: &[u32]) -> Vec<u8> {
    let mut tail = query.to_vec();
    tail.push(0);
    tail.extend_from_slice(&u16::try_from(types.len()).unwrap_or(u16::MAX).to_be_bytes());
    types
        .iter()
        .for_each(|oid| tail.extend_from_slice(&oid.to_be_bytes()));
    tail
}

/// The types of all parameters, as a server has told them. Those of the users' own have other numbers elsewhere, and
/// are left to each server.
fn all_types(given: &[u32], told: &[Box<[u8]>]) -> Vec<u32> {
    let described = told
        .iter()
        .find(|it| it.first() == Some(&reply::PARAMETER_DESCRIPTION));
    let body = described.and_then(|it| it.get(frame::HEADER_LEN + 2..));
    let oids = body.unwrap_or_default().chunks_exact(4);
    oids.enumerate()
        .map(|(at, oid)| {
            let oid = u32::from_be_bytes([oid[0], oid[1], oid[2], oid[3]]);
            match oid < FIRST_OWN {
                true => oid,
                false => given.get(at).copied().unwrap_or_default(),
            }
        })
        .collect()
}

/// The names of types between the name of a statement and its AS.
fn types_in<'t>(text: &'t [u8], found: &Mentioned, lexing: LexOptions) -> Vec<&'t [u8]> {
    let between = text.get(found.behind..found.query).unwrap_or_default();
    let mut lexer = Lexer::new(between, lexing);
    let (mut depth, mut start, mut types) = (0_usize, 0, Vec::new());
    while let Ok(Some(token)) = lexer.token() {
        let behind = token.start + token.text.len();
        if token.is(b'(') {
            depth += 1;
            if depth == 1 {
                start = behind;
            }
        } else if depth == 1 && (token.is(b',') || token.is(b')')) {
            types.push(between[start..token.start].trim_ascii());
            start = behind;
        }
        if token.is(b')') {
            depth = depth.saturating_sub(1);
        }
    }
    types
}

/// The greatest number of a parameter in a text.
fn greatest(text: &[u8], lexing: LexOptions) -> usize {
    let mut lexer = Lexer::new(text, lexing);
    let tokens = std::iter::from_fn(|| lexer.token().ok().flatten());
    let numbers = tokens
        .filter(|token| token.kind == TokenKind::Param)
        .filter_map(|token| std::str::from_utf8(&token.text[1..]).ok()?.parse().ok());
    numbers.max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use pgherd_sql::LexOptions;

    use super::{Named, greatest, mentioned, named, types_in};

    #[test]
    fn it_is_told_what_is_done_with_a_name() {
        for (text, expected) in [
            ("prepare s as select 1", Some(Named::Prepare)),
            ("; PREPARE transaction as select 1", Some(Named::Prepare)),
            ("prepare transaction 'x'", None),
            ("execute s(1)", Some(Named::Execute)),
            ("deallocate all", Some(Named::Deallocate)),
            ("explain execute s", Some(Named::Explain)),
            ("EXPLAIN (costs off) EXECUTE s(1)", Some(Named::Explain)),
            ("explain select 1", None),
            ("explain create table t as execute s", None),
            ("", None),
        ] {
            let found = named(text.as_bytes(), LexOptions::default());
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn types_stand_between_the_name_and_the_query() {
        for (text, expected) in [
            ("prepare s as select 1", &[][..]),
            ("prepare s (int) as select $1", &["int"]),
            (
                "prepare s ( int , numeric(10, 2),\"a,b\".c[] ) as select (1)",
                &["int", "numeric(10, 2)", "\"a,b\".c[]"],
            ),
        ] {
            let lexing = LexOptions::default();
            let found = mentioned(text.as_bytes(), lexing).unwrap().unwrap();
            let types = types_in(text.as_bytes(), &found, lexing);
            let expected: Vec<&[u8]> = expected.iter().map(|it| it.as_bytes()).collect();
            assert_eq!(types, expected, "{text}");
        }
        assert_eq!(greatest(b"select $2, '$7', $1", LexOptions::default()), 2);
    }
}
