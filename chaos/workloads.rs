//! What clients do while things break.

pub mod acked;
pub mod bank;
pub mod canary;
pub mod crew;
pub mod ears;
pub mod hasty;
pub mod idle;
pub mod life;
pub mod lists;
pub mod own;
pub mod passers;
pub mod sessions;
pub(crate) mod transfers;
