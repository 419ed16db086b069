//! When a host should be looked at.

use std::fmt;
use std::time::{Duration, Instant};

use crate::host::HostName;
use crate::judge::Judge;
use crate::look::Fault;
use crate::track::Track;

/// Why a host is suspected, from what says least to what says most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Doubt {
    /// It takes longer than usual to answer.
    Slow,
    /// Somebody has run into something there.
    Met,
    /// A look at it has failed.
    Failed(Fault),
}

impl Doubt {
    /// How much it says; higher is more.
    #[must_use]
    pub const fn rank(&self) -> u8 {
        match self {
            Self::Slow => 1,
            Self::Met => 2,
            Self::Failed(_) => 3,
        }
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slow => f.write_str("takes its time to answer"),
            Self::Met => f.write_str("has failed a session"),
            Self::Failed(fault) => fault.fmt(f),
        }
    }
}

impl Judge {
    /// How long from `now` until this host should be looked at; zero: at once. While anything is wrong with any host
    /// or there is no writer, all hosts are looked at quickly, for it is the others that tell what has happened. A
    /// host that is known to be ill is nothing to wonder about, and neither is a primary that is missing for long.
    ///
    /// To be asked again after each look and after each [`Self::suspect`], [`Self::told`] and [`Self::members`], for
    /// these may bring it nearer. A host that is not a member is never due: it gets the usual pace.
    #[must_use]
    pub fn pace(&self, host: &HostName, now: Instant) -> Duration {
        let Some(track) = self.tracks.get(host) else {
            return self.rules.pace;
        };
        let Some(last) = track.last else {
            return Duration::ZERO;
        };
        let quick = track.is_recovering() || self.is_suspicious(now);
        let pace = if quick {
            self.rules.quick_pace
        } else {
            self.rules.pace
        };
        let due = pace.saturating_sub(now.saturating_duration_since(last));
        // An ill one is left by all who are there once it is silent, which is to be known then and not a while later.
        let expires = track.expires_in(now, &self.rules).filter(|_| track.ill);
        expires.map_or(due, |expires| due.min(expires.max(self.rules.quick_pace)))
    }

    /// The host that is suspected most at the moment, and why.
    #[must_use]
    pub fn doubt(&self, now: Instant) -> Option<(&HostName, Doubt)> {
        let doubtful = self.names.iter().filter_map(|name| {
            let track = self.tracks.get(name)?;
            track
                .is_in_doubt(now, &self.rules)
                .then(|| (name, why(track)))
        });
        doubtful.max_by_key(|(_, doubt)| doubt.rank())
    }

    /// Whether all hosts are looked at quickly.
    #[must_use]
    pub fn is_suspicious(&self, now: Instant) -> bool {
        let recent = |since: Instant| now.saturating_duration_since(since) < self.rules.suspicion;
        self.absent_since.is_some_and(recent)
            || self.told.as_ref().is_some_and(|told| {
                let other = match (&told.claim.leader, self.verdict.writer()) {
                    (Some(leader), Some(writer)) => !self.is_same(leader, writer),
                    (leader, writer) => leader.is_some() || writer.is_some(),
                };
                other && recent(told.since) && self.is_fresh(told.at, now)
            })
            || self
                .tracks
                .values()
                .any(|track| track.is_in_doubt(now, &self.rules))
    }
}

fn why(track: &Track) -> Doubt {
    match (&track.fault, track.doubted, track.suspected) {
        (Some(fault), Some(_), _) => Doubt::Failed(fault.clone()),
        (_, _, Some(_)) => Doubt::Met,
        (_, _, None) => Doubt::Slow,
    }
}
