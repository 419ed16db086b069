//! From the client to the server: messages pass, are left out, or get other names.

use bytes::Buf as _;
use pgherd_wire::frame;
use pgherd_wire::frontend::{BindHead, tag};
use proptest::collection::vec;
use proptest::prelude::*;

use super::conversation::{bends, message};
use super::{Pace, bound, config, measured, pace};
use crate::Flow;

/// The names that the server knows a statement by.
const RENAMED: &[u8] = b"pgherd_12";

/// A relay without sockets, which renames what a Bind binds, leaves each Close out, and puts a Flush
/// behind each Describe.
#[derive(Default)]
struct Relay {
    flow: Flow,
    sent: Vec<u8>,
}

impl Relay {
    /// Sends all on, at a pace: what the server got, and whether the end is that of a message.
    fn run(bytes: &[u8], pace: &Pace) -> (Vec<u8>, bool) {
        let mut relay = Self::default();
        let (mut reads, mut writes) = (pace.reads.iter().cycle(), pace.writes.iter().cycle());
        let mut rest = bytes;
        let mut sound = true;
        while !rest.is_empty() && sound {
            let size = reads.next().map_or(1, |size| (*size).min(rest.len()));
            let (slice, behind) = rest.split_at(size);
            rest = behind;
            relay.flow.buffer.extend_from_slice(slice);
            sound = relay.take().is_some();
            relay.write(writes.next().copied().unwrap_or(usize::MAX));
        }
        relay.write(usize::MAX);
        let whole = sound && relay.flow.resume() && relay.flow.unjudged().is_empty();
        (relay.sent, whole)
    }

    fn write(&mut self, count: usize) {
        let mut left = count.min(self.flow.remaining());
        while left > 0 {
            let step = self.flow.chunk().len().min(left);
            self.sent.extend_from_slice(&self.flow.chunk()[..step]);
            self.flow.advance(step);
            left -= step;
        }
    }

    /// Judges what was read; `None` for what is no message.
    fn take(&mut self) -> Option<()> {
        while self.flow.resume() {
            let Some(header) = frame::header(self.flow.unjudged()).ok()? else {
                break;
            };
            let total = header.total();
            match header.tag {
                tag::CLOSE => self.flow.hide(total),
                // What is put in stands behind the message, so this waits for its end.
                tag::DESCRIBE if self.flow.unjudged().len() < total => break,
                tag::DESCRIBE => {
                    self.flow.pass(total);
                    self.flow.insert(b"H\0\0\0\x04");
                }
                tag::BIND if !self.bind(total)? => break,
                tag::BIND => {}
                _ => self.flow.pass(total),
            }
        }
        Some(())
    }

    /// Renames the statement of a Bind; false while its names are not there.
    fn bind(&mut self, total: usize) -> Option<bool> {
        let here = self.flow.unjudged();
        let body = &here[frame::HEADER_LEN..total.min(here.len())];
        let whole = here.len() >= total;
        let Some(head) = BindHead::parse(body).ok()? else {
            return if whole { None } else { Some(false) };
        };
        let (portal, used) = (head.portal.to_vec(), frame::HEADER_LEN + head.len);
        let length = total - 1 - head.statement.len() + RENAMED.len();
        let length = u32::try_from(length).ok()?;
        let out = self.flow.made();
        out.extend_from_slice(&[tag::BIND]);
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&portal);
        out.extend_from_slice(&[0]);
        out.extend_from_slice(RENAMED);
        out.extend_from_slice(&[0]);
        self.flow.hide(used);
        self.flow.pass(total - used);
        Some(true)
    }
}

/// What should come out of sound messages, each taken as a whole.
fn expected(messages: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (kind, body) in messages {
        match *kind {
            tag::CLOSE => {}
            tag::BIND => {
                let mut parts = body.splitn(3, |byte| *byte == 0);
                let (portal, _, rest) = (parts.next(), parts.next(), parts.next());
                let parts = [portal.expect("a portal"), RENAMED, rest.expect("a rest")];
                message(&mut out, tag::BIND, &parts.join(&0));
            }
            kind => {
                message(&mut out, kind, body);
                if kind == tag::DESCRIBE {
                    message(&mut out, tag::FLUSH, b"");
                }
            }
        }
    }
    out
}

fn body(kind: u8) -> BoxedStrategy<(u8, Vec<u8>)> {
    let name = || vec(1_u8..=255, 0..9);
    match kind {
        tag::BIND => (name(), name(), vec(any::<u8>(), 0..60))
            .prop_map(|(portal, statement, rest)| (tag::BIND, [portal, statement, rest].join(&0)))
            .boxed(),
        kind => vec(any::<u8>(), 0..60)
            .prop_map(move |body| (kind, body))
            .boxed(),
    }
}

fn messages() -> impl Strategy<Value = Vec<(u8, Vec<u8>)>> {
    let kinds = prop_oneof![
        body(tag::BIND),
        body(tag::CLOSE),
        body(tag::DESCRIBE),
        body(tag::QUERY),
        body(tag::COPY_DATA),
        body(tag::SYNC),
    ];
    vec(kinds, 0..8)
}

proptest! {
    #![proptest_config(config())]

    /// A server gets sound messages as they should be, at any pace.
    #[test]
    fn names_are_changed_and_nothing_else(messages in messages(), pace in pace()) {
        let mut bytes = Vec::new();
        messages.iter().for_each(|(kind, body)| message(&mut bytes, *kind, body));
        let wanted = (expected(&messages), true);
        prop_assert_eq!(&Relay::run(&bytes, &Pace::at_once()), &wanted);
        prop_assert_eq!(&Relay::run(&bytes, &pace), &wanted);
    }

    /// Whatever comes, pace changes nothing, and memory stays in the order of what came.
    #[test]
    fn pace_changes_nothing(messages in messages(), bends in bends(), pace in pace()) {
        let mut bytes = Vec::new();
        messages.iter().for_each(|(kind, body)| message(&mut bytes, *kind, body));
        bends.iter().for_each(|bend| bend.apply(&mut bytes));
        let (whole, memory) = measured(|| Relay::run(&bytes, &Pace::at_once()));
        prop_assert!(memory <= bound(bytes.len()), "{} bytes for {}", memory, bytes.len());
        let (sliced, memory) = measured(|| Relay::run(&bytes, &pace));
        prop_assert!(memory <= bound(bytes.len()), "{} bytes for {}", memory, bytes.len());
        prop_assert_eq!(sliced, whole);
    }
}
