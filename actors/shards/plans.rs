//! The plans of texts and what else is known of them, kept for as long as the schemas are the same.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use pgherd_planner::{Hint, Names, Statement};

/// What the plans of one group may take together, nearly; then all are made anew.
const BYTES_MAX: usize = 16 * 1024 * 1024;
/// The same of what else is known of texts.
const READINGS_MAX: usize = 4 * 1024 * 1024;
/// A longer text is planned each time.
const TEXT_MAX: usize = 64 * 1024;
/// What a plan takes besides its text and what grows with it, nearly.
const PLAN: usize = 2048;

/// The plans.
#[derive(Debug, Default)]
pub(super) struct Plans(Mutex<Kept<Arc<Statement>>>);

/// What is known of texts of one key; nothing of those that are none.
#[derive(Debug, Default)]
pub(super) struct Readings(Mutex<Kept<Option<Arc<Reading>>>>);

/// A text whose keys lead it to one shard, read once for all that run it.
#[derive(Debug)]
pub struct Reading {
    /// What it is.
    pub kind: Kind,
    /// The text of [`Kind::Simple`], or a Parse message behind its name.
    pub text: Box<[u8]>,
    /// The types that the Parse gives to parameters.
    pub types: Box<[u32]>,
    /// Its plan.
    pub statement: Arc<Statement>,
}

/// What the texts of readings are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// What is prepared.
    Prepared,
    /// The text of a simple query, with parameters in the place of literals.
    Simple,
}

#[derive(Debug)]
struct Kept<V> {
    /// Which schemas they are for.
    number: u64,
    bytes: usize,
    by_text: HashMap<Box<[u8]>, V>,
}

impl<V> Default for Kept<V> {
    fn default() -> Self {
        Self {
            number: 0,
            bytes: 0,
            by_text: HashMap::new(),
        }
    }
}

impl<V: Clone> Kept<V> {
    fn get(&self, key: &[u8], number: u64) -> Option<V> {
        let known = self.by_text.get(key)?;
        (self.number == number).then(|| known.clone())
    }

    /// Keeps something, within a bound for all together.
    fn put(&mut self, key: Box<[u8]>, value: V, number: u64, (weight, most): (usize, usize)) {
        if self.number < number || self.bytes + weight > most {
            self.by_text.clear();
            (self.number, self.bytes) = (number.max(self.number), 0);
        }
        if self.number == number {
            self.bytes += weight;
            self.by_text.insert(key, value);
        }
    }
}

impl Plans {
    /// The plan of a text under these names and the schemas of this number.
    pub(super) fn of(
        &self,
        text: &str,
        names: &Names,
        number: u64,
        make: impl FnOnce() -> Statement,
    ) -> Arc<Statement> {
        if text.len() > TEXT_MAX {
            return Arc::new(make());
        }
        let key = key(text, names);
        if let Some(known) = self.0.lock().get(&key, number) {
            return known;
        }
        let made = Arc::new(make());
        // A key that it hangs on may come to be known.
        if made.names_unknown() {
            return made;
        }
        let weight = key.len() * 8 + PLAN;
        let mut kept = self.0.lock();
        kept.put(key, Arc::clone(&made), number, (weight, BYTES_MAX));
        made
    }
}

impl Readings {
    /// What is known under this key, which has all in it that the meaning hangs on but the schemas of this number.
    pub(super) fn of(
        &self,
        key: &[u8],
        number: u64,
        make: impl FnOnce() -> Option<Reading>,
    ) -> Option<Arc<Reading>> {
        if let Some(known) = self.0.lock().get(key, number) {
            return known;
        }
        let made = make().map(Arc::new);
        let weight = key.len() * 2 + PLAN / 8;
        let mut kept = self.0.lock();
        kept.put(key.into(), made.clone(), number, (weight, READINGS_MAX));
        made
    }
}

/// No name of a schema has a zero byte in it, and no text.
fn key(text: &str, names: &Names) -> Box<[u8]> {
    let mut key = Vec::with_capacity(text.len() + 32);
    for schema in &names.search_path {
        key.extend_from_slice(schema.as_bytes());
        key.push(0);
    }
    key.push(0);
    key.push(u8::from(names.whole) | u8::from(names.together) << 1);
    Hint::write(names.hint.as_ref(), &mut key);
    key.extend_from_slice(text.as_bytes());
    key.into()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pgherd_planner::catalog::Catalog;
    use pgherd_planner::placement::Placement;
    use pgherd_planner::{Names, plan};

    use super::{BYTES_MAX, Plans, READINGS_MAX, Readings};

    #[test]
    fn a_plan_is_made_once_for_one_meaning() {
        let (plans, names) = (Plans::default(), Names::default());
        let placement = Arc::new(Placement::new(2));
        let make = || plan("select 1", &names, &Catalog::default(), &placement);
        let first = plans.of("select 1", &names, 1, make);
        let again = plans.of("select 1", &names, 1, || unreachable!("it is kept"));
        assert!(Arc::ptr_eq(&first, &again));
        let elsewhere = Names {
            search_path: vec!["other".into()],
            ..Names::default()
        };
        assert!(!Arc::ptr_eq(
            &first,
            &plans.of("select 1", &elsewhere, 1, make)
        ));
        assert!(!Arc::ptr_eq(&first, &plans.of("select 1", &names, 2, make)));
        // One who still plans by the old schemas leaves nothing behind.
        plans.of("select 1", &names, 1, make);
        assert_eq!(plans.0.lock().number, 2);
    }

    #[test]
    fn they_take_no_more_than_they_may() {
        let (plans, names) = (Plans::default(), Names::default());
        let placement = Arc::new(Placement::new(2));
        let padding = " ".repeat(60_000);
        for number in 0..60 {
            let text = format!("select {number}{padding}");
            plans.of(&text, &names, 1, || {
                plan("select 1", &names, &Catalog::default(), &placement)
            });
            assert!(plans.0.lock().bytes <= BYTES_MAX);
        }
    }

    #[test]
    fn what_is_no_text_of_one_key_is_found_out_once() {
        let readings = Readings::default();
        let mut made = 0;
        for number in [1, 1, 2] {
            let known = readings.of(b"select 1", number, || {
                made += 1;
                None
            });
            assert!(known.is_none());
        }
        assert_eq!(made, 2, "once for each of the schemas");
        for number in 0..2_000_u32 {
            let key = [&number.to_be_bytes()[..], &[b' '; 4096]].concat();
            readings.of(&key, 2, || None);
            assert!(readings.0.lock().bytes <= READINGS_MAX);
        }
    }
}
