//! The flow of bytes and the count of replies together, as a relay uses them, under any bytes in any
//! slices.

mod conversation;
mod down;
mod up;

use std::cell::Cell;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

/// Memory that a relay may take for each byte that it is given: the buffer that was read into and
/// the one that waits to be written, each of which doubles as it grows.
const FOR_EACH_BYTE: u64 = 32;
/// And for nothing.
const FOR_ALL: u64 = 16 * 1024;

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 768,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("seeds"))),
        ..ProptestConfig::default()
    }
}

/// How a stream comes and goes: the sizes of what is read, and of what is written in between.
#[derive(Debug, Clone)]
struct Pace {
    reads: Vec<usize>,
    writes: Vec<usize>,
}

impl Pace {
    /// Everything at once.
    fn at_once() -> Self {
        Self {
            reads: vec![usize::MAX],
            writes: vec![usize::MAX],
        }
    }
}

fn pace() -> impl Strategy<Value = Pace> {
    let sizes = |least| vec(least..50_usize, 1..8);
    (sizes(1), sizes(0)).prop_map(|(reads, writes)| Pace { reads, writes })
}

/// What something gives, and the most memory it took meanwhile.
fn measured<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let result = Cell::new(None);
    let info = allocation_counter::measure(|| result.set(Some(work())));
    (result.take().expect("it was run"), info.bytes_max)
}

fn bound(given: usize) -> u64 {
    FOR_ALL + FOR_EACH_BYTE * given as u64
}
