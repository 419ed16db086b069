//! Where a statement may run and how its answers become one.

mod analyze;
pub mod catalog;
mod compose;
pub mod placement;
mod plan;
mod refusal;
mod resolve;
mod tree;

pub use compose::plan;
pub use plan::{
    CopyIn, CopyTarget, Count, Merge, Param, Params, Piece, Pins, Plan, Prune, Route, SortKey,
    Split, Statement,
};
pub use refusal::Refusal;
pub use resolve::Names;
