//! Why a statement is not run.

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
}

impl Refusal {
    /// Not supported over shards (0A000).
    pub(crate) fn new(part: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            code: "0A000",
            part: part.into(),
            reason: reason.into(),
            hint: None,
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
