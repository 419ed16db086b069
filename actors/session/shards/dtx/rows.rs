//! What becomes of the rows of a statement.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use pgherd_wire::backend::tag;
use pgherd_wire::error::ErrorReport;
use pgherd_wire::sqlstate;

use crate::session::relay::Relay;
use crate::session::shards::concat::Concat;
use crate::session::shards::gather::{End, Next, Sink, alike};
use crate::session::shards::legs::Leg;

/// Rows that have to be put in order take no more than this.
const BYTES_MAX: usize = 16 * 1024 * 1024;

/// Rows that are passed on as they come. The columns are told only where that was asked for, or where they are those of a
/// `COPY`.
#[derive(Debug, Default)]
pub(super) struct Passed {
    pub(super) shows: bool,
    pub(super) rows: Concat,
}

impl Passed {
    /// Such rows, whose columns are told or not.
    pub(super) fn showing(shows: bool) -> Self {
        Self {
            shows,
            ..Self::default()
        }
    }
}

impl Sink for Passed {
    fn columns(&mut self, relay: &mut Relay, columns: Option<&[u8]>) -> Result<(), End> {
        let copies = columns.and_then(<[u8]>::first) == Some(&tag::COPY_OUT_RESPONSE);
        match self.shows || copies {
            true => self.rows.columns(relay, columns),
            false => Ok(()),
        }
    }

    fn poll(
        &mut self,
        relay: &mut Relay,
        legs: &mut [Leg],
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), End>> {
        self.rows.poll(relay, legs, cx)
    }
}

/// Rows that are kept, those of each leg by themselves.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) shows: bool,
    pub(super) rows: Vec<VecDeque<Box<[u8]>>>,
    pub(super) bytes: usize,
    /// They come behind those of another shard.
    pub(super) behind: Option<Behind>,
}

/// Rows that come behind others, whose columns have to be the same.
#[derive(Debug)]
pub(super) struct Behind {
    pub(super) first: u16,
    pub(super) columns: Option<Box<[u8]>>,
    pub(super) shard: u16,
}

impl Sink for Kept {
    fn columns(&mut self, relay: &mut Relay, columns: Option<&[u8]>) -> Result<(), End> {
        if let Some(behind) = &self.behind {
            let first = (behind.first, behind.columns.as_deref());
            return alike(relay, first, (behind.shard, columns));
        }
        if let Some(columns) = columns.filter(|_| self.shows) {
            relay.down.insert(columns);
        }
        Ok(())
    }

    fn poll(
        &mut self,
        _relay: &mut Relay,
        legs: &mut [Leg],
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), End>> {
        self.rows.resize_with(legs.len(), VecDeque::new);
        let mut over = true;
        for (leg, rows) in legs.iter_mut().zip(&mut self.rows) {
            loop {
                match leg.next()? {
                    Next::Row(total) if leg.lease.flow.unjudged().len() >= total => {
                        leg.count();
                        rows.push_back(leg.lease.flow.unjudged()[..total].into());
                        leg.lease.flow.hide(total);
                        self.bytes += total;
                        if self.bytes > BYTES_MAX {
                            return Poll::Ready(Err(too_much()));
                        }
                    }
                    Next::Over => break,
                    Next::Row(total) if total > BYTES_MAX => return Poll::Ready(Err(too_much())),
                    Next::Row(_) | Next::More => {
                        if leg.poll_read(cx)?.is_pending() {
                            over = false;
                            break;
                        }
                    }
                }
            }
        }
        match over {
            true => Poll::Ready(Ok(())),
            false => Poll::Pending,
        }
    }
}

impl Kept {
    /// The rows in the order of the statement's own: `places` are those of each leg's.
    pub(super) fn in_order(mut self, places: &[Vec<usize>]) -> Vec<Box<[u8]>> {
        let whole = self
            .rows
            .iter()
            .zip(places)
            .all(|(rows, places)| rows.len() == places.len());
        if !whole {
            // Some rows give nothing, and nobody can tell which.
            return self.rows.into_iter().flatten().collect();
        }
        let mut order: Vec<(usize, usize)> = Vec::new();
        for (leg, places) in places.iter().enumerate() {
            order.extend(places.iter().map(|place| (*place, leg)));
        }
        order.sort_unstable();
        let next = order
            .into_iter()
            .filter_map(|(_, leg)| self.rows[leg].pop_front());
        next.collect()
    }
}

fn too_much() -> End {
    let text = "the rows that a write to several shards returns take too much memory";
    let report = ErrorReport::error(sqlstate::PROGRAM_LIMIT_EXCEEDED, text);
    End::Stopped(Box::new(report))
}

#[cfg(test)]
mod tests {
    use super::Kept;

    fn kept(rows: &[&[u8]]) -> Kept {
        let row = |byte: &u8| Box::from([*byte]);
        let rows = rows.iter().map(|rows| rows.iter().map(row).collect());
        Kept {
            rows: rows.collect(),
            ..Kept::default()
        }
    }

    #[test]
    fn rows_come_in_the_order_of_the_statement() {
        let places = [vec![1, 2], vec![0, 3]];
        let ordered = kept(&[b"bc", b"ad"]).in_order(&places).concat();
        assert_eq!(ordered, b"abcd");
        let fewer = kept(&[b"c", b"ad"]).in_order(&places).concat();
        assert_eq!(fewer, b"cad");
    }
}
