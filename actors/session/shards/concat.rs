//! The legs' rows one behind the other, passed on as they come.

use std::task::{Context, Poll};

use pgherd_wire::backend::{self, tag};
use pgherd_wire::frame;

use super::framing::{self, Framing};
use super::gather::{End, Next, Sink, poll_to_client};
use super::legs::Leg;
use super::scatter;
use crate::session::relay::Relay;

/// A larger row is passed on in pieces; of a smaller one, the client gets all or nothing.
const PIECES: usize = 256 * 1024;

/// Rows of one leg after the other, in the legs' order.
#[derive(Debug, Default)]
pub(super) struct Concat {
    /// The leg whose rows are passed on.
    at: usize,
    /// How many rows there were.
    rows: u64,
    /// The client was told of the columns, or that there are none.
    told: bool,
    /// They are data of a COPY.
    copies: bool,
    /// How these are framed.
    framing: Framing,
    /// What the binary format begins with, up to the first row.
    head: Vec<u8>,
    /// Some of the present leg's have gone on.
    begun: bool,
}

impl Concat {
    /// Rows that are framed so, if they are of a COPY.
    pub(super) fn framed(framing: Framing) -> Self {
        Self {
            framing,
            ..Self::default()
        }
    }

    /// Whether anything of the answer went to the client.
    pub(super) fn is_told(&self) -> bool {
        self.told
    }

    /// Ends the answer: what the legs' commands have counted is added up.
    pub(super) fn complete(&mut self, relay: &mut Relay, legs: &[Leg]) {
        if !self.copies {
            return scatter::complete(relay, "SELECT", self.rows);
        }
        self.end_copy(relay);
        let count = |leg: &Leg| -> Option<u64> {
            let done = std::str::from_utf8(leg.done.as_deref()?).ok()?;
            done.rsplit(' ').next()?.parse().ok()
        };
        scatter::complete(relay, "COPY", legs.iter().filter_map(count).sum());
    }

    /// Ends the data of a COPY, if it is one.
    pub(super) fn end_copy(&mut self, relay: &mut Relay) {
        if !self.copies {
            return;
        }
        let out = relay.down.made();
        if self.framing == Framing::Binary {
            let last = [&std::mem::take(&mut self.head)[..], framing::TRAILER].concat();
            let built = backend::copy_data(out, &last);
            debug_assert!(built.is_ok(), "it is short");
        }
        backend::copy_done(out);
    }
}

impl Sink for Concat {
    fn columns(&mut self, relay: &mut Relay, columns: Option<&[u8]>) -> Result<(), End> {
        self.told = true;
        if let Some(columns) = columns {
            self.copies = columns.first() == Some(&tag::COPY_OUT_RESPONSE);
            if self.copies && columns.get(frame::HEADER_LEN) == Some(&1) {
                self.framing = Framing::Binary;
            }
            relay.down.insert(columns);
        }
        Ok(())
    }

    fn poll(
        &mut self,
        relay: &mut Relay,
        legs: &mut [Leg],
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), End>> {
        while let Some(leg) = legs.get_mut(self.at) {
            leg.passes = true;
            match self.poll_leg(relay, leg, cx) {
                Poll::Ready(Ok(())) => {}
                other => return other,
            }
            leg.passes = false;
            self.begun = false;
            self.at += 1;
        }
        Poll::Ready(Ok(()))
    }
}

impl Concat {
    fn may_go_on(&self, total: usize, leg: &Leg) -> bool {
        let here = leg.lease.flow.unjudged().len();
        // Where the first row stands behind what the format begins with, that is looked into.
        let looks = self.copies && !self.begun && self.framing == Framing::Binary;
        let least = if looks { framing::LEAST } else { 0 };
        here >= total || total > PIECES && here >= least
    }

    fn pass(&mut self, leg: &mut Leg, total: usize) -> Result<(), End> {
        leg.count();
        if !self.copies {
            self.rows += 1;
            leg.lease.flow.pass(total);
            return Ok(());
        }
        if std::mem::replace(&mut self.begun, true) {
            framing::go_on(leg, self.framing, total);
            return Ok(());
        }
        let first = self.at == 0;
        framing::begin(leg, self.framing, total, first, &mut self.head)
    }

    fn poll_leg(
        &mut self,
        relay: &mut Relay,
        leg: &mut Leg,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), End>> {
        loop {
            // As much as is here goes in one write.
            let over = loop {
                match leg.next()? {
                    Next::Row(total) if self.may_go_on(total, leg) => self.pass(leg, total)?,
                    Next::Over => break true,
                    _ => break false,
                }
            };
            match poll_to_client(relay, &mut leg.lease.flow, cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Err(End::Gone)),
                Poll::Pending => return Poll::Pending,
            }
            if over {
                return Poll::Ready(Ok(()));
            }
            if leg.poll_read(cx)?.is_pending() {
                return Poll::Pending;
            }
        }
    }
}
