//! Queries that read several shards and whose answer is not theirs one behind the other: sorted, cut off, combined or
//! joined, by the connections of the transaction, so that its own writes are seen.

use pgherd_planner::{Route, Statement};
use pgherd_session::{Flow, Reach};
use pgherd_wire::error::{ErrorReport, Field};
use pgherd_wire::frame;
use pgherd_wire::frontend::Bind;

use super::statement::Done;
use super::{Dtx, Fault, Kind, carry};
use crate::judgement;
use crate::session::relay::Relay;
use crate::session::shards::copied::Copied;
use crate::session::shards::gather::{Deadlines, End, gather};
use crate::session::shards::legs::Leg;
use crate::session::shards::merged::Merged;
use crate::session::shards::names;
use crate::session::shards::pipeline::told::{Prepared, check};
use crate::session::shards::plan::{is_read, parts, several, with_params};
use crate::session::shards::request::{Bound, CARRIED_MAX, Request, Work};
use crate::session::shards::start::{Through, start};
use crate::session::shards::verify::{self, Check, Digest, Digested};
use crate::session::shards::whole::Whole;
use crate::shards::Known;

/// What becomes of the rows that a text asks for.
#[derive(Clone, Copy)]
pub(super) enum Use<'u> {
    /// The client gets them.
    Given,
    /// It gets them as those of a `COPY`.
    Copied(&'u Copied),
    /// A cursor has them, whose query this is.
    Held(&'u [u8]),
}

/// What a route asks for, if it is such a query.
pub(super) fn request(
    relay: &Relay,
    known: &Known,
    text: &[u8],
    given: Option<(&[u8], &Bind<'_>)>,
    route: &Route<'_>,
    what: Use<'_>,
) -> Result<Option<Request>, ErrorReport> {
    let asked = match route {
        Route::At { route, .. } => route,
        route => route,
    };
    if !matches!(asked, Route::Merge { .. } | Route::Pull { .. }) {
        return Ok(None);
    }
    let bound = given.map(|(tail, bind)| Bound::of(parts(tail).1, bind));
    // A text that names a moment is read only once, and what is copied when it runs.
    let is_one = |query: &[u8]| {
        let shared = given.is_none() || judgement::reach(query, relay.lexing) == Reach::Shared;
        shared && is_read(relay, query)
    };
    let (reads, copied) = match what {
        Use::Given => (is_one(text), None),
        Use::Held(query) => (is_one(query), None),
        Use::Copied(copied) => {
            copied.fits(relay, known)?;
            (true, Some(copied.clone()))
        }
    };
    let request = Request::of(route, text, bound, known.number());
    let foreign = names::is_foreign(relay, known);
    let fits = |request: &Request| request.is_ordered(foreign);
    match request {
        Some(request) if reads && fits(&request) => Ok(Some(Request {
            carries: Some(CARRIED_MAX),
            ..request.copying(copied)
        })),
        Some(request) => Err(several(request.shards.len())),
        None => Ok(None),
    }
}

/// What a query asks for whose answer is to be verified, wherever it goes, and how that is done; or why it cannot be.
/// What may run anywhere does so on the shard that is `home`, if there is one.
pub(super) fn checked(
    relay: &Relay,
    known: &Known,
    text: &[u8],
    given: Option<(&[u8], &Bind<'_>)>,
    statement: &Statement,
    home: Option<u16>,
) -> Result<(Request, Check), String> {
    with_params(relay, known, Some(statement.plan()), given, |params| {
        let route = statement.route(params);
        let route = verify::widened(route.map_err(|refusal| refusal.to_string())?);
        let request = match request(relay, known, text, given, &route, Use::Given) {
            Ok(Some(request)) => request,
            Ok(None) => {
                let bound = given.map(|(tail, bind)| Bound::of(parts(tail).1, bind));
                let request = Request::of(&route, text, bound, known.number());
                let request = request.ok_or("it reads no rows of the shards")?;
                Request {
                    carries: Some(CARRIED_MAX),
                    ..request
                }
            }
            Err(report) => return Err(report.message),
        };
        let check = verify::check(relay, known, text, given, &request)?;
        let elsewhere = home.is_some_and(|home| request.shards != [home]);
        if elsewhere && request.moment.is_none() && check.request.moment.is_some() {
            return Err("its time is that of the block on its own shard".to_owned());
        }
        Ok((request, check))
    })
}

impl Dtx {
    /// Answers such a query, and verifies the answer if there is something to do so by.
    pub(super) async fn read(
        &mut self,
        relay: &mut Relay,
        mut request: Request,
        given: Option<(&[u8], &Bind<'_>)>,
        writes: bool,
        shows: bool,
        how: Option<Check>,
    ) -> Result<Done, Fault> {
        let before = Before::of(self, relay);
        let (home, shards) = self.around(relay, &request);
        self.open(relay, &shards).await?;
        if writes {
            self.writes(relay, &shards).await?;
        }
        let mut moment = self.moment_of(relay, &request, home).await?;
        let plain = match &how {
            Some(how) => match self.plain(relay, how, &mut moment, home).await {
                Ok(plain) => Some(plain),
                Err(fault) => {
                    self.go_without(relay, before, fault).await?;
                    self.open(relay, &shards).await?;
                    moment = self.moment_of(relay, &request, home).await?;
                    None
                }
            },
            None => None,
        };
        self.still_planned(relay, request.schemas)?;
        let deadlines = Deadlines::new(relay, self.began);
        let mut legs = self.pick(&shards);
        let named = given.and_then(|(tail, bind)| named(relay, tail, bind.statement));
        // A COPY is described as one without columns.
        let named = named.filter(|_| request.copied.is_none());
        let mut answered = Ok(());
        if let Some(name) = named {
            let prepared = Prepared::of(&name, &request);
            answered = check(relay, &mut legs, &prepared, &deadlines).await;
        }
        let answered = match answered {
            Ok(()) => {
                let (request, moment) = (&mut request, &mut moment);
                let started = start(relay, &mut legs, request, moment, &deadlines).await;
                match started {
                    Ok((mut merged, count)) => {
                        merged.announces = shows;
                        merged.digest = how
                            .as_ref()
                            .map(|how| (Digest::default(), how.keys.clone().into()));
                        if let Some(first) = legs.first_mut() {
                            first.acks = std::mem::take(&mut self.owes);
                        }
                        answer(relay, &mut legs, merged, count, &deadlines).await
                    }
                    Err(end) => Err(end),
                }
            }
            Err(end) => Err(end),
        };
        let (end, merged) = match answered {
            Ok(merged) => (End::Answered, Some(merged)),
            Err(end) => (told(&request, end), None),
        };
        self.ended(relay, legs, end).await?;
        let (mut rows, mut digest, mut command) = (0, None, "SELECT");
        if let Some(mut merged) = merged {
            command = merged.end(relay);
            (rows, digest) = (merged.rows, merged.digest);
        }
        if let (Some(how), Some(plain), Some((digest, _))) = (how, plain, digest) {
            self.compare(relay, &how, plain, &digest, &mut moment, home)
                .await?;
        }
        let done = format!("{command} {rows}");
        Ok(Done::Complete(done.into_bytes().into()))
    }
}

impl Dtx {
    /// The shard where what has to be is combined, and all that a query concerns, that one first if it does so.
    pub(super) fn around(&self, relay: &Relay, request: &Request) -> (u16, Vec<u16>) {
        let mut shards = request.shards.clone();
        let home = self.home.or_else(|| shards.first().copied());
        let home = home.unwrap_or_else(|| self.anywhere(relay));
        let combines = matches!(request.work, Work::Combined { .. });
        if combines || shards.is_empty() {
            shards.retain(|shard| *shard != home);
            shards.insert(0, home);
        }
        (home, shards)
    }

    /// The time of the transaction, if a query names it.
    pub(super) async fn moment_of(
        &mut self,
        relay: &mut Relay,
        request: &Request,
        home: u16,
    ) -> Result<Option<Vec<u8>>, Fault> {
        Ok(match request.moment {
            Some(_) => Some(self.now(relay, Some(home)).await?),
            None => None,
        })
    }

    /// The plain answer cannot be had, as where the client may not read all columns of a table. If nothing is lost by
    /// that, what was done for it is taken back, so that the query can be answered unverified.
    async fn go_without(
        &mut self,
        relay: &mut Relay,
        before: Before,
        fault: Fault,
    ) -> Result<(), Fault> {
        let Fault::Said(message) = &fault else {
            return Err(fault);
        };
        let said = ErrorReport::parse(message.get(frame::HEADER_LEN..).unwrap_or_default());
        // Who ends a query, or a server, does not mean the plain way alone.
        if !before.is_idle || said.code.to_string().starts_with("57") {
            return Err(fault);
        }
        verify::unverified(relay, &said.message);
        let portals = std::mem::take(&mut self.portals);
        let unchecked = std::mem::take(&mut self.unchecked);
        let fresh = std::mem::take(&mut self.fresh);
        let (opening, still, began) = (self.opening.clone(), self.still, self.began);
        self.roll_back(relay).await;
        (self.portals, self.unchecked, self.fresh) = (portals, unchecked, fresh);
        (self.opening, self.still, self.began) = (opening, still, began);
        self.owes = before.owes;
        Ok(())
    }

    /// The digest of the answer that all rows give on one server.
    async fn plain(
        &mut self,
        relay: &mut Relay,
        check: &Check,
        moment: &mut Option<Vec<u8>>,
        home: u16,
    ) -> Result<Digest, Fault> {
        let mut request = check.request.clone();
        let mut shards = request.shards.clone();
        shards.retain(|shard| *shard != home);
        shards.insert(0, home);
        self.open(relay, &shards).await?;
        let deadlines = Deadlines::new(relay, self.began);
        let mut legs = self.pick(&shards);
        let mut sink = Whole::of(Digested {
            digest: Digest::default(),
            keys: &check.keys,
        });
        let end = match start(relay, &mut legs, &mut request, moment, &deadlines).await {
            Ok((_, count)) => gather(relay, &mut legs[..count], &mut sink, &deadlines).await,
            Err(end) => end,
        };
        let end = match told(&request, end) {
            End::Stopped(report) if report.hint.is_none() => {
                let hint =
                    "It was to be verified: SET pgherd.verify = off answers it without that.";
                End::Stopped(Box::new(report.hint(hint)))
            }
            end => end,
        };
        self.ended(relay, legs, end).await?;
        Ok(sink.taker.digest)
    }

    /// Compares an answer with the plain one. Where each statement has a snapshot of its own, others may have written
    /// between both, so it is looked once more.
    async fn compare(
        &mut self,
        relay: &mut Relay,
        check: &Check,
        mut plain: Digest,
        given: &Digest,
        moment: &mut Option<Vec<u8>>,
        home: u16,
    ) -> Result<(), Fault> {
        if plain != *given && !self.still {
            plain = self.plain(relay, check, moment, home).await?;
        }
        if plain == *given {
            return Ok(());
        }
        match check.differ(relay, &plain, given) {
            Some(report) => Err(report.into()),
            None => Ok(()),
        }
    }
}

/// How a transaction was before a query.
#[derive(Clone, Copy)]
struct Before {
    /// Nothing was done in it that would be lost with it.
    is_idle: bool,
    /// The client was owed a BindComplete.
    owes: bool,
}

impl Before {
    fn of(dtx: &Dtx, relay: &Relay) -> Self {
        let spread = relay.spread.as_deref();
        let sets = spread.is_none_or(|spread| !spread.journal.is_empty());
        let is_free = dtx.kind == Kind::Implicit && !dtx.scripted && !sets;
        Self {
            is_idle: is_free && !dtx.may_have_written() && !dtx.has_suspended(),
            owes: dtx.owes,
        }
    }
}

/// The name of what was bound, if the client has not prepared something else by it since.
pub(super) fn named(relay: &Relay, tail: &[u8], name: &[u8]) -> Option<Box<[u8]>> {
    let held = relay.statements.as_deref()?.get(name)?;
    (*held.statement.tail == *tail).then(|| name.into())
}

/// Gives the client the rows.
async fn answer(
    relay: &mut Relay,
    legs: &mut [Leg],
    mut merged: Merged,
    count: usize,
    deadlines: &Deadlines,
) -> Result<Merged, End> {
    match gather(relay, &mut legs[..count], &mut merged, deadlines).await {
        End::Answered => {}
        end => return Err(end),
    }
    // What is behind a LIMIT, of which there is no more than that; to cancel it would fail the block.
    match gather(relay, &mut legs[..count], &mut Through, deadlines).await {
        End::Answered => {}
        end => return Err(end),
    }
    for leg in legs {
        leg.lease.flow.hand_over(&mut Flow::default());
    }
    Ok(merged)
}

/// How the client is told of an end. What a server says of places in a text that is not the client's is left out.
pub(super) fn told(request: &Request, end: End) -> End {
    let keyed = match &request.work {
        Work::Combined { carriers, .. } => carriers.iter().any(|carrier| carrier.keyed),
        Work::Concat | Work::Merged { .. } => false,
    };
    let end = request.told(end);
    match if keyed { carry::reworded(end) } else { end } {
        End::Failed(message) => End::Failed(unplaced(&message)),
        end => end,
    }
}

/// An error without what it says of a place in the text.
pub(super) fn unplaced(message: &[u8]) -> Box<[u8]> {
    let mut report = ErrorReport::parse(message.get(frame::HEADER_LEN..).unwrap_or_default());
    report.others.retain(|(field, _)| *field != Field::Position);
    let mut said = bytes::BytesMut::new();
    report.encode_error(&mut said);
    said[..].into()
}
