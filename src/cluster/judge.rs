//! The judge itself.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use crate::claim::{Claim, Told};
use crate::epoch::Epoch;
use crate::heads::Heads;
use crate::host::HostName;
use crate::lag::Lag;
use crate::look::{Fault, Look, Standing};
use crate::rules::Rules;
use crate::track::Track;
use crate::verdict::{Absence, Holder, Verdict, Writer};

/// Why a host is not what the cluster is from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Unadoptable {
    /// It is no member.
    #[error("it is none of the hosts")]
    Unknown,
    /// It is none now, or has not been seen for long.
    #[error("it is not seen to be a primary")]
    NoPrimary,
}

/// Judges the servers of one database by the evidence it is given.
///
/// It remembers two things for good: the system identifier of the cluster, fixed by the first primary that is chosen,
/// and the highest timeline on which a primary was ever seen. All else is the newest evidence of each host.
///
/// * The writer is the one host that is writable (a primary, not read-only, its word not expired), belongs to the
///   cluster, and is on no lower timeline than any primary ever seen, than any replica is on, and than a fresh claim
///   names. A higher timeline therefore wins at once, and what it replaced never comes back.
/// * If there are several on one timeline, there is no writer, until all but one are gone or demoted. Names that lead to
///   the same server are one. Of several on one volume ([`crate::Storage::Shared`]) it is the one that was seen to become
///   writable after the others.
/// * The first writer is chosen when every member has said what it is, or nobody listens there, or it has not said so for
///   [`Rules::expiry`] after the first one was heard of: of two primaries the stale one may be the first to answer.
/// * A host's word expires by silence. An answer that sends us away without telling a role ([`Fault::Full`],
///   [`Fault::Refused`]) is no silence; [`Fault::Starting`], or [`Rules::ill_after`] faults that show that no server
///   works there, end it at once.
///
/// Times may come in any order between hosts; evidence of one host that is older than what is known of it is left aside.
#[derive(Debug)]
pub struct Judge {
    pub(crate) rules: Rules,
    /// In the order of the members.
    pub(crate) names: Vec<HostName>,
    pub(crate) tracks: HashMap<HostName, Track>,
    pub(crate) told: Option<Told>,
    pub(crate) system: Option<u64>,
    /// The highest timeline on which a primary of this system was seen.
    pub(crate) timeline: u32,
    pub(crate) epoch: Epoch,
    pub(crate) holder: Option<Holder>,
    /// Every member has said once what it is, or was waited for.
    pub(crate) asked: bool,
    /// Since when there is no writer.
    pub(crate) absent_since: Option<Instant>,
    pub(crate) heads: Heads,
    /// The latest time that was ever told.
    clock: Option<Instant>,
    pub(crate) verdict: Arc<Verdict>,
}

impl Judge {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        let verdict = Verdict {
            epoch: Epoch::default(),
            writer: Writer::Nobody(Absence::Asking),
            holder: None,
            system: None,
            timeline: 0,
            hosts: Vec::new(),
            alarms: Vec::new(),
        };
        Self {
            rules,
            names: Vec::new(),
            tracks: HashMap::new(),
            told: None,
            system: None,
            timeline: 0,
            epoch: Epoch::default(),
            holder: None,
            asked: false,
            absent_since: None,
            heads: Heads::default(),
            clock: None,
            verdict: Arc::new(verdict),
        }
    }

    /// Judges by other rules from now on.
    pub fn set_rules(&mut self, rules: Rules, now: Instant) {
        self.rules = rules;
        self.settle(now);
    }

    /// The hosts there are, configured or discovered; it may change at any time, names that come twice count once. What
    /// is gone is forgotten, so that it starts anew if it comes back; epoch, system and highest timeline stay.
    pub fn members(&mut self, names: impl IntoIterator<Item = HostName>, now: Instant) {
        let mut tracks = HashMap::new();
        self.names.clear();
        for name in names {
            if tracks.contains_key(&name) {
                continue;
            }
            let known = self.tracks.remove(&name);
            tracks.insert(name.clone(), known.unwrap_or_else(|| Track::new(now)));
            self.names.push(name);
        }
        self.tracks = tracks;
        self.settle(now);
    }

    /// A host was looked at: it answered, or it failed. `now` is when that was known. Hosts that are no members are
    /// left aside.
    pub fn saw(&mut self, host: &HostName, seen: Result<Look, Fault>, now: Instant) {
        let Some(track) = self.tracks.get_mut(host) else {
            return;
        };
        // A timeline that was reached stays reached, however late the word of it comes.
        if let Ok(look) = &seen
            && look.standing == Standing::Primary
            && self.system == Some(look.system)
        {
            self.timeline = self.timeline.max(look.timeline);
        }
        if track.is_late(now) {
            return;
        }
        match seen {
            Ok(look) => {
                track.lag = match look.standing {
                    Standing::Primary => Lag::default(),
                    Standing::Replica => self.heads.lag(look.lsn, now, look.replay_age),
                };
                track.answered(look, now, &self.rules);
            }
            Err(fault) => track.failed(fault, now, &self.rules),
        }
        self.settle(now);
    }

    /// A source says who leads. It counts as long as a host's word does; a claim that is older, or of a lower timeline than
    /// the one that counts, is left aside.
    pub fn told(&mut self, claim: Claim, now: Instant) {
        let known = self.told.take().filter(|told| self.is_fresh(told.at, now));
        let lower = |told: &Told| {
            let both = claim.timeline.zip(told.claim.timeline);
            both.is_some_and(|(new, old)| new < old)
        };
        self.told = Some(match known {
            Some(told) if told.at > now || lower(&told) => told,
            Some(told) if told.claim == claim => Told { at: now, ..told },
            _ => Told {
                claim,
                since: now,
                at: now,
            },
        });
        self.settle(now);
    }

    /// Somebody has run into something at this host that only a look can explain: a refused or broken connection,
    /// 57P01, 57P03, 25006. It changes no verdict; [`Self::pace`] tells to look at all hosts now.
    pub fn suspect(&mut self, host: &HostName, now: Instant) {
        if let Some(track) = self.tracks.get_mut(host) {
            let later = track.suspected.filter(|since| *since > now);
            track.suspected = Some(later.unwrap_or(now));
        }
    }

    /// A host takes longer than usual to answer. That is a suspicion too, but one that any answer of it ends: the one that
    /// is waited for was asked for before.
    pub fn hesitates(&mut self, host: &HostName, now: Instant) {
        if let Some(track) = self.tracks.get_mut(host) {
            track.hesitates = track.hesitates.max(Some(now));
        }
    }

    /// Somebody else was answered by a host at that time, or later. So it is not silent, but what it is now is not known by that: a
    /// word of it that has expired stays so, and whether it is ill is told by looks alone.
    pub fn lives(&mut self, host: &HostName, at: Instant, now: Instant) {
        if let Some(track) = self.tracks.get_mut(host) {
            track.lives(at, now, &self.rules);
        }
    }

    /// An operator says that it is another cluster from now on (a major upgrade, a restored backup), or that the higher
    /// timeline which was seen is to be forgotten: that of `host`, or else that of the first primary among the members.
    /// System and timelines are fixed anew, in a new epoch. This is the only way back to a lower timeline.
    ///
    /// # Errors
    /// [`Unadoptable`]; nothing is changed then.
    pub fn adopt_anew(&mut self, host: Option<&HostName>, now: Instant) -> Result<(), Unadoptable> {
        let chosen = match host {
            Some(host) => {
                let track = self.tracks.get(host).ok_or(Unadoptable::Unknown)?;
                if !track.is_primary(now, &self.rules) {
                    return Err(Unadoptable::NoPrimary);
                }
                track.system().zip(track.timeline())
            }
            None => None,
        };
        (self.system, self.timeline) = (None, 0);
        if let Some((system, timeline)) = chosen {
            (self.system, self.timeline) = (Some(system), timeline);
        }
        self.holder = None;
        self.told = None;
        for track in self.tracks.values_mut() {
            let primary = track.is_primary(now, &self.rules);
            track.reached = track.system().zip(track.timeline()).filter(|_| primary);
        }
        self.settle(now);
        Ok(())
    }

    /// The verdict as of now; the same `Arc` as long as nothing has changed.
    pub fn verdict(&mut self, now: Instant) -> Arc<Verdict> {
        self.settle(now);
        Arc::clone(&self.verdict)
    }

    pub(crate) fn is_fresh(&self, at: Instant, now: Instant) -> bool {
        now.saturating_duration_since(at) <= self.rules.expiry
    }

    /// Brings everything that follows from the evidence up to date.
    fn settle(&mut self, now: Instant) {
        // Hosts are asked in parallel, so that what one said may arrive after what another said later.
        let now = self.clock.map_or(now, |clock| clock.max(now));
        self.clock = Some(now);
        let writer = self.elect(now);
        match &writer {
            Writer::At(host) => {
                self.absent_since = None;
                let host = host.clone();
                self.enthrone(&host);
            }
            Writer::Nobody(_) => {
                self.absent_since.get_or_insert(now);
            }
        }
        let verdict = self.describe(writer, now);
        if *self.verdict != verdict {
            self.verdict = Arc::new(verdict);
        }
    }

    /// The writer is another than the epoch belongs to: a new one begins. Nothing else begins one.
    fn enthrone(&mut self, host: &HostName) {
        let Some((look, at)) = self.tracks.get(host).and_then(|track| track.look.as_ref()) else {
            return;
        };
        let holder = Holder {
            host: host.clone(),
            timeline: look.timeline,
        };
        if self.holder.as_ref() != Some(&holder) {
            self.epoch = self.epoch.next(look.timeline);
            self.holder = Some(holder);
            self.heads.forget();
        }
        let told = at.checked_sub(look.lsn_age).unwrap_or(*at);
        self.heads.record(look.lsn, told, self.rules.pace / 2);
        for track in self.tracks.values_mut() {
            if let Some((look, at)) = &track.look
                && look.standing == Standing::Replica
                && track.lag.bytes.is_none()
            {
                track.lag = self.heads.lag(look.lsn, *at, look.replay_age);
            }
        }
    }
}
