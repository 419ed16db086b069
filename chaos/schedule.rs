//! Which fault comes when.

use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;

/// So many faults: all of them once, in some order, and again in another.
pub(crate) fn in_turn<F: Copy>(faults: &[F], count: usize, rng: &mut StdRng) -> Vec<F> {
    let mut all = Vec::new();
    while all.len() < count && !faults.is_empty() {
        let mut round = faults.to_vec();
        round.shuffle(rng);
        all.extend(round);
    }
    all.truncate(count);
    all
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::in_turn;

    #[test]
    fn each_comes_once_before_any_comes_again() {
        let faults = [1, 2, 3, 4];
        let of = |seed| in_turn(&faults, 10, &mut StdRng::seed_from_u64(seed));
        let order = of(7);
        assert_eq!(order.len(), 10);
        for round in [&order[..4], &order[4..8]] {
            let mut round = round.to_vec();
            round.sort_unstable();
            assert_eq!(round, faults);
        }
        assert_eq!(order, of(7), "a seed says it all");
        assert!((0..20).any(|seed| of(seed) != order));
        assert!(in_turn::<u8>(&[], 3, &mut StdRng::seed_from_u64(7)).is_empty());
    }
}
