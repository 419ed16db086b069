//! The users' own settings that a session has had, which Postgres does not forget.

use super::{Parameters, key};

impl Parameters {
    /// Takes note of a setting that the session has or had, if it is one of the users' own.
    pub fn meet(&mut self, name: &str) {
        if name.contains('.') {
            self.met.insert(key(name));
        }
    }

    /// It has turned out that the session has never had this one.
    pub fn never_met(&mut self, name: &str) {
        self.met.remove(&key(name));
    }

    /// As [`Self::meet`] of all that another has met.
    pub fn meet_all(&mut self, other: &Self) {
        self.met.extend(other.met.iter().cloned());
    }

    /// Whether the session has or had this one.
    pub fn has_met(&self, name: &str) -> bool {
        self.met.contains(&key(name))
    }

    /// How many it has or had.
    pub fn count_met(&self) -> usize {
        self.met.len()
    }

    /// Those that are met here, and that `other` has never had.
    pub fn strange_to<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a str> {
        self.met.difference(&other.met).map(|name| &**name)
    }

    /// Whether there is one here that `other` has never had.
    pub fn is_strange_to(&self, other: &Self) -> bool {
        self.strange_to(other).next().is_some()
    }

    /// Whether both have the same set at present.
    pub fn is_set_as(&self, other: &Self) -> bool {
        self.values == other.values
    }

    /// Whether both have had the same.
    pub fn has_met_as(&self, other: &Self) -> bool {
        self.met == other.met
    }

    /// What is left where everything is set back.
    #[must_use]
    pub fn forgotten(&self) -> Self {
        Self {
            met: self.met.clone(),
            ..Self::default()
        }
    }
}
