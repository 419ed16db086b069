//! Statements that are neither queries nor changes of rows.

use pg_query::NodeEnum;

use super::Builder;
use crate::plan::Plan;
use crate::refusal::Result;
use crate::resolve::{Names, unknown_node};

impl Builder<'_> {
    pub(super) fn definition(&mut self, node: &NodeEnum, _names: &Names) -> Result<Plan> {
        match node {
            NodeEnum::TransactionStmt(_)
            | NodeEnum::VariableSetStmt(_)
            | NodeEnum::VariableShowStmt(_)
            | NodeEnum::DiscardStmt(_)
            | NodeEnum::ListenStmt(_)
            | NodeEnum::UnlistenStmt(_)
            | NodeEnum::NotifyStmt(_)
            | NodeEnum::ConstraintsSetStmt(_)
            | NodeEnum::PrepareStmt(_)
            | NodeEnum::ExecuteStmt(_)
            | NodeEnum::DeallocateStmt(_) => Ok(Plan::Session),
            other => Err(unknown_node("statement", other)),
        }
    }
}
