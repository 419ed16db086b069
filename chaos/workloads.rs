//! What clients do while things break.

pub mod acked;
pub mod canary;
