//! Who may be written to, and what is said of everybody.

use std::time::Instant;

use pgherd_planted::{self as planted, Bug};

use crate::host::HostName;
use crate::judge::Judge;
use crate::look::{Fault, Standing};
use crate::track::Track;
use crate::verdict::{Absence, Alarm, Fence, Health, HostState, Offer, Verdict, Withheld, Writer};

impl Judge {
    /// Who may be written to. Beyond the answer it only fixes what is fixed once: that all were asked, and the system.
    pub(crate) fn elect(&mut self, now: Instant) -> Writer {
        self.asked |= self.all_asked(now);
        if !self.asked {
            return Writer::Nobody(Absence::Asking);
        }
        self.fix_system(now);
        let horizon = self.horizon(now);
        let primaries = |track: &Track| {
            let ours = track.system() == self.system && track.is_primary(now, &self.rules);
            ours && !self.is_overruled(track)
        };
        let (current, replaced): (Vec<_>, Vec<_>) = self
            .each()
            .filter(|(_, track)| primaries(track))
            .partition(|(_, track)| {
                track.timeline() >= Some(horizon) || planted::is(Bug::SkipEpochCheck)
            });
        let writable: Vec<(&HostName, &Track)> = current
            .iter()
            .copied()
            .filter(|(_, track)| track.is_writable(now, &self.rules))
            .collect();
        let choice = match self.distinct(&writable).as_slice() {
            [] => None,
            [(only, _)] => Some(*only),
            [(first, _), ..] if planted::is(Bug::SkipEpochCheck) => Some(*first),
            several => match successor(several).or_else(|| self.sole_heir(several, now)) {
                Some(heir) => Some(heir),
                None => {
                    let hosts = several.iter().map(|(host, _)| (*host).clone()).collect();
                    return Writer::Nobody(Absence::Two { hosts });
                }
            },
        };
        if let Some(host) = choice {
            return Writer::At(host.clone());
        }
        if let Some((host, _)) = current.first() {
            let host = (*host).clone();
            return Writer::Nobody(Absence::ReadOnly { host });
        }
        let replaced = replaced.first().map(|(host, _)| *host);
        let absence = self.absence(replaced, horizon, now);
        let unclear = matches!(absence, Absence::NoneSeen | Absence::Silent { .. });
        let full = unclear.then(|| self.full(horizon)).flatten();
        Writer::Nobody(full.unwrap_or(absence))
    }

    /// Whether each host that may be the primary has no connection free. Whoever has been replaced is none of them, nor is
    /// who has just said that it is a replica.
    fn full(&self, horizon: u32) -> Option<Absence> {
        let may_lead = |track: &Track| {
            let foreign =
                self.system.is_some() && track.look.is_some() && track.system() != self.system;
            let replaced =
                track.standing() == Some(Standing::Primary) && track.timeline() < Some(horizon);
            let follows = track.standing() == Some(Standing::Replica) && track.is_confirmed();
            !foreign && !replaced && !follows
        };
        let (full, others): (Vec<_>, Vec<_>) = self
            .each()
            .filter(|(_, track)| may_lead(track))
            .partition(|(_, track)| track.fault == Some(Fault::Full));
        let hosts: Vec<HostName> = full.into_iter().map(|(host, _)| host.clone()).collect();
        (others.is_empty() && !hosts.is_empty()).then_some(Absence::Full { hosts })
    }

    /// Each server once, by whichever of its names writes go to, or else the first.
    fn distinct<'a>(&self, hosts: &[(&'a HostName, &'a Track)]) -> Vec<(&'a HostName, &'a Track)> {
        let holds = |host: &HostName| self.holder.as_ref().is_some_and(|it| it.host == *host);
        let mut distinct: Vec<(&HostName, &Track)> = Vec::new();
        for &(host, track) in hosts {
            match distinct.iter_mut().find(|(_, known)| known.is_same(track)) {
                Some(known) if holds(host) => *known = (host, track),
                Some(_) => {}
                None => distinct.push((host, track)),
            }
        }
        distinct
    }

    /// The same server, by another name, has said later that it is something else.
    fn is_overruled(&self, track: &Track) -> bool {
        let later = |other: &Track| other.looked() > track.looked() && other.is_same(track);
        let other = |other: &&Track| other.standing() != Some(Standing::Primary);
        self.tracks.values().filter(other).any(later)
    }

    /// Whether two names lead to one server.
    pub(crate) fn is_same(&self, one: &HostName, other: &HostName) -> bool {
        let tracks = self.tracks.get(one).zip(self.tracks.get(other));
        one == other || tracks.is_some_and(|(one, other)| one.is_same(other))
    }

    /// The members with their evidence, in the order of the members.
    fn each(&self) -> impl Iterator<Item = (&HostName, &Track)> {
        self.names
            .iter()
            .filter_map(|name| self.tracks.get_key_value(name))
    }

    /// Who does not say what it is is waited for from when anybody was heard of: before, nobody may have been asked at
    /// all. It may be the new primary, slow or full at this moment, while the old one that it has replaced answers at
    /// once.
    fn all_asked(&self, now: Instant) -> bool {
        self.each_once(now, Track::has_answered)
    }

    /// Whether this was so of each member once, or was waited for.
    fn each_once(&self, now: Instant, once: impl Fn(&Track) -> bool) -> bool {
        let begun = self.tracks.values().filter_map(|track| track.first).min();
        begun.is_some_and(|begun| {
            self.tracks
                .values()
                .all(|track| once(track) || !self.is_fresh(begun.max(track.joined), now))
        })
    }

    /// The first primary fixes the system; of several that are found at once, the first in the order of the members, so
    /// that every proxy with the same configuration fixes the same. One that is no longer a primary by the time all
    /// were asked was one all the same.
    fn fix_system(&mut self, now: Instant) {
        if self.system.is_some() {
            return;
        }
        let current = self
            .each()
            .find(|(_, track)| track.is_primary(now, &self.rules));
        let first = current
            .or_else(|| self.each().find(|(_, track)| track.reached.is_some()))
            .and_then(|(_, track)| track.reached)
            .map(|(system, _)| system);
        let Some(system) = first else { return };
        let reached = self.tracks.values().filter_map(|track| track.reached);
        let timelines = reached.filter_map(|(of, timeline)| (of == system).then_some(timeline));
        self.timeline = timelines.max().unwrap_or(0);
        self.system = Some(system);
    }

    /// The lowest timeline on which a primary may be written to. A replica on a higher one than a primary follows
    /// somebody who has replaced that primary, whether we can see him or not; its word does not expire, for no
    /// timeline is ever taken back, but a look that shows it lower (it was rewound) does. A claim holds while it is fresh.
    fn horizon(&self, now: Instant) -> u32 {
        let followed = self
            .tracks
            .values()
            .filter(|track| track.system() == self.system)
            .filter(|track| track.standing() == Some(Standing::Replica))
            .filter_map(Track::timeline);
        let told = self.told.iter().filter(|told| self.is_fresh(told.at, now));
        let claimed = told.filter_map(|told| told.claim.leader.as_ref().and(told.claim.timeline));
        followed.chain(claimed).fold(self.timeline, u32::max)
    }

    /// Of several whose word is that they are writable, the one that a source names, if all others have failed to
    /// repeat it: they were demoted or are gone, and the source says who came after them. Without a source that has to
    /// wait until their word expires.
    fn sole_heir<'a>(
        &self,
        several: &[(&'a HostName, &Track)],
        now: Instant,
    ) -> Option<&'a HostName> {
        let told = self.told.as_ref()?;
        let named = told.claim.leader.as_ref()?;
        let (heir, track) = several.iter().find(|(host, _)| *host == named)?;
        let agreed = told
            .claim
            .timeline
            .is_none_or(|t| Some(t) == track.timeline());
        let silent = |(host, track): &(&HostName, &Track)| *host == named || track.has_failed();
        let settled = self.is_fresh(told.at, now)
            && agreed
            && track.is_confirmed()
            && several.iter().all(silent);
        settled.then_some(*heir)
    }

    fn absence(&self, replaced: Option<&HostName>, horizon: u32, now: Instant) -> Absence {
        let superseded = replaced.map(|host| Absence::Superseded {
            host: host.clone(),
            by: horizon,
        });
        let Some(holder) = &self.holder else {
            return superseded.unwrap_or(Absence::NoneSeen);
        };
        let last = holder.host.clone();
        let Some(track) = self.tracks.get(&last) else {
            return Absence::Removed { last };
        };
        // The last writer itself is there, but behind the horizon.
        if track.is_primary(now, &self.rules) {
            return superseded.unwrap_or(Absence::Silent { last });
        }
        if track.is_gone() {
            return Absence::Gone { last };
        }
        if track.standing() == Some(Standing::Replica) && track.counts(now, &self.rules) {
            return Absence::Demoted { last };
        }
        Absence::Silent { last }
    }

    /// The verdict with this writer.
    pub(crate) fn describe(&self, writer: Writer, now: Instant) -> Verdict {
        let mut alarms = Vec::new();
        let mut hosts: Vec<HostState> = self
            .each()
            .map(|(name, track)| self.state(name, track, &writer, now))
            .collect();
        if self.offer_last_resort(&mut hosts) && self.all_judged(now) {
            alarms.push(Alarm::NoReplicaWell);
        }
        self.raise_alarms(&hosts, &writer, now, &mut alarms);
        Verdict {
            epoch: self.epoch,
            writer,
            holder: self.holder.clone(),
            system: self.system,
            timeline: self.timeline,
            hosts,
            alarms,
        }
    }

    fn state(&self, name: &HostName, track: &Track, writer: &Writer, now: Instant) -> HostState {
        let look = track.look.as_ref().map(|(look, _)| look);
        let fence = self.fence(name, track, writer, now);
        let health = match (track.ill, look) {
            (true, _) => Health::Ill,
            (false, None) => Health::Unseen,
            (false, Some(_)) => Health::Well,
        };
        HostState {
            name: name.clone(),
            standing: track.standing(),
            timeline: track.timeline(),
            lsn: look.map(|look| look.lsn),
            health,
            presence: track.presence(now, &self.rules),
            fault: track.fault.clone(),
            lag: track.lag,
            seen: track.looked(),
            latency: look.map(|look| look.latency),
            fence,
            offer: self.offer(track, health, fence, now),
        }
    }

    fn fence(
        &self,
        name: &HostName,
        track: &Track,
        writer: &Writer,
        now: Instant,
    ) -> Option<Fence> {
        let system = track.system()?;
        let Some(ours) = self.system else {
            return self.is_ambiguous().then_some(Fence::Ambiguous);
        };
        if ours != system {
            return Some(Fence::Foreign { system });
        }
        if track.standing() != Some(Standing::Primary) {
            return None;
        }
        let horizon = self.horizon(now);
        if track.timeline() < Some(horizon) {
            return Some(Fence::Superseded { by: horizon });
        }
        let contested = match writer {
            Writer::Nobody(Absence::Two { hosts }) => hosts.contains(name),
            Writer::At(other) => !self.is_same(other, name) && track.is_writable(now, &self.rules),
            Writer::Nobody(_) => false,
        };
        contested.then_some(Fence::Contested)
    }

    /// No primary has shown yet which cluster is ours, and the members belong to several.
    fn is_ambiguous(&self) -> bool {
        let mut systems = self.tracks.values().filter_map(Track::system);
        let first = systems.next();
        systems.any(|system| Some(system) != first)
    }

    fn offer(&self, track: &Track, health: Health, fence: Option<Fence>, now: Instant) -> Offer {
        let Some(standing) = track.standing() else {
            return Offer::Withheld(Withheld::Unseen);
        };
        if fence.is_some() {
            return Offer::Withheld(Withheld::Fenced);
        }
        // Before all have answered it may turn out that this one belongs to another cluster.
        if self.system.is_none() && !self.asked {
            return Offer::Withheld(Withheld::Asking);
        }
        if standing == Standing::Primary {
            return if track.is_primary(now, &self.rules) {
                Offer::Good
            } else {
                Offer::Withheld(Withheld::Expired)
            };
        }
        if track.timeline() < Some(self.timeline) {
            return Offer::Withheld(Withheld::Outdated);
        }
        // How far it is behind is not known of a host that lets nobody look.
        let blind = track.looked().is_some_and(|at| !self.is_fresh(at, now));
        let bounds = &self.rules.lag;
        if bounds.exceeded_by(&track.lag) || (bounds.any() && blind) {
            return Offer::Withheld(Withheld::Behind);
        }
        if health == Health::Ill {
            return Offer::Withheld(Withheld::Ill);
        }
        Offer::Good
    }

    /// If there are replicas, and all that are near enough are ill, those with the least of the faults are offered; whether
    /// that is so.
    fn offer_last_resort(&self, hosts: &mut [HostState]) -> bool {
        let is_replica = |host: &HostState| host.standing == Some(Standing::Replica);
        let good = |host: &HostState| is_replica(host) && host.offer == Offer::Good;
        let ill = |host: &HostState| host.offer == Offer::Withheld(Withheld::Ill);
        let rank = |host: &HostState| host.fault.as_ref().map_or(0, Fault::rank);
        if hosts.iter().any(good) {
            return false;
        }
        let Some(best) = hosts.iter().filter(|host| ill(host)).map(rank).min() else {
            return false;
        };
        for host in hosts.iter_mut().filter(|host| ill(host)) {
            if rank(host) == best {
                host.offer = Offer::LastResort;
            }
        }
        true
    }

    /// Whether it was found out of every member whether it works, or that was waited for. At the beginning a host that is
    /// only slow may seem ill for a moment, and a well one has not been asked yet.
    fn all_judged(&self, now: Instant) -> bool {
        self.each_once(now, Track::is_judged)
    }

    fn raise_alarms(
        &self,
        hosts: &[HostState],
        writer: &Writer,
        now: Instant,
        alarms: &mut Vec<Alarm>,
    ) {
        if let Writer::Nobody(Absence::Two { hosts }) = writer {
            alarms.extend(self.split(hosts));
        }
        for host in hosts {
            let current = self
                .tracks
                .get(&host.name)
                .is_some_and(|track| track.is_primary(now, &self.rules));
            match host.fence {
                Some(Fence::Foreign { system }) => alarms.push(Alarm::Foreign {
                    host: host.name.clone(),
                    system,
                }),
                Some(Fence::Superseded { by }) if current => alarms.push(Alarm::Stale {
                    host: host.name.clone(),
                    timeline: host.timeline.unwrap_or(0),
                    by,
                }),
                _ => {}
            }
            if host.fault == Some(Fault::Refused) {
                alarms.push(Alarm::Blind {
                    host: host.name.clone(),
                });
            }
        }
        let told = self.told.iter().filter(|told| self.is_fresh(told.at, now));
        for told in told {
            if let (Some(leader), Writer::At(host)) = (&told.claim.leader, writer)
                && !self.is_same(leader, host)
            {
                alarms.push(Alarm::Contradicted {
                    source: told.claim.source,
                    leader: leader.clone(),
                });
            }
        }
    }

    /// Whether they were writable at the same time: each was still seen writable when, or after, each other began. Else
    /// one may have followed the other, of whom we only do not know yet that it has ended.
    fn split(&self, hosts: &[HostName]) -> Option<Alarm> {
        let tracks: Vec<&Track> = hosts
            .iter()
            .filter_map(|host| self.tracks.get(host))
            .collect();
        let last_began = tracks.iter().filter_map(|track| track.writable_since).max();
        let first_ended = tracks.iter().filter_map(|track| track.looked()).min();
        let timeline = tracks.first()?.timeline()?;
        (first_ended? >= last_began?).then(|| Alarm::Split {
            hosts: hosts.to_vec(),
            timeline,
        })
    }
}

/// Of several that are writable on one volume, the one that became so after all others.
fn successor<'a>(several: &[(&'a HostName, &Track)]) -> Option<&'a HostName> {
    let last = |(host, track): &&(&HostName, &Track)| {
        let mut others = several.iter().filter(|(other, _)| other != host);
        others.all(|(_, other)| track.succeeds(other))
    };
    several.iter().find(last).map(|(host, _)| *host)
}
