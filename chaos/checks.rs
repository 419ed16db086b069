//! What must hold, whatever happens.

pub mod errors;
pub mod identity;
pub mod ledger;
pub mod lists;
