//! By what the judge judges.

use std::time::Duration;

use crate::lag::LagBounds;

/// What the judge goes by. All of it may be changed while it works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// After how long without an answer what a host said of itself no longer counts. Has to be longer than `pace` and
    /// the deadline of a look together, or healthy hosts will be doubted. Default 5 s.
    pub expiry: Duration,
    /// Time from the end of one look to the beginning of the next. Default 1 s.
    pub pace: Duration,
    /// The same while something is wrong. Default 50 ms.
    pub quick_pace: Duration,
    /// For how long one doubt quickens the pace: a primary that is missing for longer is looked for at the usual pace.
    /// Default 60 s.
    pub suspicion: Duration,
    /// After how many faults in a row a host is ill (at once, if it says itself that it serves nobody). At least 1; default 3.
    pub ill_after: u32,
    /// After how many answers in a row an ill host is well again. Default 2.
    pub well_after: u32,
    /// Replicas further behind are not read from. Default: no bounds.
    pub lag: LagBounds,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            expiry: Duration::from_secs(5),
            pace: Duration::from_secs(1),
            quick_pace: Duration::from_millis(50),
            suspicion: Duration::from_secs(60),
            ill_after: 3,
            well_after: 2,
            lag: LagBounds::default(),
        }
    }
}
