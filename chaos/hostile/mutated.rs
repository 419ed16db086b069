//! Conversations of a logged-in client that were good once, by a seed.
//!
//! [`malformed`](super::malformed) has what somebody has thought of; here is what nobody has.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use super::packet::{self, message, string};

/// A conversation, and what became of it.
#[derive(Debug, Clone)]
pub struct Mutated {
    /// Its number under the seed.
    pub number: u64,
    /// What was done to it.
    pub what: Vec<&'static str>,
    /// Whether each message is still one: only their order, or their number, is another.
    pub is_well_formed: bool,
    /// All that the client sends, with [`the_mark`] at the end.
    pub bytes: Vec<u8>,
}

/// What an answer to the end of each conversation holds, whatever has come before it.
pub const MARK: &str = "the mark";

/// The end of each conversation: whoever is still served afterwards gets [`MARK`].
pub fn the_mark() -> Vec<u8> {
    let asked = packet::query(&format!("select '{MARK}'"));
    [packet::sync(), packet::query("rollback"), asked].concat()
}

/// Whether messages come to their end with the bytes, by their tags and lengths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// They do.
    Whole,
    /// The last one declares more than there is: whoever reads on waits for it.
    Unfinished,
    /// One has a length that none of its kind may have.
    Impossible,
}

/// How the messages end.
pub fn framing(mut rest: &[u8]) -> Framing {
    while let [tag, a, b, c, d, ..] = *rest {
        let length = u32::from_be_bytes([a, b, c, d]);
        let most = match tag {
            // `PQ_SMALL_MESSAGE_LIMIT`
            b'S' | b'H' | b'D' | b'C' | b'E' | b'X' | b'c' | b'f' => 10_000,
            _ => 0x3fff_fffe,
        };
        if !(4..=most).contains(&length) {
            return Framing::Impossible;
        }
        let total = usize::try_from(length).unwrap_or(usize::MAX) + 1;
        match rest.get(total..) {
            Some(behind) => rest = behind,
            None => return Framing::Unfinished,
        }
    }
    match rest {
        [] => Framing::Whole,
        _ => Framing::Unfinished,
    }
}

/// The conversation of a number under a seed.
pub fn case(seed: u64, number: u64) -> Mutated {
    let mut rng = StdRng::seed_from_u64(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number);
    let all = conversations();
    let mut messages = all.choose(&mut rng).cloned().unwrap_or_default();
    let mut what = Vec::new();
    let mut is_well_formed = true;
    for _ in 0..rng.random_range(1..=3) {
        let change = *CHANGES.choose(&mut rng).unwrap_or(&Change::Double);
        is_well_formed &= change.keeps_form();
        what.push(change.name());
        change.make(&mut messages, &all, &mut rng);
    }
    messages.push(the_mark());
    Mutated {
        number,
        what,
        is_well_formed,
        bytes: messages.concat(),
    }
}

/// A message each.
type Messages = Vec<Vec<u8>>;

/// What a client may say that knows what it is doing.
fn conversations() -> Vec<Messages> {
    let text = "select $1::text";
    let one = || packet::query("select 1");
    let table = || packet::query("create temp table t (a text)");
    let copy = || packet::query("copy t from stdin");
    let count = || packet::query("select count(*) from t");
    let row = |text: &str| message(b'd', text.as_bytes());
    let bind = |statement: &str, value: &str| packet::bind_values("", statement, &[value]);
    let rows = |count: u32| packet::execute_some("p", count);
    let close = |kind: u8, name: &str| message(b'C', &[vec![kind], string(name)].concat());
    let of_statement = |name: &str| message(b'D', &[b"S".to_vec(), string(name)].concat());
    let flush = || message(b'H', b"");
    vec![
        vec![
            one(),
            packet::query("select 2; select 3"),
            packet::query(""),
        ],
        ["begin", "select 1/0", "select 2", "rollback"]
            .map(packet::query)
            .to_vec(),
        vec![
            packet::parse("", text),
            bind("", "x"),
            packet::describe(""),
            packet::execute(),
            packet::sync(),
        ],
        vec![
            packet::parse("a", "select $1::int4 + 1"),
            of_statement("a"),
            packet::sync(),
            bind("a", "1"),
            packet::execute(),
            bind("a", "2"),
            packet::execute(),
            close(b'S', "a"),
            packet::sync(),
        ],
        vec![
            packet::parse("", "select generate_series(1, 9)"),
            packet::bind_values("p", "", &[]),
            rows(3),
            rows(3),
            rows(0),
            close(b'P', "p"),
            packet::sync(),
        ],
        vec![
            packet::parse("", "select 1/0"),
            packet::bind(""),
            packet::execute(),
            packet::parse("", "select 2"),
            packet::bind(""),
            packet::execute(),
            packet::sync(),
            packet::query("select 3"),
        ],
        vec![
            packet::parse("b", "select 1"),
            flush(),
            packet::bind("b"),
            packet::describe(""),
            flush(),
            packet::execute(),
            packet::sync(),
            close(b'S', "b"),
            packet::sync(),
        ],
        vec![
            packet::query("begin"),
            packet::parse("", "select 1"),
            packet::bind(""),
            packet::execute(),
            packet::sync(),
            packet::query("commit"),
        ],
        vec![
            table(),
            copy(),
            row("one\n"),
            row("two\n"),
            message(b'c', b""),
            count(),
        ],
        vec![
            table(),
            copy(),
            row("one\n"),
            message(b'f', &string("no more")),
            count(),
        ],
        vec![
            packet::query("copy (select 1) to stdout"),
            packet::query("select 2"),
        ],
        // lower(text)
        vec![packet::call(870, &["UPPER"]), one()],
        ["set work_mem = '5MB'", "show work_mem", "reset work_mem"]
            .map(packet::query)
            .to_vec(),
    ]
}

/// What may become of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Type,
    LengthByLittle,
    Length,
    Truncate,
    Byte,
    Cut,
    Grow,
    Swap,
    Double,
    Drop,
    Interleave,
    Repeat,
}

const CHANGES: [Change; 12] = [
    Change::Type,
    Change::LengthByLittle,
    Change::Length,
    Change::Truncate,
    Change::Byte,
    Change::Cut,
    Change::Grow,
    Change::Swap,
    Change::Double,
    Change::Drop,
    Change::Interleave,
    Change::Repeat,
];

/// Types of messages, and what is none.
const TYPES: &[u8] = b"QPBDCESHFdcfXp@\0Rz";
/// By how much a length may be wrong.
const LITTLE: [i32; 10] = [-8, -4, -3, -2, -1, 1, 2, 3, 4, 8];
/// Lengths that no message here has.
const LENGTHS: [u32; 10] = [
    0,
    1,
    3,
    4,
    9_000,
    10_004,
    1 << 20,
    (1 << 30) + 16,
    1 << 31,
    u32::MAX,
];
/// Bytes that mean something.
const BYTES: [u8; 4] = [0, 1, 0xff, b'A'];

impl Change {
    /// Whether each message stays what it is.
    fn keeps_form(self) -> bool {
        match self {
            Self::Swap | Self::Double | Self::Drop | Self::Interleave | Self::Repeat => true,
            Self::Type
            | Self::LengthByLittle
            | Self::Length
            | Self::Truncate
            | Self::Byte
            | Self::Cut
            | Self::Grow => false,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Type => "another type",
            Self::LengthByLittle => "a length a little wrong",
            Self::Length => "a length out of the blue",
            Self::Truncate => "the end of a message gone",
            Self::Byte => "another byte",
            Self::Cut => "bytes less",
            Self::Grow => "bytes more",
            Self::Swap => "two messages swapped",
            Self::Double => "a message twice",
            Self::Drop => "a message gone",
            Self::Interleave => "another conversation in between",
            Self::Repeat => "messages repeated in between",
        }
    }

    fn make(self, messages: &mut Messages, all: &[Messages], rng: &mut StdRng) {
        if messages.is_empty() {
            return;
        }
        let at = rng.random_range(0..messages.len());
        match self {
            Self::Swap => {
                let other = rng.random_range(0..messages.len());
                messages.swap(at, other);
            }
            Self::Double => messages.insert(at, messages[at].clone()),
            Self::Drop => drop(messages.remove(at)),
            Self::Repeat => {
                for _ in 0..rng.random_range(1..4) {
                    let again = messages.choose(rng).cloned().unwrap_or_default();
                    messages.insert(at, again);
                }
            }
            Self::Interleave => {
                let other = all.choose(rng).cloned().unwrap_or_default();
                *messages = interleaved(std::mem::take(messages), other, rng);
            }
            // An earlier change may have left nothing to be changed.
            _ if messages[at].len() < 5 => {}
            Self::Truncate => {
                let end = rng.random_range(0..messages[at].len());
                messages[at].truncate(end);
            }
            _ => self.within(&mut messages[at], rng),
        }
    }

    /// Changes one message, which has a header.
    fn within(self, changed: &mut Vec<u8>, rng: &mut StdRng) {
        let tag = changed[0];
        let mut body = changed.split_off(5);
        let length = u32::from_be_bytes([changed[1], changed[2], changed[3], changed[4]]);
        let at = rng.random_range(0..=body.len());
        let some = BYTES.choose(rng).copied().unwrap_or_default();
        let frame = |tag: u8, length: u32, body: &[u8]| {
            [packet::declares(tag, length), body.to_vec()].concat()
        };
        *changed = match self {
            Self::Type => {
                let other = TYPES.choose(rng).copied().unwrap_or_default();
                frame(other, length, &body)
            }
            Self::LengthByLittle => {
                let by = LITTLE.choose(rng).copied().unwrap_or_default();
                frame(tag, length.wrapping_add_signed(by), &body)
            }
            Self::Length => {
                let other = LENGTHS.choose(rng).copied().unwrap_or_default();
                frame(tag, other, &body)
            }
            Self::Cut => {
                let end = body.len().min(at + rng.random_range(1..5));
                body.drain(at..end);
                message(tag, &body)
            }
            Self::Grow => {
                let count = rng.random_range(1..5);
                let behind = body.split_off(at);
                body.extend(std::iter::repeat_n(some, count));
                body.extend(behind);
                message(tag, &body)
            }
            _ => {
                if let Some(byte) = body.get_mut(at) {
                    *byte = some;
                }
                message(tag, &body)
            }
        };
    }
}

/// Two conversations at once, each in its order.
fn interleaved(one: Messages, other: Messages, rng: &mut StdRng) -> Messages {
    let (mut one, mut other) = (one.into_iter().peekable(), other.into_iter().peekable());
    let mut both = Vec::new();
    while one.peek().is_some() || other.peek().is_some() {
        let from_one = other.peek().is_none() || one.peek().is_some() && rng.random_bool(0.5);
        both.extend(match from_one {
            true => one.next(),
            false => other.next(),
        });
    }
    both
}

#[cfg(test)]
mod tests {
    use super::{Framing, case, conversations, framing, the_mark};
    use crate::hostile::packet;

    #[test]
    fn a_seed_is_a_corpus() {
        for number in 0..200 {
            let (once, again) = (case(7, number), case(7, number));
            assert_eq!(once.bytes, again.bytes);
            assert!(once.bytes.ends_with(&the_mark()));
        }
        assert!((0..200).any(|number| case(7, number).bytes != case(8, number).bytes));
        let formed = |number: &u64| case(7, *number).is_well_formed;
        let formed = (0..200).filter(formed).count();
        assert!((20..180).contains(&formed), "{formed} of 200");
    }

    #[test]
    fn what_keeps_its_form_is_whole() {
        for conversation in conversations() {
            assert_eq!(framing(&conversation.concat()), Framing::Whole);
        }
        let formed = (0..500).map(|number| case(1, number));
        for case in formed.filter(|case| case.is_well_formed) {
            assert_eq!(framing(&case.bytes), Framing::Whole, "{:?}", case.what);
        }
        let query = packet::query("select 1");
        assert_eq!(framing(&query[..7]), Framing::Unfinished);
        assert_eq!(framing(&query[..3]), Framing::Unfinished);
        for length in [0, 3, (1 << 30) + 16, u32::MAX] {
            assert_eq!(
                framing(&packet::declares(b'Q', length)),
                Framing::Impossible
            );
        }
        assert_eq!(
            framing(&packet::declares(b'E', 10_004)),
            Framing::Impossible
        );
        assert_eq!(
            framing(&packet::declares(b'B', 10_004)),
            Framing::Unfinished
        );
    }
}
