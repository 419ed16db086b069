//! What a lookup has given: the shards of keys, as far as they are known.

use std::collections::BTreeMap;

use parking_lot::RwLock;

use super::key::KeyValue;
use super::method::MethodError;
use super::{KeyType, Shard};

/// The shards of keys that were looked up. Keys come to be known while statements are planned by it; the shard of a key that
/// is known never becomes another one, so that what was planned stays right.
#[derive(Debug)]
pub struct Mapping {
    kind: KeyType,
    known: RwLock<BTreeMap<KeyValue, Spot>>,
}

/// What is known of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spot {
    /// Its rows are there.
    On(Shard),
    /// It was given a shard that there is not, and has had no other.
    Nowhere,
    /// It has had a shard, and was given another one since, or none.
    Moved,
}

/// Two are equal if they are the same one.
impl PartialEq for Mapping {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for Mapping {}

impl Mapping {
    /// One of keys of this type, in which nothing is known.
    pub fn new(kind: KeyType) -> Self {
        Self {
            kind,
            known: RwLock::default(),
        }
    }

    /// The type of its keys.
    pub fn kind(&self) -> KeyType {
        self.kind
    }

    /// How many keys are known, with those that have moved.
    pub fn count(&self) -> usize {
        self.known.read().len()
    }

    /// Whether the shard of a key was seen to be another one than it had been.
    pub fn has_moved(&self) -> bool {
        let known = self.known.read();
        known.values().any(|spot| *spot == Spot::Moved)
    }

    /// Takes what a lookup has given for all keys there are; `None` is a shard that there is not. Answers whether keys have
    /// moved that had not before.
    pub fn take(&self, mut given: BTreeMap<KeyValue, Option<Shard>>) -> bool {
        let mut moved = false;
        // Statements are planned meanwhile, and few keys are others.
        let mut changes: Vec<(KeyValue, Option<Spot>)> = Vec::new();
        for (key, spot) in self.known.read().iter() {
            let now = match (*spot, given.remove(key)) {
                (Spot::On(shard), Some(Some(now))) if now == shard => continue,
                (Spot::On(_), _) => {
                    moved = true;
                    Some(Spot::Moved)
                }
                (Spot::Moved, _) | (Spot::Nowhere, Some(None)) => continue,
                (Spot::Nowhere, Some(Some(shard))) => Some(Spot::On(shard)),
                (Spot::Nowhere, None) => None,
            };
            changes.push((key.clone(), now));
        }
        let mut known = self.known.write();
        for (key, spot) in changes {
            match spot {
                Some(spot) => drop(known.insert(key, spot)),
                None => drop(known.remove(&key)),
            }
        }
        for (key, shard) in given {
            known.insert(key, shard.map_or(Spot::Nowhere, Spot::On));
        }
        moved
    }

    pub(super) fn shard(&self, key: &KeyValue) -> Result<Shard, MethodError> {
        match self.known.read().get(key) {
            Some(Spot::On(shard)) => Ok(*shard),
            Some(Spot::Nowhere) => Err(MethodError::Nowhere),
            Some(Spot::Moved) => Err(MethodError::Moved),
            None => Err(MethodError::Unknown),
        }
    }

    /// Whether keys of one column of this type may be among its own.
    pub(super) fn takes(&self, kind: KeyType) -> bool {
        self.kind == kind || self.kind.is_int() && kind.is_int()
    }
}

#[cfg(test)]
mod tests {
    use super::Mapping;
    use crate::placement::{KeyType, KeyValue, MethodError, Shard};

    fn take(mapping: &Mapping, given: &[(i64, Option<u16>)]) -> bool {
        let given = given.iter();
        mapping.take(
            given
                .map(|(key, shard)| (KeyValue::Int(*key), shard.map(Shard)))
                .collect(),
        )
    }

    #[test]
    fn keys_come_to_be_known_and_stay_where_they_are() {
        let mapping = Mapping::new(KeyType::Int8);
        let shard = |key| mapping.shard(&KeyValue::Int(key));
        assert_eq!(shard(1), Err(MethodError::Unknown));
        assert!(!take(&mapping, &[(1, Some(0)), (2, Some(1)), (3, None)]));
        assert_eq!((shard(1), shard(2)), (Ok(Shard(0)), Ok(Shard(1))));
        assert_eq!(shard(3), Err(MethodError::Nowhere));
        // One is new, one is somewhere now; both have had no shard before.
        let grown = [(1, Some(0)), (2, Some(1)), (3, Some(1)), (4, Some(0))];
        assert!(!take(&mapping, &grown));
        assert_eq!((shard(3), shard(4)), (Ok(Shard(1)), Ok(Shard(0))));
        assert!(!mapping.has_moved());
        // One is elsewhere, one is gone, one is nowhere.
        assert!(take(&mapping, &[(1, Some(1)), (3, None), (4, Some(0))]));
        for key in [1, 2, 3] {
            assert_eq!(shard(key), Err(MethodError::Moved), "{key}");
        }
        assert_eq!(shard(4), Ok(Shard(0)));
        assert!(mapping.has_moved());
        assert_eq!(mapping.count(), 4);
        // Nothing brings them back, and it is told once.
        assert!(!take(&mapping, &grown));
        assert_eq!(shard(1), Err(MethodError::Moved));
        assert!(mapping.has_moved());
    }

    #[test]
    fn what_never_had_a_shard_may_go() {
        let mapping = Mapping::new(KeyType::Int4);
        assert!(!take(&mapping, &[(1, None)]));
        assert!(!take(&mapping, &[]));
        assert_eq!(mapping.shard(&KeyValue::Int(1)), Err(MethodError::Unknown));
        assert!(mapping.takes(KeyType::Int8) && !mapping.takes(KeyType::Text));
    }
}
