use std::collections::HashMap;
use std::sync::Arc;

use super::CacheStats;

/// What an entry costs besides its text and its value: slot, map entry and reference counts.
const OVERHEAD: usize = 128;

#[derive(Debug)]
struct Entry<V> {
    hash: u64,
    text: Box<[u8]>,
    extras: u64,
    value: Arc<V>,
    cost: usize,
    used: bool,
}

/// One part of a cache, behind one lock.
#[derive(Debug)]
pub(super) struct Shard<V> {
    /// Slots by hash. Two texts of one hash share a key: the later takes the place of the earlier.
    index: HashMap<u64, usize>,
    slots: Vec<Entry<V>>,
    hand: usize,
    limit: usize,
    stats: CacheStats,
}

impl<V> Shard<V> {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            index: HashMap::new(),
            slots: Vec::new(),
            hand: 0,
            limit,
            stats: CacheStats::default(),
        }
    }

    pub(super) fn get(&mut self, hash: u64, text: &[u8], extras: u64) -> Option<Arc<V>> {
        let found = self.find(hash, text, extras);
        match found {
            Some(_) => self.stats.hits += 1,
            None => self.stats.misses += 1,
        }
        found
    }

    fn find(&mut self, hash: u64, text: &[u8], extras: u64) -> Option<Arc<V>> {
        let entry = &mut self.slots[*self.index.get(&hash)?];
        if entry.extras != extras || *entry.text != *text {
            return None;
        }
        entry.used = true;
        Some(Arc::clone(&entry.value))
    }

    /// Keeps `value` unless somebody else's is there already, and gives the one that counts.
    pub(super) fn insert(
        &mut self,
        hash: u64,
        text: &[u8],
        extras: u64,
        value: Arc<V>,
        size: usize,
    ) -> Arc<V> {
        if let Some(earlier) = self.find(hash, text, extras) {
            return earlier;
        }
        let cost = size.saturating_add(text.len()).saturating_add(OVERHEAD);
        if cost > self.limit {
            return value;
        }
        if let Some(&slot) = self.index.get(&hash) {
            self.remove(slot);
        }
        while self.stats.bytes + cost > self.limit {
            self.evict();
        }
        self.index.insert(hash, self.slots.len());
        self.slots.push(Entry {
            hash,
            text: text.into(),
            extras,
            value: Arc::clone(&value),
            cost,
            used: false,
        });
        self.stats.bytes += cost;
        value
    }

    /// Moves the hand to the next entry that was not used since it last passed, and removes it.
    fn evict(&mut self) {
        loop {
            if self.hand >= self.slots.len() {
                self.hand = 0;
            }
            let entry = &mut self.slots[self.hand];
            if !std::mem::take(&mut entry.used) {
                break;
            }
            self.hand += 1;
        }
        self.remove(self.hand);
        self.stats.evictions += 1;
    }

    fn remove(&mut self, slot: usize) {
        let gone = self.slots.swap_remove(slot);
        self.index.remove(&gone.hash);
        self.stats.bytes -= gone.cost;
        if let Some(moved) = self.slots.get(slot) {
            self.index.insert(moved.hash, slot);
        }
    }

    pub(super) fn clear(&mut self) {
        self.index.clear();
        self.slots.clear();
        self.hand = 0;
        self.stats.bytes = 0;
    }

    pub(super) fn stats(&self) -> CacheStats {
        CacheStats {
            entries: self.slots.len(),
            ..self.stats
        }
    }
}
