//! Rows whose key is changed to one of another shard.

use super::evaluate::Evaluation;
use super::{Pin, Row};
use crate::analyze::fact::Candidate;
use crate::placement::{Shard, Shards};
use crate::refusal::{Refusal, Result};

/// What [`Moved::objection`] gives where the table is not what it was when the statement was planned.
pub const CHANGED: &str = "its definition has changed";

/// An UPDATE of keys, as what takes the rows from their shard and stores what becomes of them on another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// Where all is that it reads.
    pub(crate) found: Vec<Pin>,
    /// The new key.
    pub(crate) key: Row,
    /// The UPDATE as it was written. It is not run, and to be explained on the shard of its rows: whatever one Postgres
    /// would say of it before it ran, it says then.
    pub whole: String,
    /// A query for the shard of the rows, which gives one text: why they may not move, [`CHANGED`], or NULL. What it says
    /// of the table's definition stays so for who has locked it as an UPDATE does.
    pub objection: String,
    /// Deletes the rows, and gives what is stored for each.
    pub delete: String,
    /// A query whose columns are of the types of those.
    pub columns: String,
    /// Stores the rows of a relation `pgherd_rows` that has these columns, called `w0`, `w1`, …; it gives what the UPDATE
    /// would.
    pub store: String,
}

impl Moved {
    /// The shard that the rows are on, and that of their new key.
    pub(super) fn ends(&self, evaluation: &Evaluation<'_>) -> Result<(Shard, Shard)> {
        let found = evaluation.together(&self.found)?.unwrap_or_default();
        let mut found = found.into_iter();
        match (found.next(), found.next()) {
            (Some(from), None) => Ok((from, self.key.place(evaluation)?)),
            _ => {
                let reason = "rows whose key is changed to one of another shard must be on one";
                Err(Refusal::new("SET", reason).hint("Change those of each shard by themselves."))
            }
        }
    }
}

impl Row {
    /// Where it is stored. No row that is there is changed to one whose key is NULL: whether there is one to be refused is for
    /// the server to say that would have it, and if its key is found by NULL, there is none.
    pub(super) fn shards(&self, evaluation: &Evaluation<'_>) -> Result<Shards> {
        let is_null = |it: &Candidate| match it {
            Candidate::Param { number, .. } => evaluation.is_null(*number),
            Candidate::Value(_) | Candidate::Array { .. } => false,
        };
        if self.changed && self.key.iter().any(is_null) {
            return Ok(Shards::new());
        }
        Ok([self.place(evaluation)?].into())
    }

    fn place(&self, evaluation: &Evaluation<'_>) -> Result<Shard> {
        let (kinds, modifiers) = (&self.kinds, &self.modifiers);
        super::insert::place(self.group, kinds, modifiers, &self.key, evaluation)
    }
}
