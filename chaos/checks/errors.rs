//! Only those errors are given that say what happened.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::checks::{Check, Wrong};
use crate::door::Failure;

/// How often which workload was told which error.
#[derive(Debug, Default)]
pub struct Errors {
    counts: Mutex<BTreeMap<(&'static str, String), u64>>,
}

/// What pgherd may tell a client whose server is lost: that a transaction is undone, that nobody knows
/// what became of a write, or that a read was cut off which cannot be run twice. The same code as the first one is what serializable transactions
/// that conflict get from Postgres.
const ALLOWED: [&str; 3] = ["40001", UNKNOWN, "08006"];

/// That nobody knows what became of a write.
const UNKNOWN: &str = "08007";

impl Errors {
    /// Counts one.
    pub fn add(&self, workload: &'static str, failure: &Failure) {
        let key = (workload, failure.code().to_owned());
        *self.counts.lock().entry(key).or_default() += 1;
    }

    /// All that were counted: the workload, the SQLSTATE or a word for silence, and how often.
    pub fn counts(&self) -> Vec<(&'static str, String, u64)> {
        let counts = self.counts.lock();
        let rows = counts.iter();
        rows.map(|((workload, code), count)| (*workload, code.clone(), *count))
            .collect()
    }

    /// Those by which clients were told that nobody knows what became of a write.
    pub fn unresolved(&self, workloads: &[&str]) -> Vec<Wrong> {
        let counts = self.counts().into_iter();
        counts
            .filter(|(workload, code, _)| workloads.contains(workload) && code == UNKNOWN)
            .map(|(workload, _, count)| {
                let what = format!("{workload} was told {count} times that nobody knows");
                Check::Unresolved.caught(what)
            })
            .collect()
    }

    /// Those that pgherd must not give to any of its clients.
    pub fn forbidden(&self, workloads: &[&str]) -> Vec<Wrong> {
        self.forbidden_but(workloads, &[])
    }

    /// The same, where some more may be.
    pub fn forbidden_but(&self, workloads: &[&str], allowed: &[&str]) -> Vec<Wrong> {
        let may_be = |code: &str| ALLOWED.contains(&code) || allowed.contains(&code);
        let counts = self.counts().into_iter();
        counts
            .filter(|(workload, code, _)| workloads.contains(workload) && !may_be(code))
            .map(|(workload, code, count)| {
                Check::Errors.caught(format!("{workload} was told {code} {count} times"))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Errors;
    use crate::checks::Check;
    use crate::door::Failure;
    use tokio_postgres::error::SqlState;

    #[test]
    fn what_says_nothing_is_forbidden() {
        let errors = Errors::default();
        errors.add(
            "a",
            &Failure::Said(SqlState::TRANSACTION_RESOLUTION_UNKNOWN),
        );
        errors.add("a", &Failure::Said(SqlState::T_R_SERIALIZATION_FAILURE));
        errors.add("b", &Failure::Cut);
        assert!(errors.forbidden(&["a"]).is_empty());
        assert_eq!(errors.unresolved(&["a", "b"]).len(), 1);
        assert!(errors.unresolved(&["b"]).is_empty());
        assert_eq!(errors.forbidden(&["a", "b"]).len(), 1);
        errors.add("a", &Failure::Said(SqlState::ADMIN_SHUTDOWN));
        errors.add("a", &Failure::Said(SqlState::ADMIN_SHUTDOWN));
        let told = Check::Errors.caught("a was told 57P01 2 times");
        assert_eq!(errors.forbidden(&["a"]), [told]);
        assert_eq!(errors.counts().len(), 4);
    }
}
