//! A glance at what the client has sent: is it one statement of one key, whose text is known?
//!
//! That is most of what clients send, and it has to cost little. What a text means is kept by the text for all
//! sessions ([`Reading`]), and what the session's settings add to that, as long as they are the same ([`Meaning`]); only the
//! keys are read anew. All else takes a longer look, which is also the one that refuses.
//!
//! There are two glances, as there are two looks: before a server is taken, and when the statement is sent, since
//! much may have changed between. The second finds by the message's bytes what the first has found.

use std::sync::Arc;
use std::time::Instant;

use pgherd_config::PoolMode;
use pgherd_planner::{Hint, Params, Slots};
use pgherd_session::Parameters;
use pgherd_sql::LexOptions;
use pgherd_wire::frame;
use pgherd_wire::frontend::{self, Bind, BindHead, Parse, tag};

use super::plan::{Told, parts, read, tail_of, values};
use super::word::explains;
use super::{enter, hint, must_wait, names, notifies, transaction_begins};
use crate::judgement::{Judgement, Listens};
use crate::session::relay::Relay;
use crate::session::turn::Turn;
use crate::shards::{FIRST_OWN, Kind, Known, Reading};

/// A larger message takes the longer look.
const BODY_MAX: usize = 8 * 1024;
/// A larger one is not kept from the first glance to the second.
const KEPT_MAX: usize = 256;

/// What a session knows from its last glance.
#[derive(Debug, Default)]
pub(super) struct Glance {
    meaning: Option<Box<Meaning>>,
    /// The text that was met last, by that meaning.
    last: Option<Arc<Reading>>,
    /// A message that runs that text, and the shard of its keys.
    body: Vec<u8>,
    shard: u16,
}

/// What a session's settings add to its texts.
#[derive(Debug)]
struct Meaning {
    /// The schemas that it was found by.
    number: u64,
    parameters: Arc<Parameters>,
    lexing: LexOptions,
    foreign_encoding: bool,
    /// All that the meaning of a text hangs on of this.
    key: Box<[u8]>,
}

/// What is in front, if it is one statement.
enum Front<'a> {
    Query(&'a [u8]),
    /// The Parse behind its name, and the Bind.
    Bind(&'a [u8], &'a [u8]),
}

/// Leads the session to the shard of what is in front; false where it takes a longer look.
pub(in crate::session) fn lead(relay: &mut Relay, asked: Instant) -> bool {
    let is_free = relay.kept.is_none() && !relay.lost_block && relay.mode != PoolMode::Session;
    if !is_free || !relay.pins.is_empty() {
        return false;
    }
    let Some(spread) = relay.spread.as_deref_mut() else {
        return false;
    };
    let Some(number) = spread.group.settled_at(asked) else {
        return false;
    };
    let mut glance = std::mem::take(&mut spread.glance);
    let before = &*relay;
    let found = front(before).and_then(|front| glance.shard(before, number, &front));
    keep(relay, glance);
    let Some(shard) = found else { return false };
    transaction_begins(relay);
    enter(relay, shard);
    true
}

/// Whether the statement in front, of which nothing is refused here, is for the shard at hand.
pub(in crate::session) fn is_here(turn: &mut Turn<'_>, total: usize) -> bool {
    if turn.relay.spread.is_none() || turn.clears || must_wait(turn) {
        return false;
    }
    let relay = &mut *turn.relay;
    let Some(spread) = relay.spread.as_deref_mut() else {
        return false;
    };
    let (at, Some(number)) = (spread.at, spread.group.settled()) else {
        return false;
    };
    if !relay.pins.is_empty() {
        return false;
    }
    let mut glance = std::mem::take(&mut spread.glance);
    let before = &*relay;
    let found = message(before, total).and_then(|front| glance.shard(before, number, &front));
    keep(relay, glance);
    found == Some(at)
}

/// Whether the text of a simple query does nothing but what [`is_here`] knows of: it has looked at a text with
/// parameters in the place of its literals.
pub(in crate::session) fn is_plain(judgement: &Judgement) -> bool {
    judgement.listens == Listens::Nothing
        && judgement.pins.is_empty()
        && !judgement.follows
        && !judgement.alters
}

/// Whether what is to be prepared, a Parse behind its name, was met last and may be.
pub(in crate::session) fn is_known(turn: &Turn<'_>, tail: &[u8]) -> bool {
    let relay = &*turn.relay;
    let Some(spread) = relay.spread.as_deref() else {
        return false;
    };
    let glance = &spread.glance;
    let is_last = |last: &Reading| last.kind == Kind::Prepared && *last.text == *tail;
    glance.last.as_deref().is_some_and(is_last)
        && !turn.clears
        && relay.pins.is_empty()
        && spread.group.settled().is_some_and(|number| {
            glance
                .meaning
                .as_deref()
                .is_some_and(|it| it.holds(relay, number))
        })
}

fn keep(relay: &mut Relay, glance: Glance) {
    if let Some(spread) = relay.spread.as_deref_mut() {
        spread.glance = glance;
    }
}

/// The statement that a Bind names.
fn statement(body: &[u8]) -> Option<&[u8]> {
    let head = BindHead::parse(body).ok()??;
    Some(head.statement)
}

/// The message of this length in front, which is a simple query or a Bind.
fn message(relay: &Relay, total: usize) -> Option<Front<'_>> {
    let here = relay.up.unjudged().get(..total)?;
    let (head, body) = here.split_at_checked(frame::HEADER_LEN)?;
    match head.first() {
        Some(&tag::QUERY) => Some(Front::Query(body)),
        _ => Some(Front::Bind(tail_of(relay, statement(body)?)?, body)),
    }
}

/// What is in front up to its Sync, if that is one statement.
fn front(relay: &Relay) -> Option<Front<'_>> {
    let mut parsed: Option<(&[u8], &[u8])> = None;
    let mut bound: Option<(&[u8], &[u8])> = None;
    let mut rest = relay.up.unjudged();
    loop {
        let header = frame::header(rest).ok()??;
        let (message, behind) = rest.split_at_checked(header.total())?;
        rest = behind;
        let body = &message[frame::HEADER_LEN..];
        match header.tag {
            tag::QUERY if parsed.is_none() && bound.is_none() => return Some(Front::Query(body)),
            tag::PARSE if parsed.is_none() && bound.is_none() => {
                let parse = Parse::parse(body).ok()?;
                parsed = Some((parse.name, &body[parse.name.len() + 1..]));
            }
            tag::BIND if bound.is_none() => {
                let name = statement(body)?;
                let tail = match parsed {
                    Some((known, tail)) if known == name => tail,
                    Some(_) => return None,
                    None => tail_of(relay, name)?,
                };
                bound = Some((tail, body));
            }
            tag::DESCRIBE | tag::EXECUTE => {}
            tag::SYNC => return bound.map(|(tail, body)| Front::Bind(tail, body)),
            _ => return None,
        }
    }
}

impl Glance {
    /// The shard of a statement of one key.
    fn shard(&mut self, relay: &Relay, number: u64, front: &Front<'_>) -> Option<u16> {
        let meaning = self.meaning.as_deref();
        if !meaning.is_some_and(|meaning| meaning.holds(relay, number)) {
            *self = Self::default();
            let known = known(relay, number)?;
            self.meaning = Some(Box::new(Meaning::of(relay, &known)?));
        }
        let (Front::Query(body) | Front::Bind(_, body)) = *front;
        if body.len() > BODY_MAX {
            return None;
        }
        let is_known = match (self.last.as_deref(), front) {
            (Some(last), Front::Query(_)) => last.kind == Kind::Simple,
            (Some(last), Front::Bind(tail, _)) => {
                last.kind == Kind::Prepared && *last.text == **tail
            }
            (None, _) => false,
        };
        if is_known && self.body == body {
            return Some(self.shard);
        }
        let shard = match front {
            Front::Query(body) => self.of_query(relay, body)?,
            Front::Bind(tail, body) => self.of_bind(relay, tail, body)?,
        };
        self.body.clear();
        if body.len() <= KEPT_MAX {
            self.body.extend_from_slice(body);
            self.shard = shard;
        }
        Some(shard)
    }

    fn of_query(&mut self, relay: &Relay, body: &[u8]) -> Option<u16> {
        let query = frontend::Query::parse(body).ok()?;
        let slots = Slots::of(std::str::from_utf8(query.text).ok()?)?;
        let reading = self.read(relay, Kind::Simple, slots.text.as_bytes())?;
        let params = Params {
            values: &slots.values,
            foreign_encoding: false,
        };
        reading.statement.only(&params).map(|shard| shard.0)
    }

    fn of_bind(&mut self, relay: &Relay, tail: &[u8], body: &[u8]) -> Option<u16> {
        let foreign_encoding = self.meaning.as_deref()?.foreign_encoding;
        let reading = self.read(relay, Kind::Prepared, tail)?;
        let bind = Bind::parse(body).ok()?;
        let values = values(&reading.types, &bind);
        let params = Params {
            values: &values,
            foreign_encoding,
        };
        reading.statement.only(&params).map(|shard| shard.0)
    }

    /// What is known of a text; nothing if it is none of one key.
    fn read(&mut self, relay: &Relay, kind: Kind, text: &[u8]) -> Option<&Reading> {
        let is_last = |last: &Reading| last.kind == kind && *last.text == *text;
        if !self.last.as_deref().is_some_and(is_last) {
            self.body.clear();
            let meaning = self.meaning.as_deref()?;
            let known = known(relay, meaning.number)?;
            let mut key = Vec::with_capacity(meaning.key.len() + 1 + text.len());
            key.extend_from_slice(&meaning.key);
            key.push(kind as u8);
            key.extend_from_slice(text);
            let group = &relay.spread.as_deref()?.group;
            let make = || reading(relay, &known, kind, text);
            self.last = Some(group.reading(&key, meaning.number, make)?);
        }
        self.last.as_deref()
    }
}

/// What is known of the shards, if it is still that of this number.
fn known(relay: &Relay, number: u64) -> Option<Arc<Known>> {
    let known = relay.spread.as_deref()?.group.last()?;
    (known.number() == number).then_some(known)
}

/// Reads a text as the longer look does.
fn reading(relay: &Relay, known: &Known, kind: Kind, text: &[u8]) -> Option<Reading> {
    let (query, types) = match kind {
        Kind::Prepared => parts(text),
        Kind::Simple => (text, Vec::new()),
    };
    let is_own = types.iter().any(|oid| *oid >= FIRST_OWN);
    // Of an EXPLAIN, there is more to tell.
    let is_plain = is_plain(&relay.judge(query)) && !explains(query, relay.lexing);
    if is_own || notifies(query, relay.lexing) || !is_plain {
        return None;
    }
    let Ok(Told::Planned(statement)) = read(relay, known, query) else {
        return None;
    };
    statement.is_keyed().then(|| Reading {
        kind,
        text: text.into(),
        types: types.into(),
        statement,
    })
}

impl Meaning {
    /// What the settings of a session add; nothing if its texts have no meaning over shards.
    fn of(relay: &Relay, known: &Known) -> Option<Self> {
        if !is_of_session(relay) || hint::verifies(relay) != Ok(false) {
            return None;
        }
        let found = names::of(relay, known).ok()?;
        let lexing = relay.lexing;
        let foreign_encoding = names::is_foreign(relay, known);
        let mut key = vec![
            u8::from(lexing.standard_conforming_strings),
            lexing.encoding as u8,
            lexing.names as u8,
            u8::from(foreign_encoding),
        ];
        for schema in &found.search_path {
            key.extend_from_slice(schema.as_bytes());
            key.push(0);
        }
        key.push(0);
        Hint::write(found.hint.as_ref(), &mut key);
        Some(Self {
            number: known.number(),
            parameters: Arc::clone(&relay.parameters),
            lexing,
            foreign_encoding,
            key: key.into(),
        })
    }

    /// Whether it is still what the session's settings add.
    fn holds(&self, relay: &Relay, number: u64) -> bool {
        self.number == number
            && Arc::ptr_eq(&self.parameters, &relay.parameters)
            && self.lexing == relay.lexing
            && is_of_session(relay)
    }
}

/// Whether no hint is set for the transaction alone.
fn is_of_session(relay: &Relay) -> bool {
    let spread = relay.spread.as_deref();
    spread.is_some_and(|spread| spread.journal.hints().is_empty())
}
