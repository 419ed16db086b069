//! The extended protocol within a transaction over several shards. What is prepared and bound is kept here, and goes to
//! a server when it is described or executed.

use std::sync::Arc;

use pgherd_session::{Owed, Undo, Unnamed};
use pgherd_wire::backend::{self, tag as reply};
use pgherd_wire::error::ErrorReport;
use pgherd_wire::frontend::{self, Bind, Describe, Execute, Parse, Target, tag};
use pgherd_wire::{frame, sqlstate};

use super::cursors::duplicate;
use super::named::{Named, keep};
use super::portals::{PORTALS_MAX, Portal, Ran, is_ours, kept};
use super::rows::Passed;
use super::session::{Deed, deed, failed};
use super::statement::{Done, Form, tell};
use super::{Dtx, Fault, violation};
use crate::session::relay::Relay;
use crate::session::shards::gather::{Deadlines, End};
use crate::session::shards::legs::Leg;
use crate::session::shards::pipeline::told::learn;
use crate::session::shards::plan::{prepared, tail_now, tail_of, text_of, unsupported};
use crate::session::shards::request::run_by;
use crate::session::shards::wait;
use crate::session::shards::word::{self, Word};

/// What tells whether a statement is one, and what it gives.
pub(super) const SAID: [u8; 4] = [
    reply::PARSE_COMPLETE,
    reply::PARAMETER_DESCRIPTION,
    reply::ROW_DESCRIPTION,
    reply::NO_DATA,
];

/// What the client has prepared by a name.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) name: Box<[u8]>,
    /// The Parse behind its name.
    pub(super) tail: Box<[u8]>,
}

/// What was prepared, or bound if there are values, and was neither described nor executed since: whether a server
/// takes it is not known yet.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unchecked {
    tail: Box<[u8]>,
    /// The Bind behind its names.
    values: Option<Box<[u8]>>,
}

/// The portal that was bound last, and what was bound to it.
#[derive(Debug)]
pub(super) struct Unbound {
    name: Box<[u8]>,
    tail: Box<[u8]>,
    /// The Bind behind its names.
    values: Box<[u8]>,
}

/// What is executed.
pub(super) struct Bound<'a> {
    pub(super) tail: &'a [u8],
    pub(super) bind: Bind<'a>,
    /// The Bind behind its names.
    pub(super) values: &'a [u8],
    pub(super) max_rows: i32,
}

impl Dtx {
    pub(super) async fn extended(
        &mut self,
        relay: &mut Relay,
        tag: u8,
        body: &[u8],
    ) -> Result<(), Fault> {
        // Where what was bound last is run next, it comes to light there how that was taken.
        if self.unbound.as_ref().map(|it| &*it.name) != run_by(tag, body).map(kept) {
            self.settle(relay).await?;
        }
        let answer = self.extended_message(relay, tag, body).await;
        self.acknowledge(relay);
        answer
    }

    /// Tells the client that what it has bound is taken, if it waits for that.
    pub(super) fn acknowledge(&mut self, relay: &mut Relay) {
        if std::mem::take(&mut self.owes) {
            relay.down.insert(&backend::BIND_COMPLETE);
        }
    }

    /// Has a server look at what was bound last, where it is not run next.
    pub(super) async fn settle(&mut self, relay: &mut Relay) -> Result<(), Fault> {
        let Some(Unbound { tail, values, .. }) = self.unbound.take() else {
            return Ok(());
        };
        if !self.failed {
            self.checked(&tail, Some(&values));
            self.described_at_home(relay, &tail, Some(&values)).await?;
        }
        relay.down.insert(&backend::BIND_COMPLETE);
        Ok(())
    }

    async fn extended_message(
        &mut self,
        relay: &mut Relay,
        tag: u8,
        body: &[u8],
    ) -> Result<(), Fault> {
        match tag {
            tag::PARSE => self.parse(relay, &sound(Parse::parse(body))?, body).await,
            tag::BIND => self.bind(relay, &sound(Bind::parse(body))?, body).await,
            tag::DESCRIBE => self.describe(relay, &sound(Describe::parse(body))?).await,
            tag::EXECUTE => self.execute(relay, &sound(Execute::parse(body))?).await,
            _ => {
                let close = sound(Describe::parse(body))?;
                if close.kind == Target::Portal {
                    self.close(relay, kept(close.name)).await?;
                } else if let Some(statements) = relay.statements.as_deref_mut() {
                    match close.name.is_empty() {
                        true => statements.unnamed = Unnamed::None,
                        false => drop(statements.remove(close.name)),
                    }
                }
                relay.down.insert(&backend::CLOSE_COMPLETE);
                Ok(())
            }
        }
    }

    async fn parse(
        &mut self,
        relay: &mut Relay,
        parse: &Parse<'_>,
        body: &[u8],
    ) -> Result<(), Fault> {
        let tail = &body[parse.name.len() + 1..];
        if parse.name.is_empty()
            && let Some(statements) = relay.statements.as_deref_mut()
        {
            statements.unnamed = Unnamed::None;
        }
        if self.failed && !word::ends(parse.query, relay.lexing) {
            return Err(failed().into());
        }
        let group = Arc::clone(&self.group);
        let known = match deed(relay, parse.query) {
            // It is read when it runs.
            Some(Deed::Named(_)) => None,
            Some(_) => group.last(),
            None => Some(wait::known(relay, &group, self.began).await?),
        };
        if let Some(known) = known {
            prepared(relay, &known, tail)?;
        }
        let judgement = relay.judge(parse.query);
        let statements = relay.statements.get_or_insert_default();
        if parse.name.is_empty() {
            let tail = tail.into();
            statements.unnamed = Unnamed::Parsed {
                tail,
                judgement,
                read_under: Arc::clone(&relay.parameters),
            };
        } else {
            keep(relay, parse.name, parse.query, tail)?;
        }
        self.leave_unchecked(relay, tail, None)?;
        if is_seen(relay, parse.query) {
            let (name, tail) = (parse.name.into(), tail.into());
            self.fresh.push(Parsed { name, tail });
        }
        relay.down.insert(&backend::PARSE_COMPLETE);
        Ok(())
    }

    /// Takes note of what no server has seen, unless none will.
    fn leave_unchecked(
        &mut self,
        relay: &Relay,
        tail: &[u8],
        values: Option<&[u8]>,
    ) -> Result<(), Fault> {
        if !is_seen(relay, text_of(tail)) {
            return Ok(());
        }
        // What is bound is looked at with its values.
        self.checked(tail, None);
        if self.unchecked.len() >= PORTALS_MAX {
            let text = "too many statements are prepared before a Sync";
            return Err(ErrorReport::error(sqlstate::CONFIGURATION_LIMIT_EXCEEDED, text).into());
        }
        self.unchecked.push(Unchecked {
            tail: tail.into(),
            values: values.map(Into::into),
        });
        Ok(())
    }

    /// A server sees it.
    fn checked(&mut self, tail: &[u8], values: Option<&[u8]>) {
        self.unchecked
            .retain(|it| *it.tail != *tail || it.values.as_deref() != values);
    }

    /// Has a server look at what none has seen: Postgres would have refused it where it came, and with it all that
    /// the transaction has done.
    pub(super) async fn check(&mut self, relay: &mut Relay) -> Result<(), Fault> {
        self.settle(relay).await?;
        for Unchecked { tail, values } in std::mem::take(&mut self.unchecked) {
            if !self.failed && !self.legs.is_empty() {
                self.described_at_home(relay, &tail, values.as_deref())
                    .await?;
            }
        }
        self.fresh.clear();
        Ok(())
    }

    async fn bind(&mut self, relay: &mut Relay, bind: &Bind<'_>, body: &[u8]) -> Result<(), Fault> {
        let Some(tail) = tail_now(relay, bind.statement)? else {
            let name = String::from_utf8_lossy(bind.statement);
            let text = format!("prepared statement \"{name}\" does not exist");
            return Err(ErrorReport::error(sqlstate::INVALID_SQL_STATEMENT_NAME, text).into());
        };
        let tail: Box<[u8]> = tail.into();
        if self.failed && !word::ends(text_of(&tail), relay.lexing) {
            return Err(failed().into());
        }
        let name = kept(bind.portal);
        let is_portal = !name.is_empty() && self.portals.contains_key(name);
        if is_portal || !self.failed && self.is_cursor(relay, name).await? {
            return Err(duplicate(bind.portal).into());
        }
        self.forget(relay, name).await?;
        if self.portals.len() >= PORTALS_MAX {
            let text = "too many portals";
            return Err(ErrorReport::error(sqlstate::CONFIGURATION_LIMIT_EXCEEDED, text).into());
        }
        let portal = Portal::new(tail, body);
        let values = behind_names(body, bind);
        self.leave_unchecked(relay, &portal.tail, Some(values))?;
        match is_seen(relay, text_of(&portal.tail)) {
            true => {
                self.unbound = Some(Unbound {
                    name: name.into(),
                    tail: portal.tail.clone(),
                    values: values.into(),
                });
            }
            false => relay.down.insert(&backend::BIND_COMPLETE),
        }
        self.portals.insert(name.into(), portal);
        Ok(())
    }

    async fn describe(&mut self, relay: &mut Relay, describe: &Describe<'_>) -> Result<(), Fault> {
        let (tail, body) = match describe.kind {
            Target::Portal => match self.portals.get(kept(describe.name)) {
                Some(portal) => (portal.tail.clone(), Some(portal.body.clone())),
                None if self.failed || describe.name.is_empty() || is_ours(describe.name) => {
                    return Err(no_portal(describe.name).into());
                }
                None => return self.describe_cursor(relay, kept(describe.name)).await,
            },
            Target::Statement => {
                let tail = tail_of(relay, describe.name).ok_or_else(|| {
                    let name = String::from_utf8_lossy(describe.name);
                    let text = format!("prepared statement \"{name}\" does not exist");
                    ErrorReport::error(sqlstate::INVALID_SQL_STATEMENT_NAME, text)
                })?;
                (tail.into(), None)
            }
        };
        let text = text_of(&tail);
        if self.failed && !word::ends(text, relay.lexing) {
            return Err(failed().into());
        }
        if let Some(Deed::Named(Named::Execute | Named::Explain)) = deed(relay, text) {
            let bind = body.as_deref().and_then(|body| Bind::parse(body).ok());
            let results = bind.map(|bind| bind.results);
            return self.describe_named(relay, text, results).await;
        }
        let is_deed = deed(relay, text).is_some_and(|deed| deed != Deed::Ask);
        if is_deed || word::first(text, relay.lexing) == Word::Nothing {
            if body.is_none() {
                // It has no parameters.
                relay
                    .down
                    .insert(&[reply::PARAMETER_DESCRIPTION, 0, 0, 0, 6, 0, 0]);
            }
            backend::no_data(relay.down.made());
            return Ok(());
        }
        let values = body
            .as_deref()
            .and_then(|body| Some(behind_names(body, &Bind::parse(body).ok()?)));
        self.checked(&tail, values);
        let unbound = self.unbound.take();
        let told = self.described_at_home(relay, &tail, values).await?;
        if body.is_none() {
            let of = |tag| told.iter().find(|it| it.first() == Some(&tag));
            let (parameters, columns) =
                (of(reply::PARAMETER_DESCRIPTION), of(reply::ROW_DESCRIPTION));
            let (parameters, columns) = (parameters.map(|it| &**it), columns.map(|it| &**it));
            learn(relay, describe.name, parameters, columns);
        }
        self.owes = unbound.is_some();
        self.acknowledge(relay);
        told.iter().for_each(|message| relay.down.insert(message));
        Ok(())
    }

    /// Asks what a statement gives, which is the same on every shard.
    pub(super) async fn described_at_home(
        &mut self,
        relay: &mut Relay,
        tail: &[u8],
        values: Option<&[u8]>,
    ) -> Result<Vec<Box<[u8]>>, Fault> {
        // What a FETCH gives is known where its cursor is.
        let asked = self.asked(relay, text_of(tail))?;
        let home = asked.first().copied();
        let home = home.unwrap_or_else(|| self.anywhere(relay));
        self.open(relay, &[home]).await?;
        let mut legs = self.pick(&[home]);
        let Some(leg) = legs.first_mut() else {
            return Err(self.lost("it is gone"));
        };
        put_described(leg, tail, values);
        let deadlines = Deadlines::new(relay, self.began);
        let (messages, end) = leg.hear(relay, &SAID, &deadlines).await;
        let is_parsed = messages
            .iter()
            .any(|it| it.first() == Some(&reply::PARSE_COMPLETE));
        self.looked_at(relay, tail, is_parsed || !matches!(end, End::Failed(_)));
        self.ended(relay, legs, end).await?;
        let described = messages.into_iter();
        Ok(described
            .filter(|it| it.first() != Some(&reply::PARSE_COMPLETE))
            .collect())
    }

    /// A server has looked at what was prepared. Where it has found an error in it, it is not there, nor is what was
    /// prepared behind it.
    pub(super) fn looked_at(&mut self, relay: &mut Relay, tail: &[u8], is_sound: bool) {
        if is_sound {
            self.fresh.retain(|it| *it.tail != *tail);
            return;
        }
        let Some(at) = self.fresh.iter().position(|it| *it.tail == *tail) else {
            return;
        };
        for Parsed { name, .. } in self.fresh.drain(at..) {
            match relay.statements.as_deref_mut() {
                Some(statements) if name.is_empty() => statements.unnamed = Unnamed::None,
                Some(statements) => drop(statements.remove(&name)),
                None => {}
            }
        }
    }

    async fn execute(&mut self, relay: &mut Relay, execute: &Execute<'_>) -> Result<(), Fault> {
        let name: Box<[u8]> = kept(execute.portal).into();
        self.owes = self.unbound.take().is_some();
        let portal = self.portals.get(&name);
        let portal = portal.ok_or_else(|| no_portal(&name))?;
        let (tail, body) = (portal.tail.clone(), portal.body.clone());
        match &portal.ran {
            Ran::No => {}
            Ran::Read(_) if self.failed => return Err(failed().into()),
            Ran::Read(none) => {
                tell(relay, &Done::Complete(none.clone()));
                return Ok(());
            }
            Ran::Yes => {
                let name = String::from_utf8_lossy(&name);
                let text = format!("portal \"{name}\" cannot be run");
                let code = sqlstate::OBJECT_NOT_IN_PREREQUISITE_STATE;
                return Err(ErrorReport::error(code, text).into());
            }
        }
        self.legs.values_mut().for_each(|leg| leg.refused = false);
        let ran = self.run(relay, execute, &tail, &body).await;
        let is_unsound = |leg: &Leg| leg.refused && !leg.parsed;
        let is_sound = !self.legs.values().any(is_unsound);
        if matches!(ran, Ok(_) | Err(Fault::Said(_))) {
            self.looked_at(relay, &tail, is_sound);
        }
        let done = ran?;
        if let Some(portal) = self.portals.get_mut(&name) {
            portal.ran = Ran::of(relay, text_of(&tail), &done);
        }
        self.acknowledge(relay);
        tell(relay, &done);
        Ok(())
    }

    /// Runs what was bound to the portal that is executed.
    async fn run(
        &mut self,
        relay: &mut Relay,
        execute: &Execute<'_>,
        tail: &[u8],
        body: &[u8],
    ) -> Result<Done, Fault> {
        let (name, text) = (kept(execute.portal), text_of(tail));
        let suspended = self.portals.get(name).and_then(Portal::suspended);
        let Ok(bind) = Bind::parse(body) else {
            return Err(Fault::Over(violation("invalid Bind message".to_owned())));
        };
        self.checked(tail, Some(behind_names(body, &bind)));
        if word::first(text, relay.lexing) == Word::Nothing {
            Ok(Done::Empty)
        } else if let Some(Deed::Named(named)) = deed(relay, text) {
            if execute.max_rows > 0 && matches!(named, Named::Execute | Named::Explain) {
                let text = "rows of an EXECUTE in pieces are not supported";
                return Err(unsupported(text).hint("Fetch all of them at once.").into());
            }
            self.named(relay, text, named, false, bind.results).await
        } else if let Some(deed) = deed(relay, text).filter(|deed| *deed != Deed::Ask) {
            self.act(relay, text, deed).await
        } else if execute.max_rows > 0 && word::gives_rows(text, relay.lexing) {
            self.some_rows(relay, name, execute.max_rows).await
        } else if let Some(there) = suspended {
            self.piece(relay, there, None, 0).await
        } else if deed(relay, text).is_some() {
            let shards = self.asked(relay, text)?;
            self.open(relay, &shards).await?;
            let form = Form::Bound {
                tail: tail.to_vec(),
                values: behind_names(body, &bind).to_vec(),
            };
            let forms = vec![form; shards.len()];
            let mut sink = Passed::default();
            let done = self.send(relay, &shards, &forms, &mut sink).await?;
            self.has_closed(relay, text, Some(name));
            Ok(complete(done))
        } else {
            let bound = Bound {
                tail,
                values: behind_names(body, &bind),
                bind,
                max_rows: 0,
            };
            self.rows(relay, text, Some(&bound), false).await
        }
    }
}

/// Whether a server sees a text: it is more than nothing, and not about the session.
fn is_seen(relay: &Relay, text: &[u8]) -> bool {
    word::first(text, relay.lexing) != Word::Nothing && deed(relay, text).is_none()
}

/// A message that cannot be read ends the session.
fn sound<T, E: std::fmt::Display>(parsed: Result<T, E>) -> Result<T, Fault> {
    parsed.map_err(|error| Fault::Over(violation(error.to_string())))
}

fn complete(done: Vec<Option<Box<[u8]>>>) -> Done {
    match done.into_iter().next().flatten() {
        Some(tag) => Done::Complete(tag),
        None => Done::Empty,
    }
}

pub(super) fn no_portal(name: &[u8]) -> ErrorReport {
    let text = format!(
        "portal \"{}\" does not exist",
        String::from_utf8_lossy(name)
    );
    ErrorReport::error(sqlstate::INVALID_CURSOR_NAME, text)
}

/// A Bind's body behind its two names.
pub(super) fn behind_names<'b>(body: &'b [u8], bind: &Bind<'_>) -> &'b [u8] {
    body.get(bind.portal.len() + bind.statement.len() + 2..)
        .unwrap_or_default()
}

/// Has a server asked what a statement, or what was bound of it, gives.
fn put_described(leg: &mut Leg, tail: &[u8], values: Option<&[u8]>) {
    let out = leg.out.made();
    let mut built = frame::build(out, tag::PARSE, |out| {
        out.extend_from_slice(&[0]);
        out.extend_from_slice(tail);
    });
    leg.lease.exchange.sent(Owed::Parse {
        hidden: true,
        undo: Undo::Nothing,
    });
    let kind = match values {
        Some(values) => {
            built = built.and_then(|()| {
                frame::build(out, tag::BIND, |out| {
                    out.extend_from_slice(&[0, 0]);
                    out.extend_from_slice(values);
                })
            });
            leg.lease.exchange.sent(Owed::Bind { of: None });
            Target::Portal
        }
        None => Target::Statement,
    };
    built = built.and_then(|()| frontend::describe(out, kind, b""));
    debug_assert!(built.is_ok(), "it came in a message");
    frontend::sync(out);
    leg.lease.exchange.sent(Owed::DescribePortal { of: None });
    leg.lease.exchange.sent(Owed::OurSync);
    leg.lease.touched = true;
    leg.begin();
}
