//! What the end of a transaction, or of a part of it, takes back of a session's settings.
//!
//! Postgres keeps a stack of values for each setting (`guc.c`, AtEOXact_GUC). Here the whole set is
//! kept, once for the transaction and once for each savepoint, which costs a pointer each. What
//! `SET LOCAL` sets is never part of it: the server takes that back by itself.

use std::sync::Arc;

use crate::parameters::Parameters;

/// More savepoints than this are not followed.
const SAVEPOINTS_MAX: usize = 1024;

/// A transaction in which settings were changed, or savepoints made.
///
/// It need not have been there from the transaction's begin, only before the first change: until
/// then everything is as it was at the begin.
#[derive(Debug, Clone)]
pub struct Block {
    begin: Arc<Parameters>,
    savepoints: Vec<(Box<str>, Arc<Parameters>)>,
    /// A statement has failed, and no ROLLBACK TO has mended it.
    failed: bool,
}

/// There are too many savepoints to be followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many savepoints in a transaction")]
pub struct TooMany;

impl Block {
    /// A transaction before anything was changed in it.
    pub fn new(begin: Arc<Parameters>) -> Self {
        Self {
            begin,
            savepoints: Vec::new(),
            failed: false,
        }
    }

    /// What was set when the transaction began.
    pub fn begin(&self) -> &Arc<Parameters> {
        &self.begin
    }

    /// What it, or a savepoint, may bring back.
    pub fn befores(&self) -> impl Iterator<Item = &Parameters> {
        let savepoints = self.savepoints.iter().map(|(_, before)| &**before);
        std::iter::once(&*self.begin).chain(savepoints)
    }

    /// `SAVEPOINT name` was answered while `now` was set.
    ///
    /// # Errors
    /// When there are too many.
    pub fn savepoint(&mut self, name: Box<str>, now: &Arc<Parameters>) -> Result<(), TooMany> {
        if self.savepoints.len() >= SAVEPOINTS_MAX {
            return Err(TooMany);
        }
        self.savepoints.push((name, Arc::clone(now)));
        Ok(())
    }

    /// `RELEASE name` was answered: what was set since then stays, for now.
    pub fn release(&mut self, name: &str) {
        if let Some(at) = self.find(name) {
            self.savepoints.truncate(at);
        }
    }

    /// `ROLLBACK TO name` was answered: what was set when the savepoint was made. `None` if there
    /// is none of this name, which the server would have refused.
    pub fn rollback_to(&mut self, name: &str) -> Option<Arc<Parameters>> {
        let at = self.find(name)?;
        self.savepoints.truncate(at + 1);
        self.failed = false;
        Some(Arc::clone(&self.savepoints.last()?.1))
    }

    /// A statement has failed: unless the transaction is a block, all of it is taken back.
    pub fn fail(&mut self) {
        self.failed = true;
    }

    /// What is set now that the transaction is over without a word: it was none that the client
    /// had begun, or its COMMIT failed.
    pub fn end(self, now: &Arc<Parameters>) -> Arc<Parameters> {
        if self.failed {
            self.begin
        } else {
            Arc::clone(now)
        }
    }

    /// Whether a statement has failed.
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.savepoints
            .iter()
            .rposition(|(known, _)| **known == *name)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::{Block, SAVEPOINTS_MAX, TooMany};
    use crate::parameters::Parameters;

    /// What a client may do.
    #[derive(Debug, Clone)]
    enum Deed {
        Set(u8, u8),
        Reset(u8),
        Savepoint(u8),
        Release(u8),
        RollbackTo(u8),
        Fail,
        Commit,
        Rollback,
    }

    fn deed() -> impl Strategy<Value = Deed> {
        prop_oneof![
            4 => (0u8..4, 0u8..4).prop_map(|(name, value)| Deed::Set(name, value)),
            1 => (0u8..4).prop_map(Deed::Reset),
            2 => (0u8..3).prop_map(Deed::Savepoint),
            1 => (0u8..3).prop_map(Deed::Release),
            2 => (0u8..3).prop_map(Deed::RollbackTo),
            1 => Just(Deed::Fail),
            1 => Just(Deed::Commit),
            1 => Just(Deed::Rollback),
        ]
    }

    /// As Postgres does it: each setting has a stack of values of its own, one for each level at
    /// which it was changed.
    #[derive(Default)]
    struct Stacks {
        now: BTreeMap<u8, u8>,
        levels: Vec<u8>,
        /// The value before it was changed at this level (0 is the transaction itself).
        before: Vec<BTreeMap<u8, Option<u8>>>,
        failed: bool,
    }

    impl Stacks {
        fn change(&mut self, name: u8, value: Option<u8>) {
            let old = self.now.get(&name).copied();
            let level = self.levels.len();
            self.before.resize_with(level + 1, BTreeMap::new);
            self.before[level].entry(name).or_insert(old);
            self.put(name, value);
        }

        fn put(&mut self, name: u8, value: Option<u8>) {
            match value {
                Some(value) => drop(self.now.insert(name, value)),
                None => drop(self.now.remove(&name)),
            }
        }

        fn undo(&mut self) {
            for (name, value) in self.before.pop().unwrap_or_default() {
                self.put(name, value);
            }
        }

        /// Ends the innermost level and keeps what it changed.
        fn merge(&mut self) {
            let level = self.levels.len();
            self.before.resize_with(level + 1, BTreeMap::new);
            let inner = self.before.pop().unwrap_or_default();
            for (name, value) in inner {
                self.before[level - 1].entry(name).or_insert(value);
            }
            self.levels.pop();
        }

        fn abort(&mut self) {
            self.before
                .resize_with(self.levels.len() + 1, BTreeMap::new);
            while !self.before.is_empty() {
                self.undo();
            }
            *self = Self {
                now: std::mem::take(&mut self.now),
                ..Self::default()
            };
        }

        /// Whether Postgres does it, without an error.
        fn apply(&mut self, deed: &Deed) -> bool {
            match *deed {
                Deed::Set(..) | Deed::Reset(_) | Deed::Savepoint(_) | Deed::Release(_)
                    if self.failed =>
                {
                    return false;
                }
                Deed::Set(name, value) => self.change(name, Some(value)),
                Deed::Reset(name) => self.change(name, None),
                Deed::Savepoint(name) => self.levels.push(name),
                Deed::Release(name) => {
                    let Some(at) = self.levels.iter().rposition(|known| *known == name) else {
                        self.failed = true;
                        return false;
                    };
                    while self.levels.len() > at {
                        self.merge();
                    }
                }
                Deed::RollbackTo(name) => {
                    let Some(at) = self.levels.iter().rposition(|known| *known == name) else {
                        self.failed = true;
                        return false;
                    };
                    self.before
                        .resize_with(self.levels.len() + 1, BTreeMap::new);
                    while self.before.len() > at + 1 {
                        self.undo();
                    }
                    self.levels.truncate(at + 1);
                    self.failed = false;
                }
                Deed::Fail => {
                    self.failed = true;
                    return false;
                }
                Deed::Commit if !self.failed => {
                    *self = Self {
                        now: std::mem::take(&mut self.now),
                        ..Self::default()
                    };
                }
                Deed::Commit | Deed::Rollback => self.abort(),
            }
            true
        }
    }

    fn parameters(values: &BTreeMap<u8, u8>) -> Parameters {
        let mut parameters = Parameters::default();
        for (name, value) in values {
            parameters.set(&name.to_string(), &value.to_string());
        }
        parameters
    }

    proptest! {
        #[test]
        fn what_is_set_is_what_the_stacks_of_postgres_say(deeds in proptest::collection::vec(deed(), 1..40)) {
            let mut stacks = Stacks::default();
            let mut now: Arc<Parameters> = Arc::default();
            let mut block: Option<Block> = None;
            for deed in &deeds {
                let failed = stacks.failed;
                let done = stacks.apply(deed);
                let begun = block.get_or_insert_with(|| Block::new(Arc::clone(&now)));
                match deed {
                    _ if !done => begun.fail(),
                    Deed::Set(name, value) => {
                        let mut changed = (*now).clone();
                        changed.set(&name.to_string(), &value.to_string());
                        now = Arc::new(changed);
                    }
                    Deed::Reset(name) => {
                        let mut changed = (*now).clone();
                        changed.remove(&name.to_string());
                        now = Arc::new(changed);
                    }
                    Deed::Savepoint(name) => begun.savepoint(name.to_string().into(), &now).unwrap(),
                    Deed::Release(name) => begun.release(&name.to_string()),
                    Deed::RollbackTo(name) => now = begun.rollback_to(&name.to_string()).unwrap(),
                    Deed::Commit if !failed => block = None,
                    Deed::Commit | Deed::Rollback => {
                        now = Arc::clone(begun.begin());
                        block = None;
                    }
                    Deed::Fail => unreachable!("it is never done"),
                }
                prop_assert_eq!(&*now, &parameters(&stacks.now), "after {:?}", deed);
            }
            // A server that falls idle after a failure has taken everything back.
            if let Some(block) = block {
                let ended = block.end(&now);
                if stacks.failed {
                    stacks.abort();
                }
                prop_assert_eq!(&*ended, &parameters(&stacks.now));
            }
        }
    }

    #[test]
    fn savepoints_have_a_bound() {
        let now = Arc::default();
        let mut block = Block::new(Arc::clone(&now));
        for _ in 0..SAVEPOINTS_MAX {
            block.savepoint("s".into(), &now).unwrap();
        }
        assert_eq!(block.savepoint("s".into(), &now), Err(TooMany));
    }
}
