//! Every decoder under bytes that nobody meant: noise, and sound messages that were bent; in one
//! piece and in slices; with the memory they take counted.

mod decode;
mod stream;

use std::cell::Cell;

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

use decode::{Side, backend, frontend, opening, streamed};
use stream::{any_stream, cuts, slices};

/// Memory that a decoder may take for each byte it is given. The dearest are the parameters of a
/// start-up packet: two strings for three bytes, in a list that has just doubled.
const FOR_EACH_BYTE: u64 = 64;
/// And for nothing, for messages of errors.
const FOR_ALL: u64 = 4096;

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 1024,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("seeds"))),
        ..ProptestConfig::default()
    }
}

/// What something gives, and the most memory it took meanwhile.
fn measured<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let result = Cell::new(None);
    let info = allocation_counter::measure(|| result.set(Some(work())));
    (result.take().expect("it was run"), info.bytes_max)
}

fn bound(bytes: &[u8]) -> u64 {
    FOR_ALL + FOR_EACH_BYTE * bytes.len() as u64
}

proptest! {
    #![proptest_config(config())]

    /// The same messages are understood, or refused, wherever the stream is cut.
    #[test]
    fn slices_change_nothing(bytes in any_stream(), cuts in cuts()) {
        for side in [Side::Client, Side::Server, Side::Opening] {
            let whole = streamed(side, &[&bytes]);
            prop_assert_eq!(&streamed(side, &slices(&bytes, &cuts)), &whole);
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            prop_assert_eq!(&streamed(side, &single), &whole);
        }
    }

    /// No bytes make a decoder panic, and none takes memory beyond the order of what it is given.
    #[test]
    fn a_decoder_takes_no_more_than_it_is_given(tag in any::<u8>(), bytes in any_stream()) {
        for (name, taken) in [
            ("frontend", measured(|| frontend(tag, &bytes)).1),
            ("backend", measured(|| backend(tag, &bytes)).1),
            ("opening", measured(|| opening(&bytes)).1),
        ] {
            prop_assert!(taken <= bound(&bytes), "{} of {}: {}", name, tag, taken);
        }
    }

    /// The same of each tag that has a decoder: a random one seldom hits it.
    #[test]
    fn bodies_under_every_tag(bytes in any_stream()) {
        for tag in decode::TAGS {
            let body = bytes.get(5..).unwrap_or_default();
            prop_assert!(measured(|| frontend(*tag, body)).1 <= bound(body), "frontend {}", tag);
            prop_assert!(measured(|| backend(*tag, body)).1 <= bound(body), "backend {}", tag);
        }
    }

    /// Names of a Bind, once they are read from its beginning, stay what they are.
    #[test]
    fn more_bytes_do_not_change_the_names_of_a_bind(bytes in any_stream()) {
        let head = |end: usize| decode::bind_head(&bytes[..end]);
        let mut known = None;
        for end in 0..=bytes.len() {
            let now = head(end);
            prop_assert!(known.is_none() || now == known, "{} bytes: {:?}", end, now);
            known = now;
        }
    }
}
