//! What runs on the server without standing in the text.

use crate::lexer::{Token, TokenKind};

/// Which code a text may run that cannot be seen in it. Each includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u8)]
pub enum Runs {
    /// None: it says something about the session or the transaction.
    #[default]
    Nothing,
    /// What views, policies, operators and types bring with them.
    Reads,
    /// Also triggers, rules, defaults and constraints.
    Writes,
    /// Functions and procedures of which nothing is known.
    Unknown,
}

impl Runs {
    /// All, in order.
    pub const ALL: [Self; 4] = [Self::Nothing, Self::Reads, Self::Writes, Self::Unknown];
}

/// What a text has to do with what a session remembers of sequences (`sequence.c`, SeqTable).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SequenceEffect {
    /// Nothing that can be seen.
    #[default]
    None,
    /// It may leave a value there: `nextval`, `setval`, new rows.
    Uses,
    /// It asks for one by `currval` or `lastval`.
    Asks,
    /// Both.
    Both,
}

impl SequenceEffect {
    /// Whether it may leave a value.
    pub fn uses(self) -> bool {
        matches!(self, Self::Uses | Self::Both)
    }

    /// Whether it asks for one.
    pub fn asks(self) -> bool {
        matches!(self, Self::Asks | Self::Both)
    }

    pub(super) fn and(self, other: Self) -> Self {
        match (self.uses() || other.uses(), self.asks() || other.asks()) {
            (true, true) => Self::Both,
            (true, false) => Self::Uses,
            (false, true) => Self::Asks,
            (false, false) => Self::None,
        }
    }
}

/// What a statement is by its first word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    /// It only reads: what writes would stand in front.
    Query,
    /// It reads, or writes if one of the words for that stands in it.
    Composed,
    /// It makes or changes rows; new ones if so.
    Write { new: bool },
    /// It is about the session or the transaction, or goes on with what was judged before.
    Session,
    /// It changes what the database consists of.
    Definition,
    /// Anything else.
    Other,
}

impl Family {
    pub(super) fn of(first: &Token<'_>) -> Self {
        const WORDS: [(&[u8], Family); 41] = [
            (b"select", Family::Query),
            (b"insert", Family::Write { new: true }),
            (b"update", Family::Write { new: false }),
            (b"delete", Family::Write { new: false }),
            (b"begin", Family::Session),
            (b"commit", Family::Session),
            (b"with", Family::Composed),
            (b"values", Family::Query),
            (b"table", Family::Query),
            (b"explain", Family::Composed),
            (b"declare", Family::Composed),
            (b"merge", Family::Write { new: true }),
            (b"copy", Family::Write { new: true }),
            (b"start", Family::Session),
            (b"end", Family::Session),
            (b"rollback", Family::Session),
            (b"abort", Family::Session),
            (b"savepoint", Family::Session),
            (b"release", Family::Session),
            (b"set", Family::Session),
            (b"reset", Family::Session),
            (b"show", Family::Session),
            (b"close", Family::Session),
            (b"fetch", Family::Session),
            (b"move", Family::Session),
            (b"listen", Family::Session),
            (b"unlisten", Family::Session),
            (b"notify", Family::Session),
            (b"deallocate", Family::Session),
            (b"discard", Family::Session),
            (b"lock", Family::Session),
            (b"load", Family::Session),
            (b"checkpoint", Family::Session),
            (b"create", Family::Definition),
            (b"alter", Family::Definition),
            (b"drop", Family::Definition),
            (b"import", Family::Definition),
            // It wakes event triggers.
            (b"comment", Family::Definition),
            (b"vacuum", Family::Other),
            (b"do", Family::Other),
            (b"call", Family::Other),
        ];
        if first.is(b'(') {
            return Self::Composed;
        }
        if first.kind != TokenKind::Word {
            return Self::Other;
        }
        let found = WORDS.iter().find(|(word, _)| first.is_word(word));
        found.map_or(Self::Other, |(_, family)| *family)
    }

    /// What such a statement runs at least.
    pub(super) fn runs(self) -> Runs {
        match self {
            Self::Query | Self::Composed => Runs::Reads,
            Self::Write { .. } => Runs::Writes,
            Self::Session => Runs::Nothing,
            Self::Definition | Self::Other => Runs::Unknown,
        }
    }
}
