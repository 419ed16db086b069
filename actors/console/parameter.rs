//! Parameters of a session that drivers set and ask for without being told to. The console has a
//! fixed value for each and lets it be set to anything, as PgBouncer's console does.

use crate::console::table::{Cell, Column, text};

/// A parameter and its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameter {
    name: &'static str,
    value: &'static str,
}

/// What may be shown. The server's version is the one that clients were told at login.
const KNOWN: [Parameter; 14] = [
    known("client_encoding", "UTF8"),
    known("server_encoding", "UTF8"),
    known("standard_conforming_strings", "on"),
    known("integer_datetimes", "on"),
    known("datestyle", "ISO, MDY"),
    known("intervalstyle", "postgres"),
    known("timezone", "UTC"),
    known("extra_float_digits", "1"),
    known("search_path", ""),
    known("transaction_isolation", "read committed"),
    known("default_transaction_isolation", "read committed"),
    known("transaction_read_only", "off"),
    known("default_transaction_read_only", "off"),
    known(
        "server_version",
        concat!("15.0 (pgherd ", env!("CARGO_PKG_VERSION"), ")"),
    ),
];

/// What may be set and never shown.
const SILENT: [&str; 7] = [
    "application_name",
    "bytea_output",
    "client_min_messages",
    "idle_in_transaction_session_timeout",
    "lock_timeout",
    "statement_timeout",
    "names",
];

const fn known(name: &'static str, value: &'static str) -> Parameter {
    Parameter { name, value }
}

/// The parameter that is asked for in these key words, as they follow SHOW.
pub fn find(asked: &[&str]) -> Option<Parameter> {
    let name = match asked {
        [name] => *name,
        ["transaction", "isolation", "level"] => "transaction_isolation",
        ["time", "zone"] => "timezone",
        _ => return None,
    };
    KNOWN.into_iter().find(|parameter| parameter.name == name)
}

/// Whether a SET that goes on with these key words is one of those that drivers send.
pub fn is_settable(asked: &[&str]) -> bool {
    let asked = match asked {
        ["session" | "local", rest @ ..] => rest,
        all => all,
    };
    match asked {
        ["characteristics" | "transaction", _, ..] => true,
        ["time", "zone", _, ..] => true,
        [name, _, ..] => SILENT.contains(name) || KNOWN.iter().any(|known| known.name == *name),
        _ => false,
    }
}

impl Parameter {
    /// The column of its answer.
    pub fn column(self) -> Column {
        text(self.name)
    }

    /// Its value.
    pub fn value(self) -> Cell {
        self.value.into()
    }
}
