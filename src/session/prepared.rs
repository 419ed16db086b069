//! Prepared statements, of the protocol and of SQL, shared by clients over servers.
//!
//! A client names its statements as it likes. Each distinct (text, parameter types) is once on a
//! server, so that a statement one client prepared serves the next client too.

mod server;

pub use server::{Gone, Placed, ServerName, ServerStatements};

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::following::Edit;
use crate::parameters::Parameters;

const SHARDS: usize = 16;

/// One distinct statement: its text and parameter types, and how they are read.
#[derive(Debug)]
pub struct Statement<P> {
    /// Grows with each distinct statement; never used twice by a process.
    pub id: u64,
    /// How it comes to be on a server.
    pub source: Source,
    /// The body of a Parse message behind its name: text, NUL, count and parameter type OIDs. Of
    /// one that SQL has prepared, the text is that of the `PREPARE`.
    pub tail: Box<[u8]>,
    /// The parameters of the session that prepared it first: whoever has it has the same of those
    /// that change what a text means.
    pub read_under: Arc<Parameters>,
    /// Who may use what a server has of it.
    pub reach: Reach,
    /// What it takes in memory beside its names, in bytes.
    weight: usize,
    /// Where others find it, if it is shared.
    home: Option<Home<P>>,
    /// What the caller has worked out about the text.
    pub judgement: P,
}

/// A statement's place in its registry.
struct Home<P> {
    shards: Arc<Shards<P>>,
    hash: u64,
    /// Those of its parameters that change what a text means.
    reading: Box<[u8]>,
}

impl<P> std::fmt::Debug for Home<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Home").finish_non_exhaustive()
    }
}

impl<P> Drop for Statement<P> {
    /// Nobody has it any more, so that nobody is to find it.
    fn drop(&mut self) {
        let Some(home) = &self.home else {
            return;
        };
        let mut shard = shard_of(&home.shards, home.hash).lock();
        // Another may have taken its place since its last holder went.
        let known = shard.get(&home.hash);
        if known.is_some_and(|known| std::ptr::eq(known.as_ptr(), self)) {
            shard.remove(&home.hash);
            if shard.len() < shard.capacity() / 8 {
                let room = 2 * shard.len();
                shard.shrink_to(room);
            }
        }
    }
}

impl<P> Statement<P> {
    /// What is run, as the body of a Parse message behind its name.
    pub fn query(&self) -> &[u8] {
        match self.source {
            Source::Parse => &self.tail,
            Source::Prepare { query, .. } => self.tail.get(query..).unwrap_or_default(),
        }
    }

    /// The `PREPARE` with another name in the place of the client's, and where that stands, if SQL
    /// has prepared it.
    pub fn renamed(&self, name: &[u8]) -> Option<(Vec<u8>, Edit)> {
        let Source::Prepare { name: at, .. } = self.source else {
            return None;
        };
        let text = self.tail.split(|byte| *byte == 0).next()?;
        let (before, behind) = (text.get(..at.0)?, text.get(at.1..)?);
        let renamed = [before, b"\"", name, b"\"", behind].concat();
        Some((renamed, self.edit(name)?))
    }

    /// Whether it is read under these settings as under those of who has prepared it first, its names included.
    pub fn is_read_as(&self, parameters: &Arc<Parameters>) -> bool {
        let then = &self.read_under;
        Arc::ptr_eq(then, parameters) || then.reads_as(parameters) && then.names_as(parameters)
    }

    /// Whether its text means under these settings what it meant to who has prepared it first.
    pub fn reads_as(&self, parameters: &Arc<Parameters>) -> bool {
        Arc::ptr_eq(&self.read_under, parameters) || self.read_under.reads_as(parameters)
    }

    /// Whether it is that of this tail, prepared in this way under these of the parameters that change what a text means.
    fn is(&self, source: Source, tail: &[u8], reading: &[u8]) -> bool {
        let by_parse = |source: Source| matches!(source, Source::Parse);
        by_parse(self.source) == by_parse(source)
            && *self.tail == *tail
            && self
                .home
                .as_ref()
                .is_some_and(|home| *home.reading == *reading)
    }

    /// Where the `PREPARE` with this name differs from the client's.
    pub fn edit(&self, name: &[u8]) -> Option<Edit> {
        let Source::Prepare { name: at, .. } = self.source else {
            return None;
        };
        let (before, own) = (self.tail.get(..at.0)?, self.tail.get(at.0..at.1)?);
        Some(Edit::of(before, own, name.len() + 2))
    }
}

/// How a statement comes to be on a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// By a Parse message.
    Parse,
    /// By SQL `PREPARE`, which alone takes types by their names.
    Prepare {
        /// Where in the tail the name begins and ends.
        name: (usize, usize),
        /// Where in the tail the query begins that is prepared.
        query: usize,
    },
}

/// Who may use a statement that is on a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// All clients that have prepared the same text under the same settings.
    Shared,
    /// One client, on whichever server it is.
    Own,
    /// One client on the server that has read it: what was read cannot be read again.
    Bound,
}

/// What a statement takes and gives, as a server has described it: names and types of columns, and
/// types of parameters. As in Postgres, two descriptions with one shape can be decoded alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// What it takes, unless only what it gives was asked for, by a portal.
    pub parameters: Option<u64>,
    /// What it gives.
    pub columns: u64,
}

impl Shape {
    /// Whether who was told the one may go by it where the other is.
    pub fn fits(self, other: Self) -> bool {
        let parameters = self.parameters.zip(other.parameters);
        self.columns == other.columns && parameters.is_none_or(|(one, other)| one == other)
    }
}

/// All statements that some client of one pool holds; an entry dies with its last holder.
#[derive(Debug)]
pub struct Registry<P> {
    shards: Arc<Shards<P>>,
    hasher: RandomState,
    next: Arc<AtomicU64>,
}

/// By the hash of what tells statements apart, so that an entry takes no text of its own. Of two with one hash the
/// later takes the place of the earlier, which is then shared no further.
type Shard<P> = HashMap<u64, Weak<Statement<P>>>;
type Shards<P> = [Mutex<Shard<P>>; SHARDS];

fn shard_of<P>(shards: &Shards<P>, hash: u64) -> &Mutex<Shard<P>> {
    &shards[hash as usize % SHARDS]
}

impl<P> Default for Registry<P> {
    fn default() -> Self {
        Self::numbered_by(Arc::new(AtomicU64::new(1)))
    }
}

impl<P> Registry<P> {
    /// One whose statements take their numbers from here, so that those of several registries have numbers
    /// of their own.
    pub fn numbered_by(next: Arc<AtomicU64>) -> Self {
        Self {
            shards: Arc::new(std::array::from_fn(|_| Mutex::default())),
            hasher: RandomState::new(),
            next,
        }
    }

    /// The statement with this Parse tail, read under those of `parameters` that change what a text
    /// or the names in it mean; `judge` is asked only for one not seen before.
    pub fn intern(
        &self,
        parameters: &Arc<Parameters>,
        source: Source,
        tail: &[u8],
        judge: impl FnOnce() -> P,
    ) -> Arc<Statement<P>> {
        let mut reading = parameters.reading();
        reading.extend(parameters.naming());
        let by_parse = matches!(source, Source::Parse);
        let hash = self.hasher.hash_one((by_parse, tail, &*reading));
        let shard = shard_of(&self.shards, hash);
        // What dies takes its leave of the shard, so nothing is let go while that is locked.
        let known = shard.lock().get(&hash).and_then(Weak::upgrade);
        if let Some(known) = known.filter(|known| known.is(source, tail, &reading)) {
            return known;
        }
        let home = Home {
            shards: Arc::clone(&self.shards),
            hash,
            reading: reading.clone().into(),
        };
        let made = self.make(parameters, source, tail, Reach::Shared, Some(home), judge());
        let mut shard = shard.lock();
        let known = shard.get(&hash).and_then(Weak::upgrade);
        let same = known
            .as_deref()
            .is_some_and(|known| known.is(source, tail, &reading));
        if !same {
            shard.insert(hash, Arc::downgrade(&made));
        }
        drop(shard);
        known.filter(|_| same).unwrap_or(made)
    }

    /// A statement that is shared with nobody.
    pub fn own(
        &self,
        parameters: &Arc<Parameters>,
        source: Source,
        tail: &[u8],
        reach: Reach,
        judgement: P,
    ) -> Arc<Statement<P>> {
        self.make(parameters, source, tail, reach, None, judgement)
    }

    fn make(
        &self,
        parameters: &Arc<Parameters>,
        source: Source,
        tail: &[u8],
        reach: Reach,
        home: Option<Home<P>>,
        judgement: P,
    ) -> Arc<Statement<P>> {
        let shared = home.as_ref().map_or(0, |home| 1 + home.reading.len());
        Arc::new(Statement {
            id: self.next.fetch_add(1, Ordering::Relaxed),
            source,
            tail: tail.into(),
            read_under: Arc::clone(parameters),
            reach,
            weight: tail.len() + shared,
            home,
            judgement,
        })
    }
}

/// What a caller has worked out about a text, as far as it is counted here who has such.
pub trait Judged {
    /// Whether it changes what its session listens to.
    fn listens(&self) -> bool;
}

/// The unnamed statement of a client.
#[derive(Debug, Default, Clone)]
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
        /// The parameters of the session under which it was read.
        read_under: Arc<Parameters>,
    },
}

/// A statement that a client has.
#[derive(Debug)]
pub struct Held<P> {
    /// What it is.
    pub statement: Arc<Statement<P>>,
    /// What the client was told of it last, if it has asked: it may decode rows by that alone.
    pub shape: Option<Shape>,
}

impl<P> Held<P> {
    /// What it takes in memory beside its names, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.statement.weight
    }
}

impl<P> Clone for Held<P> {
    fn clone(&self) -> Self {
        Self {
            statement: Arc::clone(&self.statement),
            shape: self.shape,
        }
    }
}

/// The statements that one client has prepared, by the client's own names.
#[derive(Debug)]
pub struct ClientStatements<P> {
    named: HashMap<Box<[u8]>, Held<P>>,
    bytes: usize,
    bound: usize,
    listening: usize,
    /// The unnamed statement.
    pub unnamed: Unnamed<P>,
}

impl<P> Default for ClientStatements<P> {
    fn default() -> Self {
        Self {
            named: HashMap::new(),
            bytes: 0,
            bound: 0,
            listening: 0,
            unnamed: Unnamed::None,
        }
    }
}

impl<P: Judged> ClientStatements<P> {
    /// The statement that the client calls `name`.
    pub fn get(&self, name: &[u8]) -> Option<&Held<P>> {
        self.named.get(kept(name))
    }

    /// All of them, with the client's names.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &Held<P>)> {
        self.named.iter().map(|(name, held)| (&**name, held))
    }

    /// A name by which the client calls the statement `id`; it looks through all of them.
    pub fn name_of(&self, id: u64) -> Option<&[u8]> {
        let found = self.named.iter().find(|(_, held)| held.statement.id == id);
        found.map(|(name, _)| &**name)
    }

    /// Records a statement under the client's name.
    pub fn insert(&mut self, name: &[u8], held: Held<P>) {
        let name = kept(name);
        self.bytes += name.len() + held.statement.weight;
        self.bound += usize::from(held.statement.reach == Reach::Bound);
        self.listening += usize::from(held.statement.judgement.listens());
        if let Some(old) = self.named.insert(name.into(), held) {
            self.forget(name, &old);
        }
    }

    fn forget(&mut self, name: &[u8], old: &Held<P>) {
        self.bytes -= name.len() + old.statement.weight;
        self.bound -= usize::from(old.statement.reach == Reach::Bound);
        self.listening -= usize::from(old.statement.judgement.listens());
    }

    /// Records what the client was told of its statement `name`, if that is still the one of this id.
    pub fn described(&mut self, name: &[u8], id: u64, shape: Shape) {
        if let Some(held) = self.named.get_mut(kept(name))
            && held.statement.id == id
        {
            held.shape = Some(shape);
        }
    }

    /// Records what the client was told of its statement `name` by a portal, unless it was told something before.
    pub fn described_by_portal(&mut self, name: &[u8], id: u64, shape: Shape) {
        if self.get(name).is_some_and(|held| held.shape.is_none()) {
            self.described(name, id, shape);
        }
    }

    /// Forgets a name and gives what it stood for; unknown names are no error, as with Postgres'
    /// Close.
    pub fn remove(&mut self, name: &[u8]) -> Option<Held<P>> {
        let name = kept(name);
        let old = self.named.remove(name)?;
        self.forget(name, &old);
        Some(old)
    }

    /// Whether it has a statement that only one server can have.
    pub fn is_bound(&self) -> bool {
        self.bound > 0
    }

    /// Whether any of them, however it came here, changes what its session listens to.
    #[inline]
    pub fn listens(&self) -> bool {
        let unnamed = match &self.unnamed {
            Unnamed::Parsed { judgement, .. } => judgement.listens(),
            Unnamed::None => false,
        };
        unnamed || self.listening > 0
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

/// What Postgres keeps of a name. Where a character beyond ASCII is in what it keeps, the server may have more
/// bytes of it or fewer, and the whole name is kept.
pub fn kept(name: &[u8]) -> &[u8] {
    // NAMEDATALEN, less the zero behind it.
    match name.split_at_checked(63) {
        Some((first, _)) if first.is_ascii() => first,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{
        ClientStatements, Held, Judged, Reach, Registry, Shape, Source, Statement, Unnamed,
    };
    use crate::parameters::Parameters;

    fn shape(columns: u64) -> Shape {
        Shape {
            parameters: Some(0),
            columns,
        }
    }

    #[test]
    fn a_portal_tells_of_columns_alone() {
        let by_portal = |columns| Shape {
            parameters: None,
            columns,
        };
        let other = Shape {
            parameters: Some(1),
            columns: 7,
        };
        assert!(by_portal(7).fits(shape(7)) && shape(7).fits(by_portal(7)));
        assert!(!by_portal(7).fits(shape(8)) && !shape(7).fits(other));
        let registry = Registry::<()>::default();
        let one = registry.intern(&Arc::default(), Source::Parse, b"1", || ());
        let (id, mut client) = (one.id, ClientStatements::default());
        client.insert(b"s", held(one));
        for columns in [7, 8] {
            client.described_by_portal(b"s", id, by_portal(columns));
            let told = client.get(b"s").and_then(|held| held.shape);
            assert_eq!(told, Some(by_portal(7)), "it may go by the first");
        }
    }

    impl Judged for () {
        fn listens(&self) -> bool {
            false
        }
    }

    /// Whether it listens.
    #[derive(Debug, Clone, Copy)]
    struct Listens(bool);

    impl Judged for Listens {
        fn listens(&self) -> bool {
            self.0
        }
    }

    fn held<P>(statement: Arc<Statement<P>>) -> Held<P> {
        Held {
            statement,
            shape: None,
        }
    }

    #[test]
    fn the_same_text_is_one_statement_while_somebody_holds_it() {
        let registry = Registry::<()>::default();
        let none = Arc::default();
        let first = registry.intern(&none, Source::Parse, b"select 1\0\0\0", || ());
        let second = registry.intern(&none, Source::Parse, b"select 1\0\0\0", || ());
        assert!(Arc::ptr_eq(&first, &second));
        let id = first.id;
        drop((first, second));
        assert_ne!(
            registry
                .intern(&none, Source::Parse, b"select 1\0\0\0", || ())
                .id,
            id
        );
    }

    #[test]
    fn settings_make_another_statement_and_are_counted() {
        let registry = Registry::<()>::default();
        let none = Arc::default();
        let mut european = Parameters::default();
        european.set("datestyle", "DMY");
        let european = Arc::new(european);
        let plain = registry.intern(&none, Source::Parse, b"select 1\0\0\0", || ());
        let other = registry.intern(&european, Source::Parse, b"select 1\0\0\0", || ());
        assert_ne!(plain.id, other.id);
        assert!(Arc::ptr_eq(&other.read_under, &european));
        let own = registry.own(&none, Source::Parse, b"select 1\0\0\0", Reach::Own, ());
        assert!(!Arc::ptr_eq(&plain, &own));
        let mut client = ClientStatements::default();
        client.insert(b"s", held(other));
        assert_eq!(client.bytes(), 1 + 1 + 11 + 14);
    }

    #[test]
    fn who_reads_names_otherwise_has_another_statement() {
        let registry = Registry::<()>::default();
        let set = |name: &str, value: &str| {
            let mut set = Parameters::default();
            set.set(name, value);
            Arc::new(set)
        };
        let none = Arc::default();
        let intern = |parameters: &Arc<Parameters>| {
            let made = registry.intern(parameters, Source::Parse, b"select 1\0\0\0", || ());
            assert!(made.is_read_as(parameters));
            made
        };
        let held = intern(&none);
        for (name, value) in [
            ("search_path", "a"),
            ("role", "r"),
            ("session_authorization", "r"),
            ("datestyle", "DMY"),
            ("extra_float_digits", "0"),
        ] {
            let other = set(name, value);
            assert_ne!(intern(&other).id, held.id, "{name}");
            assert!(!held.is_read_as(&other), "{name}");
        }
        let same = set("work_mem", "1MB");
        assert_eq!(intern(&same).id, held.id);
        assert!(held.is_read_as(&same));
    }

    #[test]
    fn of_dead_statements_nothing_is_left() {
        let registry = Registry::<()>::default();
        let none = Arc::default();
        let intern = |i: usize| {
            let tail = format!("select {i}\0\0\0");
            registry.intern(&none, Source::Parse, tail.as_bytes(), || ())
        };
        let size = || {
            let shards = registry.shards.iter().map(|shard| shard.lock());
            let sizes = shards.map(|shard| (shard.len(), shard.capacity()));
            sizes.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
        };
        let first = intern(0);
        let many: Vec<_> = (0..10_000).map(intern).collect();
        assert_eq!(size().0, 10_000);
        drop(many);
        for i in 1..100 {
            drop(intern(i));
        }
        let (held, room) = size();
        assert_eq!(held, 1);
        assert!(room < 1000, "{room}");
        assert!(Arc::ptr_eq(&first, &intern(0)));
    }

    #[test]
    fn whoever_takes_the_place_of_a_dead_statement_keeps_it() {
        let registry = Registry::<()>::default();
        let none = Arc::default();
        for _ in 0..1000 {
            std::thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| drop(registry.intern(&none, Source::Parse, b"1", || ())));
                }
            });
            let one = registry.intern(&none, Source::Parse, b"1", || ());
            let other = registry.intern(&none, Source::Parse, b"1", || ());
            assert!(Arc::ptr_eq(&one, &other));
        }
    }

    #[test]
    fn bytes_follow_the_statements() {
        let registry = Registry::<()>::default();
        let none = Arc::default();
        let mut client = ClientStatements::default();
        client.insert(
            b"s",
            held(registry.intern(&none, Source::Parse, b"1234", || ())),
        );
        client.insert(
            b"s",
            held(registry.intern(&none, Source::Parse, b"12345678", || ())),
        );
        assert_eq!(client.bytes(), 1 + 1 + 8);
        client.remove(b"s");
        assert_eq!((client.bytes(), client.len()), (0, 0));
    }

    #[test]
    fn it_is_known_who_has_a_statement_that_listens() {
        let registry = Registry::<Listens>::default();
        let none = Arc::default();
        let prepare = |text: &str, listens| {
            held(registry.intern(&none, Source::Parse, text.as_bytes(), || Listens(listens)))
        };
        let mut client = ClientStatements::default();
        client.insert(b"s", prepare("select 1", false));
        assert!(!client.listens());
        client.insert(b"l", prepare("listen a", true));
        client.insert(b"l", prepare("unlisten a", true));
        assert!(client.listens());
        client.insert(b"l", prepare("select 1", false));
        assert!(!client.listens());
        for listens in [true, false] {
            client.unnamed = Unnamed::Parsed {
                tail: b"listen a".as_slice().into(),
                judgement: Listens(listens),
                read_under: Arc::clone(&none),
            };
            assert_eq!(client.listens(), listens);
        }
        client.insert(b"m", prepare("listen b", true));
        client.remove(b"m");
        assert!(!client.listens());
        client.insert(b"m", prepare("listen b", true));
        client.clear();
        assert!(!client.listens());
    }

    #[test]
    fn names_are_one_whose_first_bytes_are_as_many_as_are_kept() {
        let registry = Registry::<()>::default();
        let one = registry.intern(&Arc::default(), Source::Parse, b"1", || ());
        let mut client = ClientStatements::default();
        let name = "x".repeat(63);
        client.insert(format!("{name}long").as_bytes(), held(one));
        assert!(client.get(name.as_bytes()).is_some());
        assert!(client.get(format!("{name}er").as_bytes()).is_some());
        assert!(client.get(&name.as_bytes()[1..]).is_none());
        assert!(client.remove(format!("{name}y").as_bytes()).is_some());
        assert_eq!((client.bytes(), client.len()), (0, 0));
    }

    #[test]
    fn what_was_told_of_a_name_is_not_taken_for_its_successor() {
        let registry = Registry::<()>::default();
        let none = Arc::default();
        let mut client = ClientStatements::default();
        let old = registry.intern(&none, Source::Parse, b"1", || ());
        let new = registry.intern(&none, Source::Parse, b"2", || ());
        client.insert(b"s", held(Arc::clone(&new)));
        client.described(b"s", old.id, shape(1));
        assert_eq!(client.get(b"s").and_then(|held| held.shape), None);
        client.described(b"s", new.id, shape(2));
        assert_eq!(client.get(b"s").and_then(|held| held.shape), Some(shape(2)));
        assert_eq!(client.name_of(new.id), Some(&b"s"[..]));
    }
    #[test]
    fn what_sql_has_prepared_is_not_what_a_parse_has() {
        let registry = Registry::<()>::default();
        let none = Arc::default();
        let tail = b"prepare s as select 1\0\0\0";
        let by_parse = registry.intern(&none, Source::Parse, tail, || ());
        let (name, query) = ((8, 9), 13);
        let by_sql = registry.intern(&none, Source::Prepare { name, query }, tail, || ());
        assert_ne!(by_parse.id, by_sql.id);
        assert_eq!(by_sql.query(), b"select 1\0\0\0");
        let (renamed, edit) = by_sql.renamed(b"t").expect("it has a name");
        assert_eq!(renamed, b"prepare \"t\" as select 1");
        assert_eq!((edit.at, edit.removed, edit.added), (8, 1, 3));
        assert_eq!(by_parse.renamed(b"t"), None);
        assert_eq!(by_parse.query(), &*by_parse.tail);
    }
}
