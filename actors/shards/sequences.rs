//! The sequences of the shards: whether no two shards' give the same number.

use std::collections::BTreeMap;

/// Name, increment, first value, and where it begins anew if it does.
pub(super) const QUESTION: &str =
    "SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname),
 s.seqincrement::text, s.seqstart::text,
 CASE WHEN s.seqcycle THEN CASE WHEN s.seqincrement > 0 THEN s.seqmin ELSE s.seqmax END::text END
 FROM pg_catalog.pg_sequence s JOIN pg_catalog.pg_class c ON c.oid = s.seqrelid
 JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE NOT n.nspname::text ~ '^pg_(toast|temp)' AND n.nspname <> 'pgherd' ORDER BY 1";

/// Those of one shard, by their names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sequences(BTreeMap<String, Steps>);

/// Which numbers a sequence gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Steps {
    increment: i64,
    start: i64,
    /// Where it begins anew once it has come to its end.
    anew: Option<i64>,
}

impl Steps {
    /// What all of its numbers leave if they are divided by the increment.
    fn rest(self, of: i64) -> i128 {
        i128::from(of).rem_euclid(i128::from(self.increment).abs().max(1))
    }
}

impl Sequences {
    /// Takes a row of the answer; one that cannot be read is of no server's.
    pub(super) fn take(&mut self, row: &[Option<&str>]) {
        if let [Some(name), Some(increment), Some(start), anew] = *row
            && let (Ok(increment), Ok(start)) = (increment.parse(), start.parse())
        {
            let anew = anew.and_then(|text| text.parse().ok());
            let steps = Steps {
                increment,
                start,
                anew,
            };
            self.0.insert(name.to_owned(), steps);
        }
    }
}

/// Why the first sequence that may give a number which another shard's gives, too, does so; `shards` are all of them, in
/// their order, with their names.
pub(super) fn overlap(shards: &[(&str, &Sequences)]) -> Option<String> {
    let (_, first) = shards.first().filter(|_| shards.len() > 1)?;
    first.0.keys().find_map(|name| one(name, shards))
}

fn one(name: &str, shards: &[(&str, &Sequences)]) -> Option<String> {
    let mut seen: BTreeMap<i128, &str> = BTreeMap::new();
    let mut increment = None;
    for (shard, sequences) in shards {
        // That it is not on all of them is told by itself.
        let steps = *sequences.0.get(name)?;
        let step = *increment.get_or_insert(steps.increment);
        if step != steps.increment {
            return Some(format!(
                "sequence {name} has INCREMENT {step} on {} and {} on {shard}",
                shards[0].0, steps.increment
            ));
        }
        if i128::from(step).unsigned_abs() < shards.len() as u128 {
            return Some(format!(
                "sequence {name} has INCREMENT {step}, which is less than the number of shards, {}",
                shards.len()
            ));
        }
        let rest = steps.rest(steps.start);
        if let Some(other) = seen.insert(rest, shard) {
            return Some(format!(
                "sequence {name} gives the same numbers on {other} and {shard}: their START leaves {rest} if it is \
                 divided by the INCREMENT {step}"
            ));
        }
        if steps.anew.is_some_and(|anew| steps.rest(anew) != rest) {
            return Some(format!(
                "sequence {name} on {shard} begins anew (CYCLE) with a number that is not its own"
            ));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{Sequences, overlap};

    fn sequences(rows: &[[&str; 4]]) -> Sequences {
        let mut sequences = Sequences::default();
        for row in rows {
            sequences.take(&row.map(|text| (text != "-").then_some(text)));
        }
        sequences
    }

    fn found(one: [&str; 4], two: [&str; 4]) -> Option<String> {
        let (one, two) = (sequences(&[one]), sequences(&[two]));
        overlap(&[("s0", &one), ("s1", &two)])
    }

    #[test]
    fn shards_give_other_numbers_if_their_starts_lie_apart() {
        for (one, two) in [
            (["a.s", "2", "1", "-"], ["a.s", "2", "2", "-"]),
            (["a.s", "2", "1", "-"], ["a.s", "2", "1000", "-"]),
            (["a.s", "-2", "-1", "-"], ["a.s", "-2", "-2", "-"]),
            (["a.s", "10", "1", "1"], ["a.s", "10", "2", "2"]),
            (
                ["a.s", "9223372036854775807", "1", "-"],
                ["a.s", "9223372036854775807", "2", "-"],
            ),
        ] {
            assert_eq!(found(one, two), None, "{one:?} {two:?}");
        }
        let one = sequences(&[["a.s", "1", "1", "-"]]);
        assert_eq!(overlap(&[("s0", &one)]), None, "there is one shard only");
    }

    #[test]
    fn a_sequence_that_overlaps_is_named() {
        for (one, two, why) in [
            (
                ["a.s", "1", "1", "-"],
                ["a.s", "1", "1", "-"],
                "less than the number of shards, 2",
            ),
            (
                ["a.s", "2", "1", "-"],
                ["a.s", "2", "1", "-"],
                "gives the same numbers on s0 and s1",
            ),
            (
                ["a.s", "2", "1", "-"],
                ["a.s", "2", "7", "-"],
                "gives the same numbers on s0 and s1",
            ),
            (
                ["a.s", "2", "1", "-"],
                ["a.s", "3", "2", "-"],
                "INCREMENT 2 on s0 and 3 on s1",
            ),
            (
                ["a.s", "2", "1", "1"],
                ["a.s", "2", "2", "1"],
                "s1 begins anew",
            ),
        ] {
            let told = found(one, two).expect("they overlap");
            assert!(told.contains("a.s") && told.contains(why), "{told}");
        }
        let (one, two) = (
            sequences(&[["a.r", "2", "1", "-"], ["a.s", "1", "1", "-"]]),
            sequences(&[["a.r", "2", "2", "-"], ["a.s", "1", "2", "-"]]),
        );
        let told = overlap(&[("s0", &one), ("s1", &two)]).expect("one does");
        assert!(told.starts_with("sequence a.s "), "{told}");
    }
}
