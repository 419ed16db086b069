//! Transactions that append to lists and read them are as if they had run one after the other.
//!
//! The lists themselves tell in which order the transactions were: who appended before whom to the
//! same list (ww), whose value was the last that somebody read (wr), and which value came after what
//! somebody read (rw). A cycle of these means that no order explains what was seen; see Adya's
//! anomalies G0, G1c and G2, and how Elle finds them.

use std::collections::{BTreeMap, HashMap};

use crate::door::Fate;

/// A key and its list.
pub type Lists = BTreeMap<i64, Vec<i64>>;

/// One step of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// A value that nobody else appends to any list.
    Append {
        /// The list.
        key: i64,
        /// The value.
        value: i64,
    },
    /// The whole list.
    Read {
        /// The list.
        key: i64,
        /// What was in it.
        values: Vec<i64>,
    },
}

/// A transaction as its client saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// The client.
    pub client: usize,
    /// Its steps, in their order; only those that were answered, and an append without an answer.
    pub ops: Vec<Op>,
    /// What became of it.
    pub fate: Fate,
}

/// What the lists and the transactions show together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// How many appends were acknowledged.
    pub acknowledged: usize,
    /// Acknowledged appends that are not there.
    pub lost: usize,
    /// What cannot be, whether acknowledged appends may be lost or not.
    pub impossible: Vec<String>,
    /// What cannot be unless acknowledged appends may be lost.
    pub lossy: Vec<String>,
}

/// Compares what all transactions saw with the lists as they are in the end.
pub fn check(transactions: &[Transaction], lists: &Lists) -> Findings {
    let mut findings = Findings::default();
    let writers = writers(transactions);
    appended(transactions, lists, &writers, &mut findings);
    let committed: Vec<usize> = (0..transactions.len())
        .filter(|number| has_committed(&transactions[*number], lists))
        .collect();
    for number in &committed {
        read(*number, transactions, lists, &writers, &mut findings);
    }
    let edges = edges(&committed, transactions, lists, &writers);
    if let Some(cycle) = cycle(&edges) {
        let shown: Vec<String> = cycle
            .iter()
            .map(|number| format!("{:?}", transactions[*number]))
            .collect();
        findings
            .impossible
            .push(format!("no order explains {}", shown.join(" before ")));
    }
    findings
}

/// Who appends which value.
fn writers(transactions: &[Transaction]) -> HashMap<i64, usize> {
    let mut writers = HashMap::new();
    for (number, transaction) in transactions.iter().enumerate() {
        for op in &transaction.ops {
            if let Op::Append { value, .. } = op {
                writers.insert(*value, number);
            }
        }
    }
    writers
}

/// An unknown outcome is known by a value that is there.
fn has_committed(transaction: &Transaction, lists: &Lists) -> bool {
    let there = |op: &Op| match op {
        Op::Append { key, value } => lists.get(key).is_some_and(|list| list.contains(value)),
        Op::Read { .. } => false,
    };
    match transaction.fate {
        Fate::Acknowledged => true,
        Fate::Failed => false,
        Fate::Unknown => transaction.ops.iter().any(there),
    }
}

/// Each value is there as often as its transaction committed, and all of a transaction are or none.
fn appended(
    transactions: &[Transaction],
    lists: &Lists,
    writers: &HashMap<i64, usize>,
    findings: &mut Findings,
) {
    let mut counts: HashMap<i64, usize> = HashMap::new();
    for value in lists.values().flatten() {
        *counts.entry(*value).or_default() += 1;
    }
    for (value, count) in &counts {
        let impossible = &mut findings.impossible;
        match writers.get(value).map(|number| transactions[*number].fate) {
            None => impossible.push(format!("nobody has appended {value}")),
            Some(Fate::Failed) => impossible.push(format!("{value} had failed and is there")),
            Some(Fate::Acknowledged | Fate::Unknown) => {}
        }
        if *count > 1 {
            impossible.push(format!("{value} is there {count} times"));
        }
    }
    for transaction in transactions {
        let values: Vec<i64> = transaction
            .ops
            .iter()
            .filter_map(|op| match op {
                Op::Append { value, .. } => Some(*value),
                Op::Read { .. } => None,
            })
            .collect();
        let there = values
            .iter()
            .filter(|value| counts.contains_key(value))
            .count();
        if there != 0 && there != values.len() {
            findings
                .impossible
                .push(format!("only {there} are there of {transaction:?}"));
        }
        if transaction.fate == Fate::Acknowledged {
            findings.acknowledged += values.len();
            findings.lost += values.len() - there;
        }
    }
    if findings.lost > 0 {
        let lost = format!("{} appends are lost", findings.lost);
        findings.lossy.push(lost);
    }
}

/// What a transaction read is what was in the list at some time, with its own values behind it.
fn read(
    number: usize,
    transactions: &[Transaction],
    lists: &Lists,
    writers: &HashMap<i64, usize>,
    findings: &mut Findings,
) {
    let mut own: HashMap<i64, Vec<i64>> = HashMap::new();
    for op in &transactions[number].ops {
        match op {
            Op::Append { key, value } => own.entry(*key).or_default().push(*value),
            Op::Read { key, values } => {
                let mine = own.get(key).map_or(&[][..], Vec::as_slice);
                if !values.ends_with(mine) {
                    let what = format!("{values:?} without its own {mine:?}");
                    findings.impossible.push(what);
                }
                let all = lists.get(key).map_or(&[][..], Vec::as_slice);
                if !all.starts_with(values) {
                    let what = format!("list {key} was read as {values:?} and is {all:?}");
                    findings.lossy.push(what);
                }
                for value in values {
                    let writer = writers.get(value).map(|writer| &transactions[*writer]);
                    if writer.is_none_or(|writer| writer.fate == Fate::Failed) {
                        let what = format!("{value} was read and never committed");
                        findings.impossible.push(what);
                    }
                }
                // In the middle of another transaction nobody may look.
                if let Some(last) = values.last()
                    && let Some(writer) = writers.get(last).filter(|writer| **writer != number)
                    && last_of(&transactions[*writer], *key) != Some(*last)
                {
                    let what = format!("{last} was read before its transaction's end");
                    findings.impossible.push(what);
                }
            }
        }
    }
}

/// The last value that a transaction appends to a list.
fn last_of(transaction: &Transaction, wanted: i64) -> Option<i64> {
    transaction.ops.iter().rev().find_map(|op| match op {
        Op::Append { key, value } if *key == wanted => Some(*value),
        _ => None,
    })
}

/// Who must have been before whom.
fn edges(
    committed: &[usize],
    transactions: &[Transaction],
    lists: &Lists,
    writers: &HashMap<i64, usize>,
) -> BTreeMap<usize, Vec<usize>> {
    let mut edges: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    let mut add = |before: Option<&usize>, after: Option<&usize>| {
        if let (Some(before), Some(after)) = (before, after)
            && before != after
        {
            edges.entry(*before).or_default().push(*after);
        }
    };
    for list in lists.values() {
        for pair in list.windows(2) {
            add(writers.get(&pair[0]), writers.get(&pair[1]));
        }
    }
    for number in committed {
        for op in &transactions[*number].ops {
            let Op::Read { key, values } = op else {
                continue;
            };
            add(
                values.last().and_then(|value| writers.get(value)),
                Some(number),
            );
            let all = lists.get(key).map_or(&[][..], Vec::as_slice);
            if all.starts_with(values) {
                let next = all.get(values.len());
                add(Some(number), next.and_then(|value| writers.get(value)));
            }
        }
    }
    edges
}

/// Some transactions each of which must have been before the next, and the last before the first.
fn cycle(edges: &BTreeMap<usize, Vec<usize>>) -> Option<Vec<usize>> {
    let mut incoming: HashMap<usize, usize> = HashMap::new();
    for (from, to) in edges {
        incoming.entry(*from).or_default();
        for to in to {
            *incoming.entry(*to).or_default() += 1;
        }
    }
    // Whoever has nobody before it is in no cycle, and nobody is before the next one for its sake.
    let mut free: Vec<usize> = incoming
        .iter()
        .filter(|(_, count)| **count == 0)
        .map(|(number, _)| *number)
        .collect();
    while let Some(number) = free.pop() {
        incoming.remove(&number);
        for to in edges.get(&number).into_iter().flatten() {
            if let Some(count) = incoming.get_mut(to) {
                *count -= 1;
                if *count == 0 {
                    free.push(*to);
                }
            }
        }
    }
    // Each one left has somebody left before it, so going back from any leads into a cycle.
    let mut path: Vec<usize> = vec![*incoming.keys().min()?];
    loop {
        let here = *path.last()?;
        let (before, _) = edges
            .iter()
            .find(|(from, to)| incoming.contains_key(from) && to.contains(&here))?;
        if let Some(at) = path.iter().position(|number| number == before) {
            let mut cycle = path.split_off(at);
            cycle.reverse();
            return Some(cycle);
        }
        path.push(*before);
    }
}

#[cfg(test)]
mod tests {
    use super::{Fate, Findings, Lists, Op, Transaction, check};

    fn append(key: i64, value: i64) -> Op {
        Op::Append { key, value }
    }

    fn read(key: i64, values: &[i64]) -> Op {
        let values = values.to_vec();
        Op::Read { key, values }
    }

    fn with(fate: Fate, ops: &[Op]) -> Transaction {
        let ops = ops.to_vec();
        Transaction {
            client: 0,
            ops,
            fate,
        }
    }

    fn done(ops: &[Op]) -> Transaction {
        with(Fate::Acknowledged, ops)
    }

    fn find(transactions: &[Transaction], lists: &[(i64, &[i64])]) -> Findings {
        let lists: Lists = lists
            .iter()
            .map(|(key, values)| (*key, values.to_vec()))
            .collect();
        check(transactions, &lists)
    }

    fn impossible(transactions: &[Transaction], lists: &[(i64, &[i64])]) -> String {
        find(transactions, lists).impossible.join("; ")
    }

    #[test]
    fn what_one_order_explains_is_right() {
        let transactions = [
            done(&[append(1, 10), append(2, 20)]),
            done(&[read(1, &[10]), append(1, 11), read(1, &[10, 11])]),
            done(&[read(2, &[20]), read(1, &[10])]),
            with(Fate::Unknown, &[append(2, 21)]),
            with(Fate::Unknown, &[append(2, 22)]),
            with(Fate::Failed, &[append(2, 23)]),
        ];
        let findings = find(&transactions, &[(1, &[10, 11]), (2, &[20, 21])]);
        assert_eq!(
            findings,
            Findings {
                acknowledged: 3,
                ..Findings::default()
            }
        );
    }

    #[test]
    fn what_is_lost_doubled_undead_or_torn_is_found() {
        let both = done(&[append(1, 10), append(2, 20)]);
        let findings = find(std::slice::from_ref(&both), &[]);
        assert_eq!((findings.lost, findings.lossy.len()), (2, 1));
        assert!(findings.impossible.is_empty());
        let torn = impossible(std::slice::from_ref(&both), &[(1, &[10])]);
        assert!(torn.contains("only 1"), "{torn}");
        let doubled = impossible(&[both], &[(1, &[10, 10]), (2, &[20])]);
        assert!(doubled.contains("2 times"), "{doubled}");
        let failed = with(Fate::Failed, &[append(1, 10)]);
        let undead = impossible(&[failed], &[(1, &[10])]);
        assert!(undead.contains("had failed"), "{undead}");
        let strange = impossible(&[], &[(1, &[10])]);
        assert!(strange.contains("nobody"), "{strange}");
    }

    #[test]
    fn what_nobody_could_read_is_found() {
        let failed = with(Fate::Failed, &[append(1, 10)]);
        let dirty = impossible(&[failed, done(&[read(1, &[10])])], &[]);
        assert!(dirty.contains("never committed"), "{dirty}");
        let two = done(&[append(1, 10), append(1, 11)]);
        let early = impossible(&[two, done(&[read(1, &[10])])], &[(1, &[10, 11])]);
        assert!(early.contains("before its transaction's end"), "{early}");
        let blind = impossible(&[done(&[append(1, 10), read(1, &[])])], &[(1, &[10])]);
        assert!(blind.contains("without its own"), "{blind}");
        let other = [
            done(&[append(1, 10), append(1, 11)]),
            done(&[read(1, &[11])]),
        ];
        let reordered = find(&other, &[(1, &[10, 11])]);
        assert_eq!(reordered.lossy.len(), 1);
    }

    #[test]
    fn write_skew_and_lost_updates_are_cycles() {
        let skew = [
            done(&[read(1, &[]), append(2, 20)]),
            done(&[read(2, &[]), append(1, 10)]),
        ];
        let found = impossible(&skew, &[(1, &[10]), (2, &[20])]);
        assert!(found.contains("no order"), "{found}");
        let crossed = [
            done(&[append(1, 10), append(2, 20)]),
            done(&[append(1, 11), append(2, 21)]),
        ];
        let found = impossible(&crossed, &[(1, &[10, 11]), (2, &[21, 20])]);
        assert!(found.contains("no order"), "{found}");
        assert_eq!(impossible(&crossed, &[(1, &[10, 11]), (2, &[20, 21])]), "");
    }
}
