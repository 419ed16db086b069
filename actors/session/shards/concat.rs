//! The legs' rows one behind the other, passed on as they come.

use std::task::{Context, Poll};

use pgherd_wire::backend::tag;

use super::gather::{End, Next, Sink, poll_to_client};
use super::legs::Leg;
use crate::session::relay::Relay;

/// A larger row is passed on in pieces; of a smaller one, the client gets all or nothing.
const PIECES: usize = 256 * 1024;

/// Rows of one leg after the other, in the legs' order.
#[derive(Debug, Default)]
pub(super) struct Concat {
    /// The leg whose rows are passed on.
    at: usize,
    /// How many rows there were.
    pub(super) rows: u64,
}

impl Sink for Concat {
    fn columns(&mut self, relay: &mut Relay, columns: Option<&[u8]>) -> Result<(), End> {
        if let Some(columns) = columns {
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
            self.at += 1;
        }
        Poll::Ready(Ok(()))
    }
}

impl Concat {
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
                    Next::Row(total)
                        if total > PIECES || leg.lease.flow.unjudged().len() >= total =>
                    {
                        leg.count();
                        self.rows += u64::from(is_row(leg));
                        leg.lease.flow.pass(total);
                    }
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

fn is_row(leg: &Leg) -> bool {
    leg.lease.flow.unjudged().first() == Some(&tag::DATA_ROW)
}
