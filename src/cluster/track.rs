//! The evidence of one host.

use std::time::{Duration, Instant};

use crate::lag::Lag;
use crate::look::{Fault, Look, ServerId, Standing, Storage};
use crate::rules::Rules;
use crate::verdict::Presence;

/// What is known of one host. Only its own evidence is in here, in the order of time.
#[derive(Debug)]
pub(crate) struct Track {
    pub(crate) joined: Instant,
    /// The last answer, and when it came.
    pub(crate) look: Option<(Look, Instant)>,
    /// The last fault since then.
    pub(crate) fault: Option<Fault>,
    /// The first evidence of any kind.
    pub(crate) first: Option<Instant>,
    /// The last evidence of any kind.
    pub(crate) last: Option<Instant>,
    /// Ill for readers, by hysteresis.
    pub(crate) ill: bool,
    /// A session has run into something that only a look can explain.
    pub(crate) suspected: Option<Instant>,
    /// Somebody else was answered by it since its last answer here.
    pub(crate) serves: bool,
    /// It has taken its time to answer, and has not answered since.
    pub(crate) hesitates: Option<Instant>,
    /// Since when something is wrong with it of which it is not known what.
    pub(crate) doubted: Option<Instant>,
    /// Since when every look has shown it writable on the timeline of the last look.
    pub(crate) writable_since: Option<Instant>,
    /// When it was last asked and said that it was a replica.
    pub(crate) replica_at: Option<Instant>,
    /// The highest timeline on which it was primary, for the time in which the cluster's system is not known yet.
    pub(crate) reached: Option<(u64, u32)>,
    pub(crate) lag: Lag,
    /// Which server it was before it was restarted, or another took its place, and when that was seen.
    former: Option<(ServerId, Instant)>,
    /// The last sign of life.
    alive: Option<Instant>,
    /// What it said of itself no longer counts, until it says it again.
    void: bool,
    /// Nobody listened there once.
    vacant: bool,
    /// It was well once.
    was_well: bool,
    faults: u32,
    hard_faults: u32,
    looks: u32,
}

impl Track {
    pub(crate) const fn new(now: Instant) -> Self {
        Self {
            joined: now,
            look: None,
            fault: None,
            first: None,
            last: None,
            ill: false,
            suspected: None,
            serves: false,
            hesitates: None,
            doubted: None,
            writable_since: None,
            replica_at: None,
            reached: None,
            lag: Lag {
                bytes: None,
                time: None,
            },
            former: None,
            alive: None,
            void: false,
            vacant: false,
            was_well: false,
            faults: 0,
            hard_faults: 0,
            looks: 0,
        }
    }

    /// Whether this came before what is already known.
    pub(crate) fn is_late(&self, now: Instant) -> bool {
        self.last.is_some_and(|last| now < last)
    }

    pub(crate) fn answered(&mut self, look: Look, now: Instant, rules: &Rules) {
        if look.standing == Standing::Primary {
            let before = self.reached.filter(|(system, _)| *system == look.system);
            let timeline = before.map_or(look.timeline, |(_, seen)| seen.max(look.timeline));
            self.reached = Some((look.system, timeline));
        }
        // After a silence it may have been something else in between.
        let unbroken = self.is_writable(now, rules)
            && self.timeline() == Some(look.timeline)
            && self.is_running_still(&look);
        self.writable_since = (look.standing == Standing::Primary && !look.read_only)
            .then(|| self.writable_since.filter(|_| unbroken).unwrap_or(now));
        self.void = false;
        self.fault = None;
        (self.faults, self.hard_faults) = (0, 0);
        self.looks = self.looks.saturating_add(1);
        self.ill &= self.looks < rules.well_after;
        self.was_well |= !self.ill;
        self.heard(now);
        self.alive = Some(now);
        // An answer to a question that was asked before somebody ran into something does not explain it.
        let asked = now.checked_sub(look.latency).unwrap_or(now);
        if look.standing == Standing::Replica {
            self.replica_at = Some(asked);
        }
        let before = self.look.as_ref().and_then(|(look, _)| look.server);
        if let Some((before, new)) = before.zip(look.server)
            && !before.is(&new)
        {
            self.former = Some((before, now));
        }
        self.look = Some((look, now));
        self.understood(asked);
    }

    pub(crate) fn failed(&mut self, fault: Fault, now: Instant, rules: &Rules) {
        // A sign of life renews what still counts; it does not revive what has expired.
        self.void |= self.is_silent(now, rules);
        self.heard(now);
        self.vacant |= fault == Fault::Unreachable;
        if fault.is_sign_of_life() {
            self.alive = Some(now);
            (self.faults, self.hard_faults) = (0, 0);
            self.understood(now);
        } else {
            self.faults = self.faults.saturating_add(1);
            self.hard_faults = self.hard_faults.saturating_add(u32::from(fault.is_hard()));
            self.looks = 0;
            self.doubted.get_or_insert(now);
            let said_so = fault == Fault::Starting;
            self.ill |= said_so || self.faults >= rules.ill_after;
            self.void |= said_so || self.hard_faults >= rules.ill_after;
        }
        self.fault = Some(fault);
    }

    fn heard(&mut self, now: Instant) {
        self.first.get_or_insert(now);
        self.last = Some(now);
    }

    /// It has said what it is, or nobody is there who could.
    pub(crate) const fn has_answered(&self) -> bool {
        self.look.is_some() || self.vacant
    }

    /// Whether it works is known, or was once.
    pub(crate) const fn is_judged(&self) -> bool {
        self.was_well || self.ill && !self.is_recovering()
    }

    /// An answer has come to what was asked then. Whatever it answers, nobody waits for it any longer.
    fn understood(&mut self, asked: Instant) {
        self.doubted = None;
        self.hesitates = None;
        self.serves = false;
        self.suspected = self.suspected.filter(|since| *since > asked);
    }

    /// Nothing was heard of it for so long that what it said of itself has expired.
    pub(crate) fn is_silent(&self, now: Instant, rules: &Rules) -> bool {
        self.alive
            .is_some_and(|alive| now.saturating_duration_since(alive) > rules.expiry)
    }

    /// Whether the server is there, ill or well.
    pub(crate) fn presence(&self, now: Instant, rules: &Rules) -> Presence {
        let mute = self.faults >= rules.ill_after && !self.serves;
        match (self.is_gone(), mute || self.is_silent(now, rules)) {
            (true, _) => Presence::Gone,
            (false, true) => Presence::Silent,
            (false, false) => Presence::There,
        }
    }

    /// In how long it will count as silent, if nothing is heard of it until then and it does not yet.
    pub(crate) fn expires_in(&self, now: Instant, rules: &Rules) -> Option<Duration> {
        let age = now.saturating_duration_since(self.alive?);
        let left = rules.expiry.checked_sub(age)?;
        Some(left + Duration::from_millis(1))
    }

    /// A sign of life at that time that says nothing of its role; it does not revive what has expired.
    pub(crate) fn lives(&mut self, at: Instant, now: Instant, rules: &Rules) {
        if !self.void && !self.is_silent(now, rules) {
            self.alive = self.alive.map(|alive| alive.max(at));
            self.serves = true;
        }
    }

    /// Whether what it last said of its role still counts.
    pub(crate) fn counts(&self, now: Instant, rules: &Rules) -> bool {
        self.look.is_some() && !self.void && !self.is_silent(now, rules)
    }

    /// The server itself is known not to work, rather than only unheard of.
    pub(crate) const fn is_gone(&self) -> bool {
        self.void && self.hard_faults > 0
    }

    /// Its last word was that it is a primary, and that still counts.
    pub(crate) fn is_primary(&self, now: Instant, rules: &Rules) -> bool {
        self.standing() == Some(Standing::Primary) && self.counts(now, rules)
    }

    /// A primary that takes writes.
    pub(crate) fn is_writable(&self, now: Instant, rules: &Rules) -> bool {
        self.is_primary(now, rules) && self.look.as_ref().is_some_and(|(look, _)| !look.read_only)
    }

    /// Whether it has not been restarted since the last look, as far as both looks tell.
    fn is_running_still(&self, look: &Look) -> bool {
        let before = self.look.as_ref().and_then(|(before, _)| before.server);
        let both = before.zip(look.server);
        both.is_none_or(|(before, now)| before.is(&now))
    }

    /// Whether it became writable while the other one was so already, and has not been restarted since. Where one volume
    /// takes the writes of one server only, it has replaced the other then, whatever that says.
    pub(crate) fn succeeds(&self, other: &Self) -> bool {
        let shared = |track: &Self| {
            let look = track.look.as_ref();
            look.is_some_and(|(look, _)| look.storage == Storage::Shared)
        };
        let later = self.replica_at.zip(other.writable_since);
        shared(self) && shared(other) && later.is_some_and(|(mine, theirs)| mine >= theirs)
    }

    pub(crate) fn standing(&self) -> Option<Standing> {
        self.look.as_ref().map(|(look, _)| look.standing)
    }

    pub(crate) fn timeline(&self) -> Option<u32> {
        self.look.as_ref().map(|(look, _)| look.timeline)
    }

    pub(crate) fn system(&self) -> Option<u64> {
        self.look.as_ref().map(|(look, _)| look.system)
    }

    /// Whether both names lead to one server, as far as it is known. If one was seen to be restarted and the other was
    /// not looked at since, they still do.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let (Some((mine, at)), Some((theirs, seen))) = (&self.look, &other.look) else {
            return false;
        };
        let (Some(me), Some(they)) = (mine.server, theirs.server) else {
            return false;
        };
        let was = |former: Option<(ServerId, Instant)>, id: &ServerId, looked: Instant| {
            former.is_some_and(|(former, until)| former.is(id) && looked < until)
        };
        let one = me.is(&they) || was(self.former, &they, *seen) || was(other.former, &me, *at);
        mine.system == theirs.system && one
    }

    pub(crate) fn looked(&self) -> Option<Instant> {
        self.look.as_ref().map(|(_, at)| *at)
    }

    /// The last look succeeded: no fault since.
    pub(crate) const fn is_confirmed(&self) -> bool {
        self.look.is_some() && self.fault.is_none()
    }

    /// The last look failed, and not by being sent away.
    pub(crate) fn has_failed(&self) -> bool {
        let failed = |fault: &Fault| !fault.is_sign_of_life();
        self.fault.as_ref().is_some_and(failed)
    }

    /// On the way from ill to well: the next looks decide.
    pub(crate) const fn is_recovering(&self) -> bool {
        self.ill && self.looks > 0
    }

    /// Something is wrong with it, and it is not known yet what; but no longer than for the time that one doubt lasts.
    pub(crate) fn is_in_doubt(&self, now: Instant, rules: &Rules) -> bool {
        let recent = |since: &Instant| now.saturating_duration_since(*since) < rules.suspicion;
        let known = self.ill && !self.is_primary(now, rules);
        let mut since = [self.doubted, self.suspected, self.hesitates]
            .into_iter()
            .flatten();
        !known && since.any(|since| recent(&since))
    }
}
