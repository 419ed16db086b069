//! The few queries that drivers and tools put to see whom they are talking to.

use std::borrow::Cow;

use crate::console::table::{Cell, Column, int, text};
use crate::console::words::Word;
use crate::control::Control;

/// A question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Select {
    /// A number, to be told back.
    Int(i64),
    /// A text, to be told back.
    Text(String),
    /// `version()`.
    Version,
    /// `current_database()`.
    Database,
    /// `current_user` and its like.
    User,
    /// `pg_backend_pid()`.
    Pid,
    /// `pg_is_in_recovery()`, which is false.
    Recovery,
    /// `pg_advisory_unlock_all()`, with which asyncpg lays a connection down.
    Unlock,
}

/// The question that is put in these words, as they follow SELECT.
pub fn find(words: &[Word<'_>]) -> Option<Select> {
    let keys: Vec<String> = words.iter().map(Word::key).collect();
    match (
        words,
        keys.iter()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .as_slice(),
    ) {
        ([Word::Quoted(text)], _) => Some(Select::Text(text.to_string())),
        (_, ["current_user" | "session_user" | "user"]) => Some(Select::User),
        ([Word::Plain(number)], _) => number.parse().ok().map(Select::Int),
        ([_, Word::Sign('('), Word::Sign(')')], [name, ..]) => Some(match *name {
            "version" | "pg_catalog.version" => Select::Version,
            "current_database" | "pg_catalog.current_database" => Select::Database,
            "pg_backend_pid" | "pg_catalog.pg_backend_pid" => Select::Pid,
            "pg_is_in_recovery" | "pg_catalog.pg_is_in_recovery" => Select::Recovery,
            "pg_advisory_unlock_all" | "pg_catalog.pg_advisory_unlock_all" => Select::Unlock,
            _ => return None,
        }),
        _ => None,
    }
}

impl Select {
    /// The column of the answer, named as Postgres names it.
    pub fn column(&self) -> Column {
        match self {
            Self::Int(_) => int("?column?"),
            Self::Text(_) => text("?column?"),
            Self::Version => text("version"),
            Self::Database => text("current_database"),
            Self::User => text("current_user"),
            Self::Pid => int("pg_backend_pid"),
            Self::Recovery => text("pg_is_in_recovery"),
            Self::Unlock => text("pg_advisory_unlock_all"),
        }
    }

    /// The answer to the client behind this session.
    pub fn answer(&self, control: &Control) -> Cell {
        let identity = control.identity();
        match self {
            Self::Int(number) => Cell::Int(*number),
            Self::Text(text) => text.into(),
            Self::Version => VERSION.into(),
            Self::Database => identity.map(|who| who.database.clone()).into(),
            Self::User => identity.map(|who| who.user.clone()).into(),
            Self::Pid => control.id.into(),
            Self::Recovery => "f".into(),
            Self::Unlock => Cell::Text(Cow::Borrowed("")),
        }
    }
}

/// What answers to `version()`; begins as drivers expect that parse it.
const VERSION: &str = concat!(
    "PostgreSQL 15.0 (pgherd ",
    env!("CARGO_PKG_VERSION"),
    " console)"
);

#[cfg(test)]
mod tests {
    use super::{Select, find};
    use crate::console::words::statements;

    #[test]
    fn questions_of_drivers() {
        let asked = [
            ("1", Some(Select::Int(1))),
            ("-5", Some(Select::Int(-5))),
            ("'hi'", Some(Select::Text("hi".to_owned()))),
            ("VERSION()", Some(Select::Version)),
            ("pg_catalog.version()", Some(Select::Version)),
            ("current_user", Some(Select::User)),
            ("pg_is_in_recovery()", Some(Select::Recovery)),
            ("version", None),
            ("pg_sleep()", None),
            ("1, 2", None),
            ("99999999999999999999", None),
        ];
        for (text, wanted) in asked {
            let words = statements(text).expect("whole").remove(0);
            assert_eq!(find(&words), wanted, "{text}");
        }
    }
}
