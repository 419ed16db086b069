//! Tables of one FROM that are joined by their keys are brought together.

use pg_query::protobuf::SelectStmt;

use super::{Position, Puller};
use crate::refusal::Result;

impl Puller<'_> {
    pub(super) fn joined(&mut self, _select: &mut SelectStmt, _position: &Position) -> Result<()> {
        Ok(())
    }
}
