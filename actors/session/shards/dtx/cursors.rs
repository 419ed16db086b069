//! Cursors whose rows are on several shards. What a `DECLARE` reads of them is brought to one shard, as where a query is
//! combined, and the cursor is declared there: how it is read is that server's affair from then on. So are the rows of a
//! portal that are wanted some at a time.

use std::collections::BTreeSet;

use pgherd_session::{Owed, literal};
use pgherd_sql::{Cursor, CursorDeed, cursor};
use pgherd_wire::error::ErrorReport;
use pgherd_wire::frontend::{self, Bind, Target};
use pgherd_wire::sqlstate;

use super::carry::brought;
use super::extended::SAID;
use super::portals::{PORTALS_MAX, Portal, is_ours};
use super::reads::{Use, request, told};
use super::rows::Passed;
use super::statement::{Done, Form, added};
use super::{Dtx, Fault, Kind};
use crate::session::relay::Relay;
use crate::session::setup::Answer;
use crate::session::shards::gather::{Deadlines, End};
use crate::session::shards::plan::{Told, together, unsupported, with_params, worded};
use crate::session::shards::request::{Bound, CARRIED_MAX, Request, Work};
use crate::session::shards::start::prepare;
use crate::session::shards::word;
use crate::shards::Known;

/// So many names of cursors are heard of a shard at once.
const TOLD_MAX: usize = 4 * PORTALS_MAX;

/// A query, and one shard that has all it reads.
pub(super) struct Gathered {
    pub(super) home: u16,
    request: Request,
    /// What gives the rows there.
    text: String,
    bound: Bound,
}

impl Gathered {
    /// What is sent there behind what stands before the query.
    pub(super) fn form(&self, before: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let text = [before, self.text.as_bytes()].concat();
        self.bound.written(&text, &self.bound.results)
    }

    /// How the client is told of a fault.
    pub(super) fn reworded(&self, fault: Fault) -> Fault {
        let Fault::Said(message) = fault else {
            return fault;
        };
        match told(&self.request, End::Failed(message)) {
            End::Failed(message) => Fault::Said(message),
            End::Stopped(report) | End::Lost(report) => Fault::Refused(report),
            End::Answered | End::Gone => in_pieces().into(),
        }
    }
}

/// What is said where rows cannot be given some at a time.
pub(super) fn in_pieces() -> ErrorReport {
    unsupported("rows of several shards in pieces are not supported here")
        .hint("Fetch all of them at once.")
}

fn unclear() -> ErrorReport {
    let text = "the name of this cursor cannot be told, and there are cursors on several shards";
    unsupported(text).hint("Give it a plain name.")
}

fn ours() -> ErrorReport {
    let text = "names of cursors that begin with \"pgherd_\" are not supported over several shards";
    unsupported(text).hint("Give it another one.")
}

fn missing(name: &[u8]) -> ErrorReport {
    let text = format!(
        "cursor \"{}\" does not exist",
        String::from_utf8_lossy(name)
    );
    ErrorReport::error(sqlstate::INVALID_CURSOR_NAME, text)
}

pub(super) fn duplicate(name: &[u8]) -> ErrorReport {
    let text = format!(
        "cursor \"{}\" already exists",
        String::from_utf8_lossy(name)
    );
    ErrorReport::error(sqlstate::DUPLICATE_CURSOR, text)
}

fn by_sql() -> ErrorReport {
    let text = "a portal of the extended protocol is not read or closed by SQL over several shards";
    unsupported(text).hint("Execute it, or close it, by messages.")
}

/// What is said of what means something in a block only.
pub(super) fn outside(what: &str) -> ErrorReport {
    let text = format!("{what} can only be used in transaction blocks");
    ErrorReport::error(sqlstate::NO_ACTIVE_SQL_TRANSACTION, text)
}

/// The query of a `DECLARE`, and what stands before it.
fn split<'t>(relay: &Relay, text: &'t [u8]) -> Option<(&'t [u8], &'t [u8])> {
    match cursor(text, relay.lexing)?.deed {
        CursorDeed::Declare { query } => text.split_at_checked(query),
        CursorDeed::Use | CursorDeed::CloseAll => None,
    }
}

/// The query whose rows a text holds for later.
pub(super) fn held<'t>(relay: &Relay, text: &'t [u8]) -> Option<&'t [u8]> {
    split(relay, text).map(|(_, query)| query)
}

/// What a statement asks for whose rows are wanted some at a time, if it is a read of several shards.
pub(super) fn some_of(
    relay: &Relay,
    known: &Known,
    text: &[u8],
    given: (&[u8], &Bind<'_>),
) -> Result<Request, ErrorReport> {
    let Told::Planned(statement) = together(relay, known, text)? else {
        return Err(in_pieces());
    };
    let plan = Some(statement.plan());
    let found = with_params(relay, known, plan, Some(given), |params| {
        let route = statement.route(params);
        let route = route.map_err(|refusal| worded(&refusal))?;
        request(relay, known, text, Some(given), &route, Use::Given)
    });
    found?.ok_or_else(in_pieces)
}

impl Dtx {
    /// Has one shard have all that a query reads.
    pub(super) async fn gathered(
        &mut self,
        relay: &mut Relay,
        mut request: Request,
        writes: bool,
    ) -> Result<Gathered, Fault> {
        let Work::Combined { carriers, last } = request.work.clone() else {
            return Err(in_pieces().into());
        };
        let (home, shards) = self.around(relay, &request);
        self.open(relay, &shards).await?;
        if writes {
            self.writes(relay, &shards).await?;
        }
        let mut moment = self.moment_of(relay, &request, home).await?;
        self.still_planned(relay, request.schemas)?;
        let deadlines = Deadlines::new(relay, self.began);
        let mut legs = self.pick(&shards);
        let prepared = prepare(relay, &mut legs, &mut request, &mut moment, &deadlines).await;
        let found = match prepared {
            Ok(()) => {
                let none = Bound::default();
                let bound = request.bound.as_ref().unwrap_or(&none);
                brought(
                    relay,
                    &mut legs,
                    &carriers,
                    &last,
                    bound,
                    CARRIED_MAX,
                    &deadlines,
                )
                .await
            }
            Err(end) => Err(end),
        };
        let (text, bound) = match found {
            Ok(found) => {
                self.ended(relay, legs, End::Answered).await?;
                found
            }
            Err(end) => {
                self.ended(relay, legs, told(&request, end)).await?;
                return Err(in_pieces().into());
            }
        };
        Ok(Gathered {
            home,
            request,
            text,
            bound,
        })
    }

    /// Declares a cursor on the one shard that is to have its rows.
    pub(super) async fn declare(
        &mut self,
        relay: &mut Relay,
        text: &[u8],
        request: Request,
        writes: bool,
    ) -> Result<Done, Fault> {
        let Some((before, _)) = split(relay, text) else {
            return Err(unsupported("this DECLARE cannot be read").into());
        };
        let (home, _) = self.around(relay, &request);
        self.names(relay, text, home).await?;
        let gathered = self.gathered(relay, request, writes).await?;
        let (tail, values) = gathered.form(before);
        let form = Form::Bound { tail, values };
        let mut sink = Passed::default();
        let sent = self.send(relay, &[home], &[form], &mut sink).await;
        let done = sent.map_err(|fault| gathered.reworded(fault))?;
        Ok(added(done))
    }

    /// Takes note that a text declares a cursor on this shard: no other may have one of its name.
    pub(super) async fn names(&mut self, relay: &Relay, text: &[u8], at: u16) -> Result<(), Fault> {
        if self.kind == Kind::Implicit && !self.scripted {
            return Err(outside("DECLARE CURSOR").into());
        }
        let name = cursor(text, relay.lexing).and_then(|it| it.name);
        let Some(name) = name else {
            let elsewhere = self.cursors.values().any(|shard| *shard != at);
            return match elsewhere || self.home.is_some_and(|home| home != at) {
                true => Err(unclear().into()),
                false => Ok(()),
            };
        };
        if is_ours(&name) {
            return Err(ours().into());
        }
        if self.portals.contains_key(&*name) {
            return Err(duplicate(&name).into());
        }
        let others = self
            .home
            .into_iter()
            .chain(self.cursors.get(&*name).copied());
        let others: BTreeSet<u16> = others.filter(|shard| *shard != at).collect();
        for shard in others {
            if self.has_cursor(shard, &name).await? {
                return Err(duplicate(&name).into());
            }
        }
        if self.cursors.len() >= PORTALS_MAX {
            self.forget_gone().await?;
        }
        if self.cursors.len() >= PORTALS_MAX {
            let text = "too many cursors";
            return Err(ErrorReport::error(sqlstate::CONFIGURATION_LIMIT_EXCEEDED, text).into());
        }
        self.cursors.insert(name.into(), at);
        Ok(())
    }

    /// Whether a cursor was declared by this name, and is there.
    pub(super) async fn is_cursor(&mut self, relay: &Relay, name: &[u8]) -> Result<bool, Fault> {
        // What was declared before the block came to other shards has stayed where it was at home.
        let is_known = self.had_cursors || self.cursors.contains_key(name);
        match is_known && !name.is_empty() {
            true => self.has_cursor(self.holder(relay, name), name).await,
            false => Ok(false),
        }
    }

    /// Whether a shard has a cursor of this name.
    async fn has_cursor(&mut self, shard: u16, name: &[u8]) -> Result<bool, Fault> {
        let name = literal(&String::from_utf8_lossy(name));
        let asks = format!("SELECT name FROM pg_catalog.pg_cursors WHERE name = {name}");
        Ok(!self.told_by(shard, &asks).await?.is_empty())
    }

    /// Takes note that a text has closed cursors, if it has: no ROLLBACK TO brings them back. With all of them go the
    /// portals, but for that in which it was `run`, if it was in one.
    pub(super) fn has_closed(&mut self, relay: &Relay, text: &[u8], run: Option<&[u8]>) {
        let closes =
            word::word(text, relay.lexing).is_some_and(|word| word.eq_ignore_ascii_case(b"close"));
        match cursor(text, relay.lexing).filter(|_| closes) {
            Some(Cursor {
                name: Some(name), ..
            }) => drop(self.cursors.remove(&*name)),
            Some(Cursor {
                deed: CursorDeed::CloseAll,
                ..
            }) => {
                self.cursors.clear();
                self.portals.retain(|name, _| Some(&**name) == run);
            }
            _ => {}
        }
    }

    /// Forgets the cursors that are there no more, as a ROLLBACK TO has undone what declared them.
    async fn forget_gone(&mut self) -> Result<(), Fault> {
        let shards: BTreeSet<u16> = self.cursors.values().copied().collect();
        for shard in shards {
            let asks = format!("SELECT name FROM pg_catalog.pg_cursors LIMIT {TOLD_MAX}");
            let left = self.told_by(shard, &asks).await?;
            if left.len() < TOLD_MAX {
                self.cursors
                    .retain(|name, at| *at != shard || left.contains(&**name));
            }
        }
        Ok(())
    }

    /// The names that a shard answers a question with.
    async fn told_by(&mut self, shard: u16, asks: &str) -> Result<BTreeSet<Vec<u8>>, Fault> {
        let Some(leg) = self.legs.get_mut(&shard) else {
            return Ok(BTreeSet::new());
        };
        let answer = match leg
            .run_into(asks.as_bytes(), Answer::of_rows(TOLD_MAX))
            .await
        {
            Ok(answer) => answer,
            Err(report) => {
                leg.lost = true;
                return Err(self.lost(&report.message));
            }
        };
        match answer.error {
            Some(error) => Err(error.into()),
            None => Ok(answer.rows.into_iter().flatten().flatten().collect()),
        }
    }

    /// The shards that are asked by a text that asks the session something: where the cursor is that it is about.
    pub(super) fn asked(&self, relay: &Relay, text: &[u8]) -> Result<Vec<u16>, ErrorReport> {
        let home = self.anywhere(relay);
        let elsewhere = self.cursors.values().copied();
        let elsewhere: BTreeSet<u16> = elsewhere.filter(|shard| *shard != home).collect();
        Ok(match cursor(text, relay.lexing) {
            Some(Cursor {
                deed: CursorDeed::CloseAll,
                ..
            }) => {
                let portals = self.portals.values().filter_map(Portal::shard);
                let mut shards: BTreeSet<u16> = portals.chain(elsewhere).collect();
                shards.remove(&home);
                std::iter::once(home).chain(shards).collect()
            }
            Some(Cursor {
                deed: CursorDeed::Use,
                name: Some(name),
            }) if self.portals.contains_key(&*name) => return Err(by_sql()),
            Some(Cursor {
                deed: CursorDeed::Use,
                name: Some(name),
            }) if is_ours(&name) => return Err(missing(&name)),
            Some(Cursor {
                name: Some(name), ..
            }) => vec![self.holder(relay, &name)],
            Some(_) if !elsewhere.is_empty() => return Err(unclear()),
            _ => vec![home],
        })
    }

    /// Tells what a cursor gives that was declared by SQL: it is a portal of its server's.
    pub(super) async fn describe_cursor(
        &mut self,
        relay: &mut Relay,
        name: &[u8],
    ) -> Result<(), Fault> {
        let shard = self.holder(relay, name);
        self.open(relay, &[shard]).await?;
        let mut legs = self.pick(&[shard]);
        let Some(leg) = legs.first_mut() else {
            return Err(self.lost("it is gone"));
        };
        let built = frontend::describe(leg.out.made(), Target::Portal, name);
        debug_assert!(built.is_ok(), "it came in a message");
        frontend::sync(leg.out.made());
        leg.lease.exchange.sent(Owed::DescribePortal { of: None });
        leg.lease.exchange.sent(Owed::OurSync);
        leg.lease.touched = true;
        leg.begin();
        let deadlines = Deadlines::new(relay, self.began);
        let (messages, end) = leg.hear(relay, &SAID, &deadlines).await;
        self.ended(relay, legs, end).await?;
        messages
            .iter()
            .for_each(|message| relay.down.insert(message));
        Ok(())
    }

    /// The shard of a cursor.
    pub(super) fn holder(&self, relay: &Relay, name: &[u8]) -> u16 {
        let known = self.cursors.get(name).copied();
        known.unwrap_or_else(|| self.anywhere(relay))
    }
}
