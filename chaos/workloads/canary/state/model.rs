//! What a session must be after what has been done to it, by the rules of Postgres.

use std::collections::{BTreeMap, BTreeSet};

use super::deed::{Deed, Span};

/// A setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Name {
    WorkMem,
    SearchPath,
    /// The server reports it.
    Application,
    /// The server reports it.
    IntervalStyle,
    /// No server knows it.
    Own,
    Role,
}

impl Name {
    pub(super) const ALL: [Self; 6] = [
        Self::WorkMem,
        Self::SearchPath,
        Self::Application,
        Self::IntervalStyle,
        Self::Own,
        Self::Role,
    ];

    pub(super) fn text(self) -> &'static str {
        match self {
            Self::WorkMem => "work_mem",
            Self::SearchPath => "search_path",
            Self::Application => "application_name",
            Self::IntervalStyle => "intervalstyle",
            Self::Own => "app.canary",
            Self::Role => "role",
        }
    }

    /// What a look shows before anything was done.
    fn usual(self) -> &'static str {
        match self {
            Self::WorkMem => "4MB",
            Self::SearchPath => "\"$user\", public",
            Self::IntervalStyle => "postgres",
            Self::Application | Self::Own => "",
            Self::Role => "postgres",
        }
    }
}

/// What a ROLLBACK takes back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Values {
    /// Set for the session.
    session: BTreeMap<Name, String>,
    /// Set up to the transaction's end, over those of the session.
    local: BTreeMap<Name, String>,
    /// The words in the temporary table, if there is one.
    words: Option<BTreeSet<String>>,
}

/// Where a transaction block stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Block {
    #[default]
    None,
    Open,
    Failed,
}

/// A session.
#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    /// What it began with.
    startup: BTreeMap<Name, String>,
    now: Values,
    block: Block,
    /// What was at BEGIN, and at each savepoint.
    before: Vec<Values>,
    /// How often each lock is held; no ROLLBACK ends that.
    locks: BTreeSet<usize>,
}

impl Model {
    /// A session that began with these settings.
    pub(super) fn new(startup: BTreeMap<Name, String>) -> Self {
        Self {
            startup,
            ..Self::default()
        }
    }

    pub(super) fn is_fresh(&self) -> bool {
        self.now == Values::default() && self.locks.is_empty() && self.block == Block::None
    }

    pub(super) fn is_failed(&self) -> bool {
        self.block == Block::Failed
    }

    pub(super) fn in_block(&self) -> bool {
        self.block != Block::None
    }

    /// How many savepoints there are.
    pub(super) fn depth(&self) -> usize {
        self.before.len().saturating_sub(1)
    }

    /// The status that ReadyForQuery tells.
    pub(super) fn status(&self) -> u8 {
        match self.block {
            Block::None => b'I',
            Block::Open => b'T',
            Block::Failed => b'E',
        }
    }

    fn value(&self, name: Name) -> &str {
        let own = self.now.local.get(&name);
        let own = own.or_else(|| self.now.session.get(&name));
        let own = own.or_else(|| self.startup.get(&name));
        own.map_or_else(|| name.usual(), String::as_str)
    }

    /// Whether the session acts as who owns the temporary table.
    pub(super) fn is_owner(&self) -> bool {
        self.value(Name::Role) == Name::Role.usual()
    }

    /// The words in the temporary table, if the session may read it.
    pub(super) fn readable(&self) -> Option<String> {
        let words = self.now.words.as_ref().filter(|_| self.is_owner())?;
        Some(words.iter().cloned().collect::<Vec<_>>().join(","))
    }

    /// What a look must show.
    pub(super) fn look(&self) -> String {
        let mut shown: Vec<String> = Name::ALL
            .iter()
            .map(|name| self.value(*name).to_owned())
            .collect();
        let table = self.now.words.as_ref().map_or("", |_| "mine");
        shown.push(table.to_owned());
        shown.push(self.locks.len().to_string());
        shown.join("|")
    }

    /// Follows a statement that the model allowed.
    pub(super) fn apply(&mut self, deed: &Deed) {
        match deed {
            Deed::Set(name, value, span) | Deed::Config(name, value, span) => {
                self.set(*name, value, *span);
            }
            Deed::Reset(name) | Deed::Default(name) => {
                self.now.session.remove(name);
                self.now.local.remove(name);
            }
            Deed::ResetAll => {
                // The role is no part of it (GUC_NO_RESET_ALL).
                self.now.session.retain(|name, _| *name == Name::Role);
                self.now.local.retain(|name, _| *name == Name::Role);
            }
            Deed::Begin => self.begin(),
            Deed::Commit if self.block == Block::Open => self.end(),
            Deed::Commit | Deed::Rollback => self.undo(),
            Deed::CommitChain => {
                self.end();
                self.begin();
            }
            Deed::RollbackChain => {
                self.undo();
                self.begin();
            }
            Deed::Savepoint(_) => self.before.push(self.now.clone()),
            Deed::RollbackTo(number) => {
                self.block = Block::Open;
                self.before.truncate(number + 2);
                self.now = self.before[number + 1].clone();
            }
            Deed::Release(number) => self.before.truncate(number + 1),
            Deed::Fail | Deed::Undone(_) if self.in_block() => self.block = Block::Failed,
            Deed::Fail | Deed::Undone(_) => {}
            Deed::CreateTemp => self.now.words = Some(BTreeSet::new()),
            Deed::Insert(word) => self
                .now
                .words
                .get_or_insert_default()
                .extend([word.clone()]),
            Deed::DropTemp => self.now.words = None,
            Deed::Lock(key) => drop(self.locks.insert(*key)),
            Deed::UnlockAll => self.locks.clear(),
            Deed::DiscardAll => *self = Self::new(std::mem::take(&mut self.startup)),
        }
    }

    fn set(&mut self, name: Name, value: &str, span: Span) {
        match span {
            Span::Session => {
                self.now.local.remove(&name);
                self.now.session.insert(name, value.to_owned());
            }
            Span::Local if self.block == Block::Open => {
                self.now.local.insert(name, value.to_owned());
            }
            // It ends with its own statement.
            Span::Local => {}
        }
    }

    fn begin(&mut self) {
        self.block = Block::Open;
        self.before = vec![self.now.clone()];
    }

    fn undo(&mut self) {
        self.now = self.before.swap_remove(0);
        self.end();
    }

    fn end(&mut self) {
        self.now.local.clear();
        self.before.clear();
        self.block = Block::None;
    }
}

#[cfg(test)]
mod tests {
    use super::{Model, Name};
    use crate::workloads::canary::state::deed::{Deed, Span};

    fn after(deeds: &[Deed]) -> Model {
        let mut model = Model::default();
        for deed in deeds {
            model.apply(deed);
        }
        model
    }

    fn set(value: &str, span: Span) -> Deed {
        Deed::Set(Name::Own, value.to_owned(), span)
    }

    #[test]
    fn what_is_local_ends_with_the_transaction_and_the_rest_with_its_rollback() {
        let mut deeds = vec![
            set("a", Span::Session),
            Deed::Begin,
            set("b", Span::Session),
            set("c", Span::Local),
        ];
        assert_eq!(after(&deeds).value(Name::Own), "c");
        deeds.push(Deed::Commit);
        assert_eq!(after(&deeds).value(Name::Own), "b");
        deeds[4] = Deed::Rollback;
        assert_eq!(after(&deeds).value(Name::Own), "a");
    }

    #[test]
    fn a_savepoint_brings_back_what_was_and_mends_a_failed_block() {
        let deeds = [
            Deed::Begin,
            set("a", Span::Session),
            Deed::Savepoint(0),
            set("b", Span::Local),
            Deed::Savepoint(1),
            Deed::Fail,
            Deed::RollbackTo(0),
        ];
        let model = after(&deeds);
        assert_eq!((model.value(Name::Own), model.depth()), ("a", 1));
        assert!(!model.is_failed());
    }
}
