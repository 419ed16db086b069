//! Prepared statements of the protocol, shared by clients over servers.
//!
//! A client names its statements as it likes. Each distinct (text, parameter types) has one name
//! on every server, so that a statement one client prepared serves the next client too.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

const SHARDS: usize = 16;

/// One distinct statement: its text, parameter types, and its name on every server.
#[derive(Debug)]
pub struct Statement<P> {
    /// Grows with each distinct statement; never used twice by a process.
    pub id: u64,
    /// The name under which servers know it, without the terminating NUL.
    pub name: Box<[u8]>,
    /// The body of a Parse message behind its name: text, NUL, count and parameter type OIDs.
    pub tail: Box<[u8]>,
    /// What it takes in memory beside its names, in bytes.
    weight: usize,
    /// What the caller has worked out about the text.
    pub judgement: P,
}

/// All statements that some client of one pool holds; an entry dies with its last holder.
#[derive(Debug)]
pub struct Registry<P> {
    shards: [Mutex<Shard<P>>; SHARDS],
    hasher: RandomState,
    next: AtomicU64,
}

type Shard<P> = HashMap<Box<[u8]>, Weak<Statement<P>>>;

impl<P> Default for Registry<P> {
    fn default() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
            next: AtomicU64::new(1),
        }
    }
}

impl<P> Registry<P> {
    /// The statement with this Parse tail, read under these `settings` of the session that change
    /// what a text means; `judge` is asked only for one not seen before.
    pub fn intern(
        &self,
        settings: &[u8],
        tail: &[u8],
        judge: impl FnOnce() -> P,
    ) -> Arc<Statement<P>> {
        // A tail tells its own length (a text up to its zero byte, a count, and so many types), so
        // no tail with settings reads like another.
        let key = [tail, settings].concat();
        let shard = &self.shards[self.hasher.hash_one(&*key) as usize % SHARDS];
        if let Some(known) = shard.lock().get(&*key).and_then(Weak::upgrade) {
            return known;
        }
        let judgement = judge();
        let mut shard = shard.lock();
        if let Some(known) = shard.get(&*key).and_then(Weak::upgrade) {
            return known;
        }
        let statement = self.make(tail, key.len(), judgement);
        // Dead entries go when the table would grow, so it stays within twice the living ones.
        if shard.len() == shard.capacity() {
            shard.retain(|_, statement| statement.strong_count() > 0);
        }
        shard.insert(key.into(), Arc::downgrade(&statement));
        statement
    }

    /// A statement that is shared with nobody.
    pub fn own(&self, tail: &[u8], judgement: P) -> Arc<Statement<P>> {
        self.make(tail, tail.len(), judgement)
    }

    fn make(&self, tail: &[u8], weight: usize, judgement: P) -> Arc<Statement<P>> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        Arc::new(Statement {
            id,
            name: format!("pgherd_{id}").into_bytes().into(),
            tail: tail.into(),
            weight,
            judgement,
        })
    }
}

/// The unnamed statement of a client.
#[derive(Debug, Default)]
pub enum Unnamed<P> {
    /// The client has none: it never prepared one, or a simple query has ended it.
    #[default]
    None,
    /// The body of the client's last unnamed Parse behind its name, and what is known about it.
    Parsed {
        /// The Parse body behind the name.
        tail: Box<[u8]>,
        /// What the caller has worked out about the text.
        judgement: P,
    },
}

/// The statements that one client has prepared, by the client's own names.
#[derive(Debug)]
pub struct ClientStatements<P> {
    named: HashMap<Box<[u8]>, Arc<Statement<P>>>,
    bytes: usize,
    /// The unnamed statement.
    pub unnamed: Unnamed<P>,
}

impl<P> Default for ClientStatements<P> {
    fn default() -> Self {
        Self {
            named: HashMap::new(),
            bytes: 0,
            unnamed: Unnamed::None,
        }
    }
}

impl<P> ClientStatements<P> {
    /// The statement that the client calls `name`.
    pub fn get(&self, name: &[u8]) -> Option<&Arc<Statement<P>>> {
        self.named.get(name)
    }

    /// Records a statement under the client's name.
    pub fn insert(&mut self, name: &[u8], statement: Arc<Statement<P>>) {
        self.bytes += name.len() + statement.weight;
        if let Some(old) = self.named.insert(name.into(), statement) {
            self.bytes -= name.len() + old.weight;
        }
    }

    /// Forgets a name; unknown names are no error, as with Postgres' Close.
    pub fn remove(&mut self, name: &[u8]) {
        if let Some(old) = self.named.remove(name) {
            self.bytes -= name.len() + old.weight;
        }
    }

    /// Forgets everything, named and unnamed.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// How many named statements there are.
    pub fn len(&self) -> usize {
        self.named.len()
    }

    /// Whether there are no named statements.
    pub fn is_empty(&self) -> bool {
        self.named.is_empty()
    }

    /// Bytes of names and texts that this client keeps alive.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// A statement that had to leave a server to make room.
#[derive(Debug, PartialEq, Eq)]
pub struct Evicted {
    /// Its id, for taking the eviction back.
    pub id: u64,
    /// Its name on the server, to be closed there.
    pub name: Box<[u8]>,
}

/// The shared statements that one server connection has, with the least recently used evicted.
#[derive(Debug)]
pub struct ServerStatements {
    known: HashMap<u64, (u64, Box<[u8]>)>,
    tick: u64,
    max: usize,
}

impl ServerStatements {
    /// A server connection that may hold `max` statements (at least one).
    pub fn new(max: usize) -> Self {
        Self {
            known: HashMap::new(),
            tick: 0,
            max: max.max(1),
        }
    }

    /// Whether the server has the statement; marks it as used.
    pub fn touch(&mut self, id: u64) -> bool {
        self.tick += 1;
        match self.known.get_mut(&id) {
            Some((used, _)) => {
                *used = self.tick;
                true
            }
            None => false,
        }
    }

    /// Whether the server has the statement, without marking it as used.
    pub fn contains(&self, id: u64) -> bool {
        self.known.contains_key(&id)
    }

    /// Records a statement as present, and names the one that must be closed for it, if any.
    pub fn insert(&mut self, id: u64, name: &[u8]) -> Option<Evicted> {
        let evicted = if self.known.len() >= self.max && !self.known.contains_key(&id) {
            let oldest = self
                .known
                .iter()
                .min_by_key(|(_, (used, _))| *used)
                .map(|(id, _)| *id);
            oldest.and_then(|id| self.known.remove(&id).map(|(_, name)| Evicted { id, name }))
        } else {
            None
        };
        self.tick += 1;
        self.known.insert(id, (self.tick, name.into()));
        evicted
    }

    /// Forgets a statement, as when its Parse did not happen.
    pub fn remove(&mut self, id: u64) {
        self.known.remove(&id);
    }

    /// Takes an eviction back, as when its Close did not happen.
    pub fn restore(&mut self, evicted: &Evicted) {
        self.known.insert(evicted.id, (0, evicted.name.clone()));
    }

    /// Forgets all, as after DEALLOCATE ALL or DISCARD ALL.
    pub fn clear(&mut self) {
        self.known.clear();
    }

    /// How many statements the server has.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether the server has none.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{ClientStatements, Evicted, Registry, ServerStatements};

    #[test]
    fn the_same_text_is_one_statement_while_somebody_holds_it() {
        let registry = Registry::<()>::default();
        let first = registry.intern(b"", b"select 1\0\0\0", || ());
        let second = registry.intern(b"", b"select 1\0\0\0", || ());
        assert!(Arc::ptr_eq(&first, &second));
        let id = first.id;
        drop((first, second));
        assert_ne!(registry.intern(b"", b"select 1\0\0\0", || ()).id, id);
    }

    #[test]
    fn settings_make_another_statement_and_are_counted() {
        let registry = Registry::<()>::default();
        let plain = registry.intern(b"", b"select 1\0\0\0", || ());
        let other = registry.intern(b"datestyle\0ISO\0", b"select 1\0\0\0", || ());
        assert_ne!(plain.id, other.id);
        assert!(!Arc::ptr_eq(&plain, &registry.own(b"select 1\0\0\0", ())));
        let mut client = ClientStatements::default();
        client.insert(b"s", other);
        assert_eq!(client.bytes(), 1 + 11 + 14);
    }

    #[test]
    fn dead_statements_do_not_pile_up() {
        let registry = Registry::<()>::default();
        for i in 0..10_000 {
            registry.intern(b"", format!("select {i}\0\0\0").as_bytes(), || ());
        }
        let held: usize = registry.shards.iter().map(|shard| shard.lock().len()).sum();
        assert!(held < 1000, "{held} dead entries are kept");
    }

    #[test]
    fn the_least_recently_used_is_evicted_and_can_come_back() {
        let mut server = ServerStatements::new(2);
        assert_eq!(server.insert(1, b"a"), None);
        assert_eq!(server.insert(2, b"b"), None);
        assert!(server.touch(1));
        let evicted = server.insert(3, b"c").expect("over the limit");
        assert_eq!(
            evicted,
            Evicted {
                id: 2,
                name: (*b"b").into()
            }
        );
        assert!(!server.touch(2));
        server.restore(&evicted);
        assert!(server.touch(2));
    }

    #[test]
    fn bytes_follow_the_statements() {
        let registry = Registry::<()>::default();
        let mut client = ClientStatements::default();
        client.insert(b"s", registry.intern(b"", b"1234", || ()));
        client.insert(b"s", registry.intern(b"", b"12345678", || ()));
        assert_eq!(client.bytes(), 9);
        client.remove(b"s");
        assert_eq!((client.bytes(), client.len()), (0, 0));
    }
}
