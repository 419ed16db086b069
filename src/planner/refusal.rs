//! Why a statement is not run.

use crate::placement::MethodError;

/// A statement is refused before anything of it ran.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{part}: {reason}")]
pub struct Refusal {
    /// The SQLSTATE: 0A000 where it cannot be answered as by one server, another where no server would.
    pub code: &'static str,
    /// Which part of the statement, in words of SQL.
    pub part: String,
    /// Why.
    pub reason: String,
    /// What might be done.
    pub hint: Option<&'static str>,
    /// It names keys whose shards are not known: once they are looked up, it may run.
    pub unknown: bool,
}

impl Refusal {
    /// Not supported over shards (0A000).
    pub(crate) fn new(part: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            code: "0A000",
            part: part.into(),
            reason: reason.into(),
            hint: None,
            unknown: false,
        }
    }

    /// A key has no shard, which is told with this code unless it is for another reason than that it has none.
    pub(crate) fn unplaced(part: &'static str, error: MethodError, code: &'static str) -> Self {
        let refusal = Self::new(part, error.to_string());
        match error {
            MethodError::Unknown => Self {
                unknown: true,
                ..refusal
                    .with(code)
                    .hint("What gives it one must be committed before.")
            },
            MethodError::Moved => refusal
                .with("55000")
                .hint("RELOAD on the console takes up where the rows are now."),
            MethodError::Nowhere => Self {
                unknown: true,
                ..refusal.with("55000")
            },
            _ => refusal.with(code),
        }
    }

    pub(crate) fn with(mut self, code: &'static str) -> Self {
        self.code = code;
        self
    }

    pub(crate) fn hint(mut self, hint: &'static str) -> Self {
        self.hint = Some(hint);
        self
    }
}

/// A result that may be a refusal.
pub(crate) type Result<T> = std::result::Result<T, Refusal>;
