//! The data of a COPY on its way from the client to the shards.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use pgherd_net::poll_read_into;
use pgherd_planner::copy::{Lines, Parts, Splitter, Stop, To};
use pgherd_session::{Flow, Owed};
use pgherd_wire::error::{ErrorReport, Field};
use pgherd_wire::frame::{self, Start};
use pgherd_wire::frontend::{self, tag};
use tokio::time::Sleep;

use super::super::violation;
use super::lines::{Map, reworded, spoken};
use super::poll_server;
use crate::session::Bye;
use crate::session::relay::Relay;
use crate::session::requests::is_held;
use crate::session::shards::gather::{End, poll_presence, poll_to_client};
use crate::session::shards::legs::Leg;
use crate::session::shards::plan::worded;

/// How much is read from the client at once.
const READ: usize = 64 * 1024;
/// If more waits for one server, no more is read from the client.
const AHEAD: usize = 256 * 1024;
/// How long the other servers have to say what they have against the rows before one that was refused.
const SETTLE: Duration = Duration::from_secs(5);

/// How far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The servers have the statement.
    Asked,
    /// They wait for data.
    Feeding,
    /// There is no more.
    Ending,
}

/// What a server has said.
struct Said {
    line: Option<u64>,
    shard: usize,
    message: Box<[u8]>,
}

/// A COPY.
pub(super) struct Feed {
    splitter: Splitter,
    table: String,
    /// Each server has rows of its own.
    apart: bool,
    stage: Stage,
    /// How much of the client's message is still to come.
    rest: usize,
    /// For each server, the lines that it has and the message that is being written.
    maps: Vec<Map>,
    open: Vec<Option<Start>>,
    /// How many lines have become rows.
    lines: u64,
    errors: Vec<Said>,
    stop: Option<Stop>,
    /// The client has called its COPY off.
    failed: bool,
    settle: Option<Pin<Box<Sleep>>>,
    /// How the session ends, if it does.
    pub(super) bye: Option<Bye>,
}

impl Feed {
    pub(super) fn new(splitter: Splitter, table: &str, servers: usize, apart: bool) -> Self {
        Self {
            splitter,
            table: table.to_owned(),
            apart,
            stage: Stage::Asked,
            rest: 0,
            maps: (0..servers).map(|_| Map::default()).collect(),
            open: (0..servers).map(|_| None).collect(),
            lines: 0,
            errors: Vec::new(),
            stop: None,
            failed: false,
            settle: None,
            bye: None,
        }
    }

    /// Whether the servers have been told that there is no more.
    pub(super) fn has_ended(&self) -> bool {
        self.stage == Stage::Ending
    }

    /// Leaves out what is still to come of the client's message.
    pub(super) fn leave(&mut self, relay: &mut Relay) {
        let rest = std::mem::take(&mut self.rest);
        if rest > 0 {
            relay.up.hide(rest);
        }
    }

    pub(super) fn poll(
        &mut self,
        relay: &mut Relay,
        legs: &mut [Leg],
        cx: &mut Context<'_>,
    ) -> Poll<End> {
        loop {
            if let Err(end) = self.poll_servers(legs, cx) {
                return Poll::Ready(end);
            }
            for leg in legs.iter_mut().filter(|leg| leg.lease.flow.backlog() > 0) {
                leg.lease.flow.hand_over(&mut relay.down);
            }
            if let Poll::Ready(Err(_)) = poll_to_client(relay, &mut Flow::default(), cx) {
                return Poll::Ready(End::Gone);
            }
            let went_on = match self.stage {
                Stage::Asked => self.begin(relay, legs),
                Stage::Feeding => match self.feed(relay, legs, cx) {
                    Ok(went_on) => went_on,
                    Err(end) => return Poll::Ready(end),
                },
                Stage::Ending => {
                    let quiet = |leg: &Leg| leg.sent && !leg.lease.exchange.owes();
                    let late = self.settle.as_mut();
                    let late = late.is_some_and(|timer| timer.as_mut().poll(cx).is_ready());
                    if late || legs.iter().all(quiet) {
                        return Poll::Ready(self.verdict(legs));
                    }
                    false
                }
            };
            if !went_on {
                let gone = self.stage != Stage::Feeding || is_ahead(legs);
                return match gone && poll_presence(relay, cx).is_ready() {
                    true => Poll::Ready(End::Gone),
                    false => Poll::Pending,
                };
            }
        }
    }

    fn poll_servers(&mut self, legs: &mut [Leg], cx: &mut Context<'_>) -> Result<(), End> {
        for (shard, leg) in legs.iter_mut().enumerate() {
            loop {
                match poll_server(leg, cx) {
                    Ok(_) => break,
                    Err(End::Failed(message)) => {
                        let line = self.line_of(shard, &message);
                        self.errors.push(Said {
                            line,
                            shard,
                            message,
                        });
                    }
                    Err(end) => return Err(end),
                }
            }
        }
        Ok(())
    }

    /// The line of the whole that an error is about.
    fn line_of(&self, shard: usize, message: &[u8]) -> Option<u64> {
        let line = spoken(message, &self.table)?;
        match (self.apart, self.failed) {
            (false, _) => Some(line),
            (true, true) if self.maps[shard].is_last(line) => Some(self.lines + 1),
            (true, _) => self.maps[shard].of(line, self.lines),
        }
    }

    /// Tells the client that it may begin, once all servers have said so.
    fn begin(&mut self, relay: &mut Relay, legs: &mut [Leg]) -> bool {
        if !self.errors.is_empty() {
            self.end(legs);
            return true;
        }
        let Some(columns) = legs.first().and_then(|leg| leg.columns.clone()) else {
            return false;
        };
        if legs.iter().any(|leg| leg.columns.is_none()) {
            return false;
        }
        relay.down.insert(&columns);
        self.stage = Stage::Feeding;
        true
    }

    /// Takes data from the client; whether there was anything to do.
    fn feed(
        &mut self,
        relay: &mut Relay,
        legs: &mut [Leg],
        cx: &mut Context<'_>,
    ) -> Result<bool, End> {
        if !self.errors.is_empty() {
            self.end(legs);
            return Ok(true);
        }
        if is_ahead(legs) {
            return Ok(false);
        }
        if self.take(relay, legs)? {
            return Ok(true);
        }
        match poll_read_into(&mut relay.client, cx, &mut relay.up.buffer, READ) {
            Poll::Ready(Ok(0) | Err(_)) => Err(End::Gone),
            Poll::Ready(Ok(count)) => {
                relay.pool.stats.received_from_client(count);
                Ok(true)
            }
            Poll::Pending => Ok(false),
        }
    }

    /// Takes the messages that are here, up to where enough waits for a server; whether there were any.
    fn take(&mut self, relay: &mut Relay, legs: &mut [Leg]) -> Result<bool, End> {
        let mut any = false;
        while self.stage == Stage::Feeding && !is_ahead(legs) {
            let here = relay.up.unjudged();
            if self.rest > 0 {
                let count = self.rest.min(here.len());
                if count == 0 {
                    break;
                }
                let fed = self.split(legs, |splitter, parts| splitter.feed(&here[..count], parts));
                relay.up.hide(count);
                self.rest -= count;
                if let Err(stop) = fed {
                    self.stop = Some(stop);
                    self.end(legs);
                }
            } else {
                let header = frame::header(here);
                let header = header.map_err(|error| self.over(violation(error.to_string())))?;
                let Some(header) = header else { break };
                if header.tag == tag::COPY_DATA {
                    relay.up.hide(frame::HEADER_LEN);
                    self.rest = header.total() - frame::HEADER_LEN;
                } else if !self.message(relay, legs, header.tag, header.total())? {
                    break;
                }
            }
            any = true;
        }
        self.close(legs);
        Ok(any)
    }

    /// Takes a message other than data; whether it is here as a whole.
    fn message(
        &mut self,
        relay: &mut Relay,
        legs: &mut [Leg],
        kind: u8,
        total: usize,
    ) -> Result<bool, End> {
        let known = matches!(
            kind,
            tag::COPY_DONE | tag::COPY_FAIL | tag::FLUSH | tag::SYNC | tag::TERMINATE
        );
        if !known || !is_held(relay, total) {
            let text = format!("unexpected message type 0x{kind:02X} during COPY from stdin");
            return Err(self.over(violation(text)));
        }
        let Some(message) = relay.up.unjudged().get(..total) else {
            return Ok(false);
        };
        match kind {
            tag::COPY_DONE => {
                if let Err(stop) = self.split(legs, |splitter, parts| splitter.finish(parts)) {
                    self.stop = Some(stop);
                }
                self.end(legs);
            }
            tag::COPY_FAIL => {
                self.close(legs);
                self.failed = true;
                self.stage = Stage::Ending;
                for leg in legs.iter_mut() {
                    leg.out.insert(message);
                    leg.lease.exchange.sent(Owed::CopyEnd);
                    leg.sent = false;
                }
            }
            tag::TERMINATE => return Err(self.over(Bye::Left)),
            // A server does not heed them in a COPY, either.
            _ => {}
        }
        relay.up.hide(total);
        Ok(true)
    }

    fn over(&mut self, bye: Bye) -> End {
        self.bye = Some(bye);
        End::Gone
    }

    /// Has the splitter read.
    fn split<T>(
        &mut self,
        legs: &mut [Leg],
        read: impl FnOnce(&mut Splitter, &mut Sheaf<'_>) -> T,
    ) -> T {
        let mut sheaf = Sheaf {
            legs,
            maps: &mut self.maps,
            open: &mut self.open,
            lines: &mut self.lines,
            apart: self.apart,
        };
        read(&mut self.splitter, &mut sheaf)
    }

    /// Ends the messages that are being written.
    fn close(&mut self, legs: &mut [Leg]) {
        for (leg, open) in legs.iter_mut().zip(&mut self.open) {
            if let Some(start) = open.take() {
                let built = start.finish(leg.out.made());
                debug_assert!(built.is_ok(), "no more was here");
                leg.sent = false;
            }
        }
    }

    /// Tells the servers that there is no more.
    fn end(&mut self, legs: &mut [Leg]) {
        self.close(legs);
        self.stage = Stage::Ending;
        for leg in legs.iter_mut().filter(|leg| leg.lease.exchange.owes()) {
            frontend::copy_done(leg.out.made());
            leg.lease.exchange.sent(Owed::CopyEnd);
            leg.sent = false;
        }
        if self.stop.is_some() || !self.errors.is_empty() {
            self.settle = Some(Box::pin(tokio::time::sleep(SETTLE)));
        }
    }

    /// How it has ended: with what one server with all rows would have come to first.
    fn verdict(&mut self, legs: &[Leg]) -> End {
        let at = self.lines + 1;
        let errors = std::mem::take(&mut self.errors).into_iter();
        let first = errors.min_by_key(|said| said.line.unwrap_or(u64::MAX));
        let before = |line: Option<u64>| line.is_some_and(|line| line < at);
        match (first, self.stop.take()) {
            (None, None) => End::Answered,
            (Some(said), Some(Stop::Refused(refusal))) if !before(said.line) => {
                self.refused(&worded(&refusal), at)
            }
            (Some(said), _) => {
                let name = legs
                    .get(said.shard)
                    .map(|leg| &*leg.lease.about.upstream.name);
                let name = name.unwrap_or_default();
                let message = reworded(&said.message, &self.table, said.line, name);
                End::Failed(message)
            }
            (None, Some(Stop::Refused(refusal) | Stop::Doubt(refusal))) => {
                self.refused(&worded(&refusal), at)
            }
        }
    }

    fn refused(&self, report: &ErrorReport, line: u64) -> End {
        let mut report = report.clone();
        let context = format!("COPY {}, line {line}", self.table);
        report.others.push((Field::Where, context));
        End::Stopped(Box::new(report))
    }
}

fn is_ahead(legs: &[Leg]) -> bool {
    legs.iter().any(|leg| leg.out.backlog() > AHEAD)
}

/// The connections, as what takes the parts of the data.
struct Sheaf<'a> {
    legs: &'a mut [Leg],
    maps: &'a mut [Map],
    open: &'a mut [Option<Start>],
    lines: &'a mut u64,
    apart: bool,
}

impl Sheaf<'_> {
    fn servers(&self, to: To) -> std::ops::Range<usize> {
        match to {
            To::All => 0..self.legs.len(),
            // Where rows are told apart, every shard has a connection.
            To::One(shard) => usize::from(shard.0)..usize::from(shard.0) + 1,
        }
    }
}

impl Parts for Sheaf<'_> {
    fn bytes(&mut self, to: To, bytes: &[u8]) {
        for at in self.servers(to) {
            let (Some(leg), Some(open)) = (self.legs.get_mut(at), self.open.get_mut(at)) else {
                continue;
            };
            let out = leg.out.made();
            open.get_or_insert_with(|| frame::begin(out, tag::COPY_DATA));
            out.extend_from_slice(bytes);
        }
    }

    fn row(&mut self, to: To, lines: Lines) {
        let own = if *self.lines == 0 {
            lines.first
        } else {
            lines.usual
        };
        *self.lines += u64::from(own);
        if self.apart {
            for at in self.servers(to) {
                if let Some(map) = self.maps.get_mut(at) {
                    map.row(*self.lines, lines);
                }
            }
        }
    }
}
