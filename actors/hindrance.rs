//! What keeps a pool from opening a server connection that it wants.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;

/// A limit that pools share, all of which is in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// The setting, as the configuration names it among `[limits]`.
    pub name: Arc<str>,
    /// Server connections that it allows.
    pub max: usize,
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} is {}", self.name, self.max)
    }
}

/// The limit that holds a pool up, and how often each has.
#[derive(Debug, Default)]
pub struct Hindrance {
    now: ArcSwapOption<Limit>,
    counts: Mutex<BTreeMap<Arc<str>, u64>>,
}

impl Hindrance {
    /// The pool has asked for a connection in vain.
    pub fn meets(&self, name: Arc<str>, max: usize) {
        *self.counts.lock().entry(Arc::clone(&name)).or_default() += 1;
        self.now.store(Some(Arc::new(Limit { name, max })));
    }

    /// Nothing holds the pool up any more: it opens a connection, or wants none.
    pub fn ends(&self) {
        if self.now.load().is_some() {
            self.now.store(None);
        }
    }

    /// The limit that holds the pool up.
    pub fn now(&self) -> Option<Arc<Limit>> {
        self.now.load_full()
    }

    /// How often each limit has, those that never have left out.
    pub fn counts(&self) -> Vec<(Arc<str>, u64)> {
        let counts = self.counts.lock();
        let counts = counts.iter();
        counts
            .map(|(name, count)| (Arc::clone(name), *count))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Hindrance;

    #[test]
    fn limits_are_counted_and_the_last_is_named() {
        let hindrance = Hindrance::default();
        assert_eq!(hindrance.now(), None);
        hindrance.meets("max_connections".into(), 5);
        hindrance.meets("max_host_connections".into(), 2);
        hindrance.meets("max_host_connections".into(), 3);
        let now = hindrance.now().expect("it holds it up").to_string();
        assert_eq!(now, "max_host_connections is 3");
        hindrance.ends();
        assert_eq!(hindrance.now(), None);
        let counts = hindrance.counts();
        let counts: Vec<_> = counts
            .iter()
            .map(|(name, count)| (&**name, *count))
            .collect();
        assert_eq!(
            counts,
            [("max_connections", 1), ("max_host_connections", 2)]
        );
    }
}
