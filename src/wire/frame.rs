//! The frame around every message but the first: a tag, a length, a body.
//!
//! Source: PostgreSQL documentation, "Message Flow" and "Message Formats"; the length word counts
//! itself and is unsigned here, so that no length can wrap.

use bytes::{BufMut, BytesMut};
use thiserror::Error;

#[cfg(test)]
mod tests;

/// Bytes of a tag and a length word.
pub const HEADER_LEN: usize = 5;

/// The largest body, in bytes: no Postgres ever allocates a larger one (`MaxAllocSize`).
pub const MAX_MESSAGE: u32 = 0x3fff_ffff;

const LENGTH_LEN: u32 = 4;

/// A declared length that no message can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("invalid message length {length} for message type {tag}")]
pub struct FrameError {
    /// The tag of the message.
    pub tag: u8,
    /// The length word as it was sent.
    pub length: u32,
}

/// A message that would be longer than [`MAX_MESSAGE`]; nothing of it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("message of {0} bytes is too long for the protocol")]
pub struct TooLong(pub usize);

/// What the first five bytes of a message say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The kind of message; its meaning depends on the direction.
    pub tag: u8,
    /// Bytes that follow the header: the length word less its own four.
    pub body: u32,
}

impl Header {
    /// Bytes of the whole message, header included.
    #[inline]
    pub fn total(self) -> usize {
        HEADER_LEN + self.body as usize
    }
}

/// Reads the header at the start of `buf`; `None` while fewer than five bytes are there.
///
/// # Errors
/// A length word below four, or a body above [`MAX_MESSAGE`].
#[inline]
pub fn header(buf: &[u8]) -> Result<Option<Header>, FrameError> {
    let [tag, a, b, c, d, ..] = *buf else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([a, b, c, d]);
    match length.checked_sub(LENGTH_LEN) {
        Some(body) if body <= MAX_MESSAGE => Ok(Some(Header { tag, body })),
        _ => Err(FrameError { tag, length }),
    }
}

/// A message that is being written; only [`Start::finish`] makes it one.
#[derive(Debug)]
#[must_use = "an unfinished message has no length"]
pub struct Start {
    start: usize,
    length_at: usize,
}

/// Begins a message of kind `tag` at the end of `out`.
pub fn begin(out: &mut BytesMut, tag: u8) -> Start {
    let start = out.len();
    out.put_u8(tag);
    out.put_u32(0);
    Start {
        start,
        length_at: start + 1,
    }
}

/// Begins a start-up packet, which has no tag.
pub(crate) fn begin_untagged(out: &mut BytesMut) -> Start {
    let start = out.len();
    out.put_u32(0);
    Start {
        start,
        length_at: start,
    }
}

impl Start {
    /// Writes the length of everything that was added to `out` since the beginning.
    ///
    /// # Errors
    /// The message is longer than the protocol allows; `out` is as it was before it.
    pub fn finish(self, out: &mut BytesMut) -> Result<(), TooLong> {
        self.finish_within(out, MAX_MESSAGE)
    }

    fn finish_within(self, out: &mut BytesMut, limit: u32) -> Result<(), TooLong> {
        let size = out.len().saturating_sub(self.length_at);
        let length = u32::try_from(size).ok().filter(|length| *length <= limit);
        let place = out.get_mut(self.length_at..self.length_at + 4);
        let (Some(length), Some(place)) = (length, place) else {
            out.truncate(self.start);
            return Err(TooLong(size));
        };
        place.copy_from_slice(&length.to_be_bytes());
        Ok(())
    }
}

/// Writes a whole message whose body `fill` appends.
///
/// # Errors
/// As [`Start::finish`].
pub fn build(out: &mut BytesMut, tag: u8, fill: impl FnOnce(&mut BytesMut)) -> Result<(), TooLong> {
    let start = begin(out, tag);
    fill(out);
    start.finish(out)
}

/// Refuses a body that cannot fit before any of it is copied.
pub(crate) fn fits(size: usize) -> Result<(), TooLong> {
    if size > (MAX_MESSAGE - LENGTH_LEN) as usize {
        Err(TooLong(size))
    } else {
        Ok(())
    }
}

/// Appends a NUL-terminated string; what follows an embedded NUL is cut off, as C would read it.
pub(crate) fn put_string(out: &mut BytesMut, text: &[u8]) {
    let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
    out.extend_from_slice(text);
    out.put_u8(0);
}

/// Appends a value with its length before it; the caller has seen that it [`fits`].
pub fn put_value(out: &mut BytesMut, value: Option<&[u8]>) {
    let length = value.map(|value| i32::try_from(value.len()).unwrap_or(i32::MAX));
    out.put_i32(length.unwrap_or(-1));
    out.extend_from_slice(value.unwrap_or_default());
}
