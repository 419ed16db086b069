use std::time::Duration;

use crate::section::Check;

section! {
    /// What comes before the end, when a signal asks for it.
    pub struct Drain {
        /// For whoever leads clients here to hear that no more are wanted; they are taken as before until then.
        [Now] delay: Option<Duration>,
    }
}

impl Check for Drain {}
