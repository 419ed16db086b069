//! Only those errors are given that say what happened.

use std::collections::BTreeMap;
use std::fmt;

use parking_lot::Mutex;

use crate::checks::{Check, Wrong};
use crate::door::Failure;

/// How often which workload was told which error, and at what.
#[derive(Debug, Default)]
pub struct Errors {
    counts: Mutex<BTreeMap<(&'static str, Doing, String), u64>>,
}

/// What a client was doing when it was told an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Doing {
    /// It came in.
    Login,
    /// It read by a statement of its own.
    Read,
    /// It wrote by a statement that commits by itself.
    Write,
    /// It changed its session.
    Setting,
    /// It was in a transaction, or at its end.
    Block,
    /// It left one that had failed.
    Rollback,
}

/// Whether pgherd finds out what became of commits without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// It does: what is not committed is undone, and may be told as such.
    On,
    /// It does not: nobody knows.
    Off,
}

/// A transaction is undone, which is also what serializable transactions that conflict get from Postgres.
const UNDONE: &str = "40001";

/// That nobody knows what became of a write.
const UNKNOWN: &str = "08007";

/// A read was cut off which cannot be run twice.
const CUT_OFF: &str = "08006";

/// What pgherd may tell a client whose server is lost, whatever it was doing.
const ALLOWED: [&str; 3] = [UNDONE, UNKNOWN, CUT_OFF];

/// How often one fault may cut off one client: when the old primary is lost, and when whatever takes its place settles.
const CUTS: u64 = 2;

impl Doing {
    /// What a client may be told by pgherd at this when a server is lost.
    const fn allowed(self, resolution: Resolution) -> &'static [&'static str] {
        match (self, resolution) {
            // There is nothing yet that could be lost: it waits.
            (Self::Login, _) => &[],
            // What is not known to do nothing but read is told like a write.
            (Self::Read, _) => &[CUT_OFF, UNKNOWN],
            (Self::Write, Resolution::Off) => &[UNKNOWN],
            (Self::Write, Resolution::On) | (Self::Block, _) => &[UNDONE, UNKNOWN],
            // It may stand for itself, and then nothing tells it from a write.
            (Self::Setting | Self::Rollback, _) => &ALLOWED,
        }
    }
}

impl fmt::Display for Doing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Login => "login",
            Self::Read => "read",
            Self::Write => "write",
            Self::Setting => "setting",
            Self::Block => "block",
            Self::Rollback => "rollback",
        })
    }
}

impl Errors {
    /// Counts one.
    pub fn add(&self, workload: &'static str, doing: Doing, failure: &Failure) {
        let key = (workload, doing, failure.code().to_owned());
        *self.counts.lock().entry(key).or_default() += 1;
    }

    /// All that were counted: the workload, the SQLSTATE or a word for silence, and how often.
    pub fn counts(&self) -> Vec<(&'static str, String, u64)> {
        let mut all: BTreeMap<(&'static str, String), u64> = BTreeMap::new();
        for ((workload, _, code), count) in self.counts.lock().iter() {
            *all.entry((*workload, code.clone())).or_default() += *count;
        }
        let rows = all.into_iter();
        rows.map(|((workload, code), count)| (workload, code, count))
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

    /// Those that pgherd must not give to any of its clients at what these were doing. What is written
    /// may be refused by servers with some more.
    pub fn forbidden(
        &self,
        workloads: &[&str],
        resolution: Resolution,
        refusals: &[&str],
    ) -> Vec<Wrong> {
        let refused = |doing: Doing, code: &str| {
            matches!(doing, Doing::Write | Doing::Block) && refusals.contains(&code)
        };
        let counts = self.counts.lock();
        counts
            .iter()
            .filter(|((workload, doing, code), _)| {
                let allowed = doing.allowed(resolution).contains(&&**code);
                workloads.contains(workload) && !allowed && !refused(*doing, code)
            })
            .map(|((workload, doing, code), count)| {
                Check::Errors.caught(format!(
                    "{workload} was told {code} {count} times at a {doing}"
                ))
            })
            .collect()
    }

    /// Those that it must not give to anybody, whatever that one was doing, where some more may be.
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

    /// Workloads, with the numbers of their clients, that were told more often that nobody knows than they had anything under
    /// way when one of so many faults came.
    pub fn beyond(&self, workloads: &[(&'static str, usize)], faults: usize) -> Vec<Wrong> {
        let counts = self.counts().into_iter();
        counts
            .filter(|(_, code, _)| code == UNKNOWN)
            .filter_map(|(workload, _, count)| {
                let (_, clients) = workloads.iter().find(|(name, _)| *name == workload)?;
                let most = CUTS * (*clients as u64) * (faults as u64);
                (count > most).then(|| {
                    let what = format!(
                        "{workload} was told {count} times that nobody knows, by {faults} faults with {clients} clients"
                    );
                    Check::Errors.caught(what)
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{Doing, Errors, Resolution};
    use crate::checks::Check;
    use crate::door::Failure;
    use tokio_postgres::error::SqlState;

    fn said(code: &str) -> Failure {
        Failure::Said(SqlState::from_code(code))
    }

    #[test]
    fn what_says_nothing_is_forbidden() {
        let errors = Errors::default();
        errors.add("a", Doing::Block, &said("08007"));
        errors.add("a", Doing::Block, &said("40001"));
        errors.add("b", Doing::Read, &Failure::Cut);
        let forbidden = |all: &[&str]| errors.forbidden(all, Resolution::Off, &[]);
        assert!(forbidden(&["a"]).is_empty());
        assert!(errors.forbidden_but(&["b"], &["cut"]).is_empty());
        assert_eq!(errors.unresolved(&["a", "b"]).len(), 1);
        assert!(errors.unresolved(&["b"]).is_empty());
        assert_eq!(forbidden(&["a", "b"]).len(), 1);
        errors.add("a", Doing::Write, &said("57P01"));
        errors.add("a", Doing::Write, &said("57P01"));
        let told = Check::Errors.caught("a was told 57P01 2 times at a write");
        assert_eq!(forbidden(&["a"]), [told]);
        let told = Check::Errors.caught("a was told 57P01 2 times");
        assert_eq!(errors.forbidden_but(&["a"], &[]), [told]);
        errors.add("a", Doing::Block, &said("57P01"));
        assert_eq!(errors.counts().len(), 4);
        assert!(errors.counts().contains(&("a", "57P01".to_owned(), 3)));
    }

    #[test]
    fn what_may_be_said_at_one_thing_is_forbidden_at_another() {
        let cases = [
            (Doing::Login, ["no", "no", "no"]),
            (Doing::Read, ["no", "yes", "yes"]),
            (Doing::Write, ["on", "yes", "no"]),
            (Doing::Setting, ["yes", "yes", "yes"]),
            (Doing::Block, ["yes", "yes", "no"]),
            (Doing::Rollback, ["yes", "yes", "yes"]),
        ];
        for (doing, expected) in cases {
            for (code, expected) in ["40001", "08007", "08006"].into_iter().zip(expected) {
                let errors = Errors::default();
                errors.add("a", doing, &said(code));
                let may = |resolution| errors.forbidden(&["a"], resolution, &[]).is_empty();
                let found = match (may(Resolution::Off), may(Resolution::On)) {
                    (true, true) => "yes",
                    (false, true) => "on",
                    (false, false) => "no",
                    (true, false) => "off",
                };
                assert_eq!(found, expected, "{code} at a {doing}");
            }
        }
    }

    #[test]
    fn only_what_is_written_may_be_refused_by_servers() {
        for (doing, may) in [
            (Doing::Read, false),
            (Doing::Write, true),
            (Doing::Block, true),
            (Doing::Rollback, false),
        ] {
            let errors = Errors::default();
            errors.add("a", doing, &said("53100"));
            let found = |refusals: &[&str]| errors.forbidden(&["a"], Resolution::On, refusals);
            assert_eq!(found(&["53100"]).is_empty(), may, "{doing}");
            assert_eq!(found(&["53200"]).len(), 1, "{doing}");
        }
    }

    #[test]
    fn no_more_is_unknown_than_was_under_way() {
        let errors = Errors::default();
        for _ in 0..12 {
            errors.add("a", Doing::Write, &said("08007"));
            errors.add("a", Doing::Block, &said("40001"));
        }
        assert!(errors.beyond(&[("a", 3)], 2).is_empty());
        assert_eq!(errors.beyond(&[("a", 3)], 1).len(), 1);
        assert_eq!(errors.beyond(&[("b", 1)], 0).len(), 0);
    }
}
