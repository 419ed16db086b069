//! Where the statements of a sharded database run.
//!
//! Before a server is taken, the messages that are here are looked through for the first statement whose
//! keys say where it runs, and the session leads to that shard's pool, as if it had logged in there: all
//! that holds for one database holds from then on. This is only a choice. What counts is the second look,
//! when a statement is sent: it is planned with what its parameters are, and what does not surely give on
//! this shard alone what one Postgres would give is refused, wherever it has come from.

mod combine;
mod concat;
mod copied;
pub(super) mod dtx;
mod framing;
mod gather;
pub(super) mod glance;
mod hint;
mod legs;
mod merged;
mod names;
mod objection;
mod order;
pub(super) mod pipeline;
mod plan;
mod records;
mod request;
pub(super) mod scatter;
mod start;
mod verify;
mod wait;
mod whole;
mod word;

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Instant;

use pgherd_config::PoolMode;
use pgherd_planner::{Params, Statement};
use pgherd_session::{Parameters, Unnamed};
use pgherd_sql::{LexOptions, Lexer, TokenKind};
use pgherd_wire::backend::TransactionStatus;
use pgherd_wire::error::ErrorReport;
use pgherd_wire::frame;
use pgherd_wire::frontend::{self, Bind, Parse, tag};

use crate::judgement::{Judgement, Listens};
use crate::session::checkout::Denied;
use crate::session::relay::Relay;
use crate::session::requests::is_held;
use crate::shards::{Group, Known, Tier, elsewhere};
use crate::transactions::deadlocks::Waiter;
use copied::Copied;
use dtx::Journal;
use glance::Glance;
use pipeline::Pipeline;
use plan::{Place, Told, bound, is_read, place, prepared, read, tail_of, text_of, unsupported};
use request::{Request, Work};

pub(super) use dtx::{describes_by_sql, prepares_by_sql, runs_elsewhere, runs_elsewhere_bound};
pub(super) use objection::{must_wait, no_function_call, objection, to_bind, to_parse, unread};

/// What a session of a sharded database has besides.
#[derive(Debug)]
pub struct Spread {
    group: Arc<Group>,
    /// The shard whose pool the session has now.
    at: u16,
    /// When it wrote last on each of the shards.
    wrote: Box<[Option<NonZeroU64>]>,
    /// By which schemas statements that the client has described were found to be as it was told, by the
    /// statements' numbers.
    checked: HashMap<u64, u64>,
    /// What was set when its transaction began.
    pub(super) before: Arc<Parameters>,
    /// What its transaction has set and marked.
    pub(super) journal: Journal,
    /// Its transaction has ended in a pipeline that goes on: up to the Sync its server does not say where it stands,
    /// nor what the settings are to which it has gone back.
    ended: bool,
    /// What it knows of the statement that was in front last.
    glance: Glance,
    /// It has prepared a statement by SQL.
    prepares: bool,
    /// Its transaction may have notified others, on [`NOTIFIER`].
    notified: bool,
    /// Its transaction may have changed what it listens to.
    listened: bool,
    /// Its transaction may have said when constraints are checked, which its other servers would not know.
    defers: bool,
    /// It holds servers of a transaction over several shards.
    holds: bool,
    /// As which that waits for others.
    waiter: Option<Arc<Waiter>>,
}

/// The shard where all notify and listen, so that they hear of each other. Of a transaction over several shards it is
/// the one that decides if it has written: a transaction that notifies cannot be prepared.
const NOTIFIER: u16 = 0;

/// Whether the session is where it would hear notifications.
pub(super) fn hears(relay: &Relay) -> bool {
    let spread = relay.spread.as_deref();
    spread.is_none_or(|spread| spread.at == NOTIFIER)
}

/// Whether a session that waits for something holds servers of a transaction over several shards meanwhile.
pub(super) fn holds_others(relay: &Relay) -> bool {
    relay.spread.as_deref().is_some_and(|spread| spread.holds)
}

/// Whether answers are verified, which is done on primaries.
pub(super) fn verifies(relay: &Relay) -> bool {
    relay.spread.is_some() && matches!(hint::verifies(relay), Ok(true))
}

/// Until when a replica must have all that was written, so that it has the schemas by which statements are planned.
pub(super) fn planned_since(relay: &Relay) -> Option<Instant> {
    let known = relay.spread.as_deref()?.group.last()?;
    Some(known.since())
}

/// Takes note that the session listens from here on.
pub(super) fn listens(relay: &Relay) {
    if let Some(spread) = relay.spread.as_deref() {
        spread.group.is_heard_by(&relay.control);
    }
}

/// Takes note of what is sent, if it may notify others, changes what the session listens to, or says when constraints are
/// checked.
pub(super) fn note_notice(
    spread: &mut Spread,
    text: &[u8],
    judgement: &Judgement,
    lexing: LexOptions,
) {
    spread.listened |= judgement.listens != Listens::Nothing;
    let noted = Noted::of(text, lexing);
    spread.notified |= spread.listened || noted.notifies;
    spread.defers |= noted.defers;
}

/// The same of what is bound to the statement of this name.
pub(super) fn note_bound(relay: &mut Relay, name: &[u8]) {
    let tail = tail_of(relay, name);
    let noted = tail.map(|tail| Noted::of(text_of(tail), relay.lexing));
    if let (Some(spread), Some(noted)) = (relay.spread.as_deref_mut(), noted) {
        spread.notified |= noted.notifies;
        spread.defers |= noted.defers;
    }
}

/// Whether a text may notify others.
fn notifies(text: &[u8], lexing: LexOptions) -> bool {
    Noted::of(text, lexing).notifies
}

/// What a text may do that concerns the rest of its transaction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Noted {
    /// It notifies others.
    notifies: bool,
    /// It says when constraints are checked.
    defers: bool,
}

impl Noted {
    fn of(text: &[u8], lexing: LexOptions) -> Self {
        const WORD: &[u8] = b"notify";
        const CONSTRAINTS: &[u8] = b"constraints";
        let mut noted = Self::default();
        let mut lexer = Lexer::new(text, lexing);
        let (mut begins, mut sets) = (true, false);
        loop {
            let token = match lexer.token() {
                Ok(Some(token)) => token,
                Ok(None) => return noted,
                // It may be of an encoding that is not read here.
                Err(_) => {
                    let has = |word: &[u8]| {
                        let mut parts = text.windows(word.len());
                        parts.any(|part| part.eq_ignore_ascii_case(word))
                    };
                    return Self {
                        notifies: noted.notifies || has(WORD),
                        defers: noted.defers || has(CONSTRAINTS),
                    };
                }
            };
            noted.notifies |= match token.kind {
                // The other is the name of a column, too.
                TokenKind::Word => token.is_word(b"pg_notify") || begins && token.is_word(WORD),
                TokenKind::QuotedWord => token.text == b"\"pg_notify\"",
                // It may be any name.
                TokenKind::UnicodeWord => true,
                _ => false,
            };
            noted.defers |= sets && token.is_word(CONSTRAINTS);
            (begins, sets) = (token.is(b';'), begins && token.is_word(b"set"));
        }
    }
}

impl Spread {
    /// One that begins on the first shard.
    pub fn new(group: Arc<Group>) -> Self {
        let wrote = group.pools.iter().map(|_| None).collect();
        Self {
            group,
            at: 0,
            wrote,
            checked: HashMap::new(),
            before: Arc::default(),
            journal: Journal::default(),
            ended: false,
            glance: Glance::default(),
            prepares: false,
            notified: false,
            listened: false,
            defers: false,
            holds: false,
            waiter: None,
        }
    }

    /// Counts what its client is told, if it is that something is not supported.
    pub(super) fn refuses(&self, report: &ErrorReport) {
        self.group.counts.told(report);
    }
}

/// Counts a statement that runs so.
pub(super) fn count(relay: &Relay, tier: Tier) {
    if let Some(spread) = &relay.spread {
        spread.group.counts.ran(tier);
    }
}

/// Whether all is here that has to be looked through before a server is taken: a request up to its Sync or
/// Flush, or so much that no more is waited for.
pub(super) fn is_whole(relay: &Relay) -> bool {
    let here = relay.up.unjudged();
    let mut rest = here;
    while let Ok(Some(header)) = frame::header(rest) {
        let Some(behind) = rest.get(header.total()..) else {
            break;
        };
        rest = behind;
        if matches!(
            header.tag,
            tag::QUERY | tag::SYNC | tag::FLUSH | tag::FUNCTION_CALL
        ) {
            return true;
        }
    }
    here.len() >= relay.pool.settings().limits.max_held_message.get()
        || matches!(frame::header(rest), Ok(Some(header)) if !is_held(relay, header.total()))
}

/// Where a request is to be run.
pub(super) enum Way {
    /// On a server of the pool that the session has now.
    Usual,
    /// It is one simple query that reads several shards.
    Several(Box<Request>),
    /// It is statements of the extended protocol that do so.
    Pipeline(Pipeline),
    /// In a transaction over several shards.
    Spanning,
}

/// Leads a session of a sharded database to the shard of what its client has sent.
pub(super) async fn lead(relay: &mut Relay, asked: Instant) -> Result<Way, Denied> {
    let Some(spread) = relay.spread.as_deref() else {
        return Ok(Way::Usual);
    };
    let group = Arc::clone(&spread.group);
    if relay.kept.is_none() {
        transaction_begins(relay);
    }
    if group.is_retired() {
        return Err(Denied::Fatal(Box::new(elsewhere())));
    }
    if relay.kept.is_some() || relay.lost_block {
        return Ok(Way::Usual);
    }
    let refused = |report| Denied::Refused(Box::new(report));
    let agreed = || group.current().is_some_and(|known| known.agreed().is_ok());
    if group.last().is_some() && !agreed() && only_ends(relay) {
        group.look_again();
        return Ok(Way::Usual);
    }
    let known = match wait::known(relay, &group, asked).await {
        // It was found out that rows live elsewhere.
        Err(_) if group.is_retired() => return Err(Denied::Fatal(Box::new(elsewhere()))),
        known => known?,
    };
    if let Some(several) = scattered(relay, &known) {
        return Ok(several);
    }
    if dtx::needs(relay, &known) {
        return Ok(Way::Spanning);
    }
    let place = match wanted(relay, &known) {
        Ok(place) => place,
        Err(report) => {
            forget_replaced(relay);
            return Err(refused(report));
        }
    };
    match place {
        Place::On(shard) => enter(relay, shard),
        Place::Any => {
            let held = |pool: &crate::pool::Pool| pool.core.held().is_some();
            if held(&relay.pool)
                && let Some(other) = group.pools.iter().position(|pool| !held(pool))
            {
                enter(relay, u16::try_from(other).unwrap_or_default());
            }
        }
    }
    tell_where(relay, &known);
    Ok(Way::Usual)
}

/// Says where the EXPLAIN in front runs, if there is one, and why it may: the plan is that of one shard, as it stands.
fn tell_where(relay: &mut Relay, known: &Known) {
    let here = relay.up.unjudged();
    let body = |header: frame::Header| here.get(frame::HEADER_LEN..header.total());
    let text = match frame::header(here) {
        Ok(Some(header)) if header.tag == tag::QUERY => {
            let query = body(header).and_then(|body| frontend::Query::parse(body).ok());
            query.map(|query| query.text)
        }
        Ok(Some(header)) if header.tag == tag::PARSE => {
            let parse = body(header).and_then(|body| Parse::parse(body).ok());
            parse.map(|parse| parse.query)
        }
        _ => None,
    };
    let Some(text) = text.filter(|text| word::explains(text, relay.lexing)) else {
        return;
    };
    let at = relay.spread.as_deref().map_or(0, |spread| spread.at);
    if let Ok(Told::Planned(statement)) = read(relay, known, text) {
        remark(relay, &statement, at);
    }
}

/// Says on which shard a plan is explained, and why it is one shard's.
fn remark(relay: &mut Relay, statement: &Statement, at: u16) {
    let (Some(rule), Some(spread)) = (statement.one_shard_rule(), relay.spread.as_deref()) else {
        return;
    };
    let least = relay.parameters.get("client_min_messages");
    if least.is_some_and(|least| ["warning", "error"].contains(&&*least.to_ascii_lowercase())) {
        return;
    }
    let name = &spread.group.pools[usize::from(at)].key.database;
    let text = format!("the plan is that of shard {at} ({name})");
    let report = ErrorReport::notice(text).detail(format!("One shard runs it: {rule}."));
    report.encode_notice(relay.down.made());
}

/// Takes note of what is set before a transaction.
pub(super) fn transaction_begins(relay: &mut Relay) {
    if let Some(spread) = relay.spread.as_deref_mut() {
        if !Arc::ptr_eq(&spread.before, &relay.parameters) {
            spread.before = Arc::clone(&relay.parameters);
        }
        spread.journal.clear();
        spread.ended = false;
        (spread.notified, spread.listened, spread.defers) = (false, false, false);
    }
}

/// Takes note of the end of a transaction.
pub(super) fn transaction_ends(relay: &mut Relay) {
    if let Some(spread) = relay.spread.as_deref_mut() {
        spread.journal.clear();
        spread.ended = true;
    }
}

/// The server has said where it stands, and reported what is set; `more` is whether it owes answers still.
pub(super) fn stands(relay: &mut Relay, status: TransactionStatus, more: bool) {
    let Some(spread) = relay.spread.as_deref() else {
        return;
    };
    let noted = (spread.notified, spread.listened, spread.defers);
    let kept = match status {
        TransactionStatus::Idle => more,
        // Another one has begun in the same breath. If it has set nothing yet, this is what it began with.
        TransactionStatus::InTransaction if spread.ended && spread.journal.is_empty() => true,
        TransactionStatus::InTransaction | TransactionStatus::Failed => return,
    };
    transaction_begins(relay);
    // What was noted when it was sent may be of the one that has begun.
    if kept && let Some(spread) = relay.spread.as_deref_mut() {
        (spread.notified, spread.listened, spread.defers) = noted;
    }
}

/// Forgets the unnamed statement if what is refused is another one: so does Postgres.
fn forget_replaced(relay: &mut Relay) {
    let here = relay.up.unjudged();
    let is_parse = matches!(frame::header(here), Ok(Some(header)) if header.tag == tag::PARSE);
    let unnamed = here.get(frame::HEADER_LEN) == Some(&0);
    if is_parse
        && unnamed
        && let Some(statements) = relay.statements.as_deref_mut()
    {
        statements.unnamed = Unnamed::None;
    }
}

/// Whether what is here only ends a block: that runs whatever is known of the shards.
fn only_ends(relay: &Relay) -> bool {
    let mut parsed: Vec<&[u8]> = Vec::new();
    let mut rest = relay.up.unjudged();
    let mut found = false;
    while let Ok(Some(header)) = frame::header(rest) {
        let Some((message, behind)) = rest.split_at_checked(header.total()) else {
            break;
        };
        rest = behind;
        let body = &message[frame::HEADER_LEN..];
        let text = match header.tag {
            tag::QUERY => frontend::Query::parse(body).ok().map(|query| query.text),
            tag::PARSE => Parse::parse(body).ok().map(|parse| {
                parsed.push(parse.name);
                parse.query
            }),
            tag::BIND => match Bind::parse(body) {
                Ok(bind) if parsed.contains(&bind.statement) => continue,
                Ok(bind) => tail_of(relay, bind.statement).map(text_of),
                Err(_) => None,
            },
            tag::SYNC => break,
            tag::FUNCTION_CALL => return false,
            _ => continue,
        };
        if !text.is_some_and(|text| word::ends(text, relay.lexing)) {
            return false;
        }
        found = true;
        if header.tag == tag::QUERY {
            break;
        }
    }
    found
}

/// What is here and reads several shards, outside of a block.
fn scattered(relay: &Relay, known: &Known) -> Option<Way> {
    if relay.opened.is_some() || !relay.pins.is_empty() {
        return None;
    }
    let here = relay.up.unjudged();
    let header = frame::header(here).ok().flatten()?;
    if header.tag != tag::QUERY {
        // What is verified runs in a transaction.
        let verifies = matches!(hint::verifies(relay), Ok(true));
        let pooled = !verifies && relay.mode != PoolMode::Session;
        let found = pooled.then(|| pipeline::find(relay, known));
        return found.flatten().map(Way::Pipeline);
    }
    let body = here.get(frame::HEADER_LEN..header.total())?;
    if !is_held(relay, header.total()) {
        return None;
    }
    let query = frontend::Query::parse(body).ok()?;
    let Ok(Told::Planned(statement)) = read(relay, known, query.text) else {
        return None;
    };
    let foreign_encoding = names::is_foreign(relay, known);
    let params = Params {
        foreign_encoding,
        ..Params::default()
    };
    let copied = Copied::of(relay, &statement, query.text);
    if !is_read(relay, query.text) && copied.is_none() {
        return None;
    }
    if verify::is_due(relay, query.text, &statement) {
        return None;
    }
    let route = statement.route(&params).ok()?;
    let request = Request::of(&route, query.text, None, known.number())?;
    let concats = matches!(request.work, Work::Concat);
    if let Some(copied) = copied.as_ref().filter(|_| !concats) {
        copied.fits(relay, known).ok()?;
    }
    let request = request.copying(copied);
    let fits = request.is_ordered(foreign_encoding) && request.is_legible(foreign_encoding);
    fits.then(|| Way::Several(Box::new(request)))
}

/// Takes the pool of a shard for the session's own.
fn enter(relay: &mut Relay, shard: u16) {
    let Some(spread) = relay.spread.as_deref_mut() else {
        return;
    };
    let (from, to) = (usize::from(spread.at), usize::from(shard));
    if from == to {
        return;
    }
    spread.wrote[from] = relay.wrote;
    relay.wrote = spread.wrote[to];
    spread.at = shard;
    relay.pool = Arc::clone(&spread.group.pools[to]);
}

/// Where the messages that are here want to run: where the first of them does that says so. An error is
/// that of the first; others come to light in their turn.
fn wanted(relay: &Relay, known: &Known) -> Result<Place, ErrorReport> {
    let mut parsed: Vec<(&[u8], &[u8])> = Vec::new();
    let mut likely = Place::Any;
    let mut rest = relay.up.unjudged();
    let mut first = true;
    while let Ok(Some(header)) = frame::header(rest) {
        let Some((message, behind)) = rest.split_at_checked(header.total()) else {
            break;
        };
        rest = behind;
        let body = &message[frame::HEADER_LEN..];
        let found = match header.tag {
            tag::QUERY => {
                let query = frontend::Query::parse(body);
                query.map(|query| place(relay, known, query.text, &Params::default()))
            }
            tag::PARSE => Parse::parse(body).map(|parse| {
                let tail = &body[parse.name.len() + 1..];
                parsed.push((parse.name, tail));
                let found = prepared(relay, known, tail)?;
                if likely == Place::Any {
                    likely = found;
                }
                Ok(Place::Any)
            }),
            tag::BIND => Bind::parse(body).map(|bind| {
                let of_name = |(name, _): &&(&[u8], &[u8])| *name == bind.statement;
                let here = parsed.iter().rev().find(of_name).map(|(_, tail)| *tail);
                match here.or_else(|| tail_of(relay, bind.statement)) {
                    Some(tail) => bound(relay, known, tail, &bind),
                    None => Ok(Place::Any),
                }
            }),
            tag::SYNC => break,
            _ => Ok(Ok(Place::Any)),
        };
        match found {
            Ok(Ok(Place::On(shard))) => return Ok(Place::On(shard)),
            Ok(Err(report)) if first => return Err(report),
            _ => {}
        }
        if header.tag == tag::QUERY {
            break;
        }
        first = false;
    }
    Ok(likely)
}

#[cfg(test)]
mod tests {
    use pgherd_sql::{Encoding, LexOptions};

    use super::{Noted, notifies};

    #[test]
    fn what_may_notify_others_is_told_by_its_words() {
        let lexing = LexOptions::default();
        for text in [
            "notify c",
            "/* x */ NOTIFY c, 'x'",
            "select 1; notify c",
            "select pg_notify('c', 'x')",
            "with n as (select pg_catalog.\"pg_notify\"('c', $1)) select * from n",
            "select U&\"pg\\005fnotify\"('c', 'x')",
        ] {
            assert!(notifies(text.as_bytes(), lexing), "{text}");
        }
        for text in [
            "",
            "select notify_by from t",
            "select t.notify from t",
            "select 'pg_notify' from t -- notify c",
            "select \"PG_NOTIFY\" from t",
        ] {
            assert!(!notifies(text.as_bytes(), lexing), "{text}");
        }
        let unread = LexOptions {
            encoding: Encoding::AsciiTrailing,
            ..lexing
        };
        assert!(notifies(
            "select 'ä', pg_notify('c', 'x')".as_bytes(),
            unread
        ));
        assert!(!notifies("select 'ä'".as_bytes(), unread));
    }

    #[test]
    fn what_defers_constraints_is_told_by_how_a_statement_begins() {
        for (text, expected) in [
            ("SET CONSTRAINTS ALL DEFERRED", true),
            ("begin; set /* x */ constraints a immediate", true),
            ("set constraints.x to 1", true),
            ("update t set constraints = 1", false),
            ("set session constraints = 1", false),
            ("select 'set constraints all deferred'", false),
        ] {
            let noted = Noted::of(text.as_bytes(), LexOptions::default());
            assert_eq!(noted.defers, expected, "{text}");
        }
    }
}
