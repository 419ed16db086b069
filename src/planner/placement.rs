//! Where rows live: which tables are sharded by which key, replicated, or on one shard.

use std::collections::{BTreeMap, BTreeSet, HashMap};

mod actions;
mod check;
mod hash;
mod key;
mod mapping;
mod method;
mod moment;
mod numeric;
#[cfg(test)]
mod tests;
mod text;

pub(crate) use actions::Write;
pub use check::Finding;
pub use key::{KeyError, KeyType, KeyValue};
pub use mapping::Mapping;
pub use method::{Method, MethodError, Range};
pub use numeric::Numeric;

/// A shard, by its number from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shard(pub u16);

/// Some of the shards, in their order.
pub type Shards = BTreeSet<Shard>;

/// Tables of one group keep rows with equal keys on one shard: same method, same types of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group(pub u16);

/// How the rows of a sharded table are placed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sharding {
    /// The columns of the key, in the order in which they are hashed.
    pub columns: Vec<String>,
    /// The tables that it may be joined with on one shard.
    pub group: Group,
}

/// Where the rows of a table are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Distribution {
    /// Each row on the shard of its key.
    Sharded(Sharding),
    /// All rows on every shard.
    Replicated,
    /// All rows on one shard.
    OneShard(Shard),
}

/// What holds for a table that nothing is said of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unlisted {
    /// Statements with it are refused.
    #[default]
    Refused,
    /// The same rows are on every shard.
    Replicated,
}

/// What the servers' sequences give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sequences {
    /// Each shard's own numbers, which other shards may give as well: statements that use one are refused.
    #[default]
    Overlapping,
    /// Numbers that no other shard gives, as with `INCREMENT BY n START i`.
    Disjoint,
}

/// Where rows live. Immutable once it is used, but that keys may come to be known that are [looked up](Mapping).
#[derive(Debug, Clone)]
pub struct Placement {
    shards: u16,
    groups: Vec<Method>,
    tables: HashMap<(String, String), Distribution>,
    columns: BTreeMap<String, Group>,
    schemas: HashMap<String, Distribution>,
    unlisted: Unlisted,
    sequences: Sequences,
    functions: BTreeSet<(String, String)>,
}

impl Placement {
    /// So many shards, with no tables.
    pub fn new(shards: u16) -> Self {
        Self {
            shards,
            groups: Vec::new(),
            tables: HashMap::new(),
            columns: BTreeMap::new(),
            schemas: HashMap::new(),
            unlisted: Unlisted::default(),
            sequences: Sequences::default(),
            functions: BTreeSet::new(),
        }
    }

    /// How many shards there are.
    pub fn shard_count(&self) -> u16 {
        self.shards
    }

    /// All shards.
    pub fn all(&self) -> Shards {
        (0..self.shards).map(Shard).collect()
    }

    /// Makes a group of tables that are placed by one method.
    ///
    /// # Errors
    /// If the method names a shard that there is not, or contradicts itself.
    pub fn group(&mut self, method: Method) -> Result<Group, MethodError> {
        method.check(self.shards)?;
        let number = u16::try_from(self.groups.len()).map_err(|_| MethodError::Groups)?;
        self.groups.push(method);
        Ok(Group(number))
    }

    /// Says where a table's rows are.
    pub fn table(&mut self, schema: &str, name: &str, distribution: Distribution) -> &mut Self {
        let key = (schema.to_owned(), name.to_owned());
        self.tables.insert(key, distribution);
        self
    }

    /// Shards all tables that have a column of this name, and that nothing else is said of, by it.
    pub fn column(&mut self, name: &str, group: Group) -> &mut Self {
        self.columns.insert(name.to_owned(), group);
        self
    }

    /// Says where the rows of a schema's tables are, unless something is said of the table.
    pub fn schema(&mut self, name: &str, distribution: Distribution) -> &mut Self {
        self.schemas.insert(name.to_owned(), distribution);
        self
    }

    /// Says what holds for all other tables.
    pub fn unlisted(&mut self, unlisted: Unlisted) -> &mut Self {
        self.unlisted = unlisted;
        self
    }

    /// Says what the servers' sequences give.
    pub fn sequences(&mut self, sequences: Sequences) -> &mut Self {
        self.sequences = sequences;
        self
    }

    /// Declares that a function of the users' reads and writes no table, whatever its volatility says.
    pub fn harmless_function(&mut self, schema: &str, name: &str) -> &mut Self {
        let key = (schema.to_owned(), name.to_owned());
        self.functions.insert(key);
        self
    }

    pub(crate) fn is_harmless(&self, schema: &str, name: &str) -> bool {
        let key = (schema.to_owned(), name.to_owned());
        self.functions.contains(&key)
    }

    pub(crate) fn sequences_are_disjoint(&self) -> bool {
        self.sequences == Sequences::Disjoint
    }

    /// Where the rows of a table with these columns are; None if nothing is said of it.
    pub fn of(&self, schema: &str, name: &str, columns: &[&str]) -> Option<Distribution> {
        let key = (schema.to_owned(), name.to_owned());
        if let Some(known) = self.tables.get(&key) {
            return Some(known.clone());
        }
        let by_column = self
            .columns
            .iter()
            .find(|(column, _)| columns.contains(&column.as_str()));
        if let Some((column, group)) = by_column {
            return Some(Distribution::Sharded(Sharding {
                columns: vec![column.clone()],
                group: *group,
            }));
        }
        match (self.schemas.get(schema), self.unlisted) {
            (Some(known), _) => Some(known.clone()),
            (None, Unlisted::Replicated) => Some(Distribution::Replicated),
            (None, Unlisted::Refused) => None,
        }
    }

    /// The shard of a key, whose values have the types of its columns.
    ///
    /// # Errors
    /// If it is mapped to no shard.
    pub fn shard(&self, group: Group, key: &[KeyValue]) -> Result<Shard, MethodError> {
        self.groups
            .get(usize::from(group.0))
            .ok_or(MethodError::Groups)?
            .shard(key)
    }

    /// Whether the keys of a group are looked up.
    pub(crate) fn is_looked_up(&self, group: Group) -> bool {
        matches!(self.method(group), Some(Method::Lookup(_)))
    }

    /// The method of a group.
    pub fn method(&self, group: Group) -> Option<&Method> {
        self.groups.get(usize::from(group.0))
    }
}
