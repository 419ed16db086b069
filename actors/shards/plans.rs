//! The plans of texts, kept for as long as the schemas are the same.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use pgherd_planner::{Names, Statement};

/// What the plans of one group may take together, nearly; then all are made anew.
const BYTES_MAX: usize = 16 * 1024 * 1024;
/// A longer text is planned each time.
const TEXT_MAX: usize = 64 * 1024;
/// What a plan takes besides its text and what grows with it, nearly.
const PLAN: usize = 2048;

/// The plans.
#[derive(Debug, Default)]
pub(super) struct Plans(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    /// Which schemas they are for.
    number: u64,
    bytes: usize,
    by_text: HashMap<Box<[u8]>, Arc<Statement>>,
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
        {
            let kept = self.0.lock();
            if kept.number == number
                && let Some(known) = kept.by_text.get(&key)
            {
                return Arc::clone(known);
            }
        }
        let made = Arc::new(make());
        let weight = key.len() * 8 + PLAN;
        let mut kept = self.0.lock();
        if kept.number < number || kept.bytes + weight > BYTES_MAX {
            kept.by_text.clear();
            (kept.number, kept.bytes) = (number.max(kept.number), 0);
        }
        if kept.number == number {
            kept.bytes += weight;
            kept.by_text.insert(key, Arc::clone(&made));
        }
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
    key.extend_from_slice(text.as_bytes());
    key.into()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pgherd_planner::catalog::Catalog;
    use pgherd_planner::placement::Placement;
    use pgherd_planner::{Names, plan};

    use super::{BYTES_MAX, Plans};

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
}
