//! What is over several shards is there as a whole, or not at all.

use std::collections::HashMap;

use crate::checks::{Check, Wrong};

/// The transfers of which both sides are there, as often as they are, and what is wrong with the others. `sides` are the
/// numbers of transfers, each once for each side.
#[must_use]
pub fn whole(sides: &[i64]) -> (Vec<i64>, Vec<Wrong>) {
    let mut counts: HashMap<i64, usize> = HashMap::new();
    for id in sides {
        *counts.entry(*id).or_default() += 1;
    }
    let (mut there, mut wrong) = (Vec::new(), Vec::new());
    for (id, count) in counts {
        there.extend(std::iter::repeat_n(id, count / 2));
        if count % 2 == 1 {
            wrong.push(Check::Whole.caught(format!("transfer {id} is half done")));
        }
    }
    (there, wrong)
}

#[cfg(test)]
mod tests {
    use super::{Check, whole};

    #[test]
    fn half_a_transfer_is_none() {
        let (mut there, wrong) = whole(&[1, 2, 3, 2, 3, 3, 3]);
        there.sort_unstable();
        assert_eq!(there, [2, 3, 3]);
        assert_eq!(wrong, [Check::Whole.caught("transfer 1 is half done")]);
    }
}
