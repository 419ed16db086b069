//! Rows that stay here: each is taken as soon as it has come as a whole.

use std::task::{Context, Poll};

use pgherd_wire::frame;

use super::gather::{End, Sink};
use super::legs::Leg;
use crate::session::relay::Relay;

/// A larger row does not stay here.
pub(super) const ROW_MAX: usize = 64 * 1024 * 1024;

/// What takes rows, or data of a COPY.
pub(super) trait Taker: Send {
    /// Takes the description of the columns, as [`Sink::columns`] does.
    fn columns(&mut self, _columns: Option<&[u8]>) {}

    /// Whether a message of so many bytes may be of what was asked for; asked before all of it is here.
    ///
    /// # Errors
    /// It is too much.
    fn expects(&mut self, total: usize) -> Result<bool, End> {
        Ok(total <= ROW_MAX)
    }

    /// Takes the body of a message; false if it is none of those that were asked for.
    ///
    /// # Errors
    /// What the client is told instead of an answer.
    fn take(&mut self, body: &[u8]) -> Result<bool, End>;
}

/// Has the rows of all legs taken, those of each in their order, and passes nothing on.
#[derive(Debug)]
pub(super) struct Whole<T> {
    pub(super) taker: T,
    /// Of which legs all is taken.
    over: Vec<bool>,
}

impl<T: Taker> Whole<T> {
    pub(super) fn of(taker: T) -> Self {
        Self {
            taker,
            over: Vec::new(),
        }
    }

    /// Takes what is there of a leg; whether that was all.
    fn take_all(&mut self, leg: &mut Leg, cx: &mut Context<'_>) -> Result<bool, End> {
        loop {
            let total = match leg.poll_row(ROW_MAX, cx)? {
                Poll::Ready(Some(total)) => total,
                Poll::Ready(None) => return Ok(true),
                Poll::Pending => return Ok(false),
            };
            let is_taken = self.taker.expects(total)? && {
                let body = leg.lease.flow.unjudged().get(frame::HEADER_LEN..total);
                body.map_or(Ok(false), |body| self.taker.take(body))?
            };
            if !is_taken {
                return Err(leg.broken());
            }
            leg.count();
            leg.lease.flow.hide(total);
        }
    }
}

impl<T: Taker> Sink for Whole<T> {
    fn columns(&mut self, _: &mut Relay, columns: Option<&[u8]>) -> Result<(), End> {
        self.taker.columns(columns);
        Ok(())
    }

    fn poll(
        &mut self,
        _: &mut Relay,
        legs: &mut [Leg],
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), End>> {
        self.over.resize(legs.len(), false);
        for (at, leg) in legs.iter_mut().enumerate() {
            if !self.over[at] {
                self.over[at] = self.take_all(leg, cx)?;
            }
        }
        match self.over.iter().all(|over| *over) {
            true => Poll::Ready(Ok(())),
            false => Poll::Pending,
        }
    }
}
