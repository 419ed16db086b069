//! Reading into and writing from buffers that grow and shrink, for the relay.

use std::io;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};

use crate::stream::Stream;

/// Reads once, at most `room` bytes, at the end of `buf`; 0 is the end of the stream (or no room).
///
/// A plain stream costs one system call, and memory that is not zeroed first. Nothing is reserved in `buf` while
/// there is nothing to read.
///
/// # Errors
/// What reading may say.
pub fn poll_read_into(
    stream: &mut Stream,
    cx: &mut Context<'_>,
    buf: &mut BytesMut,
    room: usize,
) -> Poll<io::Result<usize>> {
    if room == 0 {
        return Poll::Ready(Ok(0));
    }
    stream.poll_read_into(cx, buf, room)
}

/// Writes until `buf` is empty and, under TLS, until the last record has left. When it is pending, what was taken
/// is gone from `buf`, and a call with an empty `buf` goes on with the rest.
///
/// # Errors
/// What writing may say.
pub fn poll_write_from(
    stream: &mut Stream,
    cx: &mut Context<'_>,
    buf: &mut impl Buf,
) -> Poll<io::Result<()>> {
    stream.poll_write_from(cx, buf)
}
