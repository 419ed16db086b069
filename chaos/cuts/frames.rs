//! Where the messages of one direction of a connection begin and end.

/// The length of the header of a message: its tag and its length.
pub(super) const HEADER: usize = 5;

/// The same of the first packet of a client, which has no tag but a code.
const FIRST: usize = 8;

/// How much of a message is kept to be looked at: a header, and the number of a process behind it.
const KEPT: usize = 9;

/// Follows the bytes of one direction.
#[derive(Debug)]
pub(super) struct Frames {
    /// The next packet has no tag.
    first: bool,
    /// The beginning of the message that is under way.
    kept: [u8; KEPT],
    /// How much of that message has passed.
    offset: usize,
}

/// A message that has come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Whole {
    /// Its tag; 0 if it has none.
    pub(super) tag: u8,
    /// Its length with its header.
    pub(super) length: usize,
    /// What its header is followed by, or the code of a packet without a tag.
    pub(super) number: u32,
}

impl Frames {
    /// Of a client, whose first packet has no tag.
    pub(super) fn of_client() -> Self {
        Self {
            first: true,
            ..Self::of_server()
        }
    }

    /// Of a server.
    pub(super) fn of_server() -> Self {
        Self {
            first: false,
            kept: [0; KEPT],
            offset: 0,
        }
    }

    /// Whether nothing has come of the first packet yet.
    pub(super) fn is_fresh(&self) -> bool {
        self.first && self.offset == 0
    }

    /// How much of the message that is under way has passed.
    pub(super) fn offset(&self) -> usize {
        self.offset
    }

    /// How much is still to come of it, if that is known.
    pub(super) fn owed(&self) -> usize {
        self.total().map_or(0, |total| total - self.offset)
    }

    /// The length of the message that is under way, once its header has passed.
    fn total(&self) -> Option<usize> {
        let (header, at) = if self.first { (FIRST, 0) } else { (HEADER, 1) };
        if self.offset < header {
            return None;
        }
        // A length that no message can have is taken for that of an empty one: the peer will see.
        let length = self.number_at(at) as usize + at;
        Some(length.max(self.offset))
    }

    fn number_at(&self, at: usize) -> u32 {
        let [a, b, c, d] = [0, 1, 2, 3].map(|offset| self.kept[at + offset]);
        u32::from_be_bytes([a, b, c, d])
    }

    /// Takes bytes up to the end of the message at most, and no further than `stop` bytes of it; tells how
    /// many, and which message has come to its end by that.
    pub(super) fn take(&mut self, bytes: &[u8], stop: Option<usize>) -> (usize, Option<Whole>) {
        let mut taken = 0;
        while taken < bytes.len() {
            if stop.is_some_and(|stop| self.offset >= stop) {
                return (taken, None);
            }
            let Some(total) = self.total() else {
                self.kept[self.offset] = bytes[taken];
                self.offset += 1;
                taken += 1;
                if let Some(whole) = self.end() {
                    return (taken, Some(whole));
                }
                continue;
            };
            let limit = stop.unwrap_or(total).min(total);
            let count = (limit - self.offset).min(bytes.len() - taken);
            for (at, byte) in (self.offset..KEPT).zip(&bytes[taken..taken + count]) {
                self.kept[at] = *byte;
            }
            self.offset += count;
            taken += count;
            if let Some(whole) = self.end() {
                return (taken, Some(whole));
            }
        }
        (taken, None)
    }

    /// The message that is under way, if nothing of it is to come.
    fn end(&mut self) -> Option<Whole> {
        // Not as a filter: optimised, rustc 1.95 takes that for true where there is no length yet (LLVM 22.1.2).
        let length = self.total()?;
        if length != self.offset {
            return None;
        }
        let whole = Whole {
            tag: if self.first { 0 } else { self.kept[0] },
            length,
            number: self.number_at(if self.first { 4 } else { HEADER }),
        };
        *self = Self::of_server();
        Some(whole)
    }
}

#[cfg(test)]
mod tests {
    use super::{Frames, Whole};
    use crate::hostile::packet;

    #[test]
    fn messages_end_where_they_end_however_they_come() {
        let bytes = [
            packet::startup(&[("user", "a")]),
            packet::sync(),
            packet::query("select 1"),
        ];
        let lengths = bytes.each_ref().map(Vec::len);
        let bytes = bytes.concat();
        for size in 1..=bytes.len() {
            let mut frames = Frames::of_client();
            let mut found = Vec::new();
            for mut chunk in bytes.chunks(size) {
                while !chunk.is_empty() {
                    let (count, whole) = frames.take(chunk, None);
                    chunk = &chunk[count..];
                    found.extend(whole.map(|Whole { tag, length, .. }| (tag, length)));
                }
            }
            let expected = [(0, lengths[0]), (b'S', 5), (b'Q', lengths[2])];
            assert_eq!(found, expected, "{size}");
        }
    }

    #[test]
    fn nothing_passes_beyond_the_stop() {
        let mut frames = Frames::of_server();
        let query = packet::query("select 1");
        assert_eq!(frames.take(&query, Some(7)), (7, None));
        assert_eq!(frames.offset(), 7);
        assert_eq!(frames.owed(), query.len() - 7);
        assert_eq!(frames.take(&query[7..], Some(7)), (0, None));
        let (rest, whole) = frames.take(&query[7..], None);
        assert_eq!(rest, query.len() - 7);
        assert_eq!(whole.map(|whole| whole.tag), Some(b'Q'));
    }
}
