//! PostgreSQL's own hash functions for partitions (`src/common/hashfn.c`, `hashfunc.c`, `numeric.c`),
//! so that `satisfies_hash_partition` can verify on any server where a row belongs.

/// `HASH_PARTITION_SEED` of `partitioning/partbounds.h`.
const SEED: u64 = 0x7A5B_2236_7996_DCFD;

/// What both hashes start from, before the length is added.
const START: u32 = 0x9e37_79b9_u32.wrapping_add(3_923_095);

struct State {
    a: u32,
    b: u32,
    c: u32,
}

impl State {
    fn new(length: u32, seed: u64) -> Self {
        let start = START.wrapping_add(length);
        let mut state = Self {
            a: start,
            b: start,
            c: start,
        };
        if seed != 0 {
            state.a = state.a.wrapping_add((seed >> 32) as u32);
            state.b = state.b.wrapping_add(seed as u32);
            state.mix();
        }
        state
    }

    fn mix(&mut self) {
        let Self { a, b, c } = self;
        let step = |x: &mut u32, y: &mut u32, z: u32, by: u32| {
            *x = x.wrapping_sub(*y) ^ y.rotate_left(by);
            *y = y.wrapping_add(z);
        };
        step(a, c, *b, 4);
        step(b, a, *c, 6);
        step(c, b, *a, 8);
        step(a, c, *b, 16);
        step(b, a, *c, 19);
        step(c, b, *a, 4);
    }

    fn finish(mut self) -> u64 {
        let step = |x: &mut u32, y: u32, by: u32| {
            *x = (*x ^ y).wrapping_sub(y.rotate_left(by));
        };
        step(&mut self.c, self.b, 14);
        step(&mut self.a, self.c, 11);
        step(&mut self.b, self.a, 25);
        step(&mut self.c, self.b, 16);
        step(&mut self.a, self.c, 4);
        step(&mut self.b, self.a, 14);
        step(&mut self.c, self.b, 24);
        u64::from(self.b) << 32 | u64::from(self.c)
    }
}

/// `hash_bytes_uint32_extended`.
fn word(value: u32) -> u64 {
    let mut state = State::new(4, SEED);
    state.a = state.a.wrapping_add(value);
    state.finish()
}

/// `hash_bytes_extended`, on a machine of either byte order as on one with the lowest byte first.
pub(super) fn bytes(value: &[u8]) -> u64 {
    // Values have a length of at most 1 GB.
    let mut state = State::new(value.len() as u32, SEED);
    let mut chunks = value.chunks_exact(12);
    let word_at = |bytes: &[u8], at: usize| {
        let byte = |n: usize| u32::from(bytes.get(at + n).copied().unwrap_or_default());
        byte(0) | byte(1) << 8 | byte(2) << 16 | byte(3) << 24
    };
    for chunk in &mut chunks {
        state.a = state.a.wrapping_add(word_at(chunk, 0));
        state.b = state.b.wrapping_add(word_at(chunk, 4));
        state.c = state.c.wrapping_add(word_at(chunk, 8));
        state.mix();
    }
    let rest = chunks.remainder();
    state.a = state.a.wrapping_add(word_at(rest, 0));
    state.b = state.b.wrapping_add(word_at(rest, 4));
    // The lowest byte of the third is the length's.
    state.c = state.c.wrapping_add(word_at(rest, 8) << 8);
    state.finish()
}

/// `hashint8extended`, which gives for a small value what `hashint4extended` does.
pub(super) fn int(value: i64) -> u64 {
    let high = (value >> 32) as u32;
    let low = value as u32;
    word(low ^ if value >= 0 { high } else { !high })
}

/// `hash_numeric_extended`: digits to the base 10,000 without zeros at either end, and the weight of the
/// first. NaN and the infinities hash to the seed, zero to the seed less one.
pub(super) fn numeric(digits: &[i16], weight: i32) -> u64 {
    let raw: Vec<u8> = digits
        .iter()
        .flat_map(|digit| digit.to_le_bytes())
        .collect();
    bytes(&raw) ^ i64::from(weight) as u64
}

pub(super) const NUMERIC_SPECIAL: u64 = SEED;
pub(super) const NUMERIC_ZERO: u64 = SEED - 1;

/// `hash_combine64`.
pub(super) fn combine(left: u64, right: u64) -> u64 {
    let added = right
        .wrapping_add(0x49a0_f4dd_15e5_a8e3)
        .wrapping_add(left << 54)
        .wrapping_add(left >> 7);
    left ^ added
}
