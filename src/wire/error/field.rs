//! The parts of a report.

use std::fmt;

/// How bad a report is, in the words of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Severity {
    /// The statement failed.
    Error,
    /// The session ends.
    Fatal,
    /// All sessions of the server end.
    Panic,
    /// Probably a mistake of the client's.
    Warning,
    /// Something to know.
    Notice,
    /// Something for developers.
    Debug,
    /// Something that was asked for.
    Info,
    /// Something for the log.
    Log,
}

impl Severity {
    /// The word of the protocol.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "ERROR",
            Self::Fatal => "FATAL",
            Self::Panic => "PANIC",
            Self::Warning => "WARNING",
            Self::Notice => "NOTICE",
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Log => "LOG",
        }
    }

    /// The severity that a word stands for.
    pub fn from_bytes(word: &[u8]) -> Option<Self> {
        Some(match word {
            b"ERROR" => Self::Error,
            b"FATAL" => Self::Fatal,
            b"PANIC" => Self::Panic,
            b"WARNING" => Self::Warning,
            b"NOTICE" => Self::Notice,
            b"DEBUG" => Self::Debug,
            b"INFO" => Self::Info,
            b"LOG" => Self::Log,
            _ => return None,
        })
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A field beside severity, code, message, detail and hint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Field {
    /// Where in the query text, in characters from one.
    Position,
    /// Where in the internal query.
    InternalPosition,
    /// The query that the server made itself.
    InternalQuery,
    /// The call stack.
    Where,
    /// The schema concerned.
    Schema,
    /// The table concerned.
    Table,
    /// The column concerned.
    Column,
    /// The data type concerned.
    DataType,
    /// The constraint concerned.
    Constraint,
    /// The source file of the server.
    File,
    /// The line in that file.
    Line,
    /// The function in that file.
    Routine,
}

impl Field {
    /// The byte of the protocol.
    pub fn to_byte(self) -> u8 {
        match self {
            Self::Position => b'P',
            Self::InternalPosition => b'p',
            Self::InternalQuery => b'q',
            Self::Where => b'W',
            Self::Schema => b's',
            Self::Table => b't',
            Self::Column => b'c',
            Self::DataType => b'd',
            Self::Constraint => b'n',
            Self::File => b'F',
            Self::Line => b'L',
            Self::Routine => b'R',
        }
    }

    /// The field that a byte stands for.
    pub fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            b'P' => Self::Position,
            b'p' => Self::InternalPosition,
            b'q' => Self::InternalQuery,
            b'W' => Self::Where,
            b's' => Self::Schema,
            b't' => Self::Table,
            b'c' => Self::Column,
            b'd' => Self::DataType,
            b'n' => Self::Constraint,
            b'F' => Self::File,
            b'L' => Self::Line,
            b'R' => Self::Routine,
            _ => return None,
        })
    }
}

/// What a relay must know of a server's error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peek<'a> {
    /// The severity that is never localised; where a server before 9.6 sends none, the other.
    pub severity_v: &'a [u8],
    /// The SQLSTATE.
    pub code: &'a [u8],
}
