//! The statements that one server connection has.

use std::collections::HashMap;

use super::Shape;

/// How the names begin that statements have on servers.
const PREFIX: &[u8] = b"pgherd_";
/// The longest name: the prefix and the digits of a number.
const NAME_MAX: usize = PREFIX.len() + 20;

/// The name of a statement on one server connection; none is given twice there, so that one whose
/// fate is not known is in nobody's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerName(u64);

/// A name as it is written.
#[derive(Debug, Clone, Copy)]
pub struct NameText {
    bytes: [u8; NAME_MAX],
    start: usize,
}

impl NameText {
    /// The name without a terminating NUL.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

impl ServerName {
    /// How it is written.
    #[inline]
    pub fn text(self) -> NameText {
        let mut bytes = [0; NAME_MAX];
        let (mut start, mut number) = (NAME_MAX, self.0);
        loop {
            start -= 1;
            bytes[start] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        let digits = start;
        start -= PREFIX.len();
        bytes[start..digits].copy_from_slice(PREFIX);
        NameText { bytes, start }
    }

    /// The name that is written so.
    pub fn read(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(std::str::from_utf8(PREFIX).ok()?)?;
        digits.parse().ok().map(Self)
    }

    /// Whether a client's name may be one on servers, of this kind or of what else is put there by us.
    pub fn is_reserved(name: &[u8]) -> bool {
        name.starts_with(PREFIX)
    }

    /// Where a name of this kind stands in `text`, from the first on.
    pub fn find(text: &str) -> Option<std::ops::Range<usize>> {
        let prefix = std::str::from_utf8(PREFIX).unwrap_or_default();
        let start = text.find(prefix)?;
        let digits = text[start + prefix.len()..].bytes();
        let count = digits.take_while(u8::is_ascii_digit).count();
        (count > 0).then_some(start..start + prefix.len() + count)
    }
}

/// What is known of a statement that a server has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct OnServer {
    name: ServerName,
    used: u64,
    bytes: usize,
    shape: Option<Shape>,
    /// It is to be prepared anew before it is used.
    stale: bool,
    /// The same from the end of the transaction on.
    lent: bool,
    /// It was prepared by SQL, which functions can do as well.
    by_sql: bool,
    /// The server has discarded what it had made of it, and reads it anew when it is used.
    unread: bool,
}

/// A statement that was put on a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// Which statement.
    pub id: u64,
    /// How the server calls it.
    pub name: ServerName,
}

/// A statement that is to leave a server, for taking that back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone {
    id: u64,
    was: OnServer,
}

impl Gone {
    /// How the server calls it.
    pub fn name(&self) -> ServerName {
        self.was.name
    }
}

/// The prepared statements that one server connection has, with the least recently used evicted.
#[derive(Debug)]
pub struct ServerStatements {
    known: HashMap<u64, OnServer>,
    /// Names are numbered; zero is a name that no server ever has.
    named: u64,
    tick: u64,
    bytes: usize,
    max: usize,
    max_bytes: usize,
    /// What is of use for the client at hand alone, in its transaction.
    lent: Vec<Placed>,
    /// Nobody but the client at hand has the server before it is known to be as others would have it.
    bound: bool,
}

impl ServerStatements {
    /// A server connection that may hold `max` statements with `max_bytes` of text, but always one.
    pub fn new(max: usize, max_bytes: usize) -> Self {
        Self {
            known: HashMap::new(),
            named: 0,
            tick: 0,
            bytes: 0,
            max: max.max(1),
            max_bytes,
            lent: Vec::new(),
            bound: false,
        }
    }

    /// A name that no server ever has.
    pub fn nowhere() -> ServerName {
        ServerName(0)
    }

    /// How the server calls the statement, if it has it and that can be used; marks it as used.
    #[inline]
    pub fn touch(&mut self, id: u64) -> Option<Placed> {
        self.touch_as(id, || true)
    }

    /// As [`Self::touch`]. One that the server reads anew counts as missing, unless it `means_the_same` now, which is
    /// asked only then.
    #[inline]
    pub fn touch_as(&mut self, id: u64, means_the_same: impl FnOnce() -> bool) -> Option<Placed> {
        self.tick += 1;
        let known = self.known.get_mut(&id).filter(|known| !known.stale)?;
        if known.unread && !means_the_same() {
            return None;
        }
        known.used = self.tick;
        Some(Placed {
            id,
            name: known.name,
        })
    }

    /// Whether the server has a statement that it reads anew when it is used.
    pub fn is_unread(&self, id: u64) -> bool {
        self.known.get(&id).is_some_and(|known| known.unread)
    }

    /// Whether the server has it by this name, be it as it was meant or not.
    pub fn has(&self, placed: Placed) -> bool {
        let known = self.known.get(&placed.id);
        known.is_some_and(|known| known.name == placed.name)
    }

    /// How the server has described the statement, if it has since it was put there.
    #[inline]
    pub fn shape(&self, id: u64) -> Option<Shape> {
        self.known.get(&id)?.shape
    }

    /// Records how the server describes a statement, unless it was replaced meanwhile.
    pub fn described(&mut self, placed: Placed, shape: Shape) {
        if let Some(known) = self.known.get_mut(&placed.id)
            && known.name == placed.name
        {
            known.shape = Some(shape);
        }
    }

    /// Records how a portal of a statement is described, unless more is known.
    pub fn described_by_portal(&mut self, placed: Placed, shape: Shape) {
        if self.shape(placed.id).is_none() {
            self.described(placed, shape);
        }
    }

    /// Has a statement prepared anew before it is used again.
    pub fn doubt(&mut self, placed: Placed) {
        if let Some(known) = self.known.get_mut(&placed.id)
            && known.name == placed.name
        {
            known.stale = true;
        }
    }

    /// Has all statements prepared anew before they are used again.
    pub fn doubt_all(&mut self) {
        for known in self.known.values_mut() {
            known.stale = true;
        }
    }

    /// The server has discarded its plans: it reads each of its statements anew when that is used.
    pub fn forget_plans(&mut self) {
        for known in self.known.values_mut() {
            known.unread = true;
        }
    }

    /// Has a statement prepared anew once the transaction is over: others would have it be something else.
    pub fn lend(&mut self, placed: Placed) {
        if let Some(known) = self.known.get_mut(&placed.id)
            && known.name == placed.name
            && !std::mem::replace(&mut known.lent, true)
        {
            self.lent.push(placed);
        }
        if self.lent.len() > 2 * self.known.len() {
            // In a long transaction, others may have come in their places.
            let known = &self.known;
            let is_there =
                |lent: &Placed| known.get(&lent.id).is_some_and(|it| it.name == lent.name);
            self.lent.retain(is_there);
        }
    }

    /// A transaction begins. Whether its client is `bound` to the server by what others would read texts otherwise for:
    /// what it prepares is its own then, and once it is not, everything is prepared anew for the next.
    #[inline]
    pub fn begin(&mut self, bound: bool) {
        self.settle();
        if self.bound && !bound {
            self.doubt_all();
        }
        self.bound = bound;
    }

    /// The transaction is over.
    #[inline]
    pub fn settle(&mut self) {
        if !self.lent.is_empty() {
            let lent = std::mem::take(&mut self.lent);
            lent.into_iter().for_each(|placed| self.doubt(placed));
        }
    }

    /// Whether a server that says so has just these: how many were made by a Parse, which nobody else sends, and the
    /// numbers of those that SQL has made.
    pub fn are(&self, by_parse: usize, by_sql: impl IntoIterator<Item = u64>) -> bool {
        let mut told: Vec<u64> = by_sql.into_iter().collect();
        let own = self.known.values().filter(|known| known.by_sql);
        let mut own: Vec<u64> = own.map(|known| known.name.0).collect();
        told.sort_unstable();
        own.sort_unstable();
        told == own && self.known.len() - own.len() == by_parse
    }

    /// What has to leave the server before so many bytes more find room: to be called until there is
    /// nothing.
    pub fn make_room(&mut self, bytes: usize) -> Option<Gone> {
        if self.known.len() < self.max && self.bytes.saturating_add(bytes) <= self.max_bytes {
            return None;
        }
        let oldest = self.known.iter().min_by_key(|(_, known)| known.used);
        let id = *oldest?.0;
        self.take(id)
    }

    /// Records a statement with so many bytes of text as present by a Parse, and gives its name.
    pub fn insert(&mut self, id: u64, bytes: usize) -> Placed {
        self.add(id, bytes, false)
    }

    /// The same of one that SQL prepares.
    pub fn insert_by_sql(&mut self, id: u64, bytes: usize) -> Placed {
        self.add(id, bytes, true)
    }

    fn add(&mut self, id: u64, bytes: usize, by_sql: bool) -> Placed {
        self.tick += 1;
        self.named += 1;
        let name = ServerName(self.named);
        self.put(
            id,
            OnServer {
                name,
                used: self.tick,
                bytes,
                shape: None,
                stale: false,
                lent: false,
                by_sql,
                unread: false,
            },
        );
        Placed { id, name }
    }

    fn put(&mut self, id: u64, statement: OnServer) {
        self.bytes += statement.bytes;
        if let Some(old) = self.known.insert(id, statement) {
            self.bytes -= old.bytes;
        }
    }

    /// Forgets a statement that the server is to close.
    pub fn take(&mut self, id: u64) -> Option<Gone> {
        let was = self.known.remove(&id)?;
        self.bytes -= was.bytes;
        Some(Gone { id, was })
    }

    /// Forgets all statements, which the server is to close.
    pub fn take_all(&mut self) -> Vec<Gone> {
        self.bytes = 0;
        let all = self.known.drain();
        all.map(|(id, was)| Gone { id, was }).collect()
    }

    /// Forgets a statement whose Parse did not happen.
    pub fn remove(&mut self, placed: Placed) {
        if self
            .known
            .get(&placed.id)
            .is_some_and(|known| known.name == placed.name)
        {
            self.take(placed.id);
        }
    }

    /// Has the statement prepared anew whose name stands in what the server says of one that it does
    /// not have.
    pub fn doubt_named(&mut self, said: &str) {
        let name = ServerName::find(said).and_then(|at| ServerName::read(said.get(at)?));
        let id = name.and_then(|name| self.find(name));
        if let Some(known) = id.and_then(|id| self.known.get_mut(&id)) {
            known.stale = true;
        }
    }

    /// Takes a Close back that did not happen.
    pub fn restore(&mut self, gone: Gone) {
        let mut was = gone.was;
        // The transaction for which it was lent may be over by now.
        was.stale |= was.lent;
        self.put(gone.id, was);
    }

    /// Which statement the server calls so; it looks through all of them.
    pub fn find(&self, name: ServerName) -> Option<u64> {
        let found = self.known.iter().find(|(_, known)| known.name == name);
        found.map(|(id, _)| *id)
    }

    /// Forgets all, as after DEALLOCATE ALL or DISCARD ALL.
    pub fn clear(&mut self) {
        self.known.clear();
        self.bytes = 0;
    }

    /// How many statements the server has.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether the server has none.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Bytes of their texts.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::{ServerName, ServerStatements, Shape};

    fn shape(columns: u64) -> Shape {
        Shape {
            parameters: Some(0),
            columns,
        }
    }

    #[test]
    fn the_least_recently_used_makes_room_and_can_come_back() {
        let mut server = ServerStatements::new(2, 1000);
        assert_eq!(server.make_room(10), None);
        server.insert(1, 10);
        assert_eq!(server.make_room(10), None);
        let second = server.insert(2, 10);
        assert!(server.touch(1).is_some());
        let gone = server.make_room(10).expect("over the limit");
        assert_eq!(gone.name(), second.name);
        assert_eq!(server.make_room(10), None);
        server.insert(3, 10);
        assert_eq!(server.touch(2), None);
        server.restore(gone);
        assert_eq!(server.touch(2), Some(second));
        assert_eq!((server.len(), server.bytes()), (3, 30));
        assert_eq!(server.take_all().len(), 3);
        assert_eq!((server.len(), server.bytes()), (0, 0));
    }

    #[test]
    fn what_is_doubted_is_not_used_any_more_but_still_known() {
        let mut server = ServerStatements::new(3, 1000);
        let first = server.insert(1, 1);
        server.insert(2, 1);
        server.doubt_all();
        assert_eq!(
            (server.touch(1), server.touch(2), server.len()),
            (None, None, 2)
        );
        assert_eq!(server.take(1).map(|gone| gone.name()), Some(first.name));
        let third = server.insert(3, 1);
        assert_eq!(server.touch(3), Some(third));
    }

    #[test]
    fn what_is_lent_is_good_up_to_the_end_of_its_transaction() {
        let mut server = ServerStatements::new(3, 1000);
        let first = server.insert(1, 1);
        server.lend(first);
        let second = server.insert(2, 1);
        assert_eq!(server.touch(1), Some(first));
        server.settle();
        assert_eq!((server.touch(1), server.touch(2)), (None, Some(second)));
        // Another has come in its place.
        server.lend(second);
        server.take(2);
        let again = server.insert(2, 1);
        server.settle();
        assert_eq!(server.touch(2), Some(again));
        // However often it is used, it is lent once; and what is lent does not come back.
        server.lend(again);
        server.lend(again);
        assert_eq!(server.lent.len(), 1);
        // Nor does it matter how often others come in its place.
        for _ in 0..100 {
            server.take(2);
            let again = server.insert(2, 1);
            server.lend(again);
            assert!(server.lent.len() <= 2 * server.len());
        }
        let gone = server.take(2).expect("it is there");
        server.settle();
        server.restore(gone);
        assert_eq!(server.touch(2), None);
    }

    #[test]
    fn what_a_bound_client_has_is_for_nobody_else() {
        let mut server = ServerStatements::new(3, 1000);
        server.begin(true);
        let first = server.insert(1, 1);
        server.begin(true);
        assert_eq!(server.touch(1), Some(first));
        server.begin(false);
        assert_eq!(server.touch(1), None);
        let again = server.insert(1, 1);
        server.begin(false);
        assert_eq!(server.touch(1), Some(again));
    }

    #[test]
    fn what_is_read_anew_is_used_where_it_means_the_same() {
        let mut server = ServerStatements::new(3, 1000);
        let first = server.insert(1, 1);
        server.forget_plans();
        let second = server.insert(2, 1);
        assert_eq!(server.touch_as(1, || true), Some(first));
        assert_eq!(server.touch_as(1, || false), None);
        assert_eq!(server.touch_as(2, || false), Some(second));
        // It is put there anew.
        server.take(1);
        let again = server.insert(1, 1);
        assert_eq!(server.touch_as(1, || false), Some(again));
        // Whoever has had it put there has it.
        server.doubt(again);
        assert_eq!(server.touch(1), None);
        assert!(server.has(again) && !server.has(first));
    }

    #[test]
    fn what_sql_has_made_is_known_by_its_names() {
        let mut server = ServerStatements::new(9, 1000);
        let parsed = server.insert(1, 1);
        let by_sql = [2, 3].map(|id| server.insert_by_sql(id, 1));
        let [one, other] = by_sql.map(|placed| placed.name.0);
        assert!(server.are(1, [other, one]));
        // As many, but made by a function.
        assert!(!server.are(0, [one, other, parsed.name.0]));
        assert!(!server.are(1, [one, other + 1]));
        assert!(!server.are(1, [one]) && !server.are(2, [one]) && !server.are(2, [one, other]));
        server.take(2);
        assert!(server.are(1, [other]));
    }

    #[test]
    fn bytes_make_room_too_but_one_statement_is_always_held() {
        let mut server = ServerStatements::new(100, 25);
        server.insert(1, 10);
        server.insert(2, 10);
        assert!(server.make_room(20).is_some());
        assert!(server.make_room(20).is_some());
        assert_eq!(server.make_room(20), None);
        assert_eq!(server.make_room(20_000), None);
        server.insert(3, 20_000);
        assert_eq!((server.len(), server.bytes()), (1, 20_000));
    }

    #[test]
    fn a_statement_that_was_put_there_anew_is_another() {
        let mut server = ServerStatements::new(2, 1000);
        let first = server.insert(1, 1);
        server.described(first, shape(5));
        assert_eq!(server.shape(1), Some(shape(5)));
        let gone = server.take(1).expect("it is there");
        let second = server.insert(1, 1);
        assert_ne!(first.name, second.name);
        server.described(first, shape(5));
        assert_eq!(server.shape(1), None);
        server.remove(first);
        assert_eq!(server.touch(1), Some(second));
        // As when a Close and a Parse behind it are skipped: taken back from the end.
        server.remove(second);
        server.restore(gone);
        assert_eq!(server.touch(1), Some(first));
        assert_eq!(server.shape(1), Some(shape(5)));
        server.doubt_named("prepared statement \"pgherd_9\" does not exist");
        assert_eq!(server.touch(1), Some(first));
        server.doubt_named("prepared statement \"pgherd_1\" does not exist");
        assert_eq!(server.touch(1), None);
    }

    #[test]
    fn names_can_be_written_and_found() {
        for (number, name) in [(0, "pgherd_0"), (1907, "pgherd_1907")] {
            assert_eq!(ServerName(number).text().as_bytes(), name.as_bytes());
            assert_eq!(ServerName::read(name), Some(ServerName(number)));
        }
        let longest = ServerName(u64::MAX).text();
        assert_eq!(longest.as_bytes(), b"pgherd_18446744073709551615");
        let text = "execute pgherd_12: select 1";
        assert_eq!(
            ServerName::find(text).map(|at| &text[at]),
            Some("pgherd_12")
        );
        assert_eq!(ServerName::find("pgherd_x"), None);
        assert!(ServerName::is_reserved(b"pgherd_x") && !ServerName::is_reserved(b"pgherd"));
    }
}
