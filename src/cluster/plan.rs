//! A change of the primary that is planned: new work waits for it, and what is under way may end before.

use std::time::{Duration, Instant, SystemTime};

use crate::epoch::Epoch;
use crate::verdict::{Verdict, Writer};

/// For so long after the moment of a scheduled switchover it is waited for. A former primary needs that to shut down.
pub(crate) const DELAY: Duration = Duration::from_secs(5);

/// A planned change of the primary. It is over when there is another primary, when it is called off, or when its time
/// is up, whichever comes first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The reign that is to end.
    epoch: Epoch,
    /// The moment for which it is scheduled; `None` if an operator has asked for it.
    at: Option<SystemTime>,
    /// When the grace time is over.
    cut: Instant,
    /// When it is no longer waited for; `None` is never.
    until: Option<Instant>,
    stage: Stage,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// New work waits, and transactions may end.
    Grace,
    /// Transactions are cut off.
    Cut,
    /// Nothing waits for it any more.
    Over,
}

impl Plan {
    /// An operator will change the primary by hand. `hold` is for how long work may wait in all.
    #[must_use]
    pub fn by_hand(epoch: Epoch, now: Instant, grace: Duration, hold: Option<Duration>) -> Self {
        let until = hold.map(|hold| now + most(hold));
        Self {
            epoch,
            at: None,
            cut: bounded(now + grace, until),
            until,
            stage: Stage::Grace,
        }
    }

    /// A switchover is scheduled for the moment `at`, and it is `wall` by the clock of this machine; `None` if it is not yet
    /// time to prepare for it, or too late.
    #[must_use]
    pub fn scheduled(
        epoch: Epoch,
        at: SystemTime,
        wall: SystemTime,
        now: Instant,
        grace: Duration,
        hold: Option<Duration>,
    ) -> Option<Self> {
        let moment = match at.duration_since(wall) {
            Ok(ahead) if ahead > grace => return None,
            Ok(ahead) => now + ahead,
            Err(past) => now.checked_sub(past.duration())?,
        };
        let longest = hold.map(|hold| now + most(hold));
        let until = bounded(moment + DELAY, longest);
        (until > now).then(|| Self {
            epoch,
            at: Some(at),
            cut: bounded(moment, Some(until)),
            until: Some(until),
            stage: Stage::Grace,
        })
    }

    /// How far it is.
    #[must_use]
    pub const fn stage(&self) -> Stage {
        self.stage
    }

    /// Whether it is this scheduled one, even if it is over.
    #[must_use]
    pub fn is_for(&self, at: SystemTime) -> bool {
        self.at == Some(at)
    }

    /// Whether it was scheduled, for a moment that has not come yet.
    #[must_use]
    pub fn is_ahead(&self, now: Instant) -> bool {
        self.at.is_some() && self.stage == Stage::Grace && now < self.cut
    }

    /// Nothing is to wait for it any more.
    pub const fn end(&mut self) {
        self.stage = Stage::Over;
    }

    /// Brings it up to date; says whether it is further than before.
    pub fn advance(&mut self, verdict: &Verdict, now: Instant) -> bool {
        let before = self.stage;
        let done = verdict.epoch != self.epoch && matches!(verdict.writer, Writer::At(_));
        self.stage = match self.stage {
            Stage::Over => Stage::Over,
            _ if done || self.until.is_some_and(|until| now >= until) => Stage::Over,
            _ if now >= self.cut => Stage::Cut,
            stage => stage,
        };
        self.stage != before
    }
}

/// It ends before those who have waited from its beginning are told that there is no primary: they go on instead.
fn most(hold: Duration) -> Duration {
    hold - (hold / 10).min(Duration::from_secs(2))
}

fn bounded(moment: Instant, end: Option<Instant>) -> Instant {
    end.map_or(moment, |end| moment.min(end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HostName, Judge, Rules};

    const SECOND: Duration = Duration::from_secs(1);
    const HOLD: Option<Duration> = Some(Duration::from_secs(30));

    fn verdict(epoch: Epoch, writer: bool) -> Verdict {
        let mut judge = Judge::new(Rules::default());
        let verdict = Verdict::clone(&judge.verdict(Instant::now()));
        let writer = match writer {
            true => Writer::At(HostName::from("a")),
            false => verdict.writer.clone(),
        };
        Verdict {
            epoch,
            writer,
            ..verdict
        }
    }

    fn epoch(timeline: u32) -> Epoch {
        Epoch {
            timeline,
            counter: 0,
        }
    }

    #[test]
    fn it_goes_from_grace_to_the_cut_and_is_over_with_a_new_primary() {
        let now = Instant::now();
        let mut plan = Plan::by_hand(epoch(1), now, SECOND * 5, HOLD);
        assert!(!plan.advance(&verdict(epoch(1), true), now + SECOND * 4));
        assert_eq!(plan.stage(), Stage::Grace);
        assert!(plan.advance(&verdict(epoch(1), true), now + SECOND * 5));
        assert_eq!(plan.stage(), Stage::Cut);
        // The old one is gone, and then there is another.
        assert!(!plan.advance(&verdict(epoch(1), false), now + SECOND * 6));
        assert!(plan.advance(&verdict(epoch(2), true), now + SECOND * 7));
        assert_eq!(plan.stage(), Stage::Over);
        assert!(!plan.advance(&verdict(epoch(1), true), now + SECOND * 8));
        assert_eq!(plan.stage(), Stage::Over);
    }

    #[test]
    fn it_ends_before_those_who_wait_are_told_off() {
        let now = Instant::now();
        let mut plan = Plan::by_hand(epoch(1), now, SECOND * 60, HOLD);
        let same = verdict(epoch(1), true);
        assert!(!plan.advance(&same, now + SECOND * 27));
        assert!(plan.advance(&same, now + SECOND * 28));
        assert_eq!(plan.stage(), Stage::Over);
        let mut endless = Plan::by_hand(epoch(1), now, SECOND, None);
        endless.advance(&same, now + SECOND * 9999);
        assert_eq!(endless.stage(), Stage::Cut);
    }

    #[test]
    fn a_schedule_is_heeded_from_its_grace_time_on_and_for_a_while_after() {
        let (now, wall) = (Instant::now() + SECOND * 100, SystemTime::now());
        let grace = SECOND * 5;
        let plan = |at: SystemTime| Plan::scheduled(epoch(1), at, wall, now, grace, HOLD);
        assert_eq!(plan(wall + SECOND * 6), None);
        assert_eq!(plan(wall - DELAY), None);
        let mut early = plan(wall + SECOND * 5).expect("it is time");
        assert!(early.is_for(wall + SECOND * 5) && early.is_ahead(now));
        let same = verdict(epoch(1), true);
        assert!(early.advance(&same, now + SECOND * 5));
        assert_eq!(early.stage(), Stage::Cut);
        assert!(!early.is_ahead(now + SECOND * 5));
        assert!(early.advance(&same, now + SECOND * 10));
        assert_eq!(early.stage(), Stage::Over);
        let mut late = plan(wall - SECOND).expect("it may be under way");
        assert!(late.advance(&same, now));
        assert_eq!(late.stage(), Stage::Cut);
    }

    #[test]
    fn a_schedule_is_bounded_by_what_work_may_wait() {
        let (now, wall) = (Instant::now(), SystemTime::now());
        let at = wall + SECOND * 50;
        let plan = Plan::scheduled(epoch(1), at, wall, now, SECOND * 60, Some(SECOND * 10));
        let mut plan = plan.expect("it is time");
        assert!(plan.advance(&verdict(epoch(1), true), now + SECOND * 9));
        assert_eq!(plan.stage(), Stage::Over);
    }
}
