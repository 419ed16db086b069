//! Runs that a seed decides about, in a time of their own: the same seed is the same run.

pub mod actors;
pub mod machines;
pub mod many;
pub mod process;
mod trace;

use std::fmt;

use crate::checks::{Wrong, summary};
pub use trace::Trace;

/// How many events are shown if nothing else is said.
pub const TAIL: usize = 80;

/// What a run has broken: which promise, how, and what came before.
#[derive(Debug)]
pub struct Broken {
    /// What does not hold.
    pub why: Wrong,
    /// The last that happened before.
    pub tail: Vec<String>,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.tail {
            writeln!(f, "{line}")?;
        }
        writeln!(f, "{}", self.why)?;
        f.write_str(&summary([&self.why]))
    }
}
