//! What clients do while things break.

pub mod canary;
