//! From a request to rows that come.

use std::task::{Context, Poll};

use pgherd_planner::SortKey;
use pgherd_session::Owed;
use pgherd_wire::backend::DataRow;
use pgherd_wire::error::ErrorReport;
use pgherd_wire::{frame, frontend, sqlstate};

use super::combine::combine;
use super::dtx;
use super::gather::{self, Deadlines, End, Sink, gather};
use super::legs::Leg;
use super::merged::Merged;
use super::request::{Bound, Request, Work, put, put_describe, too_long};
use super::whole::{Taker, Whole};
use crate::session::relay::Relay;

/// What a shard says of the time: a form that is read alike under all settings.
const NOW: &[u8] = b"SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00'";

/// A row of one value is no larger.
const VALUE_MAX: usize = 4096;

/// Answers that nobody needs: they are only waited for.
pub(super) struct Through;

impl Sink for Through {
    fn columns(&mut self, _: &mut Relay, _: Option<&[u8]>) -> Result<(), End> {
        Ok(())
    }

    fn poll(
        &mut self,
        _: &mut Relay,
        legs: &mut [Leg],
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), End>> {
        let mut all = true;
        for leg in legs {
            loop {
                match leg.poll_row(0, cx) {
                    Poll::Ready(Ok(Some(total))) => {
                        leg.count();
                        leg.lease.flow.hide(total);
                    }
                    Poll::Ready(Ok(None)) => break,
                    Poll::Ready(Err(end)) => return Poll::Ready(Err(end)),
                    Poll::Pending => {
                        all = false;
                        break;
                    }
                }
            }
        }
        match all {
            true => Poll::Ready(Ok(())),
            false => Poll::Pending,
        }
    }
}

/// Has the legs begin with what is asked, and answers which of them, from the first, give the rows, and how. The
/// moment is that of the transaction, once it was asked for.
pub(super) async fn start(
    relay: &mut Relay,
    legs: &mut [Leg],
    request: &mut Request,
    moment: &mut Option<Vec<u8>>,
    deadlines: &Deadlines,
) -> Result<(Merged, usize), End> {
    let mut written = None;
    if let (Some(copied), Some(home)) = (&request.copied, legs.first_mut()) {
        home.lease.touched = true;
        let bound = request.bound.as_ref();
        written = Some(copied.writer(relay, home, bound, deadlines).await?);
    }
    prepare(relay, legs, request, moment, deadlines).await?;
    let mut merged = match &request.work {
        Work::Combined { carriers, last } => {
            let none = Bound::default();
            let bound = request.bound.as_ref().unwrap_or(&none);
            match request.carries {
                Some(most) => {
                    dtx::combine(relay, legs, carriers, last, bound, most, deadlines).await?;
                }
                None => combine(relay, legs, carriers, last, bound, deadlines).await?,
            }
            let mut merged = Merged::computed();
            merged.written = written;
            return Ok((merged, 1));
        }
        Work::Concat => Merged::new(&[], 0, None, 0, legs.len()),
        Work::Merged {
            keys,
            hidden,
            limit,
            offset,
        } => Merged::new(keys, *hidden, *limit, *offset, legs.len()),
    };
    merged.written = written;
    match &request.bound {
        None => gather::put(relay, legs, &request.text),
        Some(bound) => {
            let results = match &request.work {
                Work::Merged { hidden, keys, .. } if *hidden > 0 && bound.results.len() > 1 => {
                    are_fitting(bound.results.len(), keys, *hidden)?;
                    let hidden = std::iter::repeat_n(0, *hidden);
                    bound.results.iter().copied().chain(hidden).collect()
                }
                _ => bound.results.clone(),
            };
            for leg in legs.iter_mut() {
                put(leg, &request.text, bound, &results, true)
                    .map_err(|error| End::Stopped(too_long(error)))?;
                leg.begin();
            }
        }
    }
    Ok((merged, legs.len()))
}

/// Completes what is asked for by what only a server knows, and has the legs take note of it.
pub(super) async fn prepare(
    relay: &mut Relay,
    legs: &mut [Leg],
    request: &mut Request,
    moment: &mut Option<Vec<u8>>,
    deadlines: &Deadlines,
) -> Result<(), End> {
    if let Some(home) = legs.first_mut() {
        home.lease.touched = true;
        if request.is_untyped() {
            let types = request.types().to_vec();
            describe(relay, home, &request.original, &types, deadlines).await?;
            if let Some(described) = &home.parameters {
                request.typed(&described[frame::HEADER_LEN..]);
            }
        }
        if let Some(number) = request.moment {
            let time = match moment {
                Some(time) => time.clone(),
                None => moment.insert(now(relay, home, deadlines).await?).clone(),
            };
            let given = request.at(number, &time);
            given.map_err(|report| End::Stopped(Box::new(report)))?;
        }
    }
    let original = &request.original;
    let judgement = relay.judge(original);
    for leg in legs.iter_mut() {
        leg.note(relay, &judgement, original);
    }
    Ok(())
}

/// Whether there are as many formats as columns, where others stand behind those of the client.
fn are_fitting(formats: usize, keys: &[SortKey], hidden: usize) -> Result<(), End> {
    let last = keys.iter().map(|key| key.column).max();
    let columns = last.and_then(|last| (last + 1).checked_sub(hidden));
    let Some(columns) = columns.filter(|it| *it != formats) else {
        return Ok(());
    };
    let text = format!("bind message has {formats} result formats but query has {columns} columns");
    let report = ErrorReport::error(sqlstate::PROTOCOL_VIOLATION, text);
    Err(End::Stopped(Box::new(report)))
}

/// The time of a shard.
async fn now(relay: &mut Relay, home: &mut Leg, deadlines: &Deadlines) -> Result<Vec<u8>, End> {
    let built = frontend::query(home.out.made(), NOW);
    built.map_err(|error| End::Stopped(too_long(error)))?;
    home.lease.exchange.sent(Owed::Query);
    home.begin();
    let mut told = Whole::of(One::up_to(VALUE_MAX));
    match gather(relay, std::slice::from_mut(home), &mut told, deadlines).await {
        End::Answered => told.taker.value.ok_or_else(|| {
            let text = "a shard did not tell the time";
            let report = ErrorReport::error(sqlstate::INTERNAL_ERROR, text);
            End::Stopped(Box::new(report))
        }),
        end => Err(end),
    }
}

/// An answer of one value.
pub(super) struct One {
    /// The value; nothing if it is NULL, or has not come.
    pub(super) value: Option<Vec<u8>>,
    most: usize,
}

impl One {
    /// One whose row has no more bytes.
    pub(super) fn up_to(most: usize) -> Self {
        Self { value: None, most }
    }
}

impl Taker for One {
    fn expects(&mut self, total: usize) -> Result<bool, End> {
        Ok(total <= self.most)
    }

    fn take(&mut self, row: &[u8]) -> Result<bool, End> {
        let row = DataRow::parse(row);
        let value = row.ok().and_then(|row| row.values().next().flatten());
        self.value = value.map(<[u8]>::to_vec);
        Ok(true)
    }
}

/// Has a server describe a statement; what it says is then the leg's.
pub(super) async fn describe(
    relay: &mut Relay,
    home: &mut Leg,
    text: &[u8],
    types: &[u32],
    deadlines: &Deadlines,
) -> Result<(), End> {
    put_describe(home, text, types).map_err(|error| End::Stopped(too_long(error)))?;
    let home = std::slice::from_mut(home);
    match gather(relay, home, &mut Through, deadlines).await {
        End::Answered => Ok(()),
        end => Err(end),
    }
}
