//! `COPY … FROM STDIN` into several shards: each of them has the statement as it is and its part of the data.
//!
//! Rows are told apart by the planner's [`Splitter`], and what goes to a shard waits in its connection's `out`, of which
//! there is a bound: where one shard is slow, no more is read from the client. The first error ends it. The others are
//! then told that the data is over, so that each has said what it had against what it was given, and the client is
//! told the error that one Postgres would have come to first.

mod feed;
mod lines;

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use pgherd_net::poll_write_from;
use pgherd_planner::copy::Splitter;
use pgherd_planner::{CopyIn, CopyTarget, Plan, Statement};
use pgherd_session::Owed;
use pgherd_wire::frontend;

use super::statement::{Done, added, put_simple};
use super::{Dtx, Fault};
use crate::control::Order;
use crate::server::Cancels;
use crate::session::relay::Relay;
use crate::session::shards::gather::{Deadlines, End, Next, watched};
use crate::session::shards::legs::Leg;
use crate::session::shards::names;
use crate::session::shards::plan::unsupported;
use crate::shards::Known;
use crate::upstream;
use feed::Feed;

/// How long a server may take to end a COPY, before it is cancelled and in all.
const SOON: Duration = Duration::from_secs(1);
const GRACE: Duration = Duration::from_secs(10);

/// Encodings in which a byte below 128 is never part of another character: those that a server may have. Digits are
/// part of the names, everything else but letters is not.
const PLAIN: [&str; 39] = [
    "UTF8",
    "SQLASCII",
    "LATIN1",
    "LATIN2",
    "LATIN3",
    "LATIN4",
    "LATIN5",
    "LATIN6",
    "LATIN7",
    "LATIN8",
    "LATIN9",
    "LATIN10",
    "ISO88591",
    "ISO88592",
    "ISO88593",
    "ISO88594",
    "ISO88595",
    "ISO88596",
    "ISO88597",
    "ISO88598",
    "ISO88599",
    "WIN1250",
    "WIN1251",
    "WIN1252",
    "WIN1253",
    "WIN1254",
    "WIN1255",
    "WIN1256",
    "WIN1257",
    "WIN1258",
    "WIN866",
    "WIN874",
    "KOI8R",
    "KOI8U",
    "EUCJP",
    "EUCCN",
    "EUCKR",
    "EUCTW",
    "EUCJIS2004",
];

impl Dtx {
    /// Runs a `COPY … FROM STDIN`, which is planned as one.
    pub(super) async fn copy_in(
        &mut self,
        relay: &mut Relay,
        text: &[u8],
        statement: &Statement,
        known: &Known,
    ) -> Result<Done, Fault> {
        let Plan::CopyIn(copy) = statement.plan() else {
            return Err(unsupported("this is no COPY").into());
        };
        let splitter = splitter(relay, known, statement, copy)?;
        let shards: Vec<u16> = match copy.target {
            CopyTarget::One(shard) => vec![shard.0],
            CopyTarget::ByKey { .. } | CopyTarget::All => {
                (0..).take(self.group.pools.len()).collect()
            }
        };
        self.open(relay, &shards).await?;
        self.writes(relay, &shards).await?;
        if matches!(copy.target, CopyTarget::All) {
            // As any other write to a table that is the same on all.
            let (first, others) = shards.split_at(1.min(shards.len()));
            self.alone(relay, first).await?;
            self.alone(relay, others).await?;
        }
        self.still_planned(relay, known.number())?;
        let mut legs = self.pick(&shards);
        for (at, leg) in legs.iter_mut().enumerate() {
            leg.remarks = at == 0;
        }
        for leg in &mut legs {
            // A Sync behind it would come into the data, so it is a simple query in any case.
            put_simple(relay, leg, text);
        }
        let apart = matches!(copy.target, CopyTarget::ByKey { .. });
        let mut feed = Feed::new(splitter, &copy.table, legs.len(), apart);
        let deadlines = Deadlines::new(relay, self.began);
        let end = watched(relay, &deadlines, |relay, cx| {
            feed.poll(relay, &mut legs, cx)
        })
        .await;
        feed.leave(relay);
        match end {
            End::Answered => {}
            End::Gone if relay.control.ordered() == Order::Terminate => {
                // The client is to be told at once: what is under way is cancelled, and goes with its connection.
                for leg in legs.iter_mut().filter(|leg| leg.lease.exchange.owes()) {
                    tokio::spawn(upstream::cancel(Cancels::begin(&leg.lease.about)));
                    leg.lost = true;
                }
            }
            _ => calm(&mut legs, feed.has_ended()).await,
        }
        if let Some(bye) = feed.bye.take() {
            self.put_back(legs);
            return Err(Fault::Over(bye));
        }
        let done: Vec<_> = legs.iter_mut().map(|leg| leg.done.take()).collect();
        let end = match end {
            End::Answered if !apart && done.iter().any(|other| *other != done[0]) => {
                let text = "the shards have not stored the same rows of a table that is to be the same on all of them";
                End::Stopped(Box::new(unsupported(text)))
            }
            end => end,
        };
        self.ended(relay, legs, end).await?;
        Ok(added(match apart {
            true => done,
            false => done.into_iter().take(1).collect(),
        }))
    }
}

/// What tells the rows apart, if it can in the data's encoding.
fn splitter(
    relay: &Relay,
    known: &Known,
    statement: &Statement,
    copy: &CopyIn,
) -> Result<Splitter, Fault> {
    let named = copy.encoding.as_deref().filter(|_| copy.is_text());
    let encoding = match named {
        Some(name) => names::plain(name),
        None => names::encoding(relay, known),
    };
    let foreign = encoding != names::plain(known.server_encoding());
    let is_one = matches!(copy.target, CopyTarget::One(_));
    if copy.is_text() && !is_one && !PLAIN.contains(&encoding.as_str()) {
        let text =
            format!("COPY of rows for several shards in the encoding {encoding} is not supported");
        return Err(unsupported(text).hint("SET client_encoding = UTF8.").into());
    }
    let most = relay.pool.settings().limits.max_held_message.get();
    let splitter = statement.splitter(foreign, most);
    splitter.ok_or_else(|| unsupported("this is no COPY").into())
}

/// Brings connections to where nothing is owed: a COPY that has not `ended` fails, and what takes too long is cancelled.
async fn calm(legs: &mut [Leg], ended: bool) {
    for leg in legs
        .iter_mut()
        .filter(|leg| leg.lease.exchange.owes() && !leg.lost)
    {
        if !ended {
            let built = frontend::copy_fail(leg.out.made(), b"it has failed on another shard");
            debug_assert!(built.is_ok(), "it is short");
            leg.lease.exchange.sent(Owed::CopyEnd);
            leg.sent = false;
        }
    }
    if tokio::time::timeout(SOON, poll_fn(|cx| poll_quiet(legs, cx)))
        .await
        .is_ok()
    {
        return;
    }
    let mut cancelled = Vec::new();
    for leg in legs.iter().filter(|leg| !is_quiet(leg)) {
        upstream::cancel(Cancels::begin(&leg.lease.about)).await;
        cancelled.push(leg.shard);
    }
    let quiet = tokio::time::timeout(GRACE, poll_fn(|cx| poll_quiet(legs, cx))).await;
    for leg in legs.iter_mut() {
        leg.lost |= quiet.is_err() && !is_quiet(leg);
        if cancelled.contains(&leg.shard) {
            // A cancel that has got lost may arrive at any time.
            leg.lost |= !Arc::clone(&leg.lease.about).cancels.settled().await;
        }
    }
}

fn is_quiet(leg: &Leg) -> bool {
    leg.lost || (leg.sent && !leg.lease.exchange.owes())
}

fn poll_quiet(legs: &mut [Leg], cx: &mut Context<'_>) -> Poll<()> {
    let mut quiet = true;
    for leg in legs.iter_mut().filter(|leg| !is_quiet(leg)) {
        loop {
            match poll_server(leg, cx) {
                Ok(_) => break,
                // What it says in the end is not told.
                Err(End::Failed(_)) => {}
                Err(_) => {
                    leg.lost = true;
                    break;
                }
            }
        }
        quiet &= is_quiet(leg);
    }
    match quiet {
        true => Poll::Ready(()),
        false => Poll::Pending,
    }
}

/// Sends what waits for a server, and takes what it says; true once its answer is over.
fn poll_server(leg: &mut Leg, cx: &mut Context<'_>) -> Result<bool, End> {
    if !leg.sent {
        match poll_write_from(&mut leg.lease.stream, cx, &mut leg.out) {
            Poll::Ready(Ok(())) => leg.sent = true,
            Poll::Ready(Err(error)) => return Err(leg.lost(&error.to_string())),
            Poll::Pending => {}
        }
    }
    loop {
        match leg.next()? {
            Next::Over => return Ok(true),
            Next::Row(_) => return Err(leg.broken()),
            Next::More => {
                if leg.poll_read(cx)?.is_pending() {
                    return Ok(false);
                }
            }
        }
    }
}
