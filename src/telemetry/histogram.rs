//! A histogram of durations that many threads record into without a lock.
//!
//! Buckets are log-linear: 8 to each doubling, from 1 µs to 100 s and a bit, so that a quantile is at most 12.5 %
//! too high.

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Bits of a value that are kept below its highest one.
const FINE: u32 = 3;
/// Values below this many µs have a bucket each.
const EXACT: u64 = 1 << FINE;
/// The longest duration that is told apart from longer ones: 2^27 µs is 134 s.
const DOUBLINGS: u32 = 27;
/// The last one holds all that is longer.
const BUCKETS: usize = ((DOUBLINGS - FINE + 1) << FINE) as usize + 1;

/// Durations recorded so far. Made once, shared by reference, never reset.
#[derive(Debug)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    nanos: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
            nanos: AtomicU64::new(0),
        }
    }
}

impl Histogram {
    /// Counts one duration. Two additions to atomics, nothing else is shared.
    #[inline]
    pub fn record(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket(micros)].fetch_add(1, Ordering::Relaxed);
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// The counts at about this moment: a record in between may be in the sum and not yet in a bucket.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            buckets: self
                .buckets
                .iter()
                .map(|count| count.load(Ordering::Relaxed))
                .collect(),
            sum: Duration::from_nanos(self.nanos.load(Ordering::Relaxed)),
        }
    }
}

/// Counts taken from one or more histograms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    buckets: Box<[u64]>,
    sum: Duration,
}

impl Default for Snapshot {
    fn default() -> Self {
        Self {
            buckets: Box::new([0; BUCKETS]),
            sum: Duration::ZERO,
        }
    }
}

impl Snapshot {
    /// Adds the counts of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        self.sum = self.sum.saturating_add(other.sum);
    }

    /// How many durations.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// All durations together.
    pub fn sum(&self) -> Duration {
        self.sum
    }

    /// The duration that a part `quantile` (0 to 1) of all did not exceed, rounded up to its bucket's end; None if
    /// there are none. What is longer than the last bound is told as that bound.
    pub fn quantile(&self, quantile: f64) -> Option<Duration> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = ((count as f64 * quantile.clamp(0.0, 1.0)).ceil() as u64).clamp(1, count);
        let mut below = 0;
        let found = self.buckets.iter().position(|here| {
            below += here;
            below >= rank
        });
        found.map(|bucket| end(bucket.min(BUCKETS - 2)))
    }

    /// How many were shorter than `bound`, counting whole buckets only: exact where `bound` is a bucket's end,
    /// which every power of two of µs is, else too few by at most one bucket.
    pub fn below(&self, bound: Duration) -> u64 {
        self.buckets
            .iter()
            .take(BUCKETS - 1)
            .enumerate()
            .take_while(|(bucket, _)| end(*bucket) <= bound)
            .map(|(_, count)| count)
            .sum()
    }
}

fn bucket(micros: u64) -> usize {
    if micros < EXACT {
        return micros as usize;
    }
    let doubling = micros.ilog2();
    if doubling >= DOUBLINGS {
        return BUCKETS - 1;
    }
    let fine = (micros >> (doubling - FINE)) & (EXACT - 1);
    (u64::from(doubling - FINE + 1) << FINE | fine) as usize
}

/// The first duration behind a bucket.
fn end(bucket: usize) -> Duration {
    let next = bucket as u64 + 1;
    let micros = if next < EXACT {
        next
    } else {
        let shift = (next >> FINE) - 1;
        (EXACT | next & (EXACT - 1)) << shift
    };
    Duration::from_micros(micros)
}
