//! One direction of a relay: bytes that were read, judged, and wait to be written.
//!
//! ```text
//!             spill             buffer
//!        ┌──────────────┐┌──────────────┬───────────────┐
//! sink ← │ made or moved ││   approved   │    unjudged   │ ← source
//!        └──────────────┘└──────────────┴───────────────┘
//! ```
//! Approved bytes go out from where they were read into, without a copy. Only when something must
//! be put in or left out do the bytes before it move to the spill.

use std::io::IoSlice;

use bytes::{Buf, BytesMut};

/// Bytes on their way from one socket to the other.
#[derive(Debug, Default)]
pub struct Flow {
    /// What was read from the source; read into its end.
    pub buffer: BytesMut,
    approved: usize,
    spill: BytesMut,
    passing: usize,
    hiding: usize,
}

impl Flow {
    /// The bytes that nobody has looked at yet.
    #[inline]
    pub fn unjudged(&self) -> &[u8] {
        &self.buffer[self.approved..]
    }

    /// Lets the next message of `total` bytes go on as it is, also what of it is not read yet.
    #[inline]
    pub fn pass(&mut self, total: usize) {
        let here = total.min(self.buffer.len() - self.approved);
        self.approved += here;
        self.passing = total - here;
    }

    /// Lets the next `total` bytes go on, and with them all whole messages of this kind behind them:
    /// most of the traffic are rows in a row.
    #[inline]
    pub fn pass_alike(&mut self, kind: u8, total: usize) {
        let unjudged = self.unjudged();
        let mut end = total;
        while let Some([tag, a, b, c, d]) = unjudged.get(end..end + 5) {
            let next = end + 1 + u32::from_be_bytes([*a, *b, *c, *d]) as usize;
            // A length below its own four bytes is no message; the next look finds that out.
            if *tag != kind || next > unjudged.len() || next < end + 5 {
                break;
            }
            end = next;
        }
        self.pass(end);
    }

    /// Leaves the next message of `total` bytes out, also what of it is not read yet.
    pub fn hide(&mut self, total: usize) {
        self.settle();
        let here = total.min(self.buffer.len());
        self.buffer.advance(here);
        self.hiding = total - here;
    }

    /// Puts bytes of our own behind everything approved so far.
    pub fn insert(&mut self, bytes: &[u8]) {
        self.made().extend_from_slice(bytes);
    }

    /// The place to build messages of our own in, behind everything approved so far.
    pub fn made(&mut self) -> &mut BytesMut {
        self.settle();
        &mut self.spill
    }

    /// Applies newly read bytes to the message that is being passed or hidden; true when a new
    /// message may begin.
    #[inline]
    pub fn resume(&mut self) -> bool {
        if self.passing > 0 {
            self.pass(self.passing);
        } else if self.hiding > 0 {
            self.hide(self.hiding);
        }
        self.passing == 0 && self.hiding == 0
    }

    /// Whether the source stopped in the middle of a message that was begun to be passed.
    pub fn is_mid_message(&self) -> bool {
        self.passing > 0 || self.hiding > 0
    }

    /// How many bytes wait to be written.
    #[inline]
    pub fn backlog(&self) -> usize {
        self.spill.len() + self.approved
    }

    /// Moves what waits to be written into the flow `other` of the same sink.
    pub fn hand_over(&mut self, other: &mut Self) {
        self.settle();
        if other.backlog() == 0 {
            std::mem::swap(&mut self.spill, &mut other.spill);
        } else {
            other.insert(&self.spill);
            self.spill.clear();
        }
    }

    /// Gives memory back that an idle connection does not need.
    pub fn shrink(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
        if self.spill.is_empty() {
            self.spill = BytesMut::new();
        }
    }

    /// Forgets what waits to be written. What was read and not judged stays.
    pub fn discard(&mut self) {
        self.buffer.advance(self.approved);
        self.approved = 0;
        self.spill.clear();
        self.hiding += std::mem::take(&mut self.passing);
    }

    fn settle(&mut self) {
        if self.approved > 0 {
            self.spill.extend_from_slice(&self.buffer[..self.approved]);
            self.buffer.advance(self.approved);
            self.approved = 0;
        }
    }
}

/// The bytes that wait to be written: the spill, then what is approved.
impl Buf for Flow {
    #[inline]
    fn remaining(&self) -> usize {
        self.backlog()
    }

    #[inline]
    fn chunk(&self) -> &[u8] {
        if self.spill.is_empty() {
            &self.buffer[..self.approved]
        } else {
            &self.spill
        }
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let waiting = [&self.spill[..], &self.buffer[..self.approved]];
        let mut filled = 0;
        for (slot, chunk) in slices
            .iter_mut()
            .zip(waiting.into_iter().filter(|c| !c.is_empty()))
        {
            *slot = IoSlice::new(chunk);
            filled += 1;
        }
        filled
    }

    #[inline]
    fn advance(&mut self, count: usize) {
        let made = count.min(self.spill.len());
        self.spill.advance(made);
        self.buffer.advance(count - made);
        self.approved -= count - made;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Buf;

    use super::Flow;

    fn drain(flow: &mut Flow, step: usize) -> Vec<u8> {
        let mut out = Vec::new();
        while flow.backlog() > 0 {
            let count = flow.remaining().min(step);
            out.extend_from_slice(&flow.copy_to_bytes(count));
        }
        out
    }

    #[test]
    fn order_is_kept_whatever_is_put_in_or_left_out() {
        for step in [1, 3, 100] {
            let mut flow = Flow::default();
            flow.buffer.extend_from_slice(b"aaabbbcccddd");
            flow.pass(3);
            flow.hide(3);
            flow.insert(b"x");
            flow.pass(3);
            flow.insert(b"y");
            flow.pass(5);
            assert!(flow.is_mid_message());
            flow.buffer.extend_from_slice(b"eeefff");
            assert!(flow.resume());
            assert_eq!(flow.unjudged(), b"efff");
            assert_eq!(drain(&mut flow, step), b"aaaxcccydddee");
            assert_eq!(flow.unjudged(), b"efff");
        }
    }

    #[test]
    fn rows_pass_together_and_only_whole() {
        let row = b"D\0\0\0\x06\0\0";
        let mut flow = Flow::default();
        for _ in 0..3 {
            flow.buffer.extend_from_slice(row);
        }
        flow.buffer.extend_from_slice(b"D\0\0\0\x06\0");
        flow.pass_alike(b'D', row.len());
        assert_eq!((flow.backlog(), flow.is_mid_message()), (21, false));
        let mut flow = Flow::default();
        flow.buffer.extend_from_slice(row);
        flow.buffer.extend_from_slice(b"D\0\0\0\x03Z\0\0\0");
        flow.pass_alike(b'D', row.len());
        assert_eq!(flow.unjudged()[..5], *b"D\0\0\0\x03");
    }

    #[test]
    fn a_hidden_message_may_arrive_in_pieces() {
        let mut flow = Flow::default();
        flow.buffer.extend_from_slice(b"ab");
        flow.hide(5);
        assert!(!flow.resume());
        flow.buffer.extend_from_slice(b"cdeZ");
        assert!(flow.resume());
        assert_eq!(flow.unjudged(), b"Z");
        assert_eq!(flow.backlog(), 0);
    }

    #[test]
    fn the_rest_is_handed_over_in_order() {
        let mut from = Flow::default();
        from.buffer.extend_from_slice(b"12");
        from.pass(2);
        let mut to = Flow::default();
        to.insert(b"0");
        from.hand_over(&mut to);
        assert_eq!(drain(&mut to, 10), b"012");
        assert_eq!(from.backlog(), 0);
    }
}
