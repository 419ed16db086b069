//! How a key is mapped to a shard.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::key::KeyValue;
use super::mapping::Mapping;
use super::{Shard, hash};

/// What is wrong with a method, or with a key by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MethodError {
    /// The key is in no list or range.
    #[error("the key is mapped to no shard")]
    Unmapped,
    /// Nothing is known of the key: the lookup gives none, or gave none when it was asked last.
    #[error("the lookup gives no shard for the key")]
    Unknown,
    /// The lookup gives a shard that there is not.
    #[error("the lookup gives no shard of this database for the key")]
    Nowhere,
    /// Rows with the key may be on another shard by now than they were.
    #[error("the lookup gives another shard for the key than before, or none any more")]
    Moved,
    /// There is no such shard.
    #[error("shard {0} does not exist")]
    NoShard(u16),
    /// No buckets.
    #[error("there must be a bucket")]
    NoBucket,
    /// Two ranges share values, or one ends before it begins.
    #[error("ranges overlap, or end before they begin")]
    Ranges,
    /// A text cannot be in a range: its order is its collation's.
    #[error("texts have no ranges")]
    TextRange,
    /// Too many groups, or none of this number.
    #[error("no such group")]
    Groups,
}

/// How a key is mapped to a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Method {
    /// By PostgreSQL's hash for partitions, modulo the number of buckets; each bucket is on a shard.
    Hash {
        /// The shard of each bucket.
        buckets: Vec<Shard>,
    },
    /// Each value by itself; keys of one column.
    List {
        /// The values that are mapped.
        values: BTreeMap<KeyValue, Shard>,
        /// Where all others are.
        default: Option<Shard>,
    },
    /// Ranges of values; keys of one column that is no text.
    Range(Vec<Range>),
    /// Each value by itself, as it is looked up; keys of one column.
    Lookup(Arc<Mapping>),
}

/// Values from one up to another, which is not part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// The first value; None for no bound.
    pub from: Option<KeyValue>,
    /// The value behind the last; None for no bound.
    pub to: Option<KeyValue>,
    /// Where they are.
    pub shard: Shard,
}

impl Range {
    fn has(&self, value: &KeyValue) -> bool {
        self.from.as_ref().is_none_or(|from| from <= value)
            && self.to.as_ref().is_none_or(|to| value < to)
    }

    fn meets(&self, other: &Self) -> bool {
        let ends_before = |one: &Self, two: &Self| match (&one.to, &two.from) {
            (Some(to), Some(from)) => to <= from,
            _ => false,
        };
        !ends_before(self, other) && !ends_before(other, self)
    }
}

impl Method {
    /// One bucket for each shard.
    pub fn hash(shards: u16) -> Self {
        Self::Hash {
            buckets: (0..shards).map(Shard).collect(),
        }
    }

    /// The bucket of a key, where keys are hashed into so many.
    pub fn bucket(key: &[KeyValue], buckets: usize) -> usize {
        let row = key
            .iter()
            .fold(0, |row, value| hash::combine(row, value.hash()));
        (row % buckets.max(1) as u64) as usize
    }

    pub(super) fn shard(&self, key: &[KeyValue]) -> Result<Shard, MethodError> {
        match self {
            Self::Hash { buckets } => buckets
                .get(Self::bucket(key, buckets.len()))
                .copied()
                .ok_or(MethodError::NoBucket),
            Self::List { values, default } => match key {
                [value] => values.get(value).copied().or(*default),
                _ => None,
            }
            .ok_or(MethodError::Unmapped),
            Self::Range(ranges) => match key {
                [value] => ranges.iter().find(|range| range.has(value)),
                _ => None,
            }
            .map(|range| range.shard)
            .ok_or(MethodError::Unmapped),
            Self::Lookup(mapping) => match key {
                [value] => mapping.shard(value),
                _ => Err(MethodError::Unmapped),
            },
        }
    }

    pub(super) fn check(&self, shards: u16) -> Result<(), MethodError> {
        let known = |shard: &Shard| match shard.0 < shards {
            true => Ok(()),
            false => Err(MethodError::NoShard(shard.0)),
        };
        match self {
            Self::Hash { buckets } if buckets.is_empty() => Err(MethodError::NoBucket),
            Self::Hash { buckets } => buckets.iter().try_for_each(known),
            Self::List { values, default } => values.values().chain(default).try_for_each(known),
            Self::Range(ranges) => {
                for (at, range) in ranges.iter().enumerate() {
                    known(&range.shard)?;
                    for bound in [&range.from, &range.to].into_iter().flatten() {
                        if matches!(bound, KeyValue::Text(_)) {
                            return Err(MethodError::TextRange);
                        }
                    }
                    let empty = matches!((&range.from, &range.to), (Some(a), Some(b)) if a >= b);
                    if empty || ranges[..at].iter().any(|other| other.meets(range)) {
                        return Err(MethodError::Ranges);
                    }
                }
                Ok(())
            }
            // What is looked up is read as a shard that there is.
            Self::Lookup(_) => Ok(()),
        }
    }

    /// Whether it can place keys of one column of this type alone.
    pub(crate) fn takes(&self, kinds: &[super::KeyType]) -> bool {
        let all = |mut values: Box<dyn Iterator<Item = &KeyValue> + '_>| {
            values.all(|value| matches!(kinds, [kind] if value.fits(*kind)))
        };
        match self {
            Self::Hash { .. } => true,
            Self::List { values, .. } => all(Box::new(values.keys())) && kinds.len() == 1,
            Self::Range(ranges) => {
                let bounds = ranges.iter().flat_map(|range| [&range.from, &range.to]);
                all(Box::new(bounds.flatten())) && kinds.len() == 1
            }
            Self::Lookup(mapping) => matches!(kinds, [kind] if mapping.takes(*kind)),
        }
    }
}
