//! Closing what is too old, too idle or too many.

use std::time::{Duration, Instant};

use crate::effects::Effects;
use crate::lost::LostReason;
use crate::meta::Meta;
use crate::state::{Holding, State};

/// How far a connection is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Age {
    /// Far from its end.
    Fresh,
    /// Near its end: a successor is opened if the minimum needs one, and it is closed once that is there.
    Ageing,
    /// At its end: closed now, or when its lease ends.
    Over,
}

/// What a sweep should close.
pub struct SweepRules<F> {
    /// How long a connection may stay idle while the pool is above its minimum. The time counts from the first sweep
    /// that saw it idle, since giving back reads no clock.
    pub idle_timeout: Option<Duration>,
    /// Judges the age of a connection. It runs under the lock and must not touch the pool.
    pub lifetime: F,
}

impl<C, I> State<C, I> {
    /// Moves all connections that should be closed now into the effects.
    pub(crate) fn sweep(
        &mut self,
        now: Instant,
        rules: &SweepRules<impl Fn(&Meta) -> Age>,
        fx: &mut Effects<C>,
    ) {
        // Every judgement is made before anything changes: if the caller's rule panics, nothing is half done.
        let ages: Vec<Option<Age>> = self
            .records
            .iter()
            .map(|record| record.as_ref().map(|record| (rules.lifetime)(&record.meta)))
            .collect();
        for (slot, age) in ages.iter().enumerate() {
            let Some(age) = *age else { continue };
            self.judge(slot, age, now);
        }
        for slot in self.idle.clone() {
            if let Some(reason) = self.verdict(slot, now, rules.idle_timeout) {
                self.evict(slot, reason, fx);
            }
        }
        fx.hint |= self.wants_more();
    }

    fn judge(&mut self, slot: usize, age: Age, now: Instant) {
        let Some(record) = self.records[slot].as_mut() else {
            return;
        };
        match age {
            Age::Fresh => {}
            Age::Ageing => record.meta.ageing = true,
            Age::Over => record.meta.retire = true,
        }
        if let Holding::Idle { since, .. } = &mut record.holding {
            since.get_or_insert(now);
        }
    }

    fn verdict(&self, slot: usize, now: Instant, timeout: Option<Duration>) -> Option<LostReason> {
        let record = self.records[slot].as_ref()?;
        let Holding::Idle { since, .. } = &record.holding else {
            return None;
        };
        let above_min = self.live > self.limits.floor();
        if record.meta.retire {
            return Some(LostReason::Lifetime);
        }
        if record.meta.ageing && above_min {
            return Some(LostReason::Lifetime);
        }
        if self.live > self.limits.size && self.queue.is_empty() {
            return Some(LostReason::Surplus);
        }
        let idle = since.map(|since| now.saturating_duration_since(since));
        let expired = timeout
            .zip(idle)
            .is_some_and(|(timeout, idle)| idle >= timeout);
        (expired && above_min).then_some(LostReason::Idle)
    }
}
