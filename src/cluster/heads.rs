//! Where the primary was, and when.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::lag::Lag;
use crate::lsn::Lsn;

/// How many places are remembered. At the usual pace of a second that is how long a lag can be told from the log alone.
const KEPT: usize = 64;

/// The places up to which the primary of one timeline had written, in order of time. They turn a distance in bytes
/// into one in time without a heartbeat table and without trust in the servers' clocks.
#[derive(Debug, Default)]
pub(crate) struct Heads {
    places: VecDeque<(Instant, Lsn)>,
}

impl Heads {
    /// Another primary, whose places have nothing to do with the former one's.
    pub(crate) fn forget(&mut self) {
        self.places.clear();
    }

    /// The primary had written up to `lsn`. The newest place is always kept; of the others those that are at least
    /// `spacing` apart, so that a time of quick looks does not push out all that is old.
    pub(crate) fn record(&mut self, lsn: Lsn, now: Instant, spacing: Duration) {
        if self.places.back().is_some_and(|&(at, _)| at >= now) {
            return;
        }
        if let [.., (before, _), _] = *self.places.make_contiguous()
            && let Some(last) = self.places.back_mut()
            && last.0.saturating_duration_since(before) < spacing
        {
            *last = (now, lsn);
            return;
        }
        if self.places.len() == KEPT {
            self.places.pop_front();
        }
        self.places.push_back((now, lsn));
    }

    /// How far a replica was behind that had replayed up to `lsn` at `now`, and whose last replayed transaction was
    /// committed `age` ago.
    pub(crate) fn lag(&self, lsn: Lsn, now: Instant, age: Option<Duration>) -> Lag {
        // What the primary wrote after the replica was asked is no lag.
        let known = || self.places.iter().take_while(|(at, _)| *at <= now);
        let Some(&(_, head)) = known().last().or_else(|| self.places.front()) else {
            return Lag::default();
        };
        let bytes = head.ahead_of(lsn);
        if bytes == 0 {
            return Lag {
                bytes: Some(0),
                time: Some(Duration::ZERO),
            };
        }
        // It had all that the primary had written by then, so it is behind by no more than the time since.
        let caught_up = known().filter(|(_, head)| *head <= lsn).last();
        let since = caught_up.map(|(at, _)| now.saturating_duration_since(*at));
        // It lacks what the primary had written by then, so it is behind by no less, whatever the servers' clocks say and
        // however much was forgotten.
        let lacked = known().find(|(_, head)| *head > lsn);
        let least = lacked.map_or(Duration::ZERO, |(at, _)| now.saturating_duration_since(*at));
        let time = match (since, age) {
            (Some(since), Some(age)) => Some(since.min(age.max(least))),
            (Some(since), None) => Some(since),
            (None, age) => age.max(lacked.map(|_| least)),
        };
        Lag {
            bytes: Some(bytes),
            time,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn heads(start: Instant, count: u32) -> Heads {
        let mut heads = Heads::default();
        for n in 0..count {
            heads.record(Lsn::new(u64::from(n) * 100), start + SECOND * n, SECOND / 2);
        }
        heads
    }

    #[test]
    fn a_distance_becomes_a_time() {
        let start = Instant::now();
        let heads = heads(start, 10);
        let at = |lsn, age| heads.lag(Lsn::new(lsn), start + SECOND * 9, age);
        assert_eq!(at(900, Some(SECOND * 500)).time, Some(Duration::ZERO));
        assert_eq!(at(650, None).bytes, Some(250));
        assert_eq!(at(650, None).time, Some(SECOND * 3));
        // Nobody wrote for an hour before: the age of the last transaction says nothing, the log does.
        assert_eq!(at(899, Some(SECOND * 3600)).time, Some(SECOND));
        // A clock that is ahead makes no replica newer than what it lacks.
        assert_eq!(at(650, Some(SECOND)).time, Some(SECOND * 2));
    }

    #[test]
    fn who_is_further_behind_than_is_remembered_is_behind_at_least_so_far() {
        let start = Instant::now();
        let heads = heads(start, 100);
        let at = |age| heads.lag(Lsn::new(0), start + SECOND * 99, age).time;
        let least = SECOND * (KEPT as u32 - 1);
        assert_eq!(at(None), Some(least));
        assert_eq!(at(Some(SECOND)), Some(least));
        assert_eq!(at(Some(SECOND * 500)), Some(SECOND * 500));
    }

    #[test]
    fn what_was_written_after_the_replica_was_asked_is_no_lag() {
        let start = Instant::now();
        let heads = heads(start, 10);
        assert_eq!(
            heads.lag(Lsn::new(500), start + SECOND * 5, None).bytes,
            Some(0)
        );
    }

    #[test]
    fn without_a_primary_nothing_is_known() {
        let lag = Heads::default().lag(Lsn::new(5), Instant::now(), Some(SECOND));
        assert_eq!(lag, Lag::default());
    }

    #[test]
    fn quick_looks_do_not_push_out_the_old() {
        let start = Instant::now();
        let mut heads = Heads::default();
        for n in 0..1000_u32 {
            heads.record(Lsn::new(u64::from(n)), start + SECOND / 20 * n, SECOND);
        }
        assert!(heads.places.len() <= KEPT);
        let end = start + SECOND / 20 * 999;
        assert_eq!(heads.lag(Lsn::new(999), end, None).bytes, Some(0));
        let far = heads.lag(Lsn::new(300), end, None).time.unwrap();
        assert!(far >= SECOND * 34 && far <= SECOND * 37, "{far:?}");
    }
}
