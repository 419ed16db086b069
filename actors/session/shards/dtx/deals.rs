//! `INSERT … SELECT` whose rows belong to other shards than they come from: they are read as the rows of any query, all
//! of them and within a bound, before any is stored; then each shard is given its own. So are the primary keys of rows
//! that are to be changed, and found by rows of other shards: these are locked first, and found again.

use std::collections::{BTreeMap, HashSet};

use pgherd_planner::{Deal, Params, Route, Statement};
use pgherd_session::Flow;
use pgherd_wire::error::ErrorReport;
use pgherd_wire::frontend::Bind;
use pgherd_wire::{frame, sqlstate};

use super::carry::Filled;
use super::legs::sent;
use super::rows::Kept;
use super::statement::{Done, Planned, added, outdated};
use super::way::{Dealing, Timed, Way};
use super::{Dtx, Fault, reads};
use crate::session::relay::Relay;
use crate::session::shards::combine::{self, Limits};
use crate::session::shards::gather::{Deadlines, End, gather};
use crate::session::shards::legs::Leg;
use crate::session::shards::names;
use crate::session::shards::plan::{parts, unsupported, worded};
use crate::session::shards::request::{Bound, CARRIED_MAX, Request, Work, put, too_long};
use crate::session::shards::start::start;
use crate::session::shards::whole::{Taker, Whole};
use crate::shards::Known;

/// How often rows are found anew that others change meanwhile.
const ROUNDS: usize = 5;

/// What one shard gives, as what several may; nothing where they do already. What may run anywhere runs on the shard
/// `home`.
pub(super) fn widened(route: &Route<'_>, home: u16) -> Option<Route<'static>> {
    let shard = match route {
        Route::One(shard) => *shard,
        Route::Any => pgherd_planner::placement::Shard(home),
        _ => return None,
    };
    Some(Route::Concat {
        shards: [shard].into(),
        writes: false,
    })
}

/// What a route reads and stores, if it does so.
pub(super) fn found(
    relay: &Relay,
    known: &Known,
    given: Option<(&[u8], &Bind<'_>)>,
    route: &Route<'_>,
    home: Option<u16>,
) -> Result<Option<Timed>, ErrorReport> {
    let (route, moment) = match route {
        Route::At {
            text,
            parameter,
            route,
        } => (&**route, Some(((*text).to_owned(), *parameter))),
        route => (route, None),
    };
    let Route::Deal { source, deal } = route else {
        return Ok(None);
    };
    let at = || relay.spread.as_deref().map_or(0, |spread| spread.at);
    let own = widened(source, home.unwrap_or_else(at));
    let source = own.as_ref().unwrap_or(&**source);
    let bound = given.map(|(tail, bind)| Bound::of(parts(tail).1, bind));
    let request = Request::of(source, deal.select.as_bytes(), bound, known.number());
    let foreign = names::is_foreign(relay, known);
    let is_legible = |it: &Request| it.is_legible(foreign) && (!foreign || deal.store.is_ascii());
    let Some(request) = request.filter(is_legible) else {
        let text = "rows of this query are not stored on other shards in another encoding than the servers'";
        return Err(unsupported(text));
    };
    let dealing = Dealing {
        request: Request {
            carries: Some(CARRIED_MAX),
            ..request
        },
        how: (*deal).clone(),
    };
    Ok(Some((Way::Deal(Box::new(dealing)), moment)))
}

impl Dtx {
    /// Reads rows, and stores each on the shard of its key.
    pub(super) async fn deals(
        &mut self,
        relay: &mut Relay,
        dealing: Dealing,
        statement: &Statement,
        now: Option<(u32, Vec<u8>)>,
        shows: bool,
        planned: &Planned,
    ) -> Result<Done, Fault> {
        let Dealing { mut request, how } = dealing;
        let mut shards = request.shards.clone();
        let combines = matches!(request.work, Work::Combined { .. });
        let home = self.home.or_else(|| shards.first().copied());
        let home = home.unwrap_or_else(|| self.anywhere(relay));
        if combines || shards.is_empty() {
            shards.retain(|shard| *shard != home);
            shards.insert(0, home);
        }
        self.open(relay, &shards).await?;
        if shards.len() > 1 && statement.writes_by_replicated() {
            self.unmoved(relay, &shards).await?;
        }
        self.holds(relay, &shards, planned).await?;
        if how.draws {
            self.writes(relay, &shards).await?;
        }
        let deadlines = Deadlines::new(relay, self.began);
        let mut bound = request.bound.take().unwrap_or_default();
        let results = std::mem::take(&mut bound.results);
        let first = shards.first().copied().unwrap_or(home);
        let asked = (first, how.whole.as_str(), now);
        self.foretell(relay, asked, &mut bound, &deadlines).await?;
        let reading = Reading {
            statement,
            how: &how,
            deadlines: &deadlines,
        };
        let mut read = self
            .read_rows(relay, &reading, &shards, &mut request, &bound)
            .await?;
        if let Some(lock) = &how.lock {
            let asked = (&reading, shards.as_slice(), &mut request, &bound);
            read = self.holding(relay, lock, read, asked).await?;
        }
        let Read { mut hands, like } = read;
        if hands.is_empty() {
            // Somebody must say what columns there are, and that nothing was stored.
            hands.insert(home, Hand::of(&like));
        }
        bound.results = results;
        let shards: Vec<u16> = hands.keys().copied().collect();
        self.open(relay, &shards).await?;
        self.writes(relay, &shards).await?;
        self.still_planned(relay, request.schemas)?;
        self.given(relay, &how, (hands, &bound), shows, &deadlines)
            .await
    }

    /// Reads all rows that there are now.
    async fn read_rows(
        &mut self,
        relay: &mut Relay,
        reading: &Reading<'_>,
        shards: &[u16],
        request: &mut Request,
        bound: &Bound,
    ) -> Result<Read, Fault> {
        let mut legs = self.pick(shards);
        let (end, read) = match reading.read(relay, &mut legs, request, bound).await {
            Ok(read) => (End::Answered, Some(read)),
            Err(end) => (end, None),
        };
        self.ended(relay, legs, end).await?;
        read.ok_or_else(|| self.lost("it has given no rows"))
    }

    /// Locks what was read, and reads again until nothing is read that was not locked before.
    async fn holding(
        &mut self,
        relay: &mut Relay,
        lock: &str,
        mut read: Read,
        (reading, shards, request, bound): (&Reading<'_>, &[u16], &mut Request, &Bound),
    ) -> Result<Read, Fault> {
        let mut held: HashSet<Box<[u8]>> = HashSet::new();
        for _ in 0..ROUNDS {
            let mut keys = read.hands.values().flat_map(|hand| &hand.keys);
            if keys.all(|key| held.contains(key)) {
                return Ok(read);
            }
            let places: Vec<u16> = read.hands.keys().copied().collect();
            self.open(relay, &places).await?;
            self.writes(relay, &places).await?;
            let mut legs = self.pick(&places);
            let mut built = Ok(());
            for (leg, hand) in legs.iter_mut().zip(read.hands.values()) {
                let (text, bound) = hand.rows.before(lock, bound);
                let formats = read.like.formats();
                built = built.and_then(|()| put(leg, text.as_bytes(), &bound, &formats, true));
                leg.begin();
            }
            let asked = read.hands.values().flat_map(|hand| &hand.keys);
            let mut locked = Whole::of(Locked {
                asked: asked.map(|key| &**key).collect(),
                held: &mut held,
            });
            let end = match built {
                Ok(()) => gather(relay, &mut legs, &mut locked, reading.deadlines).await,
                Err(error) => End::Stopped(too_long(error)),
            };
            self.ended(relay, legs, rights(end)).await?;
            read = self
                .read_rows(relay, reading, shards, request, bound)
                .await?;
        }
        let text = "others change the rows again and again that this statement changes";
        let report = ErrorReport::error(sqlstate::SERIALIZATION_FAILURE, text);
        Err(report.hint("Try it again.").into())
    }

    /// Gives each shard the rows that are its own, and the client what they give, in the order in which they were read.
    async fn given(
        &mut self,
        relay: &mut Relay,
        how: &Deal,
        (hands, bound): (BTreeMap<u16, Hand>, &Bound),
        shows: bool,
        deadlines: &Deadlines,
    ) -> Result<Done, Fault> {
        let shards: Vec<u16> = hands.keys().copied().collect();
        let mut legs = self.pick(&shards);
        let mut built = Ok(());
        for (leg, hand) in legs.iter_mut().zip(hands.values()) {
            sent(relay, leg, how.whole.as_bytes());
            leg.acks = std::mem::take(&mut self.owes);
            let (text, bound) = hand.rows.before(&how.store, bound);
            built = built.and_then(|()| put(leg, text.as_bytes(), &bound, &bound.results, true));
            leg.begin();
        }
        let mut sink = Kept {
            shows,
            ..Kept::default()
        };
        let end = match built {
            Ok(()) => gather(relay, &mut legs, &mut sink, deadlines).await,
            Err(error) => End::Stopped(too_long(error)),
        };
        let done = legs.iter_mut().map(|leg| leg.done.take()).collect();
        let end = match end {
            End::Failed(message) => End::Failed(reads::unplaced(&message)),
            end => end,
        };
        self.ended(relay, legs, end).await?;
        let places: Vec<Vec<usize>> = hands.into_values().map(|hand| hand.places).collect();
        for row in sink.in_order(&places) {
            relay.down.insert(&row);
        }
        Ok(added(done))
    }
}

/// What is said where rows cannot be found or locked that may be changed.
fn rights(end: End) -> End {
    let End::Failed(message) = end else {
        return end;
    };
    let mut report = ErrorReport::parse(message.get(frame::HEADER_LEN..).unwrap_or_default());
    match report.code {
        sqlstate::INSUFFICIENT_PRIVILEGE => {
            let text = "rows that are found by rows of other shards are changed by who may SELECT and UPDATE them, too";
            End::Stopped(Box::new(unsupported(text).detail(report.message)))
        }
        sqlstate::READ_ONLY_SQL_TRANSACTION => {
            // What locks them is not what the client has said.
            let text = report.message.replace("SELECT FOR NO KEY UPDATE", "UPDATE");
            report.message = text.replace("SELECT FOR UPDATE", "DELETE");
            let mut said = bytes::BytesMut::new();
            report.encode_error(&mut said);
            End::Failed(reads::unplaced(&said))
        }
        _ => End::Failed(reads::unplaced(&message)),
    }
}

/// What was read.
struct Read {
    hands: BTreeMap<u16, Hand>,
    /// What has the columns.
    like: Filled,
}

/// What is given to one shard.
struct Hand {
    rows: Filled,
    /// Which of all rows they are.
    places: Vec<usize>,
    /// They themselves, if they are to be locked.
    keys: Vec<Box<[u8]>>,
}

impl Hand {
    /// An empty one.
    fn of(like: &Filled) -> Self {
        Self {
            rows: like.clone(),
            places: Vec::new(),
            keys: Vec::new(),
        }
    }
}

/// Rows are read that are to be dealt out.
struct Reading<'a> {
    statement: &'a Statement,
    how: &'a Deal,
    deadlines: &'a Deadlines,
}

impl Reading<'_> {
    /// Reads all rows.
    async fn read(
        &self,
        relay: &mut Relay,
        legs: &mut [Leg],
        request: &mut Request,
        bound: &Bound,
    ) -> Result<Read, End> {
        let read = self.rows(relay, legs, request, bound).await;
        let read = read.map_err(|end| reads::told(request, end));
        match self.how.lock {
            Some(_) => read.map_err(rights),
            None => read,
        }
    }

    async fn rows(
        &self,
        relay: &mut Relay,
        legs: &mut [Leg],
        request: &mut Request,
        bound: &Bound,
    ) -> Result<Read, End> {
        let (how, deadlines) = (self.how, self.deadlines);
        let Some(home) = legs.first_mut() else {
            return Err(End::Answered);
        };
        let like = Filled::of(relay, home, &how.select, bound, deadlines).await?;
        if like.width() != how.width {
            // A star stands for more now, and what it gives would be left out.
            return Err(End::Stopped(Box::new(outdated(relay))));
        }
        let mut fitting = bound.fitting(how.select.as_bytes());
        fitting.results = like.formats();
        request.bound = Some(fitting);
        let mut moment = None;
        let (_, count) = start(relay, legs, request, &mut moment, deadlines).await?;
        let legs = legs.get_mut(..count).unwrap_or_default();
        let mut rows = Whole::of(Rows {
            reading: self,
            like: &like,
            hands: BTreeMap::new(),
            count: 0,
            foreign: combine::is_foreign(relay),
            limits: Limits::up_to(relay, CARRIED_MAX),
        });
        match gather(relay, legs, &mut rows, deadlines).await {
            End::Answered => {}
            end => return Err(end),
        }
        let hands = rows.taker.hands;
        for leg in legs {
            leg.lease.flow.hand_over(&mut Flow::default());
        }
        Ok(Read { hands, like })
    }
}

/// Keys of rows as they are locked. Those that are not given are not: somebody has deleted them before, and there may be
/// others by then.
struct Locked<'a> {
    asked: HashSet<&'a [u8]>,
    held: &'a mut HashSet<Box<[u8]>>,
}

impl Taker for Locked<'_> {
    fn take(&mut self, row: &[u8]) -> Result<bool, End> {
        // It may be written otherwise by now, and is locked as that in the next round.
        if self.asked.contains(row) {
            self.held.insert(row.into());
        }
        Ok(true)
    }
}

/// Rows on their way to who is to store them.
struct Rows<'a> {
    reading: &'a Reading<'a>,
    like: &'a Filled,
    hands: BTreeMap<u16, Hand>,
    count: usize,
    foreign: bool,
    limits: Limits,
}

impl Taker for Rows<'_> {
    fn expects(&mut self, total: usize) -> Result<bool, End> {
        self.limits.count(total).map(|()| true)
    }

    fn take(&mut self, row: &[u8]) -> Result<bool, End> {
        let Reading { statement, how, .. } = self.reading;
        let Some(values) = self.like.values(row, &how.places) else {
            return Ok(false);
        };
        let key = Params {
            values: &values,
            foreign_encoding: self.foreign,
        };
        let shard = statement
            .shard_of(how, &key)
            .map_err(|refusal| End::Stopped(Box::new(worded(&refusal))))?;
        let hand = self.hands.entry(shard.0);
        let hand = hand.or_insert_with(|| Hand::of(self.like));
        hand.places.push(self.count);
        self.count += 1;
        if how.lock.is_some() {
            hand.keys.push(row.into());
        }
        Ok(hand.rows.add(row))
    }
}
