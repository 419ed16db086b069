//! Where a statement may run and how its answers become one.

pub mod catalog;
pub mod placement;
