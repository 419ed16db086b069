//! Rows whose key is changed to one of another shard.

use super::evaluate::Evaluation;
use super::{Pin, Row};
use crate::placement::Shard;
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
        let Row {
            group,
            kinds,
            modifiers,
            key,
        } = &self.key;
        let to = super::insert::place(*group, kinds, modifiers, key, evaluation)?;
        let found = evaluation.together(&self.found)?.unwrap_or_default();
        let mut found = found.into_iter();
        match (found.next(), found.next()) {
            (Some(from), None) => Ok((from, to)),
            _ => {
                let reason = "rows whose key is changed to one of another shard must be on one";
                Err(Refusal::new("SET", reason).hint("Change those of each shard by themselves."))
            }
        }
    }
}
