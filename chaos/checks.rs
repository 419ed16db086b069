//! What must hold, whatever happens.

pub mod errors;
pub mod identity;
pub mod ledger;
pub mod lists;
pub mod unbegun;
pub mod whole;
mod wrong;

pub use wrong::{Check, Wrong, conclude, named, summary};
