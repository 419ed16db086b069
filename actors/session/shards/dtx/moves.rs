//! UPDATE of a key whose new value belongs to another shard: the rows are taken from theirs, and stored there. What is
//! stored was computed where they were; it is kept here meanwhile, within a bound.

use pgherd_planner::{CHANGED, Moved};
use pgherd_wire::error::{ErrorReport, Field};
use pgherd_wire::frontend::Bind;
use pgherd_wire::{frame, sqlstate};

use super::carry::Filled;
use super::legs::sent;
use super::rows::Passed;
use super::statement::{Done, Planned, outdated};
use super::way::Moving;
use super::{Dtx, Fault};
use crate::session::relay::Relay;
use crate::session::shards::combine::{self, Limits};
use crate::session::shards::gather::{Deadlines, End, gather};
use crate::session::shards::legs::Leg;
use crate::session::shards::plan::{parts, unsupported};
use crate::session::shards::request::{Bound, CARRIED_MAX, put, too_long};
use crate::session::shards::start::One;
use crate::session::shards::whole::{Taker, Whole};

/// An objection is no longer.
const SAID_MAX: usize = 4096;

impl Dtx {
    /// Moves rows to the shard of their new key.
    pub(super) async fn moves(
        &mut self,
        relay: &mut Relay,
        moving: &Moving,
        given: Option<(&[u8], &Bind<'_>)>,
        now: Option<(u32, Vec<u8>)>,
        shows: bool,
        planned: &Planned,
    ) -> Result<Done, Fault> {
        let Moving { from, to, how } = moving;
        let texts = [&how.whole, &how.delete, &how.columns, &how.store];
        if combine::is_foreign(relay) && !texts.iter().all(|text| text.is_ascii()) {
            let text = "characters beyond ASCII are of a session in the servers' encoding where a row moves to another shard";
            return Err(unsupported(text).into());
        }
        let bound = given.map(|(tail, bind)| Bound::of(parts(tail).1, bind));
        let mut bound = bound.unwrap_or_default();
        let results = std::mem::take(&mut bound.results);
        let shards = [*from, *to];
        self.open(relay, &shards).await?;
        self.writes(relay, &shards).await?;
        self.holds(relay, &shards, planned).await?;
        let deadlines = Deadlines::new(relay, self.began);
        let asked = (*from, how.whole.as_str(), now);
        self.foretell(relay, asked, &mut bound, &deadlines).await?;
        // That may have waited for somebody who changes the table.
        self.still_planned(relay, planned.schemas)?;
        let taking = Taking {
            how,
            deadlines: &deadlines,
        };
        let mut legs = self.pick(&[*from]);
        let taken = match legs.first_mut() {
            Some(home) => taking.take(relay, home, &bound).await,
            None => return Err(self.lost("it is gone")),
        };
        let (end, taken) = match taken {
            Ok(taken) => (End::Answered, Some(taken)),
            Err(end) => (end, None),
        };
        self.ended(relay, legs, end).await?;
        let Some(taken) = taken else {
            return Err(self.lost("it has given no rows"));
        };
        bound.results = results;
        let stored = taken.before(&how.store, &bound);
        let count = self
            .stores(relay, moving, stored, shows, &deadlines)
            .await?;
        if count != Some(taken.rows) {
            let text = "not all rows that were to move were stored on their new shard";
            return Err(ErrorReport::error(sqlstate::INTERNAL_ERROR, text).into());
        }
        let tag = format!("UPDATE {}", taken.rows);
        Ok(Done::Complete(tag.into_bytes().into()))
    }

    /// Stores what was taken, gives the client what the UPDATE gives, and answers how many rows there are.
    async fn stores(
        &mut self,
        relay: &mut Relay,
        moving: &Moving,
        (text, bound): (String, Bound),
        shows: bool,
        deadlines: &Deadlines,
    ) -> Result<Option<usize>, Fault> {
        let mut legs = self.pick(&[moving.to]);
        let Some(leg) = legs.first_mut() else {
            return Err(self.lost("it is gone"));
        };
        sent(relay, leg, moving.how.whole.as_bytes());
        leg.acks = std::mem::take(&mut self.owes);
        let built = put(leg, text.as_bytes(), &bound, &bound.results, true);
        leg.begin();
        let mut sink = Passed {
            shows,
            ..Passed::default()
        };
        let end = match built {
            Ok(()) => gather(relay, &mut legs, &mut sink, deadlines).await,
            Err(error) => long(error),
        };
        let done = legs.first_mut().and_then(|leg| leg.done.take());
        self.ended(relay, legs, reworded(end)).await?;
        let done = done.and_then(|tag| String::from_utf8(tag.into()).ok());
        Ok(done.and_then(|tag| tag.strip_prefix("INSERT 0 ")?.parse().ok()))
    }
}

/// Rows are taken from their shard.
struct Taking<'a> {
    how: &'a Moved,
    deadlines: &'a Deadlines,
}

impl Taking<'_> {
    /// Has a server give the rows, and have them no more.
    async fn take(&self, relay: &mut Relay, home: &mut Leg, bound: &Bound) -> Result<Filled, End> {
        let how = self.how;
        self.objected(relay, home).await?;
        let columns = Filled::of(relay, home, &how.columns, bound, self.deadlines).await;
        let mut taken = columns.map_err(reworded)?;
        let fitting = bound.fitting(how.delete.as_bytes());
        let formats = taken.formats();
        sent(relay, home, how.whole.as_bytes());
        put(home, how.delete.as_bytes(), &fitting, &formats, true).map_err(long)?;
        home.begin();
        let mut rows = Whole::of(Rows {
            limits: Limits::up_to(relay, CARRIED_MAX),
            taken: &mut taken,
        });
        let legs = std::slice::from_mut(home);
        ended(gather(relay, legs, &mut rows, self.deadlines).await).map_err(reworded)?;
        home.lease.flow.hand_over(&mut relay.down);
        Ok(taken)
    }

    /// Asks whether anything of the table would heed that a row is not changed, but taken and stored. The table is locked
    /// by what was foretold of the UPDATE, and stays as it is.
    async fn objected(&self, relay: &mut Relay, home: &mut Leg) -> Result<(), End> {
        let text = self.how.objection.as_bytes();
        put(home, text, &Bound::default(), &[], true).map_err(long)?;
        home.begin();
        let mut why = Whole::of(One::up_to(SAID_MAX));
        let home = std::slice::from_mut(home);
        ended(gather(relay, home, &mut why, self.deadlines).await)?;
        match why.taker.value {
            None => Ok(()),
            Some(why) if why == CHANGED.as_bytes() => Err(End::Stopped(Box::new(outdated(relay)))),
            Some(why) => {
                let why = String::from_utf8_lossy(&why);
                Err(End::Stopped(Box::new(unmoved(&why))))
            }
        }
    }
}

/// What is said of a row that may not move.
fn unmoved(why: &str) -> ErrorReport {
    let text = format!("SET: a row does not move to the shard of its new key, as {why}");
    unsupported(text).hint("Insert the row by its new key, and delete the old one.")
}

fn long(error: frame::TooLong) -> End {
    End::Stopped(too_long(error))
}

fn ended(end: End) -> Result<(), End> {
    match end {
        End::Answered => Ok(()),
        end => Err(end),
    }
}

/// How the client is told of an end. The UPDATE takes fewer rights than what is done for it, which is not what it has
/// said; and what is said of places is said of a text of ours.
fn reworded(end: End) -> End {
    let End::Failed(message) = end else {
        return end;
    };
    let mut report = ErrorReport::parse(message.get(frame::HEADER_LEN..).unwrap_or_default());
    report.others.retain(|(field, _)| *field != Field::Position);
    match report.code {
        sqlstate::INSUFFICIENT_PRIVILEGE => {
            let why = "it takes the rights to SELECT, INSERT and DELETE";
            End::Stopped(Box::new(unmoved(why).detail(report.message)))
        }
        sqlstate::READ_ONLY_SQL_TRANSACTION => {
            report.message = report.message.replace("DELETE", "UPDATE");
            End::Failed(encoded(&report))
        }
        _ => End::Failed(encoded(&report)),
    }
}

fn encoded(report: &ErrorReport) -> Box<[u8]> {
    let mut said = bytes::BytesMut::new();
    report.encode_error(&mut said);
    said[..].into()
}

/// Rows on their way into what is taken.
struct Rows<'a> {
    taken: &'a mut Filled,
    limits: Limits,
}

impl Taker for Rows<'_> {
    fn expects(&mut self, total: usize) -> Result<bool, End> {
        self.limits.count(total).map(|()| true)
    }

    fn take(&mut self, row: &[u8]) -> Result<bool, End> {
        Ok(self.taken.add(row))
    }
}
