//! One direction of a relay: bytes that were read, judged, and wait to be written.
//!
//! ```text
//!              spill                   buffer
//!        ┌───────────────┐┌────────┬──────────────┬───────────────┐
//! sink ← │ made or moved ││ (kept) │   approved   │    unjudged   │ ← source
//!        └───────────────┘└────────┴──────────────┴───────────────┘
//! ```
//! Approved bytes go out from where they were read into, without a copy. Only when something must
//! be put in or left out do the bytes before it move to the spill. While a flow is told to keep what
//! it reads, bytes that are done with stay in front, so that all can be judged once more.

use std::io::IoSlice;

use bytes::{Buf, BytesMut};

/// A flow keeps no more than this of what it is done with.
const KEPT_MAX: u32 = 64 * 1024;

/// Bytes on their way from one socket to the other.
#[derive(Debug, Default)]
pub struct Flow {
    /// What was read from the source; read into its end.
    pub buffer: BytesMut,
    approved: usize,
    spill: BytesMut,
    /// How much of the message in front is not read yet.
    rest: usize,
    /// Whether that is left out.
    hides: bool,
    /// Whether bytes that are done with stay in front of the buffer.
    keeping: bool,
    /// How many of them there are. A flow is part of what an idle client costs, so it is small.
    kept: u32,
}

impl Flow {
    /// The bytes that nobody has looked at yet.
    #[inline]
    pub fn unjudged(&self) -> &[u8] {
        &self.buffer[self.kept() + self.approved..]
    }

    /// Lets the next message of `total` bytes go on as it is, also what of it is not read yet.
    #[inline]
    pub fn pass(&mut self, total: usize) {
        let here = total.min(self.unjudged().len());
        self.approved += here;
        self.rest = total - here;
        self.hides = false;
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
        let here = total.min(self.unjudged().len());
        self.done_with(here);
        self.rest = total - here;
        self.hides = true;
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
        match (self.rest, self.hides) {
            (0, _) => return true,
            (rest, false) => self.pass(rest),
            (rest, true) => self.hide(rest),
        }
        self.rest == 0
    }

    /// Whether the source stopped in the middle of a message that was begun to be passed.
    pub fn is_mid_message(&self) -> bool {
        self.rest > 0
    }

    /// Whether that message goes on: until its rest has come, what anybody else writes to the sink would be taken for it.
    #[inline]
    pub fn is_passing(&self) -> bool {
        self.rest > 0 && !self.hides
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

    /// From here on keeps what it is done with, up to a bound, so that [`Flow::rewind`] can go back to here.
    #[inline]
    pub fn keep(&mut self) {
        self.release();
        self.keeping = true;
    }

    /// Keeps nothing any longer.
    #[inline]
    pub fn release(&mut self) {
        self.keeping = false;
        if self.kept > 0 {
            self.buffer.advance(self.kept());
            self.kept = 0;
        }
    }

    /// Whether it can go back to where it began to keep: it began, and the bound has not been passed.
    #[inline]
    pub fn can_rewind(&self) -> bool {
        // What waits to be written will have been kept by then, too.
        self.keeping && self.kept as usize + self.approved <= KEPT_MAX as usize
    }

    /// Takes everything for unjudged that was read since it began to keep, and forgets what waits to be
    /// written; false, and nothing happens, if it cannot.
    pub fn rewind(&mut self) -> bool {
        if !self.keeping {
            return false;
        }
        (self.kept, self.approved) = (0, 0);
        self.rest = 0;
        self.spill.clear();
        true
    }

    /// A copy of what waits to be written.
    pub fn waiting(&self) -> Vec<u8> {
        [&self.spill[..], self.approved()].concat()
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
        let approved = std::mem::take(&mut self.approved);
        self.done_with(approved);
        self.spill.clear();
        self.hides = true;
    }

    fn settle(&mut self) {
        if self.approved > 0 {
            let approved = self.kept()..self.kept() + self.approved;
            self.spill.extend_from_slice(&self.buffer[approved]);
            let approved = std::mem::take(&mut self.approved);
            self.done_with(approved);
        }
    }

    fn approved(&self) -> &[u8] {
        &self.buffer[self.kept()..self.kept() + self.approved]
    }

    #[inline]
    fn kept(&self) -> usize {
        self.kept as usize
    }

    /// The first `count` bytes that are not kept yet go on no further in the buffer.
    #[inline]
    fn done_with(&mut self, count: usize) {
        let kept = self.kept() + count;
        match u32::try_from(kept) {
            Ok(kept) if self.keeping && kept <= KEPT_MAX => self.kept = kept,
            _ => {
                self.buffer.advance(kept);
                self.kept = 0;
                self.keeping = false;
            }
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
            self.approved()
        } else {
            &self.spill
        }
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let waiting = [&self.spill[..], self.approved()];
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
        self.approved -= count - made;
        self.done_with(count - made);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Buf;

    use super::{Flow, KEPT_MAX};

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
    fn only_what_goes_on_is_awaited_by_the_sink() {
        let mut flow = Flow::default();
        flow.buffer.extend_from_slice(b"ab");
        flow.pass(5);
        assert!(flow.is_passing());
        flow.buffer.extend_from_slice(b"cdeff");
        assert!(flow.resume() && !flow.is_passing());
        flow.hide(3);
        assert!(flow.is_mid_message() && !flow.is_passing());
        flow.buffer.extend_from_slice(b"fgg");
        assert!(flow.resume());
        flow.pass(3);
        assert!(flow.is_passing());
        // The sink is lost: the rest goes nowhere.
        flow.discard();
        assert!(flow.is_mid_message() && !flow.is_passing());
    }

    #[test]
    fn what_is_kept_is_judged_once_more_whatever_became_of_it() {
        let mut flow = Flow::default();
        flow.buffer.extend_from_slice(b"old");
        flow.pass(3);
        assert_eq!(drain(&mut flow, 2), b"old");
        flow.keep();
        flow.buffer.extend_from_slice(b"aaabbbccc");
        flow.insert(b"ours");
        flow.pass(3);
        flow.hide(3);
        assert_eq!(drain(&mut flow, 2), b"oursaaa");
        flow.pass(10);
        assert_eq!(flow.waiting(), b"ccc");
        flow.buffer.extend_from_slice(b"dddd");
        assert!(flow.rewind());
        assert_eq!(
            (flow.unjudged(), flow.backlog()),
            (&b"aaabbbcccdddd"[..], 0)
        );
        assert!(flow.resume());
        flow.pass(9);
        assert_eq!(drain(&mut flow, 100), b"aaabbbccc");
        flow.release();
        assert!(!flow.rewind());
        assert_eq!(flow.buffer, b"dddd"[..]);
    }

    #[test]
    fn what_is_kept_has_a_bound() {
        let mut flow = Flow::default();
        flow.keep();
        let half = KEPT_MAX as usize / 2;
        for _ in 0..3 {
            flow.buffer.extend_from_slice(&vec![7; half]);
            flow.pass(half);
            assert_eq!(drain(&mut flow, 5000).len(), half);
        }
        assert!(!flow.can_rewind() && flow.buffer.is_empty());
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
