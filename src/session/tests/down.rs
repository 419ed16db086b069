//! From the server to the client: each message is judged by what is owed.

use bytes::Buf as _;
use pgherd_wire::backend::{ReadyForQuery, tag};
use pgherd_wire::frame;
use proptest::collection::vec;
use proptest::prelude::*;

use super::conversation::{Ask, LOCAL, answers, ask, bends};
use super::{Pace, bound, config, measured, pace};
use crate::{Exchange, Flow, Verdict};

/// Messages up to this size are waited for, as the relay waits for those that it looks into.
const LOOK_MAX: usize = 64;

/// A relay without sockets.
#[derive(Default)]
struct Relay {
    flow: Flow,
    talk: Exchange<()>,
    /// What the client got.
    sent: Vec<u8>,
    /// What was taken back.
    undone: usize,
    /// The server has broken the protocol.
    broken: bool,
}

/// All that may be seen of a relay from outside.
#[derive(Debug, PartialEq, Eq)]
struct Sight {
    sent: Vec<u8>,
    undone: usize,
    broken: bool,
    over: bool,
    replies: usize,
}

impl Relay {
    /// Reads all that the server says, at a pace.
    fn run(asks: &[Ask], bytes: &[u8], pace: &Pace) -> Sight {
        let mut relay = Self::default();
        asks.iter().for_each(|ask| relay.talk.sent(ask.owed()));
        relay.locals();
        let (mut reads, mut writes) = (pace.reads.iter().cycle(), pace.writes.iter().cycle());
        let mut rest = bytes;
        while !rest.is_empty() && !relay.broken {
            let size = reads.next().map_or(1, |size| (*size).min(rest.len()));
            let (slice, behind) = rest.split_at(size);
            rest = behind;
            relay.flow.buffer.extend_from_slice(slice);
            relay.broken = relay.judge().is_none();
            relay.write(writes.next().copied().unwrap_or(usize::MAX));
        }
        relay.write(usize::MAX);
        Sight {
            over: relay.talk.is_over(),
            replies: relay.talk.replies_owed(),
            sent: relay.sent,
            undone: relay.undone,
            broken: relay.broken,
        }
    }

    fn write(&mut self, count: usize) {
        let mut left = count.min(self.flow.remaining());
        while left > 0 {
            let chunk = self.flow.chunk();
            let step = chunk.len().min(left);
            self.sent.extend_from_slice(&chunk[..step]);
            self.flow.advance(step);
            left -= step;
        }
    }

    /// Puts in the replies of ours whose turn has come: only between two messages, or one that is
    /// passed on in pieces would be torn.
    fn locals(&mut self) {
        while let Some(reply) = self.talk.local() {
            self.flow.insert(reply);
        }
    }

    /// Judges what was read; `None` when the server has broken the protocol.
    fn judge(&mut self) -> Option<()> {
        while self.flow.resume() {
            self.locals();
            let Some(header) = frame::header(self.flow.unjudged()).ok()? else {
                break;
            };
            let (message, total) = (header.tag, header.total());
            if matches!(message, tag::DATA_ROW | tag::COPY_DATA) {
                match self.talk.received(message, |_| {}) {
                    Verdict::Forward => self.flow.pass_alike(message, total),
                    verdict => self.act(verdict, total)?,
                }
                continue;
            }
            if self.flow.unjudged().len() < total && total <= LOOK_MAX {
                break;
            }
            let verdict = if message == tag::READY_FOR_QUERY {
                let body = self.flow.unjudged().get(frame::HEADER_LEN..total)?;
                self.talk.ready(ReadyForQuery::parse(body).ok()?.status)
            } else {
                self.talk.received(message, |_| self.undone += 1)
            };
            self.act(verdict, total)?;
        }
        Some(())
    }

    fn act(&mut self, verdict: Verdict, total: usize) -> Option<()> {
        match verdict {
            Verdict::Forward => self.flow.pass(total),
            Verdict::Swallow => self.flow.hide(total),
            Verdict::Replace(report) => {
                self.flow.hide(total);
                self.flow.insert(&report);
            }
            Verdict::Unexpected => return None,
        }
        Some(())
    }
}

proptest! {
    #![proptest_config(config())]

    /// A client gets the same, wherever the server's bytes are cut and however slowly it reads.
    #[test]
    fn pace_changes_nothing(asks in vec(ask(), 0..10), bends in bends(), pace in pace()) {
        let mut bytes = answers(&asks);
        bends.iter().for_each(|bend| bend.apply(&mut bytes));
        let (whole, memory) = measured(|| Relay::run(&asks, &bytes, &Pace::at_once()));
        prop_assert!(memory <= bound(bytes.len()), "{} bytes for {}", memory, bytes.len());
        let (sliced, memory) = measured(|| Relay::run(&asks, &bytes, &pace));
        prop_assert!(memory <= bound(bytes.len()), "{} bytes for {}", memory, bytes.len());
        prop_assert_eq!(&sliced, &whole);
        // Nothing is sent that nobody said.
        let ours = asks.len() * LOCAL.len().max(10);
        prop_assert!(whole.sent.len() <= bytes.len() + ours);
    }

    /// The same of bytes that answer nothing in particular.
    #[test]
    fn noise_is_no_answer(
        asks in vec(ask(), 0..4), bytes in vec(any::<u8>(), 0..200), pace in pace(),
    ) {
        let (whole, memory) = measured(|| Relay::run(&asks, &bytes, &Pace::at_once()));
        prop_assert!(memory <= bound(bytes.len()));
        prop_assert_eq!(Relay::run(&asks, &bytes, &pace), whole);
    }

    /// Whatever is sent and comes in whatever order: no panic, and no reply is owed that nobody
    /// asked for.
    #[test]
    fn no_order_confuses_the_count(steps in vec((ask(), any::<u8>(), 0..4_u8), 0..60)) {
        let mut talk = Exchange::<()>::default();
        for (sent, (ask, message, what)) in steps.iter().enumerate() {
            match what {
                0 => talk.sent(ask.owed()),
                1 => drop(talk.received(*message, |_| {})),
                2 => {
                    let body = [*message];
                    if let Ok(ready) = ReadyForQuery::parse(&body) {
                        talk.ready(ready.status);
                    }
                }
                _ => drop(talk.local()),
            }
            prop_assert!(talk.replies_owed() <= sent + 1);
            prop_assert!(!talk.is_over() || !talk.owes());
        }
    }
}

#[test]
fn a_sound_answer_ends_the_conversation() {
    let asks = [
        Ask::Query(3),
        Ask::Parse(true),
        Ask::Bind,
        Ask::Execute(2),
        Ask::Sync,
    ];
    let sight = Relay::run(&asks, &answers(&asks), &Pace::at_once());
    assert!(!sight.broken && sight.over, "{sight:?}");
    // All but the hidden ParseComplete.
    assert_eq!(sight.sent.len(), answers(&asks).len() - 5);
}
