//! What has become of how many queries.

use std::collections::BTreeMap;
use std::fmt;

use super::alike::Verdict;

/// The counts.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) right: usize,
    failing: usize,
    undetermined: usize,
    /// The reasons, each with what was refused for it.
    refused: BTreeMap<String, Vec<String>>,
    pub(super) wrong: Vec<String>,
}

impl Tally {
    pub(super) fn take(&mut self, query: &str, verdict: Verdict) {
        match verdict {
            Verdict::Right => self.right += 1,
            Verdict::FailsAnyway => self.failing += 1,
            Verdict::Undetermined => self.undetermined += 1,
            Verdict::Refused(reason) => self
                .refused
                .entry(reason)
                .or_default()
                .push(query.to_owned()),
            Verdict::Wrong(how) => self.wrong.push(how),
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.right += other.right;
        self.failing += other.failing;
        self.undetermined += other.undetermined;
        for (reason, queries) in other.refused {
            self.refused.entry(reason).or_default().extend(queries);
        }
        self.wrong.extend(other.wrong);
    }

    fn refused(&self) -> usize {
        self.refused.values().map(Vec::len).sum()
    }

    /// How many of a hundred are answered, of those that one server answers always alike.
    pub(super) fn share(&self) -> usize {
        self.right * 100 / (self.right + self.refused() + self.wrong.len()).max(1)
    }

    /// How often it was refused for which reason: what was refused is named where it can be another each time.
    pub(super) fn reasons(&self) -> String {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for (reason, queries) in &self.refused {
            let reason = reason.split_once(": ").map_or(reason.as_str(), |it| it.1);
            *counts.entry(reason).or_default() += queries.len();
        }
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let lines = counts
            .iter()
            .map(|(reason, count)| format!("{count:>6} {reason}\n"));
        lines.collect()
    }

    /// All that was refused or answered otherwise.
    pub(super) fn complaints(&self) -> String {
        let mut text = String::new();
        for (reason, queries) in &self.refused {
            for query in queries {
                text += &format!("refused: {reason}\n    {}\n", pgherd_tests::brief(query));
            }
        }
        for wrong in &self.wrong {
            text += &format!("WRONG: {wrong}\n");
        }
        text
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:>5} right, {:>4} refused, {} WRONG ({} %); {} fail anyway, {} are not determined",
            self.right,
            self.refused(),
            self.wrong.len(),
            self.share(),
            self.failing,
            self.undetermined
        )
    }
}
