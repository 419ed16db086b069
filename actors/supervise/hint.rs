//! "Something changed, look": at most one such message in a mailbox, whatever the rate of changes.

use std::sync::atomic::{AtomicBool, Ordering};

/// A dirty flag beside an actor whose mailbox has no bound.
///
/// The actor calls [`lower`](Self::lower) *before* it reads what changed, so no change is missed; and once in its
/// `pre_start`, because a hint that lay in the mailbox of its dead predecessor is gone while the flag is still up.
#[derive(Debug, Default)]
pub struct Hint {
    flag: AtomicBool,
}

impl Hint {
    /// A hint that is not raised.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            flag: AtomicBool::new(false),
        }
    }

    /// Sends by `cast` unless a hint is under way already. `cast` tells whether somebody heard; if nobody did the flag
    /// is taken down again, so that the next change is told. Returns false only if nobody heard.
    pub fn raise(&self, cast: impl FnOnce() -> bool) -> bool {
        if self.flag.swap(true, Ordering::AcqRel) {
            return true;
        }
        let heard = cast();
        if !heard {
            self.flag.store(false, Ordering::Release);
        }
        heard
    }

    /// Takes the flag down; to be called before reading what changed. Returns whether it was up.
    pub fn lower(&self) -> bool {
        self.flag.swap(false, Ordering::AcqRel)
    }
}

#[cfg(test)]
mod tests {
    use super::Hint;
    use std::cell::Cell;

    #[test]
    fn many_changes_send_once() {
        let (hint, sent) = (Hint::new(), Cell::new(0));
        let cast = || {
            sent.set(sent.get() + 1);
            true
        };
        assert!(hint.raise(cast) && hint.raise(cast) && hint.raise(cast));
        assert_eq!(sent.get(), 1);
        assert!(hint.lower());
        assert!(!hint.lower());
        assert!(hint.raise(cast));
        assert_eq!(sent.get(), 2);
    }

    #[test]
    fn unheard_hints_are_sent_again() {
        let hint = Hint::new();
        assert!(!hint.raise(|| false));
        assert!(
            hint.raise(|| true),
            "the first was not heard, so this one has to be sent"
        );
    }
}
