//! No acknowledged write is lost or doubled, and none that failed for certain is there.

use std::collections::HashMap;
use std::fmt;

use crate::checks::{Check, Wrong};
use crate::door::Fate;

/// What became of all inserts, by what their clients were told.
#[derive(Default)]
pub struct Ledger {
    fates: HashMap<i64, Fate>,
}

/// The ledger beside what is in the table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// How many were acknowledged.
    pub acknowledged: usize,
    /// How many failed for certain.
    pub failed: usize,
    /// How many nobody knows about.
    pub unknown: usize,
    /// How many of those are there.
    pub unknown_there: usize,
    /// Acknowledged, and not there.
    pub lost: Vec<i64>,
    /// There more than once.
    pub doubled: Vec<i64>,
    /// Failed for certain, and there all the same.
    pub undead: Vec<i64>,
    /// There, and nobody has written it.
    pub strange: Vec<i64>,
}

impl Ledger {
    /// Enters what a client was told; every number is entered once.
    pub fn enter(&mut self, fates: impl IntoIterator<Item = (i64, Fate)>) {
        self.fates.extend(fates);
    }

    /// How many inserts were acknowledged.
    pub fn acknowledged(&self) -> usize {
        self.count(Fate::Acknowledged)
    }

    /// How many inserts failed for certain, or nobody knows.
    pub fn failed(&self) -> usize {
        self.count(Fate::Failed) + self.count(Fate::Unknown)
    }

    fn count(&self, wanted: Fate) -> usize {
        self.fates.values().filter(|fate| **fate == wanted).count()
    }

    /// Compares with the numbers that are in the table.
    pub fn balance(&self, there: &[i64]) -> Account {
        let mut counts: HashMap<i64, usize> = HashMap::new();
        for id in there {
            *counts.entry(*id).or_default() += 1;
        }
        let mut account = Account {
            acknowledged: self.acknowledged(),
            failed: self.count(Fate::Failed),
            unknown: self.count(Fate::Unknown),
            ..Account::default()
        };
        for (id, fate) in &self.fates {
            let count = counts.remove(id).unwrap_or_default();
            match (fate, count) {
                (Fate::Acknowledged, 0) => account.lost.push(*id),
                (Fate::Failed, 1..) => account.undead.push(*id),
                (Fate::Unknown, 1..) => account.unknown_there += 1,
                (Fate::Acknowledged, _) | (_, 0) => {}
            }
            if count > 1 {
                account.doubled.push(*id);
            }
        }
        account.strange.extend(counts.into_keys());
        account
    }

    /// What is wrong with the numbers that are in the table.
    pub fn faults(&self, there: &[i64]) -> Vec<Wrong> {
        let account = self.balance(there);
        let lost = account.lost.iter();
        let lost = lost.map(|id| Check::Lost.caught(format!("{id} is lost")));
        lost.chain(account.faults()).collect()
    }
}

impl Account {
    /// What must not be even where acknowledged writes may be lost.
    pub fn faults(&self) -> Vec<Wrong> {
        let doubled = self.doubled.iter();
        let doubled = doubled.map(|id| Check::Doubled.caught(format!("{id} is doubled")));
        let undead = self.undead.iter();
        let undead = undead.map(|id| Check::Undead.caught(format!("{id} had failed and is there")));
        let strange = self.strange.iter();
        let strange = strange.map(|id| Check::Strange.caught(format!("nobody has written {id}")));
        doubled.chain(undead).chain(strange).collect()
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger")
            .field("acknowledged", &self.acknowledged())
            .field("failed", &self.count(Fate::Failed))
            .field("unknown", &self.count(Fate::Unknown))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::{Fate, Ledger};

    #[test]
    fn what_was_lost_doubled_or_undead_is_found() {
        let mut ledger = Ledger::default();
        ledger.enter([
            (1, Fate::Acknowledged),
            (2, Fate::Failed),
            (3, Fate::Unknown),
        ]);
        let said = |there: &[i64]| -> Vec<String> {
            let faults = ledger.faults(there).into_iter();
            faults.map(|wrong| wrong.to_string()).collect()
        };
        assert!(ledger.faults(&[1]).is_empty());
        assert!(ledger.faults(&[1, 3]).is_empty());
        assert_eq!(ledger.balance(&[1, 3]).unknown_there, 1);
        assert_eq!(said(&[]), ["lost: 1 is lost"]);
        assert_eq!(said(&[1, 1]), ["doubled: 1 is doubled"]);
        assert_eq!(said(&[1, 2]), ["undead: 2 had failed and is there"]);
        assert_eq!(said(&[1, 3, 3]), ["doubled: 3 is doubled"]);
        assert_eq!(said(&[1, 9]), ["strange: nobody has written 9"]);
    }
}
