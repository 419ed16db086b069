use std::time::Duration;

use serde::Serialize;

/// What one cell gave for one target, once or as the median of rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Sample {
    /// Transactions, or rows, a second.
    pub(crate) rate: f64,
    /// Latency of a transaction; bulk cells have none.
    pub(crate) latency: Option<Latency>,
    /// CPU milliseconds of the proxy for 1,000 transactions or rows; direct has none.
    pub(crate) cpu: Option<f64>,
}

/// Percentiles of a latency, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Latency {
    /// Half are faster.
    pub(crate) p50: f64,
    /// 95 % are faster.
    pub(crate) p95: f64,
    /// 99 % are faster.
    pub(crate) p99: f64,
}

impl Latency {
    /// Finds the percentiles; `None` without a transaction.
    pub(crate) fn of(mut times: Vec<Duration>) -> Option<Self> {
        times.sort_unstable();
        let at = |percent: usize| {
            // The nearest rank: the smallest value that so many per cent do not exceed.
            let rank = (times.len() * percent).div_ceil(100);
            Some(times.get(rank.checked_sub(1)?)?.as_secs_f64() * 1e3)
        };
        Some(Self {
            p50: at(50)?,
            p95: at(95)?,
            p99: at(99)?,
        })
    }
}

impl Sample {
    /// Takes the median of each figure by itself; `None` without a sample.
    pub(crate) fn median(samples: &[Self]) -> Option<Self> {
        let latency = |pick: fn(&Latency) -> f64| {
            median(
                samples
                    .iter()
                    .filter_map(|one| Some(pick(one.latency.as_ref()?))),
            )
        };
        let percentiles = latency(|l| l.p50)
            .zip(latency(|l| l.p95))
            .zip(latency(|l| l.p99));
        Some(Self {
            rate: median(samples.iter().map(|one| one.rate))?,
            latency: percentiles.map(|((p50, p95), p99)| Latency { p50, p95, p99 }),
            cpu: median(samples.iter().filter_map(|one| one.cpu)),
        })
    }
}

/// Gives the middle value, or the mean of the two in the middle; `None` without a value.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        return sorted.get(middle).copied();
    }
    let (low, high) = (sorted.get(middle.checked_sub(1)?)?, sorted.get(middle)?);
    Some(f64::midpoint(*low, *high))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let times = (1..=200).rev().map(Duration::from_millis).collect();
        let latency = Latency::of(times).unwrap();
        assert_eq!(
            (latency.p50, latency.p95, latency.p99),
            (100.0, 190.0, 198.0)
        );
        let one = Latency::of(vec![Duration::from_millis(7)]).unwrap();
        assert_eq!((one.p50, one.p99), (7.0, 7.0));
        assert_eq!(Latency::of(Vec::new()), None);
    }

    #[test]
    fn medians_of_odd_and_even_counts() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), Some(2.5));
        assert_eq!(median([].into_iter()), None);
    }

    #[test]
    fn each_figure_has_its_own_median() {
        let sample = |rate, cpu| Sample {
            rate,
            latency: None,
            cpu: Some(cpu),
        };
        let all = [sample(1.0, 9.0), sample(3.0, 7.0), sample(2.0, 8.0)];
        let middle = Sample::median(&all).unwrap();
        assert_eq!(
            (middle.rate, middle.cpu, middle.latency),
            (2.0, Some(8.0), None)
        );
    }
}
