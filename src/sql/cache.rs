//! A cache of what was learnt about a text, bounded in bytes, shared by all threads without one lock over all.

mod shard;
#[cfg(test)]
mod tests;

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

use parking_lot::Mutex;
use shard::Shard;

/// Counts of one cache since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheStats {
    /// Look-ups that found a value.
    pub hits: u64,
    /// Look-ups that did not.
    pub misses: u64,
    /// Entries that made room for others.
    pub evictions: u64,
    /// Entries now.
    pub entries: usize,
    /// Bytes now, as counted against the bound.
    pub bytes: usize,
}

/// Values by text and `extras` (what else the value depends on: a catalogue's version, options). Entries leave by
/// CLOCK: one that was used since the hand passed stays for another round.
#[derive(Debug)]
pub struct Cache<V> {
    shards: Box<[Mutex<Shard<V>>]>,
    hasher: RandomState,
}

/// Enough that a few dozen threads seldom meet.
const SHARDS: usize = 16;

impl<V> Cache<V> {
    /// A cache of at most about `bytes` bytes. A text larger than its share (a sixteenth) is never kept.
    pub fn new(bytes: usize) -> Self {
        Self {
            shards: (0..SHARDS)
                .map(|_| Mutex::new(Shard::new(bytes / SHARDS)))
                .collect(),
            hasher: RandomState::new(),
        }
    }

    /// The value of `text`, made by `make` if it is not there. `make` gives the value and the bytes it holds;
    /// it runs without a lock, so two threads may both make it, and the first to finish is kept.
    ///
    /// # Errors
    /// What `make` fails with; nothing is kept then.
    pub fn get_or_insert_with<E>(
        &self,
        text: &[u8],
        extras: u64,
        make: impl FnOnce() -> Result<(V, usize), E>,
    ) -> Result<Arc<V>, E> {
        let hash = self.hash(text, extras);
        if let Some(value) = self.shard(hash).lock().get(hash, text, extras) {
            return Ok(value);
        }
        let (value, size) = make()?;
        Ok(self
            .shard(hash)
            .lock()
            .insert(hash, text, extras, Arc::new(value), size))
    }

    /// The value of `text` if it is there.
    pub fn get(&self, text: &[u8], extras: u64) -> Option<Arc<V>> {
        let hash = self.hash(text, extras);
        self.shard(hash).lock().get(hash, text, extras)
    }

    /// Forgets everything; the counts stay.
    pub fn clear(&self) {
        for shard in &self.shards {
            shard.lock().clear();
        }
    }

    /// The counts of all shards, each read at its own moment.
    pub fn stats(&self) -> CacheStats {
        self.shards
            .iter()
            .fold(CacheStats::default(), |sum, shard| {
                let one = shard.lock().stats();
                CacheStats {
                    hits: sum.hits + one.hits,
                    misses: sum.misses + one.misses,
                    evictions: sum.evictions + one.evictions,
                    entries: sum.entries + one.entries,
                    bytes: sum.bytes + one.bytes,
                }
            })
    }

    fn hash(&self, text: &[u8], extras: u64) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        text.hash(&mut hasher);
        extras.hash(&mut hasher);
        hasher.finish()
    }

    fn shard(&self, hash: u64) -> &Mutex<Shard<V>> {
        // The low bits choose the bucket inside of the shard, so the high ones choose the shard.
        &self.shards[(hash >> 60) as usize % SHARDS]
    }
}
