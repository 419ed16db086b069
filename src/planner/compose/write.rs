//! UPDATE and DELETE.

use pg_query::protobuf::{DeleteStmt, UpdateStmt};

use super::Builder;
use crate::plan::Plan;
use crate::refusal::{Refusal, Result};
use crate::resolve::Names;

impl Builder<'_> {
    pub(super) fn update(&mut self, _update: &UpdateStmt, _names: &Names) -> Result<Plan> {
        Err(Refusal::new("UPDATE", "it is not supported over shards"))
    }

    pub(super) fn delete(&mut self, _delete: &DeleteStmt, _names: &Names) -> Result<Plan> {
        Err(Refusal::new("DELETE", "it is not supported over shards"))
    }
}
