//! INSERT.

use pg_query::protobuf::InsertStmt;

use super::Builder;
use crate::plan::Plan;
use crate::refusal::{Refusal, Result};
use crate::resolve::Names;

impl Builder<'_> {
    pub(super) fn insert(&mut self, _insert: &InsertStmt, _names: &Names) -> Result<Plan> {
        Err(Refusal::new("INSERT", "it is not supported over shards"))
    }
}
