//! How long to wait before a restart, and how many restarts are too many.

use std::collections::VecDeque;
use std::time::Duration;

use rand::Rng;
use tokio::time::Instant;

/// The wait before a restart: doubled with every failure in a row, shortened at random.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    /// The wait after the first failure.
    pub min: Duration,
    /// No wait is longer than this.
    pub max: Duration,
    /// The share of the wait that is random, from 0.0 (none) to 1.0 (anything down to no wait at all).
    /// It keeps children that failed together from coming back together.
    pub jitter: f64,
    /// A child that ran this long before it failed starts again at `min`.
    pub healthy_after: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            min: Duration::from_millis(100),
            max: Duration::from_secs(30),
            jitter: 0.2,
            healthy_after: Duration::from_secs(60),
        }
    }
}

impl Backoff {
    /// The wait after `failures` failures in a row (1 for the first) before any jitter.
    #[must_use]
    pub fn ceiling(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        self.min.saturating_mul(1 << doublings).min(self.max)
    }

    /// The wait after `failures` failures in a row: between `ceiling * (1 - jitter)` and `ceiling`.
    #[must_use]
    pub fn delay(&self, failures: u32) -> Duration {
        let ceiling = self.ceiling(failures);
        // A NaN clamps to NaN, which `mul_f64` would refuse with a panic.
        let jitter = if self.jitter.is_nan() {
            0.0
        } else {
            self.jitter.clamp(0.0, 1.0)
        };
        let share = 1.0 - jitter * rand::rng().random::<f64>();
        // Floating point may round the longest of waits up to more than a `Duration` holds.
        Duration::try_from_secs_f64(ceiling.as_secs_f64() * share)
            .map_or(ceiling, |wait| wait.min(ceiling))
    }
}

/// How many restarts a supervisor grants all its children together before it gives up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intensity {
    /// So many restarts are granted.
    pub restarts: u32,
    /// They are counted over this span of time.
    pub within: Duration,
}

impl Default for Intensity {
    fn default() -> Self {
        Self {
            restarts: 5,
            within: Duration::from_secs(60),
        }
    }
}

/// The failures a supervisor remembers: those of the last `within`, never more than `restarts + 1`.
#[derive(Debug)]
pub(crate) struct Budget {
    intensity: Intensity,
    failures: VecDeque<Instant>,
}

impl Budget {
    pub(crate) fn new(intensity: Intensity) -> Self {
        Self {
            intensity,
            failures: VecDeque::new(),
        }
    }

    /// Notes a failure; true if it may still be answered by a restart.
    pub(crate) fn spend(&mut self, now: Instant) -> bool {
        while let Some(oldest) = self.failures.front()
            && now.duration_since(*oldest) > self.intensity.within
        {
            self.failures.pop_front();
        }
        if self.failures.len() >= self.intensity.restarts as usize {
            return false;
        }
        self.failures.push_back(now);
        true
    }

    pub(crate) fn reset(&mut self) {
        self.failures.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::{Backoff, Budget, Intensity};
    use proptest::prelude::{prop_assert, proptest};
    use std::time::Duration;
    use tokio::time::Instant;

    #[test]
    fn waits_double_up_to_the_maximum() {
        let backoff = Backoff {
            min: Duration::from_millis(100),
            max: Duration::from_millis(500),
            jitter: 0.0,
            ..Backoff::default()
        };
        let waits: Vec<u128> = (1..=5).map(|n| backoff.delay(n).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 500, 500]);
    }

    proptest! {
        #[test]
        fn jitter_only_shortens_and_nothing_panics(
            min in 0u64..u64::MAX, max in 0u64..u64::MAX, jitter in proptest::num::f64::ANY, failures: u32,
        ) {
            let backoff = Backoff {
                min: Duration::from_nanos(min),
                max: Duration::from_nanos(max),
                jitter,
                healthy_after: Duration::ZERO,
            };
            // The product is taken in floating point, which rounds a long wait a little.
            let slack = Duration::from_micros(10);
            prop_assert!(backoff.delay(failures) <= Duration::from_nanos(max));
            let floor = 1.0 - if jitter.is_nan() { 0.0 } else { jitter.clamp(0.0, 1.0) };
            prop_assert!(backoff.delay(failures) + slack >= backoff.ceiling(failures).mul_f64(floor));
        }
    }

    #[test]
    fn the_longest_wait_is_no_panic() {
        let backoff = Backoff {
            min: Duration::MAX,
            max: Duration::MAX,
            ..Backoff::default()
        };
        assert!(backoff.delay(u32::MAX) >= Duration::MAX / 2);
        assert_eq!(
            Backoff {
                jitter: 0.0,
                ..backoff
            }
            .delay(1),
            Duration::MAX
        );
    }

    #[test]
    fn old_failures_are_forgiven() {
        let mut budget = Budget::new(Intensity {
            restarts: 2,
            within: Duration::from_secs(10),
        });
        let start = Instant::now();
        assert!(budget.spend(start));
        assert!(budget.spend(start + Duration::from_secs(9)));
        assert!(!budget.spend(start + Duration::from_secs(10)));
        assert!(budget.spend(start + Duration::from_secs(11)));
        assert!(!budget.spend(start + Duration::from_secs(12)));
        budget.reset();
        assert!(budget.spend(start + Duration::from_secs(12)));
    }
}
