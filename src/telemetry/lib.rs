//! Logs and metrics.

mod exposition;
mod histogram;
pub mod log;

pub use exposition::{Exposition, ExpositionError, Labels};
pub use histogram::{Histogram, Snapshot};
