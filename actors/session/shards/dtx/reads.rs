//! Queries that read several shards and whose answer is not theirs one behind the other: sorted, cut off, combined or
//! joined, by the connections of the transaction, so that its own writes are seen.

use pgherd_planner::Route;
use pgherd_session::{Flow, Reach};
use pgherd_wire::error::{ErrorReport, Field};
use pgherd_wire::frame;
use pgherd_wire::frontend::Bind;

use super::statement::Done;
use super::{Dtx, Fault, carry};
use crate::judgement;
use crate::session::relay::Relay;
use crate::session::shards::gather::{Deadlines, End, gather};
use crate::session::shards::legs::Leg;
use crate::session::shards::merged::Merged;
use crate::session::shards::names;
use crate::session::shards::pipeline::told::check;
use crate::session::shards::plan::{is_read, parts, several};
use crate::session::shards::request::{Bound, Request, Work};
use crate::session::shards::start::{Through, start};
use crate::shards::Known;

/// What a route asks for, if it is such a query.
pub(super) fn request(
    relay: &Relay,
    known: &Known,
    text: &[u8],
    given: Option<(&[u8], &Bind<'_>)>,
    route: &Route<'_>,
) -> Result<Option<Request>, ErrorReport> {
    let asked = match route {
        Route::At { route, .. } => route,
        route => route,
    };
    if !matches!(asked, Route::Merge { .. } | Route::Pull { .. }) {
        return Ok(None);
    }
    let bound = given.map(|(tail, bind)| Bound::of(parts(tail).1, bind));
    // A text that names a moment is read only once.
    let shared = given.is_none() || judgement::reach(text, relay.lexing) == Reach::Shared;
    let request = Request::of(route, text, bound, known.number());
    let foreign = names::is_foreign(relay, known);
    let fits = |request: &Request| request.is_ordered(foreign);
    match request {
        Some(request) if shared && is_read(relay, text) && fits(&request) => Ok(Some(Request {
            in_block: true,
            ..request
        })),
        Some(request) => Err(several(request.shards.len())),
        None => Ok(None),
    }
}

impl Dtx {
    /// Answers such a query.
    pub(super) async fn read(
        &mut self,
        relay: &mut Relay,
        mut request: Request,
        given: Option<(&[u8], &Bind<'_>)>,
        writes: bool,
        shows: bool,
    ) -> Result<Done, Fault> {
        let mut shards = request.shards.clone();
        let first = shards.first().copied();
        let home = self.home.or(first);
        let home = home.unwrap_or_else(|| self.anywhere(relay));
        let combines = matches!(request.work, Work::Combined { .. });
        if combines || shards.is_empty() {
            shards.retain(|shard| *shard != home);
            shards.insert(0, home);
        }
        self.open(relay, &shards).await?;
        if writes {
            self.writes(relay, &shards).await?;
        }
        let mut moment = match request.moment {
            Some(_) => Some(self.now(relay, Some(home)).await?),
            None => None,
        };
        let deadlines = Deadlines::new(relay, self.began);
        let mut legs = self.pick(&shards);
        let named = given.and_then(|(tail, bind)| named(relay, tail, bind.statement));
        let mut answered = Ok(());
        if let Some(name) = named {
            answered = check(relay, &mut legs, &name, &request, &deadlines).await;
        }
        let answered = match answered {
            Ok(()) => {
                let (request, moment) = (&mut request, &mut moment);
                let started = start(relay, &mut legs, request, moment, &deadlines).await;
                match started {
                    Ok((mut merged, count)) => {
                        merged.announces = shows;
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
        let (end, rows) = match answered {
            Ok(rows) => (End::Answered, rows),
            Err(end) => (told(&request, end), 0),
        };
        self.ended(relay, legs, end).await?;
        Ok(Done::Complete(format!("SELECT {rows}").into_bytes().into()))
    }
}

/// The name of what was bound, if the client has not prepared something else by it since.
fn named(relay: &Relay, tail: &[u8], name: &[u8]) -> Option<Box<[u8]>> {
    let held = relay.statements.as_deref()?.get(name)?;
    (*held.statement.tail == *tail).then(|| name.into())
}

/// Gives the client the rows, and tells how many there were.
async fn answer(
    relay: &mut Relay,
    legs: &mut [Leg],
    mut merged: Merged,
    count: usize,
    deadlines: &Deadlines,
) -> Result<u64, End> {
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
    Ok(merged.rows)
}

/// How the client is told of an end. What a server says of places in a text that is not the client's is left out.
fn told(request: &Request, end: End) -> End {
    let keyed = match &request.work {
        Work::Combined { carriers, .. } => carriers.iter().any(|carrier| carrier.keyed),
        Work::Concat | Work::Merged { .. } => false,
    };
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
