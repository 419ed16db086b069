//! What a client may do to its session.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, RngCore as _};

use super::model::{Model, Name};

/// For how long a setting is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Span {
    Session,
    Local,
}

/// One statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    Set(Name, String, Span),
    /// The same by `set_config`.
    Config(Name, String, Span),
    Reset(Name),
    /// The same by `SET … TO DEFAULT`.
    Default(Name),
    ResetAll,
    Begin,
    Commit,
    CommitChain,
    Rollback,
    RollbackChain,
    Savepoint(usize),
    RollbackTo(usize),
    Release(usize),
    Fail,
    /// A setting, and a failure behind it in the same message.
    Undone(Box<Self>),
    CreateTemp,
    Insert(String),
    DropTemp,
    Lock(usize),
    UnlockAll,
    DiscardAll,
}

impl Deed {
    /// One that the model allows.
    pub(super) fn any(number: usize, model: &Model, rng: &mut StdRng) -> Self {
        if model.is_failed() {
            return match (model.depth(), rng.random_range(0..3)) {
                (0, 0..2) | (_, 0) => Self::Rollback,
                (0, _) => Self::Commit,
                (depth, _) => Self::RollbackTo(rng.random_range(0..depth)),
            };
        }
        match rng.random_range(0..20) {
            0..7 => Self::setting(number, rng),
            7 if rng.random() => Self::Default(Self::name(rng)),
            7 => Self::Reset(Self::name(rng)),
            8 => Self::ResetAll,
            9 | 10 if !model.in_block() => Self::Begin,
            9..15 if model.in_block() => Self::within(model, rng),
            15 | 16 => Self::temporary(number, model, rng),
            17 => Self::Lock(number * 10 + rng.random_range(0..3)),
            18 => Self::UnlockAll,
            19 if !model.in_block() && rng.random() => Self::DiscardAll,
            19 => Self::Undone(Box::new(Self::setting(number, rng))),
            _ => Self::Fail,
        }
    }

    fn name(rng: &mut StdRng) -> Name {
        *Name::ALL.choose(rng).unwrap_or(&Name::WorkMem)
    }

    /// A value of a setting that is this client's.
    pub(super) fn value(name: Name, number: usize, rng: &mut StdRng) -> String {
        match name {
            Name::WorkMem => format!("{}kB", 1100 + number * 20 + rng.random_range(0..20)),
            Name::SearchPath => format!("who{number}_{}", rng.random_range(0..5)),
            Name::Application | Name::Own => format!("who{number}-{}", rng.next_u32()),
            Name::IntervalStyle => (*["iso_8601", "sql_standard"]
                .choose(rng)
                .unwrap_or(&"iso_8601"))
            .to_owned(),
            Name::Role => "canary_role".to_owned(),
        }
    }

    fn setting(number: usize, rng: &mut StdRng) -> Self {
        let name = Self::name(rng);
        let value = Self::value(name, number, rng);
        let span = if rng.random_ratio(1, 3) {
            Span::Local
        } else {
            Span::Session
        };
        if rng.random_ratio(1, 3) {
            Self::Config(name, value, span)
        } else {
            Self::Set(name, value, span)
        }
    }

    fn within(model: &Model, rng: &mut StdRng) -> Self {
        let depth = model.depth();
        match rng.random_range(0..9) {
            0 => Self::Commit,
            1 => Self::Rollback,
            7 => Self::CommitChain,
            8 => Self::RollbackChain,
            2 | 3 if depth > 0 => Self::RollbackTo(rng.random_range(0..depth)),
            4 if depth > 0 => Self::Release(rng.random_range(0..depth)),
            5 => Self::Fail,
            _ => Self::Savepoint(depth),
        }
    }

    fn temporary(number: usize, model: &Model, rng: &mut StdRng) -> Self {
        if !model.is_owner() {
            return Self::Reset(Name::Role);
        }
        match model.readable() {
            None => Self::CreateTemp,
            Some(_) if rng.random_ratio(1, 4) => Self::DropTemp,
            Some(_) => Self::Insert(format!("who{number}-{}", rng.next_u32())),
        }
    }

    /// Its SQL.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Set(name, value, span) => {
                let local = if *span == Span::Local { "local " } else { "" };
                if *name == Name::Role {
                    return format!("set {local}role {value}");
                }
                format!("set {local}{} = '{value}'", name.text())
            }
            Self::Config(name, value, span) => {
                let local = *span == Span::Local;
                format!("select set_config('{}', '{value}', {local})", name.text())
            }
            Self::Reset(name) => format!("reset {}", name.text()),
            Self::Default(name) => format!("set {} to default", name.text()),
            Self::ResetAll => "reset all".to_owned(),
            Self::Begin => "begin".to_owned(),
            Self::Commit => "commit".to_owned(),
            Self::CommitChain => "commit and chain".to_owned(),
            Self::Rollback => "rollback".to_owned(),
            Self::RollbackChain => "rollback and chain".to_owned(),
            Self::Savepoint(number) => format!("savepoint s{number}"),
            Self::RollbackTo(number) => format!("rollback to s{number}"),
            Self::Release(number) => format!("release s{number}"),
            Self::Fail => "select 1 / 0".to_owned(),
            Self::Undone(deed) => format!("{}; select 1 / 0", deed.text()),
            Self::CreateTemp => "create temp table mine (word text)".to_owned(),
            Self::Insert(word) => format!("insert into mine values ('{word}')"),
            Self::DropTemp => "drop table mine".to_owned(),
            Self::Lock(key) => format!("select pg_advisory_lock({key})"),
            Self::UnlockAll => "select pg_advisory_unlock_all()".to_owned(),
            Self::DiscardAll => "discard all".to_owned(),
        }
    }

    /// Whether it is one statement, as the extended protocol wants it.
    pub(super) fn is_single(&self) -> bool {
        !matches!(self, Self::Undone(_))
    }

    /// The SQLSTATE with which it fails.
    pub(super) fn code(&self) -> Option<&'static str> {
        matches!(self, Self::Fail | Self::Undone(_)).then_some("22012")
    }
}
