//! Which reign of which primary it is.

use std::fmt;

/// The reign of one primary: its timeline, and a number for those that shared a timeline. It only rises, and to each
/// epoch belongs one host: what was opened in an older one may have gone to a primary that has been replaced.
///
/// The same host on the same timeline keeps its epoch through an absence (a crash and recovery, a cut network), for
/// nobody else was written to meanwhile: a connection that outlived the absence still leads to the only history there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch {
    /// The timeline of the primary, or of an earlier one if the timelines began anew with another cluster. Zero: there
    /// was no primary yet.
    pub timeline: u32,
    /// Counts the primaries that followed each other on the timeline.
    pub counter: u32,
}

impl Epoch {
    /// One number that rises with the epoch, for the fences of pools.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        (self.timeline as u64) << 32 | self.counter as u64
    }

    /// The epoch of a new primary on `timeline`: above this one in any case.
    #[must_use]
    pub(crate) const fn next(self, timeline: u32) -> Self {
        if timeline > self.timeline {
            return Self {
                timeline,
                counter: 0,
            };
        }
        match self.counter.checked_add(1) {
            Some(counter) => Self { counter, ..self },
            // Four thousand million changes on one timeline: rather a wrong name for the timeline than a lower epoch.
            None => Self {
                timeline: self.timeline.saturating_add(1),
                counter: 0,
            },
        }
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.timeline, self.counter)
    }
}
