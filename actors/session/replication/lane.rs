//! One direction: what was read from one socket and waits to be written to the other.

use std::io;
use std::task::{Context, Poll};

use pgherd_net::{Stream, poll_read_into, poll_write_from};
use pgherd_session::Flow;

/// The most that is read at once.
const READ_MAX: usize = 64 * 1024;
/// With more than this waiting to be written nothing is read.
const BACKLOG_MAX: usize = 64 * 1024;

/// One direction of a replication session.
#[derive(Debug)]
pub(super) struct Lane {
    /// The bytes.
    pub(super) flow: Flow,
    /// TLS holds bytes that the socket has not taken yet.
    held: bool,
}

impl Lane {
    /// A lane that begins with these bytes.
    pub(super) fn new(flow: Flow) -> Self {
        Self { flow, held: false }
    }

    /// Whether so much waits to be written that nothing is read.
    pub(super) fn is_full(&self) -> bool {
        self.flow.backlog() >= BACKLOG_MAX
    }

    /// Whether anything waits to be written.
    pub(super) fn is_empty(&self) -> bool {
        self.flow.backlog() == 0 && !self.held
    }

    /// Reads once, if there is room; gives the number of bytes that came.
    ///
    /// # Errors
    /// What reading may say; the end of the source is one.
    pub(super) fn poll_read(
        &mut self,
        source: &mut Stream,
        cx: &mut Context<'_>,
    ) -> io::Result<usize> {
        if self.is_full() {
            return Ok(0);
        }
        match poll_read_into(source, cx, &mut self.flow.buffer, READ_MAX) {
            Poll::Pending => Ok(0),
            Poll::Ready(Ok(0)) => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "it was closed",
            )),
            Poll::Ready(outcome) => outcome,
        }
    }

    /// Writes what waits, as far as the sink takes it.
    ///
    /// # Errors
    /// What writing may say.
    pub(super) fn poll_write(&mut self, sink: &mut Stream, cx: &mut Context<'_>) -> io::Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        match poll_write_from(sink, cx, &mut self.flow) {
            Poll::Ready(Ok(())) => self.held = false,
            Poll::Ready(Err(error)) => return Err(error),
            Poll::Pending => self.held = true,
        }
        Ok(())
    }
}
