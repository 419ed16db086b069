//! No answer reaches anybody but the one who asked.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use crate::checks::{Check, Wrong};

/// More faults of one check than this tell nothing new.
const KEPT: usize = 50;

/// Whether a client may see its statements cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancels {
    /// It never asks for it.
    Never,
    /// It does now and then.
    Sometimes,
}

/// Compares what clients got with what they had asked for.
#[derive(Debug, Default)]
pub struct Identity {
    right: AtomicU64,
    cancelled: AtomicU64,
    faults: Mutex<Vec<Wrong>>,
}

impl Identity {
    /// An answer must be what was asked for.
    pub fn answer(&self, who: &str, asked: &str, got: Option<&str>) {
        if got == Some(asked) {
            self.right.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let got = got.map(|text| text.chars().take(200).collect::<String>());
        self.fault(format!("{who} asked for {asked:.200} and got {got:?}"));
    }

    /// A notice must be the client's own.
    pub fn notice(&self, who: &str, text: &str) {
        if !text.starts_with(&format!("{who}-")) {
            self.fault(format!("{who} was noticed: {text}"));
        }
    }

    /// A statement failed that was not to fail. Only who cancels may be cancelled.
    pub fn failure(&self, who: &str, cancels: Cancels, error: &Error) {
        if is_cancel(error) {
            return self.cancel(who, cancels);
        }
        let text = error.as_db_error().map_or_else(
            || error.to_string(),
            |error| format!("{} {}", error.code().code(), error.message()),
        );
        let what = format!("{who} ({cancels:?} cancels) failed: {text}");
        self.catch(Check::Errors, what);
    }

    /// A statement was cancelled.
    pub fn cancel(&self, who: &str, cancels: Cancels) {
        match cancels {
            Cancels::Sometimes => drop(self.cancelled.fetch_add(1, Ordering::Relaxed)),
            Cancels::Never => self.catch(Check::Cancel, format!("{who} was cancelled by others")),
        }
    }

    /// An answer is not what it must be.
    pub fn fault(&self, what: String) {
        self.catch(Check::Identity, what);
    }

    /// Something else went wrong. Of each check some are kept, so that a rare one is seen behind many others.
    pub fn catch(&self, check: Check, what: String) {
        let mut faults = self.faults.lock();
        let known = faults.iter().filter(|wrong| wrong.check == check).count();
        if known < KEPT {
            faults.push(check.caught(what));
        }
    }

    /// How many answers were right.
    pub fn right(&self) -> u64 {
        self.right.load(Ordering::Relaxed)
    }

    /// How many statements were cancelled by the client that ran them.
    pub fn cancelled(&self) -> u64 {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// What was wrong.
    pub fn faults(&self) -> Vec<Wrong> {
        self.faults.lock().clone()
    }
}

/// Whether a statement was cancelled.
pub fn is_cancel(error: &Error) -> bool {
    error.code() == Some(&SqlState::QUERY_CANCELED)
}

#[cfg(test)]
mod tests {
    use super::{Cancels, Identity};
    use crate::checks::Check;

    #[test]
    fn an_answer_for_somebody_else_is_a_fault() {
        let identity = Identity::default();
        identity.answer("who1", "who1-1", Some("who1-1"));
        assert!(identity.faults().is_empty());
        identity.answer("who1", "who1-2", Some("who2-2"));
        identity.answer("who1", "who1-3", None);
        assert_eq!(identity.faults().len(), 2);
        assert_eq!(identity.right(), 1);
    }

    #[test]
    fn a_notice_for_somebody_else_is_a_fault() {
        let identity = Identity::default();
        identity.notice("who1", "who1-7");
        assert!(identity.faults().is_empty());
        identity.notice("who1", "who11-7");
        assert_eq!(identity.faults().len(), 1);
    }

    #[test]
    fn only_who_cancels_may_be_cancelled() {
        let identity = Identity::default();
        identity.cancel("who1", Cancels::Sometimes);
        assert!(identity.faults().is_empty());
        identity.cancel("who2", Cancels::Never);
        assert_eq!(identity.cancelled(), 1);
        assert_eq!(identity.faults()[0].check, Check::Cancel);
    }
}
