//! What must hold, whatever happens.

pub mod identity;
